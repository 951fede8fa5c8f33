//! What the owner of a proxy decides.
//!
//! Price, version and contract are the root contract's to say, where one is followed ([`crate::ProxyTerms`]); what
//! stands here counts without a chain, and its addresses are opaque strings that are told to peers.

mod settlement;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use cocoon_units::{AdjustedTokens, Multipliers, Pricing};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::core::{CoreConfig, ExposureRules};
use crate::limits::DRAIN_TIMEOUT;

pub use self::settlement::SettlementConfig;

/// The configuration of a proxy; every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyConfig {
    /// The wallet that owns the proxy.
    pub owner_address: String,
    /// The proxy's contract.
    pub contract_address: String,
    /// The key that will sign payments.
    pub public_key: Hex32,
    /// Test mode; peers of the other mode are refused.
    pub is_test: bool,
    /// The token's price and the weights of its kinds.
    pub pricing: Pricing,
    /// The oldest configuration that clients may insist on: the version this proxy has.
    pub config_version: i32,
    /// Requests that wait for a worker, all models together.
    pub queue_max: usize,
    /// How long one waits.
    pub queue_timeout_ms: u64,
    /// Requests of one client connection at once, waiting ones included.
    pub client_in_flight_max: usize,
    /// Adjusted tokens that each client may use before it pays.
    pub client_stake: AdjustedTokens,
    /// SHA-256 of the secret that clients prove themselves with, for those not in `client_secrets`.
    /// Without it such clients are refused.
    pub client_secret_hash: Option<Hex32>,
    /// The same by the client's wallet.
    pub client_secrets: BTreeMap<String, Hex32>,
    /// How long running requests may take after a shutdown began.
    pub drain_timeout_ms: u64,
    /// When the proxy settles on the chain, where it has money.
    pub settlement: SettlementConfig,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            owner_address: String::new(),
            contract_address: String::new(),
            public_key: Hex32::default(),
            is_test: true,
            pricing: Pricing::default(),
            config_version: i32::MAX,
            // Half a minute of work for eight slots at one request a second each.
            queue_max: 256,
            queue_timeout_ms: 30_000,
            client_in_flight_max: 1_024,
            // A year of one busy GPU; only a bound, as long as nobody pays.
            client_stake: AdjustedTokens::new(100_000_000_000),
            client_secret_hash: None,
            client_secrets: BTreeMap::new(),
            drain_timeout_ms: u64::try_from(DRAIN_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
            settlement: SettlementConfig::default(),
        }
    }
}

impl ProxyConfig {
    pub(crate) fn core(&self, multipliers: Multipliers, exposure: Option<ExposureRules>) -> CoreConfig {
        CoreConfig {
            multipliers,
            exposure,
            stake: self.client_stake,
            queue_max: self.queue_max,
            queue_timeout: Duration::from_millis(self.queue_timeout_ms),
            client_in_flight_max: self.client_in_flight_max,
        }
    }

    /// The hash that a client of this wallet must match.
    pub(crate) fn secret_hash_of(&self, owner: &str) -> Option<Hex32> {
        self.client_secrets.get(owner).copied().or(self.client_secret_hash)
    }
}

/// Thirty-two bytes, written as hexadecimal digits: a key or a hash.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Hex32(pub [u8; 32]);

impl Hex32 {
    /// SHA-256 of a secret.
    #[must_use]
    pub fn sha256(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl fmt::Debug for Hex32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Hex32 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Hex32 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| serde::de::Error::custom("expected 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_errors_and_hashes_are_hex() {
        assert!(serde_json::from_str::<ProxyConfig>(r#"{"owner":"x"}"#).is_err());
        assert!(serde_json::from_str::<ProxyConfig>(r#"{"client_secret_hash":"e3b0"}"#).is_err());
        let config = ProxyConfig { client_secret_hash: Some(Hex32::sha256(b"")), ..ProxyConfig::default() };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
        assert_eq!(serde_json::from_str::<ProxyConfig>(&text).unwrap(), config);
    }

    #[test]
    fn a_client_without_a_configured_secret_has_none() {
        let mut config = ProxyConfig::default();
        assert_eq!(config.secret_hash_of("wallet"), None);
        config.client_secrets.insert("wallet".into(), Hex32::sha256(b"mine"));
        config.client_secret_hash = Some(Hex32::sha256(b"all"));
        assert_eq!(config.secret_hash_of("wallet"), Some(Hex32::sha256(b"mine")));
        assert_eq!(config.secret_hash_of("other"), Some(Hex32::sha256(b"all")));
    }
}
