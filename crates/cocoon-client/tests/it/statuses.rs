//! Every way a request can fail, as an app sees it.

use std::time::Duration;

use bytes::Bytes;
use cocoon_client::{ApiKey, ClientConfig, LimitsConfig};
use cocoon_net::Event;
use cocoon_wire::{Version, failure::FailureCode};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::rig::{MODEL, Rig, Script, body, chat, chat_body, check_error, end, offering, request};

#[tokio::test(start_paused = true)]
async fn bad_requests() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    for bad in ["", "{", "[]", r#"{"messages":[]}"#, r#"{"model":""}"#, r#"{"model":"a","model":"b"}"#] {
        check_error(app.chat(bad).await, 400, "bad_request").await;
    }
    let error = check_error(app.chat(r#"{"model":"m","stream":"yes"}"#).await, 400, "bad_request").await;
    assert_eq!(error["error"]["param"], "stream");
    let long = chat_body(r#""timeout":1e9"#);
    check_error(app.chat(long).await, 400, "bad_request").await;
    assert!(proxy.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn header_and_body_must_agree() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let with = |fields: &str, value: &str| {
        let mut request = chat(chat_body(fields));
        request.headers_mut().insert("x-cocoon-max-coefficient", value.parse().unwrap());
        request
    };
    check_error(app.send(with(r#""max_coefficient":1500"#, "2000")).await, 400, "bad_request").await;
    check_error(app.send(with("", "dear")).await, 400, "bad_request").await;
    for (fields, value) in [("", "1500"), (r#""max_coefficient":1500"#, "1500")] {
        let answering = async {
            let run = proxy.next_run().await;
            assert_eq!(run.max_coefficient.thousandths(), 1500);
            proxy.head(run.request_id, "application/json", b"{}", end());
        };
        let (response, ()) = tokio::join!(app.send(with(fields, value)), answering);
        assert_eq!(response.status(), 200);
        body(response).await;
    }
}

#[tokio::test(start_paused = true)]
async fn paths_methods_and_types() {
    let (rig, _proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    check_error(app.get("/v1/nothing").await, 404, "unknown_url").await;
    check_error(app.get("/").await, 404, "unknown_url").await;
    let response = app.get("/v1/chat/completions").await;
    assert_eq!(response.headers()["allow"], "POST");
    check_error(response, 405, "method_not_allowed").await;
    let post = request("POST", "/v1/models").body(Full::default()).unwrap();
    check_error(app.send(post).await, 405, "method_not_allowed").await;
    let untyped = request("POST", "/v1/chat/completions").body(Full::from(chat_body(""))).unwrap();
    check_error(app.send(untyped).await, 415, "unsupported_media_type").await;
    let error = check_error(app.chat(r#"{"model":"gpt-9"}"#).await, 404, "model_not_found").await;
    assert_eq!(error["error"]["param"], "model");
    check_error(app.get("/v1/models/gpt-9").await, 404, "model_not_found").await;
}

#[tokio::test(start_paused = true)]
async fn api_keys_are_required_once_there_are_any() {
    let key = ApiKey::generate().unwrap();
    let config = ClientConfig { api_keys: vec![key.hash().into()], ..ClientConfig::default() };
    let (rig, _proxy) = Rig::ready(config, Version::Extended).await;
    let mut app = rig.app().await;
    let get = |path: &str, value: Option<String>| {
        let request = request("GET", path);
        match value {
            Some(value) => request.header("authorization", value),
            None => request,
        }
        .body(Full::default())
        .unwrap()
    };
    check_error(app.send(get("/v1/models", None)).await, 401, "missing_api_key").await;
    check_error(app.send(get("/metrics", None)).await, 401, "missing_api_key").await;
    check_error(app.send(get("/v1/nothing", None)).await, 401, "missing_api_key").await;
    check_error(app.send(get("/v1/models", Some("Basic x".to_owned()))).await, 401, "missing_api_key").await;
    let mut wrong = key.expose().to_owned();
    wrong.pop();
    for wrong in [wrong.as_str(), "", "sk-cocoon-", &key.expose().to_uppercase(), &format!("{}0", key.expose())] {
        let response = app.send(get("/v1/models", Some(format!("Bearer {wrong}")))).await;
        let status = response.status();
        assert_eq!(status, 401, "{wrong}");
        body(response).await;
    }
    let response = app.send(get("/v1/models", Some(format!("Bearer {}", key.expose())))).await;
    assert_eq!(response.status(), 200);
    body(response).await;
    assert_eq!(app.send(get("/healthz", None)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_is_refused() {
    let limits = LimitsConfig { body_bytes: 1000, ..LimitsConfig::default() };
    let (rig, mut proxy) = Rig::ready(ClientConfig { limits, ..ClientConfig::default() }, Version::Extended).await;
    let announced = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                     content-length: 1001\r\n\r\n";
    assert!(rig.raw(announced.as_bytes()).await.starts_with("HTTP/1.1 413 "));
    let piece = format!("3e8\r\n{}\r\n", " ".repeat(1000));
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n{piece}{piece}"
    );
    assert!(rig.raw(chunked.as_bytes()).await.starts_with("HTTP/1.1 413 "));
    assert!(proxy.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_large_body_fits_one_original_packet() {
    let limits = LimitsConfig { body_bytes: 15 << 20, ..LimitsConfig::default() };
    let (rig, mut proxy) = Rig::ready(ClientConfig { limits, ..ClientConfig::default() }, Version::V2).await;
    let mut app = rig.app().await;
    let large = chat_body(&format!(r#""user":"{}""#, "x".repeat(9 << 20)));
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{}", end());
    };
    let (response, ()) = tokio::join!(app.chat(large), answering);
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_and_a_slow_head_are_cut() {
    let (rig, _proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let began = Instant::now();
    let mut slow = rig.socket().await;
    slow.write_all(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
          content-length: 100\r\n\r\n{",
    )
    .await
    .unwrap();
    let mut answer = vec![0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    assert_eq!(began.elapsed().as_secs(), 60);
    for head in [b"".as_slice(), b"POST /v1/chat/comp", b"PRI * HTTP/2.0\r\n"] {
        let began = Instant::now();
        let mut slow = rig.socket().await;
        slow.write_all(head).await.unwrap();
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest).await;
        assert!((29..=31).contains(&began.elapsed().as_secs()), "{:?} after {:?}", head, began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_network_are_mapped() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    for (code, status, word) in [
        (FailureCode::BadRequest, 400, "bad_request"),
        (FailureCode::ModelNotFound, 404, "model_not_found"),
        (FailureCode::TooLarge, 413, "request_too_large"),
        (FailureCode::Unprocessable, 422, "unprocessable_request"),
        (FailureCode::Overloaded, 429, "overloaded"),
        (FailureCode::NoWorkerUnderPrice, 429, "no_worker_under_price"),
        (FailureCode::WorkerLost, 502, "worker_lost"),
        (FailureCode::EngineLoading, 503, "engine_loading"),
        (FailureCode::Timeout, 504, "timeout"),
        // Last, since the model is not offered after it.
        (FailureCode::NoWorker, 503, "no_worker"),
    ] {
        let failing = async {
            let run = proxy.next_run().await;
            proxy.fail(run.request_id, code, "10.1.2.3:8000 said no");
        };
        let (response, ()) = tokio::join!(app.chat(chat_body("")), failing);
        let error = check_error(response, status, word).await;
        assert!(!error.to_string().contains("10.1.2.3"), "{error}");
    }
    assert_eq!(rig.handle.status().requests_failed, 10);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_request_is_late_and_cancelled() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let began = Instant::now();
    check_error(app.chat(chat_body(r#""timeout":7.5"#)).await, 504, "timeout").await;
    assert_eq!(began.elapsed().as_millis(), 7500);
    let run = proxy.next_run().await;
    assert_eq!(run.timeout_ms, 7500);
    let cancelled = proxy.next().await;
    assert_eq!(cancelled, cocoon_wire::message::ClientMessage::Cancel { request_id: run.request_id });
}

#[tokio::test(start_paused = true)]
async fn without_a_proxy_the_app_hears_what_is_happening() {
    let rig = Rig::new(ClientConfig::default());
    let mut app = rig.app().await;
    let error = check_error(app.chat(chat_body("")).await, 503, "no_proxy").await;
    assert!(error["error"]["message"].as_str().unwrap().contains("being connected"), "{error}");
    let response = app.get("/readyz").await;
    assert_eq!(response.status(), 503);
    body(response).await;
    for path in ["/v1/models", "/v1/models/Qwen/Qwen3-8B"] {
        let response = app.get(path).await;
        assert!(response.headers().contains_key("retry-after"), "{path}");
        check_error(response, 503, "no_proxy").await;
    }

    // A proxy of the other network.
    let _proxy = rig.proxy(Script { is_test: false, ..Script::default() }).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = check_error(app.chat(chat_body("")).await, 503, "no_proxy").await;
    assert!(error["error"]["message"].as_str().unwrap().contains("other network"), "{error}");

    // One that knows another secret; the wrong one is never sent.
    let _proxy = rig.proxy(Script { secret: "other", ..Script::default() }).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = check_error(app.chat(chat_body("")).await, 503, "no_proxy").await;
    assert!(error["error"]["message"].as_str().unwrap().contains("secret"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_is_said_to_refuse_and_its_words_stay_here() {
    let rig = Rig::new(ClientConfig::default());
    let mut app = rig.app().await;
    let mut connection = rig.pending().await;
    let Event::Query(query) = connection.next().await.unwrap() else { panic!("no question") };
    connection.outbox().refuse(query.id, 400, "no contract at 10.1.2.3").unwrap();
    let _open = tokio::time::timeout(Duration::from_millis(50), connection.next()).await;
    let error = check_error(app.chat(chat_body("")).await, 503, "no_proxy").await;
    assert_eq!(error["error"]["message"], "the proxy is not ready: it refused this client");
}

#[tokio::test(start_paused = true)]
async fn a_model_whose_workers_left_is_no_unknown_model() {
    let rig = Rig::new(ClientConfig::default());
    let _proxy = rig.proxy(Script { models: offering(&[]), ..Script::default() }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut app = rig.app().await;
    check_error(app.chat(chat_body("")).await, 503, "no_worker").await;
}

#[tokio::test(start_paused = true)]
async fn a_model_that_was_refused_for_want_of_a_worker_is_not_offered() {
    let rig = Rig::new(ClientConfig::default());
    let script = Script::default();
    let mut proxy = rig.proxy(script.clone()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut app = rig.app().await;
    // Its list is still young when the worker dies.
    script.models.lock().unwrap().clear();
    let refusing = async {
        let run = proxy.next_run().await;
        proxy.fail(run.request_id, FailureCode::NoWorker, "");
    };
    let (response, ()) = tokio::join!(app.chat(chat_body("")), refusing);
    check_error(response, 503, "no_worker").await;
    let list: serde_json::Value = serde_json::from_slice(&body(app.get("/v1/models").await).await).unwrap();
    assert_eq!(list["data"].as_array().unwrap().len(), 0, "{list}");
    assert_eq!(app.get("/readyz").await.status(), 503);

    script.models.lock().unwrap().push(MODEL);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(app.get("/readyz").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_get_429() {
    let limits = LimitsConfig { requests: 1, ..LimitsConfig::default() };
    let (rig, mut proxy) = Rig::ready(ClientConfig { limits, ..ClientConfig::default() }, Version::Extended).await;
    let (mut first, mut second) = (rig.app().await, rig.app().await);
    let busy = async {
        let run = proxy.next_run().await;
        check_error(second.chat(chat_body("")).await, 429, "overloaded").await;
        proxy.head(run.request_id, "application/json", b"{}", end());
    };
    let (response, ()) = tokio::join!(first.chat(chat_body("")), busy);
    assert_eq!(body(response).await, Bytes::from("{}"));
}

#[tokio::test(start_paused = true)]
async fn many_slow_bodies() {
    let limits = LimitsConfig { body_bytes: 1000, bodies_bytes: 1000, ..LimitsConfig::default() };
    let (rig, mut proxy) = Rig::ready(ClientConfig { limits, ..ClientConfig::default() }, Version::Extended).await;
    let mut slow = rig.socket().await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let cut = format!("{head}content-length: 1000\r\n\r\n{}", " ".repeat(990));
    slow.write_all(cut.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut app = rig.app().await;
    check_error(app.chat(chat_body("")).await, 429, "overloaded").await;
    drop(slow);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A body that was sent on takes no room, however long its answer takes.
    let long = |app: usize| chat_body(&format!(r#""user":"{app}{}""#, " ".repeat(600)));
    let (mut first, mut second) = (rig.app().await, rig.app().await);
    let answering = async {
        for run in [proxy.next_run().await, proxy.next_run().await] {
            proxy.head(run.request_id, "application/json", b"{}", end());
        }
    };
    let (one, two, ()) = tokio::join!(first.chat(long(1)), second.chat(long(2)), answering);
    assert_eq!((one.status().as_u16(), two.status().as_u16()), (200, 200));
}

#[tokio::test(start_paused = true)]
async fn models_health_and_metrics() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    for path in ["/v1/models/Qwen/Qwen3-8B", "/v1/models/Qwen%2FQwen3-8B"] {
        let response = app.get(path).await;
        assert_eq!(response.headers()["content-type"], "application/json");
        let model: serde_json::Value = serde_json::from_slice(&body(response).await).unwrap();
        assert_eq!((&model["id"], &model["object"]), (&MODEL.into(), &"model".into()));
        assert_eq!(model["workers"]["count"], 1);
        assert_eq!((&model["load"]["active"], &model["load"]["slots"]), (&3.into(), &60.into()));
    }
    let list: serde_json::Value = serde_json::from_slice(&body(app.get("/v1/models").await).await).unwrap();
    assert_eq!((&list["object"], list["data"].as_array().unwrap().len()), (&"list".into(), 1));
    assert_eq!(app.get("/readyz").await.status(), 200);
    assert_eq!(rig.app().await.get("/healthz").await.status(), 200);

    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{}", end());
    };
    let mut app = rig.app().await;
    tokio::join!(async { body(app.chat(chat_body("")).await).await }, answering);
    let text = body(app.get("/metrics").await).await;
    let text = std::str::from_utf8(&text).unwrap();
    assert!(text.contains(r#"cocoon_client_tokens_total{model="Qwen/Qwen3-8B",kind="prompt"} 34"#), "{text}");
    assert!(text.contains(r#"cocoon_client_requests_total{outcome="completed"} 1"#), "{text}");
    assert_eq!(rig.handle.status().tokens_total, 39);
}
