//! What can be wrong with a receipt, and how it is counted.

use cocoon_receipt::ReceiptError;

/// Why a receipt proves nothing of the request that it came with. Our peers are to blame, never the app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Tokens are charged, and nobody signed for them.
    #[error("tokens are charged without a receipt")]
    Missing,
    /// It is no receipt, it is forged, or it says what cannot be true.
    #[error("{0}")]
    Receipt(#[from] ReceiptError),
    /// The request that was served is not the one that was sent.
    #[error("the receipt is for another request body: it was changed on its way, or digested under another salt")]
    RequestChanged,
    /// The answer that came is not the one that the worker made.
    #[error("the receipt is for another answer: it was changed on its way, or digested under another salt")]
    AnswerChanged,
    /// The proxy charges something else than the worker signed.
    #[error("{charged} adjusted tokens are charged and {signed} signed for")]
    Counts {
        /// In the final message.
        charged: u64,
        /// In the receipt.
        signed: u64,
    },
    /// It was signed long before or after the request.
    #[error("the receipt's times are not those of the request")]
    Times,
    /// Nothing says whose key it is.
    #[error("nothing vouches for the receipt's key")]
    NoEvidence,
    /// The proxy did not hand out what it referred to.
    #[error("the proxy did not give the evidence that it named")]
    EvidenceWithheld,
    /// What it handed out has another hash, or is no document.
    #[error("what the proxy gave as evidence is not what it named, or no document: {0}")]
    EvidenceUnreadable(String),
    /// The document does not hold, or the policy does not accept it.
    #[error("the worker's evidence is refused: {0}")]
    EvidenceRefused(String),
    /// A sound document of somebody else.
    #[error("the receipt's key is not the one in the worker's evidence")]
    ForeignKey,
    /// A sound document of this worker from before it served that model.
    #[error("the worker's evidence names another model")]
    ForeignModel,
    /// It was recorded too long before the request, or after it.
    #[error("the worker's evidence is of another time than the receipt")]
    EvidenceTime,
    /// More receipts wait for evidence than are checked.
    #[error("too many receipts wait for their evidence")]
    Unchecked,
}

impl Fault {
    /// Whether it may be that this client does not know yet what the proxy knows.
    pub(crate) fn may_be_news(&self) -> bool {
        // The one fact that the root changes under a session.
        matches!(self, Self::Receipt(ReceiptError::Differs { field: "multipliers", .. }))
    }

    /// The word for status and metrics.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Receipt(error) => receipt_code(error),
            Self::RequestChanged => "request_changed",
            Self::AnswerChanged => "answer_changed",
            Self::Counts { .. } => "counts",
            Self::Times => "times",
            Self::NoEvidence | Self::EvidenceWithheld => "no_evidence",
            Self::EvidenceUnreadable(_) | Self::EvidenceRefused(_) | Self::EvidenceTime => "evidence",
            Self::ForeignKey => "foreign_key",
            Self::ForeignModel => "model",
            Self::Unchecked => "unchecked",
        }
    }
}

const fn receipt_code(error: &ReceiptError) -> &'static str {
    match error {
        ReceiptError::Differs { field, .. } => field,
        ReceiptError::Signature | ReceiptError::Key { .. } => "signature",
        ReceiptError::Length { .. }
        | ReceiptError::NotText
        | ReceiptError::Body { .. }
        | ReceiptError::NotCanonical
        | ReceiptError::NameTooLong
        | ReceiptError::TooManyTokens
        | ReceiptError::Usage(_)
        | ReceiptError::Adjusted { .. }
        | ReceiptError::Times
        | _ => "malformed",
    }
}
