//! The embedded engine on the real default model: the OpenAI API's shapes, limits and refusals.
//!
//! Needs the model file, whose path comes from `COCOON_TEST_MODEL`; without it these tests say that
//! they were skipped.

use std::sync::Arc;

use cocoon_llm::{Llm, LlmOptions};
use cocoon_units::{FixedClock, UnixTime};
use cocoon_wire::Sealed;
use cocoon_worker::engine::embedded::Embedded;
use cocoon_worker::engine::{EngineRequest, Health, Route};
use cocoon_worker::{Engine, EngineError};
use futures_util::StreamExt;
use serde_json::{Value, json};

fn engine() -> Option<Embedded> {
    #[expect(clippy::disallowed_methods, reason = "the one input of tests that run a real model")]
    let Ok(path) = std::env::var("COCOON_TEST_MODEL") else {
        eprintln!("skipped: COCOON_TEST_MODEL names no model file");
        return None;
    };
    let options = LlmOptions { sequences_max: 2, context_tokens_max: Some(512), queue_max: 2, ..LlmOptions::default() };
    let llm = Llm::load(path.as_ref(), &options).unwrap();
    Some(Embedded::new(llm, "smol".to_owned(), 2, Arc::new(FixedClock::at(UnixTime::from_secs_f64(7.9)))))
}

async fn ask(engine: &Embedded, route: Route, body: &Value) -> Result<(u16, String), EngineError> {
    let body = Sealed::from(body.to_string().into_bytes());
    let request = EngineRequest { route, content_type: None, accept: None, body, token_limit: None };
    let mut answer = engine.run(request).await?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.body.next().await {
        text.extend_from_slice(&chunk?);
    }
    Ok((answer.status, String::from_utf8(text).unwrap()))
}

async fn document(engine: &Embedded, route: Route, body: &Value) -> Value {
    serde_json::from_str(&ask(engine, route, body).await.unwrap().1).unwrap()
}

fn capital() -> Value {
    json!({"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, "max_tokens": 16})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_real_model_answers_in_the_apis_shapes() {
    let Some(engine) = engine() else { return };
    assert_eq!(engine.health().await, Health::Ready);
    let plain = document(&engine, Route::ChatCompletions, &capital()).await;
    let content = plain["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(!content.is_empty());
    assert_eq!((plain["created"].clone(), plain["object"].clone()), (json!(7), json!("chat.completion")));
    assert_eq!(plain["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let used = |key: &str| plain["usage"][key].as_u64().unwrap();
    assert_eq!(used("total_tokens"), used("prompt_tokens") + used("completion_tokens"));

    let body = with(capital(), json!({"stream": true, "stream_options": {"include_usage": true}, "user": "ignored"}));
    let (_, text) = ask(&engine, Route::ChatCompletions, &body).await.unwrap();
    let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert_eq!(events.last(), Some(&"data: [DONE]"));
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let streamed: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(streamed, content);
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], plain["choices"][0]["finish_reason"]);
    assert_eq!(chunks[chunks.len() - 1]["usage"], plain["usage"]);
    assert_eq!(chunks[chunks.len() - 1]["choices"], json!([]));
}

#[tokio::test]
async fn stop_limits_choices_and_probabilities() {
    let Some(engine) = engine() else { return };
    let france = json!({"prompt": "The capital of France is", "temperature": 0, "max_tokens": 4});
    let paris = document(&engine, Route::Completions, &france).await;
    assert!(paris["choices"][0]["text"].as_str().unwrap().starts_with(" Paris"), "{paris}");
    let stopped = document(&engine, Route::Completions, &with(france, json!({"stop": ["aris"]}))).await;
    assert_eq!(
        (&stopped["choices"][0]["text"], &stopped["choices"][0]["finish_reason"]),
        (&json!(" P"), &json!("stop"))
    );
    let short = document(
        &engine,
        Route::Completions,
        &json!({"prompt": "One, two,", "max_tokens": 2, "temperature": 0, "logprobs": 2}),
    )
    .await;
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    assert_eq!(short["usage"]["completion_tokens"], 2);
    assert_eq!(short["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().len(), 2);
    let two = document(
        &engine,
        Route::ChatCompletions,
        &with(capital(), json!({"n": 2, "seed": 1, "temperature": 1.0, "logprobs": true, "top_logprobs": 3})),
    )
    .await;
    assert_eq!(two["choices"].as_array().unwrap().len(), 2);
    assert_eq!(two["choices"][1]["index"], 1);
    assert_eq!(two["choices"][0]["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_small_model_keeps_a_schema_and_calls_a_function() {
    let Some(engine) = engine() else { return };
    let person = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": person}});
    let asked =
        json!({"messages": [{"role": "user", "content": "Invent a person."}], "temperature": 0, "max_tokens": 64});
    let whole =
        document(&engine, Route::ChatCompletions, &with(asked.clone(), json!({"response_format": format}))).await;
    let content = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let found: Value = serde_json::from_str(content).unwrap();
    assert!(found["name"].is_string() && found["age"].as_u64().is_some_and(|age| age <= 120), "{content}");

    let save = json!({"type": "function", "function": {"name": "save", "strict": true, "parameters": person}});
    let body = with(asked, json!({"tools": [save], "tool_choice": "required"}));
    let whole = document(&engine, Route::ChatCompletions, &body).await;
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(call["name"] == "save" && arguments["age"].is_u64(), "{whole}");
}

#[tokio::test]
async fn what_is_not_supported_is_named() {
    let Some(engine) = engine() else { return };
    for (more, param, code) in [
        (
            json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
            json!("tool_choice"),
            "unsupported_value",
        ),
        (json!({"response_format": {"type": "json_schema"}}), json!("response_format"), "missing"),
        (json!({"suffix": "x"}), json!("suffix"), "unsupported_parameter"),
        (json!({"temperature": "hot"}), json!("temperature"), "invalid_type"),
        (json!({"temperature": -1}), json!("temperature"), "invalid_value"),
        (
            json!({"messages": [{"role": "user", "content": "word ".repeat(600)}]}),
            Value::Null,
            "context_length_exceeded",
        ),
        (json!({"messages": [{"role": "user"}]}), json!("messages[0].content"), "missing"),
        (json!({"messages": [{"role": "boss", "content": "x"}]}), json!("messages[0].role"), "invalid_value"),
        (json!({"messages": []}), json!("messages"), "invalid_value"),
    ] {
        let (status, text) = ask(&engine, Route::ChatCompletions, &with(capital(), more.clone())).await.unwrap();
        let error = &serde_json::from_str::<Value>(&text).unwrap()["error"];
        assert_eq!((status, &error["param"], error["code"].as_str()), (400, &param, Some(code)), "{more} {text}");
    }
}

#[tokio::test]
async fn a_full_queue_is_overload_and_dropped_answers_make_room() {
    let Some(engine) = engine() else { return };
    let endless = json!({"prompt": "a", "max_tokens": 400, "ignore_eos": true, "stream": true});
    let run = || {
        let body = Sealed::from(endless.to_string().into_bytes());
        engine.run(EngineRequest {
            route: Route::Completions,
            content_type: None,
            accept: None,
            body,
            token_limit: None,
        })
    };
    let mut held = Vec::new();
    let overloaded = loop {
        match run().await {
            Ok(answer) => held.push(answer),
            Err(error) => break error,
        }
        assert!(held.len() < 20);
    };
    assert!(matches!(overloaded, EngineError::EngineOverloaded));
    drop(held);
    let short = json!({"prompt": "a", "max_tokens": 1});
    while let Err(error) = ask(&engine, Route::Completions, &short).await {
        assert!(matches!(error, EngineError::EngineOverloaded));
        tokio::task::yield_now().await;
    }
}
