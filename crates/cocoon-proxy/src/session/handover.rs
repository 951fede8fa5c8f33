//! Receipts of requests that a crash lost: what makes one worth settling.
//!
//! 1. The tag: sealed by this proxy, in an earlier run, within the last hour, for this worker's account.
//! 2. The receipt: signed with the worker's receipt key, of the request that the tag is of, and of its time.
//! 3. The books (in the core): an id that was not settled or given up before, within what was reserved and what the payer's
//!    contract holds.
//!
//! What fails is left out and counted; the worker keeps what is not paid. Spec: wire.md, section 4; `docs/protocol.md`,
//! "Handover".

use std::time::Duration;

use bytes::Bytes;
use cocoon_ledger::Spent;
use cocoon_receipt::{SignedReceipt, public_name};
use cocoon_wire::message::HandedReceipt;
use thiserror::Error;

use super::proof::{Attempt, BadReceipt, Judge};
use crate::core::{Agreed, Lost};
use crate::limits::HANDED_OVER_AGE_MAX;
use crate::tag::{AccountTag, Opened, TagError, TagOpener};

/// Why a receipt is not settled. The worker is to blame, or did not know better.
#[derive(Debug, Error)]
pub(crate) enum NotLost {
    /// The tag is not one of ours, or of this run.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The tag is another worker's.
    #[error("the account tag is of another worker")]
    OtherWorker,
    /// Its client may have forgotten it by now.
    #[error("the request was sent {0} s ago: that is too long")]
    TooLate(u64),
    /// The receipt does not verify, or is not of the tag's request.
    #[error(transparent)]
    Receipt(#[from] BadReceipt),
}

/// Opens and checks what was handed over.
pub(crate) fn examine(
    handed: &HandedReceipt,
    payee: &str,
    opener: &TagOpener,
    judge: &Judge,
    now_ms: u64,
) -> Result<Lost, NotLost> {
    let Opened { tag, sent } = opener.open(&handed.account_tag)?;
    if tag.payee != payee {
        return Err(NotLost::OtherWorker);
    }
    // By our own clock, which no worker can set.
    let age = Duration::from_millis(now_ms.saturating_sub(sent.at_unix_ms));
    if age > HANDED_OVER_AGE_MAX {
        return Err(NotLost::TooLate(age.as_secs()));
    }
    let signed = SignedReceipt::from_bytes(&handed.receipt).map_err(BadReceipt::from)?;
    let receipt = judge.verify(&signed)?;
    let model = public_name(&receipt.model).to_owned();
    let is_of_model = AccountTag::model_digest(&model) == tag.model;
    // The tag holds a hash of the model's name: one that does not fit is told apart by an empty name.
    let model = if is_of_model { model } else { String::new() };
    let agreed = Agreed { id: tag.id, model, coefficient: tag.coefficient, multipliers: tag.multipliers };
    let attempt = Attempt { agreed, request_hmac: sent.request_hmac, sent_unix_ms: sent.at_unix_ms };
    judge.check(&receipt, &attempt, now_ms)?;
    let receipt_bytes = Bytes::copy_from_slice(&handed.receipt);
    let spent = Spent { id: tag.id, run: tag.run, opened_at: tag.opened_at, receipt: receipt_bytes };
    let used = receipt.adjusted.total().min(tag.reserved);
    Ok(Lost { payer: tag.payer, credit: None, used, spent })
}
