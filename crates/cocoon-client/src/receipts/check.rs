//! Compares a receipt with what this client knows by itself. Pure: no clock, no store, no network.
//!
//! 1. [`Asked`] is known before the request leaves: id, salt, model, price, the request's digest.
//! 2. [`Heard`] is known at its end: what the proxy charges, and the digest of the answer, if all of it came.
//! 3. [`check`] reads the receipt, and names the first fact that differs. Whose key signed it is not asked here;
//!    that is in `evidence`.
//!
//! What stays the worker's word: the counts themselves. Its attested program says them.

use std::sync::Arc;

use cocoon_receipt::{BodyDigest, Expected, ExpectedCoefficient, Receipt, SignedReceipt, VerifiedRoots, public_name};
use cocoon_units::{AdjustedTokens, Coefficient, Multipliers, Pricing};
use cocoon_wire::message::{FinalInfo, ReceiptAsk, TokensUsed};

use super::fault::Fault;
use crate::limits;

/// What a receipt must be about.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) ask: ReceiptAsk,
    /// The proxy's name in receipts.
    pub(crate) proxy: String,
    pub(crate) model: Arc<str>,
    pub(crate) max_coefficient: Coefficient,
    pub(crate) pricing: Pricing,
    /// What it can cost at most, which both sides count by themselves.
    pub(crate) most: AdjustedTokens,
    pub(crate) request_hmac: [u8; 32],
    /// When it was sent, by our clock.
    pub(crate) at_unix_ms: u64,
}

/// What the end of the request told.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) tokens: TokensUsed,
    /// Of the whole answer; none when a part of it did not come.
    pub(crate) answer_hmac: Option<[u8; 32]>,
    pub(crate) at_unix_ms: u64,
}

/// The digest of a request's body.
pub(crate) fn request_hmac(salt: &[u8; 32], body: &[u8]) -> [u8; 32] {
    let mut digest = BodyDigest::request(salt);
    digest.update(body);
    digest.finish()
}

/// What is left of a final message for later.
pub(crate) fn heard(info: &FinalInfo, answer_hmac: Option<[u8; 32]>, at_unix_ms: u64) -> Heard {
    Heard { tokens: info.tokens, answer_hmac, at_unix_ms }
}

/// The receipt, if it is of this request and of what came back.
///
/// `newest` are the network's weights now: while they change, a proxy may hear of them before us, or after.
pub(crate) fn check(
    signed: &SignedReceipt,
    asked: &Asked,
    heard: &Heard,
    newest: Option<Multipliers>,
    roots: &VerifiedRoots,
) -> Result<Receipt, Fault> {
    let receipt = signed.verify_with(None, roots)?;
    receipt.check(&Expected {
        id: asked.ask.id,
        proxy: &asked.proxy,
        model: expected_model(&receipt.model, &asked.model),
        multipliers: newest.filter(|newest| *newest == receipt.multipliers).unwrap_or(asked.pricing.multipliers),
        coefficient: ExpectedCoefficient::AtMost(asked.max_coefficient),
    })?;
    if receipt.request_hmac != asked.request_hmac {
        return Err(Fault::RequestChanged);
    }
    if heard.answer_hmac.is_some_and(|digest| digest != receipt.answer_hmac) {
        return Err(Fault::AnswerChanged);
    }
    check_counts(&receipt, &heard.tokens, asked.most)?;
    check_times(&receipt, asked, heard)?;
    Ok(receipt)
}

/// A worker may serve a model under a longer name, `name@revision`; the name is what was asked for.
fn expected_model<'a>(signed: &'a str, asked: &'a str) -> &'a str {
    if public_name(signed) == public_name(asked) { signed } else { asked }
}

/// What is charged is what was signed, kind by kind; or, where that is more than the request can cost, as much as it can.
fn check_counts(receipt: &Receipt, charged: &TokensUsed, most: AdjustedTokens) -> Result<(), Fault> {
    let signed = TokensUsed::from(receipt.adjusted);
    let is_cut = signed.total > most && charged.total == most && is_part(charged, &signed);
    if signed == *charged || is_cut {
        return Ok(());
    }
    Err(Fault::Counts { charged: charged.total.get(), signed: signed.total.get() })
}

/// Whether no kind is more than in the whole, and the sum is one.
fn is_part(part: &TokensUsed, whole: &TokensUsed) -> bool {
    let kinds = |tokens: &TokensUsed| [tokens.prompt, tokens.cached, tokens.completion, tokens.reasoning];
    let sum = kinds(part).into_iter().try_fold(AdjustedTokens::ZERO, AdjustedTokens::checked_add);
    let is_within = kinds(part).into_iter().zip(kinds(whole)).all(|(part, whole)| part <= whole);
    is_within && sum == Some(part.total)
}

/// Loosely: a receipt of last week is none of this request, whatever clocks may do.
fn check_times(receipt: &Receipt, asked: &Asked, heard: &Heard) -> Result<(), Fault> {
    let skew = limits::RECEIPT_SKEW_MS;
    let is_after = receipt.started_unix_ms >= asked.at_unix_ms.saturating_sub(skew);
    let is_before = receipt.ended_unix_ms <= heard.at_unix_ms.saturating_add(skew);
    if is_after && is_before { Ok(()) } else { Err(Fault::Times) }
}
