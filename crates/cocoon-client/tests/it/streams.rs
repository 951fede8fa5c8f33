//! Streamed answers: every byte as it came, as soon as it came, and never more than was granted.

use std::time::Duration;

use bytes::Bytes;
use cocoon_client::ClientConfig;
use cocoon_wire::{
    Version,
    failure::FailureCode,
    message::{ClientMessage, FinalInfo},
};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::{
    io::AsyncReadExt,
    time::{sleep, timeout},
};

use crate::rig::{Rig, body, chat_body, end};

const STREAM: &str = r#""stream":true"#;
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":34,\"completion_tokens\":5,\"total_tokens\":39}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

async fn check_stream(fields: &str, content_type: &str, parts: &[&str], expected: &str) {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, content_type, b"", None);
        for part in parts {
            proxy.part(run.request_id, Bytes::copy_from_slice(part.as_bytes()), None);
            sleep(Duration::from_millis(10)).await;
        }
        proxy.part(run.request_id, "", end());
    };
    let (received, ()) = tokio::join!(async { body(app.chat(chat_body(fields)).await).await }, answering);
    assert_eq!(received, expected.as_bytes());
    assert_eq!(rig.handle.status().requests_completed, 1);
}

#[tokio::test(start_paused = true)]
async fn the_usage_event_is_dropped_only_if_nobody_asked() {
    let all = [EVENT, EVENT, USAGE, DONE];
    check_stream(STREAM, "text/event-stream", &all, &[EVENT, EVENT, DONE].concat()).await;
    let asked = r#""stream":true,"stream_options":{"include_usage":true}"#;
    check_stream(asked, "text/event-stream; charset=utf-8", &all, &all.concat()).await;
    // Cut anywhere, it is still found, and nothing else is lost.
    let whole = all.concat();
    for at in [1, EVENT.len() * 2 + 3, EVENT.len() * 2 + USAGE.len() - 1, whole.len() - 4] {
        let (a, b) = whole.split_at(at);
        check_stream(STREAM, "text/event-stream", &[a, b], &[EVENT, EVENT, DONE].concat()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_leave_one_by_one_with_equal_bytes() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let sent = chat_body(STREAM);
    let (response, run) = tokio::join!(app.chat(sent), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", b"", None);
        run
    });
    let mut received = response.into_body();
    let (mut sent, mut got) = (Sha256::new(), Sha256::new());
    for n in 0..10_000 {
        let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{n}\"}}}}]}}\r\n\r\n");
        sent.update(&event);
        proxy.part(run.request_id, event, None);
        let frame = timeout(Duration::from_millis(1), received.frame()).await.expect("it leaves at once");
        got.update(frame.unwrap().unwrap().into_data().unwrap());
    }
    proxy.part(run.request_id, "", end());
    assert!(received.frame().await.is_none());
    assert_eq!(sent.finalize(), got.finalize());
}

#[tokio::test(start_paused = true)]
async fn hang_up_sends_cancel() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    // In the middle of the answer.
    let (response, run) = tokio::join!(app.chat(chat_body(STREAM)), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", EVENT.as_bytes(), None);
        run
    });
    drop((response, app));
    assert_eq!(proxy.next().await, ClientMessage::Cancel { request_id: run.request_id });
    // Before its beginning.
    let mut app = rig.app().await;
    let hung_up = timeout(Duration::from_secs(1), app.chat(chat_body(""))).await;
    assert!(hung_up.is_err());
    drop((hung_up, app));
    let run_of_second = proxy.next_run().await;
    assert_eq!(proxy.next().await, ClientMessage::Cancel { request_id: run_of_second.request_id });
    // What was on its way meanwhile is tolerated, and the session goes on.
    proxy.part(run.request_id, EVENT, None);
    proxy.part(run.request_id, EVENT, end());
    sleep(Duration::from_secs(1)).await;
    let status = rig.handle.status();
    assert!(status.ready);
    assert_eq!((status.requests_abandoned, status.requests_in_flight), (2, 0));
    assert_eq!(status.proxies[0].requests_in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_app_pauses_credit() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let (mut slow, mut other) = (rig.app().await, rig.app().await);
    let (response, run) = tokio::join!(slow.chat(chat_body(STREAM)), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/plain", b"", None);
        run
    });
    // The app does not read; the proxy sends what it may.
    let mut credit = run.answer_credit.unwrap() as usize - 200;
    let mut sent = 0;
    loop {
        while credit >= 16 << 10 {
            proxy.part(run.request_id, vec![b'x'; 16 << 10], None);
            credit -= 16 << 10;
            sent += 16 << 10;
        }
        match timeout(Duration::from_secs(5), proxy.next()).await {
            Ok(ClientMessage::Credit { bytes, .. }) => credit += bytes as usize,
            Ok(other) => panic!("heard {other:?}"),
            Err(_) => break,
        }
    }
    // The window and what fits into the buffers of the connection to the app.
    assert!(sent < 1 << 20, "{sent} bytes were taken for an app that reads nothing");
    // Others are not concerned.
    let (answer, ()) = tokio::join!(other.chat(chat_body("")), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{}", end());
    });
    assert_eq!(answer.status(), 200);
    // Once the app reads, credit flows again.
    let reading = async { response.into_body().collect().await.unwrap().to_bytes() };
    let granting = async {
        while sent < 4 << 20 {
            let ClientMessage::Credit { bytes, .. } = proxy.next().await else { panic!("only credit is due") };
            for _ in 0..bytes as usize / (32 << 10) {
                proxy.part(run.request_id, vec![b'x'; 32 << 10], None);
                sent += 32 << 10;
            }
        }
        proxy.part(run.request_id, "", end());
        sent
    };
    let (received, sent) = tokio::join!(reading, granting);
    assert_eq!(received.len(), sent);
}

#[tokio::test(start_paused = true)]
async fn slow_reader_of_an_original_stream_is_cut_off() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::V2).await;
    let mut slow = rig.app().await;
    let (response, run) = tokio::join!(slow.chat(chat_body(STREAM)), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", b"", None);
        run
    });
    for _ in 0..6 {
        proxy.part(run.request_id, vec![b'x'; 1 << 20], None);
        sleep(Duration::from_secs(1)).await;
    }
    let received = body(response).await;
    let text = String::from_utf8_lossy(&received);
    assert!(received.len() < 5 << 20);
    assert!(text.ends_with("}}\n\n") && text.contains("slow_reader"), "{}", &text[text.len() - 200..]);
    // The original cannot be told; what it still sends is dropped.
    proxy.part(run.request_id, vec![b'x'; 1 << 20], end());
    sleep(Duration::from_secs(1)).await;
    assert!(rig.handle.status().ready);
}

#[tokio::test(start_paused = true)]
async fn a_worker_gone_mid_stream_is_an_error_event() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let failing = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", EVENT.as_bytes(), None);
        sleep(Duration::from_secs(1)).await;
        proxy.fail(run.request_id, FailureCode::WorkerLost, "lost 10.0.0.7:443");
    };
    let (received, ()) = tokio::join!(async { body(app.chat(chat_body(STREAM)).await).await }, failing);
    let rest = std::str::from_utf8(&received).unwrap().strip_prefix(EVENT).unwrap();
    let event: serde_json::Value = serde_json::from_str(rest.strip_prefix("data: ").unwrap().trim_end()).unwrap();
    assert_eq!(event["error"]["code"], "worker_lost");
    assert!(rest.ends_with("\n\n") && !rest.contains("[DONE]") && !rest.contains("10.0.0.7"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_proxy_mid_event_ends_the_event_and_says_so() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let failing = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", b"data: {\"choices\":[{\"delta\":", None);
        sleep(Duration::from_secs(1)).await;
        rig.network.cut("proxy");
    };
    let (received, ()) = tokio::join!(async { body(app.chat(chat_body(STREAM)).await).await }, failing);
    let text = std::str::from_utf8(&received).unwrap();
    let (_, last) = text.trim_end().rsplit_once("\n\n").unwrap();
    assert!(last.starts_with("data: {\"error\":") && last.contains("proxy_lost"), "{text}");
    // A body that is no event stream cannot say so, and is cut instead.
    let mut proxy = rig.proxy(crate::rig::Script::default()).await;
    rig.until_ready().await;
    let mut app = rig.app().await;
    let failing = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/x-ndjson", b"{}\n", None);
        sleep(Duration::from_secs(1)).await;
        rig.network.cut("proxy");
    };
    let (received, ()) = tokio::join!(async { app.chat(chat_body(STREAM)).await.into_body().collect().await }, failing);
    assert!(received.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stream_past_its_deadline_says_so_and_is_cancelled() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let fields = r#""stream":true,"timeout":3"#;
    let (received, run) = tokio::join!(async { body(app.chat(chat_body(fields)).await).await }, async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", EVENT.as_bytes(), None);
        run
    });
    assert!(std::str::from_utf8(&received).unwrap().contains(r#""code":"timeout""#));
    assert_eq!(proxy.next().await, ClientMessage::Cancel { request_id: run.request_id });
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_is_too_long_to_hold_is_streamed() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let answering = async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"", None);
        let mut credit = run.answer_credit.unwrap() as usize - 200;
        for _ in 0..64 {
            while credit < 48 << 10 {
                let ClientMessage::Credit { bytes, .. } = proxy.next().await else { panic!("only credit is due") };
                credit += bytes as usize;
            }
            proxy.part(run.request_id, vec![b'y'; 48 << 10], None);
            credit -= 48 << 10;
        }
        proxy.part(run.request_id, "", Some(FinalInfo::default()));
    };
    let reading = async {
        let response = app.chat(chat_body("")).await;
        assert!(!response.headers().contains_key("x-cocoon-client-end"));
        body(response).await.len()
    };
    let (received, ()) = tokio::join!(reading, answering);
    assert_eq!(received, 64 * (48 << 10));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_reads_nothing_for_a_minute_is_cut_off() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.raw_app(chat_body(r#""stream":true,"timeout":3600"#)).await;
    let run = proxy.next_run().await;
    proxy.head(run.request_id, "text/event-stream", b"", None);
    for _ in 0..4 {
        proxy.part(run.request_id, vec![b'x'; 32 << 10], None);
    }
    // The app's side of the socket is full, and stays so.
    assert_eq!(proxy.next().await, ClientMessage::Cancel { request_id: run.request_id });
    assert_eq!(rig.handle.status().requests_in_flight, 0);
    let mut rest = Vec::new();
    let _ = app.read_to_end(&mut rest).await;
    assert!(rest.len() < 128 << 10);
}
