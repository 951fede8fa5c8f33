//! Proof of what was paid for: each request's receipt, asked for, checked, and kept for the app.
//!
//! 1. [`Bill`] draws id and salt before the request is sent, and holds what it can cost at most.
//! 2. [`Metered`] digests the answer as it leaves, and tells the bill the end.
//! 3. `check` compares the receipt with what was sent and what came; `evidence` says whose key signed it. Of a document
//!    that is not known yet the proxy is asked ([`Receipts::run`]), after the app has its answer.
//! 4. The verdict resolves the hold: an accepted receipt counts as signed; for a refused one nothing is owed, so that a
//!    proxy that demands it is refused in turn ([`crate::budget`]); one that could not be checked leaves the hold open.
//!    `settled` takes what such a proxy then shows.
//! 5. `store` keeps the receipt, whatever the verdict: `GET /v1/receipts/{id}`.
//!
//! A receipt cannot take an answer back: it was delivered. A bad one is counted, and told in the log without content.
//! It fails closed: what is not proved is not owed.

mod bill;
mod check;
mod evidence;
mod fault;
mod later;
mod metered;
mod settled;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    str,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use cocoon_attest::Policy;
use cocoon_receipt::{Receipt, ReceiptFile, SignedReceipt, VerifiedRoots};
use cocoon_ton::chain::watch::RootConfig;
use cocoon_units::{Clock, Multipliers, NanoPerToken};
use cocoon_wal::WalError;
use cocoon_wire::message::{FinalInfo, TokensUsed};
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{budget::Hold, keys::Access, limits, session::link::Link};
pub(crate) use bill::Bill;
use check::{Asked, Heard, check};
use evidence::{EvidenceCache, Judged, Vouched};
use fault::Fault;
use later::{Job, Wait};
pub(crate) use metered::Metered;
use store::{Entry, Kept, Store};

/// The receipts of one client.
pub(crate) struct Receipts {
    clock: Arc<dyn Clock>,
    store: Mutex<Store>,
    evidence: EvidenceCache,
    /// Signatures that stand for further receipts.
    roots: VerifiedRoots,
    /// The policy for workers; without one, documents are checked under their own.
    policy: OnceLock<watch::Receiver<Arc<Policy>>>,
    /// The root, where there is a chain.
    root: OnceLock<watch::Receiver<Arc<RootConfig>>>,
    /// Whether tokens without a receipt are refused: where money is paid.
    is_strict: AtomicBool,
    accepted: Mutex<BTreeMap<&'static str, u64>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    jobs: mpsc::Sender<Job>,
    queue: Mutex<Option<mpsc::Receiver<Job>>>,
    /// Grows with each verdict, for those who wait for one.
    verdicts: watch::Sender<u64>,
}

/// What the client's status says of receipts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReceiptsStatus {
    /// Accepted ones, by whose word their keys rest on: `policy` is this client's own, `self` is what the evidence
    /// brings along, `nobody` is a link without attestation.
    pub accepted: BTreeMap<&'static str, u64>,
    /// Refused ones, by the check; `missing` are charges without any.
    pub refused: BTreeMap<&'static str, u64>,
}

/// The end of a request with a receipt, until the verdict.
struct End {
    hold: Hold,
    asked: Arc<Asked>,
    key: Option<Arc<str>>,
    heard: Heard,
    /// None where what came is no receipt.
    signed: Option<SignedReceipt>,
    evidence: Option<[u8; 32]>,
    price: Option<NanoPerToken>,
    /// Whether there must be evidence, since the proxy has some.
    is_attested: bool,
    /// Whom to ask for it.
    link: Weak<Link>,
}

/// What is known of an id.
pub(crate) enum Found {
    /// Nothing, or nothing that this key may know.
    Unknown,
    /// The request has not ended, or its receipt is being checked.
    Pending,
    /// A receipt, as a file, and the verdict in words.
    Here { file: Box<ReceiptFile>, verdict: String },
}

impl Receipts {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (jobs, queue) = mpsc::channel(limits::RECEIPTS_UNCHECKED);
        Self {
            clock,
            store: Mutex::default(),
            evidence: EvidenceCache::default(),
            roots: VerifiedRoots::default(),
            policy: OnceLock::new(),
            root: OnceLock::new(),
            is_strict: AtomicBool::new(false),
            accepted: Mutex::default(),
            refused: Mutex::default(),
            jobs,
            queue: Mutex::new(Some(queue)),
            verdicts: watch::Sender::new(0),
        }
    }

    /// Keeps receipts in this folder, and takes tokens without a receipt for nothing owed: money is at stake.
    pub(crate) fn open(&self, folder: &Path) -> Result<(), WalError> {
        self.is_strict.store(true, Ordering::Relaxed);
        self.lock().open(folder)
    }

    /// Judges workers' evidence by this policy. The first call counts.
    pub(crate) fn set_policy(&self, policy: watch::Receiver<Arc<Policy>>) {
        let _ = self.policy.set(policy);
    }

    /// Takes what tokens weigh from this root. The first call counts.
    pub(crate) fn follow(&self, root: watch::Receiver<Arc<RootConfig>>) {
        let _ = self.root.set(root);
    }

    pub(crate) fn status(&self) -> ReceiptsStatus {
        let copy = |counts: &Mutex<_>| BTreeMap::clone(&counts.lock().unwrap_or_else(PoisonError::into_inner));
        ReceiptsStatus { accepted: copy(&self.accepted), refused: copy(&self.refused) }
    }

    /// The receipt of an id, for the key that made the request or the owner; waits a moment for a verdict that is on its
    /// way.
    pub(crate) async fn find(&self, id: &[u8; 32], access: &Access) -> Found {
        let mut verdicts = self.verdicts.subscribe();
        let verdict = async {
            loop {
                let entry = self.lock().find(id, access);
                match entry {
                    None => return Found::Unknown,
                    Some(Entry::Kept(kept)) => return self.found(&kept),
                    Some(Entry::Pending { .. }) => {}
                }
                if verdicts.changed().await.is_err() {
                    return Found::Pending; // Cannot be: the sender is ours.
                }
            }
        };
        timeout(limits::RECEIPT_WAIT, verdict).await.unwrap_or(Found::Pending)
    }

    fn note(&self, asked: Arc<Asked>, key: Option<Arc<str>>) {
        self.lock().note(asked, key);
    }

    fn forget(&self, id: &[u8; 32]) {
        self.lock().forget(id);
        self.verdicts.send_modify(|verdicts| *verdicts = verdicts.wrapping_add(1));
    }

    /// Takes the final message of a request; the hold is resolved here or once the evidence is there.
    fn end(&self, bill: &Bill, hold: Hold, info: &FinalInfo, answer_hmac: Option<[u8; 32]>) {
        let Some(asked) = &bill.asked else { return hold.settled(&info.tokens, None) };
        let Some(proof) = &info.proof else { return self.end_without_receipt(hold, asked, info) };
        let heard = check::heard(info, answer_hmac, self.clock.unix_now().as_millis());
        let signed = SignedReceipt::from_bytes(&proof.receipt);
        let end = End {
            hold,
            asked: Arc::clone(asked),
            key: bill.key.clone(),
            heard,
            signed: signed.as_ref().ok().cloned(),
            evidence: proof.evidence,
            price: bill.price(),
            is_attested: bill.is_attested,
            link: Weak::clone(&bill.link),
        };
        let receipt = signed
            .map_err(Fault::from)
            .and_then(|signed| check(&signed, &end.asked, &end.heard, self.multipliers(), &self.roots));
        match receipt {
            Ok(receipt) => self.vouch(end, receipt),
            Err(fault) if fault.may_be_news() && self.root.get().is_some() => {
                self.put_off(Job { end, wait: Wait::Root(fault) });
            }
            Err(fault) => self.conclude(end, Err(fault)),
        }
    }

    /// Nothing proves what is charged; that is fine where nothing is.
    fn end_without_receipt(&self, hold: Hold, asked: &Asked, info: &FinalInfo) {
        if info.tokens == TokensUsed::default() {
            hold.nothing();
        } else {
            self.count(&Err(Fault::Missing));
            if self.is_strict.load(Ordering::Relaxed) {
                tracing::warn!("the proxy charges for a request without a receipt; it is not accepted");
                hold.nothing();
            } else {
                hold.settled(&info.tokens, None);
            }
        }
        self.forget(&asked.ask.id);
    }

    /// Whose key signed: known, or to be asked.
    fn vouch(&self, end: End, receipt: Receipt) {
        let policy = self.policy();
        let Some(sha256) = end.evidence else {
            let is_needed = end.is_attested || policy.is_some();
            let vouched = if is_needed { Err(Fault::NoEvidence) } else { Ok(Vouched::Nobody) };
            return self.conclude(end, vouched.map(|vouched| (receipt, vouched)));
        };
        if let Some(judged) = self.evidence.find(&sha256, policy.as_deref()) {
            return self.conclude_by(end, receipt, &judged);
        }
        self.put_off(Job { end, wait: Wait::Evidence { receipt: Box::new(receipt), sha256 } });
    }

    fn conclude_by(&self, end: End, receipt: Receipt, judged: &Judged) {
        let vouched = match &end.signed {
            Some(signed) => judged.vouch(&signed.key(), &receipt),
            None => Err(Fault::NoEvidence), // Cannot be: the receipt was read from it.
        };
        self.conclude(end, vouched.map(|vouched| (receipt, vouched)));
    }

    /// The verdict.
    fn conclude(&self, end: End, outcome: Result<(Receipt, Vouched), Fault>) {
        let usage = outcome.as_ref().ok().map(|(receipt, _)| receipt.usage);
        let outcome = outcome.map(|(_, vouched)| vouched);
        self.count(&outcome);
        let End { hold, asked, key, heard, signed, evidence, price, .. } = end;
        match &outcome {
            Ok(_) => hold.settled(&heard.tokens, usage),
            Err(fault) => {
                let error = fault.to_string();
                tracing::warn!(code = fault.code(), ?error, "a receipt is refused, and what it charges is not owed");
                hold.nothing();
            }
        }
        match signed {
            Some(signed) => {
                // Of those that were accepted: anybody can make up others, of any size.
                let document = evidence.filter(|_| outcome.is_ok()).and_then(|sha256| self.evidence.text(&sha256));
                let kept = Kept::new(&asked, key, &heard, &signed, evidence, price, words(&outcome));
                self.lock().keep(kept, document.as_deref());
            }
            None => self.lock().forget(&asked.ask.id),
        }
        self.verdicts.send_modify(|verdicts| *verdicts = verdicts.wrapping_add(1));
    }

    /// Writes the receipts that the file lacks, in one write.
    pub(crate) fn flush(&self) {
        self.lock().flush();
    }

    /// Nobody could check it: the hold counts in full until the proxy is asked again.
    fn leave_open(&self, end: End) {
        self.count(&Err(Fault::Unchecked));
        drop(end.hold);
    }

    fn count(&self, outcome: &Result<Vouched, Fault>) {
        let (counts, word) = match outcome {
            Ok(vouched) => (&self.accepted, vouched.word()),
            Err(fault) => (&self.refused, fault.code()),
        };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count: &mut u64 = counts.entry(word).or_default();
        *count = count.saturating_add(1);
    }

    fn found(&self, kept: &Kept) -> Found {
        let Ok(receipt) = SignedReceipt::from_bytes(&kept.receipt) else { return Found::Unknown };
        let file = ReceiptFile {
            receipt,
            salt: kept.salt,
            evidence: kept.evidence.as_deref().and_then(|name| self.evidence_text(name)),
            price: kept.price,
            request_hmac: Some(kept.request_hmac),
            answer_hmac: kept.answer_hmac.as_deref().and_then(from_hex),
        };
        Found::Here { file: Box::new(file), verdict: kept.verdict.clone() }
    }

    /// The document that a receipt refers to, as far as it is still here.
    fn evidence_text(&self, name: &str) -> Option<String> {
        let sha256 = from_hex(name)?;
        let text = self.evidence.text(&sha256);
        let path = if text.is_none() { self.lock().document_path(&sha256) } else { None };
        // A small file, read only when somebody asks for a receipt.
        let text = text.or_else(|| store::read_evidence(&path?))?;
        str::from_utf8(&text).ok().map(str::to_owned)
    }

    /// What tokens weigh by the newest root that is known.
    fn multipliers(&self) -> Option<Multipliers> {
        self.root.get().map(|root| root.borrow().state.pricing().multipliers)
    }

    fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.get().map(|policy| Arc::clone(&*policy.borrow()))
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // Every update is an insertion or a removal, so the store is usable even after a panic.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipts")
    }
}

/// The verdict in words, as apps read it.
fn words(outcome: &Result<Vouched, Fault>) -> String {
    match outcome {
        Ok(vouched) => format!("accepted; key by {}", vouched.word()),
        Err(fault) => format!("refused; {}", fault.code()),
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}
