//! The scripted engine does what it is told and notices what happened.

use std::time::Duration;

use cocoon_sim::{Behaviour, Ending, Event, Outcome, ScriptedEngine};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

fn post(body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::with_capacity(1024);
    while !String::from_utf8_lossy(&text).contains(end) {
        if stream.read_buf(&mut text).await.unwrap() == 0 {
            break;
        }
    }
    String::from_utf8(text).unwrap()
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(stream, end).await
}

#[tokio::test(start_paused = true)]
async fn events_leave_at_their_virtual_time_in_their_own_chunks() {
    let engine = ScriptedEngine::in_memory();
    engine.push(Behaviour::Sse {
        events: vec![Event::after(50, "a"), Event::after(70, "b")],
        done: true,
        ending: Ending::Finish,
    });
    let mut stream = engine.connect();
    let began = Instant::now();
    stream.write_all(post("{}").as_bytes()).await.unwrap();
    read_until(&mut stream, "9\r\ndata: a\n\n\r\n").await;
    assert_eq!(began.elapsed(), Duration::from_millis(50));
    read_until(&mut stream, "9\r\ndata: b\n\n\r\n").await;
    assert_eq!(began.elapsed(), Duration::from_millis(120));
    engine.wait_for(|r| r[0].outcome == Outcome::Finished).await;
    assert_eq!(&engine.requests()[0].body[..], b"{}");
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_is_noticed() {
    let engine = ScriptedEngine::in_memory();
    engine.push(Behaviour::Hang);
    let mut stream = engine.connect();
    stream.write_all(post("{}").as_bytes()).await.unwrap();
    engine.wait_for(|r| r.len() == 1).await;
    drop(stream);
    engine.wait_for(|r| r[0].outcome == Outcome::HungUp).await;
}

#[tokio::test(start_paused = true)]
async fn the_user_field_chooses_and_the_queue_waits() {
    let engine = ScriptedEngine::in_memory();
    engine.push(Behaviour::error(418, "queued"));
    let mut stream = engine.connect();
    let loading = ask(&mut stream, &post(r#"{"user":"sim:loading"}"#), "}}").await;
    assert!(loading.starts_with("HTTP/1.1 503") && loading.contains("Loading model"), "{loading}");
    let cut = ask(&mut engine.connect(), &post(r#"{"stream":true,"user":"sim:cut"}"#), "never").await;
    assert!(cut.contains(" t2") && !cut.contains("[DONE]"), "{cut}");
    assert!(ask(&mut stream, &post("{}"), "}}").await.starts_with("HTTP/1.1 418"));
    let long = ask(
        &mut stream,
        &post(r#"{"stream":true,"stream_options":{"include_usage":true},"user":"sim:tokens=10000"}"#),
        "0\r\n\r\n",
    )
    .await;
    assert_eq!(long.matches("data: ").count(), 1 + 10_000 + 3);
    assert!(long.contains(r#""completion_tokens":10000"#));
}

#[tokio::test]
async fn control_over_http_for_other_languages() {
    let engine = ScriptedEngine::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(engine.addr().unwrap()).await.unwrap();
    let script = r#"[{"kind":"json","body":"verbatim "}]"#;
    let push = format!("POST /__script HTTP/1.1\r\nContent-Length: {}\r\n\r\n{script}", script.len());
    assert!(ask(&mut stream, &push, "}").await.ends_with(r#"{"ok":true}"#));
    assert!(ask(&mut stream, &post("{\"a\": 1}"), "verbatim ").await.ends_with("\r\n\r\nverbatim "));
    let records = ask(&mut stream, "GET /__requests HTTP/1.1\r\n\r\n", "]").await;
    assert!(records.contains(r#""outcome":"finished""#) && records.contains("eyJhIjogMX0="), "{records}");
}
