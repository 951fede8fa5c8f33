//! The start: is this ledger the one that the chain knows, and is the proxy's contract there?
//!
//! 1. The history of the node's wallet is read for commits, from the last one that the ledger saw, or from its beginning
//!    ([`super::history`]). The one with the highest number counts, not the last: who can send from the wallet cannot
//!    hide a later commit behind an old one.
//! 2. The ledger judges it. A wallet without commits and a new ledger are a first start; commits on the chain that the
//!    ledger does not know are an older database, or another machine's: nothing is served, and nothing spent.
//! 3. The contract is deployed and staked from the node's wallet, if it is not there.

use cocoon_ledger::{Ledger, RolledBack};
use cocoon_ton::Address;
use cocoon_ton::chain::{ChainError, Transaction};
use cocoon_ton::contract::{Lifecycle, ProxyState};
use cocoon_ton::wallet::{PastOutcome, SendError};
use cocoon_units::Nano;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::act::{ActError, Till};
use super::desk::{Desk, DeskError};
use super::history::{Cursor, commits};
use super::instance::Instance;
use super::limits::{CHAIN_RETRY, DEPLOY_TIMEOUT, INSTANCES_MAX, START_ATTEMPTS};
use super::log::LogReader;
use crate::books::CURSOR_NOTE;

/// The ledger's note of instances that are not closed to the end.
pub(super) const INSTANCES_NOTE: &str = "settlement.instances";

/// Why a proxy cannot settle, and so must not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettlementError {
    /// Money without a root to follow.
    #[error("a proxy with money follows a root contract, and this one has none: set [chain]")]
    NoRoot,
    /// The ledger is not the one that the chain knows.
    #[error(transparent)]
    RolledBack(#[from] RolledBack),
    /// The chain gives no answer that may be used.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The books are those of another wallet, whose commits are not in the history of this one.
    #[error(
        "these books belong to the wallet {books}, and this proxy's is {wallet}: give it back the owner that it had, or begin with \
         new books once all contracts of the old ones are closed"
    )]
    OtherWallet {
        /// Of this proxy.
        wallet: Address,
        /// Of the books.
        books: Address,
    },
    /// The chain does not give the history that the ledger is compared with.
    #[error(
        "the history of the node's wallet {wallet} cannot be read back to its beginning, so nobody can tell whether these books \
         are the newest: put the newest database back, or use a server that keeps the whole history ({source})"
    )]
    History {
        /// Of the node.
        wallet: Address,
        /// What came instead.
        source: ChainError,
    },
    /// The contract of the moment was closed.
    #[error(
        "the proxy's contract {contract} is closed, and a closed contract never opens again: wait for new parameters of the \
         root, or use another owner wallet and new books"
    )]
    Closed {
        /// Which.
        contract: Address,
    },
    /// Something else is where the contract should be.
    #[error("the proxy's contract {contract} cannot be used: {why}")]
    Contract {
        /// Which.
        contract: Address,
        /// What is wrong.
        why: String,
    },
    /// The wallet could not pay for the contract.
    #[error("the proxy's contract {contract} must be deployed with a stake of {} TON: {why}", stake.ton())]
    Stake {
        /// Which.
        contract: Address,
        /// What it lacks.
        stake: Nano,
        /// What the wallet said.
        why: String,
    },
    /// It was sent and did not come to be.
    #[error("the proxy's contract {contract} was deployed and is not there: look at it with `cocoon contract show`")]
    NotThere {
        /// Which.
        contract: Address,
    },
}

/// What the start found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) current: Instance,
    pub(super) state: ProxyState,
    pub(super) old: Vec<(Instance, ProxyState)>,
    /// How far the logs of all these were read.
    pub(super) logs: Vec<LogReader>,
    /// How far the history of the node's wallet was read.
    pub(super) history: LogReader,
    /// The newest own commit on the chain.
    pub(super) seen: Option<Cursor>,
}

/// Compares, then deploys.
pub(super) async fn start(
    desk: &Desk,
    till: &Till,
    current: Instance,
    ledger: &Ledger,
) -> Result<Found, SettlementError> {
    let cursor = ledger.note(CURSOR_NOTE).and_then(|bytes| Cursor::from_bytes(bytes));
    let (history, seen) = read_history(till, cursor, ledger).await?;
    ledger.check_chain(seen.map(|seen| seen.commit))?;
    let old = old_instances(desk, ledger, current.contract).await?;
    let mut logs = Vec::new();
    for contract in std::iter::once(current.contract).chain(old.iter().map(|(old, _)| old.contract)) {
        // All its accounts are read anew; only what comes from now on matters.
        let account = retried(|| till.chain.account(&contract)).await?.for_money(till.policy)?;
        logs.push(LogReader { account: contract, after: account.last });
    }
    let state = deployed(desk, till, &current).await?;
    if state.state == Lifecycle::Closed {
        return Err(SettlementError::Closed { contract: current.contract });
    }
    Ok(Found { current, state, old, logs, history, seen })
}

/// Reads the wallet's history on from the cursor, or all of it, where there is none and where the chain does not know its
/// transaction. Says how far it was read, and the newest commit in it.
async fn read_history(
    till: &Till,
    cursor: Option<Cursor>,
    ledger: &Ledger,
) -> Result<(LogReader, Option<Cursor>), SettlementError> {
    let wallet = till.wallet.address();
    if let Some(cursor) = cursor {
        if cursor.wallet != wallet {
            return Err(SettlementError::OtherWallet { wallet, books: cursor.wallet });
        }
        let mut history = LogReader { account: wallet, after: Some(cursor.at) };
        match read_to_end(till, &mut history, ledger).await {
            Ok(newer) => return Ok((history, newest(Some(cursor), newer))),
            Err(SettlementError::Chain(ChainError::Gap { .. })) => {
                warn!("the chain does not know the last commit's transaction: all of the wallet's history is read");
            }
            Err(error) => return Err(error),
        }
    }
    let mut history = LogReader { account: wallet, after: None };
    match read_to_end(till, &mut history, ledger).await {
        Ok(seen) => Ok((history, seen)),
        Err(SettlementError::Chain(source @ (ChainError::Gap { .. } | ChainError::BadAnswer(_)))) => {
            Err(SettlementError::History { wallet, source })
        }
        Err(error) => Err(error),
    }
}

/// Reads on to the end, and judges every commit on the way: two of the same number mean that two copies of a database
/// ran. It stops early once the ledger is known to be too old, so that books that lost everything do not cost the
/// reading of years.
async fn read_to_end(till: &Till, history: &mut LogReader, ledger: &Ledger) -> Result<Option<Cursor>, SettlementError> {
    let wallet = history.account;
    let (mut seen, mut failures) = (None, 0);
    loop {
        let mut found = Vec::new();
        let hear = |transaction: &Transaction| {
            found.extend(commits(transaction).map(|commit| Cursor { wallet, at: transaction.id, commit }));
        };
        let read = history.read(till.chain.as_ref(), till.policy, hear).await;
        for cursor in &found {
            // One that is too new is judged below, by the newest.
            if let Err(forked @ RolledBack::Forked { .. }) = ledger.check_chain(Some(cursor.commit)) {
                return Err(forked.into());
            }
            seen = newest(seen, Some(*cursor));
        }
        if let Some(Cursor { commit, .. }) = seen {
            ledger.check_chain(Some(commit))?;
        }
        match read {
            Ok(true) => return Ok(seen),
            Ok(false) => info!(after = ?history.after, "reading the history of the node's wallet"),
            Err(error) if is_passing(&error) && failures < START_ATTEMPTS => {
                failures += 1;
                sleep(CHAIN_RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The one with the higher number.
fn newest(one: Option<Cursor>, other: Option<Cursor>) -> Option<Cursor> {
    match (one, other) {
        (Some(one), Some(other)) if one.commit.number > other.commit.number => Some(one),
        (one, other) => other.or(one),
    }
}

async fn old_instances(
    desk: &Desk,
    ledger: &Ledger,
    current: Address,
) -> Result<Vec<(Instance, ProxyState)>, SettlementError> {
    let mut found = Vec::new();
    for contract in ledger.note(INSTANCES_NOTE).map(|bytes| addresses(bytes)).unwrap_or_default() {
        if contract == current {
            continue;
        }
        match read_proxy(desk, contract).await? {
            Some(instance) => found.push(instance),
            None => warn!(contract = %contract.raw(), "an earlier contract of this proxy is not there any more"),
        }
    }
    Ok(found)
}

/// The current contract as it is, deployed and staked first where it must be.
pub(super) async fn deployed(desk: &Desk, till: &Till, instance: &Instance) -> Result<ProxyState, SettlementError> {
    let contract = instance.contract;
    // What an earlier process sent for this may still be on its way.
    let under_way = till.wallet.past().await.is_some_and(|past| {
        matches!(past.outcome, PastOutcome::Landed(_)) && past.messages.iter().any(|(to, _)| *to == contract)
    });
    let least = instance.params.min_proxy_stake;
    let is_enough = |state: &ProxyState| state.state != Lifecycle::Normal || state.stake >= least;
    let mut found = read_proxy(desk, contract).await?.map(|(_, state)| state);
    if under_way && found.is_none() {
        found = wait_for(desk, contract, &is_enough).await?;
    }
    if let Some(state) = &found
        && is_enough(state)
    {
        return Ok(state.clone());
    }
    let has = found.as_ref().map_or(Nano::ZERO, |state| state.stake);
    let stake = least.checked_sub(has).unwrap_or(Nano::ZERO);
    info!(contract = %contract.raw(), stake = %stake.ton(), "the proxy's contract is staked");
    match till.stake(instance, stake, found.is_none()).await {
        Ok(()) => {}
        // It may have landed; what is there decides.
        Err(ActError::NoChange(_) | ActError::Wallet(SendError::ChainDown { in_flight: true, .. })) => {}
        Err(error) => return Err(SettlementError::Stake { contract, stake, why: error.to_string() }),
    }
    wait_for(desk, contract, &is_enough).await?.ok_or(SettlementError::NotThere { contract })
}

async fn wait_for(
    desk: &Desk,
    contract: Address,
    is_there: &(dyn Fn(&ProxyState) -> bool + Sync),
) -> Result<Option<ProxyState>, SettlementError> {
    let until = Instant::now() + DEPLOY_TIMEOUT;
    loop {
        match read_proxy(desk, contract).await? {
            Some((_, state)) if is_there(&state) => return Ok(Some(state)),
            Some(_) | None if Instant::now() >= until => return Ok(None),
            Some(_) | None => sleep(CHAIN_RETRY).await,
        }
    }
}

async fn read_proxy(desk: &Desk, contract: Address) -> Result<Option<(Instance, ProxyState)>, SettlementError> {
    let mut failures = 0;
    loop {
        match desk.proxy(contract).await {
            Ok(found) => return Ok(found),
            Err(DeskError::Chain(error)) if is_passing(&error) && failures < START_ATTEMPTS => {
                failures += 1;
                sleep(CHAIN_RETRY).await;
            }
            Err(DeskError::Chain(error)) => return Err(error.into()),
            Err(error) => return Err(SettlementError::Contract { contract, why: error.to_string() }),
        }
    }
}

async fn retried<T, F>(mut ask: impl FnMut() -> F) -> Result<T, ChainError>
where
    F: Future<Output = Result<T, ChainError>>,
{
    let mut failures = 0;
    loop {
        match ask().await {
            Err(error) if is_passing(&error) && failures < START_ATTEMPTS => {
                failures += 1;
                sleep(CHAIN_RETRY).await;
            }
            done => return done,
        }
    }
}

/// Whether asking again may help.
const fn is_passing(error: &ChainError) -> bool {
    matches!(error, ChainError::Unreachable { .. } | ChainError::RateLimited { .. })
}

/// Addresses of the basechain, as the note keeps them.
pub(super) fn addresses(bytes: &[u8]) -> Vec<Address> {
    let (chunks, _) = bytes.as_chunks::<32>();
    chunks.iter().take(INSTANCES_MAX).map(|account| Address::basechain(*account)).collect()
}
