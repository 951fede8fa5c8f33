//! What holds for every dialect: hostile workers, any cut of a stream, paths.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::limits::{CHAT_EVENT_BYTES, DIALECT_BLOCKS, DIALECT_TEXT_BYTES};

pub(super) const BIRTH: Birth = Birth { id: [0xab; 16], unix_s: 1_795_335_274 };

const FAULT: Fault<'_> =
    Fault { message: "it broke", code: "proxy_lost", openai_type: "api_error", anthropic_type: "api_error" };

/// A smallest request of each dialect.
fn request(dialect: Dialect) -> Value {
    match dialect {
        Dialect::Responses => json!({"model": "m", "input": "hi", "stream": true}),
        Dialect::Messages => json!({
            "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": true,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        }),
    }
}

pub(super) fn translate(dialect: Dialect, request: &Value) -> Result<(Value, Translation), DialectError> {
    let (chat, translation) = dialect.translate(request.to_string().as_bytes(), BIRTH)?;
    Ok((serde_json::from_slice(&chat).unwrap(), translation))
}

/// The chat body of a request.
pub(super) fn chat_of(dialect: Dialect, request: &Value) -> Value {
    translate(dialect, request).unwrap().0
}

/// The field that a request is refused for.
pub(super) fn refused(dialect: Dialect, request: &Value) -> String {
    translate(dialect, request).unwrap_err().field().unwrap_or_default().to_owned()
}

/// The events of a stream of chat events, and how it ended.
pub(super) fn tell(dialect: Dialect, request: &Value, pieces: &[&[u8]]) -> (Vec<Value>, Result<(), Violation>) {
    let mut events = translate(dialect, request).unwrap().1.into_events();
    let mut out = events.begin().to_vec();
    let pushed = pieces.iter().try_for_each(|piece| events.push(piece, &mut out));
    let ended = pushed.and_then(|()| events.finish(&mut out));
    if ended.is_err() {
        events.break_off(&FAULT, &mut out);
    }
    (parse(&out), ended)
}

/// Reads events as an SDK does; the name of each is that of its type.
pub(super) fn parse(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let (whole, rest) = text.rsplit_once("\n\n").unwrap();
    assert_eq!(rest, "");
    whole.split("\n\n").map(parse_event).collect()
}

fn parse_event(event: &str) -> Value {
    let (name, data) = event.split_once('\n').unwrap();
    assert!(!data.contains(['\n', '\r']), "one line of data: {event}");
    let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
    data
}

pub(super) fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Chat events as an engine writes them.
pub(super) fn sse(events: &[Value]) -> Vec<u8> {
    let lines: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    [lines.concat().as_bytes(), b"data: [DONE]\n\n"].concat()
}

pub(super) fn delta(delta: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

pub(super) fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

pub(super) fn usage() -> Value {
    json!({"choices": [], "usage": {
        "prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
        "prompt_total_cost": 120, "completion_total_cost": 70, "total_cost": 190,
    }})
}

pub(super) fn call(index: u64, id: &str, name: &str, arguments: &str) -> Value {
    delta(json!({"tool_calls": [
        {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}},
    ]}))
}

pub(super) fn arguments(index: u64, arguments: &str) -> Value {
    delta(json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}))
}

/// Reasoning, text and two tool calls.
pub(super) fn long_answer() -> Vec<Value> {
    vec![
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"reasoning_content": "Hm"})),
        delta(json!({"reasoning_content": "m."})),
        delta(json!({"content": "Let me "})),
        delta(json!({"content": "look\u{1f980}\n."})),
        call(0, "call_a", "weather", ""),
        arguments(0, "{\"town\":"),
        arguments(0, "\"Bern\"}"),
        call(1, "call_b", "clock", ""),
        finish("tool_calls"),
        usage(),
    ]
}

const BOTH: [Dialect; 2] = [Dialect::Responses, Dialect::Messages];

fn check_violation(events: &[u8], expected: &Violation) {
    for dialect in BOTH {
        let (told, ended) = tell(dialect, &request(dialect), &[events]);
        assert_eq!(ended.as_ref(), Err(expected), "{dialect:?}");
        let last = told.last().unwrap();
        assert_eq!(last["type"], "error", "{last}");
        assert_eq!(last["error"]["message"], "it broke");
    }
}

#[test]
fn a_worker_that_sends_no_json() {
    for nonsense in
        ["data: {\n\n", "data: hello\n\n", "data: []\n\n", "data: {\"choices\":7}\n\n", "{\"choices\":{}}\n"]
    {
        check_violation(nonsense.as_bytes(), &Violation::Malformed);
    }
    check_violation(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n", &Violation::Malformed);
}

#[test]
fn a_worker_that_sends_counts_that_are_none() {
    for count in ["-1", "1.5", "1e99", "\"7\"", "[]"] {
        let usage = format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{count}}}}}\n\n");
        check_violation(usage.as_bytes(), &Violation::Malformed);
    }
}

#[test]
fn a_worker_that_counts_more_than_there_can_be() {
    let most = json!({"choices": [], "usage": {
        "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX,
        "prompt_tokens_details": {"cached_tokens": u64::MAX}, "completion_tokens_details": {"reasoning_tokens": u64::MAX},
    }});
    for dialect in BOTH {
        tell(dialect, &request(dialect), &[&sse(&[finish("stop"), most.clone()])]).1.unwrap();
    }
}

#[test]
fn a_worker_whose_answer_just_ends() {
    check_violation(b"", &Violation::Unfinished);
    check_violation(b"data: [DONE]\n\n", &Violation::Unfinished);
    check_violation(&sse(&[delta(json!({"content": "half"}))]), &Violation::Unfinished);
    check_violation(&sse(&[call(0, "a", "f", "{")]), &Violation::Unfinished);
    check_violation(&sse(&[finish("abort")]), &Violation::Unfinished);
}

#[test]
fn a_worker_that_goes_on_behind_the_end() {
    check_violation(&sse(&[finish("stop"), delta(json!({"content": "more"}))]), &Violation::OutOfOrder);
    check_violation(&sse(&[finish("stop"), call(0, "a", "f", "{}")]), &Violation::OutOfOrder);
}

#[test]
fn tool_calls_out_of_order() {
    // Arguments of nothing, of a call that is over, and a call without a name.
    check_violation(&sse(&[arguments(0, "{}")]), &Violation::OutOfOrder);
    let interleaved = [call(0, "a", "f", "{"), call(1, "b", "g", "{"), arguments(0, "}"), finish("tool_calls")];
    check_violation(&sse(&interleaved), &Violation::OutOfOrder);
    check_violation(&sse(&[call(0, "a", "", "{}")]), &Violation::OutOfOrder);
    let again = [call(0, "a", "f", "{}"), delta(json!({"content": "x"})), arguments(0, "{}")];
    check_violation(&sse(&again), &Violation::OutOfOrder);
}

#[test]
fn huge_indexes_of_tool_calls_allocate_nothing() {
    for index in [128, 1 << 40, u64::MAX] {
        check_violation(&sse(&[call(index, "a", "f", "{}")]), &Violation::TooManyBlocks);
    }
    check_violation(b"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":-1}]}}]}\n\n", &Violation::Malformed);
    check_violation(&sse(&[call(0, "a", &"f".repeat(5000), "{}")]), &Violation::TooLong);
    let many = vec![json!({"function": {"name": "f"}}); 200];
    check_violation(&sse(&[delta(json!({"tool_calls": many}))]), &Violation::Malformed);
}

#[test]
fn more_choices_than_were_asked_for() {
    let two = json!({"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {}}]});
    check_violation(&sse(&[two]), &Violation::Malformed);
    check_violation(&sse(&[json!({"choices": [{"index": 1, "delta": {"content": "x"}}]})]), &Violation::OutOfOrder);
}

#[test]
fn an_event_without_an_end() {
    let event = [b"data: {\"x\":\"".as_slice(), &vec![b'x'; CHAT_EVENT_BYTES]].concat();
    check_violation(&event, &Violation::TooLong);
}

#[test]
fn thinking_and_speaking_in_turns_forever() {
    let turn = [delta(json!({"reasoning_content": "a"})), delta(json!({"content": "b"}))];
    let turns: Vec<Value> = turn.iter().cycle().take(DIALECT_BLOCKS + 1).cloned().collect();
    check_violation(&sse(&turns), &Violation::TooManyBlocks);
}

#[test]
fn an_answer_that_never_ends_is_not_kept() {
    let piece = sse(&[delta(json!({"content": "x".repeat(1 << 19)}))]);
    let mut events = translate(Dialect::Responses, &request(Dialect::Responses)).unwrap().1.into_events();
    let mut kept = 0_usize;
    let ended = loop {
        match events.push(&piece, &mut Vec::new()) {
            Ok(()) => kept += 1 << 19,
            Err(violation) => break violation,
        }
    };
    assert_eq!((ended, kept), (Violation::TooLong, DIALECT_TEXT_BYTES));
    // Messages repeat nothing, and so keep nothing.
    let mut events = translate(Dialect::Messages, &request(Dialect::Messages)).unwrap().1.into_events();
    for _ in 0..20 {
        events.push(&piece, &mut Vec::new()).unwrap();
    }
}

#[test]
fn after_a_violation_nothing_more_is_told() {
    for dialect in BOTH {
        let mut events = translate(dialect, &request(dialect)).unwrap().1.into_events();
        let mut out = Vec::new();
        assert!(events.push(b"data: nonsense\n\n", &mut out).is_err());
        events.break_off(&FAULT, &mut out);
        let told = out.len();
        events.push(&sse(&long_answer()), &mut out).unwrap();
        events.finish(&mut out).unwrap();
        assert_eq!(out.len(), told);
    }
}

#[test]
fn an_error_of_the_engine_within_a_stream() {
    for (error, words) in [
        (json!({"error": {"message": "out of memory", "code": 500}}), "out of memory"),
        (json!({"error": "gone"}), "gone"),
        (json!({"error": {"message": ""}}), "the engine failed"),
        (json!({"error": [1]}), "the engine failed"),
    ] {
        check_violation(&sse(&[error]), &Violation::Engine(words.to_owned()));
    }
    let long = json!({"error": {"message": "ä".repeat(5000)}});
    let (_, ended) = tell(Dialect::Messages, &request(Dialect::Messages), &[&sse(&[long])]);
    assert!(matches!(ended, Err(Violation::Engine(words)) if words.len() <= 1024));
}

#[test]
fn calls_as_engines_write_them() {
    let names = |events: &[Value]| -> Vec<Value> {
        let (told, ended) = tell(Dialect::Messages, &request(Dialect::Messages), &[&sse(events)]);
        ended.unwrap();
        let started = told.iter().filter(|event| event["type"] == "content_block_start");
        started.map(|event| event["content_block"]["id"].clone()).collect()
    };
    let end = finish("stop");
    // One by one, every one with index 0, all in one event, without ids or indexes.
    assert_eq!(names(&[call(0, "a", "f", "{}"), call(1, "b", "f", "{}"), end.clone()]), ["a", "b"]);
    assert_eq!(names(&[call(0, "a", "f", "{}"), call(0, "b", "f", "{}"), end.clone()]), ["a", "b"]);
    // The name and id again with every piece.
    assert_eq!(names(&[call(0, "a", "f", "{"), call(0, "a", "f", "}"), end.clone()]), ["a"]);
    let bare = json!({"function": {"name": "f", "arguments": "{}"}});
    let ids = names(&[delta(json!({"tool_calls": [bare, bare]})), end]);
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn lines_and_documents_are_streams_too() {
    let whole = json!({"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]});
    let lines = format!("{}\n{}\n{}", delta(json!({"content": "hi"})), finish("stop"), usage());
    for dialect in BOTH {
        for body in [whole.to_string(), lines.clone()] {
            let (events, ended) = tell(dialect, &request(dialect), &[body.as_bytes()]);
            ended.unwrap();
            assert!(events.iter().any(|event| event["delta"] == "hi" || event["delta"]["text"] == "hi"));
        }
    }
}

#[test]
fn bodies_that_are_no_objects_or_say_things_twice() {
    for dialect in BOTH {
        for body in ["", "[]", "\"x\"", "{", "{\"model\":\"a\",\"model\":\"b\"}", "{\"a\":1}}"] {
            let refused = dialect.translate(body.as_bytes(), BIRTH);
            assert_eq!(refused.unwrap_err(), DialectError::NotAnObject, "{body}");
        }
        let many: Vec<String> = (0..300).map(|n| format!("\"f{n}\":1")).collect();
        assert!(dialect.translate(format!("{{{}}}", many.join(",")).as_bytes(), BIRTH).is_err());
        let mut doubled = request(dialect);
        doubled["max_output_tokens"] = json!(5);
        doubled["max_tokens"] = json!(6);
        doubled["messages"] = json!([{"role": "user", "content": "hi"}]);
        if dialect == Dialect::Responses {
            assert_eq!(refused_field(&doubled), "max_tokens");
        }
        let deep = format!("{{\"model\":\"m\",\"max_tokens\":1,\"input\":{0},\"messages\":{0}}}", "[".repeat(1 << 20));
        assert!(dialect.translate(deep.as_bytes(), BIRTH).is_err());
    }
}

fn refused_field(request: &Value) -> String {
    refused(Dialect::Responses, request)
}

#[test]
fn lists_without_an_end_are_refused() {
    let items = vec![json!({"role": "user", "content": "x"}); 40_000];
    assert_eq!(refused(Dialect::Responses, &json!({"model": "m", "input": items})), "input");
    let request = json!({"model": "m", "max_tokens": 1, "messages": items});
    assert_eq!(refused(Dialect::Messages, &request), "messages");
}

#[test]
fn what_nobody_here_knows_travels_as_it_is() {
    for dialect in BOTH {
        let mut text = request(dialect).to_string();
        text.pop();
        text.push_str(
            r#","guided_regex" : "[0-9]+","weights":[1e-7, 1.0,-0],"max_coefficient":1200,"gr\u00f6\u00dfe":null}"#,
        );
        let (chat, _) = dialect.translate(text.as_bytes(), BIRTH).unwrap();
        let chat = std::str::from_utf8(&chat).unwrap();
        assert!(chat.contains(r#""guided_regex":"[0-9]+","weights":[1e-7, 1.0,-0],"max_coefficient":1200"#), "{chat}");
        assert!(chat.contains("\"größe\":null"));
    }
}

/// What the answer repeats of it must not end an event in its midst.
#[test]
fn a_request_that_is_written_on_several_lines() {
    let field = "{\r\n\n  \"a\": [\n\r 1 ]\n}";
    let responses = format!(
        "{{\"model\": \"m\", \"input\": \"hi\", \"metadata\": {field}, \"reasoning\": {field}, \"top_p\": {field},\n\"tools\": \
         [\n\n{{\"type\": \"function\", \"name\": \"f\", \"parameters\": {field}}}\n]}}"
    );
    let (_, translation) = Dialect::Responses.translate(responses.as_bytes(), BIRTH).unwrap();
    let mut events = translation.into_events();
    let mut out = events.begin().to_vec();
    events.push(&sse(&long_answer()), &mut out).unwrap();
    events.finish(&mut out).unwrap();
    let told = parse(&out);
    for event in [told.first().unwrap(), told.last().unwrap()] {
        assert_eq!(event["response"]["metadata"], json!({"a": [1]}));
        assert_eq!(event["response"]["tools"][0]["parameters"], json!({"a": [1]}));
    }
}

/// Whatever an app wants repeated is counted while it is kept.
#[test]
fn a_long_value_where_a_number_belongs() {
    let long = "x".repeat(1 << 16);
    for field in ["temperature", "top_p", "prompt_cache_key", "safety_identifier", "max_output_tokens", "model", "user"]
    {
        let mut asked = request(Dialect::Responses);
        asked[field] = json!(long);
        let (_, translation) = translate(Dialect::Responses, &asked).unwrap();
        assert!(translation.kept_bytes() >= long.len(), "{field}");
    }
    let mut asked = request(Dialect::Messages);
    asked["model"] = json!(long);
    assert!(translate(Dialect::Messages, &asked).unwrap().1.kept_bytes() >= long.len());
}

#[test]
fn paths() {
    assert_eq!(Dialect::of_path("/v1/responses"), Some(Dialect::Responses));
    assert_eq!(Dialect::of_path("/v1/responses/resp_1/input_items"), Some(Dialect::Responses));
    assert_eq!(Dialect::of_path("/v1/messages/count_tokens"), Some(Dialect::Messages));
    for path in ["/v1/responsesx", "/v1/chat/completions", "/v1/message", "/"] {
        assert_eq!(Dialect::of_path(path), None);
    }
}

proptest! {
    #[test]
    fn any_cut_of_a_stream_gives_the_same_events(cuts in proptest::collection::vec(0_usize..2000, 0..40)) {
        let whole = sse(&long_answer());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at % whole.len()).chain([0, whole.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|window| &whole[window[0]..window[1]]).collect();
        for dialect in BOTH {
            let (expected, _) = tell(dialect, &request(dialect), &[&whole]);
            let (told, ended) = tell(dialect, &request(dialect), &pieces);
            prop_assert_eq!(ended, Ok(()));
            prop_assert_eq!(told, expected);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_end_without_a_word(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for dialect in BOTH {
            let (told, ended) = tell(dialect, &request(dialect), &[b"data: ", &bytes, b"\n\n"]);
            prop_assert!(ended.is_err());
            prop_assert_eq!(&told.last().unwrap()["type"], "error");
        }
    }

    #[test]
    fn any_json_in_the_place_of_an_event_is_survived(event in arbitrary_event()) {
        let stream = sse(&[event, finish("stop")]);
        for dialect in BOTH {
            let (told, _) = tell(dialect, &request(dialect), &[&stream]);
            let last = told.last().unwrap()["type"].as_str().unwrap();
            prop_assert!(["error", "message_stop", "response.completed"].contains(&last), "{}", last);
        }
    }
}

/// Something like a chat event, with any value in each place.
fn arbitrary_event() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-z{}\"]{0,8}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}])),
    ];
    let name = prop_oneof![
        Just("content"),
        Just("refusal"),
        Just("reasoning_content"),
        Just("reasoning"),
        Just("tool_calls"),
    ];
    let members = proptest::collection::vec((name, leaf.clone()), 0..4);
    (members, leaf.clone(), leaf.clone(), leaf).prop_map(|(members, finish, stop, usage)| {
        let delta: serde_json::Map<_, _> = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        json!({"choices": [{"delta": delta, "finish_reason": finish, "stop_reason": stop}], "usage": usage})
    })
}
