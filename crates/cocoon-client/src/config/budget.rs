//! What the owner lets this client spend. Amounts are TON in quotes, so that no float touches them.

use cocoon_units::{Nano, Ton};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Limits and rules of money. Each limit fails closed: what does not fit is not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Proxies that get a deposit, at most.
    pub max_funded_proxies: usize,
    /// The stake of a contract that is made, and what a top-up brings.
    pub stake: Ton,
    /// Below this balance above what is owed a contract is topped up; half of the stake, unless it is said.
    pub top_up_below: Option<Ton>,
    /// The most that one request can cost.
    pub per_request: Ton,
    /// The most that the requests of one UTC day can cost, open ones at their most.
    pub per_day: Ton,
    /// The most to pay for one adjusted token, in nanoTON, with the worker's coefficient in it; no cap, unless it is said.
    pub price_max: Option<u64>,
    /// Whether workers are asked for a receipt of every request. A proxy can charge nothing without one.
    pub receipts: bool,
    /// Whether a stream ends with a comment that names its receipt, for apps that see no headers.
    pub receipt_comment: bool,
    /// Takes a proxy's demand for the client's own count, where it is higher. For one start after the folder with that
    /// count was lost or restored from a backup; while it is set, a proxy can demand whatever the contract holds.
    pub insecure_accept_demands: bool,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            max_funded_proxies: 2,
            stake: Nano::new(2_000_000_000).into(),
            top_up_below: None,
            per_request: Nano::new(100_000_000).into(),
            per_day: Nano::new(5_000_000_000).into(),
            price_max: None,
            receipts: true,
            receipt_comment: false,
            insecure_accept_demands: false,
        }
    }
}

impl BudgetConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.max_funded_proxies == 0 {
            return Err(ConfigError::OutOfRange { field: "budget.max_funded_proxies", min: 1, max: u64::MAX });
        }
        Ok(())
    }

    /// The balance below which a contract is topped up.
    #[must_use]
    pub fn top_up_below(&self) -> Nano {
        let half = Nano::new(self.stake.nano().get() / 2);
        self.top_up_below.map_or(half, Ton::nano)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_text_and_have_defaults() {
        let budget: BudgetConfig = serde_json::from_str(r#"{"per_day":"0.5","price_max":8}"#).unwrap();
        let expected = BudgetConfig { per_day: "0.5".parse().unwrap(), price_max: Some(8), ..BudgetConfig::default() };
        assert_eq!(budget, expected);
        assert_eq!(budget.top_up_below(), "1".parse::<Ton>().unwrap().nano());
        assert!(serde_json::from_str::<BudgetConfig>(r#"{"per_day":0.5}"#).is_err(), "a float");
        assert!(serde_json::from_str::<BudgetConfig>(r#"{"max_per_day":"1"}"#).is_err(), "another key");
    }
}
