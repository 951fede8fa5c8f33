//! What settlement does while a proxy serves.

use std::sync::Arc;

use cocoon_ton::contract::message::client::Register;
use cocoon_ton::contract::{Lifecycle, Unpaid};
use cocoon_units::Nano;

use super::faulty::Faulty;
use super::world::CLIENT_OWNER;
use super::world::{FEE, PRICE, PROXY_OWNER, TON, WORKER_OWNER, World, person};
use crate::settlement::act::ActError;
use crate::settlement::fees::{Fees, Kind};
use crate::settlement::plan::Action;
use crate::settlement::{DeskError, Phase};

#[tokio::test(start_paused = true)]
async fn the_first_start_deploys_and_stakes() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let proxy = world.proxy(world.proxy_at()).await.unwrap();
    assert_eq!(proxy.stake, world.params.min_proxy_stake);
    assert_eq!(proxy.state, Lifecycle::Normal);
    world.pass(10).await;
    assert_eq!(world.control.status().phase, Phase::Serving);
    running.stop().await;
    // Nothing is deployed twice.
    let coins = world.coins(world.wallet.address()).await;
    let running = world.start().await.unwrap();
    world.pass(30).await;
    assert_eq!(world.coins(world.wallet.address()).await, coins, "nothing new: no commit, nothing spent");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wallet_that_is_short_says_what_it_needs() {
    let mut world = World::new().await;
    world.change_params(|params| params.min_proxy_stake = Nano::new(500 * TON));
    let error = world.start().await.err().unwrap().to_string();
    assert!(error.contains("stake of 500 TON") && error.contains("send it"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_served_is_committed_and_seen() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 100).await;
    world.until("the commit", async || world.committed_of(client) == 100).await;
    assert_eq!(world.control.status().commit_seen, 1);
    assert_eq!(world.control.status().uncharged.nano().get(), 100 * PRICE, "a tenth of a TON is not worth a charge");
    assert_eq!(world.client(client).await.unwrap().tokens_used, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dust_is_collected_by_command() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    world.serve(client, worker, 10).await;
    world.until("the commit", async || world.committed_of(client) == 10).await;
    world.control.collect();
    world.until("the charge", async || world.client(client).await.unwrap().tokens_used == 10).await;
    let proxy = world.proxy_at();
    world.until("the pay", async || world.paid(proxy, person(WORKER_OWNER)).await == 10 * FEE).await;
    world.until("the commission", async || world.paid(proxy, person(PROXY_OWNER)).await == 10 * (PRICE - FEE)).await;
    world.pass(60).await;
    world.serve(client, worker, 10).await;
    world.pass(300).await;
    assert_eq!(world.client(client).await.unwrap().tokens_used, 10, "once");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn charges_payouts_and_withdrawals_by_thresholds() {
    let mut world = World::new().await;
    world.config.payout_at = Nano::new(5 * TON).ton();
    world.config.withdraw_at = Nano::new(TON).ton();
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 40 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    let proxy = world.proxy_at();

    world.serve(client, worker, 999).await;
    world.until("the first commit", async || world.committed_of(client) == 999).await;
    world.pass(60).await;
    assert_eq!(world.client(client).await.unwrap().tokens_used, 0, "below the threshold");

    world.serve(client, worker, 1).await;
    world.until("the charge", async || world.client(client).await.unwrap().tokens_used == 1_000).await;
    assert_eq!(world.client(client).await.unwrap().balance.get(), 39 * TON);
    world.until("the money", async || world.proxy(proxy).await.unwrap().funds.get() == 2 * TON).await;
    assert_eq!(world.worker(worker).await, None, "a worker is paid later");

    for _ in 0..11 {
        world.pass(20).await;
        world.serve(client, worker, 1_000).await;
    }
    // 10.8 TON are the worker's, of which at least 5 were paid at once.
    world.until("the payout", async || world.paid(proxy, person(WORKER_OWNER)).await >= 5 * TON).await;
    world.until("the withdrawal", async || world.paid(proxy, person(PROXY_OWNER)).await >= TON).await;
    let (state, paid) = (world.worker(worker).await.unwrap(), world.paid(proxy, person(WORKER_OWNER)).await);
    assert_eq!(paid, state.tokens * FEE);
    let status = world.control.status();
    assert!(status.dust.nano() <= status.uncharged.nano().max(status.unpaid.nano()));
    assert_eq!(status.problem, None);
    running.stop().await;
    world.devnet.check_conservation().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_waits_for_funds_and_not_for_a_bounce() {
    let mut world = World::new().await;
    // One worker earns from clients that each owe too little for their own threshold.
    world.config.charge_at = Nano::new(3 * TON).ton();
    world.config.payout_at = Nano::new(3 * TON).ton();
    world.params.min_client_stake = Nano::new(50 * TON);
    let params = world.params.clone();
    world.change_params(|changed| changed.min_client_stake = params.min_client_stake);
    let running = world.start().await.unwrap();
    let proxy = world.proxy_at();
    let worker = world.worker_of(person(WORKER_OWNER));
    for number in 0..4 {
        let client = world.deploy_client(cocoon_ton::Address::basechain([number; 32]), 60 * TON).await;
        world.serve(client, worker, 1_000).await;
    }
    world.until("the payout", async || world.paid(proxy, person(WORKER_OWNER)).await > 0).await;
    assert_eq!(world.paid(proxy, person(WORKER_OWNER)).await, 4_000 * FEE);
    assert_eq!(world.worker(worker).await.unwrap().unpaid, Unpaid::default());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_desk_tells_contracts_apart() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    assert_eq!(running.desk.client(client).await.unwrap(), world.client(client).await.unwrap());
    assert_eq!(running.desk.worker(worker).await.unwrap(), None);
    let nobody = cocoon_ton::Address::basechain([5; 32]);
    assert!(matches!(running.desk.client(nobody).await, Err(DeskError::PeerMissing(_))));
    let wallet = world.wallet.address();
    assert!(matches!(running.desk.client(wallet).await, Err(DeskError::PeerNotOurs(..))));
    assert!(matches!(running.desk.client(world.proxy_at()).await, Err(DeskError::PeerNotOurs(..))));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_registration_is_heard_before_and_after_it_is_waited_for() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let register = |nonce| Register { query_id: 1, nonce, excesses_to: person(CLIENT_OWNER) }.to_cell();
    let desk = running.desk.clone();
    let waiting = tokio::task::JoinSet::from_iter([async move { desk.registered(client, 7).await }]);
    world.call(CLIENT_OWNER, client, TON, register(7)).await;
    for heard in waiting.join_all().await {
        heard.unwrap();
    }
    world.call(CLIENT_OWNER, client, TON, register(8)).await;
    world.pass(20).await;
    running.desk.registered(client, 8).await.unwrap();
    let late = running.desk.registered(client, 9).await;
    assert!(matches!(late, Err(DeskError::PeerDidNotRegister(_))));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_transaction_costs_is_what_the_wallet_lost() {
    let world = World::new().await;
    world.start().await.unwrap().stop().await;
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    world.pass(10).await;
    let (till, instance) = (world.till(), world.instance());
    for (kind, contract, tokens) in
        [(Kind::Charge, client, 1), (Kind::Withdraw, world.proxy_at(), 0), (Kind::Grant, client, 2)]
    {
        let before = world.coins(world.wallet.address()).await;
        let amount = Nano::ZERO;
        let action = Action { kind, contract, proxy: world.proxy_at(), tokens, amount, deploy_for: None };
        let cost = till.act(&action, &instance).await.unwrap().unwrap().get();
        let lost = before - world.coins(world.wallet.address()).await;
        assert!(cost >= lost && cost <= lost + TON / 500, "{kind:?}: {cost}, and {lost} were lost");
        let at_first = Fees::default().of(kind).get();
        assert!(at_first >= lost && at_first <= 2 * lost, "{kind:?}: stated as {at_first} at first, {lost} were lost");
    }
    // A contract that refuses sends the message back.
    let action = Action {
        kind: Kind::Charge,
        contract: client,
        proxy: world.proxy_at(),
        tokens: 3,
        amount: Nano::ZERO,
        deploy_for: None,
    };
    assert!(matches!(till.act(&action, &instance).await, Err(ActError::Refused(by)) if by == client));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_panics_frees_what_it_held() {
    let mut world = World::new().await;
    world.config.charge_at = Nano::new(2 * TON).ton();
    let chain = Faulty::new(world.devnet.clone());
    let running = world.start_on(Arc::new(chain.clone())).await.unwrap();
    let client = world.deploy_client(person(CLIENT_OWNER), 10 * TON).await;
    let worker = world.worker_of(person(WORKER_OWNER));
    // A charge panics after it was sent, while it waits for its change.
    chain.faults().panics = Some((world.wallet.address(), 1));
    world.serve(client, worker, 2_000).await;
    world.until("the first charge", async || world.client(client).await.unwrap().tokens_used == 2_000).await;
    world.until("the panic", async || world.control.status().problem.is_some_and(|it| it.contains("panicked"))).await;
    // The same client is charged again.
    world.serve(client, worker, 2_000).await;
    world.until("the second charge", async || world.client(client).await.unwrap().tokens_used == 4_000).await;
    world.until("no problem", async || world.control.status().problem.is_none()).await;

    // So does a deployment, and the next one finds the contract there.
    chain.faults().panics = Some((world.wallet.address(), 1));
    world.change_params(|params| params.price_per_token = Nano::new(2 * PRICE));
    let new = world.proxy_at();
    world.until("the panic", async || world.control.status().problem.is_some_and(|it| it.contains("panicked"))).await;
    world.until("the deployment", async || world.control.status().problem.is_none()).await;
    assert_eq!(world.proxy(new).await.unwrap().stake, world.params.min_proxy_stake, "staked once");
    running.stop().await;
}
