//! What a proxy needs to charge and to pay, and why one that has it stops.
//!
//! Without [`Money`] a proxy counts in memory and signs nothing: for benches, tests, and runs without a chain.
//! With it, it fails closed: what cannot be written down, or contradicts the chain, ends the service.

use std::fmt;
use std::sync::Arc;

use cocoon_ledger::{Journal, JournalError, RolledBack, State};
use cocoon_ton::chain::{Chain, ChainPolicy};
use cocoon_ton::wallet::Sender;
use ed25519_dalek::SigningKey;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::settlement::SettlementError;

/// What a proxy charges and pays with.
pub struct Money {
    /// Where its contracts are.
    pub chain: Arc<dyn Chain>,
    /// Which of the chain's answers decide about money.
    pub policy: ChainPolicy,
    /// The wallet that sends its messages: commits, charges, payouts.
    pub wallet: Sender,
    /// Signs charges and payouts; its public half is in the proxy's contract.
    pub payment_key: SigningKey,
    /// Its books, and what was read from them.
    pub journal: (Journal, State),
    /// Seals account tags. It outlives the process, as the books do.
    pub tag_key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Money").field("chain", &self.chain).field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Why a proxy stopped by itself.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The disk's fault: what is counted cannot be kept.
    #[error(
        "the books cannot be written, so nothing more is sold: see that the disk works and has room, then start the proxy again"
    )]
    Journal(#[from] JournalError),
    /// The host's fault, or that of whoever put an old database back.
    #[error(transparent)]
    RolledBack(#[from] RolledBack),
    /// Ours: the core or the task that writes the books panicked.
    #[error("the core stopped: a balance could not be trusted any more")]
    Core,
    /// The chain's fault, or that of what is on it.
    #[error(transparent)]
    Settlement(#[from] SettlementError),
    /// The machine's fault: a key for this run could not be drawn.
    #[error("the system gives no randomness")]
    Randomness,
}
