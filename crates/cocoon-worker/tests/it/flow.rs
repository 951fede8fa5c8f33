//! Requests that go well, and requests that fail: what the proxy gets and what is billed.

use std::sync::Arc;
use std::time::Duration;

use cocoon_sim::{Behaviour, Ending, Event, Outcome, ScriptedEngine};
use cocoon_wire::failure::{Blame, FailureCode};
use cocoon_wire::message::ProxyToWorker;
use cocoon_worker::OpenAiHttpConfig;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Bench, InMemory, NOW, Unreachable, chat, config, id, original, request};

const PLAIN: &str = r#"{"model":"scripted","messages":[],"max_tokens":8}"#;
const STREAM: &str =
    r#"{"model":"scripted","messages":[],"max_tokens":8,"stream":true,"stream_options":{"include_usage":true}}"#;

#[tokio::test(start_paused = true)]
async fn a_plain_answer_is_one_message_in_the_extended_profile() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::json(
        200,
        json!({"usage": {"prompt_tokens": 10, "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 1}}}),
    ));
    proxy.run(chat(1, PLAIN));
    let whole = proxy.whole().await;
    assert_eq!((whole.status, whole.messages), (200, 1));
    assert_eq!(whole.header("content-type"), Some("application/json"));
    assert_eq!(whole.header("x-cocoon-worker-start"), Some("1700000000.500000"));
    assert_eq!(whole.header("x-cocoon-worker-end"), Some("1700000000.500000"));
    assert_eq!(whole.headers.len(), 3);
    // Coefficient 2000: each of the four disjoint kinds counts double.
    assert_eq!(whole.tokens(), [14, 6, 6, 2, 28]);
    assert_eq!(whole.end.unwrap().worker_start, Some(NOW));
    assert_eq!(&bench.engine.requests()[0].body[..], PLAIN.as_bytes());
    assert_eq!(bench.handle.status().tokens.completion, 4);
}

#[tokio::test(start_paused = true)]
async fn an_original_leg_gets_a_head_and_a_part() {
    let (_bench, mut proxy) = Bench::connected(original()).await;
    proxy.run(chat(1, PLAIN));
    let whole = proxy.whole().await;
    assert_eq!((whole.status, whole.messages), (200, 2));
    assert!(whole.pieces[0].is_empty());
    assert!(whole.text().contains("scripted engine"));
    assert_eq!(whole.tokens(), [18, 0, 16, 0, 34]);
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_is_cut_into_parts_and_stays_the_same() {
    for config in [config(), original()] {
        let (bench, mut proxy) = Bench::connected(config).await;
        let text = "x".repeat(300_000);
        bench.engine.push(Behaviour::json(
            200,
            json!(format!(r#"{{"text":"{text}","usage":{{"prompt_tokens":1,"completion_tokens":1}}}}"#)),
        ));
        proxy.run(chat(1, PLAIN));
        let whole = proxy.whole().await;
        assert!(
            whole.messages > 4 && whole.pieces.iter().all(|piece| piece.len() <= cocoon_wire::limits::ANSWER_PART_MAX)
        );
        assert!(whole.text().contains(&text));
        assert_eq!(whole.tokens()[4], 4);
    }
}

#[tokio::test(start_paused = true)]
async fn the_engines_own_4xx_passes_with_its_body_and_costs_nothing() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::error(422, "temperature must be below 2"));
    proxy.run(chat(1, STREAM));
    let whole = proxy.whole().await;
    assert_eq!(whole.status, 422);
    assert!(whole.text().contains("temperature must be below 2"));
    assert!(whole.header("x-cocoon-worker-end").is_some());
    assert_eq!(whole.tokens(), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn engine_failures_are_blamed_on_the_engine_and_show_nothing_of_it() {
    for (behaviour, code) in [
        (Behaviour::error(500, "secret at 10.0.0.1"), FailureCode::EngineFailed),
        (Behaviour::error(401, "bad key"), FailureCode::EngineFailed),
        (Behaviour::error(302, "elsewhere"), FailureCode::EngineFailed),
        (Behaviour::error(429, "busy"), FailureCode::Overloaded),
        (Behaviour::Loading, FailureCode::EngineLoading),
        (Behaviour::Close, FailureCode::EngineFailed),
    ] {
        let (bench, mut proxy) = Bench::connected(config()).await;
        bench.engine.set_default(behaviour.clone());
        proxy.run(chat(1, PLAIN));
        let whole = proxy.whole().await;
        let failure = whole.failure.as_ref().unwrap();
        assert_eq!((failure.blame, failure.code), (Blame::Engine, code), "{behaviour:?}");
        assert!(!failure.message.contains("10.0.0.1"));
        assert_eq!(whole.tokens(), [0; 5]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_original_proxy_gets_failures_as_http() {
    let (bench, mut proxy) = Bench::connected(original()).await;
    bench.engine.push(Behaviour::error(500, "broken"));
    proxy.run(chat(1, PLAIN));
    let whole = proxy.whole().await;
    assert_eq!((whole.status, whole.messages), (502, 1));
    assert!(whole.text().starts_with(r#"{"error":{"message":"#));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_not_there_is_a_failure_with_blame() {
    let engine = Arc::new(ScriptedEngine::in_memory());
    let bench = Bench::with(config(), OpenAiHttpConfig::default(), Arc::new(Unreachable), engine);
    let mut proxy = bench.accept().await;
    assert!(proxy.disabled);
    proxy.run(chat(1, PLAIN));
    let failure = proxy.whole().await.failure.unwrap();
    assert_eq!(
        (failure.blame, failure.code, failure.code.http_status()),
        (Blame::Engine, FailureCode::EngineFailed, 502)
    );
}

#[tokio::test(start_paused = true)]
async fn engine_gone_mid_stream_is_an_error_with_blame() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::Tokens { count: 3, delay_ms: 10, force_usage: false, ending: Ending::Cut });
    proxy.run(chat(1, STREAM));
    let whole = proxy.whole().await;
    assert!(whole.text().contains(" t2"));
    let failure = whole.failure.as_ref().unwrap();
    assert_eq!((failure.blame, failure.code), (Blame::Engine, FailureCode::EngineFailed));
    assert_eq!(whole.tokens(), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn engine_gone_mid_stream_is_an_error_event_on_an_original_leg() {
    let (bench, mut proxy) = Bench::connected(original()).await;
    bench.engine.push(Behaviour::Tokens { count: 3, delay_ms: 10, force_usage: false, ending: Ending::Cut });
    proxy.run(chat(1, STREAM));
    let whole = proxy.whole().await;
    let last = whole.text().split("data: ").last().unwrap().to_owned();
    let event: serde_json::Value = serde_json::from_str(last.trim()).unwrap();
    assert_eq!(event["error"]["code"], "engine_failed");
    assert!(whole.end.is_some());
}

#[tokio::test(start_paused = true)]
async fn cancel_reaches_the_engine_and_bills_what_was_delivered() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::Tokens { count: 1000, delay_ms: 100, force_usage: false, ending: Ending::Finish });
    proxy.run(chat(1, &STREAM.replace("\"max_tokens\":8", "\"max_tokens\":2000")));
    for _ in 0..12 {
        proxy.answer().await;
    }
    let asked = Instant::now();
    proxy.outbox.send_control(ProxyToWorker::Cancel { request_id: id(1) }.encode(proxy.version)).unwrap();
    let whole = proxy.whole().await;
    let failure = whole.failure.as_ref().unwrap();
    assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::Cancelled));
    bench.engine.wait_for(|records| records[0].outcome == Outcome::HungUp).await;
    // Its count may be near, so it is read on for a quarter of a second.
    assert!(asked.elapsed() < Duration::from_millis(300), "{:?}", asked.elapsed());
    // 11 events were delivered; the first and a possible last hold no token. Coefficient 2000 doubles.
    assert_eq!(whole.tokens(), [0, 0, 18, 0, 18]);
}

#[tokio::test(start_paused = true)]
async fn cancel_before_the_answer_costs_nothing() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::Hang);
    proxy.run(chat(1, PLAIN));
    bench.engine.wait_for(|records| records.len() == 1).await;
    proxy.send(&ProxyToWorker::Cancel { request_id: id(1) });
    assert_eq!(proxy.whole().await.tokens(), [0; 5]);
    bench.engine.wait_for(|records| records[0].outcome == Outcome::HungUp).await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cancels_the_engine() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::Hang);
    let began = Instant::now();
    proxy.run(cocoon_wire::message::WorkerRun { timeout_ms: 1500, ..chat(1, PLAIN) });
    let failure = proxy.whole().await.failure.unwrap();
    assert_eq!((failure.code, began.elapsed().as_millis()), (FailureCode::Timeout, 1500));
    bench.engine.wait_for(|records| records[0].outcome == Outcome::HungUp).await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_stream_ends_after_the_stall_timeout_and_a_slow_one_does_not() {
    let engine = Arc::new(ScriptedEngine::in_memory());
    let http = OpenAiHttpConfig { stall_timeout_ms: 5_000, ..OpenAiHttpConfig::default() };
    let bench = Bench::with(config(), http, Arc::new(InMemory(Arc::clone(&engine))), engine);
    let mut proxy = bench.accept().await;
    proxy.until_enabled().await;
    bench.engine.push(Behaviour::Tokens { count: 8, delay_ms: 4_900, force_usage: false, ending: Ending::Finish });
    proxy.run(chat(1, STREAM));
    assert!(proxy.whole().await.failure.is_none());
    bench.engine.push(Behaviour::Tokens { count: 2, delay_ms: 1_000, force_usage: false, ending: Ending::Stall });
    let began = Instant::now();
    proxy.run(chat(2, STREAM));
    let failure = proxy.whole().await.failure.unwrap();
    assert_eq!((failure.blame, failure.code), (Blame::Engine, FailureCode::Timeout));
    assert_eq!(began.elapsed(), Duration::from_millis(7_000));
    bench.engine.wait_for(|records| records[1].outcome == Outcome::HungUp).await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_reports_impossible_usage_is_not_paid() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::json(
        200,
        json!({"usage": {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}}),
    ));
    proxy.run(chat(1, PLAIN));
    assert_eq!(proxy.whole().await.tokens(), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn token_limit_is_set_in_the_body_and_an_engine_that_ignores_it_is_stopped() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::tokens(500));
    proxy.run(cocoon_wire::message::WorkerRun {
        token_limit: Some(5),
        ..chat(1, &STREAM.replace("\"max_tokens\":8,", ""))
    });
    let whole = proxy.whole().await;
    let failure = whole.failure.unwrap();
    assert_eq!((failure.blame, failure.code), (Blame::Engine, FailureCode::LimitExceeded));
    let sent: serde_json::Value = serde_json::from_slice(&bench.engine.requests()[0].body).unwrap();
    assert_eq!(sent["max_tokens"], 5);
}

#[tokio::test(start_paused = true)]
async fn models_and_completions_are_served() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.set_models(&["a", "b"]);
    proxy.run(request(1, "GET", "/v1/models", &[], ""));
    assert!(proxy.whole().await.text().contains(r#""id":"b""#));
    proxy.run(request(
        2,
        "POST",
        "/v1/completions",
        &[("content-type", "application/json")],
        r#"{"prompt":"x","max_tokens":1}"#,
    ));
    assert!(proxy.whole().await.text().contains("text_completion"));
}

#[tokio::test(start_paused = true)]
async fn ndjson_streams_too() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":1}}"#;
    bench.engine.push(Behaviour::Ndjson {
        events: vec![Event::now(r#"{"choices":[{}]}"#), Event::after(10, usage)],
        ending: Ending::Finish,
    });
    proxy.run(chat(1, STREAM));
    let whole = proxy.whole().await;
    assert_eq!(whole.tokens(), [4, 0, 2, 0, 6]);
    assert_eq!(whole.text(), format!("{{\"choices\":[{{}}]}}\n{usage}\n"));
}
