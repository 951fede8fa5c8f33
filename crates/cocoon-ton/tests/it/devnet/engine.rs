//! The network as a value: order, bounces, time, faults, money.

use cocoon_ton::Cell;
use cocoon_ton::chain::Status;
use cocoon_ton::devnet::{Bounce, Order, Refused, puppet};
use cocoon_units::Nano;
use tycho_types::cell::CellBuilder;
use tycho_types::models::{ComputePhase, MsgInfo, OwnedMessage, StdAddr};

use super::support::{
    KEEPS, LOOPS, NOW, THROWS, TON, contract, contract_with, engine, external, full_cell, parse, ton, tree,
};

fn body(bits: u64) -> Cell {
    CellBuilder::build_from(bits).unwrap()
}

#[test]
fn a_transfer_arrives_exactly_and_fees_are_paid_by_the_sender() {
    let mut engine = engine();
    let (from, to) = (puppet::address(1), puppet::address(2));
    let total = engine.total_nano();
    engine.order(from, &Order::transfer(to, ton(7))).unwrap();
    let block = engine.tick(NOW);
    assert_eq!(block.transactions.len(), 2, "the order and the arrival fit one block");
    let (arrival, info) = parse(&block.transactions[1]);
    assert_eq!(info.credit_phase.unwrap().credit.tokens, 7 * u128::from(TON));
    let gas = u64::try_from(u128::from(arrival.total_fees.tokens)).unwrap();
    assert_eq!(engine.balance(&to).get(), 1_007 * TON - gas);
    assert!(engine.balance(&from).get() < 993 * TON);
    assert_eq!(engine.total_nano(), total);
    engine.check_conservation().unwrap();
}

#[test]
fn messages_of_one_sender_arrive_in_order_across_small_blocks() {
    let mut engine = engine();
    let (from, to) = (puppet::address(1), puppet::address(2));
    for n in 0..20 {
        engine.order(from, &Order::call(to, ton(1), body(n))).unwrap();
    }
    while engine.has_work() {
        engine.tick_up_to(NOW, 3);
    }
    let bodies: Vec<u64> = engine
        .transactions(&to)
        .iter()
        .map(|executed| {
            let transaction = parse(executed).0;
            let mut body = transaction.load_in_msg().unwrap().unwrap().body;
            body.load_u64().unwrap()
        })
        .collect();
    assert_eq!(bodies, (0..20).collect::<Vec<_>>());
    engine.check_conservation().unwrap();
}

#[test]
fn transactions_of_an_account_name_the_one_before() {
    let mut engine = engine();
    let from = puppet::address(1);
    for _ in 0..5 {
        engine.order(from, &Order::transfer(from, ton(1))).unwrap();
        engine.tick(NOW);
    }
    let mut last = (0, [0; 32]);
    for executed in engine.transactions(&from) {
        let (transaction, _) = parse(executed);
        assert_eq!((transaction.prev_trans_lt, transaction.prev_trans_hash.0), last);
        last = (executed.id.lt, executed.id.hash);
    }
    assert_eq!(engine.transactions(&from).len(), 10);
    assert_eq!(engine.account(&from).last.unwrap().lt, last.0);
}

#[test]
fn a_failed_call_bounces_with_its_money_and_the_start_of_its_body() {
    let mut engine = engine();
    let (address, init) = contract(&THROWS);
    let caller = puppet::address(1);
    engine.order(caller, &Order::call(address, ton(5), body(0xaabb)).deploying(init)).unwrap();
    engine.settle(NOW);
    let (_, info) = parse(&engine.transactions(&address)[0]);
    let ComputePhase::Executed(compute) = info.compute_phase else { panic!("it has gas") };
    assert_eq!(compute.exit_code, 777);
    assert!(info.bounce_phase.is_some());
    let arrival = parse(engine.transactions(&caller).last().unwrap()).0;
    let back = arrival.load_in_msg().unwrap().unwrap();
    let MsgInfo::Int(header) = back.info else { panic!("a bounce is internal") };
    assert!(header.bounced);
    assert!(u128::from(header.value.tokens) > u128::from(5 * TON - TON / 100));
    let mut bounced = back.body;
    assert_eq!(bounced.load_u32().unwrap(), 0xffff_ffff);
    assert_eq!(bounced.load_u64().unwrap(), 0xaabb);
    engine.check_conservation().unwrap();
}

#[test]
fn a_rich_bounce_brings_the_whole_body_and_the_reason() {
    let mut engine = engine();
    let (address, init) = contract(&THROWS);
    let caller = puppet::address(1);
    let mut order = Order::call(address, ton(5), body(0xaabb)).deploying(init);
    order.bounce = Bounce::Rich;
    engine.order(caller, &order).unwrap();
    engine.settle(NOW);
    let arrival = parse(engine.transactions(&caller).last().unwrap()).0;
    let back = arrival.load_in_msg().unwrap().unwrap();
    let mut bounced = back.body;
    assert_eq!(bounced.load_u32().unwrap(), 0xffff_fffe);
    assert_eq!(bounced.load_reference().unwrap().repr_hash(), body(0xaabb).repr_hash());
}

#[test]
fn a_notification_without_money_runs_nothing_and_does_not_bounce() {
    let mut engine = engine();
    let (address, init) = contract(&THROWS);
    engine.order(puppet::address(1), &Order::transfer(address, ton(1)).deploying(init)).unwrap();
    engine.settle(NOW);
    engine.order(puppet::address(1), &Order::call(address, Nano::new(1), body(1))).unwrap();
    engine.settle(NOW);
    let (transaction, info) = parse(engine.transactions(&address).last().unwrap());
    assert!(matches!(info.compute_phase, ComputePhase::Skipped(_)));
    assert_eq!(transaction.out_msg_count.into_inner(), 0);
    engine.check_conservation().unwrap();
}

#[test]
fn storage_is_paid_over_time_until_the_code_is_gone() {
    let mut engine = engine();
    let (address, init) = contract_with(&KEEPS, tree(256));
    engine.order(puppet::address(1), &Order::transfer(address, Nano::new(TON / 10)).deploying(init)).unwrap();
    engine.settle(NOW);
    assert_eq!(engine.account(&address).status, Status::Active);
    let before = engine.balance(&address);
    let poke = Order::transfer(address, Nano::new(1));
    let day = 86_400;
    engine.order(puppet::address(1), &poke).unwrap();
    engine.settle(NOW + day);
    let a_day = before.get() - engine.balance(&address).get();
    assert!((400_000..800_000).contains(&a_day), "{a_day} nano for 341 cells of some 1,000 bits");
    engine.order(puppet::address(1), &poke).unwrap();
    engine.settle(NOW + 1_000 * day);
    // It froze with the state that its address is the hash of, which is the same as never having been deployed.
    assert_eq!((engine.account(&address).status, engine.balance(&address)), (Status::Uninit, Nano::ZERO));
    engine.check_conservation().unwrap();
}

#[test]
fn time_never_runs_backwards() {
    let mut engine = engine();
    assert_eq!(engine.tick(NOW + 10).head.unix_s, NOW + 10);
    assert_eq!(engine.tick(NOW).head.unix_s, NOW + 10);
}

#[test]
fn a_refused_external_tells_its_exit_code() {
    let mut engine = engine();
    let (address, init) = contract(&THROWS);
    engine.order(puppet::address(1), &Order::transfer(address, ton(1)).deploying(init)).unwrap();
    engine.settle(NOW);
    assert_eq!(engine.submit(&external(address, body(0))), Err(Refused::NotAccepted { address, exit_code: Some(777) }));
    let nobody = contract(&KEEPS).0;
    assert_eq!(
        engine.submit(&external(nobody, body(0))),
        Err(Refused::NotAccepted { address: nobody, exit_code: None })
    );
    assert_eq!(engine.externals_len(), 0);
}

#[test]
fn a_contract_that_never_ends_costs_its_own_money_and_the_block_goes_on() {
    let mut engine = engine();
    let (address, init) = contract(&LOOPS);
    engine.order(puppet::address(1), &Order::transfer(address, ton(5)).deploying(init)).unwrap();
    engine.settle(NOW);
    let before = engine.balance(&address);
    engine.submit(&external(address, body(0))).unwrap();
    engine.order(puppet::address(1), &Order::transfer(puppet::address(2), ton(1))).unwrap();
    assert_eq!(engine.tick(NOW).transactions.len(), 3);
    assert!(engine.balance(&address) < before);
    engine.check_conservation().unwrap();
}

#[test]
fn the_same_external_twice_waits_once() {
    let mut engine = engine();
    let message = puppet::command(puppet::address(1), &Order::transfer(puppet::address(2), ton(1)), 7).unwrap();
    assert_eq!(engine.submit(&message), engine.submit(&message));
    assert_eq!(engine.externals_len(), 1);
    assert_eq!(engine.tick(NOW).transactions.len(), 2);
}

#[test]
fn an_external_that_is_accepted_no_more_leaves_no_transaction() {
    let mut engine = engine();
    let (poor, to) = (puppet::address(1), puppet::address(2));
    let command = |value, nonce| puppet::command(poor, &Order::transfer(to, Nano::new(value)), nonce).unwrap();
    engine.submit(&command(500 * TON, 0)).unwrap();
    engine.settle(NOW);
    let fees = 500 * TON - engine.balance(&poor).get();
    // Each takes all that is left. The second finds nothing to pay its import with.
    for nonce in 1..3 {
        engine.submit(&command(500 * TON - 2 * fees, nonce)).unwrap();
    }
    let block = engine.tick(NOW);
    assert_eq!(block.expired.len(), 1);
    assert_eq!(engine.transactions(&poor).len(), 2);
    assert_eq!(engine.externals_len(), 0);
    engine.check_conservation().unwrap();
}

#[test]
fn attack_a_too_large_message_is_refused() {
    let mut engine = engine();
    let refused = engine.submit(&external(puppet::address(1), tree(512)));
    assert_eq!(refused, Err(Refused::TooLarge { what: "the number of bytes", limit: 65_535 }));
}

#[test]
fn attack_a_too_deep_message_is_refused() {
    let mut engine = engine();
    let deep = (0..600).fold(Cell::default(), |below, n| full_cell(n, &[below]));
    let refused = engine.submit(&external(puppet::address(1), deep));
    assert_eq!(refused, Err(Refused::TooLarge { what: "depth", limit: 512 }));
}

#[test]
fn attack_a_small_file_that_unfolds_costs_no_more_than_its_cells() {
    let mut engine = engine();
    // 4^500 leaves if it is walked as a tree, and 500 cells as what it is.
    let mut bomb = body(1);
    for _ in 0..500 {
        let mut builder = CellBuilder::new();
        for _ in 0..4 {
            builder.store_reference(bomb.clone()).unwrap();
        }
        bomb = builder.build().unwrap();
    }
    let order = Order::call(puppet::address(2), ton(1), bomb);
    engine.order(puppet::address(1), &order).unwrap();
    engine.settle(NOW);
    assert_eq!(engine.transactions(&puppet::address(2)).len(), 1, "500 cells fit a message");
    engine.check_conservation().unwrap();
}

#[test]
fn attack_an_internal_message_from_outside_is_refused() {
    let mut engine = engine();
    let forged = CellBuilder::build_from(OwnedMessage {
        info: MsgInfo::Int(tycho_types::models::IntMsgInfo {
            src: StdAddr::from(puppet::address(0)).into(),
            dst: StdAddr::from(puppet::address(1)).into(),
            value: tycho_types::models::CurrencyCollection::new(1_000_000_000_000),
            ..Default::default()
        }),
        init: None,
        body: Cell::default().into(),
        layout: None,
    })
    .unwrap();
    assert!(matches!(engine.submit(&forged), Err(Refused::Malformed(_))));
}

#[test]
fn a_fault_loses_exactly_the_externals_it_names() {
    let mut engine = engine();
    let from = puppet::address(1);
    engine.faults_mut().drop_externals(from, 1);
    for nonce in 0..3 {
        let order = Order::transfer(puppet::address(2), ton(1));
        engine.submit(&puppet::command(from, &order, nonce).unwrap()).unwrap();
    }
    engine.settle(NOW);
    assert_eq!(engine.transactions(&from).len(), 2);
}

#[test]
fn messages_to_a_held_account_wait_in_order_and_others_pass() {
    let mut engine = engine();
    let (from, held, other) = (puppet::address(1), puppet::address(2), puppet::address(3));
    engine.faults_mut().hold(held);
    for n in 0..3 {
        engine.order(from, &Order::call(held, ton(1), body(n))).unwrap();
        engine.order(from, &Order::call(other, ton(1), body(n))).unwrap();
    }
    engine.settle(NOW);
    assert_eq!((engine.transactions(&held).len(), engine.transactions(&other).len()), (0, 3));
    assert_eq!(engine.queue_len(), 3);
    engine.check_conservation().unwrap();
    engine.faults_mut().release(&held);
    engine.settle(NOW);
    assert_eq!(engine.transactions(&held).len(), 3);
    engine.check_conservation().unwrap();
}

#[test]
fn a_delay_ends_by_itself() {
    let mut engine = engine();
    let to = puppet::address(2);
    let until = engine.head().seqno + 3;
    engine.faults_mut().hold_until(to, until);
    engine.order(puppet::address(1), &Order::transfer(to, ton(1))).unwrap();
    while engine.tick(NOW).head.seqno < until {}
    assert_eq!(engine.transactions(&to).len(), 1);
    assert!(engine.faults().held_until.is_empty());
}

#[test]
fn a_stalled_network_makes_no_blocks() {
    let mut engine = engine();
    engine.faults_mut().stalled = true;
    engine.order(puppet::address(1), &Order::transfer(puppet::address(2), ton(1))).unwrap();
    let head = engine.head();
    assert_eq!(engine.tick(NOW + 100).head, head);
    assert!(!engine.has_work());
    engine.faults_mut().stalled = false;
    assert_eq!(engine.tick(NOW + 100).transactions.len(), 2);
}

#[test]
fn two_runs_are_equal_to_the_bit() {
    let run = || {
        let mut engine = engine();
        let (address, init) = contract(&THROWS);
        engine.order(puppet::address(1), &Order::call(address, ton(2), body(9)).deploying(init)).unwrap();
        for n in 1..50 {
            let from = puppet::address(1 + n % 3);
            engine.order(from, &Order::call(puppet::address(1 + (n + 1) % 3), ton(1), body(n.into()))).unwrap();
        }
        engine.settle(NOW).iter().flat_map(|block| block.transactions.clone()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
