//! Receipts of requests whose end was not heard, as the proxy shows them when it is asked.
//!
//! 1. The receipt must be of that request, and say what could have been asked for, as far as that is still known.
//! 2. Its key must be a worker's: by a document that is here, or by the one that the proxy names, which is fetched.
//!    Otherwise a proxy could withhold the end of a request, and sign for the whole hold itself.
//! 3. A receipt that fails makes the request cost nothing. One that is lost, or that nobody vouches for now, proves
//!    nothing either way: the books keep the hold, and the proxy is asked again ([`crate::budget`]).
//!
//! On a link without attestation, and without a policy for workers, a key that nobody vouches for is believed, as it is
//! at the end of a request.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Arc, Weak},
};

use cocoon_receipt::{Receipt, SignedReceipt};
use cocoon_wire::message::{SettledRequest, TokensUsed};

use super::{
    Receipts,
    check::{Asked, Heard, check},
    evidence::{Judged, Vouched},
    fault::Fault,
    store::Kept,
    words,
};
use crate::{budget::Proof, limits, session::link::Link};

/// One answer of a proxy, while its receipts are judged.
struct Round<'a> {
    link: &'a Weak<Link>,
    /// Whether there must be evidence, since the proxy has some.
    is_attested: bool,
    /// Documents that were asked for.
    fetched: usize,
    /// Those of them that could not be had.
    missing: BTreeSet<[u8; 32]>,
}

impl Receipts {
    /// What an answer proves of each request in it. Receipts are kept, if their requests are still known.
    pub(crate) async fn proofs(
        &self,
        settled: &[SettledRequest],
        link: &Weak<Link>,
        is_attested: bool,
    ) -> BTreeMap<[u8; 32], Proof> {
        let mut round = Round { link, is_attested, fetched: 0, missing: BTreeSet::new() };
        let mut proofs = BTreeMap::new();
        for request in settled {
            // The first word on a request counts.
            if let Entry::Vacant(place) = proofs.entry(request.id) {
                place.insert(self.proof(request, &mut round).await);
            }
        }
        proofs
    }

    async fn proof(&self, settled: &SettledRequest, round: &mut Round<'_>) -> Proof {
        let Some(bytes) = settled.receipt.as_deref() else { return Proof::Missing };
        let Some((signed, receipt)) = read(bytes, &settled.id) else {
            self.forget(&settled.id);
            return Proof::Refused;
        };
        let tokens = TokensUsed::from(receipt.adjusted);
        let heard = Heard { tokens, answer_hmac: None, at_unix_ms: self.clock.unix_now().as_millis() };
        let pending = self.lock().pending(&settled.id);
        let said = pending.as_ref().map_or(Ok(()), |(asked, _)| self.check_settled(&signed, asked, &heard));
        let outcome = match said {
            // The root may tell us soon.
            Err(fault) if fault.may_be_news() && self.root.get().is_some() => return Proof::Missing,
            Err(fault) => Err(fault),
            Ok(()) => match self.vouch_settled(&signed, &receipt, settled.evidence, round).await {
                Some(vouched) => vouched,
                None => return Proof::Missing,
            },
        };
        self.count(&outcome);
        if let Some((asked, key)) = pending {
            let document = settled.evidence.filter(|_| outcome.is_ok()).and_then(|name| self.evidence.text(&name));
            let price = Some(asked.pricing.price);
            let kept = Kept::new(&asked, key, &heard, &signed, settled.evidence, price, words(&outcome));
            self.lock().keep(kept, document.as_deref());
            self.verdicts.send_modify(|verdicts| *verdicts = verdicts.wrapping_add(1));
        }
        match outcome {
            Ok(_) => Proof::Receipt(receipt.adjusted.total()),
            Err(fault) => {
                tracing::warn!(code = fault.code(), %fault, "a receipt that came late is refused");
                Proof::Refused
            }
        }
    }

    fn check_settled(&self, signed: &SignedReceipt, asked: &Asked, heard: &Heard) -> Result<(), Fault> {
        check(signed, asked, heard, self.multipliers(), &self.roots).map(drop)
    }

    /// Whose word the key rests on; `None` while nobody vouches for it.
    async fn vouch_settled(
        &self,
        signed: &SignedReceipt,
        receipt: &Receipt,
        evidence: Option<[u8; 32]>,
        round: &mut Round<'_>,
    ) -> Option<Result<Vouched, Fault>> {
        let (key, now_ms) = (signed.key(), self.clock.unix_now().as_millis());
        let policy = self.policy();
        let known = self.evidence.of_key(&key, policy.as_deref());
        if let Some(vouched) = known.and_then(|known| known.vouch_late(&key, receipt, now_ms).ok()) {
            return Some(Ok(vouched));
        }
        let Some(sha256) = evidence else {
            let is_needed = round.is_attested || policy.is_some();
            return (!is_needed).then_some(Ok(Vouched::Nobody));
        };
        let judged = self.document(sha256, round).await?;
        Some(judged.and_then(|judged| judged.vouch_late(&key, receipt, now_ms)))
    }

    /// The document that the proxy named; `None` while it cannot be had, since honest proxies forget those, too.
    async fn document(&self, sha256: [u8; 32], round: &mut Round<'_>) -> Option<Result<Arc<Judged>, Fault>> {
        if let Some(judged) = self.evidence.find(&sha256, self.policy().as_deref()) {
            return Some(Ok(judged));
        }
        if round.missing.contains(&sha256) || round.fetched >= limits::SETTLED_EVIDENCE_FETCHED {
            return None;
        }
        round.fetched += 1;
        match self.judged(sha256, round.link).await {
            Ok(judged) => Some(Ok(judged)),
            Err(None | Some(Fault::EvidenceWithheld)) => {
                round.missing.insert(sha256);
                None
            }
            Err(Some(fault)) => Some(Err(fault)),
        }
    }
}

/// A receipt that is signed, by whomever, for this request.
fn read(bytes: &[u8], id: &[u8; 32]) -> Option<(SignedReceipt, Receipt)> {
    let signed = SignedReceipt::from_bytes(bytes).ok()?;
    let receipt = signed.verify(None).ok().filter(|receipt| receipt.id == *id)?;
    Some((signed, receipt))
}
