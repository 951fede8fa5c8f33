//! A client contract's state: the deposit of one client at one proxy, and the tokens charged so far.
//!
//! v3's layout, then our extension `^[due:Coins]`, absent while it is zero. Spec: `ton.md` 1.3.

use cocoon_units::Nano;
use tycho_types::cell::Cell;

use super::codec::{Reader, StateError, Writer, read_ext};
use super::lifecycle::Lifecycle;
use super::params::Params;
use crate::address::Address;

const WHAT: &str = "state of a client contract";

/// The state of a client contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientState {
    /// Whether it works.
    pub state: Lifecycle,
    /// The deposit that was not charged. In our contracts it is here, in coins.
    pub balance: Nano,
    /// What a withdrawal must leave.
    pub stake: Nano,
    /// Tokens that were charged.
    pub tokens_used: u64,
    /// When a refund needs nobody else; 0 while open.
    pub unlock_unix_s: u32,
    /// SHA-256 of a secret with which a client without its owner's key may authenticate; zero for none.
    pub secret_hash: [u8; 32],
    /// Who gets refunds.
    pub owner: Address,
    /// The proxy contract that is paid.
    pub proxy: Address,
    /// The key that signs charges.
    pub proxy_key: [u8; 32],
    /// Parameters without codes.
    pub params: Params,
    /// Charged money that came back, since there was no proxy contract to take it.
    pub due: Nano,
}

impl ClientState {
    /// A new client contract; its hash is part of the address. Codes in `params` are left out.
    #[must_use]
    pub fn initial(owner: Address, proxy: Address, proxy_key: [u8; 32], params: &Params) -> Self {
        Self {
            state: Lifecycle::Normal,
            balance: Nano::ZERO,
            stake: params.min_client_stake,
            tokens_used: 0,
            unlock_unix_s: 0,
            secret_hash: [0; 32],
            owner,
            proxy,
            proxy_key,
            params: params.without_codes(),
            due: Nano::ZERO,
        }
    }

    /// Reads the data of a client contract.
    ///
    /// # Errors
    ///
    /// When it is not v3's layout with at most our extension.
    pub fn parse(data: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new(WHAT, data.as_ref())?;
        let mut constant = reader.nested("parties of a client contract", "parties")?;
        let mut state = Self {
            state: reader.get("state")?,
            balance: reader.get("balance")?,
            stake: reader.get("stake")?,
            tokens_used: reader.get("tokens")?,
            unlock_unix_s: reader.get("unlock time")?,
            secret_hash: reader.get("secret hash")?,
            owner: constant.get("owner")?,
            proxy: constant.get("proxy")?,
            proxy_key: constant.get("proxy key")?,
            params: params_without_codes(&mut reader)?,
            due: Nano::ZERO,
        };
        constant.end()?;
        if let Some(mut ext) = read_ext(&mut reader, "extension of a client contract")? {
            state.due = ext.get("due")?;
            ext.end()?;
        }
        reader.end()?;
        Ok(state)
    }

    /// The data cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        let constant = Writer::new().put(&self.owner).put(&self.proxy).put(&self.proxy_key).cell();
        let writer = Writer::new()
            .put(&self.state)
            .put(&self.balance)
            .put(&self.stake)
            .put(&self.tokens_used)
            .put(&self.unlock_unix_s)
            .put(&self.secret_hash)
            .put(&constant)
            .put(&self.params.to_cell());
        if self.due == Nano::ZERO {
            return writer.cell();
        }
        writer.put(&Some(Writer::new().put(&self.due).cell())).cell()
    }
}

/// The parameters of a client or worker, which hold no codes.
pub(super) fn params_without_codes(reader: &mut Reader<'_>) -> Result<Params, StateError> {
    let params = Params::parse(&reader.get("parameters")?)?;
    if params.codes.is_some() {
        return Err(reader.malformed("parameters", "they hold codes, which only a root or a proxy has"));
    }
    Ok(params)
}
