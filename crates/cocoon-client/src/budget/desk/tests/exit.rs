//! Contracts that end: all of the owner's money comes back, whatever the proxy does.

use std::time::Duration;

use cocoon_ton::Address;
use cocoon_ton::contract::{Lifecycle, signed};
use cocoon_units::AdjustedTokens;
use tokio::time::sleep;

use super::stage::{DELAY_S, PRICE, PURSE, Proxy, Stage, TON};
use crate::budget::desk::{Desk, DeskError, ExitStep, Teller};

/// What a closed contract keeps for its storage.
const FLOOR: u64 = 10_000_000;
/// More than all fees of a deployment, its stake, and two requests of a refund took together when they were measured (0.064 TON).
const FEES_MAX: u64 = 70_000_000;

/// Waits, a day and more at a time, until the desk knows the contract as closed.
async fn until_closed(stage: &Stage, desk: &Desk, proxy: &Proxy) {
    for _ in 0..8 {
        stage.passes(desk, 90).await;
        if stage.contract(proxy).await.is_some_and(|state| state.state == Lifecycle::Closed) {
            return stage.passes(desk, 90).await;
        }
        stage.devnet.advance(Duration::from_secs(u64::from(DELAY_S))).await.unwrap();
    }
    panic!("it never closed: {:?}", desk.rows());
}

/// Everything that was deposited and not charged was paid to the owner, to the nano; what the wallet has less is fees
/// and what the closed contract keeps.
async fn all_came_back(stage: &Stage, proxy: &Proxy, charged: u64) {
    let paid: u64 = stage.payouts(proxy).await.into_iter().sum();
    assert_eq!(paid, 2 * TON - charged, "stake and balance, to the nano");
    assert_eq!(stage.coins(proxy.parties.contract).await, FLOOR);
    let missing = PURSE - stage.coins(stage.owner()).await - charged - FLOOR;
    assert!(missing < FEES_MAX, "{missing} nano went on fees");
    stage.devnet.check_conservation().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn exit_with_the_proxy_dead() {
    let stage = Stage::new().await;
    let (desk, proxy) = (stage.desk().await, stage.proxy(7));
    stage.deploy_proxy(7).await;
    stage.admitted(&desk, &proxy).await;
    let tokens = 700_000_000 / PRICE;
    stage.budget.count_for_tests(proxy.parties.contract, AdjustedTokens::new(tokens));
    stage.present(&proxy, &signed::charge(proxy.parties.contract, 1, tokens).sign(&proxy.key)).await;
    desk.close(&proxy.parties.contract).unwrap();
    until_closed(&stage, &desk, &proxy).await;
    all_came_back(&stage, &proxy, 700_000_000).await;
    let Err(words) = stage.run(&desk, desk.admit(1, &proxy.parties)).await else { panic!("it is closed for good") };
    assert!(words.to_string().contains("closed"), "{words}");
    stage.passes(&desk, 3_600).await;
    all_came_back(&stage, &proxy, 700_000_000).await;
}

#[tokio::test(start_paused = true)]
async fn exit_where_the_proxys_contract_was_never_there() {
    let stage = Stage::new().await;
    let (desk, proxy) = (stage.desk().await, stage.proxy(7));
    stage.admitted(&desk, &proxy).await;
    desk.close(&proxy.parties.contract).unwrap();
    until_closed(&stage, &desk, &proxy).await;
    all_came_back(&stage, &proxy, 0).await;
}

#[tokio::test(start_paused = true)]
async fn each_step_of_the_way_out_survives_a_restart() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(7);
    let desk = stage.desk().await;
    stage.admitted(&desk, &proxy).await;
    desk.close(&proxy.parties.contract).unwrap();
    drop(desk);
    for round in 0..40 {
        let desk = stage.desk().await;
        stage.passes(&desk, 1 + round % 7).await;
        drop(desk);
        stage.blocks(sleep(Duration::from_secs(1))).await;
        if round == 20 {
            stage.devnet.advance(Duration::from_secs(u64::from(DELAY_S))).await.unwrap();
        }
    }
    let desk = stage.desk().await;
    until_closed(&stage, &desk, &proxy).await;
    all_came_back(&stage, &proxy, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_charge_during_the_delay_is_honoured_and_the_rest_comes_back() {
    let stage = Stage::new().await;
    let (desk, proxy) = (stage.desk().await, stage.proxy(7));
    stage.deploy_proxy(7).await;
    stage.admitted(&desk, &proxy).await;
    let tokens = 100_000_000 / PRICE;
    stage.budget.count_for_tests(proxy.parties.contract, AdjustedTokens::new(tokens));
    desk.close(&proxy.parties.contract).unwrap();
    stage.passes(&desk, 90).await;
    stage.present(&proxy, &signed::charge(proxy.parties.contract, 1, tokens).sign(&proxy.key)).await;
    until_closed(&stage, &desk, &proxy).await;
    all_came_back(&stage, &proxy, 100_000_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_parameters_brings_the_old_contract_home() {
    let stage = Stage::new().await;
    let (desk, old) = (stage.desk().await, stage.proxy(7));
    stage.admitted(&desk, &old).await;
    stage.change_params(2).await;
    let new = stage.proxy(7);
    assert_ne!(old.parties.contract, new.parties.contract);
    stage.admitted(&desk, &new).await;
    assert_eq!(stage.contract(&old).await.unwrap().state, Lifecycle::Normal, "its proxy may settle it first");
    stage.devnet.advance(Duration::from_secs(crate::limits::DESK_OLD_CONTRACT_S.into())).await.unwrap();
    until_closed(&stage, &desk, &old).await;
    assert_eq!(stage.payouts(&old).await.into_iter().sum::<u64>(), 2 * TON);
    assert_eq!(stage.contract(&new).await.unwrap().state, Lifecycle::Normal);
    assert_eq!(desk.rows().len(), 1, "the old one is forgotten");
}

#[tokio::test(start_paused = true)]
async fn the_owner_leaves_without_the_client_running() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(7);
    let desk = stage.desk().await;
    stage.admitted(&desk, &proxy).await;
    drop(desk);
    stage.blocks(sleep(Duration::from_secs(1))).await;

    let teller = Teller::open(stage.money().await).unwrap();
    let [contract] = teller.contracts().try_into().unwrap();
    assert_eq!(stage.blocks(teller.report(contract)).await.unwrap().state, "open");
    let error = stage.blocks(teller.withdraw(contract)).await.unwrap_err();
    assert!(matches!(error, DeskError::NothingToWithdraw { .. }), "{error}");
    assert_eq!(stage.blocks(teller.step_out(contract)).await.unwrap(), ExitStep::Asked);
    let ExitStep::Waits { unlock_unix_s, now_unix_s } = stage.blocks(teller.step_out(contract)).await.unwrap() else {
        panic!("the delay runs")
    };
    assert!(unlock_unix_s > now_unix_s);
    stage.devnet.advance(Duration::from_secs(u64::from(DELAY_S) + 1)).await.unwrap();
    assert_eq!(stage.blocks(teller.step_out(contract)).await.unwrap(), ExitStep::Collected);
    assert_eq!(stage.blocks(teller.step_out(contract)).await.unwrap(), ExitStep::Over);
    all_came_back(&stage, &proxy, 0).await;
    assert_eq!(teller.contracts(), Vec::<Address>::new());
    let error = stage.blocks(teller.report(Address::basechain([9; 32]))).await.unwrap_err();
    assert!(matches!(error, DeskError::NotOurs { .. }), "{error}");
}
