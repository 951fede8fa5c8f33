//! A proxy contract's state: its stake, its commission, and the money for both and for workers.
//!
//! v3's layout, then our extension `^[funds:Coins]`, absent while it is zero. Spec: `ton.md` 1.3.

use cocoon_units::Nano;
use tycho_types::cell::Cell;

use super::codec::{Reader, StateError, Writer, read_ext};
use super::lifecycle::Lifecycle;
use super::params::Params;
use crate::address::Address;

const WHAT: &str = "state of a proxy contract";

/// The state of a proxy contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyState {
    /// Who gets commission and stake.
    pub owner: Address,
    /// The key that signs payments, which only the attested proxy has.
    pub payment_key: [u8; 32],
    /// The root it belongs to.
    pub root: Address,
    /// Whether it works.
    pub state: Lifecycle,
    /// The owner's commission that was not paid out. A claim: it may exceed what is there.
    pub balance: Nano,
    /// The owner's stake.
    pub stake: Nano,
    /// When a close may be completed; 0 while open.
    pub unlock_unix_s: u32,
    /// Parameters with codes.
    pub params: Params,
    /// Money held for stake, commission and workers.
    pub funds: Nano,
}

impl ProxyState {
    /// A new proxy contract; its hash is part of the address.
    ///
    /// # Errors
    ///
    /// When the parameters lack codes.
    pub fn initial(owner: Address, payment_key: [u8; 32], root: Address, params: Params) -> Result<Self, StateError> {
        params.codes()?;
        Ok(Self {
            owner,
            payment_key,
            root,
            state: Lifecycle::Normal,
            balance: Nano::ZERO,
            stake: Nano::ZERO,
            unlock_unix_s: 0,
            params,
            funds: Nano::ZERO,
        })
    }

    /// Reads the data of a proxy contract.
    ///
    /// # Errors
    ///
    /// When it is not v3's layout with at most our extension.
    pub fn parse(data: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new(WHAT, data.as_ref())?;
        let mut state = Self {
            owner: reader.get("owner")?,
            payment_key: reader.get("payment key")?,
            root: reader.get("root")?,
            state: reader.get("state")?,
            balance: reader.get("balance")?,
            stake: reader.get("stake")?,
            unlock_unix_s: reader.get("unlock time")?,
            params: Params::parse(&reader.get("parameters")?)?,
            funds: Nano::ZERO,
        };
        state.params.codes()?;
        if let Some(mut ext) = read_ext(&mut reader, "extension of a proxy contract")? {
            state.funds = ext.get("funds")?;
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
            .put(&self.payment_key)
            .put(&self.root)
            .put(&self.state)
            .put(&self.balance)
            .put(&self.stake)
            .put(&self.unlock_unix_s)
            .put(&self.params.to_cell());
        if self.funds == Nano::ZERO {
            return writer.cell();
        }
        writer.put(&Some(Writer::new().put(&self.funds).cell())).cell()
    }
}
