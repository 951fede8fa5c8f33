use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn read(chunks: &[&[u8]]) -> Option<(u64, u64, u64, u64)> {
    let mut reader = UsageReader::new();
    for chunk in chunks {
        reader.push(chunk);
    }
    reader.usage().map(|u| (u.prompt, u.cached, u.completion, u.reasoning))
}

/// Reads whole, byte by byte, and at every single cut: all must agree.
fn check(body: &str, expected: Option<(u64, u64, u64, u64)>) {
    let bytes = body.as_bytes();
    assert_eq!(read(&[bytes]), expected, "{body}");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single), expected, "byte by byte: {body}");
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(read(&[a, b]), expected, "cut at {cut}: {body}");
    }
}

#[test]
fn json_documents() {
    check(r#"{"usage":{"prompt_tokens":34,"completion_tokens":5}}"#, Some((34, 0, 5, 0)));
    check(
        "{\n  \"choices\" : [ { \"x\": [1, {}] } ],\r\n  \"usage\" : {\n \"prompt_tokens\" : 3 ,\n\
         \"prompt_tokens_details\" : { \"cached_tokens\" : 2 } , \"completion_tokens\":9,\n\
         \"completion_tokens_details\": {\"reasoning_tokens\":4, \"audio_tokens\": 1}, \"x\":{\"y\":[1]}}\n}\n",
        Some((3, 2, 9, 4)),
    );
    check(
        r#"{"usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":1},"output_tokens":8,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":15}}"#,
        Some((7, 1, 8, 2)),
    );
    check("", None);
    check("   \n", None);
    check(r#"{"error":{"message":"no"}}"#, None);
    check(r#"{"usage":null}"#, None);
    check(r#"{"usage":{}}"#, None);
    check(r#"{"usage":{"prompt_tokens":1,"prompt_tokens_details":null}}"#, Some((1, 0, 0, 0)));
}

#[test]
fn newline_delimited_json() {
    check(
        "{\"choices\":[{\"x\":1}],\"usage\":null}\n{\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
        Some((1, 0, 2, 0)),
    );
}

#[test]
fn events() {
    check(
        "data: {\"choices\":[{\"delta\":{}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
        Some((1, 0, 2, 0)),
    );
    // CRLF, comments, other fields, no space after the colon, a byte-order mark.
    check(
        "\u{feff}: hi\r\nevent: x\r\ndata:{\"usage\":{\"prompt_tokens\":4}}\r\n\r\ndata: [DONE]\r\n\r\n",
        Some((4, 0, 0, 0)),
    );
    check("data: {\"usage\":{\"prompt_tokens\":4}}\r\rdata: x\r\r", Some((4, 0, 0, 0)));
    // One event over several data lines, the literal key in only one of them.
    check("data: {\"choices\":[],\ndata: \"usage\":\ndata: {\"prompt_tokens\":6\ndata: }}\n\n", Some((6, 0, 0, 0)));
    // A broken event does not blind the reader to the next.
    check("data: {\"a\":]]]\n\ndata: {\"usage\":{\"prompt_tokens\":2}}\n\n", Some((2, 0, 0, 0)));
    check("datax: {\"usage\":{\"prompt_tokens\":2}}\n\n", None);
    check("dat: {\"usage\":{\"prompt_tokens\":2}}\n\n", None);
}

#[test]
fn typed_events_of_other_apis() {
    check(
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}}\n\n",
        Some((3, 0, 4, 0)),
    );
    check(
        "data: {\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\ndata: {\"usage\":{\"output_tokens\":12}}\n\n",
        Some((9, 0, 12, 0)),
    );
}

#[test]
fn the_last_usage_wins() {
    check(
        "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\ndata: {\"choices\":[{}],\"usage\":null}\n\ndata: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n",
        Some((5, 0, 2, 0)),
    );
}

#[test]
fn usage_in_content_string() {
    let quoted = r#"\"usage\":{\"prompt_tokens\":999999,\"completion_tokens\":1}"#;
    check(&format!("{{\"choices\":[{{\"message\":{{\"content\":\"{quoted}}}}}\"}}}}]}}"), None);
    check(&format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"}}]}},{quoted}\"}}}}]}}\n\n"), None);
    // A backslash before the closing quote, and a new line within the text.
    check(r#"{"content":"\\","usage":{"prompt_tokens":2}}"#, Some((2, 0, 0, 0)));
    check("data: {\"content\":\"a\\n\\ndata: {\\\"usage\\\":{\\\"prompt_tokens\\\":9}}\"}\n\n", None);
}

#[test]
fn usage_elsewhere() {
    // Tool arguments, deeper objects, arrays and keys in disguise are not the engine's usage.
    check(r#"{"choices":[{"usage":{"prompt_tokens":9}}]}"#, None);
    check(r#"{"x":{"usage":{"prompt_tokens":9}}}"#, None);
    check(r#"[{"usage":{"prompt_tokens":9}}]"#, None);
    check(r#"{"usage":[{"prompt_tokens":9}]}"#, None);
    check(r#"{"usage":{"x":{"prompt_tokens":9}}}"#, None);
    check(r#"{"us\u0061ge":{"prompt_tokens":9}}"#, None);
    check(r#"{"a":"usage","b":{"prompt_tokens":9}}"#, None);
    check(r#"{"response":{"response":{"usage":{"prompt_tokens":9}}}}"#, None);
    check(r#""usage":{"prompt_tokens":9}"#, None);
}

#[test]
fn counts_that_are_none() {
    for count in ["-1", "1.5", "1e3", "99999999999999999999999", "9223372036854775808", "1x"] {
        let body = format!("{{\"usage\":{{\"prompt_tokens\":{count},\"completion_tokens\":3}}}}");
        check(&body, None);
        let mut reader = UsageReader::new();
        reader.push(body.as_bytes());
        assert!(reader.is_malformed(), "{count}");
    }
    check(r#"{"usage":{"prompt_tokens":"7","completion_tokens":3}}"#, Some((0, 0, 3, 0)));
    check(r#"{"usage":{"prompt_tokens":9223372036854775807}}"#, Some((i64::MAX as u64, 0, 0, 0)));
}

#[test]
fn nesting_bomb() {
    let mut bomb = "[".repeat(1_000_000);
    bomb.push_str(r#"{"usage":{"prompt_tokens":9}}"#);
    assert_eq!(read(&[bomb.as_bytes()]), None);
    let deep = format!("{{\"x\":{}1{},\"usage\":{{\"prompt_tokens\":9}}}}", "[".repeat(100), "]".repeat(100));
    assert_eq!(read(&[deep.as_bytes()]), Some((9, 0, 0, 0)));
}

#[test]
fn reader_is_small_whatever_passes() {
    assert!(size_of::<UsageReader>() <= 384, "{}", size_of::<UsageReader>());
}

fn filter(chunks: &[&[u8]]) -> Vec<u8> {
    let mut filter = SseFilter::new();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&filter.push(Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&filter.finish());
    out
}

fn check_filter(body: &str, expected: &str) {
    let bytes = body.as_bytes();
    let text = |out: Vec<u8>| String::from_utf8(out).unwrap();
    assert_eq!(text(filter(&[bytes])), expected);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(text(filter(&single)), expected, "byte by byte");
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(text(filter(&[a, b])), expected, "cut at {cut}");
    }
}

const USAGE: &str = r#"{"id":"x","choices":[],"usage":{"prompt_tokens":1}}"#;
const DELTA: &str = r#"{"id":"x","choices":[{"delta":{"content":"usage"}}],"usage":{"prompt_tokens":1}}"#;

#[test]
fn the_filter_drops_only_the_usage_event() {
    for end in ["\n\n", "\r\n\r\n", "\r\r"] {
        let event = |data: &str| format!("data: {data}{end}");
        let (usage, delta, done) = (event(USAGE), event(DELTA), event("[DONE]"));
        check_filter(&format!("{delta}{usage}{done}"), &format!("{delta}{done}"));
        check_filter(&format!("{usage}{delta}"), &delta);
        check_filter(&format!("{delta}{usage}"), &delta);
    }
    for kept in [
        format!("data: {DELTA}\n\n: comment\n\ndata: [DONE]\n\n"),
        "data: {\"choices\":[],\"usage\":null}\n\n".to_owned(),
        "data: {\"choices\":[]}\n\n".to_owned(),
        "data: {\"usage\":{\"prompt_tokens\":1}}\n\n".to_owned(),
        "data: {\"error\":{\"message\":\"usage\"}}\n\n".to_owned(),
        format!("data: {USAGE}\ndata: {USAGE}\n\n"),
        format!("data: {USAGE}"),
    ] {
        check_filter(&kept, &kept);
    }
}

#[test]
fn the_filter_drops_only_the_usage_line() {
    check_filter(&format!("{DELTA}\n{USAGE}\n\n"), &format!("{DELTA}\n\n"));
    check_filter(&format!("{DELTA}\n{DELTA}\n"), &format!("{DELTA}\n{DELTA}\n"));
    // Found by the split property: a line that starts as something else is not the usage line.
    check_filter(&format!("{DELTA}\n\"usage\"{USAGE}\n"), &format!("{DELTA}\n\"usage\"{USAGE}\n"));
    check_filter(&format!("{DELTA}\n{USAGE}"), &format!("{DELTA}\n"));
    let pretty = "{\n \"choices\": [],\n \"usage\": {\n \"prompt_tokens\": 1\n}\n}\n";
    check_filter(pretty, pretty);
}

#[test]
fn an_ordinary_event_is_not_held_back() {
    let mut filter = SseFilter::new();
    let head = Bytes::from_static(b"data: {\"id\":\"x\",\"choices\":[{\"delta\":{\"content\":\"he");
    let out = filter.push(head.clone());
    assert_eq!(out.as_ptr(), head.as_ptr(), "the very same buffer");
    assert_eq!(out, head);
    // One that may be the usage event is, until it is not.
    let mut filter = SseFilter::new();
    assert_eq!(filter.push(Bytes::from_static(b"data: {\"choices\":[")), "");
    assert_eq!(filter.push(Bytes::from_static(b"{")), "data: {\"choices\":[{");
}

#[test]
fn held_event_bomb() {
    let mut filter = SseFilter::new();
    let chunk = Bytes::from(vec![b' '; 1_000]);
    let mut passed = filter.push(Bytes::from_static(b"data: {")).len();
    for _ in 0..100 {
        passed += filter.push(chunk.clone()).len();
    }
    assert!(passed >= 100_007 - crate::limits::HELD_EVENT_MAX);
}

/// Bytes that stress the state machines: valid pieces in any order, cut anywhere.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "data: ",
        "data:",
        "data",
        ": x",
        "event: y",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"usage\"",
        "\"choices\"",
        "\"prompt_tokens\"",
        "\"a\\\"b\"",
        "\"",
        "\\",
        "12",
        "-3",
        "1.5",
        "null",
        " ",
        "{\"choices\":[],\"usage\":{\"prompt_tokens\":7}}",
        "{\"choices\":[{}]}",
        "[DONE]",
        "\u{feff}",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

fn cut(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let mut rest = bytes;
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        chunks.push(chunk.to_vec());
        rest = after;
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same(body in stream(), sizes in prop::collection::vec(1_usize..20, 1..8)) {
        let chunks = cut(&body, &sizes);
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(read(&chunks), read(&[&body]));
        prop_assert_eq!(filter(&chunks), filter(&[&body]));
    }
}
