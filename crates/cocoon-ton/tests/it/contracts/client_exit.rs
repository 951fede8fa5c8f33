//! How a client's owner leaves: with the proxy, or alone; and what becomes of charges that meet a leaving owner or a dead
//! proxy.

use cocoon_ton::Cell;
use cocoon_ton::contract::message::comment;
use cocoon_ton::contract::note::ClientPayload;
use cocoon_ton::contract::{Lifecycle, Params, signed};
use cocoon_units::Nano;

use super::client::{increase_stake, refusal, register, request_refund, secret, secret_and_top_up, top_up, withdraw};
use super::stage::{
    CLIENT_DELAY_S, CLIENT_STAKE, DEPOSIT, FEES, FLOOR, PRICE, PURSE, QUERY, Stage, TON, WORKING_FLOOR, Who, exit,
};

#[test]
fn a_charge_during_the_delay_works_and_a_later_one_moves_nothing() {
    let mut stage = Stage::closing();
    assert_eq!(stage.account(), (CLIENT_STAKE, 0, 0), "what is above the stake went at once");
    stage.wait(CLIENT_DELAY_S);
    stage.charge(1_000);
    assert_eq!(stage.account(), (CLIENT_STAKE - 1_000 * PRICE, 1_000, 0), "in the last second of the delay");
    stage.wait(1);
    let charge = stage.sign(signed::charge(stage.client, QUERY, 2_000)).envelope(PURSE);
    let grant = stage.sign(signed::grant_refund(stage.client, QUERY, 2_000)).envelope(PURSE);
    let late = vec![
        refusal("a late charge", Who::Stranger, FEES, charge, exit::CLOSED),
        refusal("a late grant", Who::Stranger, FEES, grant, exit::CLOSED),
    ];
    stage.check_refused(stage.client, late);
}

#[test]
fn a_forced_refund_pays_the_clients_own_money_with_everyone_else_dead() {
    // No proxy, no worker that matters, nobody signs anything.
    let mut stage = Stage::without_proxy();
    let owner = Who::ClientOwner.address();
    let first = stage.owner_asks_client(request_refund());
    assert_eq!(first.paid(stage.client, owner), DEPOSIT - CLIENT_STAKE);
    assert_eq!(stage.client().unlock_unix_s, stage.now + CLIENT_DELAY_S);

    stage.wait(CLIENT_DELAY_S);
    let early = refusal("in the last second of the delay", Who::ClientOwner, FEES, request_refund(), exit::LOCKED);
    stage.check_refused(stage.client, vec![early]);

    stage.wait(1);
    let last = stage.owner_asks_client(request_refund());
    assert_eq!(last.paid(stage.client, owner), CLIENT_STAKE);
    assert_eq!((stage.client().state, stage.account()), (Lifecycle::Closed, (0, 0, 0)));
    assert_eq!(stage.coins(stage.client), FLOOR);
    assert!(last.change(stage.client, PURSE) > FEES + FEES * 4 / 5, "the floor goes with the change");
    let payload = ClientPayload::RefundForced { amount: Nano::new(CLIENT_STAKE), excesses_to: PURSE };
    assert_eq!(stage.client_note(&last).payload, Some(payload));
}

#[test]
fn the_owner_of_a_client_exits_alone() {
    // The stake is beyond the balance, so nothing is free; a charge went before.
    let mut stage = Stage::new();
    stage.charge(1_000);
    stage.owner_asks_client(increase_stake(100 * TON));
    let owner = Who::ClientOwner.address();
    let first = stage.owner_asks_client(request_refund());
    assert_eq!((first.exit(stage.client), first.paid(stage.client, owner)), (exit::OK, 0));
    assert_eq!(stage.client_note(&first).payload, None);
    stage.wait(CLIENT_DELAY_S + 1);
    let last = stage.owner_asks_client(request_refund());
    assert_eq!(last.paid(stage.client, owner), DEPOSIT - 1_000 * PRICE);
}

#[test]
fn a_charge_that_bounces_off_a_dead_proxy_is_due_and_the_next_one_takes_it_along() {
    let mut stage = Stage::without_proxy();
    let trace = stage.charge(1_000);
    assert_eq!(stage.account(), (DEPOSIT - 1_000 * PRICE, 1_000, 1_000 * PRICE));
    assert_eq!(stage.coins(stage.client), DEPOSIT + WORKING_FLOOR);
    assert!(trace.change(stage.client, PURSE) > FEES * 4 / 5, "the submitter gets its change also then");

    // Alive again: the same signature, with nothing new to charge.
    stage.deploy_proxy();
    stage.charge(1_000);
    assert_eq!(stage.account(), (DEPOSIT - 1_000 * PRICE, 1_000, 0));
    assert_eq!(stage.proxy().funds.get(), 1_000 * PRICE);
    let body = stage.sign(signed::charge(stage.client, QUERY, 1_000)).envelope(PURSE);
    stage.check_refused(stage.client, vec![refusal("a third", Who::Stranger, FEES, body, exit::OLD)]);
}

#[test]
fn what_is_due_goes_to_the_owner_when_the_proxy_stays_dead() {
    let mut stage = Stage::without_proxy();
    stage.charge(1_000);
    let withdrawn = stage.owner_asks_client(withdraw()).paid(stage.client, Who::ClientOwner.address());
    assert_eq!(withdrawn, DEPOSIT - 1_000 * PRICE - CLIENT_STAKE, "not before the delay");
    stage.owner_asks_client(request_refund());
    stage.charge(2_000);
    assert_eq!(stage.account(), (CLIENT_STAKE - 1_000 * PRICE, 2_000, 2_000 * PRICE));
    stage.wait(CLIENT_DELAY_S + 1);
    let last = stage.owner_asks_client(request_refund());
    assert_eq!(last.paid(stage.client, Who::ClientOwner.address()), CLIENT_STAKE + 1_000 * PRICE);
}

#[test]
fn a_granted_refund_whose_charge_bounces_is_open_to_the_proxy_and_then_to_the_owner() {
    let due = 1_000 * PRICE;
    let granted = || {
        let mut stage = Stage::without_proxy();
        let trace = stage.grant(1_000);
        assert_eq!(trace.paid(stage.client, Who::ClientOwner.address()), DEPOSIT - due);
        assert_eq!((stage.client().state, stage.account()), (Lifecycle::Closed, (0, 1_000, due)));
        let early = refusal("during the delay", Who::ClientOwner, FEES, request_refund(), exit::LOCKED);
        stage.check_refused(stage.client, vec![early]);
        stage
    };
    let mut stage = granted();
    stage.deploy_proxy();
    stage.wait(CLIENT_DELAY_S);
    stage.grant(1_000);
    assert_eq!((stage.account(), stage.proxy().funds.get()), ((0, 1_000, 0), due));
    let nothing = refusal("nothing is due", Who::ClientOwner, FEES, request_refund(), exit::CLOSED);
    stage.check_refused(stage.client, vec![nothing]);

    let mut stage = granted();
    stage.grant(1_000);
    assert_eq!(stage.account(), (0, 1_000, due), "another bounce loses nothing, and moves no time");
    stage.wait(CLIENT_DELAY_S + 1);
    let body = stage.sign(signed::grant_refund(stage.client, QUERY, 1_000)).envelope(PURSE);
    stage.check_refused(stage.client, vec![refusal("late", Who::Stranger, FEES, body, exit::CLOSED)]);
    let last = stage.owner_asks_client(request_refund());
    assert_eq!(last.paid(stage.client, Who::ClientOwner.address()), due);
    assert_eq!(stage.account(), (0, 1_000, 0));
}

#[test]
fn a_charge_on_its_way_when_the_owner_leaves_is_not_lost() {
    let mut stage = Stage::closing();
    stage.wait(CLIENT_DELAY_S);
    stage.engine.faults_mut().hold(stage.proxy);
    stage.charge(1_000);
    stage.wait(1);
    let last = stage.owner_asks_client(request_refund());
    assert_eq!(last.paid(stage.client, Who::ClientOwner.address()), CLIENT_STAKE - 1_000 * PRICE);
    let proxy = stage.proxy;
    stage.engine.faults_mut().release(&proxy);
    stage.settle();
    assert_eq!(stage.proxy().funds.get(), 1_000 * PRICE);
}

#[test]
fn a_closing_client_takes_top_ups_and_pays_no_withdrawal() {
    let mut stage = Stage::closing();
    let unlock = stage.client().unlock_unix_s;
    stage.send(Who::Stranger, stage.client, TON + FEES, top_up(TON));
    assert_eq!(stage.account(), (CLIENT_STAKE + TON, 0, 0));
    let refusals = vec![
        refusal("withdraw", Who::ClientOwner, FEES, withdraw(), exit::CLOSED),
        refusal("a second request", Who::ClientOwner, FEES, request_refund(), exit::LOCKED),
    ];
    stage.check_refused(stage.client, refusals);
    for body in [register(), secret(), increase_stake(3 * TON)] {
        assert_eq!(stage.owner_asks_client(body).exit(stage.client), exit::OK);
    }
    assert_eq!(stage.client().unlock_unix_s, unlock, "nothing moves the end of the delay");
}

/// No fault of the proxy and no operation: a payout from elsewhere, or a wallet that pays the wrong address.
#[test]
fn coins_that_arrive_after_a_close_go_to_the_owner() {
    let mut stage = Stage::closed();
    let ask = |from, exit| refusal("a request of what came", from, FEES, request_refund(), exit);
    stage.check_refused(stage.client, vec![ask(Who::ClientOwner, exit::CLOSED)]);
    for _ in 0..2 {
        stage.send(Who::Stranger, stage.client, TON, Cell::default());
        stage.check_refused(stage.client, vec![ask(Who::Stranger, exit::OWNER)]);
        let trace = stage.owner_asks_client(request_refund());
        assert_eq!(trace.exit(stage.client), exit::OK);
        assert!(trace.change(stage.client, PURSE) > TON + FEES * 4 / 5);
        assert_eq!((stage.client().state, stage.coins(stage.client)), (Lifecycle::Closed, FLOOR));
        assert_eq!(stage.client_note(&trace).payload, None, "none of it was owed");
    }
    stage.check_refused(stage.client, vec![ask(Who::ClientOwner, exit::CLOSED)]);
}

/// The end of such a delay is the end of time; a sum that overflows would fail every request, and lose what bounces.
#[test]
fn an_absurd_delay_does_not_lock_the_owner_in() {
    let absurd = |params: &mut Params| (params.client_delay_s, params.proxy_delay_s) = (u32::MAX, u32::MAX);
    let owner = Who::ClientOwner.address();
    let mut stage = Stage::with(absurd);
    let first = stage.owner_asks_client(request_refund());
    assert_eq!((first.exit(stage.client), first.paid(stage.client, owner)), (exit::OK, DEPOSIT - CLIENT_STAKE));
    assert_eq!((stage.client().state, stage.client().unlock_unix_s), (Lifecycle::Closing, u32::MAX));
    assert_eq!(stage.grant(1_000).paid(stage.client, owner), CLIENT_STAKE - 1_000 * PRICE);
    stage.send(Who::ProxyOwner, stage.proxy, FEES, comment("c"));
    assert_eq!((stage.proxy().state, stage.proxy().unlock_unix_s), (Lifecycle::Closing, u32::MAX));

    let mut stage = Stage::without_proxy_and_with(absurd);
    stage.grant(1_000);
    assert_eq!((stage.account(), stage.client().unlock_unix_s), ((0, 1_000, 1_000 * PRICE), u32::MAX));
    stage.deploy_proxy();
    stage.grant(1_000);
    assert_eq!((stage.account(), stage.proxy().funds.get()), ((0, 1_000, 0), 1_000 * PRICE));
}

#[test]
fn a_closed_client_takes_nothing() {
    let mut stage = Stage::closed();
    let owner = Who::ClientOwner;
    let charge = stage.sign(signed::charge(stage.client, QUERY, 1_000)).envelope(PURSE);
    let grant = stage.sign(signed::grant_refund(stage.client, QUERY, 1_000)).envelope(PURSE);
    let bodies = [
        ("top-up", top_up(TON)),
        ("both", secret_and_top_up(TON)),
        ("register", register()),
        ("secret hash", secret()),
        ("stake", increase_stake(2 * TON)),
        ("withdraw", withdraw()),
        ("request of a refund", request_refund()),
        ("charge", charge),
        ("grant", grant),
    ];
    let refusals = bodies.map(|(what, body)| refusal(what, owner, 2 * TON, body, exit::CLOSED));
    stage.check_refused(stage.client, refusals.into());
}
