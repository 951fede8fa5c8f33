use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::Value;

use super::*;
use crate::limits::HELD_COST_MAX;

const COST: Cost = Cost { prompt: Nano::new(68), completion: Nano::new(10), total: Nano::new(78) };
const ADDED: &str = r#""prompt_total_cost":68,"completion_total_cost":10,"total_cost":78"#;

fn splice(chunks: &[&[u8]], cost: Option<&Cost>) -> Vec<u8> {
    let mut splicer = CostSplicer::new();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&splicer.push(Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&splicer.finish(cost));
    out
}

/// Whole, byte by byte, and at every single cut: all must agree. Without a cost nothing changes.
fn check(body: &str, expected: &str) {
    let bytes = body.as_bytes();
    let text = |out: Vec<u8>| String::from_utf8(out).unwrap();
    assert_eq!(text(splice(&[bytes], Some(&COST))), expected);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(text(splice(&single, Some(&COST))), expected, "byte by byte");
    assert_eq!(text(splice(&single, None)), body);
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(text(splice(&[a, b], Some(&COST))), expected, "cut at {cut}");
    }
}

#[test]
fn a_whole_answer_gets_its_cost_behind_the_last_member() {
    check(
        r#"{"id":"x","usage":{"prompt_tokens":34,"total_tokens":39},"x":[1]}"#,
        &format!(r#"{{"id":"x","usage":{{"prompt_tokens":34,"total_tokens":39,{ADDED}}},"x":[1]}}"#),
    );
    check(
        "{\n  \"usage\": {\n    \"total_tokens\": 39\n  }\n}\n",
        &format!("{{\n  \"usage\": {{\n    \"total_tokens\": 39,{ADDED}\n  }}\n}}\n"),
    );
    check(r#"{"usage":{}}"#, &format!(r#"{{"usage":{{{ADDED}}}}}"#));
    check(r#"{"usage":{ }}"#, &format!(r#"{{"usage":{{{ADDED} }}}}"#));
    check(
        r#"{"response":{"usage":{"a":{"b":[2]}}}}"#,
        &format!(r#"{{"response":{{"usage":{{"a":{{"b":[2]}},{ADDED}}}}}}}"#),
    );
}

#[test]
fn an_original_workers_cost_is_replaced_where_it_stands() {
    check(
        r#"{"usage":{"completion_tokens":5,"completion_total_cost":999,"prompt_tokens":34,"prompt_total_cost":1.5e3,"total_cost":-1,"total_tokens":39}}"#,
        r#"{"usage":{"completion_tokens":5,"completion_total_cost":10,"prompt_tokens":34,"prompt_total_cost":68,"total_cost":78,"total_tokens":39}}"#,
    );
    check(
        r#"{"usage":{"total_cost" : "a\"}" , "x":1 }}"#,
        r#"{"usage":{"total_cost" : 78 , "x":1,"prompt_total_cost":68,"completion_total_cost":10 }}"#,
    );
    check(
        r#"{"usage":{"total_cost":{"total_cost":[{}],"x":1},"prompt_total_cost":null,"completion_total_cost":[]}}"#,
        r#"{"usage":{"total_cost":78,"prompt_total_cost":68,"completion_total_cost":10}}"#,
    );
    // Twice: neither may keep the worker's word.
    check(
        r#"{"usage":{"total_cost":1,"total_cost":2,"prompt_total_cost":3,"completion_total_cost":4}}"#,
        r#"{"usage":{"total_cost":78,"total_cost":78,"prompt_total_cost":68,"completion_total_cost":10}}"#,
    );
    // Costs elsewhere are none of ours.
    check(
        r#"{"total_cost":1,"usage":{"x":{"total_cost":2}}}"#,
        &format!(r#"{{"total_cost":1,"usage":{{"x":{{"total_cost":2}},{ADDED}}}}}"#),
    );
}

#[test]
fn the_last_usage_of_a_stream_gets_the_cost() {
    let usage = |added: &str| format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1{added}}}}}\n\n");
    let delta = "data: {\"choices\":[{\"delta\":{}}],\"usage\":null}\n\n";
    let done = "data: [DONE]\n\n";
    let added = format!(",{ADDED}");
    check(&format!("{delta}{}{done}", usage("")), &format!("{delta}{}{done}", usage(&added)));
    // An engine that says it every time.
    check(&format!("{}{}{done}", usage(""), usage("")), &format!("{}{}{done}", usage(""), usage(&added)));
    // Other line ends, several data lines, a value that ends with its line.
    check(
        "data: {\"usage\":\r\ndata: {\"total_cost\":5\r\ndata:,\"x\":1\r\ndata: }}\r\n\r\n",
        "data: {\"usage\":\r\ndata: {\"total_cost\":78\r\ndata:,\"x\":1\r\ndata:,\"prompt_total_cost\":68,\"completion_total_cost\":10 }}\r\n\r\n",
    );
    check("data: {\"usage\":{\rdata: }}\r\r", &format!("data: {{\"usage\":{{\rdata:{ADDED} }}}}\r\r"));
    // Lines of JSON.
    check(
        "{\"usage\":null}\n{\"usage\":{\"prompt_tokens\":1}}\n",
        &format!("{{\"usage\":null}}\n{{\"usage\":{{\"prompt_tokens\":1,{ADDED}}}}}\n"),
    );
}

#[test]
fn what_was_added_can_be_taken_out_again() {
    for body in [
        r#"{"usage":{"prompt_tokens":34,"total_tokens":39},"x":[1]}"#,
        r#"{"usage":{}}"#,
        "data: {\"usage\":{\"a\":1}}\n\ndata: [DONE]\n\n",
    ] {
        let spliced = splice(&[body.as_bytes()], Some(&COST));
        assert_eq!(COST.taken_out(&spliced).unwrap(), body.as_bytes());
        assert_eq!(COST.taken_out(body.as_bytes()), None);
        let other = Cost { total: Nano::new(79), ..COST };
        assert_eq!(other.taken_out(&spliced), None);
    }
}

#[test]
fn only_the_usage_event_waits() {
    let mut splicer = CostSplicer::new();
    let delta =
        Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"usage\"}}],\"usage\":null}\n\ndata: {}\n\n");
    let passed = splicer.push(delta.clone());
    assert_eq!((passed.as_ptr(), passed.len()), (delta.as_ptr(), delta.len()));
    let start = splicer.push(Bytes::from_static(b"data: {\"choices\":[],\"usage\":{\"prompt"));
    assert_eq!(start, &b"data: {\"choices\":[],\"usage\":{"[..]);
    assert!(splicer.push(Bytes::from_static(b"_tokens\":1}}\n\ndata: [DONE]\n\n")).is_empty());
    assert!(splicer.finish(Some(&COST)).ends_with(b",\"total_cost\":78}}\n\ndata: [DONE]\n\n"));
}

#[test]
fn attack_quoted_usage_gets_no_cost() {
    for body in [
        r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]}"#,
        r#"{"choices":[{"usage":{"prompt_tokens":1}}]}"#,
        r#"{"usage":null}"#,
        r#"{"usage":[{}]}"#,
        "data: {\"usage\":{\"prompt_tokens\":1\n\ndata: }}\n\n",
        "<html>usage</html>",
        "",
    ] {
        check(body, body);
    }
}

#[test]
fn attack_an_answer_that_hides_behind_its_usage_holds_bounded_memory() {
    let mut body = br#"{"usage":{"prompt_tokens":1},"x":""#.to_vec();
    body.resize(HELD_COST_MAX + 65_536, b'x');
    let mut splicer = CostSplicer::new();
    let mut out = Vec::new();
    for chunk in body.chunks(4_096) {
        out.extend_from_slice(&splicer.push(Bytes::copy_from_slice(chunk)));
        assert!(splicer.held.as_ref().is_none_or(|held| held.bytes.len() <= HELD_COST_MAX));
    }
    out.extend_from_slice(&splicer.finish(Some(&COST)));
    assert_eq!(out, body);
}

#[test]
fn attack_a_thousand_costs_are_not_remembered() {
    let body = format!(r#"{{"usage":{{{}"x":1}}}}"#, r#""total_cost":1,"#.repeat(1_000));
    check(&body[..200], &body[..200]);
    assert_eq!(splice(&[body.as_bytes()], Some(&COST)), body.as_bytes());
}

#[test]
fn the_parts_sum_to_what_is_charged() {
    let tokens = |kinds: [u64; 5]| {
        let [prompt, cached, completion, reasoning, total] = kinds.map(AdjustedTokens::new);
        TokensUsed { prompt, cached, completion, reasoning, total }
    };
    let cost = |kinds, price| {
        Cost::of(&tokens(kinds), NanoPerToken::new(price))
            .map(|cost| (cost.prompt().get(), cost.completion().get(), cost.total().get()))
    };
    assert_eq!(cost([30, 4, 4, 1, 39], 2), Some((68, 10, 78)));
    // Clamped by the proxy: the prompt first.
    assert_eq!(cost([30, 4, 4, 1, 36], 2), Some((68, 4, 72)));
    assert_eq!(cost([30, 4, 4, 1, 10], 2), Some((20, 0, 20)));
    assert_eq!(cost([0, 0, 0, 0, 7], 2), Some((0, 14, 14)));
    assert_eq!(cost([1, 0, 0, 0, 1], 0), Some((0, 0, 0)));
    assert_eq!(cost([u64::MAX, 1, 1, 1, 5], u64::MAX), None);
}

/// Streams that exercise both state machines: valid pieces in any order, cut anywhere.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "data: ",
        "data",
        ": x",
        "\n",
        "\r\n",
        "\n\n",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"usage\"",
        "\"usage\":{",
        "\"response\":{",
        "\"total_tokens\":",
        "\"",
        "\\",
        "12",
        "-1.5",
        " ",
        "{\"choices\":[],\"usage\":{\"prompt_tokens\":7}}",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7}}\n\n",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

fn cut(bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut chunks = Vec::new();
    let mut rest = bytes;
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    splice(&chunks, Some(&COST))
}

/// JSON as an engine could write it, with costs of its own here and there.
fn usage_object() -> impl Strategy<Value = Value> {
    let names =
        prop::sample::select(vec!["prompt_tokens", "total_cost", "prompt_total_cost", "completion_total_cost", "x"]);
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|half| Value::from(f64::from(half) / 2.0)),
        "[ -~]{0,8}".prop_map(Value::from),
        Just(Value::Null),
        Just(serde_json::json!({"total_cost": [1, {"y": "}"}]})),
    ];
    prop::collection::vec((names, leaf), 0..6)
        .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_and_no_other_byte_changes(body in stream(), sizes in prop::collection::vec(1_usize..20, 1..8)) {
        prop_assert_eq!(splice(&[&body], None), &body[..]);
        let out = splice(&[&body], Some(&COST));
        prop_assert_eq!(&cut(&body, &sizes), &out);
        if out != body {
            // No piece names a cost, so what changed is one insertion.
            let same = body.iter().zip(&out).take_while(|(a, b)| a == b).count();
            let added = out.len() - body.len();
            let found = (0..=same).rev().any(|at| {
                let inserted = std::str::from_utf8(&out[at..at + added]).unwrap_or_default();
                inserted.trim_start_matches(',') == ADDED && out[at + added..] == body[at..]
            });
            prop_assert!(found, "{}", String::from_utf8_lossy(&out));
        }
    }

    #[test]
    fn what_is_valid_stays_valid_and_says_the_cost(mut usage in usage_object(), pretty: bool, sizes in prop::collection::vec(1_usize..20, 1..8)) {
        let document = serde_json::json!({"choices": [{"x": "usage"}], "usage": usage});
        let body = if pretty { serde_json::to_vec_pretty(&document) } else { serde_json::to_vec(&document) }.unwrap();
        let out: Value = serde_json::from_slice(&cut(&body, &sizes)).unwrap();
        usage["prompt_total_cost"] = 68.into();
        usage["completion_total_cost"] = 10.into();
        usage["total_cost"] = 78.into();
        prop_assert_eq!(out, serde_json::json!({"choices": [{"x": "usage"}], "usage": usage}));
    }

    #[test]
    fn any_bytes_pass(body in prop::collection::vec(any::<u8>(), 0..200), sizes in prop::collection::vec(1_usize..20, 1..8)) {
        prop_assert_eq!(splice(&[&body], None), &body[..]);
        prop_assert_eq!(cut(&body, &sizes), splice(&[&body], Some(&COST)));
    }
}
