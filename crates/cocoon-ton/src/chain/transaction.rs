//! A transaction as read from its cell: who was called, what came out, what it cost.

use cocoon_units::Nano;
use tycho_types::cell::Cell;

use super::TxId;
use crate::address::Address;

/// A transaction of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Itself.
    pub id: TxId,
    /// The one before on the same account.
    pub previous: Option<TxId>,
    /// Whose it is.
    pub account: Address,
    /// Block time in seconds since the Unix epoch.
    pub unix_s: u32,
    /// What caused it.
    pub in_message: Option<Message>,
    /// What it sent, in order.
    pub out_messages: Vec<Message>,
    /// All fees that it took.
    pub fees: Nano,
    /// How it ended.
    pub outcome: Outcome,
    /// Its cell, whose hash is `id.hash`.
    pub cell: Cell,
}

/// A message in or out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The hash of its cell.
    pub hash: [u8; 32],
    /// From whom to whom, with what.
    pub kind: MessageKind,
    /// Its body; a cell of no bits when it has none.
    pub body: Cell,
    /// Whether it carries code for its destination.
    pub has_state_init: bool,
}

/// The three kinds of message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageKind {
    /// Between accounts.
    Internal {
        /// The sender.
        from: Address,
        /// The destination.
        to: Address,
        /// The money it carries.
        value: Nano,
        /// Whether it comes back when it fails.
        bounce: bool,
        /// Whether it came back.
        bounced: bool,
        /// Logical time of its creation.
        created_lt: u64,
    },
    /// From outside to an account.
    ExternalIn {
        /// The destination.
        to: Address,
    },
    /// An event.
    ExternalOut {
        /// Who tells.
        from: Address,
        /// Logical time of its creation.
        created_lt: u64,
    },
}

/// How a transaction ended. An exit code of 0 does not mean that messages left: see `action_code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Whether everything but fees was undone.
    pub aborted: bool,
    /// Exit code of the code; `None` where it did not run.
    pub exit_code: Option<i32>,
    /// Gas that it used.
    pub gas: u64,
    /// Result of the action phase; `None` where there was none.
    pub action_code: Option<i32>,
    /// Whether the message went back to its sender.
    pub bounced: bool,
}
