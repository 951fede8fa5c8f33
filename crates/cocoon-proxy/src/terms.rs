//! What the network says to a proxy: price, weights of tokens, the version of its configuration, and its contracts.
//!
//! It is a plain value, made from the root contract by whoever reads that ([`ProxyTerms::by_root`]), or from the
//! configuration where there is no chain. A new value counts for requests that come from then on; a new contract ends
//! every session once what it runs has finished, so that both sides begin anew with the new contract.

use std::sync::Arc;
use std::time::Duration;

use cocoon_ton::Address;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::contract::{Params, StateError, client_address, proxy_address, worker_address};
use cocoon_units::{AdjustedTokens, Pricing};

use crate::config::{ProxyConfig, SettlementConfig};
use crate::core::ExposureRules;

/// What a proxy tells its peers and counts by.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyTerms {
    /// The version of the root that this is from.
    pub config_version: i32,
    /// The token's price and the weights of its kinds.
    pub pricing: Pricing,
    /// The proxy's contract and those of its peers; none without a chain.
    pub contracts: Option<Arc<Contracts>>,
}

/// One instance of a proxy's contract, and what the contracts of its peers derive from.
#[derive(Debug, Clone, PartialEq)]
pub struct Contracts {
    root: Address,
    owner: Address,
    proxy: Address,
    payment_key: [u8; 32],
    params: Params,
}

impl ProxyTerms {
    /// What the root says to the proxy of this wallet with this payment key.
    ///
    /// # Errors
    /// When the root's parameters give no addresses.
    pub fn by_root(root: &RootConfig, owner: Address, payment_key: [u8; 32]) -> Result<Self, StateError> {
        let params = root.state.params.clone();
        let proxy = proxy_address(owner, &payment_key, root.address, &params)?;
        Ok(Self {
            config_version: i32::try_from(root.state.version).unwrap_or(i32::MAX),
            pricing: root.state.pricing(),
            contracts: Some(Arc::new(Contracts { root: root.address, owner, proxy, payment_key, params })),
        })
    }

    pub(crate) fn by_config(config: &ProxyConfig) -> Self {
        Self { config_version: config.config_version, pricing: config.pricing, contracts: None }
    }

    /// How much a worker may earn before it is signed, at its fee. A fee of nothing is never exposed.
    pub(crate) fn exposure(&self, config: &SettlementConfig) -> ExposureRules {
        let fee = self.contracts.as_ref().map_or(0, |contracts| contracts.params.worker_fee_per_token.get());
        let tokens_max = config.exposure.nano().get().checked_div(fee).map_or(AdjustedTokens::MAX, AdjustedTokens::new);
        ExposureRules { tokens_max, age_max: Duration::from_secs(config.exposure_s) }
    }

    /// The contract of the moment; none without a chain.
    pub(crate) fn contract(&self) -> Option<Address> {
        self.contracts.as_ref().map(|contracts| contracts.proxy)
    }
}

impl Contracts {
    /// The wallet that owns the proxy.
    #[must_use]
    pub const fn owner(&self) -> Address {
        self.owner
    }

    /// The proxy's own contract.
    #[must_use]
    pub const fn proxy(&self) -> Address {
        self.proxy
    }

    /// The key that signs payments.
    #[must_use]
    pub const fn payment_key(&self) -> [u8; 32] {
        self.payment_key
    }

    /// The root that it belongs to.
    pub(crate) const fn root(&self) -> Address {
        self.root
    }

    /// The root's parameters, with codes.
    pub(crate) const fn params(&self) -> &Params {
        &self.params
    }

    /// The contract between this proxy and a client of that wallet; none where the wallet is no address.
    #[must_use]
    pub fn client(&self, owner: &str) -> Option<Address> {
        client_address(owner.parse().ok()?, self.proxy, &self.payment_key, &self.params).ok()
    }

    /// The same of a worker.
    #[must_use]
    pub fn worker(&self, owner: &str) -> Option<Address> {
        worker_address(owner.parse().ok()?, self.proxy, &self.payment_key, &self.params).ok()
    }
}
