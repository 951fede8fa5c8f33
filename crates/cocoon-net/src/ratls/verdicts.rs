//! Verdicts kept for a while, so that the same evidence is not appraised again and again.
//!
//! Evidence of `attested-v2` covers a nonce and never comes twice; this is for `cocoon-v1`, whose quotes last a day. The
//! key of an entry is everything that a verdict depends on but time: evidence, claims, binding, collateral, policy and
//! expectation. An entry ends with the policy's patience or with the collateral, whichever is first
//! (the original keeps verdicts without an end: attestation.md, section 4.1(4)).

use std::collections::HashMap;
use std::time::Duration;

use cocoon_attest::{Exhibit, Expected, Policy};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::verifier::Accepted;
use crate::limits::VERDICTS_MAX;

/// Everything that a verdict depends on but time, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct VerdictKey([u8; 32]);

/// The verdicts.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    entries: HashMap<VerdictKey, Entry>,
}

#[derive(Debug)]
struct Entry {
    accepted: Accepted,
    from_unix_s: u64,
    until_unix_s: u64,
    /// As `from_unix_s`, on a clock that nobody sets or stops.
    from: Instant,
    for_at_most: Duration,
}

impl VerdictKey {
    /// The key of an appraisal; `None` when its parts cannot be written down, and then it is not kept.
    pub(super) fn new(policy: &Policy, exhibit: Exhibit<'_>, expected: &Expected) -> Option<Self> {
        let Exhibit { evidence, claims, binding, collateral } = exhibit;
        let Expected { role, model, payment_key, contract, tcb_evaluation_number_min } = expected;
        let expected = (role, model, payment_key, contract, tcb_evaluation_number_min);
        let parts = [
            policy.sha256().to_vec(),
            serde_json::to_vec(evidence).ok()?,
            claims.to_vec(),
            serde_json::to_vec(binding).ok()?,
            serde_json::to_vec(collateral).ok()?,
            serde_json::to_vec(&expected).ok()?,
        ];
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(Sha256::digest(part));
        }
        Some(Self(hash.finalize().into()))
    }
}

impl Verdicts {
    /// A verdict that may still be relied on.
    pub(super) fn find(&mut self, key: VerdictKey, now_unix_s: u64) -> Option<Accepted> {
        let entry = self.entries.get(&key)?;
        // A clock that was set back makes entries of the future.
        if (entry.from_unix_s..entry.until_unix_s).contains(&now_unix_s) && entry.from.elapsed() < entry.for_at_most {
            return Some(entry.accepted.clone());
        }
        self.entries.remove(&key);
        None
    }

    /// Keeps a verdict for `for_s` seconds at most.
    pub(super) fn insert(&mut self, key: VerdictKey, accepted: Accepted, now_unix_s: u64, for_s: u64) {
        if self.entries.len() >= VERDICTS_MAX {
            self.entries.retain(|_, entry| (entry.from_unix_s..entry.until_unix_s).contains(&now_unix_s));
        }
        if self.entries.len() >= VERDICTS_MAX
            && let Some(first) = self.entries.iter().min_by_key(|(_, entry)| entry.until_unix_s).map(|(key, _)| *key)
        {
            self.entries.remove(&first);
        }
        let until_unix_s = now_unix_s.saturating_add(for_s).min(accepted.verdict.valid_until_unix_s);
        let (from, for_at_most) = (Instant::now(), Duration::from_secs(for_s));
        self.entries.insert(key, Entry { accepted, from_unix_s: now_unix_s, until_unix_s, from, for_at_most });
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}
