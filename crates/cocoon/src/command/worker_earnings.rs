//! `cocoon worker`: runs the role, and beside it `earnings`, `cash` and `close`, which look after what it earned.
//!
//! 1. The folder of the role (`data_dir`) says what proxies signed; the chain of `[chain]` says what became of it.
//! 2. `earnings` only reads, so it works beside a running worker.
//! 3. `cash` and `close` need the wallet and the folder to themselves. Where a worker runs there, it is asked to do it, by a
//!    word in the folder.
//!
//! Money goes to the owner named in the configuration, whoever sends the message; nothing here can change that.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cocoon_attest::Role;
use cocoon_ton::Address;
use cocoon_ton::wallet::JournalError;
use cocoon_units::Nano;
use cocoon_worker::{Cashed, Earned, Earnings, EarningsError, Errand, Money, WorkerConfig};
use serde::Deserialize;

use super::role;
use crate::attestation::{Links, ListedBy, NodeSettings};
use crate::chain::{ChainPlan, ChainSettings, Followed};
use crate::money::{self, Purse};
use crate::{config, runtime, terminal, wiring};

/// Run a worker: an inference engine offered to proxies; or see and cash what it earned
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  cocoon worker --config worker.toml              run it
  cocoon worker earnings --config worker.toml     what proxies signed, what was paid, what is still open
  cocoon worker cash --config worker.toml         present every signed payment now, whatever the fees")]
pub(crate) struct Args {
    #[command(flatten)]
    role: role::worker::Args,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what the worker earned, proxy by proxy
    ///
    /// It may run or not. What is not signed is what the worker trusts its proxies with.
    Earnings(Of),
    /// Cash what proxies signed, whatever the fees
    ///
    /// The worker does so by itself, by the rules under [worker.earnings]. A worker that runs is asked to do it.
    Cash(Of),
    /// Cash, and close the worker's contracts
    ///
    /// Only the owner of a contract can close it. Where that is another wallet than this node's, the command says how.
    Close(Of),
}

/// Which worker.
#[derive(Debug, clap::Args)]
struct Of {
    /// The worker's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Print one JSON document instead of words: amounts in TON as strings, addresses as WORKCHAIN:HEX
    #[arg(long)]
    json: bool,
}

/// What of the worker's configuration counts here. The role itself refuses unknown keys.
#[derive(Debug, Deserialize)]
struct File {
    data_dir: Option<PathBuf>,
    #[serde(default)]
    attestation: NodeSettings,
    #[serde(default)]
    chain: ChainSettings,
    #[serde(default)]
    worker: WorkerConfig,
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.action {
        None => role::worker::run(&args.role),
        Some(Action::Earnings(of)) => runtime::build(1)?.block_on(show(of)),
        Some(Action::Cash(of)) => runtime::build(1)?.block_on(errand(of, Errand::Cash)),
        Some(Action::Close(of)) => runtime::build(1)?.block_on(errand(of, Errand::Close)),
    }
}

/// The configuration, and the chain and the folder that it names.
fn read(of: &Of) -> Result<(config::Read<File>, ChainPlan, PathBuf)> {
    let mut read = config::read::<File>(&of.config)?;
    let plan = std::mem::take(&mut read.file.chain).plan()?;
    let (plan, folder) = money::with_folder(plan, read.file.data_dir.take())?
        .context("a worker without [chain] earns nothing: its configuration names no chain")?;
    Ok((read, plan, folder))
}

async fn show(of: &Of) -> Result<()> {
    let (read, plan, folder) = read(of)?;
    let earnings = earnings(&plan, read.file.worker.is_test, &folder).await?;
    terminal::line(&if of.json { earnings.to_json() } else { words(&earnings, read.file.worker.is_test) });
    Ok(())
}

async fn earnings(plan: &ChainPlan, is_test: bool, folder: &Path) -> Result<Earnings> {
    let followed = Followed::open(plan, is_test).await?;
    let (chain, policy) = followed.chain();
    let earnings = cocoon_worker::earnings(folder, chain.as_ref(), policy, wiring::clock().as_ref()).await;
    earnings.with_context(|| format!("cannot read the earnings in {}", folder.display()))
}

async fn errand(of: &Of, errand: Errand) -> Result<()> {
    let (read, plan, folder) = read(of)?;
    let (sha256, File { attestation, worker, .. }) = (read.sha256, read.file);
    let owner = worker.owner_address.parse().context("`owner_address` under [worker] is no address")?;
    let links = Links::of_node(Role::Worker, attestation, sha256, ListedBy::of(Some(&plan)))?;
    let followed = Followed::open(&plan, worker.is_test).await?;
    let Some(done) = carry_out(&followed, &folder, &links, owner, errand).await? else {
        cocoon_worker::leave_errand(&folder, errand)
            .with_context(|| format!("cannot leave word for the worker in {}", folder.display()))?;
        terminal::note(
            "a worker runs with this configuration: it was asked, and cashes what is signed within seconds.",
        );
        terminal::note("See what came of it with `cocoon worker earnings`.");
        return advise(of, &plan, worker.is_test, &folder, errand).await;
    };
    terminal::line(&if of.json { Cashed::to_json(&done) } else { done_words(&done, worker.is_test) });
    advise(of, &plan, worker.is_test, &folder, errand).await
}

/// What is left to whoever wants the contract closed.
async fn advise(of: &Of, plan: &ChainPlan, is_test: bool, folder: &Path, errand: Errand) -> Result<()> {
    if errand == Errand::Close && !of.json {
        advise_close(&earnings(plan, is_test, folder).await?, is_test);
    }
    Ok(())
}

/// Does it here; `None` where a worker runs.
async fn carry_out(
    followed: &Followed,
    folder: &Path,
    links: &Links,
    owner: Address,
    errand: Errand,
) -> Result<Option<Vec<Cashed>>> {
    let Purse { chain, policy, sender, folder } =
        match Purse::of_node(followed, folder, links.lasting_keys()?.wallet(), owner) {
            Ok(purse) => purse,
            Err(error) if matches!(error.downcast_ref(), Some(JournalError::InUse { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
    let money = Money { chain, policy, sender, folder };
    let done = match errand {
        Errand::Cash => cocoon_worker::cash(money, wiring::clock()).await,
        Errand::Close => cocoon_worker::close(money, wiring::clock()).await,
    };
    match done {
        Ok(done) => Ok(Some(done)),
        Err(EarningsError::InUse) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The owner's way, where this node's wallet is not the owner's.
fn advise_close(earnings: &Earnings, is_test: bool) {
    let open: Vec<&Earned> = earnings.proxies.iter().filter(|earned| earned.state == "open").collect();
    if open.is_empty() {
        return;
    }
    terminal::note("Only the owner's wallet closes a contract; with its key:");
    for earned in open {
        terminal::note(&format!("  cocoon contract close {} --wallet KEY", earned.contract.friendly(true, is_test)));
    }
}

fn words(earnings: &Earnings, is_test: bool) -> String {
    if earnings.proxies.is_empty() {
        return "No proxy has paid this worker yet.".to_owned();
    }
    let mut rows =
        vec![["PROXY", "SIGNED", "CASHED", "CASHABLE", "UNSIGNED", "CONTRACT", "STATE"].map(str::to_owned).to_vec()];
    rows.extend(earnings.proxies.iter().map(|earned| row(earned, is_test)));
    let total =
        [earnings.signed, earnings.cashed, earnings.cashable, earnings.unsigned].map(|amount| amount.to_string());
    rows.push([vec!["all, in TON".to_owned()], total.to_vec()].concat());
    let mut text = terminal::table(&rows);
    for earned in &earnings.proxies {
        for note in notes(earned) {
            text.push_str(&format!("\n{}: {note}", earned.proxy.friendly(true, is_test)));
        }
    }
    if let Some(problem) = &earnings.problem {
        text.push_str(&format!("\n{problem}"));
    }
    text
}

fn row(earned: &Earned, is_test: bool) -> Vec<String> {
    let amounts = [earned.signed, earned.cashed, earned.cashable, earned.unsigned].map(|amount| amount.to_string());
    let mut row = vec![earned.proxy.friendly(true, is_test)];
    row.extend(amounts);
    row.extend([earned.contract.friendly(true, is_test), earned.state.to_owned()]);
    row
}

fn notes(earned: &Earned) -> Vec<String> {
    let mut notes = earned.problems.clone();
    if earned.cashable > earned.payable {
        let (cashable, payable) = (earned.cashable, earned.payable);
        notes.push(format!("its contract can pay {payable} TON of {cashable} now; the rest stays a claim"));
    }
    if earned.unpaid.nano() > Nano::ZERO {
        notes.push(format!("{} TON were presented and are not paid yet", earned.unpaid));
    }
    if earned.not_paid.nano() > Nano::ZERO {
        notes.push(format!("{} TON are not paid: not delivered, or above what was reserved", earned.not_paid));
    }
    if earned.is_last {
        notes.push("it has signed its last payment".to_owned());
    }
    notes
}

fn done_words(done: &[Cashed], is_test: bool) -> String {
    if done.is_empty() {
        return "There is nothing to cash now.".to_owned();
    }
    let lines = done.iter().map(|one| {
        let contract = one.contract.friendly(true, is_test);
        match &one.problem {
            Some(problem) => format!("{contract}: nothing was sent: {problem}"),
            None if one.amount.nano() == Nano::ZERO => format!("{contract}: sent"),
            None => format!("{contract}: sent, for {} TON", one.amount),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use cocoon_worker::EarningsConfig;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let command = Cli::try_parse_from(line.split(' '))?.command;
        let Command::Worker(args) = command else { panic!("{command:?}") };
        Ok(args)
    }

    #[test]
    fn the_role_and_its_commands_are_told_apart() {
        assert!(parse("cocoon worker --config F").unwrap().action.is_none());
        assert!(parse("cocoon worker --print-default-config").unwrap().action.is_none());
        assert!(matches!(parse("cocoon worker earnings --config F --json").unwrap().action, Some(Action::Earnings(_))));
        assert!(matches!(parse("cocoon worker cash --config F").unwrap().action, Some(Action::Cash(_))));
        assert!(matches!(parse("cocoon worker close --config F").unwrap().action, Some(Action::Close(_))));
        assert!(parse("cocoon worker").is_err());
        assert!(parse("cocoon worker earnings").is_err());
    }

    #[test]
    fn the_whole_configuration_of_a_worker_is_read() {
        let text = include_str!("../../config/worker.toml");
        config::parse::<File>(text).unwrap();
        config::samples::shows_every_key::<EarningsConfig>(text, &["worker", "earnings"], &[]);
    }

    fn earned() -> Earned {
        let ton = |nano| Nano::new(nano).ton();
        Earned {
            proxy: Address::basechain([1; 32]),
            contract: Address::basechain([2; 32]),
            state: "open",
            signed_tokens: cocoon_units::AdjustedTokens::new(100),
            signed: ton(3_000_000_000),
            cashed_tokens: cocoon_units::AdjustedTokens::new(50),
            cashed: ton(1_000_000_000),
            cashable: ton(2_000_000_000),
            unpaid: ton(500_000_000),
            payable: ton(1_500_000_000),
            unsigned_tokens: cocoon_units::AdjustedTokens::new(1),
            unsigned: ton(30_000_000),
            not_paid_tokens: cocoon_units::AdjustedTokens::new(7),
            not_paid: ton(210_000_000),
            receipts: 2,
            is_last: false,
            last_signed_unix_s: None,
            last_cashed_unix_s: None,
            problems: vec!["trouble".to_owned()],
        }
    }

    #[test]
    fn amounts_are_in_ton_and_what_is_wrong_is_said() {
        let earned = earned();
        let earnings = Earnings {
            signed: earned.signed,
            cashed: earned.cashed,
            cashable: earned.cashable,
            unsigned: earned.unsigned,
            not_paid: earned.not_paid,
            proxies: vec![earned],
            problem: None,
        };
        let text = words(&earnings, true);
        for part in [
            "3",
            "0.03",
            "trouble",
            "1.5 TON of 2 now",
            "0.5 TON were presented",
            "0.21 TON are not paid",
            "all, in TON",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let none = Earnings { proxies: Vec::new(), ..earnings };
        assert!(words(&none, true).contains("No proxy"));
    }
}
