//! `cocoon client`: runs the role, and beside it `status`, `withdraw` and `close`, which look after its money.
//!
//! 1. The folder of the role (`data_dir`) says which contracts there are; the chain of `[chain]` says how they stand.
//! 2. `status` only reads, so it works beside a running client.
//! 3. `withdraw` and `close` need the wallet to themselves. Where a client runs, it is asked to do it, at `/v1/budget`; else
//!    they do it here, and need nobody else: neither the client nor the proxy.
//! 4. `close` is driven by what the chain says, so it can be stopped and called again at any point. `--wait` stays until
//!    the money is in the wallet, and says what it waits for and until when.
//!
//! Money goes to the owner's wallet, which is the one under `[wallet]`; nothing here can change that.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use cocoon_client::{ClientConfig, ContractReport, ExitStep, Money, Teller};
use cocoon_ton::Address;
use cocoon_ton::wallet::JournalError;
use cocoon_units::Nano;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::role;
use super::ton::words::{span, ton};
use super::ton::{Output, Said};
use crate::chain::{ChainPlan, ChainSettings, Followed};
use crate::money::{self, OwnPurse, Purse, WalletSettings};
use crate::words::moment;
use crate::{config, limits, runtime, terminal};

mod running;

/// Run the client: an OpenAI endpoint for your apps; or see its money, and bring it home
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  cocoon client --config client.toml              run it
  cocoon client status --config client.toml       its contracts with proxies, and what is in them
  cocoon client withdraw --config client.toml     what exceeds the stakes, to the wallet
  cocoon client close --config client.toml --wait everything, to the wallet, also when the proxy is gone")]
pub(crate) struct Args {
    #[command(flatten)]
    role: role::client::Args,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the client's contracts with proxies, and what is in them
    Status(Of),
    /// Pay out what exceeds the contracts' stakes
    ///
    /// The contracts stay open. What is refilled by the rules under [client.budget] is not for long in the wallet.
    Withdraw(Of),
    /// Close the contracts, and bring everything home
    ///
    /// Where the client runs, the proxy is asked first to sign the refund, which pays at once. Otherwise the contract
    /// pays what exceeds the stake at once and the rest after its delay, in which the proxy may still charge what it is
    /// owed. Nobody's help is needed for that. A closed contract serves no more until the network's parameters change.
    Close(CloseArgs),
}

/// Which client, and which of its contracts.
#[derive(Debug, clap::Args)]
struct Of {
    /// The client's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// One contract [default: all of them]
    #[arg(long, value_name = "ADDRESS")]
    contract: Option<Address>,

    /// The API key of an owner, where a running client asks for keys
    #[arg(long, env = "COCOON_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct CloseArgs {
    #[command(flatten)]
    of: Of,

    /// Stay until it is done
    #[arg(long)]
    wait: bool,
}

/// What of the client's configuration counts here. The role itself refuses unknown keys.
#[derive(Debug, Deserialize)]
struct File {
    data_dir: Option<PathBuf>,
    #[serde(default)]
    chain: ChainSettings,
    #[serde(default)]
    wallet: WalletSettings,
    #[serde(default)]
    client: ClientConfig,
}

/// What a command works on.
struct Client {
    folder: PathBuf,
    plan: ChainPlan,
    wallet: WalletSettings,
    config: ClientConfig,
}

/// Who carries a command out.
enum Hands {
    /// This process: the wallet is free.
    Ours(Box<Teller>),
    /// The client that runs.
    Running,
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (of, said) = match &args.action {
        None => return role::client::run(&args.role),
        Some(Action::Status(of)) => (of, runtime::build(1)?.block_on(status(of))?),
        Some(Action::Withdraw(of)) => (of, runtime::build(1)?.block_on(withdraw(of))?),
        Some(Action::Close(close)) => (&close.of, runtime::build(1)?.block_on(self::close(close))?),
    };
    of.output.print(&said)
}

impl Client {
    fn read(path: &Path) -> Result<Self> {
        let mut file = config::read::<File>(path)?.file;
        let plan = std::mem::take(&mut file.chain).plan()?;
        let (plan, folder) = money::with_folder(plan, file.data_dir)?
            .context("a client without [chain] has no money: its configuration names no chain")?;
        Ok(Self { folder, plan, wallet: file.wallet, config: file.client })
    }

    async fn follow(&self) -> Result<Followed> {
        Followed::open(&self.plan, self.config.is_test).await
    }

    /// The wallet, unless a running client has it.
    async fn hands(&self, followed: &Followed) -> Result<Hands> {
        let OwnPurse { purse, secret_seed } = match self.wallet.open(followed, &self.folder, self.config.is_test) {
            Ok(purse) => purse,
            Err(error) if matches!(error.downcast_ref(), Some(JournalError::InUse { .. })) => {
                return Ok(Hands::Running);
            }
            Err(error) => return Err(error),
        };
        let Purse { chain, policy, sender, folder } = purse;
        let teller = Teller::open(Money { chain, policy, sender, folder, secret_seed })?;
        let root = std::sync::Arc::clone(&*followed.root().borrow());
        // For an owner who lost the folder, or restores a backup: what the root's proxies give is looked for.
        teller.search(&root).await?;
        Ok(Hands::Ours(Box::new(teller)))
    }

    async fn reports(&self, followed: &Followed, only: Option<Address>) -> Result<Vec<ContractReport>> {
        let (chain, policy) = followed.chain();
        let reports = cocoon_client::contracts(&self.folder, chain.as_ref(), policy).await?;
        Ok(reports.into_iter().filter(|report| only.is_none_or(|only| report.contract == only)).collect())
    }
}

async fn status(of: &Of) -> Result<Said> {
    let client = Client::read(&of.config)?;
    let followed = client.follow().await?;
    let mut reports = client.reports(&followed, of.contract).await?;
    if reports.is_empty() {
        // A folder that was lost is filled again, unless a client is at it.
        drop(client.hands(&followed).await?);
        reports = client.reports(&followed, of.contract).await?;
    }
    let doubts = running::doubts(&client.config).await;
    let mut text = all_words(&reports);
    for words in doubts.iter().flatten() {
        text.push_str(&format!("\n\nthe running client sends nothing to one of its proxies: {words}"));
    }
    Ok(Said { text, json: json!({ "contracts": reports, "proxies_in_doubt": doubts }) })
}

async fn withdraw(of: &Of) -> Result<Said> {
    let client = Client::read(&of.config)?;
    let followed = client.follow().await?;
    let Hands::Ours(teller) = client.hands(&followed).await? else {
        return running::withdraw(&client.config, of.api_key.as_deref(), of.contract).await;
    };
    let contracts = match of.contract {
        Some(contract) => vec![contract],
        None => teller.contracts(),
    };
    let (mut lines, mut done) = (Vec::new(), Vec::new());
    for contract in contracts {
        match teller.withdraw(contract).await {
            Ok(paid) => {
                lines.push(format!("{} came from {contract}", ton(paid)));
                done.push(json!({ "contract": contract, "paid_nano": paid.get().to_string() }));
            }
            Err(error) => {
                lines.push(error.to_string());
                done.push(json!({ "contract": contract, "error": error.to_string() }));
            }
        }
    }
    if lines.is_empty() {
        lines.push(NO_CONTRACTS.to_owned());
    }
    Ok(Said { text: lines.join("\n"), json: json!({ "contracts": done }) })
}

async fn close(args: &CloseArgs) -> Result<Said> {
    let of = &args.of;
    let client = Client::read(&of.config)?;
    let followed = client.follow().await?;
    match client.hands(&followed).await? {
        Hands::Running => {
            running::close(&client.config, of.api_key.as_deref(), of.contract).await?;
            terminal::note("a client runs with this configuration: it was asked, and closes them in the background.");
            until_closed(&client, &followed, args).await
        }
        Hands::Ours(teller) => {
            let contracts = match of.contract {
                Some(contract) => vec![contract],
                None => teller.contracts(),
            };
            close_here(&teller, contracts, args.wait).await
        }
    }
}

/// Closes contracts one step at a time, all of them side by side.
async fn close_here(teller: &Teller, mut contracts: Vec<Address>, wait: bool) -> Result<Said> {
    let all = contracts.clone();
    let mut told = String::new();
    loop {
        let mut left = Vec::new();
        let mut waits = Vec::new();
        for contract in contracts {
            match out(teller, contract).await? {
                None => terminal::note(&format!("{contract} is closed, and its money is in the wallet")),
                Some((unlock_unix_s, now_unix_s)) => {
                    waits.push(waiting(&contract, unlock_unix_s, now_unix_s));
                    left.push(contract);
                }
            }
        }
        if left.is_empty() || !wait {
            return closed(teller, &all, &waits).await;
        }
        let words = waits.join("\n");
        if words != told {
            terminal::note(&words);
            told = words;
        }
        contracts = left;
        sleep(limits::CLIENT_CLOSE_LOOK).await;
    }
}

/// Goes as far as it can: `None` at the end, else until when it waits and what time it is.
async fn out(teller: &Teller, contract: Address) -> Result<Option<(u32, u32)>> {
    for _ in 0..limits::CLIENT_CLOSE_STEPS_MAX {
        match teller.step_out(contract).await? {
            ExitStep::Over => return Ok(None),
            ExitStep::Waits { unlock_unix_s, now_unix_s } => return Ok(Some((unlock_unix_s, now_unix_s))),
            ExitStep::Asked => {
                terminal::note(&format!("{contract}: the refund is asked for; what exceeds the stake is paid"))
            }
            ExitStep::Collected => terminal::note(&format!("{contract}: the rest is fetched")),
        }
    }
    bail!("{contract} does not come to an end: `cocoon contract show {contract} --history 20` tells what happens there")
}

async fn closed(teller: &Teller, all: &[Address], waits: &[String]) -> Result<Said> {
    let balance = teller.wallet_balance().await?;
    let mut text = match (all.is_empty(), waits.is_empty()) {
        (true, _) => NO_CONTRACTS.to_owned(),
        (false, true) => "all of them are closed".to_owned(),
        (false, false) => format!("{}\nCall this again then, or with --wait.", waits.join("\n")),
    };
    text.push_str(&format!("\nthe wallet {} has {}", teller.owner(), ton(balance)));
    let json = json!({
        "contracts": all,
        "waits": waits,
        "wallet": teller.owner(),
        "wallet_balance_nano": balance.get().to_string(),
    });
    Ok(Said { text, json })
}

/// Waits for a client that closes, by what the chain says.
async fn until_closed(client: &Client, followed: &Followed, args: &CloseArgs) -> Result<Said> {
    let mut told = String::new();
    loop {
        let reports = client.reports(followed, args.of.contract).await?;
        let is_left = |report: &ContractReport| matches!(report.state, "open" | "closing");
        let text = all_words(&reports);
        if !args.wait || !reports.iter().any(is_left) {
            return Ok(Said { text, json: json!({ "contracts": reports }) });
        }
        if text != told {
            terminal::note(&text);
            told = text;
        }
        sleep(limits::CLIENT_CLOSE_LOOK).await;
    }
}

const NOTHING_ABOVE: &str = "nothing was paid out: no contract of this client has more than its stake; `cocoon client status` shows \
     them, and `cocoon client close` brings the stakes home, too";
const NONE_OPEN: &str = "nothing was closed: no contract of this client is open";
const NO_CONTRACTS: &str =
    "this client has no contract with a proxy: nothing of its money is anywhere but in its wallet";

fn waiting(contract: &Address, unlock_unix_s: u32, now_unix_s: u32) -> String {
    let left = unlock_unix_s.saturating_sub(now_unix_s);
    format!(
        "{contract} waits until {}, in {}: the proxy may charge what it is owed until then",
        moment(unlock_unix_s.into()),
        span(left.into())
    )
}

fn all_words(reports: &[ContractReport]) -> String {
    if reports.is_empty() {
        return NO_CONTRACTS.to_owned();
    }
    reports.iter().map(words).collect::<Vec<_>>().join("\n\n")
}

/// One contract, for people.
fn words(report: &ContractReport) -> String {
    let amount = |nano: u64| ton(Nano::new(nano));
    let number = report.number.map(|number| format!("proxy {number}")).unwrap_or_default();
    let mut rows = vec![
        vec!["contract".to_owned(), report.contract.to_string()],
        vec![
            "with".to_owned(),
            format!("{number} {}", report.proxy.map(|proxy| proxy.to_string()).unwrap_or_default()),
        ],
        vec!["state".to_owned(), report.state.to_owned()],
        vec![
            "balance".to_owned(),
            format!("{}; a withdrawal leaves {}", amount(report.balance_nano), amount(report.stake_nano)),
        ],
        vec!["charged".to_owned(), format!("{} adjusted tokens", report.tokens_charged)],
    ];
    if report.due_nano > 0 {
        rows.push(vec!["due".to_owned(), format!("{}, with the refund", amount(report.due_nano))]);
    }
    if let Some(unlock) = report.unlock_unix_s {
        rows.push(vec!["refund".to_owned(), format!("from {} on", moment(unlock.into()))]);
    }
    if report.is_leaving && report.state == "open" {
        rows.push(vec!["next".to_owned(), "it is about to be closed".to_owned()]);
    }
    terminal::table(&rows)
}

/// An answer of a running client, as this command tells it.
fn said(answer: &Value, nothing: &str) -> Said {
    let empty = Vec::new();
    let rows = answer["contracts"].as_array().unwrap_or(&empty);
    let line = |row: &Value| {
        let contract = row["contract"].as_str().unwrap_or_default();
        match (row["paid_nano"].as_u64(), row["error"].as_str()) {
            (Some(paid), _) => format!("{} came from {contract}", ton(Nano::new(paid))),
            (None, Some(error)) => error.to_owned(),
            (None, None) => format!("{contract} is being closed"),
        }
    };
    let text = if rows.is_empty() { nothing.to_owned() } else { rows.iter().map(line).collect::<Vec<_>>().join("\n") };
    Said { text, json: answer.clone() }
}

#[cfg(test)]
mod tests;
