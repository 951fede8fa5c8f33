//! Answers: worker to proxy and proxy to client, one shape for both legs.
//!
//! An answer is one [`Answer::Head`], then any number of [`Answer::Part`]; whichever carries `end`
//! is the last. [`Answer::Failed`] ends it at any point.

mod legs;

use bytes::Bytes;
use cocoon_units::{AdjustedTokens, AdjustedUsage};

use super::convert::{bounded_bytes, tokens, tokens_out};
use crate::failure::{Failure, openai_error_body};
use crate::http::HttpResponse;
use crate::limits::RECEIPT_MAX;
use crate::{DecodeError, RequestId, Sealed, tl};

pub(super) use legs::{client_final_info, client_final_info_out, client_leg, worker_leg};

/// One message of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The first: status, headers, maybe body.
    Head {
        /// Which request.
        request_id: RequestId,
        /// A boxed `http.response`; its payload may hold the first bytes of the body.
        response: Sealed,
        /// Present in the last message.
        end: Option<FinalInfo>,
    },
    /// More bytes of the body.
    Part {
        /// Which request.
        request_id: RequestId,
        /// Raw bytes.
        body: Sealed,
        /// Present in the last message.
        end: Option<FinalInfo>,
    },
    /// The request failed; always the last message.
    Failed {
        /// Which request.
        request_id: RequestId,
        /// Why.
        failure: Failure,
        /// What was used until then.
        end: Option<FinalInfo>,
    },
}

/// What the last message of an answer adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FinalInfo {
    /// What was used, already adjusted.
    pub tokens: TokensUsed,
    /// The worker's debug text, if asked for.
    pub worker_debug: Option<String>,
    /// The proxy's debug text, if asked for; client leg only.
    pub proxy_debug: Option<String>,
    /// When the worker began, in unix seconds. Times are absent below version 2.
    pub worker_start: Option<f64>,
    /// When the worker ended.
    pub worker_end: Option<f64>,
    /// When the proxy began; client leg only.
    pub proxy_start: Option<f64>,
    /// When the proxy ended; client leg only.
    pub proxy_end: Option<f64>,
    /// What proves the usage. Extended only.
    pub proof: Option<Proof>,
}

/// A receipt on its way, and where its key's evidence is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// A signed receipt (`cocoon-receipt`); opaque at this layer, at most [`RECEIPT_MAX`]
    /// bytes.
    pub receipt: Bytes,
    /// SHA-256 of the document that says what was verified of the worker; set by the proxy.
    pub evidence: Option<[u8; 32]>,
}

impl Proof {
    /// Reads one of bounded length; an empty receipt is none.
    fn read(receipt: Option<Bytes>, evidence: Option<[u8; 32]>) -> Result<Option<Self>, DecodeError> {
        let Some(receipt) = receipt.filter(|receipt| !receipt.is_empty()) else { return Ok(None) };
        let receipt = bounded_bytes(receipt, "receipt", RECEIPT_MAX)?;
        Ok(Some(Self { receipt, evidence: evidence.filter(|hash| *hash != [0; 32]) }))
    }

    fn evidence_out(&self) -> [u8; 32] {
        self.evidence.unwrap_or_default()
    }

    pub(super) fn from_tl(receipt: Bytes, evidence: [u8; 32]) -> Result<Option<Self>, DecodeError> {
        Self::read(Some(receipt), Some(evidence))
    }

    pub(super) fn to_tl(proof: Option<&Self>) -> (Bytes, [u8; 32]) {
        proof.map(|proof| (proof.receipt.clone(), proof.evidence_out())).unwrap_or_default()
    }
}

/// The counts of `tokensUsed`: already adjusted by coefficient and multipliers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokensUsed {
    /// Prompt tokens that were not cached.
    pub prompt: AdjustedTokens,
    /// Cached prompt tokens.
    pub cached: AdjustedTokens,
    /// Completion tokens that were not reasoning.
    pub completion: AdjustedTokens,
    /// Reasoning tokens.
    pub reasoning: AdjustedTokens,
    /// What the peer says is the sum.
    pub total: AdjustedTokens,
}

impl From<AdjustedUsage> for TokensUsed {
    fn from(usage: AdjustedUsage) -> Self {
        Self {
            prompt: usage.prompt,
            cached: usage.cached,
            completion: usage.completion,
            reasoning: usage.reasoning,
            total: usage.total(),
        }
    }
}

impl Answer {
    /// Which request this belongs to.
    #[must_use]
    pub const fn request_id(&self) -> RequestId {
        match self {
            Self::Head { request_id, .. } | Self::Part { request_id, .. } | Self::Failed { request_id, .. } => {
                *request_id
            }
        }
    }

    /// The same message for another hop.
    #[must_use]
    pub fn with_request_id(mut self, id: RequestId) -> Self {
        match &mut self {
            Self::Head { request_id, .. } | Self::Part { request_id, .. } | Self::Failed { request_id, .. } => {
                *request_id = id
            }
        }
        self
    }

    /// The final information, if this is the last message and has it.
    #[must_use]
    pub const fn end(&self) -> Option<&FinalInfo> {
        match self {
            Self::Head { end, .. } | Self::Part { end, .. } | Self::Failed { end, .. } => end.as_ref(),
        }
    }

    /// Whether nothing may follow.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Failed { .. }) || self.end().is_some()
    }

    /// How many bytes of body it counts for against the credit (an envelope counts whole).
    #[must_use]
    pub const fn body_len(&self) -> usize {
        match self {
            Self::Head { response, .. } => response.len(),
            Self::Part { body, .. } => body.len(),
            Self::Failed { .. } => 0,
        }
    }

    /// A failure in a form that original nodes can read: a whole HTTP error response.
    ///
    /// Only before a head was sent. After it, an original peer's stream can only be ended:
    /// [`Answer::end_of_stream`].
    #[must_use]
    pub fn failure_as_http(request_id: RequestId, failure: &Failure, end: FinalInfo) -> Self {
        let payload = openai_error_body(failure);
        let mut headers = vec![
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("Content-Length".to_owned(), payload.len().to_string()),
        ];
        if let Some(seconds) = failure.retry_after_secs() {
            headers.push(("Retry-After".to_owned(), seconds.to_string()));
        }
        let status = failure.code.http_status();
        let reason = "Error".to_owned();
        let response = HttpResponse { status, reason, headers, payload }
            .encode()
            .expect("three headers of ours and a bounded message are valid");
        Self::Head { request_id, response, end: Some(end) }
    }

    /// An empty last part.
    #[must_use]
    pub fn end_of_stream(request_id: RequestId, end: FinalInfo) -> Self {
        Self::Part { request_id, body: Sealed::default(), end: Some(end) }
    }
}

impl TokensUsed {
    fn from_tl(used: &tl::TokensUsed) -> Result<Self, DecodeError> {
        Ok(Self {
            prompt: tokens(used.prompt_tokens_used, "prompt_tokens_used")?,
            cached: tokens(used.cached_tokens_used, "cached_tokens_used")?,
            completion: tokens(used.completion_tokens_used, "completion_tokens_used")?,
            reasoning: tokens(used.reasoning_tokens_used, "reasoning_tokens_used")?,
            total: tokens(used.total_tokens_used, "total_tokens_used")?,
        })
    }

    fn to_tl(self) -> tl::TokensUsed {
        tl::TokensUsed {
            prompt_tokens_used: tokens_out(self.prompt),
            cached_tokens_used: tokens_out(self.cached),
            completion_tokens_used: tokens_out(self.completion),
            reasoning_tokens_used: tokens_out(self.reasoning),
            total_tokens_used: tokens_out(self.total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Blame, FailureCode};

    #[test]
    fn a_failure_becomes_a_whole_http_response() {
        let failure =
            Failure::new(Blame::Proxy, FailureCode::NoWorker, "no worker serves it").with_retry_after_ms(1_500);
        let id = RequestId::new([1; 32]);
        let answer = Answer::failure_as_http(id, &failure, FinalInfo::default());
        assert!(answer.is_last());
        let Answer::Head { response, .. } = answer else { panic!("not a head") };
        let response = HttpResponse::decode(&response).unwrap();
        assert_eq!(response.status, 503);
        assert_eq!(response.header("retry-after"), Some("2"));
        assert_eq!(response.payload, openai_error_body(&failure));
    }
}
