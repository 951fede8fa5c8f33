//! Attacks on settlement, by name.

use std::time::Duration;

use cocoon_ton::Address;
use cocoon_ton::contract::message::client;
use cocoon_ton::contract::note::{LogEntry, Note};
use cocoon_units::Nano;

use super::world::{CLIENT_OWNER, PRICE, STRANGER, TON, WORKER_OWNER, World, person};

#[tokio::test(start_paused = true)]
async fn foreign_wallets_commit() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    let forged = LogEntry::ProxyState { query_id: 1, seqno: 99, unique_hash: [1; 32] };
    world.call(STRANGER, world.proxy_at(), TON, Note::DoNotProcess(forged).to_cell()).await;
    world.serve(client, worker, 10).await;
    world.until("our own commit", async || world.committed_of(client) == 10).await;
    assert_eq!(world.hub().refused, None);
    running.stop().await;
    // Nor does it matter at the next start.
    world.start().await.unwrap().stop().await;
}

#[tokio::test(start_paused = true)]
async fn commit_survives_a_restart_before_it_is_seen() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 10).await;
    // The wallet's external is held back while the proxy stops.
    let wallet = world.wallet.address();
    world.devnet.set_faults(move |faults| faults.hold(wallet)).await.unwrap();
    world.until("a commit to send", async || world.hub().ledger.commit_to_send().is_some()).await;
    world.pass(10).await;
    assert_eq!(world.control.status().commit_pending, Some(1), "it is shown that it has not arrived");
    running.stop().await;
    world.devnet.set_faults(move |faults| faults.release(&wallet)).await.unwrap();
    let running = world.start().await.unwrap();
    world.until("the commit", async || world.committed_of(client) == 10).await;
    world.pass(10).await;
    assert_eq!(world.control.status().commit_pending, None);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn top_up_dust() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let known = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(known, worker, 10).await;
    world.pass(30).await;
    let before = world.hub().told;
    // A hundred top-ups of dust to the known client by a stranger, and notes of contracts that nobody knows.
    let dust = client::TopUp { query_id: 1, amount: Nano::new(1), excesses_to: person(STRANGER) };
    for number in 0..100_u8 {
        world.call(STRANGER, known, TON / 5, dust.to_cell()).await;
        let stranger = Address::basechain([number; 32]);
        let note = Note::Worker(cocoon_ton::contract::note::WorkerNote {
            query_id: 1,
            owner: stranger,
            state: cocoon_ton::contract::Lifecycle::Normal,
            tokens: u64::MAX,
            claim: None,
        });
        world.call(STRANGER, world.proxy_at(), TON / 5, note.to_cell()).await;
        if number % 10 == 0 {
            world.pass(1).await;
        }
    }
    world.pass(30).await;
    let balance = 10 * TON + 100;
    assert_eq!(world.client(known).await.unwrap().balance.get(), balance, "all of it arrived");
    assert_eq!(running.desk.remembered(known).map(|entry| held(&entry)), Some(balance), "and was heard of");
    let told = world.hub().told - before;
    assert!(told <= 10, "a hundred notes made us read {told} times");
    assert!(running.desk.remembered(person(STRANGER)).is_none(), "strangers are not read");
    running.stop().await;
}

fn held(entry: &crate::settlement::desk::Entry) -> u64 {
    match &entry.holding {
        crate::settlement::desk::Holding::Client(state) => state.balance.get(),
        crate::settlement::desk::Holding::Worker(_) => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn fee_drain() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let worker = world.worker_of(person(WORKER_OWNER));
    // Many clients that each use a little: charging them costs more than it brings.
    let mut clients = Vec::new();
    for number in 0..20_u8 {
        let client = world.deploy_client(Address::basechain([number; 32]), 6 * TON).await;
        world.serve(client, worker, 10).await;
        clients.push(client);
    }
    world.until("the commits", async || clients.iter().all(|client| world.committed_of(*client) == 10)).await;
    world.pass(60).await;
    let coins = world.coins(world.wallet.address()).await;
    world.pass(600).await;
    assert_eq!(world.coins(world.wallet.address()).await, coins, "nothing is spent on dust");
    let status = world.control.status();
    assert_eq!(status.uncharged.nano().get(), 200 * PRICE, "it stays claimable, and is shown");
    assert!(status.dust.nano() >= status.uncharged.nano(), "{status:#?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn clock_jumps() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 10).await;
    // The chain's time moves by a day; pauses are by the monotonic clock, and nothing hurries or stops.
    world.devnet.advance(Duration::from_secs(86_400)).await.unwrap();
    world.until("the commit", async || world.committed_of(client) == 10).await;
    world.serve(client, worker, 10).await;
    world.until("the next one", async || world.committed_of(client) == 20).await;
    assert_eq!(world.control.status().commit_seen, 2);
    running.stop().await;
}
