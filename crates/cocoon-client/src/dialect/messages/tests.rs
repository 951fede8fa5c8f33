//! Golden requests, answers and events of `/v1/messages`.

use serde_json::{Value, json};

use crate::dialect::{
    Dialect, Violation,
    tests::{chat_of, delta, finish, long_answer, refused, sse, tell, translate, types, usage},
};

const ID: &str = "msg_abababababababababababababababab";

/// A request with more in it.
fn ask(more: &Value) -> Value {
    let mut request = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

fn chat(more: &Value) -> Value {
    chat_of(Dialect::Messages, &ask(more))
}

fn whole(more: &Value, answer: &Value) -> Result<Value, Violation> {
    let (_, translation) = translate(Dialect::Messages, &ask(more)).unwrap();
    translation.whole(answer.to_string().as_bytes()).map(|answer| serde_json::from_slice(&answer).unwrap())
}

#[test]
fn settings() {
    let request = ask(&json!({
        "system": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "B"}],
        "stop_sequences": ["END"], "temperature": 0.5, "top_p": 0.9, "top_k": 40, "metadata": {"user_id": "u"},
        "thinking": {"type": "enabled", "budget_tokens": 2048}, "stream": true, "service_tier": "auto",
        "cache_control": {"type": "ephemeral"}, "speed": "standard",
        "output_config": {"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    }));
    assert_eq!(
        chat_of(Dialect::Messages, &request),
        json!({
            "model": "m", "max_tokens": 9,
            "messages": [{"role": "system", "content": "A\n\nB"}, {"role": "user", "content": "hi"}],
            "stop": ["END"], "temperature": 0.5, "top_p": 0.9, "top_k": 40, "user": "u", "stream": true,
            "chat_template_kwargs": {"enable_thinking": true, "thinking": true}, "reasoning_effort": "high",
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": true}},
        })
    );
    assert_eq!(chat(&json!({"system": "S"}))["messages"][0], json!({"role": "system", "content": "S"}));
    let kwargs = &chat(&json!({"thinking": {"type": "disabled"}}))["chat_template_kwargs"];
    assert_eq!(kwargs["enable_thinking"], false);
    let own = json!({"thinking": {"type": "adaptive"}, "chat_template_kwargs": {"x": 1}});
    assert_eq!(chat(&own)["chat_template_kwargs"], json!({"x": 1}));
}

#[test]
fn tools_and_their_choice() {
    let tool =
        json!({"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "x"}});
    let with = |choice: Value| chat(&json!({"tools": [tool], "tool_choice": choice}));
    let chat = with(json!({"type": "any", "disable_parallel_tool_use": true}));
    let expected = json!([{"type": "function",
        "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]);
    assert_eq!(chat["tools"], expected);
    assert_eq!((&chat["tool_choice"], &chat["parallel_tool_calls"]), (&json!("required"), &json!(false)));
    assert_eq!(with(json!({"type": "auto"}))["tool_choice"], "auto");
    assert_eq!(with(json!({"type": "none"}))["tool_choice"], "none");
    let named = json!({"type": "function", "function": {"name": "f"}});
    assert_eq!(with(json!({"type": "tool", "name": "f"}))["tool_choice"], named);
}

#[test]
fn a_conversation_of_blocks() {
    let request = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "Weather?", "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "A tool.", "signature": ""},
            {"type": "redacted_thinking", "data": "zzz"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"z": 1}},
            {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "7 degrees"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true,
                "content": [{"type": "text", "text": "no clock"}]},
            {"type": "text", "text": "And now?"},
        ]},
    ]});
    assert_eq!(
        chat_of(Dialect::Messages, &request)["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Weather?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
            {"role": "assistant", "content": "I look.", "reasoning_content": "A tool.", "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{\"z\":1}"}},
                {"id": "toolu_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ]},
            {"role": "tool", "content": "7 degrees", "tool_call_id": "toolu_1"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": [
                {"type": "text", "text": "The tool failed:"}, {"type": "text", "text": "no clock"}]},
            {"role": "user", "content": "And now?"},
        ])
    );
}

#[test]
fn results_without_words_and_documents_of_text() {
    let request = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "D"}},
        ]},
    ]});
    let messages = &chat_of(Dialect::Messages, &request)["messages"];
    assert_eq!(messages[1]["content"], Value::Null);
    assert_eq!(messages[2], json!({"role": "tool", "content": "", "tool_call_id": "t"}));
    assert_eq!(messages[3], json!({"role": "user", "content": "D"}));
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    for (field, value) in [
        ("container", json!("c")),
        ("mcp_servers", json!([])),
        ("context_management", json!({})),
        ("n", json!(2)),
        ("speed", json!("fast")),
        ("max_tokens", Value::Null),
        ("messages", Value::Null),
        ("messages", json!([])),
        ("messages", json!("hi")),
        ("system", json!(7)),
        ("stop_sequences", json!("END")),
        ("metadata", json!([])),
    ] {
        assert_eq!(refused(Dialect::Messages, &ask(&json!({field: value}))), field);
    }
    let server_tool = json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]});
    let error = translate(Dialect::Messages, &ask(&server_tool)).unwrap_err();
    assert_eq!(error.field(), Some("tools[0].type"));
    assert!(error.to_string().contains("`web_search_20250305`"));
    assert_eq!(refused(Dialect::Messages, &ask(&json!({"tool_choice": {"type": "some"}}))), "tool_choice.type");
    assert_eq!(refused(Dialect::Messages, &ask(&json!({"tools": [{"name": "f"}]}))), "tools[0].input_schema");
    let thinking = json!({"thinking": {"type": "wild"}});
    assert_eq!(refused(Dialect::Messages, &ask(&thinking)), "thinking.type");
}

#[test]
fn blocks_that_are_refused_are_named() {
    let block =
        |block: Value| refused(Dialect::Messages, &ask(&json!({"messages": [{"role": "user", "content": [block]}]})));
    let url = json!({"type": "image", "source": {"type": "url", "url": "https://a/b.png"}});
    assert_eq!(block(url), "messages[0].content[0].source");
    assert_eq!(block(json!({"type": "image", "source": {"type": "base64"}})), "messages[0].content[0].source");
    assert_eq!(block(json!({"type": "document", "source": {"type": "base64"}})), "messages[0].content[0].source");
    assert_eq!(block(json!({"type": "tool_result"})), "messages[0].content[0].tool_use_id");
    assert_eq!(block(json!({"type": "server_tool_use", "id": "x"})), "messages[0].content[0].type");
    assert_eq!(block(json!({"type": "text"})), "messages[0].content[0]");
    let role = json!({"messages": [{"role": "tool", "content": "x"}]});
    assert_eq!(refused(Dialect::Messages, &ask(&role)), "messages[0].role");
}

#[test]
fn a_prefill_is_refused_rather_than_misread() {
    let prefill = json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]});
    let error = translate(Dialect::Messages, &ask(&prefill)).unwrap_err();
    assert_eq!(error.field(), Some("messages"));
    assert!(error.to_string().contains("the last message is the assistant's own"), "{error}");
}

#[test]
fn a_whole_answer() {
    let answer = json!({"choices": [{"finish_reason": "tool_calls", "message": {
        "content": "Hello", "reasoning": "Hm", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"z\":1}"}}]}}],
        "usage": usage()["usage"]});
    let thinking = json!({"type": "thinking", "thinking": "Hm", "signature": ""});
    let mut expected = json!({
        "id": ID, "type": "message", "role": "assistant", "model": "m", "content": [
            {"type": "text", "text": "Hello"}, {"type": "tool_use", "id": "call_1", "name": "f", "input": {"z": 1}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 7,
            "prompt_total_cost": 120, "completion_total_cost": 70, "total_cost": 190},
    });
    assert_eq!(whole(&json!({}), &answer).unwrap(), expected);
    // Thinking is told to those who asked for it.
    expected["content"].as_array_mut().unwrap().insert(0, thinking);
    assert_eq!(whole(&json!({"thinking": {"type": "adaptive"}}), &answer).unwrap(), expected);
}

#[test]
fn reasons_to_stop() {
    let stop = |choice: Value| {
        let answer = whole(&json!({"stop_sequences": ["END"]}), &json!({"choices": [choice]})).unwrap();
        (answer["stop_reason"].clone(), answer["stop_sequence"].clone())
    };
    let said = json!({"content": "x"});
    let of = |reason: &str, stop_reason: Value| {
        stop(json!({"message": said, "finish_reason": reason, "stop_reason": stop_reason}))
    };
    assert_eq!(of("stop", Value::Null), (json!("end_turn"), Value::Null));
    assert_eq!(of("stop", json!("END")), (json!("stop_sequence"), json!("END")));
    // A token of the model's own, and a sequence that nobody asked for.
    assert_eq!(of("stop", json!(128_009)), (json!("end_turn"), Value::Null));
    assert_eq!(of("stop", json!("<|eot|>")), (json!("end_turn"), Value::Null));
    assert_eq!(of("length", Value::Null), (json!("max_tokens"), Value::Null));
    assert_eq!(of("content_filter", Value::Null), (json!("refusal"), Value::Null));
    assert_eq!(stop(json!({"message": {"refusal": "no"}, "finish_reason": "stop"})).0, "refusal");
    let call = json!({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]});
    assert_eq!(stop(json!({"message": call, "finish_reason": "stop"})).0, "tool_use");
}

#[test]
fn arguments_that_are_no_object_are_no_tool_call() {
    let answer = |reason: &str, arguments: &str| {
        let calls = json!([{"id": "a", "function": {"name": "f", "arguments": arguments}}]);
        whole(&json!({}), &json!({"choices": [{"message": {"tool_calls": calls}, "finish_reason": reason}]}))
    };
    for arguments in ["{\"a\":", "[]", "7", "{} {}", "text"] {
        assert_eq!(answer("tool_calls", arguments), Err(Violation::BadArguments), "{arguments}");
    }
    // Cut by the token limit, half of a call is left out, as the stop reason says.
    let cut = answer("length", "{\"a\":").unwrap();
    assert_eq!((&cut["content"], &cut["stop_reason"]), (&json!([]), &json!("max_tokens")));
}

#[test]
fn events_in_order() {
    let request = ask(&json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}));
    let (events, ended) = tell(Dialect::Messages, &request, &[&sse(&long_answer())]);
    ended.unwrap();
    assert_eq!(
        events,
        [
            json!({"type": "message_start", "message": {"id": ID, "type": "message", "role": "assistant", "model": "m",
                "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 0,
                    "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m."}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Let me "}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "look\u{1f980}\n."}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "content_block_start", "index": 2,
                "content_block": {"type": "tool_use", "id": "call_a", "name": "weather", "input": {}}}),
            json!({"type": "content_block_delta", "index": 2,
                "delta": {"type": "input_json_delta", "partial_json": "{\"town\":"}}),
            json!({"type": "content_block_delta", "index": 2,
                "delta": {"type": "input_json_delta", "partial_json": "\"Bern\"}"}}),
            json!({"type": "content_block_stop", "index": 2}),
            json!({"type": "content_block_start", "index": 3,
                "content_block": {"type": "tool_use", "id": "call_b", "name": "clock", "input": {}}}),
            json!({"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
            json!({"type": "content_block_stop", "index": 3}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
                "usage": {"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
                    "output_tokens": 7, "prompt_total_cost": 120, "completion_total_cost": 70, "total_cost": 190}}),
            json!({"type": "message_stop"}),
        ]
    );
}

#[test]
fn thinking_that_nobody_asked_for_takes_no_index() {
    let stream = [delta(json!({"reasoning_content": "Hm"})), delta(json!({"content": "Hi"})), finish("stop")];
    let (events, ended) = tell(Dialect::Messages, &ask(&json!({})), &[&sse(&stream)]);
    ended.unwrap();
    assert_eq!(
        types(&events),
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert_eq!(events[2]["index"], 0);
}

#[test]
fn errors_of_engines_in_this_api_s_form() {
    let (_, translation) = translate(Dialect::Messages, &ask(&json!({}))).unwrap();
    let refusal = |status, body: &str| -> Value {
        serde_json::from_slice(&translation.refusal(status, body.to_owned().into())).unwrap()
    };
    let error = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
    let openai = r#"{"error":{"message":"too long","type":"invalid_request_error"}}"#;
    assert_eq!(refusal(400, openai), error("invalid_request_error", "too long"));
    assert_eq!(refusal(404, r#"{"error":"no model"}"#), error("not_found_error", "no model"));
    assert_eq!(refusal(429, r#"{"message":"busy","object":"error"}"#), error("rate_limit_error", "busy"));
    let generic = "the worker's engine answered with status 500";
    for nonsense in ["", "<html>", "{}", "{\"error\":7}", "[1]"] {
        assert_eq!(refusal(500, nonsense), error("api_error", generic), "{nonsense}");
    }
}
