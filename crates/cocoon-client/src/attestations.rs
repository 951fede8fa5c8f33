//! What was verified about this client's proxies, for those who want to check it themselves.
//!
//! Each session with an attested proxy has a [`Record`]: a summary for `/v1/attestation`, and the whole appraisal as
//! the document that `cocoon attest verify` reads. A session appraised again gets another one. The latest are kept, so
//! that the id in the header of an answer still leads somewhere after its session has ended.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cocoon_attest::Document;
use cocoon_net::{Peer, ratls::AttestedPeer};
use http::HeaderValue;
use serde_json::{Value, json};

use crate::limits;

/// The latest appraisals, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Attestations {
    kept: Mutex<VecDeque<Arc<Record>>>,
}

/// One appraisal of one proxy.
#[derive(Debug)]
pub(crate) struct Record {
    proxy: u32,
    peer: Arc<AttestedPeer>,
}

impl Attestations {
    /// Notes what the link knows of the proxy; `None` when it is not attested.
    pub(crate) fn note(&self, proxy: u32, peer: &Peer) -> Option<Arc<Record>> {
        let Peer::Attested(peer) = peer else { return None };
        let record = Arc::new(Record { proxy, peer: Arc::clone(peer) });
        keep(&mut self.lock(), &record, limits::ATTESTATIONS_KEPT, |kept| kept.id() == record.id());
        Some(record)
    }

    /// The document of an id, unless it is unknown or too many came after it.
    pub(crate) fn document(&self, id: &str) -> Option<Arc<Document>> {
        let kept = self.lock();
        // Of two with the same id, which are the same document, either will do.
        kept.iter().rev().find(|record| record.id() == id).map(|record| Arc::clone(record.peer.document()))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Record>>> {
        // Every update is one removal or insertion, so the queue is whole even after a panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts the newest at the end, in place of an earlier copy of it or of the oldest.
fn keep<T>(kept: &mut VecDeque<Arc<T>>, newest: &Arc<T>, max: usize, is_same: impl Fn(&T) -> bool) {
    kept.retain(|record| !is_same(record));
    while kept.len() >= max {
        kept.pop_front();
    }
    kept.push_back(Arc::clone(newest));
}

impl Record {
    /// The document's id: the first digits of its hash.
    pub(crate) fn id(&self) -> &str {
        self.peer.id()
    }

    /// The same for the answer's header.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(self.id()).ok()
    }

    /// Whether this is what the link knows of the proxy now.
    pub(crate) fn is_of(&self, peer: &Peer) -> bool {
        matches!(peer, Peer::Attested(peer) if Arc::ptr_eq(peer, &self.peer))
    }

    /// Whose word it rests on: `vendor` or `simulated`.
    pub(crate) fn provenance(&self) -> String {
        serde_json::to_value(self.peer.verdict().provenance)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// What was proved, in short.
    pub(crate) fn summary(&self) -> Value {
        let verdict = self.peer.verdict();
        json!({
            "id": self.id(),
            "proxy": self.proxy,
            "role": verdict.role,
            "profile": verdict.profile,
            "mode": self.peer.mode().name(),
            "format": verdict.format,
            "provenance": verdict.provenance,
            "image_sha256": verdict.image_sha256.map(hex::encode),
            "tcb_status": verdict.tcb_status,
            "advisories": verdict.advisories,
            "platform": verdict.platform,
            "policy_sha256": hex::encode(verdict.policy_sha256),
            "appraised_unix_s": verdict.appraised_unix_s,
            "valid_until_unix_s": verdict.valid_until_unix_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_a_repetition_does_not() {
        let mut kept = VecDeque::new();
        for number in [1, 2, 2, 3, 1] {
            keep(&mut kept, &Arc::new(number), 3, |kept| *kept == number);
        }
        assert_eq!(kept.iter().map(|number| **number).collect::<Vec<i32>>(), [2, 3, 1]);
        keep(&mut kept, &Arc::new(4), 3, |kept| *kept == 4);
        assert_eq!(kept.iter().map(|number| **number).collect::<Vec<i32>>(), [3, 1, 4]);
    }
}
