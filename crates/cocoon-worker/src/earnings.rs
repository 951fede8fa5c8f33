//! What this worker earns: kept, verified, cashed, shown.
//!
//! ```text
//!   session ── payments, counts, receipts ──▶ account ──▶ file        (books)
//!                                               │
//!   chain ◀── message with the payment ◀── rules ◀── look             (desk)
//! ```
//!
//! 1. `account.rs` knows one proxy's account and decides nothing about time or disk; `payment.rs` says which signed
//!    payments are taken; `record.rs` is their form on disk.
//! 2. `books.rs` holds all accounts and the file. Sessions write through [`Ours`](books::Ours).
//! 3. `rules.rs` says when cashing is worth its fee; `desk.rs` looks, and sends.
//! 4. This file shows it all as [`Earnings`], and carries out what a person commands.
//!
//! The money of a payout goes from the proxy's contract to the owner that the contract names, whoever presents it. Spec:
//! `ton.md` 1.5, 1.7, 1.10.

pub(crate) mod account;
pub(crate) mod books;
pub(crate) mod desk;
mod errand;
mod payment;
mod record;
mod rules;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_ton::chain::{ChainError, ChainPolicy};
use cocoon_ton::contract::{Lifecycle, StateError};
use cocoon_ton::wallet::Sender;
use cocoon_ton::{Address, Chain};
use cocoon_units::{AdjustedTokens, Clock, Nano, Ton};
use cocoon_wal::{Wal, WalError};
use serde::Serialize;

use self::account::{Account, Trouble};
use self::books::Books;
use self::desk::{Desk, see};
use self::rules::Prospect;
use crate::config::EarningsConfig;

pub use self::errand::{Errand, leave_errand};
pub use self::payment::PaymentError;

/// The name of the file in the worker's folder.
const FILE: &str = "earnings.wal";

/// What a worker needs to be paid on a chain.
#[derive(Debug, Clone)]
pub struct Money {
    /// Where its contracts are.
    pub chain: Arc<dyn Chain>,
    /// Whose word on them counts.
    pub policy: ChainPolicy,
    /// The wallet that pays fees. Earnings go to the owner's, which may be another.
    pub sender: Sender,
    /// A folder that survives restarts, for what proxies signed.
    pub folder: PathBuf,
}

/// Why earnings cannot be kept or shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EarningsError {
    /// A worker runs in this folder.
    #[error("a worker has this folder in use")]
    InUse,
    /// The file cannot be used.
    #[error("the file of earnings cannot be used")]
    File(#[source] WalError),
    /// The file is there and makes no sense.
    #[error(
        "the file of earnings is damaged, or of a later version: {0}; put it aside to begin anew, money in it is lost to this node"
    )]
    Damaged(&'static str),
    /// More contracts than one worker can have to do with.
    #[error("there are too many contracts that paid this worker: cash them, and put the file of earnings aside")]
    TooManyAccounts,
    /// The worker follows no root, so nobody could tell which contracts are its own.
    #[error("a worker that is paid must follow a root contract")]
    NoRoot,
    /// The chain gave no answer that counts.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A contract's state is of another kind.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<WalError> for EarningsError {
    fn from(error: WalError) -> Self {
        match error {
            WalError::InUse { .. } => Self::InUse,
            WalError::TooLong { .. } | WalError::Broken { .. } | WalError::Io { .. } | _ => Self::File(error),
        }
    }
}

/// All that a worker earned, proxy by proxy. It names addresses, so it is for the owner only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Earnings {
    /// One for each contract that pays; a proxy has another after each change of the network's parameters.
    pub proxies: Vec<Earned>,
    /// Signed by proxies, since ever.
    pub signed: Ton,
    /// Of that, paid out to the owner.
    pub cashed: Ton,
    /// Of that, signed and not cashed yet.
    pub cashable: Ton,
    /// Made, and not signed for by any proxy.
    pub unsigned: Ton,
    /// Sent since this worker started, and passed over by payments: it was not delivered, or above what was reserved.
    pub not_paid: Ton,
    /// What is wrong with keeping the file.
    pub problem: Option<String>,
}

/// What one proxy's contract pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Earned {
    /// The proxy's contract.
    pub proxy: Address,
    /// This worker's contract with it.
    pub contract: Address,
    /// How this worker's contract stands: `open`, `closed`, `not deployed`, or `unknown` before the chain was asked.
    pub state: &'static str,
    /// Adjusted tokens that the latest payment is for.
    pub signed_tokens: AdjustedTokens,
    /// What they are worth.
    pub signed: Ton,
    /// Adjusted tokens that the contract has counted.
    pub cashed_tokens: AdjustedTokens,
    /// What was paid for them.
    pub cashed: Ton,
    /// Signed and not paid, in whatever form.
    pub cashable: Ton,
    /// Of that, claimed on the chain already, and not paid since the proxy's contract had too little.
    pub unpaid: Ton,
    /// What the proxy's contract can pay now.
    pub payable: Ton,
    /// Adjusted tokens that were made, and for which nothing is signed; of all workers of this owner.
    pub unsigned_tokens: AdjustedTokens,
    /// What they are worth.
    pub unsigned: Ton,
    /// Adjusted tokens that this worker sent since it started, and payments passed over.
    pub not_paid_tokens: AdjustedTokens,
    /// What they would be worth.
    pub not_paid: Ton,
    /// Receipts kept in case that the proxy loses its own books.
    pub receipts: usize,
    /// Whether the latest payment is the last one, which closes the contract.
    pub is_last: bool,
    /// When the proxy signed last, in Unix seconds.
    pub last_signed_unix_s: Option<u64>,
    /// When a payment was last seen to be cashed.
    pub last_cashed_unix_s: Option<u64>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// What a command did for one contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cashed {
    /// This worker's contract.
    pub contract: Address,
    /// What the message that was sent brings, as far as the chain showed before; zero for a close.
    pub amount: Ton,
    /// Why nothing was sent.
    pub problem: Option<String>,
}

impl Cashed {
    /// As one JSON document.
    #[must_use]
    pub fn to_json(done: &[Self]) -> String {
        serde_json::to_string_pretty(done).expect("numbers and text are JSON")
    }
}

/// Reads the earnings that are kept in a folder, whether or not a worker runs there, and asks the chain about each.
///
/// # Errors
/// When the file cannot be read. A chain that cannot be asked is a problem of the account that is shown.
pub async fn earnings(
    folder: &Path,
    chain: &dyn Chain,
    policy: ChainPolicy,
    clock: &dyn Clock,
) -> Result<Earnings, EarningsError> {
    let mut accounts = books::replay(Wal::read(&folder.join(FILE))?)?;
    for account in accounts.values_mut() {
        match see(chain, policy, account, clock.unix_now().as_secs()).await {
            // What was cashed when is only known to who looks all the time.
            Ok(seen) => account.seen = Some(seen),
            Err(error) => {
                account.troubles.insert(Trouble::Chain, error.to_string());
            }
        }
    }
    Ok(Earnings::of(accounts.values().map(Earned::of).collect(), None))
}

/// Cashes all that is signed, whatever the fees, in a folder where no worker runs.
///
/// # Errors
/// [`EarningsError::InUse`] where one does: leave it an [`Errand`]. Otherwise when the file cannot be used.
pub async fn cash(money: Money, clock: Arc<dyn Clock>) -> Result<Vec<Cashed>, EarningsError> {
    command(money, clock, Errand::Cash).await
}

/// The same, and then closes the contracts, where the wallet is the owner's. What is unpaid stays claimable.
///
/// # Errors
/// As [`cash`].
pub async fn close(money: Money, clock: Arc<dyn Clock>) -> Result<Vec<Cashed>, EarningsError> {
    command(money, clock, Errand::Close).await
}

async fn command(money: Money, clock: Arc<dyn Clock>, errand: Errand) -> Result<Vec<Cashed>, EarningsError> {
    let books = Arc::new(open(&money.folder, EarningsConfig::default(), clock)?);
    let done = Desk::new(Arc::clone(&books), money).command(errand).await;
    books.sync().await;
    let cashed =
        |done: desk::Done| Cashed { contract: done.contract, amount: done.collectable.ton(), problem: done.error };
    Ok(done.into_iter().map(cashed).collect())
}

/// Opens the file of earnings in a folder.
pub(crate) fn open(folder: &Path, config: EarningsConfig, clock: Arc<dyn Clock>) -> Result<Books, EarningsError> {
    Books::open(&folder.join(FILE), config, clock)
}

impl Earnings {
    pub(crate) fn of_books(books: &Books) -> Self {
        Self::of(books.each(Earned::of), books.trouble())
    }

    fn of(proxies: Vec<Earned>, problem: Option<String>) -> Self {
        let sum = |of: fn(&Earned) -> Ton| {
            let sum = proxies.iter().map(|earned| of(earned).nano());
            sum.fold(Nano::ZERO, |sum, one| sum.checked_add(one).unwrap_or(Nano::MAX)).ton()
        };
        Self {
            signed: sum(|earned| earned.signed),
            cashed: sum(|earned| earned.cashed),
            cashable: sum(|earned| earned.cashable),
            unsigned: sum(|earned| earned.unsigned),
            not_paid: sum(|earned| earned.not_paid),
            proxies,
            problem,
        }
    }

    /// As one JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text are JSON")
    }
}

impl Earned {
    fn of(account: &Account) -> Self {
        let seen = account.seen.unwrap_or_default();
        let prospect = Prospect::of(account, &seen);
        let cashed_tokens = AdjustedTokens::new(seen.worker.map_or(0, |worker| worker.tokens));
        let presented = account.worth(cashed_tokens);
        let state = match (account.seen, seen.worker.map(|worker| worker.state)) {
            (None, _) => "unknown",
            (Some(_), None) => "not deployed",
            (Some(_), Some(Lifecycle::Normal | Lifecycle::Closing)) => "open",
            (Some(_), Some(Lifecycle::Closed)) => "closed",
        };
        Self {
            proxy: account.proxy(),
            contract: account.contract(),
            state,
            signed_tokens: account.signed_tokens(),
            signed: account.worth(account.signed_tokens()).ton(),
            cashed_tokens,
            cashed: presented.checked_sub(prospect.unpaid).unwrap_or_default().ton(),
            cashable: prospect.uncashed.checked_add(prospect.unpaid).unwrap_or(Nano::MAX).ton(),
            unpaid: prospect.unpaid.ton(),
            payable: seen.payable.ton(),
            unsigned_tokens: account.unsigned(),
            unsigned: account.worth(account.unsigned()).ton(),
            not_paid_tokens: account.not_paid(),
            not_paid: account.worth(account.not_paid()).ton(),
            receipts: account.receipts(),
            is_last: account.signed().is_some_and(|signed| signed.is_last),
            last_signed_unix_s: account.paid_at_unix_s,
            last_cashed_unix_s: account.cashed_at_unix_s,
            problems: account.troubles.values().cloned().collect(),
        }
    }
}
