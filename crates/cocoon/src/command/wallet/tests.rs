//! Wallets made, filled and emptied, on a devnet in memory.

use anyhow::Result;
use cocoon_ton::Address;
use cocoon_units::Nano;
use serde_json::json;

use super::{Action, Args, answer, keys};
use crate::command::ton::Said;
use crate::command::ton::network::Kind;
use crate::command::ton::stage::{Stage, TON, parse, refusal};

/// Carries out `cocoon wallet …` as a person writes it.
async fn wallet(stage: &Stage, line: &[&str]) -> Result<Said> {
    let folder = stage.path("");
    let args: Args = parse(&[line, &["--data-dir", &folder, "--chain", &stage.session.endpoint]].concat()).unwrap();
    match &args.action {
        Action::New => keys::new(&args.wallet, &args.network),
        Action::Import(import) => keys::import(&args.wallet, &args.network, import),
        Action::Export => keys::export(&args.wallet, &args.network),
        Action::OnChain(action) => stage.run(answer(&stage.session, &args.wallet, action)).await,
    }
}

async fn balance(stage: &Stage, address: Address) -> Nano {
    stage.session.chain.account(&address).await.unwrap().for_display().balance
}

#[tokio::test(start_paused = true)]
async fn a_new_wallet_is_filled_pays_and_tells() {
    let stage = Stage::new();
    let said = wallet(&stage, &["new"]).await.unwrap();
    assert!(said.text.contains("made a wallet, v5r1\n") && said.text.contains("cocoon wallet export"), "{}", said.text);
    let address: Address = said.json["address"].as_str().unwrap().parse().unwrap();
    assert!(refusal(wallet(&stage, &["new"]).await).contains("a key is never overwritten"));

    let said = wallet(&stage, &["show"]).await.unwrap();
    assert!(said.text.contains("never used; deployed with its first payment"), "{}", said.text);
    let payee = Address::basechain([7; 32]);
    let poor = refusal(wallet(&stage, &["send", &payee.raw(), "1.5"]).await);
    assert!(poor.contains("holds 0 TON, and this takes 1.52 TON with fees: 1.52 TON are missing"), "{poor}");

    stage.fund(address, 10).await;
    let said = wallet(&stage, &["send", &payee.friendly(false, true), "1.5", "--comment", "invoice 7"]).await.unwrap();
    assert_eq!(balance(&stage, payee).await.get(), TON + TON / 2, "the payee gets the amount in full");
    assert_eq!(said.json["sent"], json!(true));
    let fee: u64 = said.json["fee_nano"].as_str().unwrap().parse().unwrap();
    assert!(fee > 0 && fee < TON / 100, "{fee}");

    let said = wallet(&stage, &["history"]).await.unwrap();
    for part in ["invoice 7", "1.5 TON", "10 TON", "fees"] {
        assert!(said.text.contains(part), "{part:?} is missing in:\n{}", said.text);
    }
    assert_eq!(said.json.as_array().unwrap().len(), 2);
    let said = wallet(&stage, &["history", "--limit", "1"]).await.unwrap();
    assert!(said.text.starts_with("1 older ones are left out"), "{}", said.text);

    wallet(&stage, &["send", &payee.raw(), "all"]).await.unwrap();
    assert_eq!(balance(&stage, address).await, Nano::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_sends_nothing() {
    let stage = Stage::new();
    let address = stage.wallet("wallet.key", 1);
    stage.fund(address, 10).await;
    let payee = Address::basechain([7; 32]);
    let said = wallet(&stage, &["send", &payee.raw(), "1", "--dry-run"]).await.unwrap();
    assert_eq!(said.json["sent"], json!(false));
    assert_eq!(balance(&stage, address).await.get(), 10 * TON);
}

#[tokio::test(start_paused = true)]
async fn an_amount_beyond_the_balance_says_how_much_is_missing() {
    let stage = Stage::new();
    let address = stage.wallet("wallet.key", 1);
    stage.fund(address, 1).await;
    let words = refusal(wallet(&stage, &["send", &address.raw(), "3"]).await);
    assert!(words.contains("holds 1 TON, and this takes 3.02 TON with fees: 2.02 TON are missing"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn words_bring_a_wallet_back() {
    let stage = Stage::new();
    let made = wallet(&stage, &["new"]).await.unwrap();
    let exported = wallet(&stage, &["export"]).await.unwrap();
    assert_eq!(exported.text.split_whitespace().count(), 24);
    std::fs::write(stage.path("words.txt"), &exported.text).unwrap();
    let (words, file) = (stage.path("words.txt"), stage.path("again.key"));
    let again = wallet(&stage, &["import", "--words", &words, "--wallet", &file]).await.unwrap();
    assert_eq!(again.json["address"], made.json["address"]);
    std::fs::write(&words, "twenty four words these are not").unwrap();
    let refused = refusal(wallet(&stage, &["import", "--words", &words, "--wallet", &stage.path("no.key")]).await);
    assert!(refused.contains("24 words") && !refused.contains("twenty"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_sealed_key_opens_with_its_passphrase_only() {
    let stage = Stage::new();
    let pass = stage.path("pass.txt");
    std::fs::write(&pass, "open sesame\n").unwrap();
    let said = wallet(&stage, &["new", "--passphrase-file", &pass]).await.unwrap();
    assert_eq!(said.json["is_sealed"], json!(true));
    assert!(refusal(wallet(&stage, &["show"]).await).contains("--passphrase-file"));
    wallet(&stage, &["show", "--passphrase-file", &pass]).await.unwrap();
    std::fs::write(&pass, "open barley\n").unwrap();
    let wrong = refusal(wallet(&stage, &["show", "--passphrase-file", &pass]).await);
    assert!(wrong.contains("does not open") && !wrong.contains("barley"), "{wrong}");
}

#[tokio::test(start_paused = true)]
async fn a_cocoon_wallet_has_an_owner_and_a_floor() {
    let stage = Stage::new();
    let owner = Address::basechain([5; 32]).raw();
    let kind = ["--kind", "cocoon", "--owner", &owner];
    let said = wallet(&stage, &[&["new"][..], &kind].concat()).await.unwrap();
    let address: Address = said.json["address"].as_str().unwrap().parse().unwrap();
    stage.fund(address, 1).await;
    let payee = Address::basechain([7; 32]).raw();
    let words = refusal(wallet(&stage, &[&["send", &payee, "0.5"][..], &kind].concat()).await);
    assert!(words.contains("2 TON with fees, which such a wallet must hold: 1 TON are missing"), "{words}");
    stage.fund(address, 4).await;
    wallet(&stage, &[&["send", &payee, "0.5"][..], &kind].concat()).await.unwrap();
    let said = wallet(&stage, &[&["show"][..], &kind].concat()).await.unwrap();
    assert!(said.text.contains("2 TON, below which it sends nothing"), "{}", said.text);
    assert!(refusal(wallet(&stage, &["new", "--kind", "cocoon"]).await).contains("needs --owner"));
    assert!(refusal(wallet(&stage, &["show", "--owner", &owner]).await).contains("--kind cocoon"));
}

#[tokio::test(start_paused = true)]
async fn real_networks_have_no_faucet() {
    let mut stage = Stage::new();
    stage.wallet("wallet.key", 1);
    for kind in [Kind::Main, Kind::Test] {
        stage.session.kind = kind;
        let words = refusal(wallet(&stage, &["faucet", "5"]).await);
        assert!(words.contains("is no devnet"), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_comment_that_does_not_fit_is_refused_and_not_cut() {
    let stage = Stage::new();
    let address = stage.wallet("wallet.key", 1);
    stage.fund(address, 10).await;
    let words = refusal(wallet(&stage, &["send", &address.raw(), "1", "--comment", &"x".repeat(124)]).await);
    assert!(words.contains("the comment has 124 bytes, and at most 123 fit"), "{words}");
}
