//! What travels on of an app's request, what comes back, and which apps are let in.

use bytes::Bytes;
use cocoon_client::ClientConfig;
use cocoon_wire::{Version, message::ClientRun};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest, Sha256};

use crate::rig::{
    App, MODEL, Proxy, Rig, Script, body, chat, chat_body, check_error, end, envelope, head, offering, request,
};

async fn exchange(rig: &Rig, proxy: &mut Proxy, request: Request<Full<Bytes>>) -> (ClientRun, Response<Incoming>) {
    let mut app = rig.app().await;
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{}", end());
        run
    };
    let (response, run) = tokio::join!(app.send(request), answering);
    (run, response)
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_arrive_byte_for_byte() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let sent = chat_body(
        "\n \"tools\" : [ {\"type\":\"function\"} ],\"seed\":1e0,\"logit_bias\":{\"\\u0061\":-1.50},\
         \"x-unknown\":[true , null,\"\u{1f980}\"], \"max_tokens\": 7",
    );
    let (run, response) = exchange(&rig, &mut proxy, chat(sent.clone())).await;
    assert_eq!(Sha256::digest(envelope(&run).payload), Sha256::digest(&sent));
    assert_eq!((run.max_tokens, run.model.as_str()), (7, MODEL));
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn only_our_own_fields_are_changed() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let fields =
        r#""user":"u","max_coefficient":1200,"timeout":60,"enable_debug":true,"request_guid":"app-1","stream":true"#;
    let (run, response) = exchange(&rig, &mut proxy, chat(chat_body(fields))).await;
    assert_eq!(response.headers()["x-request-id"], "app-1");
    assert_eq!((run.max_coefficient.thousandths(), run.timeout_ms, run.enable_debug), (1200, 60_000, true));
    assert_eq!((run.max_tokens, run.answer_credit), (1000, Some(256 << 10)));
    let sent: serde_json::Value = serde_json::from_slice(&envelope(&run).payload).unwrap();
    let mut keys: Vec<_> = sent.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["max_tokens", "messages", "model", "stream", "stream_options", "user"]);
    assert_eq!(sent["max_tokens"], 1000);
    assert_eq!(sent["stream_options"]["include_usage"], true);
}

#[tokio::test(start_paused = true)]
async fn headers_of_the_app_stay_here() {
    for version in [Version::Extended, Version::V2] {
        let (rig, mut proxy) = Rig::ready(ClientConfig::default(), version).await;
        let request = request("POST", "/v1/completions?secret=1")
            .header("content-type", "application/json; charset=utf-8")
            .header("accept", "text/event-stream")
            .header("authorization", "Bearer secret")
            .header("cookie", "secret=1")
            .header("user-agent", "secret")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-request-id", "tag-1")
            .body(Full::from(chat_body("")))
            .unwrap();
        let (run, response) = exchange(&rig, &mut proxy, request).await;
        let sent = envelope(&run);
        assert_eq!((sent.method.as_str(), sent.url.as_str()), ("POST", "/v1/completions"));
        let length = sent.payload.len().to_string();
        let mut expected = vec![("content-type", "application/json"), ("accept", "text/event-stream")];
        if version == Version::V2 {
            // An HTTP/1.1 engine behind an original worker needs these; they are ours, not the app's.
            expected.extend([("host", "cocoon"), ("content-length", length.as_str())]);
            assert_eq!((run.timeout_ms, run.answer_credit), (114_000, None));
        }
        let headers: Vec<_> = sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, expected);
        assert_eq!(response.headers()["x-request-id"], "tag-1");
    }
}

#[tokio::test(start_paused = true)]
async fn header_smuggling() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    // Of the answer, only the content type and plain times are kept.
    let mut app = rig.app().await;
    let answering = async {
        let run = proxy.next_run().await;
        let headers = [
            ("Content-Type", "application/json"),
            ("Set-Cookie", "a=b"),
            ("Connection", "close"),
            ("Content-Length", "999"),
            ("Access-Control-Allow-Origin", "*"),
            ("X-Cocoon-Worker-Start", "<script>"),
            ("X-Cocoon-Proxy-Start", "1795335274.483130"),
            ("X-Cocoon-Unknown", "1"),
            ("Server", "10.0.0.7"),
        ];
        proxy.answer(head(run.request_id, 200, &headers, b"", None));
        proxy.part(run.request_id, "{}", Some(cocoon_wire::message::FinalInfo::default()));
    };
    let (response, ()) = tokio::join!(app.chat(chat_body("")), answering);
    let mut names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
    names.sort_unstable();
    let expected = [
        "content-length",
        "content-type",
        "date",
        "x-cocoon-client-end",
        "x-cocoon-client-start",
        "x-cocoon-proxy-start",
        "x-cocoon-receipt",
        "x-content-type-options",
        "x-request-id",
    ];
    assert_eq!(names, expected);
    assert_eq!(response.headers()["x-cocoon-proxy-start"], "1795335274.483130");
    assert_eq!(response.headers()["content-length"], "2");

    // Of the request, what could be read in two ways is refused, or read in one way only.
    let post = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    for bad in [
        "content-length: 5\r\ncontent-length: 6\r\n\r\n{}{}{}",
        "content-length: +5\r\n\r\n{}{}{}",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "host: other\r\ncontent-length: 2\r\n\r\n{}",
        "content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}",
        "x y: 1\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let answer = rig.raw(format!("{post}{bad}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
    }
    assert!(proxy.heard().is_empty());
    let sent = chat_body(r#""max_tokens":1"#);
    let both =
        format!("{post}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{sent}\r\n0\r\n\r\n", sent.len());
    let answering = async {
        let run = proxy.next_run().await;
        assert_eq!(envelope(&run).payload, sent.as_bytes());
        proxy.head(run.request_id, "application/json", b"{}", end());
    };
    let (answer, ()) = tokio::join!(rig.raw(both.as_bytes()), answering);
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_a_line_break_in_a_header_is_refused() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let answering = async {
        let run = proxy.next_run().await;
        // Our own encoder refuses to write such a header, so it is put in afterwards.
        let cocoon_wire::message::Answer::Head { request_id, response, .. } =
            head(run.request_id, 200, &[("content-type", "a/bXXset-cookie: a=b")], b"", None)
        else {
            panic!("a head is a head");
        };
        let mut bytes = response.expose().to_vec();
        let at = bytes.windows(2).position(|pair| pair == b"XX").unwrap();
        bytes[at..at + 2].copy_from_slice(b"\r\n");
        proxy.answer(cocoon_wire::message::Answer::Head { request_id, response: bytes.into(), end: end() });
    };
    let (response, ()) = tokio::join!(app.chat(chat_body("")), answering);
    check_error(response, 502, "protocol_violation").await;
    // The worker may be to blame, so the proxy's session goes on.
    assert!(rig.handle.status().ready);
}

#[tokio::test(start_paused = true)]
async fn dns_rebinding_is_refused() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let mut rebound = chat(chat_body(""));
    rebound.headers_mut().insert("host", "evil.example:10000".parse().unwrap());
    check_error(app.send(rebound).await, 403, "host_not_allowed").await;
    let get = Request::builder().uri("/v1/models").header("host", "evil.example").body(Full::default()).unwrap();
    check_error(app.send(get).await, 403, "host_not_allowed").await;

    // The same over HTTP/2, where the host is in `:authority`.
    let io = TokioIo::new(rig.socket().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    rig.tasks.spawn(async move {
        let _ = connection.await;
    });
    let get = |host: &str| Request::get(format!("http://{host}/v1/models")).body(Full::<Bytes>::default()).unwrap();
    check_error(sender.send_request(get("evil.example")).await.unwrap(), 403, "host_not_allowed").await;
    assert_eq!(sender.send_request(get("localhost:10000")).await.unwrap().status(), 200);
    assert!(proxy.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn cross_origin_post_is_refused() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    // What a browser sends for a form or `fetch` without asking first.
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let simple = request("POST", "/v1/chat/completions").header("content-type", content_type);
        let simple = simple.body(Full::from(chat_body(""))).unwrap();
        check_error(app.send(simple).await, 415, "unsupported_media_type").await;
    }
    for origin in ["https://evil.example", "null", "http://localhost:3000"] {
        let mut post = chat(chat_body(""));
        post.headers_mut().insert("origin", origin.parse().unwrap());
        let response = app.send(post).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        check_error(response, 403, "origin_not_allowed").await;
        let preflight = request("OPTIONS", "/v1/chat/completions").header("origin", origin);
        let preflight = preflight.header("access-control-request-method", "POST").body(Full::default()).unwrap();
        check_error(app.send(preflight).await, 403, "origin_not_allowed").await;
    }
    assert!(proxy.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn configured_origins_may_call() {
    let origin = "https://app.example";
    let config = ClientConfig { cors_origins: vec![origin.to_owned()], ..ClientConfig::default() };
    let (rig, mut proxy) = Rig::ready(config, Version::Extended).await;
    let mut app = rig.app().await;
    let preflight = request("OPTIONS", "/v1/chat/completions")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,x-stainless-os")
        .body(Full::default())
        .unwrap();
    let response = app.send(preflight).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], origin);
    assert_eq!(response.headers()["access-control-allow-headers"], "authorization,content-type,x-stainless-os");
    let mut post = chat(chat_body(""));
    post.headers_mut().insert("origin", origin.parse().unwrap());
    let (_, response) = exchange(&rig, &mut proxy, post).await;
    assert_eq!(
        (&response.headers()["access-control-allow-origin"], &response.headers()["vary"]),
        (&origin.parse().unwrap(), &"origin".parse().unwrap())
    );
    body(response).await;
}

#[tokio::test(start_paused = true)]
async fn times_of_the_three_roles_are_told() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let (_, response) = exchange(&rig, &mut proxy, chat(chat_body(""))).await;
    for (name, time) in [
        ("x-cocoon-client-start", "1795335274.500000"),
        ("x-cocoon-client-end", "1795335274.500000"),
        ("x-cocoon-proxy-start", "1795335274.600000"),
        ("x-cocoon-worker-start", "1795335274.700000"),
        ("x-cocoon-worker-end", "1795335274.800000"),
        ("x-cocoon-proxy-end", "1795335274.900000"),
    ] {
        assert_eq!(response.headers()[name], time, "{name}");
    }
    assert_eq!(response.headers()["x-request-id"].len(), 32);
    let (_, response) = exchange(&rig, &mut proxy, chat(chat_body(r#""stream":true"#))).await;
    assert!(response.headers().contains_key("x-cocoon-client-start"));
    assert!(!response.headers().keys().any(|name| name.as_str().ends_with("-end")));
}

#[tokio::test(start_paused = true)]
async fn shutdown_finishes_answers_that_have_begun() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let (mut app, mut idle) = (rig.app().await, rig.app().await);
    assert_eq!(idle.get("/healthz").await.status(), 200);
    let answering = async {
        let run = proxy.next_run().await;
        rig.shutdown.cancel();
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        proxy.head(run.request_id, "application/json", b"{}", end());
    };
    let (response, ()) = tokio::join!(app.chat(chat_body("")), answering);
    assert_eq!(body(response).await, "{}");
    proxy.until_closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_ready_proxy_that_serves_the_model_is_taken() {
    let rig = Rig::with_proxies(ClientConfig::default(), &["down", "other", "busy", "idle"]);
    let mut others = rig.proxy_at(1, Script { models: offering(&["another"]), ..Script::default() }).await;
    let mut busy = rig.proxy_at(2, Script::default()).await;
    rig.until_ready().await;
    let (mut first, mut second) = (rig.app().await, rig.app().await);
    let answering = async {
        let run = busy.next_run().await;
        let mut idle = rig.proxy_at(3, Script::default()).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        exchange_with(&mut second, &mut idle).await;
        busy.head(run.request_id, "application/json", b"{}", end());
    };
    let (response, ()) = tokio::join!(first.chat(chat_body("")), answering);
    assert_eq!(response.status(), 200);
    assert!(others.heard().is_empty());
    let states: Vec<_> = rig.handle.status().proxies.iter().map(|proxy| proxy.ready).collect();
    assert_eq!(states, [false, true, true, true]);
    // The model's only proxies are lost, and come back: it is not called unknown meanwhile.
    rig.network.cut("busy");
    rig.network.cut("idle");
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    check_error(first.chat(chat_body("")).await, 503, "no_worker").await;
    check_error(first.chat(r#"{"model":"gpt-9"}"#).await, 404, "model_not_found").await;
}

async fn exchange_with(app: &mut App, proxy: &mut Proxy) {
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{}", end());
    };
    let (response, ()) = tokio::join!(app.chat(chat_body("")), answering);
    assert_eq!(response.status(), 200);
}
