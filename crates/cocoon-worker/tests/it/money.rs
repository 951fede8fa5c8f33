//! Earnings, from a proxy's signature to the owner's wallet, on the real contracts.

use std::time::Duration;

use bytes::Bytes;
use cocoon_sim::Behaviour;
use cocoon_ton::Address;
use cocoon_ton::contract::{Lifecycle, signed};
use cocoon_units::{Nano, Ton};
use cocoon_wire::failure::FailureCode;
use cocoon_wire::message::{ReceiptAsk, SignedPayment, WorkerMessage, WorkerRun};
use cocoon_worker::{EarningsConfig, EarningsError, Errand};
use ed25519_dalek::SigningKey;

use crate::ground::{FEE, FLOOR, Ground, OWNER, Says, TON, earned, telling};
use crate::harness::{Bench, TestProxy, chat};

const PLAIN: &str = r#"{"model":"scripted","messages":[],"max_tokens":8}"#;

fn ton(nano: u64) -> Ton {
    Nano::new(nano).ton()
}

/// One that trusts its proxy with any sum.
fn trusting() -> EarningsConfig {
    EarningsConfig { exposure: Ton::default(), ..EarningsConfig::default() }
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// A worker and a proxy that agree on zero.
async fn set(funds: u64) -> (Ground, Bench, TestProxy) {
    let ground = Ground::new(funds).await;
    let bench = ground.worker(trusting()).await;
    let (proxy, heard) = ground.accept(&bench, Says::default()).await;
    assert_eq!((heard.on_chain, heard.db, heard.max), (0, 0, 0));
    (ground, bench, proxy)
}

/// A request whose receipt the worker keeps; what it cost.
async fn request(proxy: &mut TestProxy, number: u8) -> u64 {
    let receipt = Some(ReceiptAsk { id: [number; 32], salt: [1; 32] });
    let account_tag = Some(Bytes::from(vec![number; 100]));
    proxy.run(WorkerRun { receipt, account_tag, ..chat(number, PLAIN) });
    proxy.whole().await.tokens()[4]
}

#[tokio::test(start_paused = true)]
async fn ten_ton_are_cashed_by_themselves() {
    let (ground, bench, proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(9_999), 9_999));
    ground.pass(600).await;
    assert_eq!(ground.on_chain().await, None, "below ten TON nothing is sent");
    proxy.send(&telling(ground.payout(10_500), 10_500));
    ground.pass(600).await;
    assert_eq!(ground.balance(OWNER).await, 10_500 * FEE, "to the nano, whoever paid the fees");
    assert_eq!(ground.on_chain().await.unwrap().tokens, 10_500);
    let earned = earned(&bench);
    assert_eq!((earned.signed, earned.cashed, earned.cashable), (ton(10_500 * FEE), ton(10_500 * FEE), ton(0)));
    assert_eq!((earned.state, earned.problems.len()), ("open", 0));
    assert!(earned.last_signed_unix_s.is_some() && earned.last_cashed_unix_s.is_some());
    // The contract is there now; the second payout brings the difference.
    proxy.send(&telling(ground.payout(21_000), 21_000));
    ground.pass(600).await;
    assert_eq!(ground.balance(OWNER).await, 21_000 * FEE);
    ground.devnet.check_conservation().await.unwrap();
    assert!(bench.handle.metrics().contains("cocoon_worker_earnings_cashed_nano 21000000000"));
}

#[tokio::test(start_paused = true)]
async fn the_fees_are_what_the_rules_take_them_for() {
    let (ground, _bench, proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(10_500), 10_500));
    ground.pass(600).await;
    let wallet = ground.money().await.sender.address();
    let before = ground.balance(wallet).await;
    proxy.send(&telling(ground.payout(21_000), 21_000));
    ground.pass(600).await;
    let fees = before - ground.balance(wallet).await;
    assert!((10_000_000..=25_000_000).contains(&fees), "{fees} nano");
}

#[tokio::test(start_paused = true)]
async fn an_idle_proxy_is_cashed_for_less() {
    let (ground, _bench, proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(1_500), 1_500));
    ground.pass(3_000).await;
    assert_eq!(ground.on_chain().await, None);
    ground.pass(1_200).await;
    assert_eq!(ground.balance(OWNER).await, 1_500 * FEE);
}

#[tokio::test(start_paused = true)]
async fn fee_drain() {
    // Too little for its fee, and a proxy that signs much and has nothing: neither costs the wallet a nano.
    for (signed, funds) in [(1_200, 100 * TON), (50_000, 0), (50_000, TON / 10)] {
        let (ground, bench, proxy) = set(funds).await;
        let wallet = ground.money().await.sender.address();
        let before = ground.balance(wallet).await;
        proxy.send(&telling(ground.payout(signed), signed));
        ground.pass(2 * 3_600).await;
        assert_eq!(ground.balance(wallet).await, before, "{signed} tokens, {funds} nano");
        assert_eq!(earned(&bench).cashable, ton(signed * FEE), "the signature keeps its worth");
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_cashes_whatever_the_fees() {
    let (ground, _bench, proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(100), 100));
    settle().await;
    cocoon_worker::leave_errand(ground.folder(), Errand::Cash).unwrap();
    ground.pass(60).await;
    assert_eq!(ground.balance(OWNER).await, 100 * FEE);
}

#[tokio::test(start_paused = true)]
async fn a_command_cashes_where_no_worker_runs() {
    let (ground, bench, proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(100), 100));
    settle().await;
    let money = ground.money().await;
    let refused = cocoon_worker::cash(money.clone(), ground.clock()).await;
    assert!(matches!(refused, Err(EarningsError::InUse)));
    // Looking is possible beside the worker.
    let chain = &ground.devnet;
    let seen = cocoon_worker::earnings(ground.folder(), chain, money.policy, ground.clock().as_ref()).await.unwrap();
    assert_eq!((seen.cashable, seen.proxies[0].state), (ton(100 * FEE), "not deployed"));
    assert_eq!(seen.proxies[0].payable, ton(100 * TON));
    drop((bench, proxy));
    settle().await;
    let done = cocoon_worker::cash(money.clone(), ground.clock()).await.unwrap();
    assert_eq!((done.len(), done[0].amount, &done[0].problem), (1, ton(100 * FEE), &None));
    ground.pass(30).await;
    assert_eq!(ground.balance(OWNER).await, 100 * FEE);
    assert!(cocoon_worker::cash(money, ground.clock()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_proxy_could_not_pay_is_claimed_when_it_can() {
    let (ground, bench, proxy) = set(15 * TON).await;
    proxy.send(&telling(ground.payout(30_000), 30_000));
    ground.pass(600).await;
    assert_eq!(ground.balance(OWNER).await, 15 * TON);
    let earned_now = earned(&bench);
    assert_eq!((earned_now.unpaid, earned_now.cashed), (ton(15 * TON), ton(15 * TON)));
    ground.pass(600).await;
    assert_eq!(ground.balance(OWNER).await, 15 * TON);
    ground.fund(15 * TON).await;
    ground.pass(600).await;
    assert_eq!(ground.balance(OWNER).await, 30 * TON);
    assert_eq!(earned(&bench).cashable, ton(0));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_closes_pays_the_last_payout() {
    let (ground, bench, proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(10_500), 10_500));
    ground.pass(600).await;
    let last = ground.signed(signed::last_payout(ground.contract, 0, 10_600));
    proxy.send(&telling(last, 10_600));
    ground.pass(600).await;
    // 0.1 TON is far below any other rule; the contract's floor comes with it.
    assert_eq!(ground.balance(OWNER).await, 10_600 * FEE + FLOOR);
    assert_eq!(ground.on_chain().await.unwrap().state, Lifecycle::Closed);
    let earned = earned(&bench);
    assert_eq!((earned.state, earned.is_last, earned.cashable), ("closed", true, ton(0)));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_whose_owner_leaves_is_cashed_at_once() {
    let (ground, _bench, proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(100), 100));
    ground.close_proxy().await;
    ground.pass(600).await;
    assert_eq!(ground.balance(OWNER).await, 100 * FEE);
}

#[tokio::test(start_paused = true)]
async fn forged_payment() {
    let forger = SigningKey::from_bytes(&[8; 32]);
    let other = Address::basechain([1; 32]);
    let (ground, bench, mut proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(5), 5));
    settle().await;
    for forged in [
        Ground::signed_by(&forger, signed::payout(ground.contract, 0, 10_000)),
        SignedPayment::Signed(Bytes::from_static(b"payment")),
        ground.signed(signed::charge(ground.contract, 0, 10_000)),
        // foreign_contract_payment
        ground.signed(signed::payout(other, 0, 10_000)),
    ] {
        proxy.send(&telling(forged, 10_000));
        while proxy.message().await.is_some() {}
        let earned = earned(&bench);
        assert_eq!((earned.signed_tokens.get(), earned.problems.len()), (5, 1), "{:?}", earned.problems);
        (proxy, _) = ground.accept(&bench, Says { db: 10_000, max: 10_000, ..Says::default() }).await;
        settle().await;
        assert_eq!(crate::ground::earned(&bench).problems.len(), 0, "it may come back");
    }
    let forged = Ground::signed_by(&forger, signed::payout(ground.contract, 0, 10_000));
    proxy.run(WorkerRun { signed_payment: forged, ..chat(1, PLAIN) });
    while proxy.message().await.is_some() {}
    assert!(bench.engine.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn replayed_payment() {
    let (ground, bench, mut proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(7), 7));
    // Requests overtake nothing, but payments overtake them: an older one is no fault, and changes nothing.
    proxy.run(WorkerRun { signed_payment: ground.payout(5), ..chat(1, PLAIN) });
    assert_eq!(proxy.whole().await.status, 200);
    assert_eq!(earned(&bench).signed_tokens.get(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_knows_less_than_it_signed_is_left() {
    let (ground, bench, mut proxy) = set(100 * TON).await;
    proxy.send(&telling(ground.payout(7), 9));
    settle().await;
    proxy.outbox.close();
    while proxy.message().await.is_some() {}
    for (db, word) in [(6, "forgotten what it signed"), (8, "rolled back")] {
        let (joined, heard) = ground.try_accept(&bench, Says { db, max: db, ..Says::default() }).await;
        assert!(joined.is_none() && !heard.completed, "the worker stayed");
        assert_eq!((heard.on_chain, heard.db, heard.max), (7, 9, 9));
        settle().await;
        let problems = earned(&bench).problems;
        assert!(problems[0].contains("forgotten what it signed") || problems[0].contains(word), "{problems:?}");
    }
    // What it signed is still good.
    cocoon_worker::leave_errand(ground.folder(), Errand::Cash).unwrap();
    ground.pass(60).await;
    assert_eq!(ground.balance(OWNER).await, 7 * FEE);
    // It comes back, past dials that nobody took meanwhile.
    let says = Says { db: 9, max: 9, ..Says::default() };
    while ground.try_accept(&bench, says.clone()).await.0.is_none() {}
    assert_eq!(earned(&bench).problems, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn receipts_are_handed_to_a_proxy_that_lost_its_latest() {
    let (ground, bench, mut proxy) = set(100 * TON).await;
    bench.engine.set_default(Behaviour::Complete);
    let mut cost = 0;
    for number in 1..=3 {
        cost += request(&mut proxy, number).await;
    }
    assert_eq!(earned(&bench).receipts, 3);
    proxy.outbox.close();
    while proxy.message().await.is_some() {}
    let (proxy, heard) = ground.accept(&bench, Says { code: 1, ..Says::default() }).await;
    assert_eq!((heard.max, heard.handed.len(), heard.messages), (i64::MAX as u64, 3, 2));
    assert_eq!(heard.handed[0].account_tag, vec![1; 100]);
    assert!(heard.completed);
    assert_eq!(earned(&bench).unsigned_tokens.get(), cost);
    // The proxy's first commit after that counts them, and its signature covers them.
    proxy.send(&telling(ground.payout(cost), cost));
    settle().await;
    assert_eq!((earned(&bench).receipts, earned(&bench).unsigned), (0, ton(0)));
}

#[tokio::test(start_paused = true)]
async fn earnings_outlive_the_worker() {
    let (ground, bench, mut proxy) = set(100 * TON).await;
    let cost = request(&mut proxy, 1).await;
    proxy.send(&telling(ground.payout(7), cost));
    settle().await;
    drop((bench, proxy));
    settle().await;
    let bench = ground.worker(trusting()).await;
    let says = Says { code: 1, db: cost, max: cost, payment: ground.payout(8) };
    let (_proxy, heard) = ground.accept(&bench, says).await;
    assert_eq!((heard.on_chain, heard.db, heard.handed.len()), (7, cost, 1));
    assert_eq!(earned(&bench).signed_tokens.get(), 8, "a payment may come with the comparison");
    assert_eq!(earned(&bench).unsigned_tokens.get(), cost - 8);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_sign_gets_no_more_work() {
    let ground = Ground::new(100 * TON).await;
    // Each request costs 34 tokens.
    let bench = ground.worker(EarningsConfig { exposure: ton(40 * FEE), ..EarningsConfig::default() }).await;
    let (mut proxy, _) = ground.accept(&bench, Says::default()).await;
    proxy.until_enabled().await;
    let cost = request(&mut proxy, 1).await + request(&mut proxy, 2).await;
    assert_eq!(cost, 68);
    assert_eq!(proxy_heard(&mut proxy).await, Some(true), "it is told that the worker is full");
    proxy.run(chat(3, PLAIN));
    assert_eq!(proxy.whole().await.failure.unwrap().code, FailureCode::Overloaded);
    assert!(earned(&bench).problems[0].contains("has not signed for 0.068 TON"), "{:?}", earned(&bench).problems);
    // To tell is not to sign.
    proxy.send(&telling(SignedPayment::Empty, cost));
    proxy.send(&telling(ground.payout(60), cost));
    assert_eq!(proxy_heard(&mut proxy).await, Some(false), "and that it is not any more");
    request(&mut proxy, 4).await;
    assert_eq!(earned(&bench).problems.len(), 1, "34 and 8 are above 40 again");
}

/// The next word on whether the worker takes requests: `true` for none.
async fn proxy_heard(proxy: &mut TestProxy) -> Option<bool> {
    loop {
        match proxy.message().await? {
            WorkerMessage::EnabledDisabled { disabled } => return Some(disabled),
            WorkerMessage::Load(_) | WorkerMessage::Answer(_) | WorkerMessage::NewCoefficient(_) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn money_without_a_root_is_refused() {
    let ground = Ground::new(0).await;
    let money = ground.money().await;
    let network = cocoon_net::memory::MemoryNetwork::new();
    let dialers: Vec<std::sync::Arc<dyn cocoon_net::Dialer>> = vec![std::sync::Arc::new(network.dialer("proxy"))];
    let engine = cocoon_worker::engine::openai_http::OpenAiHttp::over(
        &cocoon_worker::OpenAiHttpConfig::default(),
        std::sync::Arc::new(crate::harness::Unreachable),
    );
    let worker =
        cocoon_worker::Worker::new(crate::harness::config(), ground.clock(), std::sync::Arc::new(engine), dialers);
    assert!(matches!(worker.unwrap().with_money(money), Err(EarningsError::NoRoot)));
}
