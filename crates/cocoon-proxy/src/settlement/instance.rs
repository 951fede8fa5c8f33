//! One instance of the proxy's contract, and which contracts of clients and workers are its own.
//!
//! A change of parameters makes a new instance. Whatever an account claims to be is checked by its address: it is the
//! hash of the code and of the data that it began with.

use cocoon_ton::Address;
use cocoon_ton::chain::{Account, Status};
use cocoon_ton::contract::{
    ClientState, Params, ProxyState, StateError, StateInit, WorkerState, client_address, proxy_address,
    proxy_state_init, worker_address, worker_state_init,
};

use crate::terms::Contracts;

/// An instance of the proxy's contract.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instance {
    pub(crate) contract: Address,
    pub(crate) owner: Address,
    root: Address,
    payment_key: [u8; 32],
    pub(crate) params: Params,
}

/// Why an account is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOurs {
    /// Nothing runs there.
    #[error("nothing is deployed there")]
    Missing,
    /// Storage went unpaid.
    #[error("it is frozen, since its storage went unpaid")]
    Frozen,
    /// Another layout.
    #[error("its data cannot be read: {0}")]
    Unreadable(#[from] StateError),
    /// Another proxy, code, key or parameters.
    #[error("it is no contract of this proxy")]
    Other,
}

impl Instance {
    /// What the root makes of this proxy now.
    pub(crate) fn of(contracts: &Contracts) -> Self {
        Self {
            contract: contracts.proxy(),
            owner: contracts.owner(),
            root: contracts.root(),
            payment_key: contracts.payment_key(),
            params: contracts.params().clone(),
        }
    }

    /// An earlier instance, read back from its own data: the address proves all that it does not change.
    pub(crate) fn read(account: &Account, payment_key: [u8; 32]) -> Result<(Self, ProxyState), NotOurs> {
        let state = ProxyState::parse(data(account)?)?;
        let expected = proxy_address(state.owner, &payment_key, state.root, &state.params)?;
        if state.payment_key != payment_key || expected != account.address {
            return Err(NotOurs::Other);
        }
        let instance = Self {
            contract: account.address,
            owner: state.owner,
            root: state.root,
            payment_key,
            params: state.params.clone(),
        };
        Ok((instance, state))
    }

    /// What deploys the proxy's contract.
    pub(crate) fn state_init(&self) -> Result<StateInit, StateError> {
        proxy_state_init(self.owner, &self.payment_key, self.root, &self.params)
    }

    /// What deploys the contract of a worker of `owner`, and where that is.
    pub(crate) fn worker_init(&self, owner: Address) -> Result<StateInit, StateError> {
        worker_state_init(owner, self.contract, &self.payment_key, &self.params)
    }
}

/// The instance of this contract, if it is one of these.
fn find(instances: &[Instance], contract: Address) -> Result<&Instance, NotOurs> {
    instances.iter().find(|instance| instance.contract == contract).ok_or(NotOurs::Other)
}

/// A client's contract with one of these instances, and with which.
pub(crate) fn read_client(account: &Account, instances: &[Instance]) -> Result<(ClientState, Address), NotOurs> {
    let state = ClientState::parse(data(account)?)?;
    let instance = find(instances, state.proxy)?;
    let expected = client_address(state.owner, instance.contract, &instance.payment_key, &instance.params)?;
    let is_ours = expected == account.address
        && state.proxy_key == instance.payment_key
        && has_code(account, &instance.params.codes()?.client);
    is_ours.then_some((state, instance.contract)).ok_or(NotOurs::Other)
}

/// The same of a worker's contract.
pub(crate) fn read_worker(account: &Account, instances: &[Instance]) -> Result<(WorkerState, Address), NotOurs> {
    let state = WorkerState::parse(data(account)?)?;
    let instance = find(instances, state.proxy)?;
    let expected = worker_address(state.owner, instance.contract, &instance.payment_key, &instance.params)?;
    let is_ours = expected == account.address
        && state.proxy_key == instance.payment_key
        && has_code(account, &instance.params.codes()?.worker);
    is_ours.then_some((state, instance.contract)).ok_or(NotOurs::Other)
}

/// The address says it already; a backend that mixes up accounts is caught here.
fn has_code(account: &Account, code: &cocoon_ton::Cell) -> bool {
    account.code.as_ref().is_some_and(|found| found.repr_hash() == code.repr_hash())
}

fn data(account: &Account) -> Result<&cocoon_ton::Cell, NotOurs> {
    match account.status {
        Status::Missing | Status::Uninit => Err(NotOurs::Missing),
        Status::Frozen => Err(NotOurs::Frozen),
        Status::Active => account.data.as_ref().ok_or(NotOurs::Missing),
    }
}
