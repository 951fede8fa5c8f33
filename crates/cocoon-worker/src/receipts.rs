//! Receipts: signed word on what a request came to, for clients that ask for one.
//!
//! 1. [`ReceiptSigner`] is a key, which the worker's evidence names, and what is known of the model's files.
//! 2. An id is taken once ([`Ids`]): two receipts of one id could be shown to different people.
//! 3. [`Open`] follows one request: the digest of its body, the digest of the answer as it leaves. It copies nothing, and
//!    the salt goes no further.
//! 4. Signing happens as the last message is made, after all parts before it have left, and for all receipts that are ready
//!    at about the same time at once ([`batch`]).

mod batch;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use cocoon_receipt::{BodyDigest, ModelHashes, Outcome, Receipt};
use cocoon_units::{AdjustedUsage, Coefficient, Multipliers, UnixTime, Usage};
use cocoon_wire::message::ReceiptAsk;
use ed25519_dalek::SigningKey;
use tokio::task::{JoinHandle, spawn_blocking};

use self::batch::{Batches, Turn};
use crate::limits::{DIGEST_INLINE_BYTES_MAX, RECEIPT_IDS_MAX};

/// What receipts are signed with, and what they say of the model.
pub struct ReceiptSigner {
    /// The receipt key of this node, which its evidence names.
    pub key: SigningKey,
    /// What answers are made with.
    pub hashes: ModelHashes,
}

/// Never shows the key.
impl fmt::Debug for ReceiptSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiptSigner").field("hashes", &self.hashes).finish_non_exhaustive()
    }
}

/// The signer of a running worker.
#[derive(Debug)]
pub(crate) struct Receipts {
    batches: Batches,
    hashes: ModelHashes,
    ids: Ids,
}

impl Receipts {
    pub(crate) fn new(signer: ReceiptSigner) -> Self {
        let ReceiptSigner { key, hashes } = signer;
        Self { batches: Batches::new(key), hashes, ids: Ids::default() }
    }

    /// Begins a receipt; `None` for an id that was here before.
    pub(crate) fn open(&self, ask: &ReceiptAsk) -> Option<Open> {
        let answer = BodyDigest::answer(&ask.salt);
        let is_new = self.ids.take(ask.id);
        is_new.then(|| {
            let turn = self.batches.enter();
            Open { id: ask.id, salt: ask.salt, request: Request::Unread, answer, turn }
        })
    }

    /// Ends it with a signature.
    pub(crate) async fn sign(&self, open: Open, ending: Ending<'_>) -> Bytes {
        let Open { id, salt, request, answer, turn } = open;
        let Ending { proxy, model, status, outcome, usage, adjusted, coefficient, multipliers, started, ended } =
            ending;
        let receipt = Receipt {
            id,
            proxy: proxy.to_owned(),
            model: model.to_owned(),
            hashes: self.hashes,
            status,
            outcome,
            usage,
            adjusted,
            coefficient,
            multipliers,
            started_unix_ms: started.as_millis(),
            ended_unix_ms: ended.as_millis().max(started.as_millis()),
            request_hmac: request.finish(&salt).await,
            answer_hmac: answer.finish(),
        };
        self.batches.sign(receipt, turn).await
    }
}

/// A receipt that is not signed yet.
pub(crate) struct Open {
    id: [u8; 32],
    salt: [u8; 32],
    request: Request,
    answer: BodyDigest,
    turn: Turn,
}

/// The digest of the request's body.
enum Request {
    /// No body was there to read: the envelope was malformed.
    Unread,
    Done([u8; 32]),
    /// A large body, digested beside the event loop.
    Beside(JoinHandle<[u8; 32]>),
}

impl Request {
    async fn finish(self, salt: &[u8; 32]) -> [u8; 32] {
        match self {
            Self::Unread => BodyDigest::request(salt).finish(),
            Self::Done(digest) => digest,
            // It only fails when the runtime shuts down, and then nobody reads the receipt.
            Self::Beside(digest) => digest.await.unwrap_or_default(),
        }
    }
}

impl Open {
    /// Takes the request's body, as the client sent it.
    pub(crate) fn read_request(&mut self, body: &Bytes) {
        let mut digest = BodyDigest::request(&self.salt);
        self.request = if body.len() <= DIGEST_INLINE_BYTES_MAX {
            digest.update(body);
            Request::Done(digest.finish())
        } else {
            let body = body.clone();
            Request::Beside(spawn_blocking(move || {
                digest.update(&body);
                digest.finish()
            }))
        };
    }

    /// Takes the next bytes of the answer's body, as they leave.
    pub(crate) fn read_answer(&mut self, bytes: &[u8]) {
        self.answer.update(bytes);
    }
}

/// What a receipt says of the end of a request.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    pub(crate) proxy: &'a str,
    pub(crate) model: &'a str,
    pub(crate) status: u16,
    pub(crate) outcome: Outcome,
    pub(crate) usage: Usage,
    pub(crate) adjusted: AdjustedUsage,
    pub(crate) coefficient: Coefficient,
    pub(crate) multipliers: Multipliers,
    pub(crate) started: UnixTime,
    pub(crate) ended: UnixTime,
}

/// The ids of receipts that were begun, the latest of them.
#[derive(Default)]
struct Ids(Mutex<Seen>);

/// The same ids twice: to find one, and to find the oldest.
#[derive(Default)]
struct Seen {
    known: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Ids {
    /// Whether it is new.
    fn take(&self, id: [u8; 32]) -> bool {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { known, order } = &mut *ids;
        if !known.insert(id) {
            return false;
        }
        order.push_back(id);
        if order.len() > RECEIPT_IDS_MAX
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
        true
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ids")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_once_for_as_long_as_it_is_remembered() {
        let ids = Ids::default();
        let id = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            id
        };
        assert!(ids.take(id(0)) && !ids.take(id(0)));
        for number in 1..=RECEIPT_IDS_MAX {
            assert!(ids.take(id(number)));
        }
        assert!(ids.take(id(0)), "the oldest is forgotten");
        assert!(!ids.take(id(2)));
        assert!(ids.0.lock().unwrap().known.len() <= RECEIPT_IDS_MAX);
    }
}
