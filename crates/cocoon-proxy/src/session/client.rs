//! A client's handshake as typestates: what is legal in a state is a method of that state, and of
//! no other.
//!
//! `AwaitConnect → connect → AwaitAuth → prove_short | await_registration → Proven → admit → ReadyClient`; wire.md,
//! section 4. Pure: no connection, no task, no chain; [`serve`](super::client_loop) drives it.
//!
//! | | whose secret | long authorization | what must be there |
//! |---|---|---|---|
//! | without a chain | in the proxy's configuration | refused | the secret |
//! | with one | its hash in the client's contract | its owner registers a nonce there | the contract, with money in it |
//!
//! A client whose contract is not there yet is told its address and a nonce all the same: with them it deploys, funds
//! and registers, and comes in by long authorization.

use cocoon_ledger::Credit;
use cocoon_ton::Address;
use cocoon_ton::contract::{ClientState, Lifecycle};
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{AuthChallenge, ClientAnswer, ClientParams, SignedPayment};
use cocoon_wire::{Sealed, Version};

use super::standing::Standing;
use super::{Refusal, Terms};
use crate::books;
use crate::config::Hex32;
use crate::hub::Opened;

/// The connection is open; nothing was said.
#[derive(Debug)]
pub(crate) struct AwaitConnect;

/// The client said who it is; its contract is looked at next, where there is a chain.
#[derive(Debug)]
pub(crate) struct Introduced {
    owner: String,
    /// Our contract, as the client is told it.
    contract: Option<Address>,
    /// The client's own.
    account: Option<Address>,
    version: Version,
    answer: ClientAnswer,
}

/// The client must prove who it is.
#[derive(Debug)]
pub(crate) struct AwaitAuth {
    owner: String,
    contract: Option<Address>,
    account: Option<Address>,
    version: Version,
    /// None where there is no secret, so that only a registration proves anything.
    secret_hash: Option<Hex32>,
    nonce: u64,
}

/// The client is who it says; whether it can pay is looked at now.
#[derive(Debug)]
pub(crate) struct Proven {
    owner: String,
    contract: Option<Address>,
    account: Option<Address>,
    version: Version,
}

/// The client may ask.
#[derive(Debug)]
pub(crate) struct ReadyClient {
    /// The account that pays.
    pub(crate) account: String,
    /// Our contract, as the client was told it.
    pub(crate) contract: Option<Address>,
    pub(crate) version: Version,
}

impl AwaitConnect {
    /// Takes the client's parameters.
    pub(crate) fn connect(
        self,
        terms: &Terms,
        standing: &Standing,
        params: ClientParams,
        min_config_version: i32,
    ) -> Result<Introduced, Refusal> {
        let version = terms.agree(standing, params.is_test, params.versions)?;
        if min_config_version > terms.network.config_version {
            return Err(Refusal::ConfigTooOld);
        }
        let owner = params.owner_address;
        let account = terms.peer_contract(|contracts| contracts.client(&owner))?;
        let answer = ClientAnswer::Connected {
            params: terms.params(version),
            client_sc_address: account.map(|account| account.raw()).unwrap_or_default(),
            auth: AuthChallenge::Long { nonce: 0 },
            signed_payment: SignedPayment::Empty,
        };
        Ok(Introduced { owner, contract: terms.network.contract(), account, version, answer })
    }
}

impl Introduced {
    /// The client's contract, to be looked up. None without a chain.
    pub(crate) const fn account(&self) -> Option<Address> {
        self.account
    }

    /// Challenges a client without a chain: the proxy's owner has configured its secret.
    pub(crate) fn challenge_configured(self, terms: &Terms) -> Result<(AwaitAuth, ClientAnswer), Refusal> {
        let secret_hash = terms.config.secret_hash_of(&self.owner).ok_or(Refusal::NoSecret)?;
        Ok(self.challenge(Some(secret_hash), 0))
    }

    /// Challenges a client by its contract; `nonce` is fresh. A secret that everybody knows, the empty one, is none.
    pub(crate) fn challenge_by_contract(self, state: Option<&ClientState>, nonce: u64) -> (AwaitAuth, ClientAnswer) {
        let secret_hash = state.map(|state| Hex32(state.secret_hash));
        self.challenge(secret_hash.filter(|hash| *hash != Hex32::default() && *hash != Hex32::sha256(b"")), nonce)
    }

    fn challenge(self, secret_hash: Option<Hex32>, nonce: u64) -> (AwaitAuth, ClientAnswer) {
        let Self { owner, contract, account, version, mut answer } = self;
        if let ClientAnswer::Connected { auth, .. } = &mut answer {
            let nonce = nonce.cast_signed();
            *auth = match secret_hash {
                Some(hash) => AuthChallenge::Short { secret_hash: hash.0, nonce },
                None => AuthChallenge::Long { nonce },
            };
        }
        (AwaitAuth { owner, contract, account, version, secret_hash, nonce }, answer)
    }
}

impl AwaitAuth {
    /// Whether a secret proves anything here.
    pub(crate) const fn has_secret(&self) -> bool {
        self.secret_hash.is_some()
    }

    /// Checks the secret.
    pub(crate) fn prove_short(self, secret: &Sealed) -> Result<Proven, Box<ClientAnswer>> {
        let Some(secret_hash) = self.secret_hash else {
            let error = "your contract names no secret, or the empty one, which everybody knows: set another there, or \
                         register with the nonce of the challenge";
            return Err(Box::new(failed(401, error)));
        };
        // Both are hashes, so the time that a comparison takes tells nothing about the secret.
        if Hex32::sha256(secret.expose()) != secret_hash {
            return Err(Box::new(failed(401, "the secret is not the one this proxy knows for the client")));
        }
        Ok(self.proven())
    }

    /// What must appear on the chain: the client's contract, and the nonce that its owner registers there.
    pub(crate) fn registration(&self) -> Result<(Address, u64), Box<ClientAnswer>> {
        let error = "long authorization is not offered: this proxy does not watch the chain; use a secret";
        self.account.map(|account| (account, self.nonce)).ok_or_else(|| Box::new(failed(401, error)))
    }

    /// The client's registration was seen on the chain.
    pub(crate) fn registered(self) -> Proven {
        self.proven()
    }

    fn proven(self) -> Proven {
        Proven { owner: self.owner, contract: self.contract, account: self.account, version: self.version }
    }
}

impl Proven {
    /// The client's contract, to be looked up. None without a chain.
    pub(crate) const fn account(&self) -> Option<Address> {
        self.account
    }

    /// The wallet that the client named.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// What a client may use by its contract, or what it has to do before it may use anything.
    pub(crate) fn credit(&self, state: Option<&ClientState>) -> Result<Credit, Box<ClientAnswer>> {
        let contract = self.account.map(|account| account.raw()).unwrap_or_default();
        let insufficient = |what: &str| Err(Box::new(failed(402, &format!("your contract {contract} {what}"))));
        let Some(state) = state else {
            return insufficient("is not deployed: deploy it, and top it up with at least the stake");
        };
        if state.state != Lifecycle::Normal {
            return insufficient("is closing or closed: nothing new can be charged to it");
        }
        let credit = books::credit(state);
        if credit.secured == AdjustedTokens::ZERO {
            return insufficient("holds nothing that can be charged: top it up with at least the stake");
        }
        Ok(credit)
    }

    /// Lets the client in. What its account stands at is told where it is kept; without a chain a fresh connection is
    /// told nothing more than that it is welcome.
    pub(crate) fn admit(self, opened: Option<Opened>) -> (ReadyClient, ClientAnswer) {
        let (signed_payment, durable, known) = match opened {
            Some(Opened { signed, marks }) => (signed, marks.durable, marks.known),
            None => (SignedPayment::Empty, AdjustedTokens::ZERO, AdjustedTokens::ZERO),
        };
        let answer = ClientAnswer::Authorized { signed_payment, tokens_committed_to_db: durable, max_tokens: known };
        let Self { owner, contract, account, version } = self;
        let account = account.map_or(owner, |account| account.raw());
        (ReadyClient { account, contract, version }, answer)
    }
}

/// An answer that ends the handshake: 401 for a proof that is none, 402 for a contract that cannot pay, 503 for a chain
/// that does not answer.
pub(crate) fn failed(code: i32, error: &str) -> ClientAnswer {
    ClientAnswer::AuthorizationFailed { code, error: error.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use cocoon_ton::contract::Params;
    use cocoon_units::Nano;
    use cocoon_wire::VersionRange;

    use super::*;
    use crate::config::ProxyConfig;
    use crate::session::standing::Evidence;
    use crate::terms::ProxyTerms;

    fn terms() -> Terms {
        let config = ProxyConfig {
            config_version: 3,
            client_secret_hash: Some(Hex32::sha256(b"secret")),
            ..ProxyConfig::default()
        };
        terms_of(config)
    }

    fn terms_of(config: ProxyConfig) -> Terms {
        Terms { network: Arc::new(ProxyTerms::by_config(&config)), config: Arc::new(config) }
    }

    fn here() -> Standing {
        Standing { versions: VersionRange::ALL, evidence: Evidence::NotAsked }
    }

    fn params(is_test: bool, min: i32, max: i32) -> ClientParams {
        ClientParams { owner_address: "wallet".into(), is_test, versions: Some(VersionRange { min, max }) }
    }

    fn check(params: ClientParams, min_config_version: i32, expected: Result<Version, Refusal>) {
        let state = AwaitConnect.connect(&terms(), &here(), params, min_config_version);
        assert_eq!(state.map(|state| state.version), expected);
    }

    #[test]
    fn the_first_message_settles_mode_version_and_configuration() {
        check(params(true, 1, 2), 3, Ok(Version::V2));
        check(params(true, 0, 100), 3, Ok(Version::Extended));
        check(params(false, 1, 2), 3, Err(Refusal::TestModeDiffers));
        check(params(true, 3, 50), 3, Err(Refusal::NoCommonVersion));
        check(params(true, 1, 2), 4, Err(Refusal::ConfigTooOld));
    }

    #[test]
    fn an_original_client_is_not_given_the_extended_profile() {
        let standing = Standing { versions: VersionRange { min: 0, max: 2 }, ..here() };
        let state = AwaitConnect.connect(&terms(), &standing, params(true, 0, 100), 0);
        assert_eq!(state.map(|state| state.version), Ok(Version::V2));
    }

    #[test]
    fn wrong_secret_is_refused() {
        let authorize = |secret: &'static [u8]| {
            let state = AwaitConnect.connect(&terms(), &here(), params(true, 1, 2), 0).unwrap();
            let (state, _) = state.challenge_configured(&terms()).unwrap();
            state.prove_short(&Sealed::new(Bytes::from_static(secret))).is_ok()
        };
        assert!(authorize(b"secret"));
        assert!(!authorize(b""));
        assert!(!authorize(b"secret2"));
    }

    #[test]
    fn without_a_configured_secret_nobody_enters() {
        let terms = terms_of(ProxyConfig::default());
        let state = AwaitConnect.connect(&terms, &here(), params(true, 1, 2), 0).unwrap();
        assert_eq!(state.challenge_configured(&terms).map(|_| ()), Err(Refusal::NoSecret));
    }

    fn contract(balance: u64, secret_hash: Hex32) -> ClientState {
        let (owner, proxy) = (Address::basechain([1; 32]), Address::basechain([2; 32]));
        let params = Params { price_per_token: Nano::new(2), min_client_stake: Nano::new(100), ..Params::default() };
        let initial = ClientState::initial(owner, proxy, [3; 32], &params);
        ClientState { balance: Nano::new(balance), secret_hash: secret_hash.0, ..initial }
    }

    fn introduced() -> Introduced {
        AwaitConnect.connect(&terms(), &here(), params(true, 1, 2), 0).unwrap()
    }

    #[test]
    fn empty_secret() {
        let challenged = |hash| {
            let state = contract(100, hash);
            let (state, answer) = introduced().challenge_by_contract(Some(&state), 7);
            let ClientAnswer::Connected { auth, .. } = answer else { panic!("not connected") };
            (state, auth)
        };
        for nobodys in [Hex32::default(), Hex32::sha256(b"")] {
            let (state, auth) = challenged(nobodys);
            assert_eq!(auth, AuthChallenge::Long { nonce: 7 });
            assert!(state.prove_short(&Sealed::default()).is_err(), "everybody knows it");
        }
        let (state, auth) = challenged(Hex32::sha256(b"mine"));
        assert_eq!(auth, AuthChallenge::Short { secret_hash: Hex32::sha256(b"mine").0, nonce: 7 });
        assert!(state.prove_short(&Sealed::new(Bytes::from_static(b"mine"))).is_ok());
    }

    #[test]
    fn a_contract_that_cannot_pay_says_what_to_do() {
        let proven = introduced().challenge_by_contract(None, 7).0.registered();
        let check =
            |state: Option<ClientState>, expected: Result<u64, &str>| match (proven.credit(state.as_ref()), expected) {
                (Ok(credit), Ok(secured)) => assert_eq!(credit.secured.get(), secured),
                (Err(answer), Err(what)) => {
                    let ClientAnswer::AuthorizationFailed { code: 402, error } = *answer else { panic!("{answer:?}") };
                    assert!(error.contains(what), "{error}");
                }
                (credit, expected) => panic!("{credit:?} instead of {expected:?}"),
            };
        let secret = Hex32::sha256(b"mine");
        check(None, Err("deploy it"));
        check(Some(contract(0, secret)), Err("top it up"));
        check(Some(contract(1, secret)), Err("top it up"));
        check(Some(ClientState { state: Lifecycle::Closing, ..contract(100, secret) }), Err("closing"));
        check(Some(contract(60, secret)), Ok(30));
        // What lies above the stake its owner can take at any time.
        check(Some(contract(1_000, secret)), Ok(50));
    }
}
