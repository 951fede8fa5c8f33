//! A transaction as read from its cell: who was called, what came out, what it cost.
//!
//! Reading is total and bounded: a cell from a server gives a transaction or [`ChainError::BadAnswer`]. What a block can
//! hold never fails: one message of a stranger would else hide all that follows it. Hashes are
//! computed here, never taken from whoever sent the cell.

mod message;

use cocoon_units::Nano;
use tycho_types::cell::{Cell, HashBytes};
use tycho_types::models::{ComputePhase, OrdinaryTxInfo, Transaction as Model, TxInfo};
use tycho_types::num::Tokens;

use super::{ChainError, TxId};
use crate::address::Address;
use crate::limits::OUT_MESSAGES_MAX;

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
    /// What validators took for it: storage, gas, and their part of what its messages cost to forward. See
    /// [`Transaction::cost`].
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
    /// What its sender paid on top of the value for those who forward it; none for a message from or to the outside.
    pub forward_fee: Nano,
}

/// The three kinds of message, and what cannot be told.
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
    /// A header that the network lets through and that does not fit here: an address of another form than an account's
    /// number in a workchain, or more money than there is. Strangers can make such; what they lose is to be understood.
    Unreadable,
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

impl Transaction {
    /// What it cost the account beside what it sent: the balance after it is the balance before it, plus what came in, less
    /// what went out, less this.
    #[must_use]
    pub fn cost(&self) -> Nano {
        let forwarding = self.out_messages.iter().map(|message| message.forward_fee.get());
        Nano::new(forwarding.fold(self.fees.get(), u64::saturating_add))
    }

    /// Reads a transaction of `account` from its cell.
    ///
    /// # Errors
    ///
    /// [`ChainError::BadAnswer`] when it is none, is of another account, or moves more money than there is.
    pub fn parse(account: Address, cell: Cell) -> Result<Self, ChainError> {
        let model: Model = cell.parse().map_err(|error| bad("a cell that is no transaction", &error))?;
        if model.account.0 != account.account {
            return Err(ChainError::BadAnswer(format!("a transaction of another account than {account}")));
        }
        let info = model.load_info().map_err(|error| bad("a transaction that cannot be read", &error))?;
        Ok(Self {
            id: TxId { lt: model.lt, hash: cell.repr_hash().0 },
            previous: previous(&model),
            account,
            unix_s: model.now,
            in_message: model.in_msg.as_ref().map(|cell| Message::parse(account, cell)).transpose()?,
            out_messages: out_messages(account, &model)?,
            fees: nano(model.total_fees.tokens)?,
            outcome: Outcome::of(&info),
            cell,
        })
    }
}

fn bad(what: &str, error: &dyn std::error::Error) -> ChainError {
    ChainError::BadAnswer(format!("{what}: {error}"))
}

fn nano(tokens: Tokens) -> Result<Nano, ChainError> {
    let nano = u64::try_from(tokens.into_inner());
    nano.map(Nano::new).map_err(|_| ChainError::BadAnswer("more money than there is".to_owned()))
}

fn previous(model: &Model) -> Option<TxId> {
    let is_first = model.prev_trans_lt == 0 && model.prev_trans_hash == HashBytes::ZERO;
    (!is_first).then_some(TxId { lt: model.prev_trans_lt, hash: model.prev_trans_hash.0 })
}

fn out_messages(account: Address, model: &Model) -> Result<Vec<Message>, ChainError> {
    let mut messages = Vec::new();
    for entry in model.out_msgs.values() {
        if messages.len() == OUT_MESSAGES_MAX {
            return Err(ChainError::BadAnswer(format!("a transaction with more than {OUT_MESSAGES_MAX} messages")));
        }
        let cell = entry.map_err(|error| bad("messages that cannot be read", &error))?;
        messages.push(Message::parse(account, &cell)?);
    }
    Ok(messages)
}

impl Outcome {
    fn of(info: &TxInfo) -> Self {
        match info {
            TxInfo::Ordinary(info) => Self::of_ordinary(info),
            TxInfo::TickTock(info) => Self::of_phases(info.aborted, &info.compute_phase),
        }
    }

    fn of_ordinary(info: &OrdinaryTxInfo) -> Self {
        Self {
            action_code: info.action_phase.as_ref().map(|phase| phase.result_code),
            bounced: info.bounce_phase.is_some(),
            ..Self::of_phases(info.aborted, &info.compute_phase)
        }
    }

    fn of_phases(aborted: bool, compute: &ComputePhase) -> Self {
        let (exit_code, gas) = match compute {
            ComputePhase::Skipped(_) => (None, 0),
            ComputePhase::Executed(phase) => (Some(phase.exit_code), phase.gas_used.into_inner()),
        };
        Self { aborted, exit_code, gas, action_code: None, bounced: false }
    }
}
