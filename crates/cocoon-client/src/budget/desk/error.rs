//! Why the desk could not do what it wanted, by whose fault.

use std::io;
use std::path::PathBuf;

use cocoon_ton::Address;
use cocoon_ton::chain::ChainError;
use cocoon_ton::contract::exit;
use cocoon_ton::wallet::SendError;
use cocoon_units::Nano;

use crate::budget::BudgetError;

/// Why something with a contract was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeskError {
    /// The chain gave no answer that may decide about money.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The wallet did not send it. Says what it has and what it needs, where that is why.
    #[error(transparent)]
    Wallet(#[from] SendError),
    /// The contract did not take the message. What it carried came back, less fees.
    #[error("the contract {contract} refused the message{}", words(*exit_code))]
    Refused {
        /// Which.
        contract: Address,
        /// Its exit code, where it ran.
        exit_code: Option<i32>,
    },
    /// Something was sent before, and it is not known yet what became of it. Nothing else is sent meanwhile.
    #[error("what was sent to {contract} before has not arrived yet: try again in a minute")]
    OnItsWay {
        /// Which.
        contract: Address,
    },
    /// So many messages in one day are no upkeep; somebody makes this client pay fees.
    #[error(
        "{contract} was sent {sent} messages today, and no more are sent before tomorrow: something makes this client pay fees again and again"
    )]
    TooManyMessages {
        /// Which.
        contract: Address,
        /// How many.
        sent: u32,
    },
    /// There is nothing above the stake.
    #[error(
        "nothing can be withdrawn from {contract}: it holds {} TON, and its stake of {} TON stays until it is closed (fees would be {} TON)",
        balance.ton(), stake.ton(), fees.ton()
    )]
    NothingToWithdraw {
        /// Which.
        contract: Address,
        /// Its balance.
        balance: Nano,
        /// What must stay.
        stake: Nano,
        /// What a withdrawal costs.
        fees: Nano,
    },
    /// It is not open.
    #[error("{contract} is {state}: only an open contract can be withdrawn from; close it to the end with `close`")]
    NotOpen {
        /// Which.
        contract: Address,
        /// What it is instead.
        state: String,
    },
    /// The list of contracts is full, so nothing was sent: it could not be followed.
    #[error("this client has {0} contracts that are not closed: close some with `cocoon client close`")]
    TooManyContracts(usize),
    /// None of ours.
    #[error("{contract} is no contract of this client's wallet: `status` lists those that are known")]
    NotOurs {
        /// Which.
        contract: Address,
    },
    /// The list of contracts could not be kept, so nothing was sent.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The list of contracts is not readable.
    #[error(
        "{} cannot be read as the list of this client's contracts: {error}; move it away to have it made anew from the chain",
        path.display()
    )]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

fn words(code: Option<i32>) -> String {
    let Some(code) = code else { return String::new() };
    let words = exit::words(code).map(|words| format!(", {words}")).unwrap_or_default();
    format!(": exit code {code}{words}")
}

impl DeskError {
    /// Whether it passes by itself, mostly: then what was wanted is tried again in a moment.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Chain(_) | Self::OnItsWay { .. } => true,
            Self::Wallet(error) => matches!(error, SendError::ChainDown { .. } | SendError::Expired { .. }),
            Self::Refused { .. }
            | Self::TooManyMessages { .. }
            | Self::NothingToWithdraw { .. }
            | Self::NotOpen { .. }
            | Self::TooManyContracts(_)
            | Self::NotOurs { .. }
            | Self::File { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Whether the owner can mend it, and trying costs nothing: then it is tried again as usual.
    pub(crate) const fn is_the_owners(&self) -> bool {
        matches!(self, Self::Wallet(SendError::TooLittleMoney { .. } | SendError::Blocked { .. }))
    }
}

/// Why a client cannot work with money.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoneyError {
    /// Terms come from the root: without it nobody says what a token costs, or which contracts there are.
    #[error("money needs a root contract: name the chain and the root under [chain]")]
    NoRoot,
    /// The contracts would be somebody else's.
    #[error("`owner_address` is {configured}, and the wallet that pays is {wallet}: they must be the same")]
    OtherOwner {
        /// As configured.
        configured: Address,
        /// The wallet's.
        wallet: Address,
    },
    /// Something holds the client already that does not know of money.
    #[error("money is given to a client before anything else has a handle on it")]
    TooLate,
    /// The books.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The contracts.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The receipts.
    #[error("the receipts in the folder of money cannot be opened")]
    Receipts(#[from] cocoon_wal::WalError),
}
