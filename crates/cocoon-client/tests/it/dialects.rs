//! `/v1/responses` and `/v1/messages`: chat completions on the wire, their own words to the app.

use std::time::Duration;

use bytes::Bytes;
use cocoon_client::{ApiKey, ClientConfig};
use cocoon_units::{NanoPerToken, Pricing};
use cocoon_wire::{
    Version,
    failure::FailureCode,
    message::{ClientMessage, ClientRun},
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::rig::{App, MODEL, Proxy, Rig, body, check_error, end, envelope, head, request};

const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":34,\"completion_tokens\":5}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":34,"completion_tokens":5}}"#;

/// One nanoTON a token, so that there is a cost.
fn config() -> ClientConfig {
    let pricing = Pricing { price: NanoPerToken::new(1), ..Pricing::default() };
    ClientConfig { pricing, ..ClientConfig::default() }
}

async fn ready() -> (Rig, Proxy, App) {
    let (rig, proxy) = Rig::ready(config(), Version::Extended).await;
    let app = rig.app().await;
    (rig, proxy, app)
}

fn post(path: &str, body: &Value) -> Request<Full<Bytes>> {
    let request = request("POST", path).header("content-type", "application/json");
    request.body(Full::new(body.to_string().into())).unwrap()
}

fn responses(stream: bool) -> Request<Full<Bytes>> {
    post("/v1/responses", &json!({"model": MODEL, "input": "hi", "stream": stream}))
}

fn messages(stream: bool) -> Request<Full<Bytes>> {
    let said = json!([{"role": "user", "content": "hi"}]);
    post("/v1/messages", &json!({"model": MODEL, "max_tokens": 9, "messages": said, "stream": stream}))
}

async fn exchange(app: &mut App, proxy: &mut Proxy, request: Request<Full<Bytes>>) -> (ClientRun, Response<Incoming>) {
    let (response, run) = tokio::join!(app.send(request), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", ANSWER.as_bytes(), end());
        run
    });
    (run, response)
}

async fn value(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&body(response).await).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_with_its_cost() {
    let (_rig, mut proxy, mut app) = ready().await;
    let (run, response) = exchange(&mut app, &mut proxy, responses(false)).await;
    let sent = envelope(&run);
    assert_eq!(sent.url, "/v1/chat/completions");
    let sent: Value = serde_json::from_slice(&sent.payload).unwrap();
    assert_eq!(sent["messages"], json!([{"role": "user", "content": "hi"}]));
    assert_eq!((&sent["max_tokens"], run.max_tokens), (&json!(1000), 1000));
    assert_eq!(response.headers()["x-cocoon-cost-nano"], "39");
    assert!(response.headers().contains_key("x-cocoon-worker-end"));
    let answer = value(response).await;
    assert_eq!((&answer["object"], &answer["model"]), (&json!("response"), &json!(MODEL)));
    assert_eq!((&answer["created_at"], &answer["usage"]["total_cost"]), (&json!(1_795_335_274), &json!(39)));
    let (run, response) = exchange(&mut app, &mut proxy, messages(false)).await;
    assert_eq!(run.max_tokens, 9);
    assert_eq!(response.headers()["request-id"], response.headers()["x-request-id"]);
    let answer = value(response).await;
    assert_eq!(answer["content"], json!([{"type": "text", "text": "Hi"}]));
    assert_eq!((&answer["usage"]["input_tokens"], &answer["usage"]["total_cost"]), (&json!(34), &json!(39)));
}

#[tokio::test(start_paused = true)]
async fn events_leave_one_by_one_with_the_cost_at_their_end() {
    for (request, piece) in [(responses(true), "output_text.delta"), (messages(true), "text_delta")] {
        let (_rig, mut proxy, mut app) = ready().await;
        let (response, run) = tokio::join!(app.send(request), async {
            let run = proxy.next_run().await;
            proxy.head(run.request_id, "text/event-stream", b"", None);
            run
        });
        let sent: Value = serde_json::from_slice(&envelope(&run).payload).unwrap();
        assert_eq!(sent["stream_options"]["include_usage"], true);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut received = response.into_body();
        let mut next = async || {
            let frame = timeout(Duration::from_millis(1), received.frame()).await.expect("it leaves at once");
            String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
        };
        assert!(next().await.ends_with("\n\n"), "the beginning leaves before the first token");
        for _ in 0..3 {
            proxy.part(run.request_id, TEXT, None);
            let told = next().await;
            assert!(told.contains(piece) && told.ends_with("\n\n"), "{told}");
        }
        proxy.part(run.request_id, [END, USAGE, DONE].concat(), end());
        let rest = String::from_utf8(received.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(rest.contains(r#""total_cost":39"#), "{rest}");
        assert!(!rest.contains("[DONE]"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_says_so() {
    for (request, words) in [(responses(true), "response.failed"), (messages(true), "event: error")] {
        let (rig, mut proxy, mut app) = ready().await;
        let (response, ()) = tokio::join!(app.send(request), async {
            let run = proxy.next_run().await;
            proxy.head(run.request_id, "text/event-stream", TEXT.as_bytes(), None);
            proxy.fail(run.request_id, FailureCode::WorkerLost, "dial 10.0.0.7:80");
        });
        let told = String::from_utf8(body(response).await.to_vec()).unwrap();
        assert!(told.contains(words) && told.contains("worker_lost") && told.contains("\"Hi\""), "{told}");
        assert!(!told.contains("10.0.0.7"));
        assert_eq!(rig.handle.status().requests_failed, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_sends_nonsense_is_cancelled() {
    for request in [responses(true), messages(true)] {
        let (rig, mut proxy, mut app) = ready().await;
        let (response, run) = tokio::join!(app.send(request), async {
            let run = proxy.next_run().await;
            proxy.head(run.request_id, "text/event-stream", b"data: nonsense\n\n", None);
            run
        });
        let told = String::from_utf8(body(response).await.to_vec()).unwrap();
        assert!(told.contains("untranslatable_answer"), "{told}");
        assert_eq!(proxy.next().await, ClientMessage::Cancel { request_id: run.request_id });
        assert_eq!(rig.handle.status().requests_failed, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_is_none_is_502() {
    let (_rig, mut proxy, mut app) = ready().await;
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{\"choices\":[]}", end());
    };
    let (response, ()) = tokio::join!(app.send(responses(false)), answering);
    check_error(response, 502, "untranslatable_answer").await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_beyond_measure_is_502_and_not_held() {
    let (_rig, mut proxy, mut app) = ready().await;
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"", None);
        let mut sent = 0_usize;
        loop {
            proxy.part(run.request_id, vec![b' '; 128 << 10], None);
            sent += 128 << 10;
            match timeout(Duration::from_secs(5), proxy.next()).await {
                Ok(ClientMessage::Credit { .. }) => {}
                Ok(ClientMessage::Cancel { .. }) => break sent,
                other => panic!("heard {other:?}"),
            }
        }
    };
    let (response, sent) = tokio::join!(app.send(responses(false)), answering);
    check_error(response, 502, "answer_too_large").await;
    assert!(sent < 10 << 20, "{sent}");
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_engine_have_each_api_s_form() {
    let refusal = br#"{"error":{"message":"too long","type":"invalid_request_error","param":null,"code":null}}"#;
    for stream in [false, true] {
        let (_rig, mut proxy, mut app) = ready().await;
        for (request, expected) in
            [(responses(stream), json!("invalid_request_error")), (messages(stream), json!("invalid_request_error"))]
        {
            let (response, ()) = tokio::join!(app.send(request), async {
                let run = proxy.next_run().await;
                let headers = [("content-type", "application/json")];
                proxy.answer(head(run.request_id, 400, &headers, refusal, end()));
            });
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (400, &"application/json".parse().unwrap())
            );
            let told = value(response).await;
            assert_eq!((&told["error"]["message"], &told["error"]["type"]), (&json!("too long"), &expected));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_here_never_leaves() {
    let (_rig, mut proxy, mut app) = ready().await;
    let stored = post("/v1/responses", &json!({"model": MODEL, "input": "hi", "store": true}));
    let told = check_error(app.send(stored).await, 400, "unsupported_parameter").await;
    assert_eq!((&told["error"]["param"], &told["error"]["type"]), (&json!("store"), &json!("invalid_request_error")));
    let empty = post("/v1/responses", &json!({"model": MODEL}));
    let told = check_error(app.send(empty).await, 400, "bad_request").await;
    assert_eq!(told["error"]["param"], "input");
    check_error(app.get("/v1/responses/resp_1").await, 404, "nothing_is_kept").await;
    let gone = request("DELETE", "/v1/responses/resp_1").body(Full::default()).unwrap();
    check_error(app.send(gone).await, 404, "nothing_is_kept").await;
    check_error(app.get("/v1/responses").await, 405, "method_not_allowed").await;
    assert!(proxy.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn errors_of_messages_have_anthropic_s_form() {
    let (_rig, mut proxy, mut app) = ready().await;
    let said = json!([{"role": "user", "content": "hi"}]);
    for (request, status, kind, code) in [
        (post("/v1/messages", &json!({"model": MODEL, "messages": said})), 400, "invalid_request_error", "bad_request"),
        (
            post("/v1/messages", &json!({"model": "m", "max_tokens": 9, "messages": said})),
            404,
            "not_found_error",
            "model_not_found",
        ),
        (post("/v1/messages/count_tokens", &json!({})), 404, "not_found_error", "not_supported"),
        (post("/v1/messages/batches", &json!({})), 404, "not_found_error", "nothing_is_kept"),
    ] {
        let response = app.send(request).await;
        assert_eq!(response.status(), status);
        assert!(response.headers().contains_key("request-id"));
        let told = value(response).await;
        assert_eq!((&told["type"], &told["error"]["type"]), (&json!("error"), &json!(kind)));
        assert_eq!(told["error"]["code"], code);
        assert!(!told["error"]["message"].as_str().unwrap().is_empty());
    }
    assert!(proxy.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_in_x_api_key_opens_both() {
    let key = ApiKey::generate().unwrap();
    let config = ClientConfig { api_keys: vec![key.hash().into()], ..config() };
    let (rig, mut proxy) = Rig::ready(config, Version::Extended).await;
    let mut app = rig.app().await;
    let mut with_key = messages(false);
    with_key.headers_mut().insert("x-api-key", key.expose().parse().unwrap());
    with_key.headers_mut().insert("anthropic-version", "2023-06-01".parse().unwrap());
    let (_, response) = exchange(&mut app, &mut proxy, with_key).await;
    assert_eq!(response.status(), 200);
    body(response).await;
    let response = app.send(messages(false)).await;
    assert_eq!(response.status(), 401);
    assert_eq!(value(response).await["error"]["type"], "authentication_error");
}
