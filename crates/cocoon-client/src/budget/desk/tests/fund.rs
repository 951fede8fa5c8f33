//! Contracts that serve: made, filled, and never more than the owner allows.

use std::time::Duration;

use cocoon_ton::contract::Lifecycle;
use cocoon_ton::contract::message::client as message;
use cocoon_ton::contract::signed;
use cocoon_ton::wallet::Outgoing;
use cocoon_units::{AdjustedTokens, Nano};
use tokio::time::sleep;

use super::stage::{PRICE, Proxy, Stage, TON};
use crate::budget::desk::secret;
use crate::budget::desk::{Admitted, DeskError};
use crate::config::BudgetConfig;

fn ton(text: &str) -> cocoon_units::Ton {
    text.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_proxy_is_funded_once_and_known_by_its_secret() {
    let stage = Stage::new().await;
    let (desk, proxy) = (stage.desk().await, stage.proxy(7));
    stage.admitted(&desk, &proxy).await;
    stage.passes(&desk, 300).await;
    let state = stage.contract(&proxy).await.unwrap();
    assert_eq!((state.balance, state.stake), (Nano::new(2 * TON), Nano::new(2 * TON)));
    assert_eq!((state.owner, state.proxy), (stage.owner(), proxy.parties.proxy));
    let Ok(Admitted::Secret(secret)) = stage.run(&desk, desk.admit(1, &proxy.parties)).await else {
        panic!("a session is let in by its secret")
    };
    assert_eq!(state.secret_hash, secret::hash(&secret));
    assert_eq!(stage.messages(&proxy).await, 2, "code with deposit, secret; and the stake");
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_what_the_last_process_did() {
    let stage = Stage::new().await;
    let proxy = stage.proxy(7);
    // It dies at each second of the funding.
    for seconds in 1..12 {
        let desk = stage.desk().await;
        let session = async {
            drop(desk.admit(1, &proxy.parties).await);
            sleep(Duration::from_secs(seconds)).await;
        };
        stage.run(&desk, session).await;
        drop(desk);
        stage.blocks(sleep(Duration::from_secs(1))).await;
    }
    let desk = stage.desk().await;
    stage.admitted(&desk, &proxy).await;
    let state = stage.contract(&proxy).await.unwrap();
    assert_eq!(state.balance, Nano::new(2 * TON), "one deposit, however often it died");
    assert_eq!(stage.messages(&proxy).await, 2);
}

#[tokio::test(start_paused = true)]
async fn top_ups_follow_use_and_stop_at_the_deposit() {
    let stage = Stage::new().await;
    let (desk, proxy) = (stage.desk().await, stage.proxy(7));
    stage.admitted(&desk, &proxy).await;
    // 1.2 TON are charged, by our count too.
    let tokens = 1_200_000_000 / PRICE;
    stage.budget.count_for_tests(proxy.parties.contract, AdjustedTokens::new(tokens));
    stage.present(&proxy, &signed::charge(proxy.parties.contract, 1, tokens).sign(&proxy.key)).await;
    assert_eq!(stage.contract(&proxy).await.unwrap().tokens_used, tokens);
    stage.passes(&desk, 120).await;
    assert_eq!(stage.contract(&proxy).await.unwrap().balance, Nano::new(2 * TON));
    assert_eq!(stage.messages(&proxy).await, 3);
    stage.passes(&desk, 3_600).await;
    assert_eq!(stage.messages(&proxy).await, 3, "and no more");
}

#[tokio::test(start_paused = true)]
async fn top_up_dust() {
    // A deposit whose refill would go on fees: it is used up, and nothing is sent.
    let config = BudgetConfig { stake: ton("0.5"), ..BudgetConfig::default() };
    let stage = Stage::with(super::stage::PURSE, config).await;
    let (desk, proxy) = (stage.desk().await, stage.proxy(7));
    stage.admitted(&desk, &proxy).await;
    let before = stage.messages(&proxy).await;
    let tokens = 500_000_000 / PRICE;
    stage.budget.count_for_tests(proxy.parties.contract, AdjustedTokens::new(tokens));
    stage.present(&proxy, &signed::charge(proxy.parties.contract, 1, tokens).sign(&proxy.key)).await;
    stage.passes(&desk, 600).await;
    assert_eq!(stage.messages(&proxy).await, before);
    let Err(words) = stage.run(&desk, desk.admit(1, &proxy.parties)).await else {
        panic!("nothing is left to pay with")
    };
    assert!(words.to_string().contains("would go on fees"), "{words}");

    // Strangers top up by a nano again and again: nothing of ours follows from it.
    for query_id in 0..20 {
        let (amount, excesses_to) = (Nano::new(1), stage.stranger.address());
        let body = message::TopUp { query_id, amount, excesses_to }.to_cell();
        let call = Outgoing::call(proxy.parties.contract, Nano::new(TON / 5), body);
        stage.blocks(stage.stranger.send(vec![call])).await.unwrap();
    }
    stage.passes(&desk, 600).await;
    assert_eq!(stage.messages(&proxy).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_wallet_too_short_says_how_much_is_missing() {
    let stage = Stage::with(TON, BudgetConfig::default()).await;
    let (desk, proxy) = (stage.desk().await, stage.proxy(7));
    stage
        .run(&desk, async {
            loop {
                match desk.admit(1, &proxy.parties).await {
                    Err(words) if words.to_string().contains("needs") => {
                        assert!(words.to_string().contains("has 1 TON"), "{words}");
                        return;
                    }
                    Err(_) => sleep(Duration::from_secs(1)).await,
                    Ok(_) => panic!("nobody paid"),
                }
            }
        })
        .await;
    // Money comes, and the desk goes on by itself.
    stage.devnet.faucet(stage.owner(), Nano::new(10 * TON)).await.unwrap();
    stage.admitted(&desk, &proxy).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_proxies_are_funded_than_the_owner_allows() {
    let stage = Stage::new().await;
    let desk = stage.desk().await;
    let proxies: Vec<_> = (10..14).map(|byte| stage.proxy(byte)).collect();
    stage
        .run(&desk, async {
            for _ in 0..60 {
                for (number, proxy) in (0..).zip(&proxies) {
                    drop(desk.admit(number, &proxy.parties).await);
                }
                sleep(Duration::from_secs(5)).await;
            }
        })
        .await;
    assert_eq!(funded(&stage, &proxies).await, 2);
    // The next process: whoever asks first then, those that have a deposit come first.
    drop(desk);
    let desk = stage.desk().await;
    stage
        .run(&desk, async {
            for _ in 0..60 {
                for (number, proxy) in (0..4).zip(&proxies).rev() {
                    drop(desk.admit(number, &proxy.parties).await);
                }
                sleep(Duration::from_secs(5)).await;
            }
        })
        .await;
    assert_eq!(funded(&stage, &proxies).await, 2);
}

async fn funded(stage: &Stage, proxies: &[Proxy]) -> usize {
    let mut funded = 0;
    for proxy in proxies {
        funded += usize::from(stage.contract(proxy).await.is_some());
    }
    funded
}

#[tokio::test(start_paused = true)]
async fn a_proxy_with_a_new_key_gets_a_new_contract_and_the_old_one_comes_home() {
    let stage = Stage::new().await;
    let (desk, old, new) = (stage.desk().await, stage.proxy(7), stage.proxy(8));
    stage.admitted(&desk, &old).await;
    // Its session is gone, and what answers under its number from then on is another.
    stage
        .run(&desk, async {
            for _ in 0..120 {
                drop(desk.admit(1, &new.parties).await);
                sleep(Duration::from_secs(10)).await;
            }
        })
        .await;
    assert_eq!(stage.contract(&new).await.unwrap().state, Lifecycle::Normal);
    assert_eq!(stage.contract(&old).await.unwrap().state, Lifecycle::Closing);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_charges_beyond_use_gets_no_top_up_and_no_request() {
    let stage = Stage::new().await;
    let (desk, proxy) = (stage.desk().await, stage.proxy(7));
    stage.admitted(&desk, &proxy).await;
    let before = stage.messages(&proxy).await;
    stage.present(&proxy, &signed::charge(proxy.parties.contract, 1, 90_000_000).sign(&proxy.key)).await;
    stage.passes(&desk, 600).await;
    assert_eq!(stage.contract(&proxy).await.unwrap().balance, Nano::new(200_000_000));
    assert_eq!(stage.messages(&proxy).await, before);
    let Err(words) = stage.run(&desk, desk.admit(1, &proxy.parties)).await else { panic!("it is refused") };
    assert!(words.to_string().contains("charged"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn fee_drain() {
    // A proxy that asks for a registration again and again is paid for once in a while.
    let stage = Stage::new().await;
    let (desk, proxy) = (stage.desk().await, stage.proxy(7));
    stage.admitted(&desk, &proxy).await;
    let before = stage.messages(&proxy).await;
    stage
        .run(&desk, async {
            for nonce in 0..600 {
                drop(desk.register(proxy.parties.contract, nonce).await);
                sleep(Duration::from_secs(120)).await;
            }
        })
        .await;
    let day_bound = crate::limits::DESK_UPKEEP_MESSAGES_PER_DAY as usize;
    let sent = stage.messages(&proxy).await - before;
    assert!((2..=day_bound).contains(&sent), "{sent} registrations in 20 hours");
    let error = stage.run(&desk, desk.teller.register(proxy.parties.contract, 1)).await.unwrap_err();
    assert!(matches!(error, DeskError::TooManyMessages { .. }), "{error}");
    assert_eq!(stage.contract(&proxy).await.unwrap().state, Lifecycle::Normal);
}
