//! What vouches for receipt keys: the workers' documents, each fetched and judged once.
//!
//! A proxy names the document by its SHA-256, so what it hands out is what it named or refused. The document is
//! verified under this client's policy for workers, where there is one; else under its own, which shows no more than
//! that it is consistent, and is recorded as such. A judgement is kept with the policy that it was made by, and made
//! again when that changes.
//!
//! It fails closed: a document that is not here yet proves nothing.

use std::{
    collections::VecDeque,
    str,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use cocoon_attest::{Claims, Document, Policy, Role};
use cocoon_receipt::{Receipt, public_name};

use super::fault::Fault;
use crate::limits;

/// Whose word a receipt's key rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vouched {
    /// The document holds under this client's own policy for workers.
    Policy,
    /// The document holds under the policy that it brings along: nothing was pinned.
    Itself,
    /// There is no evidence on that link at all.
    Nobody,
}

impl Vouched {
    /// The word for the header and the metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Itself => "self",
            Self::Nobody => "nobody",
        }
    }
}

/// One document, and what it is worth.
#[derive(Debug)]
pub(crate) struct Judged {
    sha256: [u8; 32],
    /// As it came: whoever checks the receipt later needs the very bytes.
    pub(crate) text: Bytes,
    /// Of the policy that it was judged by; none where it was its own.
    policy: Option<[u8; 32]>,
    outcome: Result<Proved, Fault>,
}

/// What an accepted document says of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proved {
    receipt_key: [u8; 32],
    model: Option<String>,
    recorded_unix_s: u64,
    vouched: Vouched,
}

#[cfg(test)]
impl Judged {
    /// A document that was judged to be that of a worker of this key.
    pub(super) fn of_worker(sha256: [u8; 32], receipt_key: [u8; 32], recorded_unix_s: u64) -> Self {
        let proved = Proved { receipt_key, model: None, recorded_unix_s, vouched: Vouched::Itself };
        Self { sha256, text: Bytes::from_static(b"{}"), policy: None, outcome: Ok(proved) }
    }
}

/// Judges the document of this hash. Milliseconds of work.
pub(crate) fn judge(sha256: [u8; 32], text: Bytes, policy: Option<&Policy>) -> Judged {
    let outcome = prove(&text, policy);
    Judged { sha256, text, policy: policy.map(Policy::sha256), outcome }
}

fn prove(text: &[u8], policy: Option<&Policy>) -> Result<Proved, Fault> {
    let unreadable = |error: &dyn std::error::Error| Fault::EvidenceUnreadable(error.to_string());
    str::from_utf8(text).map_err(|error| unreadable(&error))?;
    let document = Document::decode(text).map_err(|error| unreadable(&error))?;
    // At its own time: claims and collateral go stale, and a receipt is checked for good. `Judged::vouch` compares the
    // time with the receipt's.
    let verified = document.verify(policy, None).map_err(|refusal| Fault::EvidenceRefused(refusal.to_string()))?;
    if !verified.trust.bound || verified.verdict.role != Some(Role::Worker) {
        return Err(Fault::EvidenceRefused("it is not that of a worker's connection".to_owned()));
    }
    let claims = Claims::decode(document.claims().as_bytes()).map_err(|error| unreadable(&error))?;
    Ok(Proved {
        receipt_key: claims.keys.receipt,
        model: claims.model,
        recorded_unix_s: document.recorded_unix_s(),
        vouched: if policy.is_some() { Vouched::Policy } else { Vouched::Itself },
    })
}

impl Judged {
    /// Whether the document says that this key was this worker's when the receipt was signed.
    pub(crate) fn vouch(&self, key: &[u8; 32], receipt: &Receipt) -> Result<Vouched, Fault> {
        self.vouch_recorded_until(key, receipt, receipt.ended_unix_ms / 1_000)
    }

    /// The same for a receipt that is shown later. A worker makes its key when it starts, so a document that was recorded
    /// since is as good; after a crash a proxy has no other.
    pub(crate) fn vouch_late(&self, key: &[u8; 32], receipt: &Receipt, now_ms: u64) -> Result<Vouched, Fault> {
        self.vouch_recorded_until(key, receipt, now_ms / 1_000)
    }

    fn vouch_recorded_until(&self, key: &[u8; 32], receipt: &Receipt, until_s: u64) -> Result<Vouched, Fault> {
        let proved = self.outcome.as_ref().map_err(Clone::clone)?;
        if proved.receipt_key != *key {
            return Err(Fault::ForeignKey);
        }
        if proved.model.as_deref().is_some_and(|model| public_name(model) != public_name(&receipt.model)) {
            return Err(Fault::ForeignModel);
        }
        let from_s = receipt.started_unix_ms / 1_000;
        let is_before = proved.recorded_unix_s <= until_s.saturating_add(limits::RECEIPT_SKEW_MS / 1_000);
        let is_fresh = proved.recorded_unix_s.saturating_add(limits::EVIDENCE_AGE_MAX_S) >= from_s;
        if is_before && is_fresh { Ok(proved.vouched) } else { Err(Fault::EvidenceTime) }
    }
}

/// The latest documents, oldest first.
#[derive(Debug, Default)]
pub(crate) struct EvidenceCache {
    kept: Mutex<VecDeque<Arc<Judged>>>,
}

impl EvidenceCache {
    /// A document that was judged by this policy.
    pub(crate) fn find(&self, sha256: &[u8; 32], policy: Option<&Policy>) -> Option<Arc<Judged>> {
        let policy = policy.map(Policy::sha256);
        let kept = self.lock();
        kept.iter().rev().find(|judged| judged.sha256 == *sha256 && judged.policy == policy).cloned()
    }

    /// A document, by whatever policy it was judged.
    pub(crate) fn text(&self, sha256: &[u8; 32]) -> Option<Bytes> {
        self.lock().iter().rev().find(|judged| judged.sha256 == *sha256).map(|judged| judged.text.clone())
    }

    /// The newest document that names this receipt key, judged by this policy.
    pub(crate) fn of_key(&self, key: &[u8; 32], policy: Option<&Policy>) -> Option<Arc<Judged>> {
        let policy = policy.map(Policy::sha256);
        let names_it = |judged: &Judged| judged.outcome.as_ref().is_ok_and(|proved| proved.receipt_key == *key);
        let kept = self.lock();
        kept.iter().rev().find(|judged| judged.policy == policy && names_it(judged)).cloned()
    }

    /// Keeps a judgement in place of an earlier one, or of the oldest.
    pub(crate) fn keep(&self, judged: Arc<Judged>) {
        let mut kept = self.lock();
        kept.retain(|known| known.sha256 != judged.sha256);
        kept.push_back(judged);
        let mut bytes: usize = kept.iter().map(|judged| judged.text.len()).sum();
        while kept.len() > limits::EVIDENCE_KEPT || bytes > limits::EVIDENCE_KEPT_BYTES {
            let Some(oldest) = kept.pop_front() else { return };
            bytes = bytes.saturating_sub(oldest.text.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Judged>>> {
        // Every update is a removal or an insertion, so the queue is usable even after a panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
