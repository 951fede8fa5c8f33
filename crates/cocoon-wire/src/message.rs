//! What the bytes of a packet mean: one enum per direction, with all versions folded in.
//!
//! Nothing above this module knows constructors, version numbers or TL.
//! `decode(version, bytes)` reads what the peer may send in that version and refuses the rest;
//! `encode(version)` writes it.
//! Bodies are slices of the incoming buffer, and are shared, not copied, on the way out.
//!
//! Facts of the original profile are in wire.md, sections 3 and 4; the extended profile is in
//! `docs/protocol.md`.
//!
//! - [`client`]: between a client and a proxy.
//! - [`worker`]: between a worker and a proxy.
//! - [`answer`]: answers, which have one shape on both legs.

pub mod answer;
pub mod client;
mod convert;
pub mod worker;

use std::fmt;

use bytes::Bytes;
use cocoon_units::AdjustedTokens;

use self::convert::bounded_bytes;
use crate::bare::Bare;
use crate::limits::{ACCOUNT_TAG_MAX, RECEIPT_MAX, SIGNED_PAYMENT_MAX};
use crate::reader::Reader;
use crate::version::VersionRange;
use crate::{DecodeError, Encoded, RequestId, tl};

pub use answer::{Answer, FinalInfo, Proof, TokensUsed};
pub use client::{
    AuthChallenge, ClientAnswer, ClientMessage, ClientParams, ClientQuery, ClientRun, ProxyToClient, SettledRequest,
    WorkerInstance, WorkerType, WorkerTypeSummary,
};
pub use worker::{
    CompareBalance, LoadReport, ProxyToWorker, WorkerAnswer, WorkerMessage, WorkerParams, WorkerQuery, WorkerRun,
};

/// What a proxy says about itself when a peer connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyParams {
    /// The key that signs payments.
    pub public_key: [u8; 32],
    /// The wallet that owns the proxy.
    pub owner_address: String,
    /// The proxy's contract.
    pub sc_address: String,
    /// Test mode; must match on both sides.
    pub is_test: bool,
    /// The number of the version the proxy chose; none means 0.
    pub proto_version: Option<i32>,
}

/// A payment the proxy signed, or none yet. Opaque at this layer.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum SignedPayment {
    /// Nothing is owed, or nothing is signed yet.
    #[default]
    Empty,
    /// At most [`SIGNED_PAYMENT_MAX`] bytes.
    Signed(Bytes),
}

impl SignedPayment {
    /// Takes bytes of bounded length.
    ///
    /// # Errors
    ///
    /// When they are longer than [`SIGNED_PAYMENT_MAX`].
    pub fn signed(data: Bytes) -> Result<Self, DecodeError> {
        if data.len() > SIGNED_PAYMENT_MAX {
            return Err(DecodeError::TooLong("signed_payment"));
        }
        Ok(Self::Signed(data))
    }
}

impl fmt::Debug for SignedPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Signed(data) => write!(f, "Signed({} bytes)", data.len()),
        }
    }
}

/// What has been paid so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentStatus {
    /// The latest signed payment.
    pub signed_payment: SignedPayment,
    /// Tokens committed to the proxy's database.
    pub db_tokens: AdjustedTokens,
    /// The most the proxy ever told.
    pub max_tokens: AdjustedTokens,
}

/// Asks for a receipt. It travels with the request from client to worker; the proxy passes it on and keeps the id only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReceiptAsk {
    /// Names the receipt; random, made by the client.
    pub id: [u8; 32],
    /// Keys the receipt's digests of request and answer, so that nobody without it can guess at them.
    pub salt: [u8; 32],
}

impl fmt::Debug for ReceiptAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiptAsk")
    }
}

impl ReceiptAsk {
    fn from_tl(ask: &tl::ReceiptAsk) -> Self {
        Self { id: ask.id, salt: ask.salt }
    }

    fn to_tl(self) -> tl::ReceiptAsk {
        tl::ReceiptAsk { id: self.id, salt: self.salt }
    }
}

/// A receipt that a worker hands over to a proxy that lost it in a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedReceipt {
    /// The signed receipt.
    pub receipt: Bytes,
    /// The proxy's own seal on whose request it was.
    pub account_tag: Bytes,
}

/// The body of `worker.extendedCompareBalanceWithProxy`: some receipts. An empty one ends the handover.
///
/// # Errors
///
/// When the bytes are not exactly one `worker.handover` within bounds; the worker is to blame.
pub fn decode_handover(body: Bytes) -> Result<Vec<HandedReceipt>, DecodeError> {
    let mut reader = Reader::new(body);
    match reader.u32()? {
        tl::WorkerHandover::ID => {
            let receipts = tl::WorkerHandover::read_last(reader)?.receipts.into_iter();
            receipts
                .map(|handed| {
                    let receipt = bounded_bytes(handed.receipt, "receipt", RECEIPT_MAX)?;
                    let account_tag = bounded_bytes(handed.account_tag, "account_tag", ACCOUNT_TAG_MAX)?;
                    Ok(HandedReceipt { receipt, account_tag })
                })
                .collect()
        }
        other => Err(DecodeError::UnknownConstructor(other)),
    }
}

/// The same the other way. Keep it within [`OPAQUE_MAX`](crate::limits::OPAQUE_MAX).
#[must_use]
pub fn encode_handover(receipts: &[HandedReceipt]) -> Encoded {
    let handed =
        |one: &HandedReceipt| tl::ReceiptHanded { receipt: one.receipt.clone(), account_tag: one.account_tag.clone() };
    tl::WorkerHandover { receipts: receipts.iter().map(handed).collect() }.encode()
}

/// What one request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPayment {
    /// Which request.
    pub request_id: RequestId,
    /// The latest signed payment.
    pub signed_payment: SignedPayment,
    /// Tokens committed to the proxy's database.
    pub db_tokens: AdjustedTokens,
    /// The most the proxy ever told.
    pub max_tokens: AdjustedTokens,
    /// Tokens of this request.
    pub request_tokens: AdjustedTokens,
}

/// The versions in a node's parameters; none means version 0 only.
#[must_use]
pub fn offered(versions: Option<VersionRange>) -> VersionRange {
    versions.unwrap_or(VersionRange::UNSAID)
}
