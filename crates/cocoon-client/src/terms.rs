//! What the root contract says to a client: the price, how new a proxy's view of it must be, and which contracts the
//! proxy must name.
//!
//! A contract's address is a hash of whose it is, of the proxy's payment key and of the network's parameters. So a proxy
//! cannot name another contract than the one that the root makes of it: what it says is computed again here.
//! Without a root, as in tests on one host, nothing is compared.
//!
//! With money, the same computation says between whom a signed payment must be ([`Parties`]): one that is for another
//! contract, or by another key, is the proxy's fault.

use std::sync::Arc;
use std::time::Duration;

use cocoon_net::{Directory, Peer};
use cocoon_ton::Address;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::contract::signed::{Envelope, Kind};
use cocoon_ton::contract::{StateError, client_address, proxy_address};
use cocoon_units::{AdjustedTokens, Pricing};
use cocoon_wire::message::{PaymentStatus, ProxyParams, SignedPayment};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::limits::NEWS_SETTLE;

/// The root, as this client follows it.
#[derive(Debug)]
pub(crate) struct Terms {
    /// This client's wallet.
    owner: Address,
    root: watch::Receiver<Arc<RootConfig>>,
}

/// Why a proxy's word on contracts is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ContractError {
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
    #[error(
        "the proxy names {named} as this client's contract, which is {computed}: money sent there would not be ours"
    )]
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

    /// What a token costs at this moment.
    pub(crate) fn pricing(&self) -> Pricing {
        self.root.borrow().state.pricing()
    }

    /// The oldest version of the root that a proxy may work by: the newest that we have seen.
    pub(crate) fn min_config_version(&self) -> i32 {
        i32::try_from(self.root.borrow().state.version).unwrap_or(i32::MAX)
    }

    /// The root's versions, to hear of new ones.
    pub(crate) fn root(&self) -> watch::Receiver<Arc<RootConfig>> {
        self.root.clone()
    }

    /// Whether the proxy's contract and ours with it are what the root gives: then, who they are.
    pub(crate) fn check(&self, peer: &Peer, proxy: &ProxyParams, ours: &str) -> Result<Parties, ContractError> {
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
        let computed = client_address(self.owner, named, &proxy.public_key, params)?;
        if ours != computed {
            return Err(ContractError::PeerOwnContract { named: ours, computed });
        }
        Ok(Parties { contract: ours, proxy: named, payment_key: proxy.public_key })
    }

    /// The parties that the root pins for a proxy of its registry; `None` where it pins nobody.
    pub(crate) fn pinned(&self, number: u32) -> Option<Parties> {
        let root = Arc::clone(&*self.root.borrow());
        let pin = root.state.registered_proxies.get(&number)?.pinned()?;
        self.parties(pin.contract, pin.payment_key, &root).ok()
    }

    /// This client's contract with a proxy contract, by a version of the root.
    pub(crate) fn parties(
        &self,
        proxy: Address,
        payment_key: [u8; 32],
        root: &RootConfig,
    ) -> Result<Parties, StateError> {
        let contract = client_address(self.owner, proxy, &payment_key, &root.state.params)?;
        Ok(Parties { contract, proxy, payment_key })
    }

    /// This client's wallet.
    pub(crate) const fn owner(&self) -> Address {
        self.owner
    }

    /// The newest version of the root.
    pub(crate) fn root_now(&self) -> Arc<RootConfig> {
        Arc::clone(&*self.root.borrow())
    }
}

/// Between whom money passes: a contract of ours, and the proxy behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parties {
    /// This client's contract with the proxy.
    pub(crate) contract: Address,
    /// The proxy's own contract.
    pub(crate) proxy: Address,
    /// The key that signs what the proxy demands.
    pub(crate) payment_key: [u8; 32],
}

/// A signed message of a proxy that this client will not stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PaymentError {
    /// No bag of cells, or another layout.
    #[error("the proxy sent a payment that cannot be read")]
    Unreadable,
    /// A payout, or a request to the proxy's own contract.
    #[error("the proxy sent a payment of another kind")]
    OtherKind,
    /// It is for somebody else's contract, or an older one of ours.
    #[error("the proxy sent a payment for the contract {0}, which is not the one between us")]
    OtherContract(Address),
    /// The signature is not by its payment key.
    #[error("the proxy sent a payment that its key did not sign")]
    NotSigned,
    /// It signed more than it says to have in its books: a crash would leave it with less than it may charge.
    #[error("the proxy signed a payment for {signed} and has {durable} in its books")]
    BeyondBooks {
        /// What the signature is for.
        signed: AdjustedTokens,
        /// What it says to have kept.
        durable: AdjustedTokens,
    },
    /// It says to have kept more than it counted.
    #[error("the proxy says that it kept {durable} and counted {known}")]
    KeptMoreThanCounted {
        /// What it says to have kept.
        durable: AdjustedTokens,
        /// What it says to have counted.
        known: AdjustedTokens,
    },
}

impl Parties {
    /// The tokens of a charge that the proxy signed; none where it has signed nothing yet.
    pub(crate) fn charged(&self, payment: &SignedPayment) -> Result<Option<AdjustedTokens>, PaymentError> {
        match payment {
            SignedPayment::Empty => Ok(None),
            SignedPayment::Signed(bytes) => {
                let envelope = self.signed(bytes, Kind::Charge)?;
                Ok(Some(AdjustedTokens::new(envelope.signed.payment.tokens().unwrap_or_default())))
            }
        }
    }

    /// Checks all that a proxy says about what it is owed, short of comparing it with our own count.
    pub(crate) fn check_status(&self, status: &PaymentStatus) -> Result<(), PaymentError> {
        let (durable, known) = (status.db_tokens, status.max_tokens);
        if durable > known {
            return Err(PaymentError::KeptMoreThanCounted { durable, known });
        }
        match self.charged(&status.signed_payment)? {
            Some(signed) if signed > durable => Err(PaymentError::BeyondBooks { signed, durable }),
            Some(_) | None => Ok(()),
        }
    }

    /// A message that the proxy signed for our contract.
    pub(crate) fn signed(&self, bytes: &[u8], kind: Kind) -> Result<Envelope, PaymentError> {
        let envelope = Envelope::from_boc(bytes).map_err(|_| PaymentError::Unreadable)?;
        let payment = envelope.signed.payment;
        if payment.kind() != kind {
            return Err(PaymentError::OtherKind);
        }
        if payment.contract() != self.contract {
            return Err(PaymentError::OtherContract(payment.contract()));
        }
        envelope.signed.verify(&self.payment_key).map_err(|_| PaymentError::NotSigned)?;
        Ok(envelope)
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
    use cocoon_ton::contract::signed::{Payment, charge, grant_refund, payout};
    use cocoon_ton::contract::{Params, RootState, codes};
    use ed25519_dalek::SigningKey;

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
        let ours = client_address(US, contract, &KEY, params).unwrap();
        let proxy = ProxyParams {
            public_key: KEY,
            owner_address: OWNER.raw(),
            sc_address: contract.raw(),
            is_test: true,
            proto_version: None,
        };
        (proxy, ours.raw())
    }

    fn check(proxy: &ProxyParams, ours: &str) -> Result<Parties, ContractError> {
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

    fn between() -> Parties {
        let key = SigningKey::from_bytes(&KEY);
        let one = |byte| Address::basechain([byte; 32]);
        Parties { contract: one(0xc1), proxy: one(0x9a), payment_key: key.verifying_key().to_bytes() }
    }

    fn signed(payment: Payment, key: [u8; 32]) -> SignedPayment {
        let signed = payment.sign(&SigningKey::from_bytes(&key));
        let bytes = Envelope { signed, excesses_to: OWNER }.to_boc();
        SignedPayment::signed(bytes.into()).unwrap()
    }

    #[test]
    fn a_charge_between_us_is_taken() {
        let ours = between();
        let charge = signed(charge(ours.contract, 1, 42), KEY);
        assert_eq!(ours.charged(&charge), Ok(Some(AdjustedTokens::new(42))));
        assert_eq!(ours.charged(&SignedPayment::Empty), Ok(None));
    }

    #[test]
    fn forged_replayed_and_foreign_contract_payments_are_refused() {
        let ours = between();
        let refused = |payment: SignedPayment, error: PaymentError| assert_eq!(ours.charged(&payment), Err(error));
        refused(signed(charge(ours.contract, 1, 42), [8; 32]), PaymentError::NotSigned);
        refused(signed(charge(OWNER, 1, 42), KEY), PaymentError::OtherContract(OWNER));
        refused(signed(payout(ours.contract, 1, 42), KEY), PaymentError::OtherKind);
        refused(signed(grant_refund(ours.contract, 1, 42), KEY), PaymentError::OtherKind);
        refused(SignedPayment::signed(vec![1, 2, 3].into()).unwrap(), PaymentError::Unreadable);
    }

    #[test]
    fn a_proxy_signs_no_more_than_it_has_in_its_books() {
        let ours = between();
        let status = |signed_tokens: u64, durable: u64, known: u64| PaymentStatus {
            signed_payment: signed(charge(ours.contract, 1, signed_tokens), KEY),
            db_tokens: AdjustedTokens::new(durable),
            max_tokens: AdjustedTokens::new(known),
        };
        ours.check_status(&status(1, 2, 3)).unwrap();
        ours.check_status(&status(3, 3, 3)).unwrap();
        assert!(matches!(ours.check_status(&status(3, 2, 3)), Err(PaymentError::BeyondBooks { .. })));
        assert!(matches!(ours.check_status(&status(1, 3, 2)), Err(PaymentError::KeptMoreThanCounted { .. })));
    }
}
