//! Every way a request can fail, and what the app is told: the only place that knows statuses.
//!
//! Bodies have OpenAI's shape. Texts of peers reach the app only for faults of the request itself,
//! and only if they name no address; for everything else the sentence is ours.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use cocoon_net::SendError;
use cocoon_wire::{
    failure::{Blame, Failure, FailureCode},
    openai::BodyError,
};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::{
    budget::{BooksClosed, DemandDiffers, OverLimit},
    dialect::{Dialect, DialectError, DialectEvents, Fault, Violation, anthropic_type, error_body},
    http::body::ResponseBody,
    limits,
};

/// Why a request of an app got no answer, or only a part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("{message}")]
    BadRequest { message: Cow<'static, str>, param: Option<&'static str> },
    #[error("{0}")]
    BadBody(#[from] BodyError),
    #[error("{0}")]
    Untranslated(#[from] DialectError),
    #[error("{}", told(.0))]
    Untranslatable(#[from] Violation),
    #[error("the answer is longer than {limit} bytes, which are as many as are translated at once; ask for a stream")]
    AnswerTooLong { limit: usize },
    #[error("there is nothing at this path: a confidential network keeps no answers, conversations, files or batches")]
    NothingKept,
    #[error("tokens cannot be counted here: the tokenizer is the worker's, which counts them when it answers")]
    NoTokenizer,
    #[error("an API key is required: send `Authorization: Bearer sk-cocoon-…`, or the key as `x-api-key`")]
    KeyMissing,
    #[error("the API key is not known here")]
    KeyWrong,
    #[error("this client does not answer under that host name; its owner can add it to `allowed_hosts`")]
    ForeignHost,
    #[error("pages of that origin may not call this client; its owner can add it to `cors_origins`")]
    ForeignOrigin,
    #[error("there is nothing at this path; see /v1/models, /v1/chat/completions and the API in the README")]
    UnknownPath,
    #[error("the model `{model}` does not exist here; /v1/models lists those that do")]
    UnknownModel { model: String },
    #[error("no attestation of that id is kept; /v1/attestation lists those of the open sessions")]
    UnknownAttestation,
    #[error("no receipt of that id is kept for this API key; an answer names its own in `x-cocoon-receipt`")]
    UnknownReceipt,
    #[error("the operating system gave no random bytes, and a request needs some")]
    NoRandomness,
    #[error("the request could cost more than can be counted")]
    TooDear,
    #[error("{0}")]
    OverLimit(#[from] OverLimit),
    #[error("this client cannot write its budget, so it sends nothing that costs money; its log says more")]
    BudgetClosed(#[from] BooksClosed),
    #[error("too many requests ended without the proxy saying what they cost; it is asked")]
    TooManyOpen,
    #[error("the proxy is refused: it demands what was not used, or signs what is not ours ({0})")]
    ProxyRefused(DemandDiffers),
    #[error("this is for the client's owner: show an API key that has `is_owner` set")]
    NotOwner,
    #[error("this path answers {allow} only")]
    WrongMethod { allow: &'static str },
    #[error("the request body did not arrive in time")]
    BodyLate,
    #[error("the request body was cut off")]
    BodyCut,
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the request is too large for the connection to the proxy")]
    TooLargeForProxy,
    #[error("the content type must be application/json")]
    NotJson,
    #[error("the content type must be multipart/form-data")]
    NotMultipart,
    #[error("too many requests are in flight")]
    Busy,
    #[error("{0}")]
    NoProxy(Cow<'static, str>),
    #[error("no worker serves the model at the moment")]
    NoWorker,
    #[error("the connection to the proxy was lost before the answer was complete")]
    ProxyLost,
    #[error("the proxy sent an answer that makes no sense")]
    BadAnswer,
    #[error("the app read the answer too slowly")]
    AppTooSlow,
    #[error("the request was not answered within its time")]
    Late,
    #[error("{}", sentence(.0))]
    Failed(Failure),
}

/// What an app sees of an error besides its message.
struct Shape {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
}

impl RequestError {
    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>, param: Option<&'static str>) -> Self {
        Self::BadRequest { message: message.into(), param }
    }

    /// Whether the proxy has no worker for the model now, whatever it listed a while ago.
    pub(crate) fn is_for_want_of_a_worker(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.code == FailureCode::NoWorker)
    }

    /// When the proxy says that it is worth trying again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let Self::Failed(failure) = self else { return None };
        failure.retry_after_ms.map(|ms| Duration::from_millis(ms.into()))
    }

    /// The whole answer to a request that failed before its head was sent.
    pub(crate) fn response(&self, dialect: Option<Dialect>) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::full(self.body_in(dialect)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_secs() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if matches!(self, Self::OverLimit(_)) {
            // OpenAI's SDKs try 429 again by themselves, which is in vain until the next day.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Self::WrongMethod { allow } = self {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if matches!(self, Self::KeyMissing | Self::KeyWrong) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// The same as a server-sent event, for a stream whose head is long gone.
    pub(crate) fn event(&self) -> Bytes {
        [b"data: ".as_slice(), &self.body(), b"\n\n"].concat().into()
    }

    /// The same in the events of another API.
    pub(crate) fn tell(&self, events: &mut DialectEvents, out: &mut Vec<u8>) {
        let (message, shape) = (self.to_string(), self.shape());
        let anthropic_type = anthropic_type(shape.status.as_u16());
        let fault = Fault { message: &message, code: shape.code, openai_type: shape.kind, anthropic_type };
        events.break_off(&fault, out);
    }

    /// The status that an app sees, or would have seen had the stream not begun.
    pub(crate) fn status(&self) -> StatusCode {
        self.shape().status
    }

    /// The word for metrics and error bodies.
    pub(crate) fn code(&self) -> &'static str {
        self.shape().code
    }

    fn body_in(&self, dialect: Option<Dialect>) -> Bytes {
        match dialect {
            Some(Dialect::Messages) => {
                let kind = anthropic_type(self.status().as_u16());
                error_body(kind, &self.to_string(), Some(self.code())).into()
            }
            Some(Dialect::Responses) | None => self.body(),
        }
    }

    fn body(&self) -> Bytes {
        let shape = self.shape();
        let error = json!({
            "message": self.to_string(), "type": shape.kind, "param": self.param(), "code": shape.code,
        });
        json!({ "error": error }).to_string().into()
    }

    fn param(&self) -> Option<&str> {
        if let Self::BadRequest { param, .. } = self {
            return *param;
        }
        if let Self::Untranslated(error) = self {
            return error.field();
        }
        if let Self::BadBody(error) = self {
            return error.field();
        }
        (self.code() == FailureCode::ModelNotFound.as_str()).then_some("model")
    }

    fn retry_after_secs(&self) -> Option<u32> {
        if let Self::OverLimit(over) = self {
            return over.again_s().and_then(|seconds| u32::try_from(seconds).ok());
        }
        let status = self.status();
        let default = match status {
            StatusCode::TOO_MANY_REQUESTS => limits::RETRY_AFTER_BUSY,
            StatusCode::SERVICE_UNAVAILABLE => limits::RETRY_AFTER_UNAVAILABLE,
            _ => return None,
        };
        let advised = if let Self::Failed(failure) = self { failure.retry_after_secs() } else { None };
        advised.or_else(|| u32::try_from(default.as_secs()).ok())
    }

    fn shape(&self) -> Shape {
        let (status, kind, code) = match self {
            Self::BadBody(BodyError::Unsupported { .. }) | Self::Untranslated(DialectError::Unsupported { .. }) => {
                (400, INVALID, "unsupported_parameter")
            }
            Self::Untranslated(_) => (400, INVALID, "bad_request"),
            Self::BadRequest { .. } | Self::BadBody(_) => (400, INVALID, "bad_request"),
            Self::BodyCut => (400, INVALID, "incomplete_body"),
            Self::KeyMissing => (401, "authentication_error", "missing_api_key"),
            Self::KeyWrong => (401, "authentication_error", "invalid_api_key"),
            Self::ForeignHost => (403, "permission_error", "host_not_allowed"),
            Self::ForeignOrigin => (403, "permission_error", "origin_not_allowed"),
            Self::UnknownPath => (404, INVALID, "unknown_url"),
            Self::NothingKept => (404, INVALID, "nothing_is_kept"),
            Self::NoTokenizer => (404, INVALID, "not_supported"),
            Self::UnknownModel { .. } => (404, INVALID, "model_not_found"),
            Self::UnknownAttestation => (404, INVALID, "attestation_not_found"),
            Self::UnknownReceipt => (404, INVALID, "receipt_not_found"),
            Self::NoRandomness => (500, API, "no_randomness"),
            Self::TooDear => (402, QUOTA, "request_over_limit"),
            Self::OverLimit(over) if over.again_s().is_some() => (429, QUOTA, QUOTA),
            Self::OverLimit(_) => (402, QUOTA, "request_over_limit"),
            Self::NotOwner => (403, "permission_error", "owner_only"),
            Self::BudgetClosed(_) => (503, UNAVAILABLE, "budget_unavailable"),
            Self::TooManyOpen => (503, UNAVAILABLE, "too_many_open_requests"),
            Self::ProxyRefused(_) => (503, UNAVAILABLE, "proxy_refused"),
            Self::WrongMethod { .. } => (405, INVALID, "method_not_allowed"),
            Self::BodyLate => (408, INVALID, "body_timeout"),
            Self::BodyTooLarge { .. } | Self::TooLargeForProxy => (413, INVALID, "request_too_large"),
            Self::NotJson | Self::NotMultipart => (415, INVALID, "unsupported_media_type"),
            Self::Busy => (429, "rate_limit_error", "overloaded"),
            Self::AppTooSlow => (429, "rate_limit_error", "slow_reader"),
            Self::NoProxy(_) => (503, UNAVAILABLE, "no_proxy"),
            Self::NoWorker => (503, UNAVAILABLE, "no_worker"),
            Self::ProxyLost => (502, API, "proxy_lost"),
            Self::Untranslatable(Violation::Engine(_)) => (502, API, "engine_failed"),
            Self::Untranslatable(_) => (502, API, "untranslatable_answer"),
            Self::AnswerTooLong { .. } => (502, API, "answer_too_large"),
            Self::BadAnswer => (502, API, "protocol_violation"),
            Self::Late => (504, API, "timeout"),
            Self::Failed(failure) => return failed_shape(failure),
        };
        Shape { status: status_or_500(status), kind, code }
    }
}

const INVALID: &str = "invalid_request_error";
const API: &str = "api_error";
/// OpenAI's own word, for type and code.
const QUOTA: &str = "insufficient_quota";
const UNAVAILABLE: &str = "service_unavailable_error";

/// The failure's own table, except where it speaks of this client instead of its app.
fn failed_shape(failure: &Failure) -> Shape {
    let code = failure.code;
    // It is this client that the proxy does not accept; the app's key is fine.
    if code == FailureCode::Unauthorized {
        return Shape { status: StatusCode::BAD_GATEWAY, kind: API, code: "proxy_refused_client" };
    }
    // An app that hung up reads no status, so whoever reads one did not hang up.
    if code == FailureCode::Cancelled {
        return Shape { status: StatusCode::BAD_GATEWAY, kind: API, code: code.as_str() };
    }
    Shape { status: status_or_500(code.http_status()), kind: code.openai_type(), code: code.as_str() }
}

/// What the app reads about an answer that could not be translated.
fn told(violation: &Violation) -> Cow<'_, str> {
    if let Violation::Engine(words) = violation
        && names_an_address(words)
    {
        return "the worker's inference engine failed".into();
    }
    violation.to_string().into()
}

/// What the app reads about a failure that a peer reported.
fn sentence(failure: &Failure) -> &str {
    let about_the_request = matches!(
        failure.code,
        FailureCode::BadRequest
            | FailureCode::TooLarge
            | FailureCode::Unprocessable
            | FailureCode::ModelNotFound
            | FailureCode::NoWorkerUnderPrice
            | FailureCode::LimitExceeded
    );
    if about_the_request && !failure.message.is_empty() && !names_an_address(&failure.message) {
        return &failure.message;
    }
    match failure.code {
        FailureCode::BadRequest => "the request was refused as malformed",
        FailureCode::Unauthorized => {
            "the proxy does not accept this client; its owner should check the wallet and secret"
        }
        FailureCode::ModelNotFound => "the model does not exist here; /v1/models lists those that do",
        FailureCode::TooLarge => "the request is too large",
        FailureCode::Unprocessable => "the request asks for something that this network does not do",
        FailureCode::NoWorkerUnderPrice => {
            "no worker is at or below the price cap; raise `max_coefficient` or try later"
        }
        FailureCode::Overloaded => "all workers are busy and the queue is full",
        FailureCode::NoWorker => "no worker serves the model at the moment",
        FailureCode::Draining => "the proxy is shutting down",
        FailureCode::WorkerLost => "the worker was lost before the answer was complete",
        FailureCode::EngineFailed => "the worker's inference engine failed",
        FailureCode::EngineLoading => "the worker's inference engine is loading its model",
        FailureCode::Timeout => "the request was not answered within its time",
        FailureCode::Cancelled => "the request was cancelled on its way",
        FailureCode::SlowReader => "the answer was read too slowly",
        FailureCode::ProtocolViolation => "a node of the network broke the protocol",
        FailureCode::LimitExceeded => "a limit of this client's account is reached",
        FailureCode::Internal if failure.blame == Blame::Client => "this client failed; its log says more",
        FailureCode::Internal => "a node of the network failed",
    }
}

/// Whether a text looks like it names a URL or an address: digits around three dots, `://`, `[::`.
fn names_an_address(text: &str) -> bool {
    let is_host = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let host = word.split([':', '/']).next().unwrap_or(word);
        host.parse::<std::net::Ipv4Addr>().is_ok() || host.eq_ignore_ascii_case("localhost")
    };
    text.contains("://") || text.contains("::") || text.split([' ', '"', '\'', '(', ')', ',']).any(is_host)
}

fn status_or_500(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl From<SendError> for RequestError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full => Self::Busy,
            SendError::TooLarge => Self::TooLargeForProxy,
            SendError::Closed | SendError::UnknownQuery => Self::ProxyLost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &RequestError, status: u16, code: &str, retry: Option<&str>) {
        let response = error.response(None);
        assert_eq!(response.status(), status, "{error}");
        assert_eq!(response.headers().get("retry-after").map(|v| v.to_str().unwrap()), retry, "{error}");
        let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
        let mut keys: Vec<_> = body["error"].as_object().unwrap().keys().cloned().collect();
        keys.sort();
        assert_eq!(keys, ["code", "message", "param", "type"]);
        assert_eq!(body["error"]["code"], code);
    }

    #[test]
    fn statuses_codes_and_advice() {
        check(&RequestError::bad_request("no", None), 400, "bad_request", None);
        check(&RequestError::KeyWrong, 401, "invalid_api_key", None);
        check(&RequestError::UnknownModel { model: "x".into() }, 404, "model_not_found", None);
        check(&RequestError::UnknownPath, 404, "unknown_url", None);
        check(&RequestError::UnknownAttestation, 404, "attestation_not_found", None);
        check(&RequestError::WrongMethod { allow: "POST" }, 405, "method_not_allowed", None);
        check(&RequestError::BodyTooLarge { limit: 1 }, 413, "request_too_large", None);
        check(&RequestError::NotJson, 415, "unsupported_media_type", None);
        check(&RequestError::Busy, 429, "overloaded", Some("1"));
        check(&RequestError::ProxyLost, 502, "proxy_lost", None);
        check(&RequestError::NoProxy("connecting".into()), 503, "no_proxy", Some("2"));
        check(&RequestError::Late, 504, "timeout", None);
    }

    #[test]
    fn failures_of_peers() {
        let failed = |code, message| RequestError::Failed(Failure::new(Blame::Proxy, code, message));
        check(&failed(FailureCode::Unprocessable, "no"), 422, "unprocessable_request", None);
        check(&failed(FailureCode::Overloaded, "no"), 429, "overloaded", Some("1"));
        check(&failed(FailureCode::WorkerLost, "no"), 502, "worker_lost", None);
        check(&failed(FailureCode::Unauthorized, "no"), 502, "proxy_refused_client", None);
        let advised =
            RequestError::Failed(Failure::new(Blame::Proxy, FailureCode::NoWorker, "").with_retry_after_ms(6_200));
        check(&advised, 503, "no_worker", Some("7"));
    }

    #[test]
    fn internal_addresses_never_leave() {
        for message in [
            "dial 10.0.0.7:8000: refused",
            "see http://worker.internal/",
            "host (127.0.0.1)",
            "at [::1]:80",
            "localhost:8000 is down",
        ] {
            for &code in FailureCode::ALL {
                let error = RequestError::Failed(Failure::new(Blame::Worker, code, message));
                assert_ne!(error.to_string(), message);
            }
        }
        let error =
            RequestError::Failed(Failure::new(Blame::Client, FailureCode::BadRequest, "`n` must be at least 1."));
        assert_eq!(error.to_string(), "`n` must be at least 1.");
    }
}
