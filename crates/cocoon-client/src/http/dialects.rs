//! `/v1/responses` and `/v1/messages`, and what the official services have below them.
//!
//! Both are chat completions to everybody but the app. What would need something kept, or a tokenizer, is refused in words.

use std::sync::Arc;

use http::{Response, request::Parts};
use hyper::body::Incoming;

use super::{
    Labels,
    body::ResponseBody,
    inference::{self, Target},
};
use crate::{Shared, dialect::Dialect, error::RequestError, request::Endpoint};

/// Answers a request to a path of one of these APIs.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    dialect: Dialect,
    parts: &Parts,
    body: Incoming,
    labels: &mut Labels,
    key: Option<&Arc<str>>,
) -> Result<Response<ResponseBody>, RequestError> {
    let below = parts.uri.path().strip_prefix(dialect.path()).unwrap_or_default();
    match (dialect, below) {
        (_, "") => {
            let target = Target { endpoint: Endpoint::ChatCompletions, dialect: Some(dialect) };
            inference::answer(shared, target, parts, body, labels, key).await
        }
        (Dialect::Responses, "/input_tokens") | (Dialect::Messages, "/count_tokens") => Err(RequestError::NoTokenizer),
        (Dialect::Responses, "/compact") => Err(RequestError::UnknownPath),
        (Dialect::Responses | Dialect::Messages, _) => Err(RequestError::NothingKept),
    }
}
