//! What of a proxy's request reaches the engine, and what is refused before it does.
//!
//! Everything here is the app's or the proxy's doing, so every refusal blames the client, but for an
//! envelope that no honest proxy sends.

use bytes::Bytes;
use cocoon_receipt::public_name;
use cocoon_wire::Sealed;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::http::HttpRequest;
use cocoon_wire::message::WorkerRun;
use cocoon_wire::openai::{BodyError, BodyKind, Edits, RequestFacts, RequestFields, edit_body, multipart_type};

use crate::engine::{EngineRequest, Route};
use crate::limits::{MEDIA_TYPE_MAX, PROMPT_BYTES_PER_TOKEN};

/// A request that may be run.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) request: EngineRequest,
    /// Whether the app asked for a stream.
    pub(super) streamed: bool,
    /// What it says, and what it may use.
    pub(super) facts: RequestFacts,
    /// Prompt tokens that its text has at least, for an answer of which the engine does not say.
    pub(super) fewest_prompt_tokens: u64,
}

/// Opens the envelope.
pub(super) fn open(run: &WorkerRun) -> Result<HttpRequest, Failure> {
    HttpRequest::decode(&run.query)
        .map_err(|_| Failure::new(Blame::Proxy, FailureCode::ProtocolViolation, "the request's envelope is malformed"))
}

/// Enforces what was agreed; `served` is the model that this worker registered.
pub(super) fn prepare(
    envelope: HttpRequest,
    tokens_max: Option<u32>,
    served: Option<&str>,
) -> Result<Prepared, Failure> {
    let route = Route::parse(&envelope.method, &envelope.url)
        .ok_or_else(|| refused(FailureCode::BadRequest, "this method and path are not served by workers"))?;
    let content_type = media_type(&envelope, "content-type")?;
    let accept = media_type(&envelope, "accept")?;
    if route.body() == BodyKind::None {
        let request = EngineRequest { route, content_type: None, accept, body: Sealed::default(), token_limit: None };
        return Ok(Prepared { request, streamed: false, facts: RequestFacts::of_nothing(), fewest_prompt_tokens: 0 });
    }
    let content_type = match (route.body(), content_type) {
        // The engine gets it in the one form that nobody misreads.
        (BodyKind::Multipart, Some(given)) => Some(multipart_type(&given).map_err(|error| bad_body(&error))?),
        (_, given) => given,
    };
    let body = envelope.payload;
    let facts = RequestFacts::read(route, content_type.as_deref(), &body).map_err(|error| bad_body(&error))?;
    check_fields(&facts.fields, served)?;
    let is_mute = facts.fields.stream && !facts.fields.include_usage;
    let (body, token_limit) = match (route.has_token_limit(), is_mute) {
        (true, _) => limited_body(route, body, &facts, tokens_max)?,
        (false, false) => (body, None),
        (false, true) => {
            let edits = Edits { include_usage: true, ..Edits::default() };
            (edit_body(route, content_type.as_deref(), &body, &edits).map_err(|error| bad_body(&error))?, None)
        }
    };
    let request = EngineRequest { route, content_type, accept, body: Sealed::new(body), token_limit };
    let (streamed, fewest_prompt_tokens) = (facts.fields.stream, fewest_prompt_tokens(&facts.fields));
    Ok(Prepared { request, streamed, facts, fewest_prompt_tokens })
}

/// Refuses what no engine may be asked for, whatever the route.
fn check_fields(fields: &RequestFields, served: Option<&str>) -> Result<(), Failure> {
    check_model(fields.model.as_deref(), served)?;
    if fields.has_remote_image {
        // The engine would fetch it, from inside a trusted machine.
        return Err(refused(
            FailureCode::Unprocessable,
            "images must be data URLs: workers fetch nothing from the network",
        ));
    }
    Ok(())
}

/// The body with the token limit and the usage report in it, and the limit of one choice.
///
/// The body is spliced only where it has to be; as a rule the client did it all and the same bytes go on. Limits by
/// several names are one limit, and `max_tokens` is always among them: an engine that does not read the name that the
/// app chose would generate to its own maximum.
fn limited_body(
    route: Route,
    body: Bytes,
    facts: &RequestFacts,
    limit_of_all: Option<u32>,
) -> Result<(Bytes, Option<u32>), Failure> {
    let fields = &facts.fields;
    let choices = fields.choices();
    if limit_of_all.is_some_and(|limit| choices > limit.max(1)) {
        // Each choice is a token at least, so the engine would make more of them than anybody pays for.
        return Err(refused(
            FailureCode::BadRequest,
            "`n` or `prompt` asks for more choices than the token limit allows",
        ));
    }
    let limit = limit_of_all.map(|limit| limit.checked_div(choices).unwrap_or(limit).max(1));
    let over = limit.is_some_and(|limit| fields.max_tokens.is_none_or(|asked| asked > limit));
    let unnamed = fields.max_tokens.is_some() && !fields.has_max_tokens;
    let mute = fields.stream && !fields.include_usage;
    let token_limit = match (limit, fields.max_tokens) {
        (Some(limit), Some(asked)) => Some(limit.min(asked)),
        (limit, asked) => limit.or(asked),
    };
    if !over && !unnamed && !mute {
        return Ok((body, token_limit));
    }
    let edits = Edits {
        max_tokens_if_missing: token_limit,
        max_tokens_cap: token_limit,
        include_usage: mute,
        ..Edits::default()
    };
    let body = edit_body(route, None, &body, &edits).map_err(|error| bad_body(&error))?;
    Ok((body, token_limit))
}

/// A low estimate. Token ids are counted; of text, tokenisers make a token of four bytes or so.
fn fewest_prompt_tokens(fields: &RequestFields) -> u64 {
    fields.prompt_token_ids.saturating_add(fields.prompt_text_bytes / PROMPT_BYTES_PER_TOKEN)
}

/// An engine may have more models than the one that was routed to and priced.
///
/// A body that names none gets the engine's default, as it does from the original's workers.
fn check_model(asked: Option<&str>, served: Option<&str>) -> Result<(), Failure> {
    match (asked, served) {
        (Some(asked), Some(served)) if public_name(asked) != public_name(served) => {
            Err(refused(FailureCode::BadRequest, "the body names another model than this worker serves"))
        }
        _ => Ok(()),
    }
}

/// The one header of that name, if its value is a plain media type.
///
/// Two of them could be read differently here and in the engine.
fn media_type(envelope: &HttpRequest, name: &str) -> Result<Option<String>, Failure> {
    let mut values = envelope.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let Some((_, value)) = values.next() else {
        return Ok(None);
    };
    let plain = value.len() <= MEDIA_TYPE_MAX && value.bytes().all(|b| matches!(b, b' '..=b'~'));
    if values.next().is_some() || !plain {
        return Err(refused(FailureCode::BadRequest, "content-type and accept must be given once, as media types"));
    }
    Ok(Some(value.clone()))
}

fn bad_body(error: &BodyError) -> Failure {
    let too_large = matches!(error, BodyError::TooLarge | BodyError::TooDeep { .. });
    let code = if too_large { FailureCode::TooLarge } else { FailureCode::BadRequest };
    refused(code, &error.to_string())
}

fn refused(code: FailureCode, message: &str) -> Failure {
    Failure::new(Blame::Client, code, message)
}

#[cfg(test)]
mod tests {
    use cocoon_units::Coefficient;
    use cocoon_wire::RequestId;
    use cocoon_wire::message::SignedPayment;

    use super::*;

    const SERVED: Option<&str> = Some("Qwen/Qwen3-8B@commit:hash");

    fn run(method: &str, url: &str, headers: &[(&str, &str)], body: &str, token_limit: Option<u32>) -> WorkerRun {
        let envelope = HttpRequest {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: headers.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
            payload: Bytes::copy_from_slice(body.as_bytes()),
        };
        WorkerRun {
            request_id: RequestId::new([1; 32]),
            query: envelope.encode().unwrap(),
            signed_payment: SignedPayment::Empty,
            coefficient: Coefficient::ONE,
            timeout_ms: 1000,
            enable_debug: false,
            token_limit,
            answer_credit: None,
            receipt: None,
            account_tag: None,
        }
    }

    fn prepare_run(run: &WorkerRun, served: Option<&str>) -> Result<Prepared, Failure> {
        prepare(open(run)?, run.token_limit, served)
    }

    fn chat(body: &str, limit: Option<u32>) -> Result<Prepared, Failure> {
        prepare_run(&run("POST", "/v1/chat/completions", &[("Content-Type", "application/json")], body, limit), SERVED)
    }

    #[track_caller]
    fn check_body(body: &str, limit: Option<u32>, expected: &str, token_limit: Option<u32>) {
        let prepared = chat(body, limit).unwrap();
        let sent: serde_json::Value = serde_json::from_slice(prepared.request.body.expose()).unwrap();
        assert_eq!(sent, serde_json::from_str::<serde_json::Value>(expected).unwrap());
        assert_eq!(prepared.request.token_limit, token_limit);
    }

    #[test]
    fn token_limit_is_enforced() {
        check_body(r#"{"max_tokens":5}"#, Some(9), r#"{"max_tokens":5}"#, Some(5));
        check_body(r#"{"max_tokens":50}"#, Some(9), r#"{"max_tokens":9}"#, Some(9));
        let both = r#"{"max_tokens":9,"max_completion_tokens":9}"#;
        check_body(r#"{"max_completion_tokens":50}"#, Some(9), both, Some(9));
        check_body("{}", Some(9), r#"{"max_tokens":9}"#, Some(9));
        check_body(r#"{"n":3}"#, Some(9), r#"{"n":3,"max_tokens":3}"#, Some(3));
        check_body(r#"{"max_tokens":5}"#, None, r#"{"max_tokens":5}"#, Some(5));
    }

    #[test]
    fn two_limits_that_differ() {
        for limit in [None, Some(1), Some(500)] {
            for body in [r#"{"max_tokens":1,"max_completion_tokens":100000}"#, r#"{"n_predict":9,"max_tokens":1}"#] {
                let failure = chat(body, limit).unwrap_err();
                assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest), "{body}");
            }
        }
        // An honest app that says the same twice, and one that leaves one open.
        let twice = r#"{"max_tokens":7,"max_completion_tokens":7}"#;
        check_body(twice, Some(9), twice, Some(7));
        let open = r#"{"max_tokens":7,"max_completion_tokens":null}"#;
        check_body(open, Some(9), open, Some(7));
    }

    /// From an original proxy, too, which says no limit of its own.
    #[test]
    fn a_long_answer_for_the_price_of_one_token() {
        for limit in [None, Some(1), Some(500)] {
            for name in ["max_completion_tokens", "max_output_tokens", "n_predict"] {
                let asked = format!(r#"{{"{name}":1}}"#);
                check_body(&asked, limit, &format!(r#"{{"max_tokens":1,"{name}":1}}"#), Some(1));
            }
        }
    }

    #[test]
    fn a_list_of_prompts_for_the_price_of_one() {
        check_body(r#"{"prompt":["a","b","c"]}"#, Some(9), r#"{"prompt":["a","b","c"],"max_tokens":3}"#, Some(3));
        assert_eq!(chat(r#"{"prompt":["a","b"],"n":2}"#, Some(9)).unwrap().facts.choices(), 4);
        let failure = chat(r#"{"prompt":[[1],[2]],"n":5,"max_tokens":1}"#, Some(9)).unwrap_err();
        assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest));
        check_body(r#"{"prompt":[1,2,3]}"#, Some(9), r#"{"prompt":[1,2,3],"max_tokens":9}"#, Some(9));
    }

    #[test]
    fn prompt_tokens_are_estimated_low() {
        let fewest = |body: &str| chat(body, None).unwrap().fewest_prompt_tokens;
        assert_eq!(fewest(&format!(r#"{{"messages":[{{"content":"{}"}}]}}"#, "x".repeat(80))), 10);
        assert_eq!(fewest(r#"{"prompt":[[1,2],[3]]}"#), 3);
        assert_eq!(fewest("{}"), 0);
    }

    #[test]
    fn more_choices_than_tokens_are_refused() {
        for body in [r#"{"n":4000000000}"#, r#"{"best_of":10}"#] {
            let failure = chat(body, Some(9)).unwrap_err();
            assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest), "{body}");
        }
        check_body(r#"{"n":9,"max_tokens":1}"#, Some(9), r#"{"n":9,"max_tokens":1}"#, Some(1));
    }

    #[test]
    fn usage_is_asked_for_on_streams_and_nothing_else_changes() {
        check_body(
            r#"{"stream":true,"max_tokens":1}"#,
            None,
            r#"{"stream":true,"max_tokens":1,"stream_options":{"include_usage":true}}"#,
            Some(1),
        );
        let complete = r#"{ "stream" : true,"max_tokens":1, "stream_options":{"include_usage":true},"x":[1, 2]}"#;
        let prepared = chat(complete, Some(1)).unwrap();
        assert_eq!(&prepared.request.body.expose()[..], complete.as_bytes());
        assert!(prepared.streamed);
    }

    #[test]
    fn remote_image_url_is_refused_and_a_data_url_passes() {
        let body = |url: &str| {
            format!(
                r#"{{"max_tokens":1,"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
            )
        };
        for url in ["http://169.254.169.254/latest", "https://example.com/a.png", "file:///etc/passwd", "//host/a"] {
            let failure = chat(&body(url), None).unwrap_err();
            assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::Unprocessable), "{url}");
        }
        chat(&body("data:image/png;base64,AAAA"), None).unwrap();
    }

    #[test]
    fn a_body_that_names_another_model_is_refused() {
        let body = |model: &str| format!(r#"{{"model":"{model}","max_tokens":1}}"#);
        for model in ["Qwen/Qwen3-32B", "qwen/qwen3-8b", "Qwen/Qwen3-8B ", "", "@commit:hash"] {
            let failure = chat(&body(model), None).unwrap_err();
            assert_eq!((failure.blame, failure.code.http_status()), (Blame::Client, 400), "{model}");
        }
        for model in ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B@commit:hash"] {
            chat(&body(model), None).unwrap();
        }
        chat(r#"{"max_tokens":1}"#, None).unwrap();
    }

    #[test]
    fn engine_metrics_and_traversal_are_refused() {
        for (method, url) in [("GET", "/metrics"), ("GET", "/slots"), ("POST", "/v1/chat/completions/../../metrics")] {
            let failure = prepare_run(&run(method, url, &[], "{}", None), SERVED).unwrap_err();
            assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest), "{url}");
        }
    }

    #[test]
    fn header_smuggling_is_refused_and_other_headers_stay_behind() {
        for headers in [
            &[("Content-Type", "application/json"), ("content-type", "text/plain")][..],
            &[("Accept", "text/event-stream\u{e9}")],
        ] {
            assert!(prepare_run(&run("POST", "/v1/completions", headers, "{}", None), SERVED).is_err());
        }
        let headers =
            [("Authorization", "Bearer x"), ("Host", "evil"), ("Accept", "*/*"), ("Content-Type", "application/json")];
        let request = prepare_run(&run("POST", "/v1/completions", &headers, "{}", None), SERVED).unwrap().request;
        assert_eq!(request.accept.as_deref(), Some("*/*"));
        assert_eq!(request.content_type.as_deref(), Some("application/json"));
    }

    const FORM: &str = "multipart/form-data; boundary=\"XX\"";

    fn form(fields: &[(&str, &str)]) -> String {
        let field = |(name, value): &(&str, &str)| {
            format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let fields: String = fields.iter().map(field).collect();
        let file = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\naudio\r\n--XX--\r\n";
        fields + file
    }

    fn audio(content_type: &str, body: &str) -> Result<Prepared, Failure> {
        prepare_run(&run("POST", "/v1/audio/transcriptions", &[("Content-Type", content_type)], body, Some(4)), SERVED)
    }

    #[test]
    fn a_form_reaches_the_engine_as_it_is() {
        let body = form(&[("model", "Qwen/Qwen3-8B"), ("language", "en")]);
        let prepared = audio(FORM, &body).unwrap();
        assert_eq!(prepared.request.body.expose(), body.as_bytes());
        assert_eq!(prepared.request.content_type.as_deref(), Some("multipart/form-data; boundary=XX"));
        assert_eq!((prepared.request.token_limit, prepared.streamed), (None, false));
        // A stream of a client that did not ask for usage.
        let streamed = audio(FORM, &form(&[("model", "Qwen/Qwen3-8B"), ("stream", "true")])).unwrap();
        assert!(streamed.streamed);
        let sent = String::from_utf8(streamed.request.body.expose().to_vec()).unwrap();
        assert!(sent.contains("name=\"stream_include_usage\"\r\n\r\ntrue"));
    }

    #[test]
    fn a_form_that_two_readers_take_for_two_things_is_refused() {
        let model = ("model", "Qwen/Qwen3-8B");
        for (content_type, body) in [
            (FORM, form(&[("model", "Qwen/Qwen3-32B")])),
            (FORM, form(&[model, model])),
            (FORM, form(&[model, ("Model", "Qwen/Qwen3-32B")])),
            (FORM, form(&[model, ("response_format", "srt")])),
            (FORM, form(&[model, ("file", "http://169.254.169.254/")])),
            (FORM, format!("preamble\r\n{}", form(&[model]))),
            ("multipart/form-data; boundary=YY", form(&[model])),
            ("multipart/form-data; boundary=XX; boundary=YY", form(&[model])),
            ("application/json", form(&[model])),
            ("application/json", r#"{"model":"Qwen/Qwen3-8B"}"#.to_owned()),
        ] {
            let failure = audio(content_type, &body).unwrap_err();
            assert_eq!(
                (failure.blame, failure.code),
                (Blame::Client, FailureCode::BadRequest),
                "{content_type} {body}"
            );
        }
        assert!(prepare_run(&run("POST", "/v1/audio/transcriptions", &[], &form(&[model]), None), SERVED).is_err());
    }

    /// No token limit is written where engines know none.
    #[test]
    fn bodies_of_other_endpoints_are_not_changed() {
        for (url, body) in [
            ("/v1/embeddings", r#"{"model":"Qwen/Qwen3-8B","input":"a"}"#),
            ("/v1/rerank", r#"{"model":"Qwen/Qwen3-8B","query":"a","documents":["b"]}"#),
            ("/v1/images/generations", r#"{"model":"Qwen/Qwen3-8B","prompt":"a","stream":true}"#),
        ] {
            let prepared = prepare_run(&run("POST", url, &[], body, Some(0)), SERVED).unwrap();
            assert_eq!(prepared.request.body.expose(), body.as_bytes());
        }
    }
}
