//! `[worker.earnings]`: when what proxies signed is turned into money, and how much may be unsigned.

use cocoon_units::{Nano, Ton};
use serde::Deserialize;

use crate::error::ConfigError;

/// When a worker cashes, and how much it works for on trust.
///
/// Amounts are TON as text, `"0.2"`. Every rule is per proxy, since each proxy pays through a contract of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarningsConfig {
    /// Cashes at this amount.
    pub cash_at: Ton,
    /// Cashes at this amount when the proxy has signed nothing new for [`Self::idle_s`].
    pub cash_idle_at: Ton,
    /// Seconds without a new payment after which a proxy counts as idle.
    pub idle_s: u64,
    /// Cashes at this amount when the proxy closes.
    pub cash_close_at: Ton,
    /// Never cashes when the network's fees are a larger part of the amount, in percent; except at a close, and on
    /// command.
    pub fee_percent_max: u32,
    /// Takes no more requests of a proxy while what it has not signed is worth more than this; `"0"` never stops.
    ///
    /// Proxies of this project stop at 0.1 TON of their own accord, so twice that is a proxy that does not.
    pub exposure: Ton,
}

impl Default for EarningsConfig {
    fn default() -> Self {
        let ton = |nano| Ton::from(Nano::new(nano));
        Self {
            cash_at: ton(10_000_000_000),
            cash_idle_at: ton(200_000_000),
            idle_s: 3_600,
            cash_close_at: ton(10_000_000),
            fee_percent_max: 2,
            exposure: ton(200_000_000),
        }
    }
}

impl EarningsConfig {
    /// Checks what types cannot.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.fee_percent_max > 100 {
            return Err(ConfigError::Field { field: "fee_percent_max", problem: "must be at most 100" });
        }
        Ok(())
    }

    /// What may be unsigned; none where nothing stops.
    pub(crate) fn exposure(&self) -> Option<Nano> {
        Some(self.exposure.nano()).filter(|bound| *bound > Nano::ZERO)
    }
}
