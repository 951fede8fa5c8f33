//! Requests that try to reach past what a worker offers, named after the attack.

use cocoon_wire::Sealed;
use cocoon_wire::failure::{Blame, FailureCode};
use cocoon_wire::message::WorkerRun;

use crate::harness::{Bench, chat, config, request};

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

#[track_caller]
fn assert_untouched(bench: &Bench) {
    assert!(bench.engine.requests().is_empty(), "the engine saw {:?}", bench.engine.requests());
}

#[tokio::test(start_paused = true)]
async fn path_traversal_to_the_engine() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    for url in [
        "/metrics",
        "/slots",
        "/v1/chat/completions/../../metrics",
        "/v1/%2e%2e/slots",
        "http://127.0.0.1:8080/v1/chat/completions",
        "//127.0.0.1/v1/chat/completions",
        "/v1/chat/completions?model=other",
    ] {
        for method in ["GET", "POST"] {
            proxy.run(request(1, method, url, JSON, "{}"));
            let failure = proxy.whole().await.failure.unwrap();
            assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest), "{method} {url}");
        }
    }
    assert_untouched(&bench);
}

#[tokio::test(start_paused = true)]
async fn header_smuggling() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    let twice = [("Content-Type", "application/json"), ("content-type", "text/plain")];
    proxy.run(request(1, "POST", "/v1/completions", &twice, "{}"));
    assert_eq!(proxy.whole().await.failure.unwrap().blame, Blame::Client);
    assert_untouched(&bench);
    let many = [
        ("Authorization", "Bearer sk-secret"),
        ("Cookie", "a=b"),
        ("Host", "evil.example"),
        ("User-Agent", "x"),
        ("Content-Length", "3"),
        ("Connection", "x-smuggled"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
    ];
    proxy.run(request(1, "POST", "/v1/completions", &many, r#"{"max_tokens":1}"#));
    assert_eq!(proxy.whole().await.status, 200);
    let mut names: Vec<_> = bench.engine.requests()[0].headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort();
    assert_eq!(names, ["accept", "content-length", "content-type", "host"]);
    assert_eq!(bench.engine.requests()[0].headers.iter().find(|(name, _)| name == "content-length").unwrap().1, "16");
}

#[tokio::test(start_paused = true)]
async fn remote_image_url() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    let body = r#"{"max_tokens":1,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]}]}"#;
    proxy.run(chat(1, body));
    let failure = proxy.whole().await.failure.unwrap();
    assert_eq!((failure.blame, failure.code.http_status()), (Blame::Client, 422));
    assert!(!failure.message.contains("169.254"));
    assert_untouched(&bench);
    proxy.run(chat(2, &body.replace("http://169.254.169.254/", "data:image/png;base64,AAAA")));
    assert_eq!(proxy.whole().await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn body_that_is_no_json_or_says_things_twice() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    for body in ["", "[]", "{", r#"{"max_tokens":1,"max_tokens":100000}"#, r#"{"stream":true,"stream":false}"#] {
        proxy.run(chat(1, body));
        let failure = proxy.whole().await.failure.unwrap();
        assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest), "{body}");
    }
    assert_untouched(&bench);
}

#[tokio::test(start_paused = true)]
async fn envelope_that_is_no_envelope() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    for query in [vec![], vec![0; 3], vec![0xff; 64]] {
        proxy.run(WorkerRun { query: Sealed::from(query), ..chat(1, "{}") });
        let failure = proxy.whole().await.failure.unwrap();
        assert_eq!((failure.blame, failure.code), (Blame::Proxy, FailureCode::ProtocolViolation));
    }
    assert_untouched(&bench);
}

#[tokio::test(start_paused = true)]
async fn duplicate_request_id_in_flight_ends_the_connection_and_the_worker_returns() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(cocoon_sim::Behaviour::Hang);
    proxy.run(chat(1, "{}"));
    bench.engine.wait_for(|records| records.len() == 1).await;
    proxy.run(chat(1, "{}"));
    while proxy.message().await.is_some() {}
    let mut again = bench.accept().await;
    again.until_enabled().await;
    again.run(chat(1, "{}"));
    assert_eq!(again.whole().await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn garbage_message_ends_the_connection_and_the_worker_returns() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    proxy.outbox.send(cocoon_wire::Encoded::from(bytes::Bytes::from_static(b"garbage!"))).unwrap();
    while proxy.message().await.is_some() {}
    bench.accept().await;
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_slots_are_refused() {
    let (bench, mut proxy) = Bench::connected(cocoon_worker::WorkerConfig { max_active_requests: 2, ..config() }).await;
    bench.engine.set_default(cocoon_sim::Behaviour::Hang);
    for n in 0..7 {
        proxy.run(chat(n, "{}"));
    }
    let failure = proxy.whole().await.failure.unwrap();
    assert_eq!((failure.blame, failure.code), (Blame::Worker, FailureCode::Overloaded));
    assert_eq!(bench.handle.status().active, 6);
}
