//! Session keys that this verifier attested a short time ago (attestation.md, section 4.4(5)).
//!
//! The memory is filled by this verifier's own strict appraisals and by nothing else, and is never shared: what another
//! verifier saw proves nothing here. It forgets after a few minutes, by this verifier's clock and by one that nobody
//! sets, when the policy changes, and when somebody else is expected behind the same key.
//!
//! **Whoever steals a session key speaks for its owner until the memory ends.** So a policy has to ask for this mode.

use std::collections::HashMap;
use std::time::Duration;

use cocoon_attest::Expected;
use tokio::time::Instant;

use super::verifier::Accepted;
use crate::limits::SESSIONS_MAX;

/// What is remembered about a peer, by its TLS key.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_tls_key: HashMap<[u8; 32], Entry>,
}

#[derive(Debug)]
struct Entry {
    remembered: Remembered,
    expected: Expected,
    attested_unix_s: u64,
    /// The same moment on a clock that nobody sets or stops: the wall clock of a TEE is its host's.
    attested_at: Instant,
}

/// A peer that was attested a short time ago.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    /// The session key that its evidence attested.
    pub(super) session_key: [u8; 32],
    /// The appraisal.
    pub(super) accepted: Accepted,
}

impl Sessions {
    /// Remembers a strict appraisal of a peer with this TLS key.
    pub(super) fn insert(&mut self, tls_key: [u8; 32], remembered: Remembered, expected: Expected, now_unix_s: u64) {
        if self.by_tls_key.len() >= SESSIONS_MAX
            && !self.by_tls_key.contains_key(&tls_key)
            && let Some(oldest) = self.oldest()
        {
            self.by_tls_key.remove(&oldest);
        }
        let entry = Entry { remembered, expected, attested_unix_s: now_unix_s, attested_at: Instant::now() };
        self.by_tls_key.insert(tls_key, entry);
    }

    /// What is remembered of a peer that is to be `expected`, when it is young enough.
    pub(super) fn find(
        &mut self,
        tls_key: &[u8; 32],
        expected: &Expected,
        now_unix_s: u64,
        age_max_s: u64,
    ) -> Option<Remembered> {
        let entry = self.by_tls_key.get(tls_key)?;
        // A clock that was set back says nothing about age.
        let age_s = now_unix_s.checked_sub(entry.attested_unix_s);
        let is_young = age_s.is_some_and(|age_s| age_s < age_max_s)
            && entry.attested_at.elapsed() < Duration::from_secs(age_max_s)
            && now_unix_s < entry.remembered.accepted.verdict.valid_until_unix_s;
        if !is_young {
            self.by_tls_key.remove(tls_key);
            return None;
        }
        is_same(&entry.expected, expected).then(|| entry.remembered.clone())
    }

    /// Forgets a peer.
    pub(super) fn remove(&mut self, tls_key: &[u8; 32]) {
        self.by_tls_key.remove(tls_key);
    }

    pub(super) fn clear(&mut self) {
        self.by_tls_key.clear();
    }

    fn oldest(&self) -> Option<[u8; 32]> {
        self.by_tls_key.iter().min_by_key(|(_, entry)| entry.attested_unix_s).map(|(key, _)| *key)
    }
}

/// Whether an appraisal for one expectation answers another.
fn is_same(one: &Expected, other: &Expected) -> bool {
    let Expected { role, model, payment_key, contract, tcb_evaluation_number_min } = one;
    (role, model, payment_key, contract) == (&other.role, &other.model, &other.payment_key, &other.contract)
        && *tcb_evaluation_number_min >= other.tcb_evaluation_number_min
}
