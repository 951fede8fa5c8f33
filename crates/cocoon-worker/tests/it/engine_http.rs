//! The HTTP adapter by itself: connection reuse, and an engine whose keep-alive ran out.

use std::sync::Arc;
use std::time::Duration;

use cocoon_sim::{Behaviour, ScriptedEngine};
use cocoon_wire::Sealed;
use cocoon_worker::engine::openai_http::OpenAiHttp;
use cocoon_worker::engine::{EngineRequest, Health, Route};
use cocoon_worker::{Engine, EngineError, OpenAiHttpConfig};
use futures_util::StreamExt;

use crate::harness::InMemory;

fn adapter() -> (Arc<ScriptedEngine>, OpenAiHttp) {
    let engine = Arc::new(ScriptedEngine::in_memory());
    let adapter = OpenAiHttp::over(&OpenAiHttpConfig::default(), Arc::new(InMemory(Arc::clone(&engine))));
    (engine, adapter)
}

fn ask(body: &str) -> EngineRequest {
    EngineRequest {
        route: Route::ChatCompletions,
        content_type: Some("application/json".to_owned()),
        accept: None,
        body: Sealed::from(body.as_bytes().to_vec()),
        token_limit: None,
    }
}

async fn run(adapter: &OpenAiHttp, body: &str) -> Result<String, EngineError> {
    let mut answer = adapter.run(ask(body)).await?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.body.next().await {
        text.extend_from_slice(&chunk?);
    }
    Ok(String::from_utf8(text).unwrap())
}

#[tokio::test(start_paused = true)]
async fn connections_are_used_again_after_plain_and_streamed_answers() {
    let (engine, adapter) = adapter();
    for body in ["{}", r#"{"stream":true}"#, "{}", r#"{"stream":true,"user":"sim:tokens=500"}"#, "{}"] {
        run(&adapter, body).await.unwrap();
    }
    assert_eq!(engine.connections(), 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    run(&adapter, "{}").await.unwrap();
    assert_eq!(engine.connections(), 2, "an old connection is not trusted");
}

#[tokio::test(start_paused = true)]
async fn a_stale_connection_is_replaced_once_and_a_broken_engine_is_reported() {
    let (engine, adapter) = adapter();
    run(&adapter, "{}").await.unwrap();
    engine.push(Behaviour::Close);
    assert!(run(&adapter, "{}").await.unwrap().contains("scripted"));
    engine.push(Behaviour::Close);
    engine.push(Behaviour::Close);
    assert!(matches!(run(&adapter, "{}").await, Err(EngineError::EngineBroke(_))));
}

#[tokio::test(start_paused = true)]
async fn health_knows_loading_ready_and_the_models() {
    let (engine, adapter) = adapter();
    engine.set_loading(true);
    assert_eq!(adapter.health().await, Health::Loading);
    engine.set_loading(false);
    engine.set_models(&["m"]);
    assert_eq!(adapter.health().await, Health::Ready);
    assert_eq!(adapter.models()[0].id, "m");
}

#[tokio::test(start_paused = true)]
async fn encoded_answers_are_refused() {
    let (engine, adapter) = adapter();
    let headers = vec![("Content-Encoding".to_owned(), "gzip".to_owned())];
    let behaviour = Behaviour::Raw {
        status: 200,
        content_type: "application/json".to_owned(),
        headers,
        events: vec![],
        ending: Default::default(),
    };
    engine.push(behaviour);
    assert!(matches!(run(&adapter, "{}").await, Err(EngineError::EngineAnswer(_))));
}

#[tokio::test]
async fn real_tcp_works_the_same() {
    let engine = ScriptedEngine::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/v1", engine.addr().unwrap());
    let adapter = OpenAiHttp::new(&OpenAiHttpConfig { url, ..OpenAiHttpConfig::default() }).unwrap();
    assert_eq!(adapter.health().await, Health::Ready);
    for _ in 0..3 {
        assert!(run(&adapter, r#"{"stream":true}"#).await.unwrap().ends_with("data: [DONE]\n\n"));
    }
    assert_eq!(engine.connections(), 1);
}
