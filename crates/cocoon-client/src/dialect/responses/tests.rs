//! Golden requests, answers and events of `/v1/responses`.

use serde_json::{Value, json};

use crate::dialect::{
    Dialect,
    tests::{chat_of, delta, finish, long_answer, refused, sse, tell, translate, types, usage},
};

const ID: &str = "abababababababababababababababab";

fn check_request(request: &Value, expected: &Value) {
    assert_eq!(&chat_of(Dialect::Responses, request), expected);
}

/// The messages of an input.
fn messages(input: &Value) -> Value {
    chat_of(Dialect::Responses, &json!({"model": "m", "input": input}))["messages"].clone()
}

fn whole(request: &Value, answer: &Value) -> Value {
    let (_, translation) = translate(Dialect::Responses, request).unwrap();
    serde_json::from_slice(&translation.whole(answer.to_string().as_bytes()).unwrap()).unwrap()
}

#[test]
fn settings() {
    check_request(
        &json!({
            "model": "m", "input": "hi", "instructions": "Be brief.", "max_output_tokens": 64, "temperature": 0.5,
            "top_p": 0.9, "user": "u", "metadata": {"team": "a"}, "parallel_tool_calls": false, "stream": true,
            "store": false, "truncation": "disabled", "previous_response_id": null, "service_tier": "auto",
            "reasoning": {"effort": "low", "summary": "auto"}, "text": {"verbosity": "low", "format": {"type": "text"}},
            "include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 2,
            "stream_options": {"include_obfuscation": false}, "seed": 7,
        }),
        &json!({
            "model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
            "max_tokens": 64, "temperature": 0.5, "top_p": 0.9, "user": "u", "parallel_tool_calls": false,
            "stream": true, "service_tier": "auto", "reasoning_effort": "low", "verbosity": "low", "logprobs": true,
            "top_logprobs": 2, "seed": 7,
        }),
    );
}

#[test]
fn a_schema_keeps_the_order_of_its_properties() {
    let body = r#"{"model":"m","input":"x","text":{"format":{"type":"json_schema","name":"n","strict":true,
        "schema":{"type":"object","properties":{"z":{"type":"number"},"a":{"type":"string"}}}}}}"#;
    let (chat, _) = Dialect::Responses.translate(body.as_bytes(), crate::dialect::tests::BIRTH).unwrap();
    let expected = r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"z":{"type":"number"},"a":{"type":"string"}}},"strict":true}}"#;
    assert!(std::str::from_utf8(&chat).unwrap().contains(expected));
    let request = json!({"model": "m", "input": "x", "text": {"format": {"type": "json_object"}}});
    assert_eq!(chat_of(Dialect::Responses, &request)["response_format"], json!({"type": "json_object"}));
}

#[test]
fn tools_and_their_choice() {
    let tool = json!({"type": "function", "name": "f", "description": "d", "strict": true,
        "parameters": {"type": "object", "properties": {}}});
    let mut request =
        json!({"model": "m", "input": "x", "tools": [tool], "tool_choice": {"type": "function", "name": "f"}});
    let chat = chat_of(Dialect::Responses, &request);
    assert_eq!(
        chat["tools"],
        json!([{"type": "function", "function": {"name": "f", "description": "d", "strict": true,
            "parameters": {"type": "object", "properties": {}}}}])
    );
    assert_eq!(chat["tool_choice"], json!({"type": "function", "function": {"name": "f"}}));
    request["tool_choice"] = json!("required");
    assert_eq!(chat_of(Dialect::Responses, &request)["tool_choice"], "required");
    request["tools"] = json!([]);
    assert!(chat_of(Dialect::Responses, &request).get("tools").is_none());
}

#[test]
fn a_conversation_of_items() {
    let input = json!([
        {"role": "developer", "content": "Use tools."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather in Bern?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "A tool."}]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
            "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{\"t\":\"Bern\"}"},
        {"type": "function_call", "call_id": "call_2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "7 degrees"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "noon"}]},
        {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "Done."}]},
        {"type": "reasoning", "id": "rs_3", "summary": [], "encrypted_content": "zzz"},
    ]);
    assert_eq!(
        messages(&input),
        json!([
            {"role": "system", "content": "Use tools."},
            {"role": "user", "content": "Weather in Bern?"},
            {"role": "assistant", "content": "I look.", "reasoning_content": "A tool.", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"t\":\"Bern\"}"}},
                {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ]},
            {"role": "tool", "content": "7 degrees", "tool_call_id": "call_1"},
            {"role": "tool", "content": "noon", "tool_call_id": "call_2"},
        ])
    );
}

#[test]
fn parts_of_content() {
    let input = json!([{"role": "user", "content": [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]}]);
    assert_eq!(
        messages(&input)[0]["content"],
        json!([
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        ])
    );
}

#[test]
fn instructions_and_the_first_system_message_are_one() {
    let request = json!({"model": "m", "instructions": "A", "input": [
        {"role": "developer", "content": [{"type": "input_text", "text": "B"}]}, {"role": "user", "content": "x"},
        {"role": "system", "content": "C"},
    ]});
    let expected = json!([{"role": "system", "content": "A\n\nB"}, {"role": "user", "content": "x"},
        {"role": "system", "content": "C"}]);
    assert_eq!(chat_of(Dialect::Responses, &request)["messages"], expected);
}

#[test]
fn what_would_have_to_be_kept_is_refused_by_name() {
    for (field, value) in [
        ("store", json!(true)),
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("conversation", json!({"id": "conv_1"})),
        ("background", json!(true)),
        ("prompt", json!({"id": "pmpt_1"})),
        ("truncation", json!("auto")),
        ("n", json!(2)),
        ("max_tool_calls", json!(3)),
        ("context_management", json!([])),
        ("include", json!(["file_search_call.results"])),
        ("instructions", json!(["x"])),
        ("tool_choice", json!({"type": "web_search"})),
        ("messages", json!([])),
    ] {
        let mut request = json!({"model": "m", "input": "x"});
        request[field] = value;
        assert_eq!(refused(Dialect::Responses, &request), field);
    }
    let harmless =
        json!({"model": "m", "input": "x", "store": false, "background": false, "n": 1, "conversation": null});
    check_request(&harmless, &json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}));
}

#[test]
fn built_in_tools_are_refused_by_name() {
    for kind in ["web_search", "web_search_preview", "file_search", "code_interpreter", "mcp", "custom", "local_shell"]
    {
        let tools = json!([{"type": "function", "name": "f", "parameters": {}}, {"type": kind}]);
        let error = translate(Dialect::Responses, &json!({"model": "m", "input": "x", "tools": tools})).unwrap_err();
        assert_eq!(error.field(), Some("tools[1].type"));
        assert!(error.to_string().contains(&format!("`{kind}`")), "{error}");
    }
}

#[test]
fn items_that_are_refused_are_named() {
    let item = |item: Value| refused(Dialect::Responses, &json!({"model": "m", "input": [item]}));
    assert_eq!(item(json!({"type": "item_reference", "id": "msg_1"})), "input[0].type");
    assert_eq!(item(json!({"type": "web_search_call", "id": "ws_1"})), "input[0].type");
    assert_eq!(item(json!({"role": "tool", "content": "x"})), "input[0].role");
    assert_eq!(item(json!({"role": "user"})), "input[0].content");
    assert_eq!(item(json!({"type": "function_call", "name": "f", "arguments": "{}"})), "input[0].call_id");
    assert_eq!(item(json!(7)), "input[0]");
    let part = |part: Value| item(json!({"role": "user", "content": [{"type": "input_text", "text": "x"}, part]}));
    assert_eq!(part(json!({"type": "input_image", "image_url": "https://a/b.png"})), "input[0].content[1].image_url");
    assert_eq!(part(json!({"type": "input_image", "file_id": "file_1"})), "input[0].content[1].file_id");
    assert_eq!(part(json!({"type": "input_file", "file_url": "https://a/b"})), "input[0].content[1]");
    assert_eq!(part(json!({"type": "input_text", "text": 7})), "input[0].content[1].text");
    assert_eq!(part(json!({"type": "hologram"})), "input[0].content[1].type");
    let input = |input: Value| refused(Dialect::Responses, &json!({"model": "m", "input": input}));
    assert_eq!(
        (input(json!([])), input(json!(null)), input(json!({}))),
        ("input".into(), "input".into(), "input".into())
    );
}

#[test]
fn errors_quote_no_prompt() {
    for request in [
        json!({"model": "m", "input": [{"role": "user", "content": {"secret": 1}}]}),
        json!({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": ["secret"]}]}]}),
        json!({"model": "m", "input": {"text": "secret"}}),
    ] {
        let error = translate(Dialect::Responses, &request).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_whole_answer() {
    let request = json!({"model": "m", "input": "x", "metadata": {"a": "b"}, "temperature": 0, "instructions": "I"});
    let answer = json!({"id": "c", "model": "/models/m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": "Hello", "refusal": null, "reasoning_content": "Hm", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
        "logprobs": {"content": [{"token": "Hello", "logprob": -0.5, "bytes": null, "top_logprobs": []}]}}],
        "usage": usage()["usage"]});
    let expected = json!({
        "id": format!("resp_{ID}"), "object": "response", "created_at": 1_795_335_274, "status": "completed",
        "background": false, "error": null, "incomplete_details": null, "instructions": "I", "max_output_tokens": null,
        "max_tool_calls": null, "metadata": {"a": "b"}, "model": "m", "output": [
            {"type": "reasoning", "id": format!("rs_{ID}00"), "status": "completed", "summary": [],
                "content": [{"type": "reasoning_text", "text": "Hm"}]},
            {"type": "message", "id": format!("msg_{ID}01"), "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "Hello", "annotations": [],
                    "logprobs": [{"token": "Hello", "logprob": -0.5, "bytes": null, "top_logprobs": []}]}]},
            {"type": "function_call", "id": format!("fc_{ID}02"), "status": "completed", "call_id": "call_1", "name": "f",
                "arguments": "{\"a\":1}"},
        ],
        "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null,
        "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": "default",
        "store": false, "temperature": 0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
        "top_logprobs": null, "top_p": null, "truncation": "disabled", "user": null,
        "usage": {"input_tokens": 12, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 19, "prompt_total_cost": 120,
            "completion_total_cost": 70, "total_cost": 190},
    });
    assert_eq!(whole(&request, &answer), expected);
}

#[test]
fn an_answer_that_was_cut_or_filtered_is_incomplete() {
    for (reason, expected) in [("length", "max_output_tokens"), ("content_filter", "content_filter")] {
        let answer = json!({"choices": [{"message": {"content": "Hel"}, "finish_reason": reason}]});
        let response = whole(&json!({"model": "m", "input": "x"}), &answer);
        assert_eq!(
            (&response["status"], &response["incomplete_details"]["reason"]),
            (&json!("incomplete"), &json!(expected))
        );
        assert_eq!(response["output"][0]["status"], "incomplete");
        assert_eq!(response["usage"], Value::Null);
    }
}

#[test]
fn events_in_order() {
    let (events, ended) = tell(Dialect::Responses, &json!({"model": "m", "input": "x"}), &[&sse(&long_answer())]);
    ended.unwrap();
    assert_eq!(
        types(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_text.delta",
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let text_id = format!("msg_{ID}01");
    assert_eq!(
        events[9],
        json!({"type": "response.output_item.added", "sequence_number": 9, "output_index": 1,
            "item": {"type": "message", "id": text_id, "status": "in_progress", "role": "assistant", "content": []}})
    );
    assert_eq!(
        events[10],
        json!({"type": "response.content_part.added", "sequence_number": 10, "item_id": text_id, "output_index": 1,
            "content_index": 0, "part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []}})
    );
    assert_eq!(
        events[11],
        json!({"type": "response.output_text.delta", "sequence_number": 11, "item_id": text_id, "output_index": 1,
            "content_index": 0, "delta": "Let me ", "logprobs": []})
    );
    assert_eq!(
        events[13],
        json!({"type": "response.output_text.done", "sequence_number": 13, "item_id": text_id, "output_index": 1,
            "content_index": 0, "text": "Let me look\u{1f980}\n.", "logprobs": []})
    );
    assert_eq!(
        events[19],
        json!({"type": "response.function_call_arguments.done", "sequence_number": 19, "item_id": format!("fc_{ID}02"),
            "output_index": 2, "name": "weather", "arguments": "{\"town\":\"Bern\"}"})
    );
    let response = &events.last().unwrap()["response"];
    assert_eq!((&response["status"], &response["store"]), (&json!("completed"), &json!(false)));
    assert_eq!(response["usage"]["total_cost"], 190);
    // A tool that takes nothing gets an object, which apps can parse.
    assert_eq!(response["output"][3]["arguments"], "{}");
    // The document at the end of a stream is the one of a whole answer.
    let done: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
        .map(|event| &event["item"])
        .collect();
    assert_eq!(done, response["output"].as_array().unwrap().iter().collect::<Vec<_>>());
}

#[test]
fn a_refusal_and_probabilities_within_a_stream() {
    let entry = json!({"token": "No", "logprob": -1.5, "bytes": [78, 111], "top_logprobs": []});
    let mut spoken = delta(json!({"content": "No"}));
    spoken["choices"][0]["logprobs"] = json!({"content": [entry], "refusal": null});
    let refusal = [delta(json!({"refusal": "I can"})), delta(json!({"refusal": "not."}))];
    let stream = [&[spoken.clone(), spoken], refusal.as_slice(), &[finish("stop")]].concat();
    let (events, ended) = tell(Dialect::Responses, &json!({"model": "m", "input": "x"}), &[&sse(&stream)]);
    ended.unwrap();
    assert_eq!(events[4]["logprobs"], json!([entry]));
    let output = &events.last().unwrap()["response"]["output"];
    assert_eq!(output[0]["content"][0]["logprobs"], json!([entry, entry]));
    assert_eq!(output[1]["content"], json!([{"type": "refusal", "refusal": "I cannot."}]));
    assert!(types(&events).contains(&"response.refusal.done"));
}

#[test]
fn probabilities_that_a_worker_writes_on_several_lines() {
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"logprobs\":{\"content\":[{\ndata:\ndata: }\ndata: ,{}]}}]}\n\n\
        data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n";
    let (events, ended) = tell(Dialect::Responses, &json!({"model": "m", "input": "x"}), &[stream]);
    ended.unwrap();
    assert_eq!(events[4]["logprobs"], json!([{}, {}]));
    assert_eq!(events.last().unwrap()["type"], "response.completed");
}

#[test]
fn a_stream_that_breaks_off_fails_with_what_was_said() {
    let stream = sse(&[delta(json!({"content": "half"}))]);
    let (events, _) = tell(Dialect::Responses, &json!({"model": "m", "input": "x"}), &[&stream]);
    let [.., failed, error] = events.as_slice() else { panic!("two events end it") };
    assert_eq!(failed["type"], "response.failed");
    assert_eq!(failed["response"]["error"], json!({"code": "server_error", "message": "it broke"}));
    assert_eq!(
        (&failed["response"]["status"], &failed["response"]["output"][0]["status"]),
        (&json!("failed"), &json!("incomplete"))
    );
    assert_eq!((&error["code"], &error["error"]["code"]), (&json!("proxy_lost"), &json!("proxy_lost")));
}
