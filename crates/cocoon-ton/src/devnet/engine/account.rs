//! An account as the engine holds it, and as everyone else reads it.

use cocoon_units::Nano;
use tycho_types::cell::Lazy;
use tycho_types::models::{AccountState, OptionalAccount, ShardAccount};

use crate::address::Address;
use crate::chain::{Account, Head, Status, TxId};

/// An account's state, and its money beside it so that sums need no parsing.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) state: ShardAccount,
    pub(crate) balance: u128,
}

impl Entry {
    /// An account that was never used.
    pub(crate) fn missing() -> Self {
        let state = ShardAccount {
            account: Lazy::new(&OptionalAccount::EMPTY).expect("one bit fits a cell"),
            last_trans_hash: tycho_types::cell::HashBytes::ZERO,
            last_trans_lt: 0,
        };
        Self { state, balance: 0 }
    }

    pub(crate) fn new(state: ShardAccount) -> Self {
        let balance = balance(&state);
        Self { state, balance }
    }
}

/// The money in a state.
pub(crate) fn balance(state: &ShardAccount) -> u128 {
    state.load_account().ok().flatten().map_or(0, |account| account.balance.tokens.into())
}

/// A state as [`crate::chain::Chain`] tells it.
pub(crate) fn view(address: Address, state: Option<&ShardAccount>, at: Head) -> Account {
    let last = state
        .filter(|state| state.last_trans_lt != 0)
        .map(|state| TxId { lt: state.last_trans_lt, hash: state.last_trans_hash.0 });
    let missing = Account { address, status: Status::Missing, balance: Nano::ZERO, code: None, data: None, last, at };
    let Some(account) = state.and_then(|state| state.load_account().ok().flatten()) else { return missing };
    let balance = u64::try_from(u128::from(account.balance.tokens)).map_or(Nano::MAX, Nano::new);
    let (status, code, data) = match account.state {
        AccountState::Uninit => (Status::Uninit, None, None),
        AccountState::Frozen(_) => (Status::Frozen, None, None),
        AccountState::Active(init) => (Status::Active, init.code, init.data),
    };
    Account { status, balance, code, data, ..missing }
}
