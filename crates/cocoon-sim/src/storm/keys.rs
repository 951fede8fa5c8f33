//! Whose keys there are, and the addresses that follow from them.

use std::path::Path;
use std::sync::Arc;

use cocoon_attest::Role;
use cocoon_simtee::{Platform, SimImage};
use cocoon_tee::NodeKeys;
use cocoon_ton::Address;
use cocoon_ton::contract::{Params, client_state_init, proxy_address, worker_state_init};
use cocoon_ton::keys::KeyFile;
use cocoon_ton::wallet::{Network, Wallet, WalletKind};
use cocoon_units::{Clock, UnixTime};
use ed25519_dalek::SigningKey;

use super::Failure;
use super::books::{Operator, Owners};
use super::node::{CLIENTS, PROXIES, WORKERS};

/// The keys of everybody.
pub(super) struct Keys {
    /// Own the proxies; the first one owns the root, too.
    pub(super) operators: [Wallet; PROXIES],
    /// Own the workers.
    pub(super) earners: [Wallet; WORKERS],
    /// Pay.
    pub(super) payers: [Wallet; CLIENTS],
    /// What the simulated TEE derives for each proxy and each worker: their owners tell them apart.
    pub(super) proxy: NodeKeys,
    pub(super) worker: NodeKeys,
}

impl Keys {
    pub(super) fn make(folder: &Path) -> Result<Self, Failure> {
        let kind = WalletKind::V5R1 { network: Network::TESTNET };
        let wallet = |name: &str, seed: u8| {
            let key = SigningKey::from_bytes(&[seed; 32]);
            KeyFile::from_key(key.clone()).create(&folder.join(name), None)?;
            Ok::<_, Failure>(Wallet::new(key, kind))
        };
        let platform = Platform::open(folder.join("simulated-tee"), Arc::new(System) as Arc<dyn Clock>)?;
        let node = |role: Role| {
            let sealing = platform.td(SimImage::for_role(role)).sealing_keys(role.name());
            NodeKeys::derive(&sealing)
        };
        Ok(Self {
            operators: [wallet(&operator_key(0), 1)?, wallet(&operator_key(1), 7)?],
            payers: [wallet(&payer_key(0), 2)?, wallet(&payer_key(1), 3)?],
            earners: [wallet(&earner_key(0), 4)?, wallet(&earner_key(1), 5)?, wallet(&earner_key(2), 6)?],
            proxy: node(Role::Proxy)?,
            worker: node(Role::Worker)?,
        })
    }

    fn node_wallet(keys: &NodeKeys, owner: &Wallet) -> Wallet {
        Wallet::new(keys.wallet().clone(), WalletKind::Cocoon { owner: owner.address() })
    }

    /// Every wallet, by what it is.
    pub(super) fn owners(&self, proxies: usize) -> Owners {
        let operators = self.operators.each_ref().map(|owner| Operator {
            owner: owner.address(),
            wallet: Self::node_wallet(&self.proxy, owner).address(),
            ..Operator::default()
        });
        Owners {
            operators: operators.into_iter().take(proxies).collect(),
            earners: self.earners.each_ref().map(Wallet::address),
            payers: self.payers.each_ref().map(Wallet::address),
            worker_wallets: self.earners.each_ref().map(|owner| Self::node_wallet(&self.worker, owner).address()),
            ..Owners::default()
        }
    }

    pub(super) fn wallets(&self) -> Vec<Address> {
        self.owners(PROXIES).wallets().into_iter().map(|(_, address)| address).collect()
    }
}

impl Owners {
    /// The contracts of this network's parameters.
    pub(super) fn derive(&mut self, keys: &Keys, root: Address, params: &Params) -> Result<(), Failure> {
        let payment = keys.proxy.public().payment;
        for operator in &mut self.operators {
            let proxy = proxy_address(operator.owner, &payment, root, params)?;
            operator.contract = proxy;
            for (contract, owner) in operator.worker_contracts.iter_mut().zip(self.earners) {
                *contract = worker_state_init(owner, proxy, &payment, params)?.address();
            }
            for (contract, payer) in operator.client_contracts.iter_mut().zip(self.payers) {
                *contract = client_state_init(payer, proxy, &payment, params)?.address();
            }
        }
        self.price = params.price_per_token.get();
        self.fee = params.worker_fee_per_token.get();
        self.stake = params.min_proxy_stake.get();
        Ok(())
    }
}

/// Where the key of a proxy's owner lies.
pub(super) fn operator_key(number: usize) -> String {
    if number == 0 { "owner.key".to_owned() } else { format!("owner-{number}.key") }
}

/// Where a client's key lies.
pub(super) fn payer_key(number: usize) -> String {
    format!("payer-{number}.key")
}

/// Where the key of a worker's owner lies.
pub(super) fn earner_key(number: usize) -> String {
    format!("earner-{number}.key")
}

/// This machine's clock.
#[derive(Debug)]
struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the processes of a storm go by this machine's clock")]
    fn unix_now(&self) -> UnixTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        UnixTime::from_secs_f64(since.unwrap_or_default().as_secs_f64())
    }
}
