//! The embedded embedding engine: the OpenAI API's shapes, limits and refusals, on the tiny model of `cocoon-llm`'s own
//! tests. Whether vectors mean anything is tested there, on a real model.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_llm::EmbedderOptions;
use cocoon_wire::Sealed;
use cocoon_worker::engine::embedded::EmbeddedEmbeddings;
use cocoon_worker::engine::{EngineModel, EngineRequest, Health, Route};
use cocoon_worker::{Engine, EngineError};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::bert::{Folder, TOKENS_MAX, WIDTH, tiny};

fn engine() -> EmbeddedEmbeddings {
    EmbeddedEmbeddings::new(tiny(), "tiny-bert".to_owned(), 4)
}

fn request(route: Route, body: &Value) -> EngineRequest {
    let body = Sealed::from(body.to_string().into_bytes());
    EngineRequest { route, content_type: None, accept: None, body, token_limit: None }
}

async fn ask(engine: &dyn Engine, route: Route, body: &Value) -> Result<(u16, Value), EngineError> {
    let mut answer = engine.run(request(route, body)).await?;
    let mut text = Vec::new();
    while let Some(piece) = answer.body.next().await {
        text.extend_from_slice(&piece?);
    }
    assert_eq!(answer.content_type.as_deref(), Some("application/json"));
    Ok((answer.status, serde_json::from_slice(&text).unwrap()))
}

async fn embedded(body: &Value) -> Value {
    let (status, document) = ask(&engine(), Route::Embeddings, body).await.unwrap();
    assert_eq!(status, 200, "{document}");
    document
}

#[expect(clippy::cast_possible_truncation, reason = "they were written as 32-bit floats")]
fn numbers(item: &Value) -> Vec<f32> {
    item["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

#[tokio::test]
async fn one_text_is_answered_in_the_apis_shape() {
    let document = embedded(&json!({"model": "tiny-bert", "input": "rain falls.", "user": "ignored"})).await;
    assert_eq!((&document["object"], &document["model"]), (&json!("list"), &json!("tiny-bert")));
    assert_eq!(document["usage"], json!({"prompt_tokens": 5, "total_tokens": 5}));
    assert_eq!(document["data"].as_array().unwrap().len(), 1);
    let item = &document["data"][0];
    assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(0)));
    assert_eq!(numbers(item).len(), WIDTH);
}

#[tokio::test]
async fn texts_and_their_tokens_have_the_same_vectors() {
    let tokens = [[2, 4, 7, 3], [2, 6, 7, 3]];
    let texts = embedded(&json!({"input": ["rain falls", "snow falls"]})).await;
    assert_eq!(texts["usage"]["prompt_tokens"], 8);
    assert_eq!(texts["data"][1]["index"], 1);
    assert_eq!(embedded(&json!({"input": tokens})).await["data"], texts["data"]);
    let alone = embedded(&json!({"input": tokens[0]})).await;
    assert_eq!(alone["data"].as_array().unwrap().len(), 1);
    assert_eq!(embedded(&json!({"input": "rain falls"})).await["data"], alone["data"]);
    let swapped = embedded(&json!({"input": ["snow falls", "rain falls"]})).await;
    assert_eq!(swapped["data"][0]["embedding"], texts["data"][1]["embedding"]);
}

#[tokio::test]
async fn base64_holds_the_same_numbers() {
    let body = |format: &str| json!({"input": "snow", "encoding_format": format, "dimensions": WIDTH});
    let (plain, encoded) = (embedded(&body("float")).await, embedded(&body("base64")).await);
    let bytes = STANDARD.decode(encoded["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let decoded: Vec<f32> = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
    assert_eq!(decoded, numbers(&plain["data"][0]));
    assert_eq!(encoded["usage"], plain["usage"]);
}

#[tokio::test]
async fn many_texts_come_in_order() {
    let texts: Vec<&str> = (0..100).map(|index| if index % 3 == 0 { "rain" } else { "snow" }).collect();
    let document = embedded(&json!({"input": texts})).await;
    let data = document["data"].as_array().unwrap();
    assert_eq!(document["usage"]["total_tokens"], 300);
    for (index, item) in data.iter().enumerate() {
        assert_eq!(item["index"], index);
    }
    assert_ne!(data[0]["embedding"], data[1]["embedding"]);
    assert_eq!(data.len(), 100);
}

#[tokio::test]
async fn what_is_not_served_is_refused_by_name() {
    let engine = engine();
    let long = "rain ".repeat(TOKENS_MAX);
    for (body, param, code, words) in [
        (json!({"input": "x", "dimensions": 8}), "dimensions", "unsupported_parameter", "Matryoshka"),
        (json!({"input": "x", "dimensions": "8"}), "dimensions", "invalid_type", "type"),
        (json!({"input": "x", "encoding_format": "hex"}), "encoding_format", "invalid_value", "base64"),
        (json!({"input": "x", "encoding_format": 1}), "encoding_format", "invalid_value", "base64"),
        (json!({}), "input", "missing", "input"),
        (json!({"input": null}), "input", "missing", "input"),
        (json!({"input": {"text": "x"}}), "input", "invalid_type", "input"),
        (json!({"input": [1, "x"]}), "input", "invalid_type", "input"),
        (json!({"input": [-1]}), "input", "invalid_type", "input"),
        (json!({"input": ""}), "input", "invalid_value", "empty"),
        (json!({"input": []}), "input", "invalid_value", "empty"),
        (json!({"input": ["x", ""]}), "input[1]", "invalid_value", "empty"),
        (json!({"input": [[1], []]}), "input[1]", "invalid_value", "empty"),
        (json!({"input": [[1], [99]]}), "input[1]", "invalid_value", "token"),
        (json!({"input": long}), "input", "context_length_exceeded", "at most 24"),
        (json!({"input": ["x", long]}), "input[1]", "context_length_exceeded", "26 tokens"),
        (json!({"input": ["x", "y".repeat(1 << 17)]}), "input[1]", "context_length_exceeded", "bytes"),
        (json!({"input": vec!["x"; 2049]}), "input", "invalid_value", "2048"),
        (json!({"input": vec![[1]; 2049]}), "input", "invalid_value", "2048"),
    ] {
        let (status, answer) = ask(&engine, Route::Embeddings, &body).await.unwrap();
        let error = &answer["error"];
        assert_eq!(
            (status, error["param"].as_str(), error["code"].as_str()),
            (400, Some(param), Some(code)),
            "{answer}"
        );
        assert!(error["message"].as_str().unwrap().contains(words), "{answer}");
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let engine = engine();
    for body in [json!([]), json!("input"), json!(7), Value::Null] {
        let (status, answer) = ask(&engine, Route::Embeddings, &body).await.unwrap();
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_type")), "{answer}");
    }
}

#[tokio::test]
async fn a_chat_with_an_embedding_model_is_refused_by_name() {
    let engine = engine();
    let chat = json!({"model": "tiny-bert", "messages": [{"role": "user", "content": "rain?"}]});
    for route in Route::ALL.into_iter().filter(|route| !matches!(route, Route::Embeddings | Route::Models)) {
        let (status, answer) = ask(&engine, route, &chat).await.unwrap();
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("unsupported_endpoint")));
        let message = answer["error"]["message"].as_str().unwrap();
        for word in ["tiny-bert", "embedding model", "/v1/embeddings", route.path()] {
            assert!(message.contains(word), "{message}");
        }
    }
}

#[tokio::test]
async fn it_says_what_it_serves() {
    let engine = engine();
    assert_eq!(engine.models(), [EngineModel { id: "tiny-bert".to_owned() }]);
    assert_eq!(engine.health().await, Health::Ready);
    assert_eq!(engine.load().slots, Some(4));
    let (_, list) = ask(&engine, Route::Models, &Value::Null).await.unwrap();
    assert_eq!(list["data"][0]["id"], "tiny-bert");
}

#[tokio::test]
async fn a_full_queue_is_overload_and_dropped_requests_make_room() {
    let options = EmbedderOptions { queue_max: 1, ..EmbedderOptions::default() };
    let embedder = Folder::tiny().load(&options).unwrap();
    let engine = Arc::new(EmbeddedEmbeddings::new(embedder, "tiny-bert".to_owned(), 4));
    let long = json!({"input": vec![vec![4; TOKENS_MAX]; 2048]});
    let mut running = tokio::task::JoinSet::new();
    let overloaded = loop {
        let (engine, request) = (Arc::clone(&engine), request(Route::Embeddings, &long));
        running.spawn(async move { engine.run(request).await.map(drop) });
        tokio::task::yield_now().await;
        if let Some(Ok(Err(error))) = running.try_join_next() {
            break error;
        }
        assert!(running.len() < 200);
    };
    assert!(matches!(overloaded, EngineError::EngineOverloaded));
    running.shutdown().await;
    while ask(engine.as_ref(), Route::Embeddings, &json!({"input": "rain"})).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_of_a_request_is_shown() {
    let shown = format!("{:?}", engine());
    assert!(shown.contains("tiny-bert") && !shown.contains("rain"));
}
