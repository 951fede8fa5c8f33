//! Addresses of contracts: the hash of code and initial data. Nobody registers a client or worker; a proxy knows its
//! own by computing where they must be.

use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder};

use super::client::ClientState;
use super::codec::StateError;
use super::params::Params;
use super::proxy::ProxyState;
use super::worker::WorkerState;
use crate::address::Address;

/// Code and initial data of a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateInit {
    /// Its code.
    pub code: Cell,
    /// Its initial data.
    pub data: Cell,
}

impl StateInit {
    /// The cell that a message carries to deploy it.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        let init = tycho_types::models::StateInit::from(self.clone());
        CellBuilder::build_from(init).expect("five bits and two references fit a cell")
    }

    /// Where it is deployed, in the basechain.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::basechain(self.to_cell().repr_hash().0)
    }

    /// The same as a bag of cells, in which form it is kept.
    #[must_use]
    pub fn to_boc(&self) -> Vec<u8> {
        Boc::encode(self.to_cell())
    }

    /// Reads what was kept. It is the contract at [`Self::address`] and no other, whoever wrote it.
    ///
    /// # Errors
    ///
    /// When it is no bag of cells, or no state with code and data.
    pub fn from_boc(bytes: &[u8]) -> Result<Self, StateError> {
        let what = "state of a new contract";
        let malformed = |reason| StateError::Malformed { what, field: "bag of cells", reason };
        let cell = Boc::decode(bytes).map_err(|_| malformed("not one"))?;
        let init = cell.parse::<tycho_types::models::StateInit>().map_err(|_| malformed("another layout"))?;
        let (Some(code), Some(data)) = (init.code, init.data) else { return Err(malformed("without code or data")) };
        Ok(Self { code, data })
    }
}

impl From<StateInit> for tycho_types::models::StateInit {
    fn from(init: StateInit) -> Self {
        Self { code: Some(init.code), data: Some(init.data), ..Self::default() }
    }
}

/// Code and initial data of a proxy contract.
///
/// # Errors
///
/// When the parameters lack codes.
pub fn proxy_state_init(
    owner: Address,
    payment_key: &[u8; 32],
    root: Address,
    params: &Params,
) -> Result<StateInit, StateError> {
    let state = ProxyState::initial(owner, *payment_key, root, params.clone())?;
    Ok(StateInit { code: params.codes()?.proxy.clone(), data: state.to_cell() })
}

/// Code and initial data of a client contract. `params` are the root's, with codes.
///
/// # Errors
///
/// When the parameters lack codes.
pub fn client_state_init(
    owner: Address,
    proxy: Address,
    proxy_key: &[u8; 32],
    params: &Params,
) -> Result<StateInit, StateError> {
    let state = ClientState::initial(owner, proxy, *proxy_key, params);
    Ok(StateInit { code: params.codes()?.client.clone(), data: state.to_cell() })
}

/// Code and initial data of a worker contract. `params` are the root's, with codes.
///
/// # Errors
///
/// When the parameters lack codes.
pub fn worker_state_init(
    owner: Address,
    proxy: Address,
    proxy_key: &[u8; 32],
    params: &Params,
) -> Result<StateInit, StateError> {
    let state = WorkerState::initial(owner, proxy, *proxy_key, params);
    Ok(StateInit { code: params.codes()?.worker.clone(), data: state.to_cell() })
}

/// The address of a proxy contract.
///
/// # Errors
///
/// When the parameters lack codes.
pub fn proxy_address(
    owner: Address,
    payment_key: &[u8; 32],
    root: Address,
    params: &Params,
) -> Result<Address, StateError> {
    Ok(proxy_state_init(owner, payment_key, root, params)?.address())
}

/// The address of a client contract. `params` are the root's, with codes.
///
/// # Errors
///
/// When the parameters lack codes.
pub fn client_address(
    owner: Address,
    proxy: Address,
    proxy_key: &[u8; 32],
    params: &Params,
) -> Result<Address, StateError> {
    Ok(client_state_init(owner, proxy, proxy_key, params)?.address())
}

/// The address of a worker contract. `params` are the root's, with codes.
///
/// # Errors
///
/// When the parameters lack codes.
pub fn worker_address(
    owner: Address,
    proxy: Address,
    proxy_key: &[u8; 32],
    params: &Params,
) -> Result<Address, StateError> {
    Ok(worker_state_init(owner, proxy, proxy_key, params)?.address())
}
