//! Streams leave as the engine sent them, when it sent them, and no faster than credit allows.

use std::time::Duration;

use cocoon_sim::{Behaviour, Ending, Event, Outcome};
use cocoon_wire::failure::{Blame, FailureCode};
use cocoon_wire::message::{Answer, ProxyToWorker, WorkerRun};
use tokio::time::Instant;

use crate::harness::{Bench, TestProxy, Whole, chat, config, id, original};

const STREAM: &str = r#"{"stream":true,"max_tokens":100000,"stream_options":{"include_usage":true}}"#;

async fn part(proxy: &mut TestProxy) -> (Vec<u8>, bool) {
    match proxy.answer().await {
        Answer::Part { body, end, .. } => (body.into_bytes().to_vec(), end.is_some()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn sse_events_leave_as_they_come_at_their_virtual_time() {
    for config in [config(), original()] {
        let (bench, mut proxy) = Bench::connected(config).await;
        // Odd boundaries, comments, CRLF and a cut UTF-8 character: none of it is the worker's business.
        let pieces =
            ["data: {\"a\":", "1}\n\n", ": ping\n\n", "data:{\"b\" : \"\u{1f980}\"}\r\n\r\n", "data: [DO", "NE]\n\n"];
        let events = pieces.iter().map(|&piece| Event::after(37, piece)).collect();
        bench.engine.push(Behaviour::Raw {
            status: 200,
            content_type: "text/event-stream; charset=utf-8".to_owned(),
            headers: vec![("X-Engine-Secret".to_owned(), "1".to_owned())],
            events,
            ending: Ending::Finish,
        });
        let began = Instant::now();
        proxy.run(chat(1, STREAM));
        let mut head = Whole::default();
        assert!(!head.take(proxy.answer().await));
        assert_eq!(head.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(head.headers.len(), 2, "only the content type and our own start time: {:?}", head.headers);
        assert_eq!(began.elapsed(), Duration::ZERO);
        for (place, piece) in (1..).zip(pieces) {
            let (body, last) = part(&mut proxy).await;
            assert_eq!(String::from_utf8(body).unwrap(), piece);
            assert_eq!(began.elapsed(), Duration::from_millis(37 * place));
            assert_eq!(last, place == 6);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_tokens_arrive_byte_for_byte() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::tokens(10_000));
    proxy.run(chat(1, STREAM));
    let whole = proxy.whole().await;
    let text = whole.text();
    assert_eq!(text.matches("data: ").count(), 10_000 + 4);
    assert_eq!(u64::try_from(text.len()).unwrap(), bench.engine.requests()[0].bytes_sent);
    assert_eq!(whole.tokens(), [18, 0, 20_000, 0, 20_018]);
}

#[tokio::test(start_paused = true)]
async fn credit_pauses_the_reading_of_the_engine() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::tokens(10_000));
    let credit = 50_000;
    proxy.run(WorkerRun { answer_credit: Some(credit), ..chat(1, STREAM) });
    let mut whole = Whole::default();
    let mut received = 0;
    let mut granted = usize::try_from(credit).unwrap();
    // Take what the first credit allows, then nothing more may come, however long we wait.
    while let Ok(answer) = tokio::time::timeout(Duration::from_secs(20), proxy.answer()).await {
        received += answer.body_len();
        assert!(!whole.take(answer));
    }
    assert_eq!(received, granted);
    let sent = bench.engine.requests()[0].bytes_sent;
    assert!(sent < 50_000 + 400_000, "the engine was read on without credit: {sent}");
    assert_eq!(bench.engine.requests()[0].outcome, Outcome::Running);
    loop {
        let more = ProxyToWorker::Credit { request_id: id(1), bytes: 30_000 };
        proxy.outbox.send_control(more.encode(proxy.version)).unwrap();
        granted += 30_000;
        while received < granted {
            let answer = proxy.answer().await;
            received += answer.body_len();
            assert!(received <= granted);
            if whole.take(answer) {
                assert_eq!(whole.text().matches("data: ").count(), 10_004);
                return;
            }
        }
    }
}

/// Takes what the credit allows and cancels; the credit ends a byte before the last word does.
async fn all_but_the_count(behaviour: Behaviour, body: &str, last_word: &str) -> ([u64; 5], [u64; 5]) {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(behaviour.clone());
    proxy.run(chat(1, body));
    let honest = proxy.whole().await;
    let text_len = honest.text().find(last_word).unwrap() + last_word.len();
    bench.engine.push(behaviour);
    proxy.run(WorkerRun { answer_credit: Some(0), ..chat(2, body) });
    let mut given_up = Whole::default();
    assert!(!given_up.take(proxy.answer().await), "the head comes in any case");
    // The head ran into debt; credit in small steps shows when the text begins, and where it stops.
    while given_up.text().len() < text_len - 1 {
        let more = ProxyToWorker::Credit { request_id: id(2), bytes: 1 };
        proxy.send(&more);
        while let Ok(answer) = tokio::time::timeout(Duration::from_millis(1), proxy.answer()).await {
            assert!(!given_up.take(answer));
        }
    }
    proxy.send(&ProxyToWorker::Cancel { request_id: id(2) });
    let end = proxy.whole().await;
    assert_eq!(end.failure.as_ref().unwrap().code, FailureCode::Cancelled);
    (end.tokens(), honest.tokens())
}

#[tokio::test(start_paused = true)]
async fn cancelling_before_the_usage_event_to_get_the_prompt_free() {
    let (given_up, honest) = all_but_the_count(Behaviour::tokens(5), STREAM, " t4").await;
    assert_eq!(given_up, honest);
    assert_eq!(honest, [18, 0, 10, 0, 28]);
    let (given_up, honest) = all_but_the_count(Behaviour::tokens(5), r#"{"max_tokens":8}"#, " t4").await;
    assert_eq!(given_up, honest, "an answer in one piece is made before it is delivered");
}

#[tokio::test(start_paused = true)]
async fn cancelling_long_before_the_usage_event_to_get_the_prompt_free() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::Tokens { count: 1000, delay_ms: 300, force_usage: false, ending: Ending::Finish });
    let prompt = "x".repeat(800);
    let body = STREAM.replacen('{', &format!(r#"{{"messages":[{{"role":"user","content":"{prompt}"}}],"#), 1);
    proxy.run(chat(1, &body));
    for _ in 0..7 {
        proxy.answer().await;
    }
    proxy.send(&ProxyToWorker::Cancel { request_id: id(1) });
    // A token for eight bytes of the prompt, and one for each event; the first and a possible last hold none.
    assert_eq!(proxy.whole().await.tokens(), [200, 0, 8, 0, 208]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_ignores_the_limit_is_paid_for_what_was_delivered() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::Tokens { count: 1000, delay_ms: 10, force_usage: false, ending: Ending::Finish });
    proxy.run(chat(1, &STREAM.replace("100000", "8")));
    let whole = proxy.whole().await;
    assert_eq!(whole.failure.as_ref().unwrap().blame, Blame::Engine);
    assert_eq!(whole.tokens(), [0, 0, 16, 0, 16]);
}

#[tokio::test(start_paused = true)]
async fn a_plain_answer_waits_for_credit_too() {
    let (_bench, mut proxy) = Bench::connected(config()).await;
    proxy.run(WorkerRun { answer_credit: Some(0), ..chat(1, r#"{"max_tokens":8}"#) });
    let mut whole = Whole::default();
    assert!(!whole.take(proxy.answer().await), "the head may run into debt, the body not");
    assert!(tokio::time::timeout(Duration::from_secs(5), proxy.answer()).await.is_err());
    proxy.send(&ProxyToWorker::Credit { request_id: id(1), bytes: 100_000 });
    assert!(whole.take(proxy.answer().await));
    assert!(whole.text().contains("scripted engine"));
}

#[tokio::test(start_paused = true)]
async fn slow_reader_of_a_fast_stream_is_ended_at_its_lag_on_an_original_leg() {
    let bench = Bench::new(original());
    let (proxy, mut frozen) = TestProxy::shake_frozen(bench.connection().await).await;
    bench.engine.wait_for(|_| bench.handle.status().engine == cocoon_worker::EngineState::Ready).await;
    let piece = format!("data: {}\n\n", "x".repeat(60_000));
    let events = (0..200).map(|_| Event::now(piece.clone())).collect();
    bench.engine.push(Behaviour::Raw {
        status: 200,
        content_type: "text/event-stream".to_owned(),
        headers: Vec::new(),
        events,
        ending: Ending::Finish,
    });
    proxy.run(chat(1, STREAM));
    // Let the request out, then read nothing for a while.
    let _ = tokio::time::timeout(Duration::from_millis(1), frozen.next()).await;
    bench.engine.wait_for(|records| records.first().is_some_and(|record| record.outcome == Outcome::HungUp)).await;
    let sent = bench.engine.requests()[0].bytes_sent;
    assert!((4 << 20..6 << 20).contains(&sent), "{sent}");
    assert_eq!(bench.handle.status().failures[0].code, FailureCode::SlowReader.as_str());
    assert_eq!(Blame::Proxy.as_str(), "proxy");
}
