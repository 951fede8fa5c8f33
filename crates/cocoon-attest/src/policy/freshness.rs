//! Freshness: the attester's clock, the collateral's window, and how long a verdict may be relied on.

use serde::Deserialize;

use super::file::bounded;
use crate::claims::Claims;
use crate::facts::PlatformFacts;
use crate::limits::{CLAIMS_SKEW_S_MAX, REATTEST_S_MAX, REATTEST_S_MIN, VERDICT_CACHE_S_MAX, VERDICT_CACHE_S_MIN};
use crate::refusal::{Check, Refusal};

/// Bounds on time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FreshnessRules {
    /// How far the time in the claims may be from ours.
    #[serde(deserialize_with = "bounded::<'_, 1, CLAIMS_SKEW_S_MAX, _>")]
    claims_skew_max_s: u64,
    /// How long a verdict is kept.
    #[serde(deserialize_with = "bounded::<'_, VERDICT_CACHE_S_MIN, VERDICT_CACHE_S_MAX, _>")]
    pub(super) verdict_cache_s: u64,
    /// How long an open connection goes on before its peer has to attest again.
    #[serde(deserialize_with = "bounded::<'_, REATTEST_S_MIN, REATTEST_S_MAX, _>")]
    pub(super) reattest_after_s: u64,
}

impl FreshnessRules {
    /// The attester's clock is near ours.
    pub(crate) fn check_claims(&self, claims: &Claims, now_unix_s: u64) -> Result<(), Refusal> {
        let apart_s = claims.time_unix_s.abs_diff(now_unix_s);
        if apart_s <= self.claims_skew_max_s {
            return Ok(());
        }
        let direction = if claims.time_unix_s < now_unix_s { "behind" } else { "ahead of" };
        Err(Refusal::new(
            Check::Freshness,
            format!("the peer's clock within {} s of ours", self.claims_skew_max_s),
            format!("{apart_s} s {direction} ours ({} against {now_unix_s})", claims.time_unix_s),
            "set the clocks of both machines by a time service",
        ))
    }

    /// The collateral is valid now: a clock set back finds it issued in the future.
    pub(crate) fn check_collateral(&self, facts: &PlatformFacts, now_unix_s: u64) -> Result<(), Refusal> {
        let (from, until) = facts.collateral_window;
        let remedy = if now_unix_s < from {
            "the collateral is from the future: set this machine's clock by a time service"
        } else {
            "fetch newer collateral; if there is none, check this machine's clock"
        };
        if (from..=until).contains(&now_unix_s) {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Collateral,
            format!("collateral that is valid now, at {now_unix_s}"),
            format!("valid from {from} until {until}"),
            remedy,
        ))
    }

    /// Until when the verdict may be relied on.
    pub(crate) fn valid_until_unix_s(&self, facts: &PlatformFacts, now_unix_s: u64) -> u64 {
        now_unix_s.saturating_add(self.verdict_cache_s).min(facts.collateral_window.1)
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        say.push(format!(
            "Refuses a peer whose clock is more than {} s from ours; keeps a verdict for {} s at most; asks an open \
             connection for new evidence after {} s.",
            self.claims_skew_max_s, self.verdict_cache_s, self.reattest_after_s
        ));
    }
}
