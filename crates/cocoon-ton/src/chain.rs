//! The chain as roles see it: one trait, and for every answer how far it can be trusted.
//!
//! 1. Whoever asks gets [`Proved<T>`]: a value and the kind of its proof.
//! 2. [`ChainPolicy`] says which kinds decide about money and trust; a server's word is not one of them.
//! 3. Get-methods are not here: [`crate::get_method`] runs them on fetched state, alike for every backend.
//!
//! Backends: the embedded devnet (`crate::devnet`), [`toncenter`] over HTTP. A lite client with proofs is to come; its
//! answers will be [`Proof::Verified`].

pub mod toncenter;
pub mod watch;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_units::Nano;
use tokio::sync::watch as channel;
use tycho_types::cell::Cell;
use tycho_types::models::BlockchainConfig;

use crate::address::Address;

mod transaction;

pub use transaction::{Message, MessageKind, Outcome, Transaction};

/// A blockchain.
///
/// Every method may fail for reasons of the network; none of them retries, callers do ([`watch`], [`crate::wallet`]).
#[async_trait]
pub trait Chain: Send + Sync + fmt::Debug {
    /// The newest block.
    async fn head(&self) -> Result<Proved<Head>, ChainError>;

    /// An account as of the newest block; one that was never used is [`Status::Missing`].
    async fn account(&self, address: &Address) -> Result<Proved<Account>, ChainError>;

    /// Transactions of an account after `after` (from its first when `None`), oldest first, without a gap: each names
    /// the hash of the one before, and the first names `after`. At most `limit`, the oldest of those there are.
    ///
    /// # Errors
    ///
    /// [`ChainError::Gap`] when the chain of hashes does not close.
    async fn transactions(
        &self,
        address: &Address,
        after: Option<TxId>,
        limit: usize,
    ) -> Result<Proved<Vec<Transaction>>, ChainError>;

    /// Hands an external message (its root cell) to the network. It may still expire or be refused later: only a
    /// transaction of the destination shows that it arrived.
    ///
    /// # Errors
    ///
    /// [`ChainError::Refused`] when the contract does not take it now.
    async fn send(&self, message: &Cell) -> Result<[u8; 32], ChainError>;

    /// Tells when an account may have changed: the value is its last transaction. It says nothing that must be
    /// trusted; whoever hears it fetches.
    async fn subscribe(&self, address: &Address) -> Result<channel::Receiver<Option<TxId>>, ChainError>;

    /// The network's configuration: prices of gas and storage, limits, and the version of the machine.
    async fn config(&self) -> Result<Proved<Arc<BlockchainConfig>>, ChainError>;
}

/// A block of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number in the masterchain.
    pub seqno: u32,
    /// Its time in seconds since the Unix epoch, which unlocks and expiries count by.
    pub unix_s: u32,
    /// Its last logical time.
    pub lt: u64,
}

/// A transaction of an account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TxId {
    /// Its logical time.
    pub lt: u64,
    /// The hash of its cell.
    pub hash: [u8; 32],
}

impl fmt::Debug for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.lt, hex::encode(self.hash))
    }
}

/// Whether an account is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Never used.
    Missing,
    /// Has money or history, and no code.
    Uninit,
    /// Has code.
    Active,
    /// Froze, since it could not pay for storage.
    Frozen,
}

/// The state of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose it is.
    pub address: Address,
    /// Whether it is there.
    pub status: Status,
    /// Its money.
    pub balance: Nano,
    /// Its code, when active.
    pub code: Option<Cell>,
    /// Its data, when active.
    pub data: Option<Cell>,
    /// Its last transaction.
    pub last: Option<TxId>,
    /// The block of which this is the state.
    pub at: Head,
}

/// Where an answer's truth comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// This process runs the chain.
    Local,
    /// Checked from a pinned block to the answer.
    Verified {
        /// The masterchain block that the proof ends in.
        seqno: u32,
    },
    /// A server said so, and nothing shows that it is true.
    Reported,
}

/// An answer that cannot be used without a word on its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an answer is opened with `for_money` or `for_display`"]
pub struct Proved<T> {
    value: T,
    proof: Proof,
}

impl<T> Proved<T> {
    /// An answer of a backend.
    pub const fn new(value: T, proof: Proof) -> Self {
        Self { value, proof }
    }

    /// Its proof.
    pub const fn proof(&self) -> Proof {
        self.proof
    }

    /// The answer, for a decision about money or trust.
    ///
    /// # Errors
    ///
    /// [`ChainError::Unproved`] when the policy asks for more than a server's word.
    pub fn for_money(self, policy: ChainPolicy) -> Result<T, ChainError> {
        match (self.proof, policy) {
            (Proof::Local | Proof::Verified { .. }, _) | (Proof::Reported, ChainPolicy::InsecureReported) => {
                Ok(self.value)
            }
            (Proof::Reported, ChainPolicy::Proved) => Err(ChainError::Unproved),
        }
    }

    /// The answer, to be shown to a person or to decide nothing but when to ask again.
    pub fn for_display(self) -> T {
        self.value
    }

    /// Another value with the same proof.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Proved<U> {
        Proved { value: change(self.value), proof: self.proof }
    }
}

/// Which answers decide about money and trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChainPolicy {
    /// Those that are proved.
    #[default]
    Proved,
    /// Also those that a server merely reports. For development.
    InsecureReported,
}

/// Why the chain gave no answer, grouped by whose fault it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The server cannot be reached, or answers that it cannot serve.
    #[error("the chain at {endpoint} does not answer: {reason}")]
    Unreachable {
        /// Whom we asked.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// We asked more often than the server allows.
    #[error("{endpoint} allows no more requests now; configure an API key, or poll less often")]
    RateLimited {
        /// Whom we asked.
        endpoint: String,
    },
    /// The server sent something that cannot be true, or that we cannot read.
    #[error("the chain sent an answer that cannot be used: {0}")]
    BadAnswer(String),
    /// Transactions do not follow one another.
    #[error("the chain left out transactions of {address} before logical time {before_lt}")]
    Gap {
        /// Whose.
        address: Address,
        /// Before which one.
        before_lt: u64,
    },
    /// A contract does not take the message.
    #[error("{address} does not take the message{}", exit(.exit_code))]
    Refused {
        /// Who.
        address: Address,
        /// The contract's exit code, where there is one.
        exit_code: Option<i32>,
    },
    /// The message is malformed; nothing was sent.
    #[error("no message that the chain could carry: {0}")]
    BadMessage(String),
    /// A server's word where a proof is needed.
    #[error(
        "the answer is only reported by a server, and this policy asks for proof: run your own devnet, use a backend with proofs, or set `insecure_reported`"
    )]
    Unproved,
    /// The embedded devnet cannot go on.
    #[error("the devnet stopped: {0}")]
    Stopped(String),
}

fn exit(code: &Option<i32>) -> String {
    code.map(|code| format!(": exit code {code}")).unwrap_or_default()
}
