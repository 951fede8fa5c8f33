//! How clients leave, and how a proxy ends.

use std::sync::Arc;
use std::time::Duration;

use cocoon_ton::contract::Lifecycle;
use cocoon_ton::contract::message::client;
use cocoon_units::Nano;

use super::faulty::Faulty;
use super::world::{
    CLIENT_DELAY_S, CLIENT_OWNER, FEE, PRICE, PROXY_DELAY_S, PROXY_OWNER, TON, WORKER_OWNER, World, person,
};
use crate::settlement::Phase;

fn refund() -> cocoon_ton::Cell {
    client::RequestRefund { query_id: 5, excesses_to: person(CLIENT_OWNER) }.to_cell()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_charged_and_gets_the_rest_at_once() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 300).await;
    world.until("the commit", async || world.committed_of(client) == 300).await;
    world.call(CLIENT_OWNER, client, TON, refund()).await;
    world.until("the end", async || world.client(client).await.unwrap().state == Lifecycle::Closed).await;
    let state = world.client(client).await.unwrap();
    assert_eq!(state.tokens_used, 300);
    // Five above the stake by the request, the rest of the stake by the grant.
    assert_eq!(world.paid(client, person(CLIENT_OWNER)).await, 10 * TON - 300 * PRICE);
    world.until("the account's end", async || world.hub().closed_accounts.contains(&client)).await;
    assert_eq!(world.hub().open.get(&client), Some(&false));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn forced_refund_race() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 300).await;
    world.until("the commit", async || world.committed_of(client) == 300).await;
    // One answer never ends, so the client is never idle; its owner leaves meanwhile.
    let state = world.client(client).await.unwrap();
    let open = {
        let mut hub = world.hub();
        let payer = hub.ledger.open_payer(&client.raw(), crate::books::credit(&state)).unwrap();
        hub.ledger.reserve(payer, cocoon_units::AdjustedTokens::new(10)).unwrap()
    };
    world.call(CLIENT_OWNER, client, TON, refund()).await;
    world.until("nothing new", async || world.hub().open.get(&client) == Some(&false)).await;
    world.pass(120).await;
    assert_eq!(world.client(client).await.unwrap().tokens_used, 0, "there is time to wait for the answer");
    // Ten minutes before the end it is charged for what is committed, whatever runs.
    world.devnet.advance(Duration::from_secs(u64::from(CLIENT_DELAY_S) - 500)).await.unwrap();
    world.until("the charge", async || world.client(client).await.unwrap().tokens_used == 300).await;
    let unlock = world.client(client).await.unwrap().unlock_unix_s;
    assert!(world.devnet_time().await <= unlock, "before the owner may take it");
    world.devnet.advance(Duration::from_secs(700)).await.unwrap();
    world.call(CLIENT_OWNER, client, TON, refund()).await;
    world.until("the refund", async || world.client(client).await.unwrap().state == Lifecycle::Closed).await;
    assert_eq!(world.paid(client, person(CLIENT_OWNER)).await, 10 * TON - 300 * PRICE);
    world.hub().ledger.release(open, None);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_closes_to_the_end_and_every_nano_is_explained() {
    let world = World::new().await;
    let node = world.wallet.address();
    let running = world.start().await.unwrap();
    let proxy = world.proxy_at();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 1_234).await;
    world.until("the commit", async || world.committed_of(client) == 1_234).await;

    world.control.close();
    world.until("the request", async || world.proxy(proxy).await.unwrap().state == Lifecycle::Closing).await;
    assert!(running.desk.client(client).await.is_err(), "nobody new is taken");
    world.until("the client's end", async || world.client(client).await.unwrap().state == Lifecycle::Closed).await;
    let is_closed = async || world.worker(worker).await.is_some_and(|worker| worker.state == Lifecycle::Closed);
    world.until("the worker's end", is_closed).await;
    assert_eq!(world.proxy(proxy).await.unwrap().state, Lifecycle::Closing, "the delay is not over");
    world.devnet.advance(Duration::from_secs(u64::from(PROXY_DELAY_S))).await.unwrap();
    world.until("the end", async || world.proxy(proxy).await.unwrap().state == Lifecycle::Closed).await;
    tokio::time::timeout(Duration::from_secs(600), world.control.closed()).await.unwrap();
    running.stop().await;

    let (used, paid) = (1_234 * PRICE, 1_234 * FEE);
    assert_eq!(world.paid(client, person(CLIENT_OWNER)).await, 10 * TON - used, "the client's refund");
    assert_eq!(world.paid(proxy, person(WORKER_OWNER)).await, paid, "the worker's pay");
    let stake = world.params.min_proxy_stake.get();
    assert_eq!(world.paid(proxy, person(PROXY_OWNER)).await, stake + used - paid, "stake and commission");
    let state = world.proxy(proxy).await.unwrap();
    assert_eq!((state.funds, state.balance, state.stake), (Nano::ZERO, Nano::ZERO, Nano::ZERO));
    // What the node's wallet had: the stake went to the owner, and the rest that is gone are fees.
    let fees = 100 * TON - stake - world.coins(node).await;
    assert!(fees < TON / 2, "{fees} nano of fees");
    world.devnet.check_conservation().await.unwrap();
    assert_eq!(world.control.status().phase, Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn new_parameters_drain_to_a_new_contract_and_close_the_old_one() {
    let mut world = World::new().await;
    let running = world.start().await.unwrap();
    let old = world.proxy_at();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 700).await;
    world.until("the commit", async || world.committed_of(client) == 700).await;
    world.hub().old_sessions = 1;
    world.change_params(|params| params.price_per_token = Nano::new(2 * PRICE));
    let new = world.proxy_at();
    world
        .until("the new contract", async || {
            world.proxy(new).await.is_some_and(|proxy| proxy.stake == world.params.min_proxy_stake)
        })
        .await;
    world.pass(30).await;
    assert_eq!(world.client(client).await.unwrap().state, Lifecycle::Normal, "its session has not ended");
    {
        let mut hub = world.hub();
        hub.old_sessions = 0;
        hub.write();
    }
    world.until("the last charge", async || world.client(client).await.unwrap().state == Lifecycle::Closed).await;
    let is_paid = async || world.paid(old, person(WORKER_OWNER)).await == 700 * FEE;
    world.until("the last payout", is_paid).await;

    // A restart in the middle goes on where it was.
    running.stop().await;
    let running = world.start().await.unwrap();
    world.devnet.advance(Duration::from_secs(u64::from(PROXY_DELAY_S))).await.unwrap();
    world.until("the old one's end", async || world.proxy(old).await.unwrap().state == Lifecycle::Closed).await;
    world.until("nothing old", async || world.control.status().old_instances == 0).await;
    let stake = world.params.min_proxy_stake.get();
    assert_eq!(world.paid(old, person(PROXY_OWNER)).await, stake + 700 * (PRICE - FEE));
    assert_eq!(world.proxy(new).await.unwrap().state, Lifecycle::Normal);
    assert_eq!(world.paid(client, person(CLIENT_OWNER)).await, 10 * TON - 700 * PRICE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_end_before_every_account_was_read() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let proxy = world.proxy_at();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 1_234).await;
    world.until("the commit", async || world.committed_of(client) == 1_234).await;
    running.stop().await;

    // A new process has read nothing yet, and the client's contract cannot be read.
    let chain = Faulty::new(world.devnet.clone());
    chain.faults().unreachable = Some(client);
    let running = world.start_on(Arc::new(chain.clone())).await.unwrap();
    world.control.close();
    world.until("the request", async || world.proxy(proxy).await.unwrap().state == Lifecycle::Closing).await;
    world.devnet.advance(Duration::from_secs(u64::from(PROXY_DELAY_S))).await.unwrap();
    world.pass(120).await;
    assert_eq!(world.proxy(proxy).await.unwrap().state, Lifecycle::Closing, "a client was not charged");
    assert_eq!(world.worker(worker).await, None, "nor is there anything to pay its worker from");
    assert!(world.control.status().problem.unwrap().contains("cannot be read"));

    chain.faults().unreachable = None;
    tokio::time::timeout(Duration::from_secs(900), world.control.closed()).await.unwrap();
    running.stop().await;
    assert_eq!(world.paid(client, person(CLIENT_OWNER)).await, 10 * TON - 1_234 * PRICE);
    assert_eq!(world.paid(proxy, person(WORKER_OWNER)).await, 1_234 * FEE);
    let stake = world.params.min_proxy_stake.get();
    assert_eq!(world.paid(proxy, person(PROXY_OWNER)).await, stake + 1_234 * (PRICE - FEE));
}
