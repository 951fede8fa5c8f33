//! What was verified of workers, by its SHA-256, for clients that check receipts.
//!
//! A receipt is signed with a key that the worker's evidence covers. A client that asks by the hash in a receipt's
//! proof gets the document and appraises it itself, once for each key. Documents hold no secret and no prompt.
//!
//! 1. A worker's session pins the document that its receipts are named by ([`Pinned`]): whatever others do, it can be
//!    shown for as long as it is charged on. Of these there are no more than sessions.
//! 2. Documents that no session holds any more stay, for receipts that clients have not checked yet, within bounds: the
//!    one that was left first goes first.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cocoon_net::AttestedPeer;
use cocoon_wire::limits::EVIDENCE_MAX;
use sha2::{Digest, Sha256};

use crate::limits::{EVIDENCE_BYTES_MAX, EVIDENCE_DOCUMENTS_MAX};

/// The documents. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    store: Arc<Mutex<Store>>,
}

/// A document that is kept for as long as this value lives, and a while longer.
pub(crate) struct Pinned {
    evidence: Evidence,
    name: [u8; 32],
    recorded_unix_s: u64,
}

#[derive(Debug, Default)]
struct Store {
    documents: HashMap<[u8; 32], Kept>,
    /// The newest document of each receipt key that one names.
    by_key: HashMap<[u8; 32], [u8; 32]>,
    /// Those that no session holds, in the order in which they were left.
    left: VecDeque<[u8; 32]>,
    /// Bytes of those.
    left_bytes: usize,
    /// Of the next document: a higher one is newer.
    number: u64,
}

#[derive(Debug)]
struct Kept {
    document: Bytes,
    key: Option<[u8; 32]>,
    number: u64,
    pins: usize,
}

impl Evidence {
    /// Keeps what was verified of a worker. None for a document that no message could carry.
    pub(crate) fn keep_of(&self, peer: &AttestedPeer) -> Option<Pinned> {
        let document = peer.document();
        let key = peer.claims().map(|claims| claims.keys.receipt);
        self.keep(document.encode().into(), key, document.recorded_unix_s())
    }

    /// Keeps a document of this receipt key. None for one that no message could carry.
    pub(crate) fn keep(&self, document: Bytes, key: Option<[u8; 32]>, recorded_unix_s: u64) -> Option<Pinned> {
        if document.len() > EVIDENCE_MAX {
            return None;
        }
        let name = Sha256::digest(&document).into();
        self.lock().pin(name, document, key);
        Some(Pinned { evidence: self.clone(), name, recorded_unix_s })
    }

    /// The name of the newest document that vouches for a receipt's key. A worker makes a key at each start, so whatever
    /// document names it is of the program that signed.
    pub(crate) fn name_of(&self, key: &[u8; 32]) -> Option<[u8; 32]> {
        self.lock().by_key.get(key).copied()
    }

    /// The document of that name.
    pub(crate) fn find(&self, name: &[u8; 32]) -> Option<Bytes> {
        self.lock().documents.get(name).map(|kept| kept.document.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // At worst a panic elsewhere leaves a document that nobody finds.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pinned {
    /// The document's SHA-256.
    pub(crate) const fn name(&self) -> [u8; 32] {
        self.name
    }

    /// When the worker was appraised, by this proxy's clock.
    pub(crate) const fn recorded_unix_s(&self) -> u64 {
        self.recorded_unix_s
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.evidence.lock().unpin(&self.name);
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("name", &hex::encode(self.name)).finish_non_exhaustive()
    }
}

impl Store {
    fn pin(&mut self, name: [u8; 32], document: Bytes, key: Option<[u8; 32]>) {
        self.number = self.number.saturating_add(1);
        let number = self.number;
        let len = document.len();
        let kept = self.documents.entry(name).or_insert(Kept { document, key, number, pins: 0 });
        kept.number = number;
        if kept.pins == 0 && self.left.contains(&name) {
            self.left.retain(|other| *other != name);
            self.left_bytes = self.left_bytes.saturating_sub(len);
        }
        kept.pins = kept.pins.saturating_add(1);
        if let Some(key) = key {
            self.by_key.insert(key, name);
        }
    }

    fn unpin(&mut self, name: &[u8; 32]) {
        let Some(kept) = self.documents.get_mut(name) else { return };
        kept.pins = kept.pins.saturating_sub(1);
        if kept.pins > 0 {
            return;
        }
        self.left.push_back(*name);
        self.left_bytes = self.left_bytes.saturating_add(kept.document.len());
        while self.left.len() > EVIDENCE_DOCUMENTS_MAX || self.left_bytes > EVIDENCE_BYTES_MAX {
            let Some(oldest) = self.left.pop_front() else { break };
            self.forget(&oldest);
        }
    }

    /// Forgets a document that was taken off the list of those that were left.
    fn forget(&mut self, name: &[u8; 32]) {
        let Some(Kept { document, key, .. }) = self.documents.remove(name) else { return };
        self.left_bytes = self.left_bytes.saturating_sub(document.len());
        if let Some(key) = key.filter(|key| self.by_key.get(key) == Some(name)) {
            // An older one may be pinned by a session that goes on.
            let others = self.documents.iter().filter(|(_, kept)| kept.key == Some(key));
            match others.max_by_key(|(_, kept)| kept.number).map(|(name, _)| *name) {
                Some(newest) => self.by_key.insert(key, newest),
                None => self.by_key.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(evidence: &Evidence, document: &'static str, key: Option<[u8; 32]>) -> Pinned {
        evidence.keep(Bytes::from_static(document.as_bytes()), key, 0).unwrap()
    }

    /// Workers that come and go, each with evidence of its own.
    fn flap(evidence: &Evidence, times: usize) {
        for number in 0..times {
            drop(evidence.keep(number.to_string().into(), Some([1; 32]), 0).unwrap());
        }
    }

    fn check_counts(evidence: &Evidence) {
        let store = evidence.lock();
        let left = store.documents.values().filter(|kept| kept.pins == 0);
        assert_eq!(left.clone().count(), store.left.len());
        assert_eq!(left.map(|kept| kept.document.len()).sum::<usize>(), store.left_bytes);
        assert!(store.left.len() <= EVIDENCE_DOCUMENTS_MAX && store.left_bytes <= EVIDENCE_BYTES_MAX);
    }

    #[test]
    fn a_document_is_found_by_its_hash() {
        let evidence = Evidence::default();
        let pinned = keep(&evidence, "{}", None);
        assert_eq!(pinned.name(), <[u8; 32]>::from(Sha256::digest(b"{}")));
        assert_eq!(evidence.find(&pinned.name()).unwrap(), "{}");
        assert_eq!(evidence.find(&[0; 32]), None);
    }

    /// One worker that connects again and again makes the proxy forget what it charges on.
    #[test]
    fn flapping_worker_evicts_the_evidence_of_stable_ones() {
        let evidence = Evidence::default();
        let stable = keep(&evidence, "stable", Some([7; 32]));
        flap(&evidence, 2 * EVIDENCE_DOCUMENTS_MAX);
        assert!(evidence.find(&stable.name()).is_some(), "its session goes on");
        assert_eq!(evidence.name_of(&[7; 32]), Some(stable.name()));
        check_counts(&evidence);
        // Its last receipts can be checked for a while after it left, but not for good.
        let name = stable.name();
        drop(stable);
        flap(&evidence, EVIDENCE_DOCUMENTS_MAX - 1);
        assert!(evidence.find(&name).is_some());
        flap(&evidence, 2 * EVIDENCE_DOCUMENTS_MAX);
        assert!(evidence.find(&name).is_none());
        check_counts(&evidence);
    }

    #[test]
    fn flood_of_large_documents_is_bounded() {
        let evidence = Evidence::default();
        let stable = keep(&evidence, "stable", None);
        for number in 0..2 * EVIDENCE_BYTES_MAX / EVIDENCE_MAX {
            let mut document = vec![0; EVIDENCE_MAX];
            document[..8].copy_from_slice(&number.to_le_bytes());
            drop(evidence.keep(document.into(), None, 0).unwrap());
        }
        assert!(evidence.find(&stable.name()).is_some());
        check_counts(&evidence);
    }

    #[test]
    fn a_worker_that_returns_keeps_its_document() {
        let evidence = Evidence::default();
        drop(keep(&evidence, "ours", None));
        let back = keep(&evidence, "ours", None);
        let twice = keep(&evidence, "ours", None);
        drop(back);
        flap(&evidence, 2 * EVIDENCE_DOCUMENTS_MAX);
        assert!(evidence.find(&twice.name()).is_some(), "one of its sessions is left");
        check_counts(&evidence);
    }

    #[test]
    fn a_key_is_vouched_for_by_its_newest_document() {
        let evidence = Evidence::default();
        let key = [7; 32];
        let older = keep(&evidence, "older", Some(key));
        let newer = keep(&evidence, "newer", Some(key));
        assert_eq!((evidence.name_of(&key), evidence.name_of(&[8; 32])), (Some(newer.name()), None));
        drop(newer);
        flap(&evidence, EVIDENCE_DOCUMENTS_MAX);
        assert_eq!(evidence.name_of(&key), Some(older.name()), "a name without a document helps nobody");
        drop(older);
        flap(&evidence, 2 * EVIDENCE_DOCUMENTS_MAX);
        assert_eq!(evidence.name_of(&key), None);
        assert_eq!(evidence.lock().by_key.len(), 1, "of the last worker");
    }

    #[test]
    fn documents_that_no_message_could_carry_are_not_kept() {
        assert!(Evidence::default().keep(vec![0; EVIDENCE_MAX + 1].into(), None, 0).is_none());
    }
}
