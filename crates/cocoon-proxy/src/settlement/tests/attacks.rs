//! Attacks on settlement, by name.

use std::time::Duration;

use cocoon_ledger::RolledBack;
use cocoon_ton::Address;
use cocoon_ton::contract::message::client;
use cocoon_ton::contract::note::{LogEntry, Note};
use cocoon_units::Nano;

use super::world::{CLIENT_OWNER, Disk, Hub, PRICE, STRANGER, TON, WORKER_OWNER, World, person};
use crate::settlement::SettlementError;

/// Serves and commits `times` times, then stops.
async fn served(world: &World, times: u64) {
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    for time in 1..=times {
        world.serve(client, worker, 10).await;
        world.until("a commit", async || world.committed_of(client) == 10 * time).await;
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rolled_back_database() {
    let disk = Disk::default();
    let mut world = World::on(&disk).await;
    served(&world, 1).await;
    let old = disk.copy();
    served_again(&world).await;
    let newest = disk.copy();

    // An older copy, and none at all, on this machine or another.
    for (disk, ours) in [(old, 1), (Disk::default(), 0)] {
        world.hub = Hub::on(&disk);
        let coins = world.coins(world.wallet.address()).await;
        let refused = world.start().await.err().unwrap();
        let expected = RolledBack::Older { on_chain: 2, ours };
        assert!(matches!(refused, SettlementError::RolledBack(refusal) if refusal == expected), "{refused}");
        assert!(refused.to_string().contains("Put the newest database back"), "it says what to do: {refused}");
        assert_eq!(world.coins(world.wallet.address()).await, coins, "nothing is spent");
    }
    world.hub = Hub::on(&newest);
    world.start().await.unwrap().stop().await;
}

async fn served_again(world: &World) {
    let running = world.start().await.unwrap();
    let client = world.client_init(person(CLIENT_OWNER)).address();
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 10).await;
    world.until("the second commit", async || world.committed_of(client) == 20).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_proxies_with_one_key() {
    let disk = Disk::default();
    let mut world = World::on(&disk).await;
    served(&world, 1).await;
    let copy = disk.copy();
    served_again(&world).await;
    // The copy knows the first commit only, and would make another second one: it never begins.
    world.hub = Hub::on(&copy);
    assert!(matches!(world.start().await, Err(SettlementError::RolledBack(_))));
}

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
    running.stop().await;
    world.devnet.set_faults(move |faults| faults.release(&wallet)).await.unwrap();
    let running = world.start().await.unwrap();
    world.until("the commit", async || world.committed_of(client) == 10).await;
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
