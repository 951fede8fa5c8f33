//! Why bytes are no receipt that anyone should pay for.

use cocoon_units::UsageError;
use thiserror::Error;

use crate::limits::{BATCH_MAX, MODEL_NAME_MAX, PROXY_NAME_MAX, RECEIPT_BYTES_MAX, SHOWN_CHARS_MAX, TOKENS_MAX};

/// Why a receipt is refused. Whoever signed it is to blame, or whoever changed it on the way; never its reader.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Too short to hold a key and a signature, or too long.
    #[error("a receipt of {len} bytes; there are 99 to {RECEIPT_BYTES_MAX}")]
    Length {
        /// How many there are.
        len: usize,
    },
    /// Its place is in no batch that there is.
    #[error("the receipt says it is number {index}, from 0, of {size} under one signature; there are 1 to {BATCH_MAX}")]
    Place {
        /// The place.
        index: u8,
        /// Of how many.
        size: u8,
    },
    /// The body is no text.
    #[error("the receipt's body is no text")]
    NotText,
    /// Signed by somebody else.
    #[error("the receipt is signed with key {found}, expected {expected}")]
    Key {
        /// The key that should have signed, in hex.
        expected: String,
        /// The key that did.
        found: String,
    },
    /// The key signed nothing of the kind.
    #[error(
        "the signature does not fit the key, the body and its place: the receipt was changed after it was signed, or forged"
    )]
    Signature,
    /// Not the JSON of a receipt.
    #[error("the receipt's body is unreadable: {detail}")]
    Body {
        /// What the reader stumbled over, without the text around it.
        detail: String,
    },
    /// The same facts, written in another way.
    #[error(
        "the receipt's body is not written in the one form that there is: spaces, order, a field twice, or capital hex"
    )]
    NotCanonical,
    /// A name beyond its bound.
    #[error("the receipt names a model of more than {MODEL_NAME_MAX} bytes or a proxy of more than {PROXY_NAME_MAX}")]
    NameTooLong,
    /// A count beyond what can be paid.
    #[error("the receipt counts more than {TOKENS_MAX} tokens")]
    TooManyTokens,
    /// Counts that cannot be true.
    #[error("the receipt's counts cannot be true: {0}")]
    Usage(#[from] UsageError),
    /// The price is not the one that the receipt itself states.
    #[error("the receipt demands {found} adjusted tokens; its own counts, coefficient and multipliers make {expected}")]
    Adjusted {
        /// By kind: prompt, cached, completion, reasoning; and their sum.
        expected: String,
        /// As it says.
        found: String,
    },
    /// Over before it began.
    #[error("the receipt ends before it starts")]
    Times,
    /// A sound receipt of something else.
    #[error("the receipt is for another request: {field} is {found}, expected {expected}")]
    Differs {
        /// Which fact.
        field: &'static str,
        /// As the reader knows it.
        expected: String,
        /// As the receipt says.
        found: String,
    },
}

impl ReceiptError {
    /// The check that refuses, as the command line and logs name it.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Length { .. }
            | Self::Place { .. }
            | Self::NotText
            | Self::Body { .. }
            | Self::NotCanonical
            | Self::NameTooLong
            | Self::Times => "form",
            Self::Key { .. } => "key",
            Self::Signature => "signature",
            Self::TooManyTokens | Self::Usage(_) | Self::Adjusted { .. } => "price",
            Self::Differs { .. } => "request",
        }
    }
}

/// Text of a peer for people to read: without control characters, and not too much of it.
pub(crate) fn shown(text: &str) -> String {
    let escaped = text.escape_debug().to_string();
    match escaped.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", escaped.get(..end).unwrap_or_default()),
        None => escaped,
    }
}
