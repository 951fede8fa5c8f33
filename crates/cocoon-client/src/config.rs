//! What the owner of a client decides, and what is refused before anything listens.

mod budget;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cocoon_units::{Coefficient, Pricing};
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub use self::budget::BudgetConfig;
use crate::{
    keys::{self, ApiKeyConfig},
    limits,
};

/// The configuration of one client. Every field has a default; unknown fields are errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Where apps connect. Off loopback, `api_keys` must not be empty.
    pub listen: SocketAddr,
    /// The API keys, by their hashes. When there are any, every app must show one, on loopback too.
    pub api_keys: Vec<ApiKeyConfig>,
    /// Web origins whose pages may call this client, written as a browser does
    /// (`https://app.example`). None by default: other sites are refused.
    pub cors_origins: Vec<String>,
    /// Names, beside `localhost` and the loopback addresses, that apps may reach this client by.
    /// Any other `Host` is refused, since a hostile page can point its own name at this machine.
    pub allowed_hosts: Vec<String>,
    /// The wallet that pays, as the network writes it.
    pub owner_address: String,
    /// Whether this is the test network; proxies of the other one are refused.
    pub is_test: bool,
    /// The oldest root configuration that a proxy may work by.
    pub min_config_version: i32,
    /// The secret whose SHA-256 is in the client's contract, for short authorization.
    pub auth_secret: AuthSecret,
    /// The highest worker price to accept, in thousandths, for requests that name none.
    pub max_coefficient: Coefficient,
    /// The token limit of requests that name none.
    pub max_tokens: u32,
    /// The deadline of requests that name none.
    pub timeout_ms: u64,
    /// What one token costs, for `/v1/models`.
    pub pricing: Pricing,
    /// What may be spent.
    pub budget: BudgetConfig,
    /// Bounds on what apps may send and hold.
    pub limits: LimitsConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_000),
            api_keys: Vec::new(),
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            owner_address: String::new(),
            is_test: true,
            min_config_version: 0,
            auth_secret: AuthSecret::default(),
            max_coefficient: Coefficient::from_thousandths(limits::COEFFICIENT_DEFAULT),
            max_tokens: limits::TOKENS_DEFAULT,
            timeout_ms: millis(limits::REQUEST_TIMEOUT_DEFAULT),
            pricing: Pricing::default(),
            budget: BudgetConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl ClientConfig {
    /// Refuses what cannot be served safely.
    ///
    /// # Errors
    ///
    /// When it listens off loopback without API keys, or a value is out of its range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.check_address(self.listen)?;
        keys::check(&self.api_keys)?;
        self.budget.check()?;
        for origin in &self.cors_origins {
            check_origin(origin)?;
        }
        let timeout_max = millis(limits::REQUEST_TIMEOUT_MAX);
        if self.timeout_ms == 0 || self.timeout_ms > timeout_max {
            return Err(ConfigError::OutOfRange { field: "timeout_ms", min: 1, max: timeout_max });
        }
        if self.max_tokens == 0 {
            return Err(ConfigError::OutOfRange { field: "max_tokens", min: 1, max: u32::MAX.into() });
        }
        let body_max = limits::BODY_BYTES_MAX;
        if self.limits.body_bytes == 0 || self.limits.body_bytes > body_max {
            return Err(ConfigError::OutOfRange { field: "limits.body_bytes", min: 1, max: body_max as u64 });
        }
        let upload_max = limits::UPLOAD_BYTES_MAX;
        if self.limits.upload_bytes == 0 || self.limits.upload_bytes > upload_max {
            return Err(ConfigError::OutOfRange { field: "limits.upload_bytes", min: 1, max: upload_max as u64 });
        }
        let bodies = self.limits.body_bytes..=Semaphore::MAX_PERMITS;
        if !bodies.contains(&self.limits.bodies_bytes) {
            let (min, max) = (*bodies.start() as u64, *bodies.end() as u64);
            return Err(ConfigError::OutOfRange { field: "limits.bodies_bytes", min, max });
        }
        Ok(())
    }

    /// Refuses an address off loopback when no key protects it.
    pub(crate) fn check_address(&self, address: SocketAddr) -> Result<(), ConfigError> {
        if !address.ip().to_canonical().is_loopback() && self.api_keys.is_empty() {
            return Err(ConfigError::KeysRequired { address });
        }
        Ok(())
    }
}

/// Bounds on apps. See [`crate::limits`] for the reasons of the defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Bytes of one request body of JSON.
    pub body_bytes: usize,
    /// Bytes of one form with files in it.
    pub upload_bytes: usize,
    /// Bytes of all request bodies that have not been sent on yet.
    pub bodies_bytes: usize,
    /// How long a body may take.
    pub body_timeout_ms: u64,
    /// How long a request head may take, and an HTTP/1 connection may stay idle.
    pub header_timeout_ms: u64,
    /// Open connections.
    pub connections: usize,
    /// Requests in flight.
    pub requests: usize,
    /// How long shutdown waits for streams.
    pub drain_timeout_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body_bytes: limits::BODY_BYTES_DEFAULT,
            upload_bytes: limits::UPLOAD_BYTES_DEFAULT,
            bodies_bytes: limits::BODIES_BYTES_DEFAULT,
            body_timeout_ms: millis(limits::BODY_TIMEOUT_DEFAULT),
            header_timeout_ms: millis(limits::HEADER_TIMEOUT_DEFAULT),
            connections: limits::CONNECTIONS_DEFAULT,
            requests: limits::REQUESTS_DEFAULT,
            drain_timeout_ms: millis(limits::DRAIN_TIMEOUT_DEFAULT),
        }
    }
}

/// The secret of short authorization. `Debug` does not show it, and it is not written back.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct AuthSecret(String);

impl AuthSecret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AuthSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthSecret")
    }
}

impl Serialize for AuthSecret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("")
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Anyone who reaches the address could spend the owner's money.
    #[error(
        "{address} can be reached from other machines, so API keys are required: make one with `cocoon key new` and put its hash into `api_keys`, or listen on 127.0.0.1"
    )]
    KeysRequired {
        /// The address.
        address: SocketAddr,
    },
    /// An origin is not one that a browser would send.
    #[error(
        "`{origin}` is not a web origin: write scheme and host, as in `https://app.example`, without path; `*` is not accepted"
    )]
    BadOrigin {
        /// As configured.
        origin: String,
    },
    /// Where a chain is followed, the wallet must be known: contracts derive from it.
    #[error("`owner_address` must be the address of the wallet that pays: `cocoon wallet new` makes one")]
    NoWallet,
    /// Two API keys of one name or hash, or a name that cannot go into a report.
    #[error("the API key `{name}` {fault}")]
    BadKey {
        /// As configured, or made of the hash.
        name: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// A number is out of its range.
    #[error("`{field}` must lie between {min} and {max}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
}

fn check_origin(origin: &str) -> Result<(), ConfigError> {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*']))
        && HeaderValue::from_str(origin).is_ok();
    if is_origin { Ok(()) } else { Err(ConfigError::BadOrigin { origin: origin.to_owned() }) }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_loopback_needs_keys() {
        let mut config = ClientConfig { listen: "0.0.0.0:10000".parse().unwrap(), ..ClientConfig::default() };
        let error = config.check().unwrap_err();
        assert!(matches!(error, ConfigError::KeysRequired { .. }), "{error}");
        config.api_keys.push(keys::ApiKeyHash::of("sk-cocoon-test").into());
        assert_eq!(config.check(), Ok(()));
        assert_eq!(ClientConfig::default().check(), Ok(()));
    }

    #[test]
    fn origins_are_exact() {
        for bad in ["*", "https://*.example", "app.example", "https://app.example/", "https://"] {
            let config = ClientConfig { cors_origins: vec![bad.to_owned()], ..ClientConfig::default() };
            assert!(matches!(config.check(), Err(ConfigError::BadOrigin { .. })), "{bad}");
        }
        let config = ClientConfig { cors_origins: vec!["http://localhost:3000".to_owned()], ..ClientConfig::default() };
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn unknown_fields_are_errors_and_secrets_do_not_show() {
        assert!(serde_json::from_str::<ClientConfig>(r#"{"listne":"127.0.0.1:1"}"#).is_err());
        let config: ClientConfig = serde_json::from_str(r#"{"auth_secret":"hunter2"}"#).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
    }
}
