//! A client's handshake as typestates: what is legal in a state is a method of that state, and of
//! no other.
//!
//! `AwaitConnect → connect → AwaitAuth → authorize_short → ReadyClient`; wire.md, section 4.
//! Pure: no connection, no task; [`serve`](super::client_loop) drives it.

use cocoon_ton::Address;
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{AuthChallenge, ClientAnswer, ClientParams, SignedPayment};
use cocoon_wire::{Sealed, Version};

use super::standing::Standing;
use super::{Refusal, Terms};
use crate::config::Hex32;

/// The connection is open; nothing was said.
#[derive(Debug)]
pub(crate) struct AwaitConnect;

/// The client said who it is and must prove it.
#[derive(Debug)]
pub(crate) struct AwaitAuth {
    owner: String,
    contract: Option<Address>,
    version: Version,
    secret_hash: Hex32,
}

/// The client may ask.
#[derive(Debug)]
pub(crate) struct ReadyClient {
    pub(crate) owner: String,
    /// Our contract, as the client was told it.
    pub(crate) contract: Option<Address>,
    pub(crate) version: Version,
}

impl AwaitConnect {
    /// Takes the client's parameters; the answer carries the chosen version and the challenge.
    pub(crate) fn connect(
        self,
        terms: &Terms,
        standing: &Standing,
        params: ClientParams,
        min_config_version: i32,
    ) -> Result<(AwaitAuth, ClientAnswer), Refusal> {
        let version = terms.agree(standing, params.is_test, params.versions)?;
        if min_config_version > terms.network.config_version {
            return Err(Refusal::ConfigTooOld);
        }
        let secret_hash = terms.config.secret_hash_of(&params.owner_address).ok_or(Refusal::NoSecret)?;
        let client_sc_address = terms.peer_contract(|contracts| contracts.client(&params.owner_address))?;
        let answer = ClientAnswer::Connected {
            params: terms.params(version),
            client_sc_address,
            auth: AuthChallenge::Short { secret_hash: secret_hash.0, nonce: 0 },
            signed_payment: SignedPayment::Empty,
        };
        let contract = terms.network.contract();
        Ok((AwaitAuth { owner: params.owner_address, contract, version, secret_hash }, answer))
    }
}

impl AwaitAuth {
    /// Checks the secret. What the account has used is told once the core opened it; a fresh
    /// connection is told nothing more than that it is welcome.
    pub(crate) fn authorize_short(self, secret: &Sealed) -> Result<(ReadyClient, ClientAnswer), Box<ClientAnswer>> {
        let given = Hex32::sha256(secret.expose());
        // Both are hashes, so the time that a comparison takes tells nothing about the secret.
        if given != self.secret_hash {
            return Err(Box::new(failed("the secret is not the one this proxy knows for the client")));
        }
        let answer = ClientAnswer::Authorized {
            signed_payment: SignedPayment::Empty,
            tokens_committed_to_db: AdjustedTokens::ZERO,
            max_tokens: AdjustedTokens::ZERO,
        };
        Ok((ReadyClient { owner: self.owner, contract: self.contract, version: self.version }, answer))
    }

    /// Long authorization needs the chain, which this proxy does not watch yet.
    pub(crate) fn authorize_long(self) -> ClientAnswer {
        failed("long authorization is not offered: this proxy does not watch the chain; use a secret")
    }
}

fn failed(error: &str) -> ClientAnswer {
    ClientAnswer::AuthorizationFailed { code: 401, error: error.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
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
        assert_eq!(state.map(|(state, _)| state.version), expected);
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
        assert_eq!(state.map(|(state, _)| state.version), Ok(Version::V2));
    }

    #[test]
    fn wrong_secret_is_refused() {
        let authorize = |secret: &'static [u8]| {
            let (state, _) = AwaitConnect.connect(&terms(), &here(), params(true, 1, 2), 0).unwrap();
            state.authorize_short(&Sealed::new(Bytes::from_static(secret))).is_ok()
        };
        assert!(authorize(b"secret"));
        assert!(!authorize(b""));
        assert!(!authorize(b"secret2"));
    }

    #[test]
    fn without_a_configured_secret_nobody_enters() {
        let terms = terms_of(ProxyConfig::default());
        let refused = AwaitConnect.connect(&terms, &here(), params(true, 1, 2), 0);
        assert_eq!(refused.map(|_| ()), Err(Refusal::NoSecret));
    }
}
