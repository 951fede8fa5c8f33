//! `/v1/receipts/{id}`: the receipt of an answer, as `cocoon receipt verify` reads it.
//!
//! - 200: the file, with salt and evidence; `x-cocoon-receipt-verdict` says what this client made of it. A refused one is
//!   given too: it is the proof that somebody lied.
//! - 202: the request has not ended, or the worker's evidence is on its way; ask again after `retry-after`.
//! - 404: no such id, one of another API key, a request that came to nothing, or too many others since. Which of these
//!   it is, is not said: ids of others cannot be found out.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::ResponseBody;
use crate::{Shared, error::RequestError, keys::Access, limits, receipts::Found};

const VERDICT: HeaderName = HeaderName::from_static("x-cocoon-receipt-verdict");

/// Answers with one receipt, to the key that made the request or the owner.
pub(super) async fn receipt(
    shared: &Shared,
    id: &str,
    access: &Access,
) -> Result<Response<ResponseBody>, RequestError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(id, &mut bytes).map_err(|_| RequestError::UnknownReceipt)?;
    match shared.receipts.find(&bytes, access).await {
        Found::Unknown => Err(RequestError::UnknownReceipt),
        Found::Pending => Ok(pending()),
        Found::Here { file, verdict } => {
            let mut response = json(StatusCode::OK, file.encode());
            if let Ok(verdict) = HeaderValue::try_from(verdict) {
                response.headers_mut().insert(VERDICT, verdict);
            }
            Ok(response)
        }
    }
}

fn pending() -> Response<ResponseBody> {
    let mut response = json(StatusCode::ACCEPTED, "{\"status\":\"pending\"}\n".to_owned());
    response.headers_mut().insert(header::RETRY_AFTER, limits::RETRY_AFTER_PENDING.as_secs().into());
    response
}

fn json(status: StatusCode, body: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The salt makes it private.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
