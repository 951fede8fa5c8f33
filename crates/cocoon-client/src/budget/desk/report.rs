//! How contracts stand, for people: the status, the CLI, `GET /v1/budget`.

use cocoon_ton::Address;
use cocoon_ton::contract::Lifecycle;
use cocoon_units::Nano;
use serde::Serialize;

use super::book::Kept;
use super::plan::{Found, Look};

/// A contract of this client with a proxy. Amounts are nanoTON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContractReport {
    /// The client contract.
    pub contract: Address,
    /// The proxy contract behind it.
    pub proxy: Option<Address>,
    /// The proxy's number in the root.
    pub number: Option<u32>,
    /// `missing`, `open`, `closing`, `closed` or `unreadable`.
    pub state: &'static str,
    /// The deposit that was not charged.
    pub balance_nano: u64,
    /// What a withdrawal leaves.
    pub stake_nano: u64,
    /// Charged money that came back and is the owner's after the delay.
    pub due_nano: u64,
    /// All coins there, the floor for storage included.
    pub coins_nano: u64,
    /// Adjusted tokens that were charged.
    pub tokens_charged: u64,
    /// When the rest can be fetched, in a contract that closes.
    pub unlock_unix_s: Option<u32>,
    /// The chain's time of all this.
    pub at_unix_s: u32,
    /// Whether it is on its way out.
    pub is_leaving: bool,
}

/// What was done on a contract's way out, and what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStep {
    /// The refund was asked for: what exceeds the stake is paid, and the delay runs.
    Asked,
    /// The proxy may still present what it is owed, until this time of the chain.
    Waits {
        /// When it is over.
        unlock_unix_s: u32,
        /// The chain's time now.
        now_unix_s: u32,
    },
    /// The rest was fetched.
    Collected,
    /// It is closed, and nothing is left there but what its storage costs.
    Over,
}

impl ContractReport {
    pub(super) fn of(contract: Address, kept: Option<&Kept>, look: &Look) -> Self {
        let state = look.state();
        let amount = |of: fn(&cocoon_ton::contract::ClientState) -> Nano| state.map_or(0, |state| of(state).get());
        Self {
            contract,
            proxy: state.map(|state| state.proxy).or_else(|| kept.map(|kept| kept.proxy)),
            number: kept.and_then(|kept| kept.number),
            state: word(&look.found),
            balance_nano: amount(|state| state.balance),
            stake_nano: amount(|state| state.stake),
            due_nano: amount(|state| state.due),
            coins_nano: look.coins.get(),
            tokens_charged: state.map_or(0, |state| state.tokens_used),
            unlock_unix_s: state.filter(|state| state.state == Lifecycle::Closing).map(|state| state.unlock_unix_s),
            at_unix_s: look.at_unix_s,
            is_leaving: kept.is_some_and(|kept| kept.is_leaving),
        }
    }
}

fn word(found: &Found) -> &'static str {
    match found {
        Found::Nothing => "missing",
        Found::Unreadable(_) => "unreadable",
        Found::Contract(state) => match state.state {
            Lifecycle::Normal => "open",
            Lifecycle::Closing => "closing",
            Lifecycle::Closed => "closed",
        },
    }
}
