//! What an operator can set.

mod earnings;

use std::time::Duration;

use cocoon_units::{Coefficient, Multipliers};
use cocoon_wire::limits::{ADDRESS_MAX, MODEL_NAME_MAX};
use cocoon_wire::{Version, VersionRange};
use serde::Deserialize;

use crate::error::ConfigError;
use crate::limits;

pub use self::earnings::EarningsConfig;

/// A worker's settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// The wallet that is paid.
    pub owner_address: String,
    /// `name` or `name@commit:verity_hash`; absent, the first model that the engine lists.
    pub model: Option<String>,
    /// The price, in thousandths of the network's.
    pub coefficient: Coefficient,
    /// Weights of the kinds of tokens; the network's, from its root configuration.
    pub multipliers: Multipliers,
    /// Requests at once, over all proxies.
    pub max_active_requests: u32,
    /// Test network; must match the proxies'.
    pub is_test: bool,
    /// Whether requests are taken from the start.
    pub enabled: bool,
    /// How long running requests may take after shutdown began.
    pub drain_timeout_ms: u64,
    /// Lowest protocol version offered.
    pub proto_version_min: i32,
    /// Highest protocol version offered; 100 is the extended profile, 2 the original's last.
    pub proto_version_max: i32,
    /// When earnings are cashed, and how much may be unsigned; used with a chain only.
    pub earnings: EarningsConfig,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            owner_address: String::new(),
            model: None,
            coefficient: Coefficient::ONE,
            multipliers: Multipliers::default(),
            max_active_requests: 8,
            is_test: true,
            enabled: true,
            drain_timeout_ms: u64::try_from(limits::DRAIN_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
            proto_version_min: Version::V0.number(),
            proto_version_max: Version::Extended.number(),
            earnings: EarningsConfig::default(),
        }
    }
}

impl WorkerConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// When a value does not fit the protocol.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, problem| Err(ConfigError::Field { field, problem });
        if self.owner_address.len() > ADDRESS_MAX {
            return refuse("owner_address", "too long for an address");
        }
        if self.model.as_ref().is_some_and(|model| model.is_empty() || model.len() > MODEL_NAME_MAX) {
            return refuse("model", "must have 1 to 512 bytes");
        }
        if !(1..=limits::SLOTS_MAX).contains(&self.max_active_requests) {
            return refuse("max_active_requests", "must be 1 to 16384");
        }
        self.earnings.check()
    }

    pub(crate) fn versions(&self) -> VersionRange {
        VersionRange { min: self.proto_version_min, max: self.proto_version_max }
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

/// Settings of an engine reached over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenAiHttpConfig {
    /// Where it is, such as `http://127.0.0.1:8080`; a trailing `/v1` is understood.
    ///
    /// Plain HTTP carries prompts in the clear, so only this host and private networks are allowed.
    pub url: String,
    /// To make a TCP connection.
    pub connect_timeout_ms: u64,
    /// From the request to the answer's head; without streaming that is the whole computation.
    pub first_byte_timeout_ms: u64,
    /// Between two pieces of an answer's body.
    pub stall_timeout_ms: u64,
}

impl Default for OpenAiHttpConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8000".to_owned(),
            connect_timeout_ms: 2_000,
            first_byte_timeout_ms: 600_000,
            stall_timeout_ms: 60_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_unknown_fields_are_not() {
        WorkerConfig::default().check().unwrap();
        assert!(serde_json::from_str::<WorkerConfig>(r#"{"coeficient": 1}"#).is_err());
        let config: WorkerConfig = serde_json::from_str(r#"{"coefficient": 1500, "max_active_requests": 0}"#).unwrap();
        assert_eq!(config.coefficient, Coefficient::from_thousandths(1500));
        assert!(config.check().is_err());
    }
}
