//! The whole journey of a network's owner, and what goes wrong on it, on a devnet in memory.

use std::time::Duration;

use anyhow::Result;
use cocoon_attest::policy::from_root::model_sha256;
use cocoon_ton::Address;
use serde_json::{Value, json};

use super::registry::Registry;
use super::{Args, answer};
use crate::command::ton::Said;
use crate::command::ton::stage::{Stage, parse, refusal};

const HASH: &str = "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592";
const DAY: Duration = Duration::from_secs(86_400);

/// Carries out `cocoon root …` as a person writes it.
async fn root(stage: &Stage, line: &[&str]) -> Result<Said> {
    let args: Args = parse(line).unwrap();
    stage.run(answer(&stage.session, &args)).await
}

/// A stage with a rich wallet in the default file.
async fn rich() -> Stage {
    let stage = Stage::new();
    let owner = stage.wallet("wallet.key", 1);
    stage.fund(owner, 100).await;
    stage
}

/// A stage with a network of that wallet.
async fn network(options: &[&str]) -> Stage {
    let mut stage = rich().await;
    let line = [&["deploy"], options].concat();
    root(&stage, &line).await.unwrap();
    stage.reopen();
    stage
}

async fn registry(stage: &Stage) -> Registry {
    Registry::read(&stage.session, stage.session.record.as_ref().unwrap().root).await.unwrap()
}

fn all(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "{part:?} is missing in:\n{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn from_nothing_to_a_network_with_new_prices() {
    let mut stage = rich().await;
    let said = root(&stage, &["deploy", "--price", "20", "--worker-fee", "18"]).await.unwrap();
    all(
        &said.text,
        &["the root is ", "steward", "prices and terms wait 1 day", "20 nano per adjusted token, 0.02 TON per million"],
    );
    stage.reopen();
    let record = stage.session.record.clone().unwrap();
    assert_eq!(said.json["root"], json!(record.root));
    assert_eq!(said.json["steward"], json!(record.steward.unwrap()));

    // Lists change at once, several in one message.
    let said = root(&stage, &["images", "add", HASH, &HASH.replace('5', "6"), "--role", "worker"]).await.unwrap();
    all(&said.text, &["done: add the worker image 5d41", "done: add the worker image 6d41"]);
    assert_eq!(registry(&stage).await.state.worker_hashes.len(), 2);
    root(&stage, &["images", "remove", HASH, "--role", "worker"]).await.unwrap();
    root(&stage, &["images", "add", HASH, "--role", "proxy"]).await.unwrap();
    root(&stage, &["models", "add", "m@c:v"]).await.unwrap();
    root(&stage, &["proxies", "add", "--clients", "203.0.113.7:443", "--workers", "203.0.113.7:8443"]).await.unwrap();
    let state = registry(&stage).await.state;
    assert_eq!((state.worker_hashes.len(), state.proxy_hashes.len()), (1, 1));
    assert!(state.model_hashes.contains(&model_sha256("m@c:v")));
    assert_eq!(state.registered_proxies[&1].workers(), "203.0.113.7:8443");

    // A proxy is pinned, then leaves.
    let contract = Address::basechain([9; 32]).raw();
    let pinned =
        ["proxies", "update", "1", "--clients", "203.0.113.8:443", "--contract", &contract, "--payment-key", HASH];
    root(&stage, &pinned).await.unwrap();
    assert_eq!(registry(&stage).await.state.registered_proxies[&1].pinned().unwrap().contract.raw(), contract);
    root(&stage, &["proxies", "remove", "1"]).await.unwrap();
    assert!(registry(&stage).await.state.registered_proxies.is_empty());

    // Prices wait.
    let said = root(&stage, &["prices", "set", "--price", "30", "--completion", "2.5"]).await.unwrap();
    all(
        &said.text,
        &[
            "waits as number 0: price: 20 nano",
            "completion tokens: ×1 -> ×2.5",
            "cocoon root apply 0",
            "new contract instances",
        ],
    );
    assert_eq!(said.json["waiting"], json!([0]));
    assert_eq!(registry(&stage).await.state.params.price_per_token.get(), 20);
    let said = root(&stage, &["pending"]).await.unwrap();
    all(&said.text, &["0  in 1 day, at ", "price: 20 nano", "-> 30 nano"]);
    assert_eq!(said.json[0]["is_due"], json!(false));
    let early = refusal(root(&stage, &["apply", "0"]).await);
    all(&early, &["change 0 cannot be applied yet", "nothing was sent"]);

    stage.devnet.advance(DAY).await.unwrap();
    let said = root(&stage, &["apply", "0"]).await.unwrap();
    all(&said.text, &["applied 0: price: 20 nano", "fees were 0.0"]);
    let params = registry(&stage).await.state.params;
    assert_eq!((params.price_per_token.get(), params.worker_fee_per_token.get()), (30, 18));
    assert_eq!(params.multipliers.completion.ten_thousandths(), 25_000);

    let said = root(&stage, &["show"]).await.unwrap();
    all(
        &said.text,
        &[
            "images that may be proxies",
            HASH,
            "play money, on a devnet",
            "price              30 nano",
            "waiting      0 changes",
        ],
    );
    assert_eq!(said.json["params"]["price_per_token_nano"], json!("30"));
    assert_eq!(said.json["owner"]["pending"], json!([]));
    assert!(refusal(root(&stage, &["apply", "0"]).await).contains("waits no longer"));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_change_can_be_dropped() {
    let stage = network(&["--lock-delay", "1h"]).await;
    root(&stage, &["prices", "set", "--min-client-stake", "5"]).await.unwrap();
    let said = root(&stage, &["cancel", "0"]).await.unwrap();
    all(&said.text, &["cancelled 0: stake of a client: at least 1 TON -> at least 5 TON"]);
    assert_eq!(root(&stage, &["pending"]).await.unwrap().text, "nothing waits");
    assert!(refusal(root(&stage, &["cancel", "7"]).await).contains("no change 7 waits"));
}

#[tokio::test(start_paused = true)]
async fn what_is_so_already_costs_nothing() {
    let stage = network(&[]).await;
    root(&stage, &["models", "add", "m"]).await.unwrap();
    let version = registry(&stage).await.state.version;
    for line in [
        &["models", "add", "m"][..],
        &["models", "remove", "other"],
        &["images", "remove", HASH, "--role", "proxy"],
        &["prices", "set", "--price", "2"],
    ] {
        let said = root(&stage, line).await.unwrap();
        assert_eq!(said.json, json!({ "changed": false, "version": version }), "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_steward_changes_count_at_once() {
    let stage = network(&["--no-steward"]).await;
    let said = root(&stage, &["prices", "set", "--price", "3"]).await.unwrap();
    all(&said.text, &["done: price: 2 nano"]);
    assert_eq!(registry(&stage).await.state.params.price_per_token.get(), 3);
    root(&stage, &["models", "add", "a", "b", "c"]).await.unwrap();
    assert_eq!(registry(&stage).await.state.model_hashes.len(), 3);
    assert!(refusal(root(&stage, &["pending"]).await).contains("has no steward"));
}

#[tokio::test(start_paused = true)]
async fn a_strangers_wallet_is_refused_before_it_pays() {
    let stage = network(&[]).await;
    let stranger = stage.wallet("stranger.key", 2);
    stage.fund(stranger, 10).await;
    let file = stage.path("stranger.key");
    let held = stage.session.chain.account(&stranger).await.unwrap().for_display().balance;
    for line in
        [&["models", "add", "m"][..], &["prices", "set", "--price", "3"], &["owner", "propose", &stranger.raw()]]
    {
        let words = refusal(root(&stage, &[line, &["--wallet", &file]].concat()).await);
        all(&words, &["the steward of this root obeys", "nothing was sent", "--wallet"]);
    }
    assert_eq!(stage.session.chain.account(&stranger).await.unwrap().for_display().balance, held);
}

#[tokio::test(start_paused = true)]
async fn a_network_is_handed_over_in_two_steps() {
    let stage = network(&[]).await;
    let next = stage.wallet("next.key", 3);
    stage.fund(next, 10).await;
    let file = stage.path("next.key");
    let accept = ["owner", "accept", "--wallet", &file];
    assert!(refusal(root(&stage, &accept).await).contains("nobody was proposed"));
    root(&stage, &["owner", "propose", &next.raw()]).await.unwrap();
    assert!(refusal(root(&stage, &["owner", "accept"]).await).contains("is another one"));
    assert!(root(&stage, &["show"]).await.unwrap().text.contains("who has not accepted yet"));
    root(&stage, &accept).await.unwrap();
    assert_eq!(registry(&stage).await.owner.person(), next);
    assert!(root(&stage, &["models", "add", "m"]).await.is_err());
    root(&stage, &["models", "add", "m", "--wallet", &file]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_poor_wallet_is_told_what_is_missing() {
    let stage = Stage::new();
    stage.wallet("wallet.key", 1);
    let words = refusal(root(&stage, &["deploy"]).await);
    all(&words, &["holds 0 TON", "this takes 0.", "are missing", "cocoon wallet faucet"]);
}

#[tokio::test(start_paused = true)]
async fn a_network_is_not_deployed_twice() {
    let stage = network(&[]).await;
    assert!(refusal(root(&stage, &["deploy"]).await).contains("is there already"));
    let said = root(&stage, &["deploy", "--unique-id", "18"]).await.unwrap();
    all(&said.text, &["the data folder names another root"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_root_is_called_so() {
    let stage = rich().await;
    assert!(refusal(root(&stage, &["show"]).await).contains("which root?"));
    let nothing = Address::basechain([9; 32]).raw();
    assert!(refusal(root(&stage, &["show", "--root", &nothing]).await).contains("there is no contract at"));
    let mut stage = stage;
    root(&stage, &["deploy"]).await.unwrap();
    stage.reopen();
    let steward = stage.session.record.as_ref().unwrap().steward.unwrap().raw();
    assert!(refusal(root(&stage, &["show", "--root", &steward]).await).contains("is no root"));
}

#[tokio::test(start_paused = true)]
async fn terms_that_make_no_sense_are_refused() {
    let stage = network(&[]).await;
    let words = refusal(root(&stage, &["prices", "set", "--worker-fee", "3"]).await);
    all(&words, &["worker fee of 3 nano is more than the price of 2 nano"]);
    for line in [
        &["prices", "set", "--completion", "1.00001"][..],
        &["prices", "set", "--price", "-1"],
        &["prices", "set", "--client-delay", "tomorrow"],
        &["proxies", "add", "--clients", "example.com:443"],
        &["proxies", "add", "--clients", "1.2.3.4:5", "--contract", "0:00"],
        &["images", "add", HASH],
        &["prices", "set"],
    ] {
        assert!(parse::<Args>(line).is_err(), "{line:?}");
    }
    let words = refusal(root(&stage, &["images", "add", "no-such-file.json", "--role", "worker"]).await);
    all(&words, &["neither 64 hexadecimal digits nor a file"]);
}

#[tokio::test(start_paused = true)]
async fn lists_are_for_scripts_too() {
    let stage = network(&[]).await;
    root(&stage, &["models", "add", "m"]).await.unwrap();
    assert_eq!(root(&stage, &["models"]).await.unwrap().json, json!([hex::encode(model_sha256("m"))]));
    assert_eq!(root(&stage, &["proxies"]).await.unwrap().text, "none");
    assert_eq!(root(&stage, &["images"]).await.unwrap().json["proxy_images"], Value::Array(Vec::new()));
    assert!(root(&stage, &["prices"]).await.unwrap().text.contains("2 nano per adjusted token"));
}
