//! Our contracts' code, as compiled and committed in `contracts/compiled`.
//!
//! A node needs none of it: codes come from the root, as data. Whoever deploys a network does, and so do tests.

use std::sync::LazyLock;

use tycho_types::boc::Boc;
use tycho_types::cell::Cell;

use super::params::ContractCodes;

/// The code of each of our contracts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes {
    /// Of the root.
    pub root: Cell,
    /// Of proxy contracts.
    pub proxy: Cell,
    /// Of client contracts.
    pub client: Cell,
    /// Of worker contracts.
    pub worker: Cell,
    /// Of wallets.
    pub wallet: Cell,
    /// Of stewards.
    pub steward: Cell,
}

impl Codes {
    /// Those that a root publishes in its parameters.
    #[must_use]
    pub fn published(&self) -> ContractCodes {
        ContractCodes { proxy: self.proxy.clone(), worker: self.worker.clone(), client: self.client.clone() }
    }
}

macro_rules! compiled {
    ($($name:ident),*) => {
        Codes { $($name: decode(include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"), "/../../contracts/compiled/", stringify!($name), ".boc"
        ))),)* }
    };
}

static CODES: LazyLock<Codes> = LazyLock::new(|| compiled!(root, proxy, client, worker, wallet, steward));

/// Our contracts' code.
#[must_use]
pub fn codes() -> &'static Codes {
    &CODES
}

fn decode(boc: &[u8]) -> Cell {
    Boc::decode(boc).expect("a compiled contract is a bag of one cell; a test decodes each")
}
