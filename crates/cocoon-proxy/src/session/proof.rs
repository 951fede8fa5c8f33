//! What a worker's receipt must say to be paid, judged where its last message is read.
//!
//! A client owes nothing for a receipt that fails one of its checks, and refuses a proxy that counts it all the same. So
//! each of them is made here first, and no more leniently; otherwise a worker could have every client refuse this proxy.
//!
//! 1. The key: the one in the worker's attested claims. A link that asks for no evidence (this host, memory) has none:
//!    there the first receipt of a connection sets it, and another key later is another worker.
//! 2. The request: its id, this proxy's contract, the model, the price and the weights that were agreed, the digest of its
//!    body, and when it was made.
//! 3. The counts: adjusted as they must be (`cocoon-receipt`). What they come to beyond the reservation is cut off later, as
//!    it is from claims without a receipt: a client whose prompt has more tokens than anybody thought possible pays what
//!    it agreed to, and the worker that let the engine exceed it is blamed.
//! 4. The answer that was seen: its status; the digest of its body; nothing for an error; for one that broke off, no more
//!    tokens than bytes came.
//! 5. The evidence that is named with it: of about the time of the request ([`Judge::renew`]).
//!
//! A receipt that fails is worth nothing, whatever part of it is true. The reason is told to the operator, never the
//! receipt: it may name what the client asked for.

use std::sync::Arc;

use bytes::Bytes;
use cocoon_net::Peer;
use cocoon_receipt::{Receipt, ReceiptError, SignedReceipt, VerifiedRoots, public_name};
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{FinalInfo, Proof, ReceiptAsk, TokensUsed};
use thiserror::Error;

use super::Refusal;
use super::standing::Standing;
use crate::core::{Agreed, Word};
use crate::evidence::Pinned;
use crate::limits::{RECEIPT_EVIDENCE_AGE_MAX_S, RECEIPT_EVIDENCE_AHEAD_MAX_S, RECEIPT_SKEW_MS};

/// Judges the receipts of one worker's connection.
#[derive(Debug)]
pub(crate) struct Judge {
    /// The worker as it was attested last.
    peer: Peer,
    /// Who must have signed; none where the first receipt decides.
    key: Option<[u8; 32]>,
    /// How a receipt may name this proxy.
    proxy: Vec<String>,
    /// The model as the worker offers it, with what follows `@`.
    offered: String,
    /// What was verified of the worker; none on a link that asks for nothing.
    evidence: Option<Pinned>,
    /// Whether an answer without the receipt that was asked for is worth nothing.
    strict: Strictness,
    /// Signatures that stand for further receipts.
    roots: VerifiedRoots,
}

/// What an answer without the receipt that was asked for is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// Nothing: there is money.
    Strict,
    /// What the worker claims: nobody pays.
    Lenient,
}

/// What a client asked a receipt for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Passed on to the worker.
    pub(crate) ask: ReceiptAsk,
    /// Of the body that the client sent, under its salt.
    pub(crate) request_hmac: [u8; 32],
}

/// What the receipt of one attempt must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The terms.
    pub(crate) agreed: Agreed,
    /// Of the request's body.
    pub(crate) request_hmac: [u8; 32],
    /// When it left, by our clock.
    pub(crate) sent_unix_ms: u64,
}

/// What was seen of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The status in its head, once that came.
    pub(crate) status: Option<u16>,
    /// Bytes of its body.
    pub(crate) bytes: u64,
    /// Of its body, once all of that came.
    pub(crate) answer_hmac: Option<[u8; 32]>,
    /// Whether it broke off by the worker's doing.
    pub(crate) broke_off: bool,
    /// When its last message came, by our clock.
    pub(crate) at_unix_ms: u64,
}

/// Why an answer is not paid. The worker is to blame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadReceipt {
    /// One was asked for.
    #[error("no receipt came, though one was asked for")]
    Missing,
    /// It is forged, malformed, or of something else.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// Another status than the answer had.
    #[error("the receipt says status {said:?}, the answer had {seen:?}")]
    Status {
        /// In the receipt.
        said: u16,
        /// In the head, if one came.
        seen: Option<u16>,
    },
    /// The worker read another request than it was sent.
    #[error("the receipt is for another request body")]
    RequestBody,
    /// The worker made another answer than it sent.
    #[error("the receipt is for another answer body")]
    AnswerBody,
    /// The worker's clock, or that of its host, is wrong.
    #[error(
        "the receipt is of another time: it began {began_s} s after the request was sent and ended {ended_s} s after now"
    )]
    Times {
        /// Before it, if negative.
        began_s: i64,
        /// Before it, if negative.
        ended_s: i64,
    },
    /// No client would take that evidence for this receipt.
    #[error("the worker's evidence was recorded {recorded_s} s after the receipt began")]
    EvidenceTime {
        /// Before it, if negative.
        recorded_s: i64,
    },
    /// An error is not what was asked for.
    #[error("the receipt demands {0} for an error answer")]
    ErrorAnswer(AdjustedTokens),
    /// No text has more tokens than bytes.
    #[error("the answer broke off after {bytes} bytes, and the receipt counts {tokens} tokens of it")]
    NotDelivered {
        /// That came.
        bytes: u64,
        /// That are said to have come.
        tokens: u64,
    },
}

impl Judge {
    /// For a worker that offers this model; `proxy` is how we were introduced to it.
    pub(crate) fn new(
        peer: &Peer,
        proxy: Vec<String>,
        offered: String,
        evidence: Option<Pinned>,
        strict: Strictness,
    ) -> Self {
        let roots = VerifiedRoots::default();
        Self { peer: peer.clone(), key: attested_key(peer), proxy, offered, evidence, strict, roots }
    }

    /// Whether the peer was not attested again since it was looked at.
    pub(crate) fn knows(&self, peer: &Peer) -> bool {
        match (&self.peer, peer) {
            (Peer::Attested(known), Peer::Attested(now)) => Arc::ptr_eq(known, now),
            // On the other links nothing changes.
            _ => true,
        }
    }

    /// Takes what was verified of the peer since: clients take no evidence that is older than a day. It must be of the
    /// same worker, for what it signs now is shown with it.
    pub(crate) fn renew(&mut self, peer: &Peer, evidence: Option<Pinned>) -> Result<(), Refusal> {
        Standing::of(peer).admit_model(&self.offered)?;
        if attested_key(peer) != attested_key(&self.peer) {
            return Err(Refusal::OtherReceiptKey);
        }
        self.peer = peer.clone();
        self.evidence = evidence;
        Ok(())
    }

    /// What an answer without the receipt that was asked for is worth.
    pub(crate) const fn strictness(&self) -> Strictness {
        self.strict
    }

    /// The worker's last word on a request: `attempt` is there where a receipt was asked for. It may come to more than was
    /// reserved.
    pub(crate) fn word(
        &mut self,
        attempt: Option<&Attempt>,
        seen: Seen,
        end: Option<&FinalInfo>,
    ) -> Result<Word, BadReceipt> {
        let is_error = seen.status.is_some_and(is_error);
        // An error is not what was asked for, whatever a worker claims for it.
        let claimed = |end: &FinalInfo| Word::Claimed(if is_error { TokensUsed::default() } else { end.tokens });
        let Some(attempt) = attempt else { return Ok(end.map_or(Word::Nothing, claimed)) };
        let receipt = end.and_then(|end| end.proof.as_ref()).map(|proof| proof.receipt.clone());
        let owes_no_receipt = is_error || (seen.broke_off && seen.status.is_none());
        match (receipt, self.strict) {
            (Some(receipt), _) => self.proved(attempt, seen, receipt),
            (None, _) if owes_no_receipt => Ok(Word::Nothing),
            (None, Strictness::Strict) => Err(BadReceipt::Missing),
            (None, Strictness::Lenient) => Ok(end.map_or(Word::Nothing, claimed)),
        }
    }

    fn proved(&mut self, attempt: &Attempt, seen: Seen, bytes: Bytes) -> Result<Word, BadReceipt> {
        let signed = SignedReceipt::from_bytes(&bytes)?;
        let receipt = self.verify(&signed)?;
        self.check(&receipt, attempt, seen.at_unix_ms)?;
        check_answer(&receipt, seen)?;
        self.check_evidence(&receipt)?;
        self.key = Some(signed.key());
        // What is kept must not keep the buffer that it was read into.
        let receipt_bytes = Bytes::copy_from_slice(&bytes);
        let proof = Proof { receipt: receipt_bytes, evidence: self.evidence.as_ref().map(Pinned::name) };
        Ok(Word::Proved { tokens: TokensUsed::from(receipt.adjusted), proof })
    }

    /// What a receipt says, if the worker signed it.
    pub(crate) fn verify(&self, signed: &SignedReceipt) -> Result<Receipt, BadReceipt> {
        Ok(signed.verify_with(self.key.as_ref(), &self.roots)?)
    }

    /// Whether a verified receipt is of this request.
    pub(crate) fn check(&self, receipt: &Receipt, attempt: &Attempt, now_ms: u64) -> Result<(), BadReceipt> {
        let Attempt { agreed, request_hmac, sent_unix_ms } = attempt;
        same("id", &agreed.id, &receipt.id, hex::encode)?;
        if !self.proxy.contains(&receipt.proxy) {
            return Err(differs("proxy", self.proxy.join(" or "), receipt.proxy.clone()));
        }
        // The worker may name its model as it offers it, or as clients ask for it.
        if receipt.model != self.offered || public_name(&self.offered) != agreed.model {
            same("model", agreed.model.as_str(), receipt.model.as_str(), str::to_owned)?;
        }
        same("coefficient", &agreed.coefficient, &receipt.coefficient, |it| it.thousandths().to_string())?;
        same("multipliers", &agreed.multipliers, &receipt.multipliers, |it| format!("{it:?}"))?;
        if receipt.request_hmac != *request_hmac {
            return Err(BadReceipt::RequestBody);
        }
        check_times(receipt, *sent_unix_ms, now_ms)
    }

    /// Whether clients take our evidence of the worker for this receipt.
    fn check_evidence(&self, receipt: &Receipt) -> Result<(), BadReceipt> {
        let Some(evidence) = &self.evidence else { return Ok(()) };
        let recorded_s = evidence.recorded_unix_s();
        let (started_s, ended_s) = (receipt.started_unix_ms / 1_000, receipt.ended_unix_ms / 1_000);
        let is_fresh = recorded_s.saturating_add(RECEIPT_EVIDENCE_AGE_MAX_S) >= started_s;
        let is_before = recorded_s <= ended_s.saturating_add(RECEIPT_EVIDENCE_AHEAD_MAX_S);
        if is_fresh && is_before {
            return Ok(());
        }
        Err(BadReceipt::EvidenceTime { recorded_s: recorded_s.cast_signed().saturating_sub(started_s.cast_signed()) })
    }
}

/// Whether it began about when the request was sent, or later, and ended about now, or before. That it did not end before
/// it began is a rule of receipts.
fn check_times(receipt: &Receipt, sent_ms: u64, now_ms: u64) -> Result<(), BadReceipt> {
    let is_after = receipt.started_unix_ms >= sent_ms.saturating_sub(RECEIPT_SKEW_MS);
    let is_before = receipt.ended_unix_ms <= now_ms.saturating_add(RECEIPT_SKEW_MS);
    if is_after && is_before {
        return Ok(());
    }
    let (began_s, ended_s) = (after_s(receipt.started_unix_ms, sent_ms), after_s(receipt.ended_unix_ms, now_ms));
    Err(BadReceipt::Times { began_s, ended_s })
}

/// How many seconds one moment is after another.
const fn after_s(ms: u64, other_ms: u64) -> i64 {
    ms.cast_signed().saturating_sub(other_ms.cast_signed()) / 1_000
}

/// Whether the receipt fits the answer that was seen.
fn check_answer(receipt: &Receipt, seen: Seen) -> Result<(), BadReceipt> {
    let demanded = receipt.adjusted.total();
    if seen.status.is_some_and(|status| status != receipt.status) {
        return Err(BadReceipt::Status { said: receipt.status, seen: seen.status });
    }
    if seen.answer_hmac.is_some_and(|digest| digest != receipt.answer_hmac) {
        return Err(BadReceipt::AnswerBody);
    }
    if is_error(receipt.status) && demanded > AdjustedTokens::ZERO {
        return Err(BadReceipt::ErrorAnswer(demanded));
    }
    let tokens = receipt.usage.completion;
    if seen.broke_off && tokens > seen.bytes {
        return Err(BadReceipt::NotDelivered { bytes: seen.bytes, tokens });
    }
    Ok(())
}

/// The key in the worker's attested claims.
pub(crate) fn attested_key(peer: &Peer) -> Option<[u8; 32]> {
    let Peer::Attested(peer) = peer else { return None };
    peer.claims().map(|claims| claims.keys.receipt)
}

const fn is_error(status: u16) -> bool {
    status >= 400
}

/// Both are put in words only if they differ.
fn same<'a, T: PartialEq + ?Sized>(
    field: &'static str,
    expected: &'a T,
    found: &'a T,
    words: impl Fn(&'a T) -> String,
) -> Result<(), BadReceipt> {
    if expected == found { Ok(()) } else { Err(differs(field, words(expected), words(found))) }
}

const fn differs(field: &'static str, expected: String, found: String) -> BadReceipt {
    BadReceipt::Receipt(ReceiptError::Differs { field, expected, found })
}

#[cfg(test)]
mod tests {
    use cocoon_receipt::{ModelHashes, Outcome};
    use cocoon_units::{Coefficient, Multiplier, Multipliers, Usage};
    use ed25519_dalek::SigningKey;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::evidence::Evidence;

    const OFFERED: &str = "Qwen/Qwen3-8B@abc:00";
    const SENT_MS: u64 = 1_795_335_274_000;
    const SENT_S: u64 = SENT_MS / 1_000;

    fn attempt() -> Attempt {
        Attempt { agreed: agreed(), request_hmac: [4; 32], sent_unix_ms: SENT_MS }
    }

    fn agreed() -> Agreed {
        Agreed {
            id: [1; 32],
            model: "Qwen/Qwen3-8B".into(),
            coefficient: Coefficient::from_thousandths(2_000),
            multipliers: Multipliers { cached: Multiplier::from_ten_thousandths(1_000), ..Multipliers::default() },
        }
    }

    fn receipt() -> Receipt {
        let usage = Usage { prompt: 34, cached: 10, completion: 5, reasoning: 0 };
        let Agreed { id, coefficient, multipliers, .. } = agreed();
        Receipt {
            id,
            proxy: "0:aa".into(),
            model: OFFERED.into(),
            hashes: ModelHashes::default(),
            status: 200,
            outcome: Outcome::Complete,
            usage,
            adjusted: usage.adjust(coefficient, &multipliers).unwrap(),
            coefficient,
            multipliers,
            started_unix_ms: SENT_MS + 1,
            ended_unix_ms: SENT_MS + 2,
            request_hmac: [4; 32],
            answer_hmac: [5; 32],
        }
    }

    fn with_usage(usage: Usage) -> Receipt {
        let Agreed { coefficient, multipliers, .. } = agreed();
        Receipt { usage, adjusted: usage.adjust(coefficient, &multipliers).unwrap(), ..receipt() }
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn judge(key: Option<[u8; 32]>, strict: Strictness) -> Judge {
        judge_shown(key, strict, SENT_S)
    }

    /// Of a worker whose evidence was recorded then.
    fn judge_shown(key: Option<[u8; 32]>, strict: Strictness, recorded_unix_s: u64) -> Judge {
        let evidence = Evidence::default().keep(Bytes::from_static(b"{}"), key, recorded_unix_s);
        Judge {
            peer: here("worker"),
            key,
            proxy: vec!["0:aa".into()],
            offered: OFFERED.into(),
            evidence,
            strict,
            roots: VerifiedRoots::default(),
        }
    }

    fn here(name: &str) -> Peer {
        Peer::InMemory { name: name.into() }
    }

    fn seen() -> Seen {
        let answer_hmac = Some([5; 32]);
        Seen { status: Some(200), bytes: 100, answer_hmac, broke_off: false, at_unix_ms: SENT_MS + 3 }
    }

    fn end(receipt: &Receipt, key: &SigningKey) -> FinalInfo {
        let proof = Proof { receipt: receipt.sign(key).to_bytes().into(), evidence: None };
        FinalInfo { proof: Some(proof), ..FinalInfo::default() }
    }

    fn judged(receipt: &Receipt, seen: Seen) -> Result<Word, BadReceipt> {
        let mut judge = judge(Some(key(7).verifying_key().to_bytes()), Strictness::Strict);
        judge.word(Some(&attempt()), seen, Some(&end(receipt, &key(7))))
    }

    #[test]
    fn a_receipt_that_fits_is_what_is_charged() {
        let Ok(Word::Proved { tokens, proof }) = judged(&receipt(), seen()) else { panic!("refused") };
        assert_eq!(tokens.total.get(), 48 + 2 + 10);
        assert_eq!(proof.evidence, Some(Sha256::digest(b"{}").into()));
        let named_as_asked = Receipt { model: "Qwen/Qwen3-8B".into(), ..receipt() };
        assert!(judged(&named_as_asked, seen()).is_ok());
    }

    #[test]
    fn receipt_of_another_request() {
        let differs = |receipt: Receipt, expected: &str| match judged(&receipt, seen()) {
            Err(BadReceipt::Receipt(ReceiptError::Differs { field, .. })) => assert_eq!(field, expected),
            other => panic!("{other:?}"),
        };
        differs(Receipt { id: [2; 32], ..receipt() }, "id");
        differs(Receipt { proxy: "0:bb".into(), ..receipt() }, "proxy");
        for model in ["Qwen/Qwen3-8B@abc:01", "other", "other@abc:00"] {
            differs(Receipt { model: model.into(), ..receipt() }, "model");
        }
        let cheap = |coefficient, multipliers| {
            let adjusted = receipt().usage.adjust(coefficient, &multipliers).unwrap();
            Receipt { coefficient, multipliers, adjusted, ..receipt() }
        };
        differs(cheap(Coefficient::ONE, agreed().multipliers), "coefficient");
        differs(cheap(agreed().coefficient, Multipliers::default()), "multipliers");
    }

    #[test]
    fn receipt_signed_by_another_key() {
        let mut attested = judge(Some(key(7).verifying_key().to_bytes()), Strictness::Strict);
        let judged =
            |judge: &mut Judge, key: &SigningKey| judge.word(Some(&attempt()), seen(), Some(&end(&receipt(), key)));
        assert!(matches!(judged(&mut attested, &key(8)), Err(BadReceipt::Receipt(ReceiptError::Key { .. }))));
        assert!(judged(&mut attested, &key(7)).is_ok());
        // Without evidence the first one decides.
        let mut here = judge(None, Strictness::Strict);
        assert!(judged(&mut here, &key(8)).is_ok());
        assert!(matches!(judged(&mut here, &key(7)), Err(BadReceipt::Receipt(ReceiptError::Key { .. }))));
    }

    #[test]
    fn receipt_of_another_body() {
        let other_request = Receipt { request_hmac: [6; 32], ..receipt() };
        assert_eq!(judged(&other_request, seen()), Err(BadReceipt::RequestBody));
        let other_answer = Receipt { answer_hmac: [6; 32], ..receipt() };
        assert_eq!(judged(&other_answer, seen()), Err(BadReceipt::AnswerBody));
        let part_of_it = Seen { answer_hmac: None, ..seen() };
        assert!(judged(&other_answer, part_of_it).is_ok(), "nobody else saw the rest");
    }

    /// Every client would refuse the proxy that charges for it.
    #[test]
    fn workers_host_moves_its_clock() {
        let at = |started_unix_ms: u64, ended_unix_ms: u64| {
            judged(&Receipt { started_unix_ms, ended_unix_ms, ..receipt() }, seen())
        };
        let now = seen().at_unix_ms;
        assert!(at(SENT_MS - RECEIPT_SKEW_MS, now + RECEIPT_SKEW_MS).is_ok());
        for hours in [-24, -1, 1, 24] {
            let moved = |ms: u64| ms.saturating_add_signed(hours * 3_600_000);
            let times = |said| matches!(said, Err(BadReceipt::Times { .. }));
            assert!(times(at(moved(SENT_MS), moved(now))), "{hours}");
        }
        let began_s = -i64::try_from(RECEIPT_SKEW_MS).unwrap() / 1_000;
        assert_eq!(at(SENT_MS - RECEIPT_SKEW_MS - 1, now), Err(BadReceipt::Times { began_s, ended_s: 0 }));
        assert!(matches!(at(SENT_MS, now + RECEIPT_SKEW_MS + 1), Err(BadReceipt::Times { began_s: 0, ended_s: 300 })));
        assert!(matches!(at(u64::MAX, u64::MAX), Err(BadReceipt::Times { .. })), "a clock that nobody can trust");
        assert!(matches!(at(0, 0), Err(BadReceipt::Times { .. })));
    }

    #[test]
    fn receipt_with_evidence_that_clients_find_too_old() {
        let key_bytes = key(7).verifying_key().to_bytes();
        let shown = |recorded_unix_s| {
            let mut judge = judge_shown(Some(key_bytes), Strictness::Strict, recorded_unix_s);
            judge.word(Some(&attempt()), seen(), Some(&end(&receipt(), &key(7))))
        };
        let day = RECEIPT_EVIDENCE_AGE_MAX_S;
        assert!(shown(SENT_S - day).is_ok());
        let too_old = -i64::try_from(day).unwrap() - 1;
        assert_eq!(shown(SENT_S - day - 1), Err(BadReceipt::EvidenceTime { recorded_s: too_old }));
        assert!(shown(SENT_S + RECEIPT_EVIDENCE_AHEAD_MAX_S).is_ok());
        assert!(matches!(shown(SENT_S + RECEIPT_EVIDENCE_AHEAD_MAX_S + 1), Err(BadReceipt::EvidenceTime { .. })));
    }

    #[test]
    fn worker_inflating_usage() {
        let inflated = with_usage(Usage { prompt: 34, cached: 0, completion: 40, reasoning: 0 });
        let dearer = Receipt { adjusted: inflated.adjusted, ..receipt() };
        assert!(matches!(judged(&dearer, seen()), Err(BadReceipt::Receipt(ReceiptError::Adjusted { .. }))));
    }

    #[test]
    fn negative_and_overflowing_counts() {
        let hostile = [
            Usage { prompt: 1, cached: 2, completion: 0, reasoning: 0 },
            Usage { prompt: 0, cached: 0, completion: 1, reasoning: 2 },
            Usage { prompt: u64::MAX, cached: 0, completion: u64::MAX, reasoning: 0 },
        ];
        for usage in hostile {
            assert!(matches!(judged(&Receipt { usage, ..receipt() }, seen()), Err(BadReceipt::Receipt(_))));
        }
    }

    #[test]
    fn an_error_answer_pays_only_for_what_was_delivered() {
        let broke_off = Seen { bytes: 4, answer_hmac: None, broke_off: true, ..seen() };
        assert!(matches!(judged(&receipt(), broke_off), Err(BadReceipt::NotDelivered { bytes: 4, tokens: 5 })));
        assert!(judged(&receipt(), Seen { bytes: 5, ..broke_off }).is_ok());
        let error = |usage| Receipt { status: 500, ..with_usage(usage) };
        let failed = Seen { status: Some(500), ..seen() };
        let some = Usage { prompt: 1, cached: 0, completion: 0, reasoning: 0 };
        assert!(matches!(judged(&error(some), failed), Err(BadReceipt::ErrorAnswer(_))));
        assert!(judged(&error(Usage::default()), failed).is_ok());
        assert!(matches!(judged(&error(Usage::default()), seen()), Err(BadReceipt::Status { .. })));
    }

    #[test]
    fn without_the_receipt_that_was_asked_for_nothing_is_charged_where_there_is_money() {
        let tokens = TokensUsed { total: AdjustedTokens::new(5), ..TokensUsed::default() };
        let claim = FinalInfo { tokens, ..FinalInfo::default() };
        let word = |strict, attempt: Option<&Attempt>, seen| judge(None, strict).word(attempt, seen, Some(&claim));
        assert_eq!(word(Strictness::Strict, Some(&attempt()), seen()), Err(BadReceipt::Missing));
        assert_eq!(word(Strictness::Lenient, Some(&attempt()), seen()), Ok(Word::Claimed(tokens)));
        assert_eq!(word(Strictness::Strict, None, seen()), Ok(Word::Claimed(tokens)));
        let refused = Seen { status: None, bytes: 0, broke_off: true, ..seen() };
        assert_eq!(word(Strictness::Strict, Some(&attempt()), refused), Ok(Word::Nothing));
        let error = Seen { status: Some(503), ..seen() };
        assert_eq!(word(Strictness::Strict, None, error), Ok(Word::Claimed(TokensUsed::default())));
        assert_eq!(
            word(Strictness::Strict, Some(&attempt()), error),
            Ok(Word::Nothing),
            "nothing is due, and nothing owed"
        );
    }
}
