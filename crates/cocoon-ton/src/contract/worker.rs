//! A worker contract's state: the tokens that one owner of workers was paid for at one proxy.
//!
//! v3's layout, then our extension `^[unpaid_worker:Coins unpaid_proxy:Coins]`, absent while both are zero.
//! Spec: `ton.md` 1.3.

use cocoon_units::Nano;
use tycho_types::cell::Cell;

use super::client::params_without_codes;
use super::codec::{Reader, StateError, Writer, read_ext};
use super::lifecycle::Lifecycle;
use super::params::Params;
use crate::address::Address;

const WHAT: &str = "state of a worker contract";

/// The state of a worker contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerState {
    /// Who is paid.
    pub owner: Address,
    /// The proxy contract that pays.
    pub proxy: Address,
    /// The key that signs payouts.
    pub proxy_key: [u8; 32],
    /// Whether it works; never [`Lifecycle::Closing`] in ours.
    pub state: Lifecycle,
    /// Tokens that payouts were presented for.
    pub tokens: u64,
    /// Parameters without codes.
    pub params: Params,
    /// What could not be paid yet.
    pub unpaid: Unpaid,
}

/// Parts of payouts that the proxy contract could not pay, which stay claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpaid {
    /// The worker's part.
    pub worker: Nano,
    /// The proxy's commission on it.
    pub proxy: Nano,
}

impl WorkerState {
    /// A new worker contract; its hash is part of the address. Codes in `params` are left out.
    #[must_use]
    pub fn initial(owner: Address, proxy: Address, proxy_key: [u8; 32], params: &Params) -> Self {
        Self {
            owner,
            proxy,
            proxy_key,
            state: Lifecycle::Normal,
            tokens: 0,
            params: params.without_codes(),
            unpaid: Unpaid::default(),
        }
    }

    /// Reads the data of a worker contract.
    ///
    /// # Errors
    ///
    /// When it is not v3's layout with at most our extension.
    pub fn parse(data: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new(WHAT, data.as_ref())?;
        let mut state = Self {
            owner: reader.get("owner")?,
            proxy: reader.get("proxy")?,
            proxy_key: reader.get("proxy key")?,
            state: reader.get("state")?,
            tokens: reader.get("tokens")?,
            params: params_without_codes(&mut reader)?,
            unpaid: Unpaid::default(),
        };
        if let Some(mut ext) = read_ext(&mut reader, "extension of a worker contract")? {
            state.unpaid = Unpaid { worker: ext.get("worker's part")?, proxy: ext.get("proxy's part")? };
            ext.end()?;
        }
        reader.end()?;
        Ok(state)
    }

    /// The data cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        let writer = Writer::new()
            .put(&self.owner)
            .put(&self.proxy)
            .put(&self.proxy_key)
            .put(&self.state)
            .put(&self.tokens)
            .put(&self.params.to_cell());
        if self.unpaid == Unpaid::default() {
            return writer.cell();
        }
        writer.put(&Some(Writer::new().put(&self.unpaid.worker).put(&self.unpaid.proxy).cell())).cell()
    }
}
