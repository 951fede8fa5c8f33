//! `cocoon contract`: any contract of the network, its state and its history in words, and its owner's way out.

mod close;

use anyhow::Result;
use clap::Subcommand;
use cocoon_ton::Address;
use cocoon_ton::chain::{Account, Status};
use cocoon_ton::contract::{Params, RootState};
use cocoon_ton::explain::{self, Contract, Line, Names};
use serde_json::{Value, json};

use super::ton::history::{History, lines, lines_json};
use super::ton::network::{NetworkArgs, Session, proof_words};
use super::ton::statement::Statement;
use super::ton::{Output, Said, words};
use crate::{limits, runtime};

/// Say what a contract holds and did: root, steward, proxy, client, worker, wallet; or leave it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon contract show EQ…
  cocoon contract show EQ… --history 20
  cocoon contract show EQ… --statement    every movement of its money, and whether they make the balance
  cocoon contract show EQ… --json --chain https://toncenter.com
  cocoon contract close EQ… --wait        its owner's way out, with everybody else dead")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Action {
    Show(ShowArgs),
    Close(close::CloseArgs),
}

/// Say what an account is, holds and did
///
/// State is read from the account's data, by the layout of its code; nothing is asked of the contract itself. Where a
/// server only reports the account, that is said.
#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The account
    #[arg(value_name = "ADDRESS")]
    address: Address,

    /// Tell its newest transactions, too
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=limits::HISTORY_SHOWN_MAX))]
    history: u16,

    /// Tell every movement of its money since the beginning, and whether they make its balance
    #[arg(long)]
    statement: bool,
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let session = args.network.open()?;
    let said = runtime::build(1)?.block_on(async {
        match &args.action {
            Action::Show(args) => show(&session, args).await,
            Action::Close(close) => close::close(&session, close).await,
        }
    })?;
    args.output.print(&said)
}

/// Tells an account.
async fn show(session: &Session, args: &ShowArgs) -> Result<Said> {
    let ShowArgs { address, history, statement } = *args;
    let told = session.chain.account(&address).await?;
    let proof = proof_words(session, told.proof());
    let account = told.for_display();
    let params = params(session).await;
    let contract = contract(&account, params.as_ref());
    let names = contract.as_ref().map(Names::of).unwrap_or_default();
    let mut facts = explain::state(&account, params.as_ref());
    facts.insert(1, Line::part("friendly", words::contract(&address, session.kind)));
    facts.push(Line::new("proof", proof.clone()));
    let mut text = lines(&facts);
    if let Some(advice) = advice(session, &account, contract.is_some()) {
        text.push_str(&format!("\n{advice}"));
    }
    let mut done = Value::Null;
    if history > 0 {
        let history = History::read(session, &address, history.into()).await?;
        text.push_str(&format!("\n\n{}", history.text(&names)));
        done = history.json(&names);
    }
    let mut movements = Value::Null;
    if statement {
        let statement = Statement::read(session, &address, &account, &names).await?;
        text.push_str(&format!("\n\n{}", statement.text()));
        movements = statement.json();
    }
    let json = json!({
        "address": address,
        "chain": session.endpoint,
        "status": status(account.status),
        "balance_nano": account.balance.get().to_string(),
        "contract": contract.as_ref().map(Contract::to_string),
        "code_hash": account.code.as_ref().map(|code| hex::encode(code.repr_hash().0)),
        "last_transaction": account.last.map(|last| hex::encode(last.hash)),
        "facts": lines_json(&facts),
        "proof": proof,
        "history": done,
        "statement": movements,
    });
    Ok(Said { text, json })
}

/// The root's parameters, where the network's root is known: contracts with codes that it publishes are recognised.
async fn params(session: &Session) -> Option<Params> {
    let root = session.record.as_ref()?.root;
    let data = session.chain.account(&root).await.ok()?.for_display().data?;
    RootState::parse(&data).ok().map(|state| state.params)
}

fn contract(account: &Account, params: Option<&Params>) -> Option<Contract> {
    let (code, data) = (account.code.as_ref()?, account.data.as_ref()?);
    explain::recognise(code, data, params).ok().map(|(contract, _)| contract)
}

const fn status(status: Status) -> &'static str {
    match status {
        Status::Missing => "missing",
        Status::Uninit => "uninit",
        Status::Active => "active",
        Status::Frozen => "frozen",
    }
}

/// What to do about an account that is no Cocoon contract.
fn advice(session: &Session, account: &Account, is_ours: bool) -> Option<String> {
    match account.status {
        Status::Missing => Some(format!(
            "there is nothing at this address on {} ({}): is it the right network?",
            session.kind.name(),
            session.endpoint
        )),
        Status::Uninit => Some("a contract can be deployed here, by a message with its code".to_owned()),
        Status::Frozen => Some("whoever holds its last state can bring it back, with money for its storage".to_owned()),
        Status::Active if !is_ours => Some("this is no contract of Cocoon".to_owned()),
        Status::Active => None,
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ton::wallet::Outgoing;
    use cocoon_units::Nano;

    use super::*;
    use crate::command::ton::sender::WalletArgs;
    use crate::command::ton::stage::{Stage, parse};

    async fn shown(stage: &Stage, address: Address, history: u16) -> Said {
        let args = ShowArgs { address, history, statement: false };
        stage.run(show(&stage.session, &args)).await.unwrap()
    }

    #[track_caller]
    fn all(words: &str, parts: &[&str]) {
        for part in parts {
            assert!(words.contains(part), "{part:?} is missing in:\n{words}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_said_so() {
        let stage = Stage::new();
        let said = shown(&stage, Address::basechain([9; 32]), 3).await;
        all(&said.text, &["never used", "there is nothing at this address on a devnet", "nothing has happened here"]);
        assert_eq!((&said.json["status"], &said.json["contract"]), (&json!("missing"), &Value::Null));
        all(said.json["proof"].as_str().unwrap(), &["this process runs the chain"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wallet_of_another_kind_is_no_contract_of_cocoon() {
        let stage = Stage::new();
        let address = stage.wallet("wallet.key", 1);
        stage.fund(address, 10).await;
        all(&shown(&stage, address, 0).await.text, &["no contract yet", "10 TON", "can be deployed here"]);
        let wallet = parse::<WalletArgs>(&[]).unwrap().open(&stage.session).unwrap();
        let pay = Outgoing::pay(Address::basechain([7; 32]), Nano::new(1));
        stage.run(wallet.send(&stage.session, vec![pay])).await.unwrap();
        let said = shown(&stage, address, 2).await;
        all(&said.text, &["none of Cocoon's", "this is no contract of Cocoon", "10 TON"]);
        assert_eq!(said.json["history"].as_array().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cocoon_wallet_tells_what_it_is_and_did() {
        let stage = Stage::new();
        stage.wallet("wallet.key", 1);
        let owner = Address::basechain([5; 32]);
        let args: WalletArgs = parse(&["--kind", "cocoon", "--owner", &owner.raw()]).unwrap();
        let wallet = args.open(&stage.session).unwrap();
        let address = wallet.wallet.address();
        stage.fund(address, 10).await;
        let pay = Outgoing::pay(owner, Nano::new(1));
        stage.run(wallet.send(&stage.session, vec![pay])).await.unwrap();
        let said = shown(&stage, address, 1).await;
        all(&said.text, &["Cocoon wallet", "code known to this program", "(owner)", "1 older ones are left out"]);
        assert_eq!(said.json["contract"], json!("Cocoon wallet"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_tells_every_movement_and_ends_at_the_balance() {
        let stage = Stage::new();
        let address = stage.wallet("wallet.key", 1);
        stage.fund(address, 10).await;
        let wallet = parse::<WalletArgs>(&[]).unwrap().open(&stage.session).unwrap();
        let pay = Outgoing::pay(Address::basechain([7; 32]), Nano::new(1_500_000_000));
        stage.run(wallet.send(&stage.session, vec![pay])).await.unwrap();
        let args = ShowArgs { address, history: 0, statement: true };
        let said = stage.run(show(&stage.session, &args)).await.unwrap();
        all(&said.text, &["+10.000000000", "-1.500000000", "fees", "these movements make the balance: 8.49"]);
        let statement = &said.json["statement"];
        assert_eq!((&statement["is_explained"], &statement["sum_nano"]), (&json!(true), &said.json["balance_nano"]));
        let movements = statement["movements"].as_array().unwrap();
        let changes =
            movements.iter().map(|movement| movement["change_nano"].as_str().unwrap().parse::<i64>().unwrap());
        assert_eq!(changes.sum::<i64>().to_string(), said.json["balance_nano"].as_str().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_leaves_transactions_out_makes_no_statement_that_adds_up() {
        let stage = Stage::new();
        let address = stage.wallet("wallet.key", 1);
        stage.fund(address, 10).await;
        let mut account = stage.session.chain.account(&address).await.unwrap().for_display();
        account.balance = Nano::new(11 * crate::command::ton::stage::TON);
        let statement = Statement::read(&stage.session, &address, &account, &Names::default()).await.unwrap();
        all(&statement.text(), &["these movements make 10.000000000 TON, and the balance is 11.000000000 TON"]);
        assert_eq!(statement.json()["is_explained"], json!(false));
    }
}
