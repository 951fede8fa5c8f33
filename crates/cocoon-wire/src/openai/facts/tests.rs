use super::super::{Edits, edit_body};
use super::*;
use crate::usage::UsageReader;

const TYPE: &str = "multipart/form-data; boundary=XX";

fn json(endpoint: Endpoint, body: &str) -> Result<RequestFacts, BodyError> {
    RequestFacts::read(endpoint, None, &Bytes::copy_from_slice(body.as_bytes()))
}

fn form_body(fields: &[(&str, &str)], file: (&str, usize)) -> Bytes {
    let mut body = String::new();
    for (name, value) in fields {
        body += &format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    let (name, len) = file;
    body += &format!(
        "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a\"\r\n\r\n{}\r\n",
        "a".repeat(len)
    );
    Bytes::from(body + "--XX--\r\n")
}

fn audio(fields: &[(&str, &str)], len: usize) -> Result<RequestFacts, BodyError> {
    RequestFacts::read(Endpoint::Transcriptions, Some(TYPE), &form_body(fields, ("file", len)))
}

fn image(body: &str) -> Result<RequestFacts, BodyError> {
    json(Endpoint::ImageGenerations, body)
}

/// What an answer is counted as.
fn usage(facts: &RequestFacts, answer: &str) -> Option<(u64, u64)> {
    let mut reader = UsageReader::new();
    reader.push(answer.as_bytes());
    facts.told(&reader.told()).map(|usage| (usage.prompt, usage.completion))
}

#[test]
fn chat_is_bounded_as_before() {
    let body = r#"{"model":"m","n":3,"max_completion_tokens":7}"#;
    let facts = json(Endpoint::ChatCompletions, body).unwrap();
    assert_eq!((facts.prompt_tokens_max(), facts.choices(), facts.token_limit(1_000)), (body.len() as u64, 3, 7));
    assert_eq!(json(Endpoint::Completions, "{}").unwrap().token_limit(1_000), 1_000);
    // Engines put several tokens into one byte of nothing: chat is not cut here.
    assert_eq!(usage(&facts, r#"{"usage":{"prompt_tokens":999999,"completion_tokens":9}}"#), Some((999_999, 9)));
    assert_eq!(usage(&facts, r#"{"usage":{"total_tokens":9}}"#), None);
}

#[test]
fn embeddings_are_their_prompt() {
    let body = r#"{"model":"m","input":["a","b"],"max_tokens":5,"n":9}"#;
    let facts = json(Endpoint::Embeddings, body).unwrap();
    assert_eq!((facts.prompt_tokens_max(), facts.choices(), facts.token_limit(1_000)), (body.len() as u64, 1, 0));
    assert_eq!(usage(&facts, r#"{"usage":{"prompt_tokens":6,"total_tokens":6}}"#), Some((6, 0)));
    assert_eq!(usage(&facts, r#"{"usage":{"prompt_tokens":6,"completion_tokens":500}}"#), Some((6, 0)));
    assert_eq!(usage(&facts, r#"{"data":[]}"#), None);
    assert_eq!(facts.untold(4), Usage { prompt: 4, ..Usage::default() });
}

#[test]
fn a_query_is_read_once_for_each_document() {
    let body = format!(r#"{{"model":"m","query":"{}","documents":["a","b",{{"text":"c"}}]}}"#, "q".repeat(98));
    let facts = json(Endpoint::Rerank, &body).unwrap();
    assert_eq!(facts.prompt_tokens_max(), body.len() as u64 + 3 * (100 + RERANK_TEMPLATE_TOKENS_MAX));
    assert_eq!(usage(&facts, r#"{"usage":{"total_tokens":56},"results":[]}"#), Some((56, 0)));
    assert_eq!(usage(&facts, r#"{"usage":{"completion_tokens":0,"total_tokens":56}}"#), Some((56, 0)));
    assert_eq!(usage(&facts, r#"{"usage":{"completion_tokens":3}}"#), Some((0, 0)));
    for (body, field) in [
        (r#"{"documents":["a"]}"#, "query"),
        (r#"{"query":"a"}"#, "documents"),
        (r#"{"query":"a","documents":"b"}"#, "documents"),
        (r#"{"query":"a","documents":["b"],"Documents":["c"]}"#, "documents"),
        (r#"{"query":"a","documents":["b"],"QUERY":"a long one"}"#, "query"),
    ] {
        assert!(
            matches!(json(Endpoint::Rerank, body), Err(BodyError::BadField { field: found, .. }) if found == field),
            "{body}"
        );
    }
}

#[test]
fn audio_is_counted_by_its_length() {
    let facts = audio(&[("model", "m")], 32_000).unwrap();
    assert_eq!(facts.fields.model.as_deref(), Some("m"));
    let around = form_body(&[("model", "m")], ("file", 0)).len() as u64;
    assert_eq!((facts.prompt_tokens_max(), facts.choices(), facts.token_limit(9)), (around + 4_000, 1, 2_000));
    for (answer, expected) in [
        (r#"{"text":"x","usage":{"type":"duration","seconds":2}}"#, (100, 0)),
        (r#"{"text":"x","usage":{"type":"duration","seconds":1.01}}"#, (100, 0)),
        (r#"{"text":"x","usage":{"type":"duration","seconds":2.0}}"#, (100, 0)),
        (r#"{"text":"x","duration":8.47,"segments":[{"duration":1}]}"#, (450, 0)),
        (r#"{"duration":"8.47","text":"x"}"#, (450, 0)),
        (r#"{"usage":{"type":"tokens","input_tokens":14,"output_tokens":45,"total_tokens":59}}"#, (14, 45)),
        // Beyond what the file can be: the engine's loss.
        (r#"{"usage":{"type":"duration","seconds":100000000}}"#, (around + 4_000 + 512, 0)),
        (r#"{"usage":{"input_tokens":1,"output_tokens":999999}}"#, (1, 2_000)),
    ] {
        assert_eq!(usage(&facts, answer), Some(expected), "{answer}");
    }
    for answer in [
        "{\"text\":\"x\"}",
        r#"{"duration":""}"#,
        r#"{"duration":"-3"}"#,
        r#"{"duration":"\"8"}"#,
        r#"{"duration":-3}"#,
    ] {
        assert_eq!(usage(&facts, answer), None, "{answer}");
    }
    // Two channels of 16 bits at 48 kHz: a sixth of a second.
    assert_eq!(facts.untold(9), Usage { prompt: 8, ..Usage::default() });
}

#[test]
fn a_stream_of_a_transcript_says_its_usage_at_its_end() {
    let facts = audio(&[("model", "m"), ("stream", "true")], 32_000).unwrap();
    assert!(facts.fields.stream && !facts.fields.include_usage);
    let done = "data: {\"type\":\"transcript.text.done\",\"text\":\"x\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":9}}\n\n";
    assert_eq!(usage(&facts, done), Some((14, 9)));
    let by_length = "data: {\"type\":\"transcript.text.done\",\"usage\":{\"type\":\"duration\",\"seconds\":3}}\n\n";
    assert_eq!(usage(&facts, by_length), Some((150, 0)));
}

#[test]
fn a_transcript_that_does_not_say_its_length() {
    for format in ["text", "srt", "vtt", "JSON", ""] {
        let refused = audio(&[("model", "m"), ("response_format", format)], 9);
        assert!(matches!(refused, Err(BodyError::Unsupported { field: "response_format", .. })), "{format}");
    }
    for format in ["json", "verbose_json", "diarized_json"] {
        audio(&[("model", "m"), ("response_format", format)], 9).unwrap();
    }
}

#[test]
fn images_are_counted_by_their_size() {
    for (body, tokens) in [
        (r#"{"prompt":"a"}"#, 4_096),
        (r#"{"prompt":"a","size":null,"n":null}"#, 4_096),
        (r#"{"prompt":"a","size":"auto"}"#, 6_144),
        (r#"{"prompt":"a","size":"512x512","n":3}"#, 3_072),
        (r#"{"prompt":"a","size":"17x16"}"#, 2),
    ] {
        let facts = image(body).unwrap();
        assert_eq!(
            (facts.token_limit(7), facts.choices(), facts.prompt_tokens_max()),
            (tokens, 1, body.len() as u64),
            "{body}"
        );
        assert_eq!(usage(&facts, r#"{"data":[]}"#), None);
        assert_eq!(facts.untold(3), Usage { prompt: 3, completion: tokens.into(), ..Usage::default() });
        let told = r#"{"usage":{"input_tokens":5,"output_tokens":100000000,"total_tokens":9}}"#;
        assert_eq!(usage(&facts, told), Some((5, tokens.into())));
        assert_eq!(usage(&facts, r#"{"usage":{"input_tokens":5,"output_tokens":1}}"#), Some((5, 1)));
    }
}

#[test]
fn an_image_that_is_larger_than_what_is_paid_for() {
    for (body, field) in [
        (r#"{"size":"0x16"}"#, "size"),
        (r#"{"size":"16"}"#, "size"),
        (r#"{"size":"+16x16"}"#, "size"),
        (r#"{"size":"016x16"}"#, "size"),
        (r#"{"size":"16X16"}"#, "size"),
        (r#"{"size":"16x16x16"}"#, "size"),
        (r#"{"size":"9000x16"}"#, "size"),
        (r#"{"size":16}"#, "size"),
        (r#"{"size":"16x16","Size":"8192x8192"}"#, "size"),
        (r#"{"width":8192}"#, "width"),
        (r#"{"height":8192}"#, "height"),
        (r#"{"n":0}"#, "n"),
        (r#"{"n":4000000000,"size":"8192x8192"}"#, "n"),
        (r#"{"response_format":"url"}"#, "response_format"),
        (r#"{"image":"http://169.254.169.254/"}"#, "image"),
        (r#"{"url":"http://169.254.169.254/"}"#, "url"),
    ] {
        assert_eq!(image(body).unwrap_err().field(), Some(field), "{body}");
    }
}

#[test]
fn an_edit_is_counted_by_the_size_that_it_asks_for() {
    let read = |fields: &[(&str, &str)], len| {
        RequestFacts::read(Endpoint::ImageEdits, Some(TYPE), &form_body(fields, ("image[]", len)))
    };
    let facts = read(&[("model", "m"), ("prompt", "a hat"), ("size", "256x256"), ("n", "2")], 1_000_000).unwrap();
    let around =
        form_body(&[("model", "m"), ("prompt", "a hat"), ("size", "256x256"), ("n", "2")], ("image[]", 0)).len();
    assert_eq!((facts.token_limit(9), facts.prompt_tokens_max()), (512, around as u64 + 16_384));
    assert_eq!(facts.fields.prompt_text_bytes, 5);
    for (fields, field) in [
        (&[("image", "https://example.com/a.png")][..], "image"),
        (&[("url", "https://example.com/a.png")], "url"),
        (&[("url[]", "https://example.com/a.png")], "url"),
        (&[("response_format", "url")], "response_format"),
        (&[("width", "9")], "width"),
    ] {
        assert_eq!(read(fields, 9).unwrap_err().field(), Some(field));
    }
}

#[test]
fn a_form_field_in_other_letters() {
    for name in ["Model", "MODEL", "model[]", "sTream", "stream[]", "_charset_", "File[]"] {
        assert!(audio(&[(name, "true")], 9).is_err(), "{name}");
    }
    for (name, value) in
        [("stream", "yes"), ("stream", ""), ("timeout", "0"), ("max_coefficient", "-1"), ("file", "http://x/")]
    {
        assert!(audio(&[(name, value)], 9).is_err(), "{name}={value}");
    }
    // Fields that nobody here needs pass unread.
    audio(&[("model", "m"), ("temperature", "0"), ("language", "en"), ("include[]", "logprobs")], 9).unwrap();
}

#[test]
fn a_form_without_a_file() {
    let body = Bytes::from_static(b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--XX--");
    for (endpoint, field) in [(Endpoint::Transcriptions, "file"), (Endpoint::ImageEdits, "image")] {
        let refused = RequestFacts::read(endpoint, Some(TYPE), &body);
        assert!(matches!(refused, Err(BodyError::BadField { field: found, .. }) if found == field));
    }
    assert_eq!(RequestFacts::read(Endpoint::Transcriptions, None, &body), Err(BodyError::NotMultipart));
    assert_eq!(
        RequestFacts::read(Endpoint::Transcriptions, Some("application/json"), &body),
        Err(BodyError::NotMultipart)
    );
}

#[test]
fn own_fields_are_taken_out_and_usage_is_asked_for() {
    let own = [("max_coefficient", "2000"), ("timeout", "1.5"), ("enable_debug", "true"), ("request_guid", "g")];
    let fields = [&own[..], &[("model", "m"), ("stream", "true")]].concat();
    let body = form_body(&fields, ("file", 100));
    let facts = RequestFacts::read(Endpoint::Transcriptions, Some(TYPE), &body).unwrap();
    assert_eq!((facts.fields.timeout_ms, facts.fields.enable_debug), (Some(1_500), true));
    assert_eq!(facts.fields.request_guid.as_deref(), Some("g"));
    let edits =
        Edits { strip_cocoon_fields: true, max_tokens_if_missing: Some(5), include_usage: true, ..Edits::default() };
    let edited = edit_body(Endpoint::Transcriptions, Some(TYPE), &body, &edits).unwrap();
    let expected = form_body(&[("model", "m"), ("stream", "true")], ("file", 100));
    let part = "--XX\r\nContent-Disposition: form-data; name=\"stream_include_usage\"\r\n\r\ntrue\r\n--XX--\r\n";
    let expected = [expected.strip_suffix(b"--XX--\r\n").unwrap(), part.as_bytes()].concat();
    assert_eq!(edited, expected);
    // Done once, it is done.
    assert_eq!(edit_body(Endpoint::Transcriptions, Some(TYPE), &edited, &edits).unwrap(), edited);
    // One that says no.
    let no = form_body(&[("stream", "true"), ("stream_include_usage", "false")], ("file", 1));
    let yes = edit_body(Endpoint::Transcriptions, Some(TYPE), &no, &edits).unwrap();
    assert!(RequestFacts::read(Endpoint::Transcriptions, Some(TYPE), &yes).unwrap().fields.include_usage);
    // Of JSON that has no token limit only our own fields go.
    let body = Bytes::from_static(br#"{"timeout":5,"input":"a","stream":true}"#);
    let edited = edit_body(Endpoint::Embeddings, None, &body, &edits).unwrap();
    assert_eq!(edited, &br#"{"input":"a","stream":true}"#[..]);
}
