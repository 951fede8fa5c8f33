//! What goes back: toncenter's envelope around a result, or around words that say what was wrong.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::address::Address;
use crate::chain::ChainError;
use crate::contract::exit;

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    words: String,
}

impl Refusal {
    /// A page or a name that may not ask.
    pub(super) fn forbidden(words: &str) -> Self {
        Self { status: StatusCode::FORBIDDEN, words: words.to_owned() }
    }

    /// A parameter that is missing or malformed; toncenter's code for it is 422.
    pub(super) fn malformed(words: impl Into<String>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, words: words.into() }
    }

    /// Something that is not here.
    pub(super) fn unknown(words: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, words: words.into() }
    }

    /// The right path, the wrong verb.
    pub(super) fn wrong_verb(words: impl Into<String>) -> Self {
        Self { status: StatusCode::METHOD_NOT_ALLOWED, words: words.into() }
    }

    /// More at once than there is room for.
    pub(super) fn busy() -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, words: "too many requests at once; ask again".to_owned() }
    }

    /// A request that took too long.
    pub(super) fn late() -> Self {
        Self { status: StatusCode::REQUEST_TIMEOUT, words: "the request took too long".to_owned() }
    }

    /// More bytes than a request may have.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        let words = format!("the body could not be read, or is larger than {bytes_max} bytes");
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, words }
    }

    /// A value of the chain that has no form in this API.
    pub(super) fn unwritable(words: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, words: words.into() }
    }

    /// A contract did not take a message. Toncenter answers 500 with these first words, which clients look for.
    fn not_accepted(address: &Address, exit_code: Option<i32>) -> Self {
        let why = exit_code.map_or_else(
            || "it has no code or no money to run".to_owned(),
            |code| format!("exitcode={code}{}", exit_name(code)),
        );
        let words = format!(
            "LITE_SERVER_UNKNOWN: cannot apply external message to current state : External message was not accepted: \
             inbound external message rejected by account {address}: {why}"
        );
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, words }
    }

    /// The envelope.
    pub(super) fn response(self, id: Option<&Value>) -> Response {
        let body = json!({ "ok": false, "error": self.words, "code": self.status.as_u16() });
        (self.status, Json(tagged(body, id))).into_response()
    }
}

impl From<ChainError> for Refusal {
    fn from(error: ChainError) -> Self {
        let status = match &error {
            ChainError::Refused { address, exit_code } => return Self::not_accepted(address, *exit_code),
            ChainError::BadMessage(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ChainError::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            ChainError::Stopped(_) | ChainError::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ChainError::BadAnswer(_) | ChainError::Gap { .. } | ChainError::Unproved => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self { status, words: error.to_string() }
    }
}

/// A result in its envelope. `id` is that of a JSON-RPC request, which is answered with it.
pub(super) fn success(result: &Value, id: Option<&Value>) -> Response {
    Json(tagged(json!({ "ok": true, "result": result }), id)).into_response()
}

fn tagged(mut body: Value, id: Option<&Value>) -> Value {
    if let (Some(id), Some(fields)) = (id, body.as_object_mut()) {
        fields.insert("jsonrpc".to_owned(), json!("2.0"));
        fields.insert("id".to_owned(), id.clone());
    }
    body
}

/// The name of an exit code in brackets, where it is one of the machine's or of Cocoon's contracts.
fn exit_name(code: i32) -> String {
    exit::name(code).map(|name| format!(" ({name})")).unwrap_or_default()
}
