//! What the root contract says to a worker: weights of tokens, and which contracts a proxy must name.
//!
//! A contract's address is a hash of whose it is, of the proxy's payment key and of the network's parameters. So a proxy
//! cannot name another contract than the one that the root makes of it: what it says is computed again here.
//! Without a root, as in tests on one host, nothing is compared.

use std::sync::Arc;
use std::time::Duration;

use cocoon_net::{Directory, Peer};
use cocoon_ton::Address;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::contract::{StateError, StateInit, proxy_address, worker_state_init};
use cocoon_units::Multipliers;
use cocoon_wire::message::ProxyParams;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::limits::NEWS_SETTLE;

/// The root, as this worker follows it.
#[derive(Debug)]
pub(crate) struct Terms {
    /// This worker's wallet.
    owner: Address,
    root: watch::Receiver<Arc<RootConfig>>,
}

/// Why a proxy's word on contracts is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// The root's parameters give no addresses.
    #[error("the root contract's parameters cannot be used")]
    ChainParams(#[from] StateError),
    /// It is no address.
    #[error("the proxy names {text:?} as {what}, which is no address")]
    PeerAddress {
        /// What it should have been.
        what: &'static str,
        /// What it said.
        text: String,
    },
    /// Its payment key is not the one that its evidence covers.
    #[error("the proxy's payment key is not the one that its evidence names")]
    PeerPaymentKey,
    /// Its contract is not the one that owner, key and the root's parameters give.
    #[error(
        "the proxy names its contract {named}, and the root contract gives {computed}: one of us has read the root before it changed, or the proxy belongs to another network"
    )]
    PeerProxyContract {
        /// What it said.
        named: Address,
        /// What we compute.
        computed: Address,
    },
    /// The contract between it and us is another.
    #[error("the proxy names {named} as this worker's contract, which is {computed}: nothing would be paid to us")]
    PeerOwnContract {
        /// What it said.
        named: Address,
        /// What we compute.
        computed: Address,
    },
}

impl Terms {
    pub(crate) fn new(owner: Address, root: watch::Receiver<Arc<RootConfig>>) -> Self {
        Self { owner, root }
    }

    /// The weights of tokens at this moment.
    pub(crate) fn multipliers(&self) -> Multipliers {
        self.root.borrow().state.pricing().multipliers
    }

    /// The root's versions, to hear of new ones.
    pub(crate) fn root(&self) -> watch::Receiver<Arc<RootConfig>> {
        self.root.clone()
    }

    /// Whether the proxy's contract and ours with it are what the root gives; how ours begins.
    pub(crate) fn check(&self, peer: &Peer, proxy: &ProxyParams, ours: &str) -> Result<StateInit, ContractError> {
        let root = Arc::clone(&*self.root.borrow());
        let owner = parse("its owner", &proxy.owner_address)?;
        let named = parse("its contract", &proxy.sc_address)?;
        let ours = parse("our contract", ours)?;
        check_key(peer, proxy)?;
        let params = &root.state.params;
        let computed = proxy_address(owner, &proxy.public_key, root.address, params)?;
        if named != computed {
            return Err(ContractError::PeerProxyContract { named, computed });
        }
        let init = worker_state_init(self.owner, named, &proxy.public_key, params)?;
        let computed = init.address();
        if ours != computed {
            return Err(ContractError::PeerOwnContract { named: ours, computed });
        }
        Ok(init)
    }
}

/// What may make a dial succeed that failed before: another list of proxies, another root.
#[derive(Debug)]
pub(crate) struct News {
    directory: Directory,
    root: Option<watch::Receiver<Arc<RootConfig>>>,
}

impl News {
    pub(crate) fn of(directory: &Directory, terms: Option<&Terms>) -> Self {
        Self { directory: directory.clone(), root: terms.map(Terms::root) }
    }

    /// Waits before the next dial: for this long, or until there is news, and then for a moment, in which the rest of
    /// this node hears of it too.
    pub(crate) async fn pause(&mut self, delay: Duration) {
        self.directory.look();
        tokio::select! {
            () = sleep(delay) => {}
            () = self.come() => sleep(delay.min(NEWS_SETTLE)).await,
        }
    }

    async fn come(&mut self) {
        let Some(root) = &mut self.root else { return self.directory.changed().await };
        tokio::select! {
            () = self.directory.changed() => {}
            changed = root.changed() => {
                if changed.is_err() {
                    std::future::pending().await
                }
            }
        }
    }
}

fn parse(what: &'static str, text: &str) -> Result<Address, ContractError> {
    text.parse().map_err(|_| ContractError::PeerAddress { what, text: text.chars().take(80).collect() })
}

/// Evidence covers the payment key, where the peer showed any.
fn check_key(peer: &Peer, proxy: &ProxyParams) -> Result<(), ContractError> {
    let Peer::Attested(peer) = peer else { return Ok(()) };
    match peer.claims() {
        Some(claims) if claims.keys.payment != proxy.public_key => Err(ContractError::PeerPaymentKey),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ton::chain::Head;
    use cocoon_ton::contract::{Params, RootState, codes, worker_address};

    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const OWNER: Address = Address::basechain([3; 32]);
    const US: Address = Address::basechain([4; 32]);

    fn root(price: u64) -> RootConfig {
        let price_per_token = cocoon_units::Nano::new(price);
        let params = Params { price_per_token, codes: Some(codes().published()), ..Params::default() };
        let state = RootState::initial(Address::basechain([1; 32]), params);
        RootConfig { address: Address::basechain([2; 32]), state, at: Head { seqno: 1, unix_s: 1, lt: 1 } }
    }

    /// What an honest proxy says by a root: itself, and our contract with it.
    fn honest(root: &RootConfig) -> (ProxyParams, String) {
        let params = &root.state.params;
        let contract = proxy_address(OWNER, &KEY, root.address, params).unwrap();
        let ours = worker_address(US, contract, &KEY, params).unwrap();
        let proxy = ProxyParams {
            public_key: KEY,
            owner_address: OWNER.raw(),
            sc_address: contract.raw(),
            is_test: true,
            proto_version: None,
        };
        (proxy, ours.raw())
    }

    fn check(proxy: &ProxyParams, ours: &str) -> Result<StateInit, ContractError> {
        let (_sender, receiver) = watch::channel(Arc::new(root(2)));
        let peer = Peer::InMemory { name: "proxy".into() };
        Terms::new(US, receiver).check(&peer, proxy, ours)
    }

    #[test]
    fn a_proxy_that_names_other_contracts_than_the_root_gives() {
        let (proxy, ours) = honest(&root(2));
        check(&proxy, &ours).unwrap();
        let elsewhere = Address::basechain([9; 32]).raw();

        let other = ProxyParams { sc_address: elsewhere.clone(), ..proxy.clone() };
        assert!(matches!(check(&other, &ours), Err(ContractError::PeerProxyContract { .. })));
        let other = ProxyParams { public_key: [8; 32], ..proxy.clone() };
        assert!(matches!(check(&other, &ours), Err(ContractError::PeerProxyContract { .. })));
        let other = ProxyParams { owner_address: elsewhere.clone(), ..proxy.clone() };
        assert!(matches!(check(&other, &ours), Err(ContractError::PeerProxyContract { .. })));
        let error = check(&proxy, &elsewhere).unwrap_err();
        assert!(matches!(error, ContractError::PeerOwnContract { .. }), "{error}");
        let other = ProxyParams { sc_address: String::new(), ..proxy.clone() };
        assert!(matches!(check(&other, &ours), Err(ContractError::PeerAddress { .. })));
    }

    #[test]
    fn a_proxy_that_works_by_old_prices() {
        let (proxy, ours) = honest(&root(1));
        let error = check(&proxy, &ours).unwrap_err().to_string();
        assert!(error.contains("before it changed"), "{error}");
    }
}
