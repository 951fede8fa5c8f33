//! The embedded engine where the shape of an answer matters: several choices, probabilities, JSON by a
//! schema, calls of tools. On a model of a few kilobytes with random weights, whose tokens are bytes: what
//! such a model gets right, the engine got right.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_llm::{Llm, LlmOptions};
use cocoon_units::{FixedClock, UnixTime};
use cocoon_wire::Sealed;
use cocoon_worker::Engine;
use cocoon_worker::engine::embedded::{Embedded, count_prompt};
use cocoon_worker::engine::{EngineRequest, Route};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::tiny::{File, load, text, uint};

/// Shows tools, calls and results, as Hermes' templates do.
const TOOL_TEMPLATE: &str = "{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}\
{% for call in message.tool_calls or [] %}<tool_call>{{ call.function.arguments | tojson }}</tool_call>{% endfor %}\
{{ '<|im_end|>' }}{% endfor %}";

/// Drops what it does not know.
const FORGETFUL_TEMPLATE: &str =
    "{% for message in messages %}{% if message['role'] != 'tool' %}{{ message['content'] }}{% endif %}{% endfor %}";

fn llm(template: Option<&str>) -> Llm {
    let mut file = File::tiny();
    file.set("llama.context_length", uint(4096));
    if let Some(template) = template {
        file.set("tokenizer.chat_template", text(template));
    }
    let options = LlmOptions { sequences_max: 3, ..LlmOptions::default() };
    load(&file, &options).unwrap()
}

fn engine(template: Option<&str>) -> Embedded {
    let clock = FixedClock::at(UnixTime::from_secs_f64(7.9));
    Embedded::new(llm(template), "tiny".to_owned(), 3, Arc::new(clock))
}

fn request(route: Route, body: &Value) -> EngineRequest {
    let body = Sealed::from(body.to_string().into_bytes());
    EngineRequest { route, content_type: None, accept: None, body, token_limit: None }
}

async fn ask(engine: &Embedded, route: Route, body: &Value) -> (u16, String) {
    let mut answer = engine.run(request(route, body)).await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = answer.body.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    (answer.status, String::from_utf8(text).unwrap())
}

async fn chat(engine: &Embedded, body: &Value) -> Value {
    let (status, text) = ask(engine, Route::ChatCompletions, body).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn refused(engine: &Embedded, body: &Value) -> (String, String, String) {
    let (status, text) = ask(engine, Route::ChatCompletions, body).await;
    let error = serde_json::from_str::<Value>(&text).unwrap()["error"].take();
    assert_eq!((status, &error["type"]), (400, &json!("invalid_request_error")), "{text}");
    let word = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (word("param"), word("code"), word("message"))
}

/// The choices of every chunk, in order.
async fn stream(engine: &Embedded, route: Route, body: &Value) -> (Vec<Value>, Value) {
    let body = with(body, json!({"stream": true, "stream_options": {"include_usage": true}}));
    let (status, text) = ask(engine, route, &body).await;
    assert_eq!(status, 200, "{text}");
    let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(*done, "data: [DONE]");
    let chunks = chunks.iter().map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap());
    let mut chunks: Vec<Value> = chunks.collect();
    let usage = chunks.pop().unwrap()["usage"].take();
    (chunks.iter_mut().map(|chunk| chunk["choices"][0].take()).collect(), usage)
}

fn with(body: &Value, more: Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": "Hello"}], "seed": 3, "max_tokens": 900})
}

fn point() -> Value {
    json!({
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/n"}, "up": {"type": "boolean"}},
        "required": ["x", "up"],
        "additionalProperties": false,
        "$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
    })
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "moves", "parameters": point(), "strict": true}})
}

fn forced() -> Value {
    let choice = json!({"type": "function", "function": {"name": "move"}});
    with(&hello(), json!({"tools": [tool("stop"), tool("move")], "tool_choice": choice}))
}

fn is_point(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap();
    value["x"].as_u64().is_some_and(|x| x < 100) && value["up"].is_boolean() && value.as_object().unwrap().len() == 2
}

#[tokio::test]
async fn choices_share_a_prompt_that_counts_once_and_come_interleaved() {
    let engine = engine(None);
    let body = with(&hello(), json!({"n": 5, "max_tokens": 40, "ignore_eos": true}));
    let whole = chat(&engine, &body).await;
    assert_eq!(whole["usage"]["completion_tokens"], 200);
    let one = chat(&engine, &with(&body, json!({"n": 1}))).await;
    assert_eq!(whole["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"]);
    assert_eq!(whole["choices"][0]["message"], one["choices"][0]["message"]);
    assert_ne!(whole["choices"][1]["message"], one["choices"][0]["message"]);

    let (chunks, usage) = stream(&engine, Route::ChatCompletions, &body).await;
    assert_eq!(usage, whole["usage"]);
    let mut texts = BTreeMap::new();
    let mut changes = 0;
    for pair in chunks.windows(2) {
        changes += usize::from(pair[0]["index"] != pair[1]["index"]);
    }
    for chunk in &chunks {
        let text: &mut String = texts.entry(chunk["index"].as_u64().unwrap()).or_default();
        text.push_str(chunk["delta"]["content"].as_str().unwrap_or_default());
    }
    assert!(changes > 40, "{changes}");
    for (index, text) in texts {
        assert_eq!(whole["choices"][usize::try_from(index).unwrap()]["message"]["content"], text);
    }
    assert_eq!(chunks.iter().filter(|chunk| chunk["finish_reason"] == "length").count(), 5);
}

#[tokio::test]
async fn probabilities_come_in_the_apis_shapes() {
    let engine = engine(None);
    let body = with(&hello(), json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 12, "ignore_eos": true}));
    let whole = chat(&engine, &body).await;
    let content = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 12);
    for token in content {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["bytes"].is_array() && token["token"].is_string());
        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(2));
    }
    let (chunks, _) = stream(&engine, Route::ChatCompletions, &body).await;
    let streamed = chunks.iter().filter_map(|chunk| chunk["logprobs"]["content"].as_array()).flatten();
    assert!(streamed.eq(content));

    let body = json!({"prompt": "x", "seed": 1, "max_tokens": 20, "logprobs": 1, "ignore_eos": true,
                      "logit_bias": {"97": 90, "195": 90, "169": 90}, "frequency_penalty": 1.0});
    let (_, whole) = ask(&engine, Route::Completions, &body).await;
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let told = &whole["choices"][0]["logprobs"];
    let offsets: Vec<u64> = told["text_offset"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
    assert_eq!((offsets.len(), offsets[0]), (20, 0));
    assert!(offsets.is_sorted() && offsets[19] < 20);
    // What was chosen is always among the alternatives.
    assert!(
        told["top_logprobs"].as_array().unwrap().iter().all(|top| (1..=2).contains(&top.as_object().unwrap().len()))
    );
    let (chunks, _) = stream(&engine, Route::Completions, &body).await;
    let streamed = chunks.iter().filter_map(|chunk| chunk["logprobs"]["text_offset"].as_array()).flatten();
    assert!(streamed.map(|at| at.as_u64().unwrap()).eq(offsets));
}

#[tokio::test]
async fn an_answer_is_the_json_that_was_asked_for() {
    let engine = engine(None);
    let format = json!({"type": "json_schema", "json_schema": {"name": "point", "strict": true, "schema": point()}});
    let body = with(&hello(), json!({"response_format": format, "n": 3}));
    let whole = chat(&engine, &body).await;
    for choice in whole["choices"].as_array().unwrap() {
        assert_eq!(choice["finish_reason"], "stop");
        assert!(is_point(choice["message"]["content"].as_str().unwrap()));
    }
    let (chunks, _) = stream(&engine, Route::ChatCompletions, &body).await;
    let first = chunks.iter().filter(|chunk| chunk["index"] == 0);
    let streamed: String = first.filter_map(|chunk| chunk["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], streamed);

    let object = with(&hello(), json!({"response_format": {"type": "json_object"}, "max_tokens": 60}));
    let whole = chat(&engine, &object).await;
    assert!(whole["choices"][0]["message"]["content"].as_str().unwrap().starts_with('{'));
}

#[tokio::test]
async fn schemas_that_cannot_be_kept_are_refused_with_the_reason() {
    let engine = engine(None);
    let deep = (0..70).fold(json!({}), |inner, _| json!({"items": inner}));
    for (schema, reason) in [
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"$ref": "http://169.254.169.254/latest"}), "$ref"),
        (json!({"type": "string", "pattern": "("}), "regex"),
        (json!({"enum": ["x".repeat(70_000)]}), "65536 bytes"),
        (deep, "64 levels"),
        (json!("x"), "object"),
    ] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
        let (param, code, message) = refused(&engine, &with(&hello(), json!({"response_format": format}))).await;
        assert_eq!((param.as_str(), code.as_str()), ("response_format", "invalid_json_schema"), "{message}");
        assert!(message.contains(reason), "{message}");
        let function = json!({"name": "f", "parameters": schema, "strict": true});
        let body = json!({"tools": [{"type": "function", "function": function}], "tool_choice": "required"});
        let (param, code, _) = refused(&engine, &with(&hello(), body)).await;
        // What is too long for a schema is too long for the prompt, which tells the model of it.
        assert!(param.starts_with("tools") || code == "context_length_exceeded", "{param} {code}");
    }
}

#[tokio::test]
async fn a_named_function_is_called() {
    let engine = engine(None);
    let whole = chat(&engine, &forced()).await;
    let choice = &whole["choices"][0];
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(
        (calls.len(), &choice["message"]["content"], &choice["finish_reason"]),
        (1, &Value::Null, &json!("tool_calls"))
    );
    assert_eq!((&calls[0]["type"], &calls[0]["function"]["name"]), (&json!("function"), &json!("move")));
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
    let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
    assert!(is_point(arguments), "{arguments}");

    let (chunks, usage) = stream(&engine, Route::ChatCompletions, &forced()).await;
    assert_eq!(usage, whole["usage"]);
    assert_eq!(chunks[0]["delta"], json!({"role": "assistant", "content": null}));
    let deltas: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk["delta"]["tool_calls"].as_array()).flatten().collect();
    assert_eq!((&deltas[0]["index"], &deltas[0]["function"]["name"]), (&json!(0), &json!("move")));
    assert!(deltas[1..].iter().all(|delta| delta.get("id").is_none() && delta["index"] == 0));
    let streamed: String = deltas.iter().filter_map(|delta| delta["function"]["arguments"].as_str()).collect();
    assert_eq!(streamed, arguments);
    assert_eq!(chunks.last().unwrap()["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn some_function_is_called_when_one_is_required() {
    let engine = engine(None);
    for (letter, expected) in [("109", "move"), ("115", "stop")] {
        let leaning = json!({"tool_choice": "required", "logit_bias": {letter: 60}});
        let whole = chat(&engine, &with(&forced(), leaning)).await;
        let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(call["name"], expected);
        assert!(is_point(call["arguments"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn a_call_that_is_cut_off_says_so() {
    let whole = chat(&engine(None), &with(&forced(), json!({"max_tokens": 35}))).await;
    let choice = &whole["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("length"), &Value::Null));
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["name"], "move");
}

#[tokio::test]
async fn choosing_tools_takes_a_model_that_has_learnt_it() {
    let auto = with(&forced(), json!({"tool_choice": "auto", "model": "tiny", "max_tokens": 8}));
    let (param, code, message) = refused(&engine(None), &auto).await;
    assert_eq!((param.as_str(), code.as_str()), ("tool_choice", "unsupported_value"));
    assert!(message.contains("`tiny`") && message.contains("`required`"), "{message}");
    let learnt = engine(Some(TOOL_TEMPLATE));
    let whole = chat(&learnt, &auto).await;
    let none = chat(&learnt, &with(&auto, json!({"tool_choice": "none"}))).await;
    let prompt = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt(&whole) > prompt(&none) + 100, "it is shown its tools");
    let format = with(&auto, json!({"response_format": {"type": "json_object"}}));
    assert_eq!(refused(&learnt, &format).await.0, "response_format");
}

#[tokio::test]
async fn results_of_tools_reach_the_model_or_are_refused() {
    let call = json!({"id": "1", "type": "function", "function": {"name": "move", "arguments": "{\"x\": 1}"}});
    let history = json!([
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "arrived"},
    ]);
    let body = with(&hello(), json!({"messages": history, "max_tokens": 2}));
    for template in [None, Some(TOOL_TEMPLATE)] {
        assert!(chat(&engine(template), &body).await["usage"]["prompt_tokens"].as_u64().unwrap() > 40);
    }
    let (param, _, message) = refused(&engine(Some(FORGETFUL_TEMPLATE)), &body).await;
    assert!(param == "messages[2].role" && !message.contains("arrived"), "{message}");
}

/// Who checks a receipt counts as the engine does.
#[tokio::test]
async fn what_a_model_is_told_of_its_tools_is_counted_alike() {
    for template in [None, Some(TOOL_TEMPLATE)] {
        let whole = chat(&engine(template), &with(&forced(), json!({"n": 2}))).await;
        let counted = count_prompt(&llm(template), Route::ChatCompletions, Bytes::from(forced().to_string()));
        assert_eq!(whole["usage"]["prompt_tokens"], counted.unwrap());
    }
}
