//! When a proxy settles on the chain: how often it commits, how much a worker may earn unsigned, and what is worth a
//! transaction. Defaults are the original's (`ton.md` 1.10).

use cocoon_units::{Nano, Ton};
use serde::{Deserialize, Serialize};

/// When a proxy settles on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettlementConfig {
    /// Least seconds between two commits; one comes this soon when a worker has earned half of `exposure`.
    pub commit_min_s: u64,
    /// Most seconds that something new waits for its commit.
    pub commit_max_s: u64,
    /// What a worker may have earned and not have signed before it gets no more requests, in TON.
    pub exposure: Ton,
    /// For how many seconds it may stay unsigned.
    pub exposure_s: u64,
    /// For how many seconds after a crash new requests wait for workers to bring back what it lost; at most a minute.
    pub recovery_s: u64,
    /// A client is charged once it owes this much, in TON.
    pub charge_at: Ton,
    /// A worker is paid once it is owed this much, in TON; it may ask for its money at any time itself.
    pub payout_at: Ton,
    /// The commission is withdrawn once it is this much, in TON.
    pub withdraw_at: Ton,
    /// No transaction of the above is made when its fee is more than so many percent of the amount, except by command. When a
    /// contract closes, it is enough that the transaction brings more than its fee.
    pub fee_percent_max: u64,
}

impl Default for SettlementConfig {
    fn default() -> Self {
        Self {
            commit_min_s: 30,
            commit_max_s: 60,
            exposure: Nano::new(100_000_000).ton(),
            exposure_s: 180,
            // Workers look for the proxy again in pauses that double, so they are back within as long as it was gone: a
            // supervisor's restart.
            recovery_s: 5,
            charge_at: Nano::new(1_000_000_000).ton(),
            payout_at: Nano::new(10_000_000_000).ton(),
            withdraw_at: Nano::new(10_000_000_000).ton(),
            fee_percent_max: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_ton() {
        let text = serde_json::to_string(&SettlementConfig::default()).unwrap();
        assert!(text.contains(r#""exposure":"0.1""#) && text.contains(r#""payout_at":"10""#), "{text}");
        assert_eq!(serde_json::from_str::<SettlementConfig>(&text).unwrap(), SettlementConfig::default());
        assert_eq!(serde_json::from_str::<SettlementConfig>("{}").unwrap(), SettlementConfig::default());
        assert!(serde_json::from_str::<SettlementConfig>(r#"{"charge_at": 1}"#).is_err(), "a number may be a float");
        assert!(serde_json::from_str::<SettlementConfig>(r#"{"charge": "1"}"#).is_err());
    }
}
