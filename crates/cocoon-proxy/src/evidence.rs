//! What was verified of workers, by its SHA-256, for clients that check receipts.
//!
//! A receipt is signed with a key that the worker's evidence covers. A client that asks by the hash in a receipt's
//! proof gets the document and appraises it itself, once for each key. Documents hold no secret and no prompt.
//! The store is bounded: the oldest document goes first, and a worker that connects again brings its own back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cocoon_net::Peer;
use cocoon_wire::limits::EVIDENCE_MAX;
use sha2::{Digest, Sha256};

use crate::limits::{EVIDENCE_BYTES_MAX, EVIDENCE_DOCUMENTS_MAX};

/// The documents. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    store: Arc<Mutex<Store>>,
}

#[derive(Debug, Default)]
struct Store {
    documents: HashMap<[u8; 32], Bytes>,
    /// The newest document of each receipt key that one names.
    by_key: HashMap<[u8; 32], [u8; 32]>,
    order: VecDeque<[u8; 32]>,
    bytes: usize,
}

impl Evidence {
    /// Keeps what was verified of a peer, and gives its name. None for a peer that showed nothing.
    pub(crate) fn keep_of(&self, peer: &Peer) -> Option<[u8; 32]> {
        let Peer::Attested(peer) = peer else { return None };
        self.keep(peer.document().encode().into(), peer.claims().map(|claims| claims.keys.receipt))
    }

    /// Keeps a document of this receipt key and gives its name. One that no message could carry is not kept.
    fn keep(&self, document: Bytes, key: Option<[u8; 32]>) -> Option<[u8; 32]> {
        if document.len() > EVIDENCE_MAX {
            return None;
        }
        let name = Sha256::digest(&document).into();
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.forget(&name);
        store.bytes = store.bytes.saturating_add(document.len());
        store.order.push_back(name);
        store.documents.insert(name, document);
        if let Some(key) = key {
            store.by_key.insert(key, name);
        }
        while store.order.len() > EVIDENCE_DOCUMENTS_MAX || store.bytes > EVIDENCE_BYTES_MAX {
            let Some(oldest) = store.order.front().copied() else { break };
            store.forget(&oldest);
        }
        Some(name)
    }

    /// The name of the newest document that vouches for a receipt's key. A worker makes a key at each start, so whatever
    /// document names it is of the program that signed.
    pub(crate) fn name_of(&self, key: &[u8; 32]) -> Option<[u8; 32]> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).by_key.get(key).copied()
    }

    /// The document of that name.
    pub(crate) fn find(&self, name: &[u8; 32]) -> Option<Bytes> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).documents.get(name).cloned()
    }
}

impl Store {
    fn forget(&mut self, name: &[u8; 32]) {
        let Some(document) = self.documents.remove(name) else { return };
        self.bytes = self.bytes.saturating_sub(document.len());
        self.order.retain(|other| other != name);
        self.by_key.retain(|_, other| other != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_found_by_its_hash() {
        let evidence = Evidence::default();
        let name = evidence.keep(Bytes::from_static(b"{}"), None).unwrap();
        assert_eq!(name, <[u8; 32]>::from(Sha256::digest(b"{}")));
        assert_eq!(evidence.find(&name).unwrap(), "{}");
        assert_eq!(evidence.find(&[0; 32]), None);
    }

    #[test]
    fn flood_of_documents_is_bounded_and_a_worker_that_returns_stays() {
        let evidence = Evidence::default();
        let ours = evidence.keep(Bytes::from_static(b"ours"), None).unwrap();
        for number in 0..EVIDENCE_DOCUMENTS_MAX {
            if number == EVIDENCE_DOCUMENTS_MAX / 2 {
                evidence.keep(Bytes::from_static(b"ours"), None);
            }
            evidence.keep(number.to_string().into(), None);
        }
        assert!(evidence.find(&ours).is_some());
        let store = evidence.store.lock().unwrap();
        assert_eq!((store.documents.len(), store.order.len()), (EVIDENCE_DOCUMENTS_MAX, EVIDENCE_DOCUMENTS_MAX));
        assert_eq!(store.bytes, store.documents.values().map(Bytes::len).sum::<usize>());
    }

    #[test]
    fn a_key_is_vouched_for_by_its_newest_document() {
        let evidence = Evidence::default();
        let key = [7; 32];
        evidence.keep(Bytes::from_static(b"older"), Some(key));
        let newer = evidence.keep(Bytes::from_static(b"newer"), Some(key));
        assert_eq!((evidence.name_of(&key), evidence.name_of(&[8; 32])), (newer, None));
        for number in 0..EVIDENCE_DOCUMENTS_MAX {
            evidence.keep(number.to_string().into(), None);
        }
        assert_eq!(evidence.name_of(&key), None, "a name without a document helps nobody");
        assert!(evidence.store.lock().unwrap().by_key.is_empty());
    }

    #[test]
    fn documents_that_no_message_could_carry_are_not_kept() {
        assert_eq!(Evidence::default().keep(vec![0; EVIDENCE_MAX + 1].into(), None), None);
    }
}
