//! What the commands say.

use std::sync::Arc;
use std::time::Duration;

use cocoon_ton::chain::ChainPolicy;
use cocoon_ton::contract::message::client::TopUp;
use cocoon_ton::contract::{Params, client_state_init, codes};
use cocoon_ton::keys::SigningKey;
use cocoon_ton::wallet::{Network, Outgoing, Sender, WalletKind};

use super::*;
use crate::cli::Cli;
use crate::command::ton::stage::{Stage, TON};

const DELAY_S: u32 = 3_600;

/// A contract of the wallet's, filled with 2 TON, whose proxy never was anywhere.
async fn funded(stage: &Stage, sender: &Sender) -> Address {
    let params = Params {
        price_per_token: Nano::new(20),
        client_delay_s: DELAY_S,
        min_client_stake: Nano::new(TON),
        codes: Some(codes().published()),
        ..Params::default()
    };
    let init = client_state_init(sender.address(), Address::basechain([2; 32]), &[3; 32], &params).unwrap();
    let contract = init.address();
    let fill = TopUp { query_id: 1, amount: Nano::new(2 * TON), excesses_to: sender.address() }.to_cell();
    let call = Outgoing::call(contract, Nano::new(3 * TON), fill).with_state_init(init);
    stage.run(sender.send(vec![call])).await.unwrap();
    stage.run(sleep(Duration::from_secs(5))).await;
    contract
}

#[tokio::test(start_paused = true)]
async fn an_owner_closes_a_contract_whose_proxy_is_dead() {
    let stage = Stage::new();
    let (key, kind) = (SigningKey::from_bytes(&[1; 32]), WalletKind::V5R1 { network: Network::TESTNET });
    let chain = Arc::clone(&stage.session.chain);
    let sender = Sender::new(Arc::clone(&chain), key, kind, None, ChainPolicy::Proved).unwrap();
    stage.fund(sender.address(), 10).await;
    let contract = funded(&stage, &sender).await;
    let (folder, secret_seed) = (stage.session.folder.clone(), [9; 32].into());
    let teller = Teller::open(Money { chain, policy: ChainPolicy::Proved, sender, folder, secret_seed }).unwrap();

    let said = stage.run(close_here(&teller, vec![contract], false)).await.unwrap();
    assert!(said.text.contains("waits until") && said.text.contains("Call this again"), "{}", said.text);
    stage.devnet.advance(Duration::from_secs(u64::from(DELAY_S) + 1)).await.unwrap();
    let said = stage.run(close_here(&teller, vec![contract], true)).await.unwrap();
    assert!(said.text.contains("all of them are closed"), "{}", said.text);
    assert!(said.text.contains("has 9.9"), "what is missing of 10 TON are fees: {}", said.text);
}

fn report() -> ContractReport {
    ContractReport {
        contract: Address::basechain([1; 32]),
        proxy: Some(Address::basechain([2; 32])),
        number: Some(3),
        state: "closing",
        balance_nano: 1_500_000_000,
        stake_nano: 2_000_000_000,
        due_nano: 0,
        coins_nano: 1_610_000_000,
        tokens_charged: 42,
        unlock_unix_s: Some(1_800_086_400),
        at_unix_s: 1_800_000_000,
        is_leaving: true,
    }
}

#[test]
fn a_contract_is_told_with_its_amounts_and_its_time() {
    let words = words(&report());
    for part in ["proxy 3", "closing", "1.5 TON", "2 TON", "42 adjusted tokens", "2027-01-16T08:00:00Z"] {
        assert!(words.contains(part), "{part:?} is missing in:\n{words}");
    }
    assert!(all_words(&[]).contains("no contract"));
    let waits = waiting(&report().contract, 1_800_086_400, 1_800_000_000);
    assert!(waits.contains("2027-01-16") && waits.contains("1 day"), "{waits}");
}

#[test]
fn what_a_running_client_did_is_told() {
    let answer = json!({ "contracts": [
        { "contract": "0:aa", "paid_nano": 1_500_000_000_u64 },
        { "contract": "0:bb", "error": "it is closed" },
        { "contract": "0:cc", "closing": true },
    ]});
    assert_eq!(said(&answer, NOTHING_ABOVE).text, "1.5 TON came from 0:aa\nit is closed\n0:cc is being closed");
}

#[test]
fn the_role_runs_as_before_and_commands_need_a_configuration() {
    use clap::Parser as _;
    for line in [
        &["cocoon", "client", "--config", "client.toml"][..],
        &["cocoon", "client", "--print-default-config"],
        &["cocoon", "client", "status", "--config", "client.toml"],
        &["cocoon", "client", "close", "--config", "client.toml", "--wait"],
        &["cocoon", "client", "withdraw", "--config", "client.toml", "--json"],
    ] {
        Cli::try_parse_from(line).unwrap();
    }
    for line in
        [&["cocoon", "client"][..], &["cocoon", "client", "close"], &["cocoon", "client", "--config", "c", "close"]]
    {
        Cli::try_parse_from(line).unwrap_err();
    }
}
