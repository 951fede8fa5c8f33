//! What apps and their owners can ask besides inference: models, health, metrics.

use std::sync::Arc;

use bytes::Bytes;
use cocoon_units::{Coefficient, Multiplier, Pricing};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::body::ResponseBody;
use crate::{Shared, error::RequestError, limits, models::ModelLoad, pool::ProxyStatus};

/// `/healthz`: the process serves. Always 200, so that nobody restarts a client over a lost proxy.
pub(super) fn health(shared: &Shared) -> Response<ResponseBody> {
    let status = shared.status();
    json_response(StatusCode::OK, &json!({ "status": "ok", "ready": status.ready }))
}

/// `/readyz`: whether a request would find a proxy and a worker.
pub(super) async fn ready(shared: &Shared) -> Response<ResponseBody> {
    if shared.pool.models().is_empty() {
        shared.pool.refresh().await;
    }
    let status = shared.status();
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let ready = status.proxies.iter().filter(|proxy| proxy.ready).count();
    let doubts: Vec<_> = status.proxies.iter().filter_map(doubt).take(limits::DOUBTS_SHOWN).collect();
    let body =
        json!({ "ready": status.ready, "proxies_ready": ready, "models": status.models, "proxies_in_doubt": doubts });
    json_response(code, &body)
}

/// Why requests do not go to a proxy, if they do not.
fn doubt(proxy: &ProxyStatus) -> Option<String> {
    if !proxy.ready {
        return Some(proxy.state.clone());
    }
    proxy.breaker_reason.clone()
}

/// `/metrics`: Prometheus' text format.
pub(super) fn metrics(shared: &Shared) -> Response<ResponseBody> {
    let text = shared.metrics.render(&shared.status());
    with_type(StatusCode::OK, "text/plain; version=0.0.4", text.into())
}

/// `/v1/models`. Without a proxy nobody knows, which is not the same as none.
pub(super) fn models(shared: &Shared) -> Result<Response<ResponseBody>, RequestError> {
    let models = shared.pool.offered_models()?;
    let data: Vec<_> = models.iter().map(|(name, load)| model_json(name, load, &shared.pricing())).collect();
    Ok(json_response(StatusCode::OK, &json!({ "object": "list", "data": data })))
}

/// `/v1/models/{id}`; the id may hold slashes, escaped or not.
pub(super) fn model(shared: &Arc<Shared>, id: &str) -> Result<Response<ResponseBody>, RequestError> {
    let id = unescape(id).ok_or(RequestError::UnknownPath)?;
    let models = shared.pool.offered_models()?;
    let load = models.get(&id).ok_or_else(|| RequestError::UnknownModel { model: id.clone() })?;
    Ok(json_response(StatusCode::OK, &model_json(&id, load, &shared.pricing())))
}

/// `/v1/attestation`: what was verified of each proxy that there is a session with.
pub(super) fn attestations(shared: &Shared) -> Response<ResponseBody> {
    let data: Vec<_> = shared.pool.attestations().iter().map(|record| record.summary()).collect();
    json_response(StatusCode::OK, &json!({ "object": "list", "data": data }))
}

/// `/v1/attestation/{id}`: a whole appraisal, for `cocoon attest verify`.
pub(super) fn attestation(shared: &Shared, id: &str) -> Result<Response<ResponseBody>, RequestError> {
    let document = shared.attestations.document(id).ok_or(RequestError::UnknownAttestation)?;
    Ok(with_type(StatusCode::OK, "application/json", document.encode().into()))
}

fn model_json(name: &str, load: &ModelLoad, pricing: &Pricing) -> Value {
    json!({
        "id": name,
        "object": "model",
        // The network does not know; OpenAI's SDKs want a number.
        "created": 0,
        "owned_by": "cocoon",
        "price": price_json(load.coefficient_min, pricing),
        "workers": {
            "count": load.workers,
            "coefficient_min": load.coefficient_min.thousandths(),
            "coefficient_max": load.coefficient_max.thousandths(),
        },
        "load": { "active": load.active, "slots": load.slots },
    })
}

/// What a million tokens of each kind cost at the cheapest worker.
fn price_json(coefficient: Coefficient, pricing: &Pricing) -> Value {
    let per_million = |multiplier: Multiplier| -> u64 {
        let weight = u128::from(coefficient.thousandths()).saturating_mul(multiplier.ten_thousandths().into());
        let nano = weight.saturating_mul(pricing.price.get().into()) / 10;
        u64::try_from(nano).unwrap_or(u64::MAX)
    };
    let multipliers = &pricing.multipliers;
    json!({
        "unit": "nanoTON per million tokens",
        "prompt": per_million(multipliers.prompt),
        "cached": per_million(multipliers.cached),
        "completion": per_million(multipliers.completion),
        "reasoning": per_million(multipliers.reasoning),
    })
}

/// Undoes percent-encoding; `None` when it is broken or hides something that is no text.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        bytes.extend(byte);
    }
    String::from_utf8(bytes).ok()
}

pub(super) fn json_response(status: StatusCode, value: &Value) -> Response<ResponseBody> {
    with_type(status, "application/json", value.to_string().into())
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use cocoon_units::NanoPerToken;

    use super::*;

    #[test]
    fn ids_may_hold_slashes() {
        assert_eq!(unescape("Qwen/Qwen3-8B").unwrap(), "Qwen/Qwen3-8B");
        assert_eq!(unescape("Qwen%2fQwen3-8B").unwrap(), "Qwen/Qwen3-8B");
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(unescape(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_million_tokens_cost_what_the_adjustment_says() {
        let pricing = Pricing { price: NanoPerToken::new(20), ..Pricing::default() };
        let price = price_json(Coefficient::from_thousandths(1500), &pricing);
        assert_eq!(price["prompt"], 30_000_000);
        let dear = Pricing { price: NanoPerToken::new(u64::MAX), ..Pricing::default() };
        assert_eq!(price_json(Coefficient::from_thousandths(u32::MAX), &dear)["prompt"], u64::MAX);
    }
}
