//! Old books, by what was done with them: whatever the wallet has committed since is found, and nothing is served.

use std::sync::Arc;

use cocoon_ledger::{Commit, RolledBack};
use cocoon_ton::Address;
use cocoon_units::Nano;

use super::faulty::Faulty;
use super::world::{CLIENT_OWNER, Disk, Hub, PRICE, TON, WORKER_OWNER, World, person};
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

/// What these books are told, and that nothing is spent.
async fn refused(world: &mut World, disk: &Disk) -> RolledBack {
    world.hub = Hub::on(disk);
    let coins = world.coins(world.wallet.address()).await;
    let refused = world.start().await.err().expect("old books serve");
    assert_eq!(world.coins(world.wallet.address()).await, coins, "nothing is spent");
    let SettlementError::RolledBack(refused) = refused else { panic!("{refused}") };
    refused
}

#[tokio::test(start_paused = true)]
async fn rolled_back_across_two_parameter_changes() {
    let disk = Disk::default();
    let mut world = World::on(&disk).await;
    served(&world, 1).await;
    // These books know the first contract. The second commit goes to the next one, of which they never heard.
    let old = disk.copy();
    world.change_params(|params| params.price_per_token = Nano::new(2 * PRICE));
    served(&world, 1).await;
    let newest = disk.copy();
    // And the contract of the moment has no commit at all.
    world.change_params(|params| params.price_per_token = Nano::new(3 * PRICE));
    assert_eq!(refused(&mut world, &old).await, RolledBack::Older { on_chain: 2, ours: 1 });
    world.hub = Hub::on(&newest);
    world.start().await.unwrap().stop().await;
}

#[tokio::test(start_paused = true)]
async fn empty_database_after_a_parameter_change() {
    let mut world = World::new().await;
    served(&world, 1).await;
    world.change_params(|params| params.price_per_token = Nano::new(2 * PRICE));
    assert_eq!(refused(&mut world, &Disk::default()).await, RolledBack::Older { on_chain: 1, ours: 0 });
}

#[tokio::test(start_paused = true)]
async fn another_copy_commits_to_another_contract_meanwhile() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 10).await;
    world.until("the commit", async || world.committed_of(client) == 10).await;
    // With our wallet, and to a contract that is none of this proxy's as far as it knows.
    let commit = Commit { number: 2, digest: [9; 32] };
    world.till().commit(commit, Address::basechain([5; 32])).await.unwrap();
    world.until("the end", async || world.hub().refused.is_some()).await;
    assert_eq!(world.hub().refused, Some(RolledBack::Older { on_chain: 2, ours: 1 }));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_the_history_does_not_make_empty_books_the_newest() {
    let disk = Disk::default();
    let mut world = World::on(&disk).await;
    served(&world, 1).await;
    let chain = Faulty::new(world.devnet.clone());
    chain.faults().forgotten = Some(world.wallet.address());
    // From the last commit on there is all that these books need.
    world.start_on(Arc::new(chain.clone())).await.unwrap().stop().await;
    world.hub = Hub::on(&Disk::default());
    let refused = world.start_on(Arc::new(chain)).await.err().unwrap();
    assert!(matches!(refused, SettlementError::History { .. }), "{refused}");
    assert!(refused.to_string().contains("keeps the whole history"), "it says what to do: {refused}");
}

#[tokio::test(start_paused = true)]
async fn books_that_move_to_another_wallet() {
    let disk = Disk::default();
    let mut world = World::on(&disk).await;
    served(&world, 1).await;
    // Another owner makes another wallet. What it commits would be missing in the history of the first one.
    world.change_owner(WORKER_OWNER).await;
    let refused = world.start().await.err().unwrap();
    assert!(matches!(refused, SettlementError::OtherWallet { .. }), "{refused}");
    assert!(refused.to_string().contains("give it back the owner"), "it says what to do: {refused}");
    // New books may.
    world.hub = Hub::on(&Disk::default());
    world.start().await.unwrap().stop().await;
}
