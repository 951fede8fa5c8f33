//! Why a request failed: whose fault, which kind, and what the app is told.
//!
//! A failure crosses the network as numbers and a bounded sentence.
//! It never holds a prompt or an address; who builds one keeps that promise.

use std::fmt;

use bytes::Bytes;

use crate::json;
use crate::limits::FAILURE_MESSAGE_MAX;

/// Who caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The app or its client node.
    Client,
    /// The proxy.
    Proxy,
    /// The worker node.
    Worker,
    /// The inference engine behind the worker.
    Engine,
    /// The blockchain or its view of things.
    Chain,
}

impl Blame {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Client => 1,
            Self::Proxy => 2,
            Self::Worker => 3,
            Self::Engine => 4,
            Self::Chain => 5,
        }
    }

    /// Who a number names; a number from the future names the proxy, which let it through.
    #[must_use]
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Client,
            3 => Self::Worker,
            4 => Self::Engine,
            5 => Self::Chain,
            _ => Self::Proxy,
        }
    }

    /// The word for logs, metrics and error bodies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Worker => "worker",
            Self::Engine => "engine",
            Self::Chain => "chain",
        }
    }
}

/// Declares the codes once: name, wire number, HTTP status, OpenAI type, OpenAI code, doc.
macro_rules! failure_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $status:literal, $kind:literal, $code:literal;)*) => {
        /// Which kind of failure; the table of `docs/protocol.md`, section "Failures".
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FailureCode {
            $($(#[$doc])* $name,)*
        }

        impl FailureCode {
            /// All codes, for tests and metrics.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> i32 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            /// The code a number names; one from the future is [`FailureCode::Internal`].
            #[must_use]
            pub const fn from_number(number: i32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    _ => Self::Internal,
                }
            }

            /// The status an app sees.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            /// The `type` of the error body.
            #[must_use]
            pub const fn openai_type(self) -> &'static str {
                match self {
                    $(Self::$name => $kind,)*
                }
            }

            /// The `code` of the error body; also the word for logs and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

failure_codes! {
    /// The request cannot be read.
    BadRequest = 1, 400, "invalid_request_error", "bad_request";
    /// Missing or wrong key or secret.
    Unauthorized = 2, 401, "authentication_error", "invalid_api_key";
    /// No registered model has that name.
    ModelNotFound = 3, 404, "invalid_request_error", "model_not_found";
    /// The body does not fit a limit or the other node's packet.
    TooLarge = 4, 413, "invalid_request_error", "request_too_large";
    /// Readable, but not something this network does.
    Unprocessable = 5, 422, "invalid_request_error", "unprocessable_request";
    /// Workers exist, all above the price cap.
    NoWorkerUnderPrice = 6, 429, "rate_limit_error", "no_worker_under_price";
    /// Queues are full.
    Overloaded = 7, 429, "rate_limit_error", "overloaded";
    /// No worker serves the model now.
    NoWorker = 8, 503, "service_unavailable_error", "no_worker";
    /// The node is shutting down.
    Draining = 9, 503, "service_unavailable_error", "draining";
    /// The worker's connection ended before its answer did.
    WorkerLost = 10, 502, "api_error", "worker_lost";
    /// The engine refused or broke.
    EngineFailed = 11, 502, "api_error", "engine_failed";
    /// The engine is still loading its model.
    EngineLoading = 12, 503, "service_unavailable_error", "engine_loading";
    /// The time budget ran out.
    Timeout = 13, 504, "api_error", "timeout";
    /// The app hung up or cancelled.
    Cancelled = 14, 499, "invalid_request_error", "cancelled";
    /// The reader of the answer fell too far behind.
    SlowReader = 15, 429, "rate_limit_error", "slow_reader";
    /// A peer broke the protocol.
    ProtocolViolation = 16, 502, "api_error", "protocol_violation";
    /// A limit of the account, such as its stake, is reached.
    LimitExceeded = 17, 429, "rate_limit_error", "limit_exceeded";
    /// Anything else; the node's own log says more.
    Internal = 18, 500, "api_error", "internal_error";
}

/// One failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who caused it.
    pub blame: Blame,
    /// Which kind.
    pub code: FailureCode,
    /// One sentence for the app; bounded, without addresses, prompts or control characters.
    pub message: String,
    /// When it is worth trying again, if it is.
    pub retry_after_ms: Option<u32>,
}

impl Failure {
    /// Makes a failure without retry advice; the message is cut to its limit and loses control
    /// characters.
    #[must_use]
    pub fn new(blame: Blame, code: FailureCode, message: &str) -> Self {
        Self { blame, code, message: bounded_message(message), retry_after_ms: None }
    }

    /// Adds retry advice.
    #[must_use]
    pub const fn with_retry_after_ms(mut self, retry_after_ms: u32) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Reads the code and message of an original node, whose numbers are TON's or HTTP's.
    #[must_use]
    pub fn from_original(blame: Blame, error_code: i32, message: &str) -> Self {
        let code = match error_code {
            400 => FailureCode::BadRequest,
            401 | 403 => FailureCode::Unauthorized,
            404 => FailureCode::ModelNotFound,
            413 => FailureCode::TooLarge,
            422 => FailureCode::Unprocessable,
            429 => FailureCode::Overloaded,
            502 => FailureCode::EngineFailed,
            // TON's `notready`.
            503 | 651 => FailureCode::NoWorker,
            // TON's `timeout` and `cancelled`.
            504 | 652 => FailureCode::Timeout,
            499 | 653 => FailureCode::Cancelled,
            // TON's `protoviolation`.
            621 => FailureCode::ProtocolViolation,
            _ => FailureCode::Internal,
        };
        Self::new(blame, code, message)
    }

    /// Whole seconds for a `Retry-After` header, rounded up.
    #[must_use]
    pub fn retry_after_secs(&self) -> Option<u32> {
        self.retry_after_ms.map(|ms| ms.div_ceil(1_000))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code.as_str(), self.blame.as_str(), self.message)
    }
}

impl std::error::Error for Failure {}

/// The error body of the OpenAI API: `{"error":{"message","type","param":null,"code"}}`.
#[must_use]
pub fn openai_error_body(failure: &Failure) -> Bytes {
    let mut body = Vec::with_capacity(failure.message.len().saturating_add(128));
    body.extend_from_slice(br#"{"error":{"message":"#);
    json::write_string(&mut body, &failure.message);
    body.extend_from_slice(br#","type":"#);
    json::write_string(&mut body, failure.code.openai_type());
    body.extend_from_slice(br#","param":null,"code":"#);
    json::write_string(&mut body, failure.code.as_str());
    body.extend_from_slice(b"}}");
    body.into()
}

/// Cuts at a character boundary and replaces control characters by spaces.
fn bounded_message(message: &str) -> String {
    let mut bounded = String::with_capacity(message.len().min(FAILURE_MESSAGE_MAX));
    for character in message.chars() {
        if bounded.len().saturating_add(character.len_utf8()) > FAILURE_MESSAGE_MAX {
            break;
        }
        bounded.push(if character.is_control() { ' ' } else { character });
    }
    bounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_unknown_ones_are_internal() {
        for &code in FailureCode::ALL {
            assert_eq!(FailureCode::from_number(code.number()), code);
            assert!((400..600).contains(&code.http_status()));
        }
        assert_eq!(FailureCode::from_number(9_999), FailureCode::Internal);
        for number in 1..=5 {
            assert_eq!(Blame::from_number(number).number(), number);
        }
    }

    #[test]
    fn error_body_is_json_whatever_the_message() {
        let failure = Failure::new(
            Blame::Engine,
            FailureCode::EngineFailed,
            "quote \" backslash \\ newline \n unicode \u{1f980}",
        );
        let body = openai_error_body(&failure);
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["error"]["message"], failure.message.as_str());
        assert_eq!(value["error"]["code"], "engine_failed");
        assert_eq!(value["error"]["param"], serde_json::Value::Null);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let failure = Failure::new(Blame::Client, FailureCode::BadRequest, &"é".repeat(1_000));
        assert_eq!(failure.message.len(), FAILURE_MESSAGE_MAX);
    }
}
