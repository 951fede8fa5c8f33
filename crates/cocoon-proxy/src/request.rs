//! Reads a client's request once, at the edge: what the core must know, and what the worker gets.
//!
//! The body passes untouched. Only where `max_tokens` is missing (an original client's app named its limit otherwise, or
//! gave none) it is spliced in, so that an engine of any kind keeps to what was reserved. A request with a receipt has it:
//! its client digested the body, and must refuse the receipt of another one.

use std::time::Duration;

use cocoon_receipt::{BodyDigest, public_name};
use cocoon_wire::Sealed;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::http::{HttpError, HttpRequest};
use cocoon_wire::message::ClientRun;
use cocoon_wire::openai::{BodyError, Edits, Endpoint, RequestFacts, edit_request};

use crate::core::{ClientId, RequestKey, RunQuery};
use crate::hub::Body;
use crate::limits::DETACHED_BYTES_MAX;
use crate::session::proof::Asked;

/// Splits a request into the core's summary and the worker's body.
///
/// # Errors
///
/// When the body cannot be read; the client is told why.
pub(crate) fn read(
    key: RequestKey,
    client: ClientId,
    config_version: i32,
    run: ClientRun,
) -> Result<(RunQuery, Body), Failure> {
    if run.min_config_version > config_version {
        let message = "this proxy's configuration is older than the request asks for";
        return Err(Failure::new(Blame::Proxy, FailureCode::NoWorker, message));
    }
    let request = HttpRequest::decode(&run.query).map_err(|error| bad_envelope(&error))?;
    let endpoint = Endpoint::parse(&request.method, &request.url).unwrap_or(UNKNOWN);
    let facts = facts(endpoint, &request).map_err(bad_body)?;
    let fields = &facts.fields;
    // Routed and priced by the one, answered by the other: an engine may serve many models.
    if fields.model.as_deref().is_some_and(|model| public_name(model) != public_name(&run.model)) {
        let message = "the body names another model than its envelope";
        return Err(Failure::new(Blame::Client, FailureCode::BadRequest, message));
    }
    let prompt_bytes = u64::try_from(request.payload.len()).unwrap_or(u64::MAX);
    // A request of another endpoint, or without a body, has none to give.
    let is_limited = fields.has_max_tokens || !endpoint.has_token_limit() || request.payload.is_empty();
    if run.receipt.is_some() && !is_limited {
        let message = "a request for a receipt must give `max_tokens`: its body cannot be changed on the way";
        return Err(Failure::new(Blame::Client, FailureCode::BadRequest, message));
    }
    let receipt = run.receipt.map(|ask| {
        let mut digest = BodyDigest::request(&ask.salt);
        digest.update(&request.payload);
        Asked { ask, request_hmac: digest.finish() }
    });
    let query = match is_limited {
        true if run.query.len() <= DETACHED_BYTES_MAX => run.query.detached(),
        true => run.query,
        false => with_limit(request, run.max_tokens)?,
    };
    let summary = RunQuery {
        key,
        client,
        request_id: run.request_id,
        model: run.model,
        max_coefficient: run.max_coefficient,
        prompt_bytes,
        prompt_tokens_max: facts.prompt_tokens_max(),
        choices: facts.choices(),
        // An engine obeys its body, so that is what is reserved, whatever the envelope says.
        token_limit: facts.token_limit(run.max_tokens),
        timeout: Duration::from_millis(run.timeout_ms),
        receipt: run.receipt.map(|ask| ask.id),
    };
    Ok((summary, Body { query, enable_debug: run.enable_debug, receipt }))
}

/// What a request is read as whose endpoint is not known here; its worker refuses it.
const UNKNOWN: Endpoint = Endpoint::ChatCompletions;

fn facts(endpoint: Endpoint, request: &HttpRequest) -> Result<RequestFacts, BodyError> {
    if request.payload.is_empty() {
        return Ok(RequestFacts::of_nothing());
    }
    RequestFacts::read(endpoint, request.header("content-type"), &request.payload)
}

fn with_limit(request: HttpRequest, max_tokens: u32) -> Result<Sealed, Failure> {
    let edits = Edits { max_tokens_if_missing: Some(max_tokens), ..Edits::default() };
    let payload = edit_request(&request.payload, &edits).map_err(bad_body)?;
    let mut request = HttpRequest { payload, ..request };
    let len = request.payload.len().to_string();
    for (name, value) in &mut request.headers {
        if name.eq_ignore_ascii_case("content-length") {
            value.clone_from(&len);
        }
    }
    request.encode().map_err(|error| bad_envelope(&error))
}

fn bad_envelope(error: &HttpError) -> Failure {
    Failure::new(Blame::Client, FailureCode::BadRequest, &error.to_string())
}

fn bad_body(error: BodyError) -> Failure {
    let code = if error == BodyError::TooLarge { FailureCode::TooLarge } else { FailureCode::BadRequest };
    Failure::new(Blame::Client, code, &error.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cocoon_units::Coefficient;
    use cocoon_wire::RequestId;
    use cocoon_wire::message::ReceiptAsk;

    use super::*;

    fn run(body: &'static str) -> ClientRun {
        let request = HttpRequest {
            method: "POST".into(),
            url: "/v1/chat/completions".into(),
            headers: vec![("Content-Length".into(), body.len().to_string())],
            payload: Bytes::from_static(body.as_bytes()),
        };
        ClientRun {
            request_id: RequestId::new([1; 32]),
            model: "m".into(),
            query: request.encode().unwrap(),
            max_coefficient: Coefficient::ONE,
            max_tokens: 1_000,
            timeout_ms: 1_000,
            min_config_version: 0,
            enable_debug: false,
            answer_credit: None,
            receipt: None,
        }
    }

    fn read_run(run: ClientRun) -> Result<(RunQuery, Body), Failure> {
        read(RequestKey(1), ClientId(1), 0, run)
    }

    fn check(body: &'static str, expected_limit: u32, expected_choices: u32, expected_body: &str) {
        let (summary, passed) = read_run(run(body)).unwrap();
        assert_eq!((summary.token_limit, summary.choices), (expected_limit, expected_choices));
        assert_eq!(summary.prompt_bytes, body.len() as u64);
        let passed = HttpRequest::decode(&passed.query).unwrap();
        assert_eq!(passed.payload, expected_body.as_bytes());
        assert_eq!(passed.header("content-length"), Some(expected_body.len().to_string().as_str()));
    }

    #[test]
    fn limits_and_choices_are_understood_and_a_missing_limit_is_injected() {
        check(r#"{"model":"m","max_tokens":5}"#, 5, 1, r#"{"model":"m","max_tokens":5}"#);
        let twice = r#"{"max_tokens":7,"max_completion_tokens":7,"n":3}"#;
        check(twice, 7, 3, twice);
        check(r#"{"max_tokens":9,"n":2,"best_of":4}"#, 9, 4, r#"{"max_tokens":9,"n":2,"best_of":4}"#);
        check(r#"{"model":"m"}"#, 1_000, 1, r#"{"max_tokens":1000,"model":"m"}"#);
    }

    #[test]
    fn a_list_of_prompts_for_the_price_of_one() {
        let list = r#"{"prompt":["a","b","c"],"n":2,"max_tokens":5}"#;
        check(list, 5, 6, list);
        let one = r#"{"prompt":[1,2,3],"n":2,"max_tokens":5}"#;
        check(one, 5, 2, one);
    }

    #[test]
    fn two_limits_that_differ() {
        let failure = read_run(run(r#"{"max_tokens":1,"max_completion_tokens":100000}"#)).unwrap_err();
        assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest));
        assert!(failure.message.contains("`max_tokens`") && failure.message.contains("`max_completion_tokens`"));
    }

    /// The engine of an original worker, too, must find the limit that was reserved for.
    #[test]
    fn a_long_answer_for_the_price_of_one_token() {
        check(r#"{"n_predict":1}"#, 1, 1, r#"{"max_tokens":1,"n_predict":1}"#);
        check(r#"{"max_output_tokens":1}"#, 1, 1, r#"{"max_tokens":1,"max_output_tokens":1}"#);
        check(r#"{"max_completion_tokens":1}"#, 1, 1, r#"{"max_tokens":1,"max_completion_tokens":1}"#);
    }

    #[test]
    fn a_body_that_its_client_digested_is_not_changed() {
        let ask = ReceiptAsk { id: [1; 32], salt: [2; 32] };
        let asking = |body| read_run(ClientRun { receipt: Some(ask), ..run(body) });
        for body in ["{}", r#"{"n_predict":1}"#] {
            let failure = asking(body).unwrap_err();
            assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest), "{body}");
        }
        let body = r#"{"max_tokens":5}"#;
        let mut digest = BodyDigest::request(&ask.salt);
        digest.update(body.as_bytes());
        let request_hmac = digest.finish();
        assert_eq!(asking(body).unwrap().1.receipt, Some(Asked { ask, request_hmac }));
    }

    fn run_at(url: &str, content_type: &str, body: Bytes) -> ClientRun {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        let request = HttpRequest { method: "POST".into(), url: url.into(), headers, payload: body };
        let receipt = Some(ReceiptAsk { id: [1; 32], salt: [2; 32] });
        ClientRun { query: request.encode().unwrap(), receipt, ..run("{}") }
    }

    /// What is reserved is what its client holds, by the rules of the endpoint: 60 bytes of a file are 8 prompt tokens.
    #[test]
    fn other_endpoints_are_reserved_by_their_own_rules() {
        let check = |url: &str, content_type: &str, body: &str, prompt: u64, completion: u32| {
            let run = run_at(url, content_type, Bytes::copy_from_slice(body.as_bytes()));
            let (summary, passed) = read_run(run).unwrap();
            assert_eq!((summary.prompt_tokens_max, summary.choices, summary.token_limit), (prompt, 1, completion));
            assert_eq!(summary.prompt_bytes, body.len() as u64);
            assert_eq!(HttpRequest::decode(&passed.query).unwrap().payload, body.as_bytes());
        };
        let embeddings = r#"{"model":"m","input":["a"],"max_tokens":9}"#;
        check("/v1/embeddings", "application/json", embeddings, embeddings.len() as u64, 0);
        let image = r#"{"model":"m","prompt":"a","size":"32x32","n":2}"#;
        check("/v1/images/generations", "application/json", image, image.len() as u64, 8);
        let head = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
        let form = format!("{head}{}\r\n--X--", "a".repeat(60));
        let form_type = "multipart/form-data; boundary=X";
        check("/v1/audio/transcriptions", form_type, &form, form.len() as u64 - 60 + 8, 4);
    }

    #[test]
    fn a_form_that_names_another_model() {
        let part = |value: &str| format!("--X\r\nContent-Disposition: form-data; {value}\r\n");
        let file = part("name=\"file\"; filename=\"a\"\r\n\r\naudio");
        let form_type = "multipart/form-data; boundary=X";
        for (body, ok) in [
            (part("name=\"model\"\r\n\r\nm") + &file + "--X--", true),
            (part("name=\"model\"\r\n\r\ndear") + &file + "--X--", false),
            (part("name=\"model\"\r\n\r\nm") + &part("name=\"model\"\r\n\r\ndear") + &file + "--X--", false),
            (part("name=\"Model\"\r\n\r\ndear") + &file + "--X--", false),
        ] {
            let read = read_run(run_at("/v1/audio/transcriptions", form_type, Bytes::from(body.clone())));
            assert_eq!(read.is_ok(), ok, "{body}");
        }
    }

    #[test]
    fn a_body_that_cannot_be_read_is_the_clients_fault() {
        for body in ["", "{", "[]", r#"{"n":1,"n":2}"#, r#"{"n":-1}"#] {
            assert_eq!(read_run(run(body)).is_ok(), body.is_empty());
        }
    }
}
