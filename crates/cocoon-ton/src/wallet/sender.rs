//! The one door to the chain for one wallet.
//!
//! 1. Callers hand in messages and wait for their own result. What waits is batched, as far as it fits one external
//!    and the wallet's money.
//! 2. One external is under way at a time ([`super::flight`]). It is journaled before it is handed in, and the same
//!    bytes are handed in again until the seqno moves or it can land no more; then it is made anew, with the seqno
//!    that the chain says. Before anything is made with another seqno, all that was made with the last one is looked
//!    for: what was given up may have landed after all.
//! 3. A result names the transaction, and for each message what left: neither an exit code of 0 nor an accepted
//!    external means that money moved.
//! 4. After a restart the journaled external is settled first, by looking at the chain. See [`Sender::past`].
//!
//! What is promised: for one call, at most one external ever lands. What is not: that a caller who went away, or who
//! heard [`SendError::ChainDown`] with `in_flight`, knows whether it did; the journal does.

mod driver;
mod error;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use self::driver::Driver;
use super::journal::{End, Entry, Journal};
use super::message::Outgoing;
use super::{JournalError, Wallet, WalletError, WalletKind};
use crate::address::Address;
use crate::chain::{Chain, ChainPolicy, Message, Transaction, TxId};
use crate::limits::WALLET_QUEUE_MAX;

pub use self::error::SendError;

/// Sends from one wallet. Clones share the queue; the last one to go stops the work, which the journal lets a later
/// sender finish.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
}

struct Shared {
    address: Address,
    kind: WalletKind,
    queue: mpsc::Sender<Job>,
    past: watch::Receiver<PastState>,
    /// Held: dropping it stops the driver.
    _driver: JoinSet<()>,
}

/// What became of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The wallet's transaction, which may carry other callers' messages, too.
    pub transaction: Transaction,
    /// For each message of the call, in order, the message that left.
    pub messages: Vec<Message>,
}

/// What an earlier process sent last from this wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// To whom, and the hash of the body of each message.
    pub messages: Vec<(Address, [u8; 32])>,
    /// What became of it.
    pub outcome: PastOutcome,
}

/// What became of what an earlier process sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastOutcome {
    /// It landed in this transaction of the wallet.
    Landed(TxId),
    /// It did not, and never will.
    Never,
}

#[derive(Debug, Clone)]
enum PastState {
    Unsettled,
    Settled(Option<Past>),
}

/// A call that waits.
struct Job {
    messages: Vec<Outgoing>,
    reply: oneshot::Sender<Result<Sent, SendError>>,
    /// How often it was put back.
    attempts: u32,
    /// Externals that were made for it, at the wallet's present seqno as far as is known; one may still land.
    made: Vec<Made>,
}

/// An external that was made.
#[derive(Debug, Clone, Copy)]
struct Made {
    body_hash: [u8; 32],
    /// The wallet's last transaction then.
    after: Option<TxId>,
}

impl Sender {
    /// A sender for the wallet of `kind` that obeys `key`. It must be made within a runtime, whose timer it uses.
    ///
    /// Without a journal a restart forgets what was under way; do that only in tests and for single commands whose
    /// user watches.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the journal cannot be used: another process has it, or it cannot be read.
    pub fn new(
        chain: Arc<dyn Chain>,
        key: SigningKey,
        kind: WalletKind,
        journal: Option<PathBuf>,
        policy: ChainPolicy,
    ) -> Result<Self, JournalError> {
        let wallet = Wallet::new(key, kind);
        let address = wallet.address();
        let (journal, entry) = match journal {
            Some(path) => Journal::open(&path, address).map(|(journal, entry)| (Some(Arc::new(journal)), entry))?,
            None => (None, None),
        };
        let (queue, jobs) = mpsc::channel(WALLET_QUEUE_MAX);
        let (settled, past) = watch::channel(PastState::Unsettled);
        let driver = Driver { chain, wallet, policy, journal, jobs, waiting: VecDeque::new(), given_up: None, settled };
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run(entry));
        Ok(Self { shared: Arc::new(Shared { address, kind, queue, past, _driver: tasks }) })
    }

    /// The wallet's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.shared.address
    }

    /// Sends these messages, all in one external, and waits until that landed. An empty list deploys the wallet.
    ///
    /// Dropping the future before the external was made withdraws the call; later, nobody hears what became of it.
    ///
    /// # Errors
    ///
    /// [`SendError`], which says for each case whether anything may have left.
    pub async fn send(&self, messages: Vec<Outgoing>) -> Result<Sent, SendError> {
        let max = self.shared.kind.messages_max();
        if messages.len() > max {
            return Err(SendError::Wallet(WalletError::TooManyMessages { found: messages.len(), max }));
        }
        let (reply, result) = oneshot::channel();
        let job = Job { messages, reply, attempts: 0, made: Vec::new() };
        self.shared.queue.send(job).await.map_err(|_| SendError::Stopped)?;
        result.await.unwrap_or(Err(SendError::Stopped))
    }

    /// What an earlier process sent last from this wallet, once that is known; `None` without a journal, or in a new
    /// one. Whoever is about to repeat a payment asks first.
    pub async fn past(&self) -> Option<Past> {
        let mut past = self.shared.past.clone();
        let settled = past.wait_for(|state| matches!(state, PastState::Settled(_))).await;
        match settled.as_deref() {
            Ok(PastState::Settled(past)) => past.clone(),
            Ok(PastState::Unsettled) | Err(_) => None,
        }
    }
}

impl Past {
    /// `None` while the end is open.
    fn of(entry: &Entry) -> Option<Self> {
        let outcome = match entry.end {
            End::Open => return None,
            End::Landed(id) => PastOutcome::Landed(id),
            End::Never => PastOutcome::Never,
        };
        Some(Self { messages: entry.flight.messages.clone(), outcome })
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("address", &self.shared.address).finish_non_exhaustive()
    }
}
