//! Why a call was not done, by whose fault, and whether anything may have left.

use cocoon_units::Nano;

use super::super::WalletError;
use crate::address::Address;
use crate::chain::Transaction;
use crate::contract;

/// Why a wallet did not send.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The caller's or the wallet's own state. Nothing left.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The wallet's owner must send it money. Nothing left.
    #[error(
        "the wallet {} has {} TON and needs {} TON: send it {} TON more{}",
        wallet.friendly(false, false), has.ton(), needs.ton(), missing.ton(), floor_note(*floor)
    )]
    TooLittleMoney {
        /// The wallet.
        wallet: Address,
        /// What it has.
        has: Nano,
        /// What these messages and their fees need.
        needs: Nano,
        /// The difference.
        missing: Nano,
        /// What the contract asks for before it takes anything; zero for a standard wallet.
        floor: Nano,
    },
    /// The wallet's owner blocked it. Nothing left.
    #[error("the wallet {} is blocked by its owner (who unblocks a Cocoon wallet with the text \"u\")", wallet.friendly(false, false))]
    Blocked {
        /// The wallet.
        wallet: Address,
    },
    /// The wallet's contract did not take the external, and it can land no more. Nothing left.
    #[error("the wallet {} refused the message{}", wallet.friendly(false, false), exit_note(*exit_code))]
    Refused {
        /// The wallet.
        wallet: Address,
        /// The contract's exit code, where there is one.
        exit_code: Option<i32>,
    },
    /// The network took none of several externals, and they can land no more. Nothing left.
    #[error("the network took none of {attempts} messages from the wallet before they expired")]
    Expired {
        /// How many were made.
        attempts: u32,
    },
    /// The chain does not answer.
    #[error("{}: {reason}", down_note(*in_flight))]
    ChainDown {
        /// Whether something was handed in of which it is not known what became; the wallet goes on to find out, and
        /// sends nothing else before.
        in_flight: bool,
        /// What the last attempt said.
        reason: String,
    },
    /// The answers are a server's word, and the policy asks for proof. Nothing left.
    #[error("the chain's answers are not proved, and this wallet's policy asks for proof: {0}")]
    Unproved(String),
    /// The external landed, and some messages did not leave: too little money, or a bad destination.
    #[error(
        "the wallet's transaction was made, and {} of {} messages did not leave{}",
        left.iter().filter(|left| !**left).count(), left.len(), action_note(transaction)
    )]
    NotAllLeft {
        /// The wallet's transaction.
        transaction: Box<Transaction>,
        /// For each message of the call, whether it left.
        left: Vec<bool>,
    },
    /// The journal could not be written, so nothing was handed in.
    #[error("nothing was sent, since the wallet's journal could not be written: {0}")]
    Journal(String),
    /// The sender was stopped. With a journal, a later one finishes what was under way.
    #[error("the wallet's sender was stopped")]
    Stopped,
}

fn floor_note(floor: Nano) -> String {
    if floor == Nano::ZERO {
        return String::new();
    }
    format!(" (this kind of wallet sends nothing while it has less than {} TON)", floor.ton())
}

fn exit_note(code: Option<i32>) -> String {
    let Some(code) = code else { return String::new() };
    let words = contract::exit::words(code).map(|words| format!(", {words}")).unwrap_or_default();
    format!(": exit code {code}{words}")
}

const fn down_note(in_flight: bool) -> &'static str {
    if in_flight {
        "the chain does not answer, and it is not known whether the message landed"
    } else {
        "the chain does not answer, and nothing was sent"
    }
}

fn action_note(transaction: &Transaction) -> String {
    match (transaction.outcome.exit_code, transaction.outcome.action_code) {
        (Some(code), _) if code != 0 && code != 1 => exit_note(Some(code)),
        (_, Some(code)) if code != 0 => format!(": action code {code}"),
        (_, _) => ": too little money for them, most likely".to_owned(),
    }
}
