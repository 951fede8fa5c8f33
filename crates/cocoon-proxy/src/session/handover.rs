//! Receipts of requests that a crash lost: what makes one worth settling.
//!
//! 1. The tag: sealed by this proxy, in an earlier run, for this worker's account.
//! 2. The receipt: signed with the worker's receipt key, and of the request that the tag is of.
//! 3. The books (in the core): an id that was not settled or given up before, within what was reserved and what the payer's
//!    contract holds.
//!
//! What fails is left out and counted; the worker keeps what is not paid. Spec: wire.md, section 4; `docs/protocol.md`,
//! "Handover".

use bytes::Bytes;
use cocoon_ledger::Spent;
use cocoon_receipt::SignedReceipt;
use cocoon_wire::message::HandedReceipt;
use thiserror::Error;

use super::proof::{BadReceipt, Judge};
use super::worker::public_name;
use crate::core::{Agreed, Lost};
use crate::tag::{AccountTag, TagError, TagOpener};

/// Why a receipt is not settled. The worker is to blame, or did not know better.
#[derive(Debug, Error)]
pub(crate) enum NotLost {
    /// The tag is not one of ours, or of this run.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The tag is another worker's.
    #[error("the account tag is of another worker")]
    OtherWorker,
    /// The receipt does not verify, or is not of the tag's request.
    #[error(transparent)]
    Receipt(#[from] BadReceipt),
}

/// Opens and checks what was handed over.
pub(crate) fn examine(handed: &HandedReceipt, payee: &str, opener: &TagOpener, judge: &Judge) -> Result<Lost, NotLost> {
    let tag = opener.open(&handed.account_tag)?;
    if tag.payee != payee {
        return Err(NotLost::OtherWorker);
    }
    let signed = SignedReceipt::from_bytes(&handed.receipt).map_err(BadReceipt::from)?;
    let receipt = signed.verify(judge.key()).map_err(BadReceipt::from)?;
    let model = public_name(&receipt.model).unwrap_or_default().to_owned();
    let is_of_model = AccountTag::model_digest(&model) == tag.model;
    // The tag holds a hash of the model's name: one that does not fit is told apart by an empty name.
    let model = if is_of_model { model } else { String::new() };
    let agreed = Agreed { id: tag.id, model, coefficient: tag.coefficient, multipliers: tag.multipliers };
    judge.check(&receipt, &agreed)?;
    let receipt_bytes = Bytes::copy_from_slice(&handed.receipt);
    let spent = Spent { id: tag.id, opened_at: tag.opened_at, receipt: receipt_bytes };
    let used = receipt.adjusted.total().min(tag.reserved);
    Ok(Lost { payer: tag.payer, credit: None, used, spent })
}
