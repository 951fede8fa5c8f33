//! Payments that the proxy's key signs, and that anybody who holds one may present.
//!
//! ```text
//! payload:  op:32 query_id:64 [tokens:64] expected_my_address:Addr         signed: the hash of this cell
//! envelope: op:32 query_id:64 send_excesses_to:Addr signature:512 ^payload
//! ```
//!
//! Counts of tokens only grow, so a payment is idempotent, needs no order, and the latest supersedes all before it.
//! The address of the one contract it is for is in the payload; who gets the change is outside the signature. The
//! address commits to network, prices and codes, so no payment is good elsewhere. Spec: `ton.md` 1.5.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;

use super::codec::{Reader, StateError, Writer};
use super::op;
use crate::address::Address;
use crate::limits::SIGNED_BOC_BYTES_MAX;

const WHAT: &str = "signed message";

/// What a signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// To a client contract: these tokens were used.
    Charge,
    /// To a client contract: these tokens were used, and that was all; the rest goes back.
    GrantRefund,
    /// To a worker contract: these tokens were made.
    Payout,
    /// To a worker contract: these tokens were made, and that was all.
    LastPayout,
    /// To a proxy contract: start to close.
    CloseRequest,
    /// To a proxy contract: complete the close.
    CloseComplete,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Charge, Self::GrantRefund, Self::Payout, Self::LastPayout, Self::CloseRequest, Self::CloseComplete];

    /// Its operation.
    #[must_use]
    pub const fn op(self) -> u32 {
        match self {
            Self::Charge => op::CLIENT_CHARGE,
            Self::GrantRefund => op::CLIENT_GRANT_REFUND,
            Self::Payout => op::WORKER_PAYOUT,
            Self::LastPayout => op::WORKER_LAST_PAYOUT,
            Self::CloseRequest => op::PROXY_CLOSE_SIGNED,
            Self::CloseComplete => op::PROXY_CLOSE_COMPLETE_SIGNED,
        }
    }

    const fn counts_tokens(self) -> bool {
        match self {
            Self::Charge | Self::GrantRefund | Self::Payout | Self::LastPayout => true,
            Self::CloseRequest | Self::CloseComplete => false,
        }
    }

    fn of(op: u32) -> Result<Self, StateError> {
        Self::ALL.into_iter().find(|kind| kind.op() == op).ok_or(StateError::Operation { what: WHAT, op })
    }
}

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    kind: Kind,
    query_id: u64,
    tokens: u64,
    contract: Address,
}

/// All tokens that `client` used so far.
#[must_use]
pub const fn charge(client: Address, query_id: u64, tokens: u64) -> Payment {
    Payment { kind: Kind::Charge, query_id, tokens, contract: client }
}

/// All tokens that `client` ever used; closes its contract.
#[must_use]
pub const fn grant_refund(client: Address, query_id: u64, tokens: u64) -> Payment {
    Payment { kind: Kind::GrantRefund, query_id, tokens, contract: client }
}

/// All tokens that `worker` made so far.
#[must_use]
pub const fn payout(worker: Address, query_id: u64, tokens: u64) -> Payment {
    Payment { kind: Kind::Payout, query_id, tokens, contract: worker }
}

/// All tokens that `worker` ever made; closes its contract.
#[must_use]
pub const fn last_payout(worker: Address, query_id: u64, tokens: u64) -> Payment {
    Payment { kind: Kind::LastPayout, query_id, tokens, contract: worker }
}

/// Starts to close `proxy`.
#[must_use]
pub const fn close_request(proxy: Address, query_id: u64) -> Payment {
    Payment { kind: Kind::CloseRequest, query_id, tokens: 0, contract: proxy }
}

/// Completes the close of `proxy`.
#[must_use]
pub const fn close_complete(proxy: Address, query_id: u64) -> Payment {
    Payment { kind: Kind::CloseComplete, query_id, tokens: 0, contract: proxy }
}

impl Payment {
    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its query.
    #[must_use]
    pub const fn query_id(&self) -> u64 {
        self.query_id
    }

    /// The count of tokens; `None` for requests to a proxy contract, which carry none.
    #[must_use]
    pub fn tokens(&self) -> Option<u64> {
        self.kind.counts_tokens().then_some(self.tokens)
    }

    /// The one contract that takes it.
    #[must_use]
    pub const fn contract(&self) -> Address {
        self.contract
    }

    /// The payload cell.
    #[must_use]
    pub fn payload(&self) -> Cell {
        let writer = Writer::message(self.kind.op(), self.query_id);
        let writer = if self.kind.counts_tokens() { writer.put(&self.tokens) } else { writer };
        writer.put(&self.contract).cell()
    }

    /// The bytes that the key signs: the hash of the payload cell.
    #[must_use]
    pub fn signing_bytes(&self) -> [u8; 32] {
        self.payload().repr_hash().0
    }

    /// Signs it with the proxy's key.
    #[must_use]
    pub fn sign(self, key: &SigningKey) -> SignedPayment {
        SignedPayment { payment: self, signature: key.sign(&self.signing_bytes()).to_bytes() }
    }

    /// With a signature made elsewhere, which is not checked here.
    #[must_use]
    pub const fn with_signature(self, signature: [u8; 64]) -> SignedPayment {
        SignedPayment { payment: self, signature }
    }

    /// Reads a payload cell.
    ///
    /// # Errors
    ///
    /// When it is not the layout to the bit.
    pub fn parse(payload: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new("signed payload", payload.as_ref())?;
        let kind = Kind::of(reader.get("operation")?)?;
        let payment = Self {
            kind,
            query_id: reader.get("query id")?,
            tokens: if kind.counts_tokens() { reader.get("tokens")? } else { 0 },
            contract: reader.get("contract")?,
        };
        reader.end()?;
        Ok(payment)
    }
}

/// A payment and a signature, which may be wrong until [`SignedPayment::verify`] says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedPayment {
    /// What was signed.
    pub payment: Payment,
    /// Ed25519 over [`Payment::signing_bytes`].
    pub signature: [u8; 64],
}

/// A signature that is not by the proxy's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payment is not signed by the proxy's key")]
pub struct BadSignature;

impl SignedPayment {
    /// The body of the message that presents it; `excesses_to` gets the change.
    #[must_use]
    pub fn envelope(&self, excesses_to: Address) -> Cell {
        Writer::message(self.payment.kind.op(), self.payment.query_id)
            .put(&excesses_to)
            .bytes(&self.signature)
            .put(&self.payment.payload())
            .cell()
    }

    /// Checks the signature. What passes here passes on the chain.
    ///
    /// # Errors
    ///
    /// When it is not by `key`.
    pub fn verify(&self, key: &[u8; 32]) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(key).map_err(|_| BadSignature)?;
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&self.payment.signing_bytes(), &signature).map_err(|_| BadSignature)
    }
}

/// A message that presents a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The payment.
    pub signed: SignedPayment,
    /// Who gets the change.
    pub excesses_to: Address,
}

impl Envelope {
    /// The body.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        self.signed.envelope(self.excesses_to)
    }

    /// Reads the body of a message that presents a payment.
    ///
    /// # Errors
    ///
    /// When it is not the layout to the bit, or envelope and payload differ, which the contract refuses too (1005).
    pub fn parse(body: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new(WHAT, body.as_ref())?;
        let kind = Kind::of(reader.get("operation")?)?;
        let query_id: u64 = reader.get("query id")?;
        let excesses_to = reader.get("address of the excess")?;
        let signature = read_signature(&mut reader)?;
        let payment = Payment::parse(&reader.get("payload")?)?;
        if payment.kind != kind || payment.query_id != query_id {
            return Err(reader.malformed("payload", "another operation or query than its envelope"));
        }
        reader.end()?;
        Ok(Self { signed: payment.with_signature(signature), excesses_to })
    }

    /// The bytes in which it travels from node to node: the body as a bag of cells, as in the original.
    #[must_use]
    pub fn to_boc(&self) -> Vec<u8> {
        Boc::encode(self.to_cell())
    }

    /// Reads what a node sent. Nothing says yet that the signature is right.
    ///
    /// # Errors
    ///
    /// When it is longer than [`SIGNED_BOC_BYTES_MAX`], no bag of cells, or not the layout to the bit.
    pub fn from_boc(bytes: &[u8]) -> Result<Self, StateError> {
        let malformed = |reason| StateError::Malformed { what: WHAT, field: "bag of cells", reason };
        if bytes.len() > SIGNED_BOC_BYTES_MAX {
            return Err(malformed("longer than any signed message"));
        }
        Self::parse(&Boc::decode(bytes).map_err(|_| malformed("not one"))?)
    }
}

/// 512 bits.
pub(super) fn read_signature(reader: &mut Reader<'_>) -> Result<[u8; 64], StateError> {
    let bytes = reader.bytes(64, "signature")?;
    <[u8; 64]>::try_from(bytes).map_err(|_| reader.malformed("signature", "not 64 bytes"))
}
