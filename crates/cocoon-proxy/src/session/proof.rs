//! What a worker's receipt must say to be paid, judged where its last message is read.
//!
//! 1. The key: the one in the worker's attested claims. A link that asks for no evidence (this host, memory) has none:
//!    there the first receipt of a connection sets it, and another key later is another worker.
//! 2. The request: its id, this proxy's contract, the model, the price and the weights that were agreed.
//! 3. The counts: adjusted as they must be (`cocoon-receipt`). What they come to beyond the reservation is cut off later, as
//!    it is from claims without a receipt: a client whose prompt has more tokens than anybody thought possible pays what
//!    it agreed to, and the worker that let the engine exceed it is blamed.
//! 4. The answer that was seen: its status; nothing for an error; for one that broke off, no more tokens than bytes came.
//!
//! A receipt that fails is worth nothing, whatever part of it is true. The reason is told to the operator, never the
//! receipt: it may name what the client asked for.

use bytes::Bytes;
use cocoon_net::Peer;
use cocoon_receipt::{Receipt, ReceiptError, SignedReceipt};
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{FinalInfo, Proof, TokensUsed};
use thiserror::Error;

use super::worker::public_name;
use crate::core::{Agreed, Word};

/// Judges the receipts of one worker's connection.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Who must have signed; none where the first receipt decides.
    key: Option<[u8; 32]>,
    /// How a receipt may name this proxy.
    proxy: Vec<String>,
    /// The model as the worker offers it, with what follows `@`.
    offered: String,
    /// Names what was verified of the worker.
    evidence: Option<[u8; 32]>,
    /// Whether an answer without the receipt that was asked for is worth nothing.
    strict: Strictness,
}

/// What an answer without the receipt that was asked for is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// Nothing: there is money.
    Strict,
    /// What the worker claims: nobody pays.
    Lenient,
}

/// What was seen of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The status in its head, once that came.
    pub(crate) status: Option<u16>,
    /// Bytes of its body.
    pub(crate) bytes: u64,
    /// Whether it broke off by the worker's doing.
    pub(crate) broke_off: bool,
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
        evidence: Option<[u8; 32]>,
        strict: Strictness,
    ) -> Self {
        Self { key: attested_key(peer), proxy, offered, evidence, strict }
    }

    /// Who must have signed, as far as that is known.
    pub(crate) const fn key(&self) -> Option<&[u8; 32]> {
        self.key.as_ref()
    }

    /// The worker's last word on a request: `agreed` is there where a receipt was asked for. It may come to more than was
    /// reserved.
    pub(crate) fn word(
        &mut self,
        agreed: Option<&Agreed>,
        seen: Seen,
        end: Option<&FinalInfo>,
    ) -> Result<Word, BadReceipt> {
        let is_error = seen.status.is_some_and(is_error);
        // An error is not what was asked for, whatever a worker claims for it.
        let claimed = |end: &FinalInfo| Word::Claimed(if is_error { TokensUsed::default() } else { end.tokens });
        let Some(agreed) = agreed else { return Ok(end.map_or(Word::Nothing, claimed)) };
        let receipt = end.and_then(|end| end.proof.as_ref()).map(|proof| proof.receipt.clone());
        let owes_no_receipt = is_error || (seen.broke_off && seen.status.is_none());
        match (receipt, self.strict) {
            (Some(receipt), _) => self.proved(agreed, seen, receipt),
            (None, _) if owes_no_receipt => Ok(Word::Nothing),
            (None, Strictness::Strict) => Err(BadReceipt::Missing),
            (None, Strictness::Lenient) => Ok(end.map_or(Word::Nothing, claimed)),
        }
    }

    fn proved(&mut self, agreed: &Agreed, seen: Seen, bytes: Bytes) -> Result<Word, BadReceipt> {
        let signed = SignedReceipt::from_bytes(&bytes)?;
        let receipt = signed.verify(self.key.as_ref())?;
        self.check(&receipt, agreed)?;
        check_answer(&receipt, seen)?;
        self.key = Some(signed.key());
        // What is kept must not keep the buffer that it was read into.
        let receipt_bytes = Bytes::copy_from_slice(&bytes);
        let proof = Proof { receipt: receipt_bytes, evidence: self.evidence };
        Ok(Word::Proved { tokens: TokensUsed::from(receipt.adjusted), proof })
    }

    /// Whether a verified receipt is of this request.
    pub(crate) fn check(&self, receipt: &Receipt, agreed: &Agreed) -> Result<(), BadReceipt> {
        same("id", hex::encode(agreed.id), hex::encode(receipt.id))?;
        if !self.proxy.contains(&receipt.proxy) {
            same("proxy", self.proxy.join(" or "), receipt.proxy.clone())?;
        }
        // The worker may name its model as it offers it, or as clients ask for it.
        if receipt.model != self.offered || public_name(&self.offered) != Some(&agreed.model) {
            same("model", agreed.model.clone(), receipt.model.clone())?;
        }
        same("coefficient", agreed.coefficient.thousandths(), receipt.coefficient.thousandths())?;
        if agreed.multipliers != receipt.multipliers {
            let shown = |multipliers| format!("{multipliers:?}");
            same("multipliers", shown(agreed.multipliers), shown(receipt.multipliers))?;
        }
        Ok(())
    }
}

/// Whether the receipt fits the answer that was seen.
fn check_answer(receipt: &Receipt, seen: Seen) -> Result<(), BadReceipt> {
    let demanded = receipt.adjusted.total();
    if seen.status.is_some_and(|status| status != receipt.status) {
        return Err(BadReceipt::Status { said: receipt.status, seen: seen.status });
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

fn same(field: &'static str, expected: impl ToString, found: impl ToString) -> Result<(), ReceiptError> {
    let (expected, found) = (expected.to_string(), found.to_string());
    if expected == found { Ok(()) } else { Err(ReceiptError::Differs { field, expected, found }) }
}

#[cfg(test)]
mod tests {
    use cocoon_receipt::{ModelHashes, Outcome};
    use cocoon_units::{Coefficient, Multiplier, Multipliers, Usage};
    use ed25519_dalek::SigningKey;

    use super::*;

    const OFFERED: &str = "Qwen/Qwen3-8B@abc:00";

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
            started_unix_ms: 1,
            ended_unix_ms: 2,
            request_hmac: [0; 32],
            answer_hmac: [0; 32],
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
        Judge { key, proxy: vec!["0:aa".into()], offered: OFFERED.into(), evidence: Some([9; 32]), strict }
    }

    fn seen() -> Seen {
        Seen { status: Some(200), bytes: 100, broke_off: false }
    }

    fn end(receipt: &Receipt, key: &SigningKey) -> FinalInfo {
        let proof = Proof { receipt: receipt.sign(key).to_bytes().into(), evidence: None };
        FinalInfo { proof: Some(proof), ..FinalInfo::default() }
    }

    fn judged(receipt: &Receipt, seen: Seen) -> Result<Word, BadReceipt> {
        let mut judge = judge(Some(key(7).verifying_key().to_bytes()), Strictness::Strict);
        judge.word(Some(&agreed()), seen, Some(&end(receipt, &key(7))))
    }

    #[test]
    fn a_receipt_that_fits_is_what_is_charged() {
        let Ok(Word::Proved { tokens, proof }) = judged(&receipt(), seen()) else { panic!("refused") };
        assert_eq!(tokens.total.get(), 48 + 2 + 10);
        assert_eq!(proof.evidence, Some([9; 32]));
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
            |judge: &mut Judge, key: &SigningKey| judge.word(Some(&agreed()), seen(), Some(&end(&receipt(), key)));
        assert!(matches!(judged(&mut attested, &key(8)), Err(BadReceipt::Receipt(ReceiptError::Key { .. }))));
        assert!(judged(&mut attested, &key(7)).is_ok());
        // Without evidence the first one decides.
        let mut here = judge(None, Strictness::Strict);
        assert!(judged(&mut here, &key(8)).is_ok());
        assert!(matches!(judged(&mut here, &key(7)), Err(BadReceipt::Receipt(ReceiptError::Key { .. }))));
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
        let broke_off = Seen { bytes: 4, broke_off: true, ..seen() };
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
        let word = |strict, agreed: Option<&Agreed>, seen| judge(None, strict).word(agreed, seen, Some(&claim));
        assert_eq!(word(Strictness::Strict, Some(&agreed()), seen()), Err(BadReceipt::Missing));
        assert_eq!(word(Strictness::Lenient, Some(&agreed()), seen()), Ok(Word::Claimed(tokens)));
        assert_eq!(word(Strictness::Strict, None, seen()), Ok(Word::Claimed(tokens)));
        let refused = Seen { status: None, bytes: 0, broke_off: true };
        assert_eq!(word(Strictness::Strict, Some(&agreed()), refused), Ok(Word::Nothing));
        let error = Seen { status: Some(503), ..seen() };
        assert_eq!(word(Strictness::Strict, None, error), Ok(Word::Claimed(TokensUsed::default())));
        assert_eq!(
            word(Strictness::Strict, Some(&agreed()), error),
            Ok(Word::Nothing),
            "nothing is due, and nothing owed"
        );
    }
}
