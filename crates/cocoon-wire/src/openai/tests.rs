use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn read(body: &str) -> Result<RequestFields, BodyError> {
    RequestFields::read(&Bytes::copy_from_slice(body.as_bytes()))
}

fn edit(body: &str, edits: &Edits) -> String {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let edited = edit_request(&body, edits).unwrap();
    let text = String::from_utf8(edited.to_vec()).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    text
}

const STRIP: Edits =
    Edits { strip_cocoon_fields: true, max_tokens_if_missing: None, max_tokens_cap: None, include_usage: false };
const LIMIT: Edits = Edits { strip_cocoon_fields: false, max_tokens_if_missing: Some(1_000), ..STRIP };
const USAGE: Edits = Edits { strip_cocoon_fields: false, include_usage: true, ..STRIP };
const ALL: Edits = Edits { max_tokens_if_missing: Some(1_000), include_usage: true, ..STRIP };

#[test]
fn fields_are_read() {
    let fields = read(
        r#" {"model" : "m\u0041", "stream":true, "stream_options":{"include_usage":true,"x":1},
            "max_tokens": 40, "max_completion_tokens":40, "max_output_tokens":null, "n":3,
            "best_of":2, "max_coefficient":4000, "timeout":1.5, "enable_debug":true,
            "request_guid":"g", "messages":[{"role":"user","content":"hi"}], "unknown":[{}]} "#,
    )
    .unwrap();
    assert_eq!(fields.model.as_deref(), Some("mA"));
    assert!(fields.stream && fields.include_usage && fields.enable_debug && fields.has_max_tokens);
    assert_eq!((fields.max_tokens, fields.n, fields.best_of), (Some(40), 3, 2));
    assert_eq!(fields.max_coefficient, Some(Coefficient::from_thousandths(4_000)));
    assert_eq!(fields.timeout_ms, Some(1_500));
    assert_eq!(fields.request_guid.as_deref(), Some("g"));
    assert!(!fields.has_remote_image);
    assert_eq!(read("{}"), Ok(RequestFields::default()));
}

#[test]
fn fields_of_a_wrong_type_are_refused() {
    for body in [
        r#"{"model":1}"#,
        r#"{"stream":"yes"}"#,
        r#"{"stream_options":[]}"#,
        r#"{"stream_options":{"include_usage":1}}"#,
        r#"{"max_tokens":-1}"#,
        r#"{"max_tokens":1.5}"#,
        r#"{"max_tokens":4294967296}"#,
        r#"{"max_tokens":"1"}"#,
        r#"{"n":0}"#,
        r#"{"timeout":0}"#,
        r#"{"timeout":-1}"#,
        r#"{"timeout":"1"}"#,
    ] {
        assert!(matches!(read(body), Err(BodyError::BadField { .. })), "{body}");
    }
}

#[test]
fn two_limits_that_differ() {
    let differ = |body: &str, field, other| assert_eq!(read(body), Err(BodyError::LimitsDiffer { field, other }));
    differ(r#"{"max_tokens":1,"max_completion_tokens":100000}"#, "max_completion_tokens", "max_tokens");
    differ(r#"{"n_predict":9,"max_tokens":10}"#, "max_tokens", "n_predict");
    differ(r#"{"max_tokens":7,"max_output_tokens":7,"n_predict":8}"#, "n_predict", "max_tokens");
    let error = read(r#"{"max_tokens":1,"max_completion_tokens":2}"#).unwrap_err().to_string();
    assert_eq!(error, "`max_completion_tokens` and `max_tokens` are both given and differ: give one token limit");
    let fields = read(r#"{"max_tokens":7,"max_completion_tokens":7,"max_output_tokens":null}"#).unwrap();
    assert_eq!((fields.max_tokens, fields.has_max_tokens), (Some(7), true));
}

/// A worker's engine that does not know the name would generate to its own maximum.
#[test]
fn a_long_answer_for_the_price_of_one_token() {
    for name in ["max_completion_tokens", "max_output_tokens", "n_predict"] {
        let fields = read(&format!("{{\"{name}\":1}}")).unwrap();
        assert_eq!((fields.max_tokens, fields.has_max_tokens), (Some(1), false), "{name}");
        for edits in [LIMIT, Edits { max_tokens_cap: Some(9), ..LIMIT }] {
            let edited = edit(&format!("{{\"{name}\":1,\"max_tokens\":null}}"), &edits);
            assert_eq!(edited, format!("{{\"{name}\":1,\"max_tokens\":1}}"));
            assert_eq!(edit(&format!("{{\"{name}\":1}}"), &edits), format!("{{\"max_tokens\":1,\"{name}\":1}}"));
        }
        let capped = edit(&format!("{{\"{name}\":50}}"), &Edits { max_tokens_cap: Some(9), ..LIMIT });
        assert_eq!(capped, format!("{{\"max_tokens\":9,\"{name}\":9}}"), "both names say the same");
    }
}

#[test]
fn limits_that_engines_take_for_none() {
    for body in [
        r#"{"max_tokens":0}"#,
        r#"{"n_predict":-1}"#,
        r#"{"max_tokens":1,"Max_Tokens":9}"#,
        "{\"to\u{212a}\":1,\"N\":9}",
    ] {
        assert!(matches!(read(body), Err(BodyError::BadField { .. })), "{body}");
    }
    assert!(read("{\"max_to\u{212a}ens\":9}").is_err() && read("{\"be\u{17f}t_of\":9}").is_err());
    assert!(read(r#"{"Seed":1,"max_tokens":1}"#).is_ok());
}

#[test]
fn a_list_of_prompts_for_the_price_of_one() {
    let counted = |prompt: &str| {
        let fields = read(&format!(r#"{{"prompt":{prompt},"n":2}}"#)).unwrap();
        (fields.choices(), fields.prompt_token_ids)
    };
    assert_eq!(counted(r#"["a","b","c"]"#), (6, 0));
    assert_eq!(counted("[[1,2],[3]]"), (4, 3));
    assert_eq!(counted(r#"[1,"a"]"#), (4, 1));
    for (one, ids) in [(r#""a""#, 0), ("null", 0), ("[]", 0), (r#"["a"]"#, 0), ("[1, 2,3]", 3), ("[[1,2]]", 2)] {
        assert_eq!(counted(one), (2, ids), "{one}");
    }
    assert_eq!(read(r#"{"prompt":["a","b"],"prompt_embeds":"x"}"#).unwrap().choices(), 3);
    assert_eq!(read(r#"{"prompt":null,"prompt_embeds":"x","n_cmpl":4}"#).unwrap().choices(), 4);
}

#[test]
fn text_of_prompts_is_measured_without_media() {
    let bytes = |body: &str| read(body).unwrap().prompt_text_bytes;
    assert_eq!(bytes(r#"{"model":"m","messages":[{"role":"user","content":"12345"}],"user":"somebody"}"#), 5);
    let parts = r#"{"messages":[{"content":[{"type":"text","text":"1234"},{"type":"image_url","image_url":{"url":"data:,x"}},
        {"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}],"tools":[{"function":{"name":"f"}}]}"#;
    assert_eq!(bytes(parts), 4 + 1);
    assert_eq!(bytes(r#"{"prompt":["ab","c"],"suffix":"d"}"#), 4);
    assert_eq!(bytes(r#"{"prompt":"a\n\u0062\\\""}"#), 5, "an escape is a byte at least");
}

#[test]
fn bodies_that_are_no_object_are_refused_without_an_echo() {
    assert_eq!(read("[1]"), Err(BodyError::NotAnObject));
    assert_eq!(read(""), Err(BodyError::Syntax { offset: 0 }));
    assert_eq!(read("{\"a\":1} x"), Err(BodyError::Syntax { offset: 8 }));
    let error = read("{\"secret\":1,,}").unwrap_err().to_string();
    assert_eq!(error, "the body is not valid JSON (at byte 12)");
    let invalid = Bytes::from_static(b"{\"a\":\"\xff\"}");
    assert_eq!(RequestFields::read(&invalid), Err(BodyError::Syntax { offset: 6 }));
}

#[test]
fn escaped_duplicate_key() {
    for body in [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","mod\u0065l":"b"}"#,
        r#"{"max_tokens":1,"\u006dax_tokens":100000}"#,
        r#"{"x":1,"x":1}"#,
        r#"{"stream_options":{"include_usage":true,"include_us\u0061ge":false}}"#,
    ] {
        assert!(matches!(read(body), Err(BodyError::DuplicateKey { .. })), "{body}");
    }
    // A lone escaped key counts as what it spells.
    assert_eq!(read(r#"{"mod\u0065l":"a"}"#).unwrap().model.as_deref(), Some("a"));
}

#[test]
fn nesting_bomb() {
    let bomb = format!("{{\"x\":{}", "[".repeat(1_000_000));
    assert!(matches!(read(&bomb), Err(BodyError::TooDeep { .. })));
    let bomb = format!("{{\"x\":{}", "{\"a\":".repeat(1_000_000));
    assert!(matches!(read(&bomb), Err(BodyError::TooDeep { .. })));
}

/// A few bytes of body are some hundred bytes of memory each, for an engine that builds a tree of them.
#[test]
fn a_body_of_half_a_million_empty_lists() {
    use crate::limits::JSON_VALUES_MAX;
    for item in ["[]", "[0]", "{}", "0", "{\"a\":0}"] {
        let items = vec![item; JSON_VALUES_MAX + 1].join(",");
        for body in [format!("{{\"ignored\":[{items}]}}"), format!("{{\"input\":[{items}],\"model\":\"m\"}}")] {
            assert_eq!(read(&body), Err(BodyError::TooLarge), "{item}");
        }
    }
    let tokens = vec!["0"; 300_000].join(",");
    assert!(read(&format!("{{\"input\":[{tokens}]}}")).is_ok());
}

#[test]
fn member_flood() {
    let members: Vec<String> = (0..1_000).map(|n| format!("\"k{n}\":1")).collect();
    assert_eq!(read(&format!("{{{}}}", members.join(","))), Err(BodyError::TooLarge));
}

#[test]
fn remote_image_url() {
    let remote = |value: &str| {
        let body = format!(r#"{{"messages":[{{"content":[{{"type":"image_url","image_url":{value}}}]}}]}}"#);
        read(&body).unwrap().has_remote_image
    };
    assert!(remote(r#"{"url":"http://10.0.0.1/x"}"#));
    assert!(remote(r#"{"url":"https://x/y.png"}"#));
    assert!(remote(r#"{"url":"file:///etc/passwd"}"#));
    assert!(remote(r#"{"url":"\u0068ttp://x"}"#));
    assert!(remote(r#""ftp://x""#));
    assert!(remote(r#"{"url":"data:image/png;base64,AA","url":"http://x"}"#));
    assert!(remote(r#"{"url":" //x"}"#));
    assert!(!remote(r#"{"url":"data:image/png;base64,AA","detail":"high"}"#));
    assert!(!remote(r#"{"url":"DATA:image/png;base64,AA"}"#));
    assert!(!remote(r#""data:,""#));
    assert!(read(r#"{"x":[{"im\u0061ge_url":"http://x"}]}"#).unwrap().has_remote_image);
    assert!(read(r#"{"x":{"video_url":{"url":"http://x"}}}"#).unwrap().has_remote_image);
    // Text about URLs, and a tool's schema, are not media.
    assert!(!read(r#"{"content":"image_url http://x","url":"http://x"}"#).unwrap().has_remote_image);
    let schema = r#"{"properties":{"image_url":{"type":"string","description":"http://x"}}}"#;
    assert!(!read(schema).unwrap().has_remote_image);
}

#[test]
fn nothing_to_change_returns_the_same_buffer() {
    let body = Bytes::from_static(b" { \"model\":\"m\" , \"max_tokens\":5 } ");
    let edited = edit_request(&body, &ALL).unwrap();
    assert_eq!(edited.as_ptr(), body.as_ptr());
    assert_eq!(edited, body);
}

#[test]
fn cocoon_fields_are_stripped() {
    let check = |body: &str, expected: &str| assert_eq!(edit(body, &STRIP), expected);
    check(r#"{"timeout":1}"#, "{}");
    check(r#"{ "timeout":1 , "enable_debug":true }"#, "{}");
    check(r#"{"timeout":1,"a":2}"#, r#"{"a":2}"#);
    check(r#"{"a":2,"timeout":1}"#, r#"{"a":2}"#);
    check(r#"{"a":2, "timeout":1 , "b" : 3 }"#, r#"{"a":2, "b" : 3 }"#);
    check(
        r#"{"max_coefficient":1,"timeout":1,"a":"timeout","enable_debug":false,"request_guid":"x"}"#,
        r#"{"a":"timeout"}"#,
    );
    check(r#"{"a":1,"t\u0069meout":9}"#, r#"{"a":1}"#);
    check(r#"{"x":{"timeout":1}}"#, r#"{"x":{"timeout":1}}"#);
}

#[test]
fn a_missing_limit_is_injected() {
    assert_eq!(edit("{}", &LIMIT), r#"{"max_tokens":1000}"#);
    assert_eq!(edit(" { } ", &LIMIT), r#" {"max_tokens":1000 } "#);
    assert_eq!(edit(r#"{"a":1}"#, &LIMIT), r#"{"max_tokens":1000,"a":1}"#);
    let given = r#"{"max_tokens":7,"max_completion_tokens":7}"#;
    assert_eq!(edit(given, &LIMIT), given);
    let both = Edits { strip_cocoon_fields: true, ..LIMIT };
    assert_eq!(edit(r#"{"timeout":1}"#, &both), r#"{"max_tokens":1000}"#);
    assert_eq!(edit(r#"{"timeout":1,"a":2}"#, &both), r#"{"max_tokens":1000,"a":2}"#);
    let cap = Edits { max_tokens_cap: Some(10), ..LIMIT };
    assert_eq!(edit("{}", &cap), r#"{"max_tokens":10}"#);
    assert_eq!(
        edit(r#"{"max_tokens": 50,"max_completion_tokens": 50}"#, &cap),
        r#"{"max_tokens": 10,"max_completion_tokens": 10}"#
    );
}

#[test]
fn a_null_limit_does_not_become_a_duplicate() {
    // Two `max_tokens` would be refused by the next hop.
    assert_eq!(edit(r#"{"max_tokens":null}"#, &LIMIT), r#"{"max_tokens":1000}"#);
    let other = r#"{"max_completion_tokens":null,"a":1}"#;
    assert_eq!(edit(other, &LIMIT), r#"{"max_tokens":1000,"max_completion_tokens":null,"a":1}"#);
}

#[test]
fn usage_is_asked_for() {
    let check = |body: &str, expected: &str| assert_eq!(edit(body, &USAGE), expected);
    check(r#"{"a":1}"#, r#"{"a":1}"#);
    check(r#"{"stream":false}"#, r#"{"stream":false}"#);
    let absent = r#"{"stream_options":{"include_usage":true},"stream":true}"#;
    check(r#"{"stream":true}"#, absent);
    check(absent, absent);
    check(r#"{"stream":true,"stream_options":null}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#);
    check(r#"{"stream":true,"stream_options":{ }}"#, r#"{"stream":true,"stream_options":{"include_usage":true }}"#);
    check(
        r#"{"stream":true,"stream_options":{"x": 1}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true,"x": 1}}"#,
    );
    check(
        r#"{"stream_options":{"include_usage" : false, "x":1},"stream":true}"#,
        r#"{"stream_options":{"include_usage" : true, "x":1},"stream":true}"#,
    );
}

fn body() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "model",
        "timeout",
        "enable_debug",
        "max_tokens",
        "max_completion_tokens",
        "a",
        "b",
        "stream",
        "stream_options",
        "request_guid",
        "t\\u0069meout",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "null",
        "true",
        "false",
        "\"x\"",
        "{}",
        "{\"include_usage\":false}",
        "[1,{\"a\":2}]",
        " 1 ",
        "\n\"y\\n\"",
    ]);
    prop::collection::vec((key, value), 0..6).prop_map(|members| {
        let members: Vec<String> = members.iter().map(|(key, value)| format!(" \"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// The edited body means what serde_json says it should mean.
    #[test]
    fn edits_mean_what_they_say(body in body()) {
        let bytes = Bytes::from(body.clone());
        let Ok(fields) = RequestFields::read(&bytes) else { return Ok(()) };
        let edited = edit_request(&bytes, &ALL).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(&body).unwrap();
        let object = expected.as_object_mut().unwrap();
        for key in ["max_coefficient", "timeout", "enable_debug", "request_guid"] {
            object.remove(key);
        }
        if !fields.has_max_tokens {
            object.insert("max_tokens".to_owned(), fields.max_tokens.unwrap_or(1_000).into());
        }
        if fields.stream {
            let options = object.entry("stream_options").or_insert(serde_json::Value::Null);
            if options.is_null() {
                *options = serde_json::json!({});
            }
            options["include_usage"] = true.into();
        }
        let actual: serde_json::Value = serde_json::from_slice(&edited).unwrap();
        prop_assert_eq!(actual, expected);
        // Editing again changes nothing.
        let again = edit_request(&edited, &ALL).unwrap();
        prop_assert_eq!(again.as_ptr(), edited.as_ptr());
    }
}
