//! Peers that break the rules: each loses its connection or is answered with blame, and the proxy
//! serves on.

use std::time::Duration;

use cocoon_net::QueryError;
use cocoon_units::AdjustedTokens;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::http::HttpResponse;
use cocoon_wire::message::{
    Answer, ClientAnswer, ClientMessage, ClientParams, ClientQuery, ProxyToWorker, WorkerQuery,
};
use cocoon_wire::{RequestId, VersionRange};

use crate::peers::{Client, Peer, Worker, World, config, params, run};

/// A world with one worker that will misbehave and a request that it has.
async fn caught() -> (World, Client, Worker, RequestId) {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let client = world.client(VersionRange::ALL).await;
    client.run(1);
    let request_id = worker.request().await.request_id;
    (world, client, worker, request_id)
}

/// The worker's connection has ended, and another worker serves the next request.
async fn serves_on(world: &World, client: &mut Client, mut bad: Worker) {
    bad.peer.ended().await;
    let mut good = world.worker(VersionRange::ALL, 4).await;
    client.run(99);
    let request_id = good.request().await.request_id;
    good.head(request_id);
    loop {
        let answer = client.answer().await;
        if answer.request_id() == RequestId::new([99; 32]) {
            assert!(matches!(answer, Answer::Head { .. }));
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn part_before_answer() {
    let (world, mut client, worker, request_id) = caught().await;
    worker.part(request_id, "x");
    assert_eq!(client.failure().await.blame, Blame::Worker);
    serves_on(&world, &mut client, worker).await;
}

#[tokio::test(start_paused = true)]
async fn double_end() {
    let (world, mut client, worker, request_id) = caught().await;
    worker.head(request_id);
    worker.end(request_id, 1);
    worker.end(request_id, 1);
    client.answer().await;
    let Answer::Part { end: Some(_), .. } = client.answer().await else { panic!("no end") };
    serves_on(&world, &mut client, worker).await;
    assert_eq!(world.handle.status().tally.completed, 1);
}

#[tokio::test(start_paused = true)]
async fn double_head() {
    let (world, mut client, worker, request_id) = caught().await;
    worker.head(request_id);
    worker.head(request_id);
    client.answer().await;
    assert_eq!(client.failure().await.blame, Blame::Worker);
    serves_on(&world, &mut client, worker).await;
}

#[tokio::test(start_paused = true)]
async fn answer_for_unknown_request() {
    let (world, mut client, worker, _) = caught().await;
    worker.head(RequestId::new([0xee; 32]));
    assert_eq!(client.failure().await.code, FailureCode::WorkerLost);
    serves_on(&world, &mut client, worker).await;
}

#[tokio::test(start_paused = true)]
async fn head_that_is_no_http_response() {
    let (world, mut client, worker, request_id) = caught().await;
    let response = cocoon_wire::Sealed::from(vec![1, 2, 3, 4]);
    worker.say(Answer::Head { request_id, response, end: None });
    assert_eq!(client.failure().await.blame, Blame::Worker);
    serves_on(&world, &mut client, worker).await;
}

#[tokio::test(start_paused = true)]
async fn more_bytes_than_credit() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let mut client = world.client(VersionRange::ALL).await;
    let mut run = run(1);
    run.answer_credit = Some(1_000);
    client.send(ClientMessage::Run(run));
    let request_id = worker.request().await.request_id;
    worker.head(request_id);
    worker.part(request_id, vec![b'x'; 60_000]);
    worker.part(request_id, vec![b'x'; 60_000]);
    client.answer().await;
    client.answer().await;
    assert_eq!(client.failure().await.blame, Blame::Worker);
    serves_on(&world, &mut client, worker).await;
}

#[tokio::test(start_paused = true)]
async fn usage_above_reservation_is_clamped_and_blamed() {
    let (world, mut client, worker, request_id) = caught().await;
    worker.head(request_id);
    worker.end(request_id, u64::from(u32::MAX));
    client.answer().await;
    let Answer::Part { end: Some(info), .. } = client.answer().await else { panic!("no end") };
    // (85 or so bytes of body + the template's margin + 50 tokens) at four times the price.
    assert!(info.tokens.total.get() < 4 * 1_000);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let status = world.handle.status();
    assert_eq!((status.tally.overcharges, status.tally.tokens_charged), (1, info.tokens.total.get()));
}

#[tokio::test(start_paused = true)]
async fn worker_gone_mid_stream() {
    let (_world, mut client, worker, request_id) = caught().await;
    worker.head(request_id);
    client.answer().await;
    drop(worker);
    assert_eq!(client.failure().await.code, FailureCode::WorkerLost);
}

#[tokio::test(start_paused = true)]
async fn worker_gone_mid_stream_is_an_error_event_for_original_clients() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let mut client = world.client(VersionRange::ORIGINAL).await;
    client.run(1);
    let request_id = worker.request().await.request_id;
    worker.head(request_id);
    client.answer().await;
    drop(worker);
    let Answer::Part { body, end: Some(_), .. } = client.answer().await else { panic!("no end") };
    assert!(body.expose().starts_with(br#"data: {"error":{"#));
    assert!(body.expose().ends_with(b"\n\n"));
}

#[tokio::test(start_paused = true)]
async fn worker_gone_before_answer_is_retried() {
    let world = World::new(config());
    let mut first = world.worker_at(VersionRange::ALL, 4, 1_000).await;
    let mut second = world.worker_at(VersionRange::ALL, 4, 2_000).await;
    let mut client = world.client(VersionRange::ALL).await;
    client.run(1);
    let sent = first.request().await;
    drop(first);
    let again = second.request().await;
    assert_eq!(again.query, sent.query);
    assert_ne!(again.request_id, sent.request_id);
    second.head(again.request_id);
    second.end(again.request_id, 2);
    assert!(matches!(client.answer().await, Answer::Head { .. }));
    assert_eq!(world.handle.status().tally.retried, 1);
}

#[tokio::test(start_paused = true)]
async fn late_answer_of_a_cancelled_request_is_tolerated() {
    let (_world, client, mut worker, request_id) = caught().await;
    client.send(ClientMessage::Cancel { request_id: RequestId::new([1; 32]) });
    let ProxyToWorker::Cancel { .. } = worker.next().await else { panic!("not cancelled") };
    tokio::time::sleep(Duration::from_secs(10)).await;
    worker.head(request_id);
    worker.end(request_id, 1);
    client.run(2);
    worker.request().await;
}

#[tokio::test(start_paused = true)]
async fn duplicate_request_id() {
    let (_world, mut client, mut worker, request_id) = caught().await;
    client.run(1);
    let failure = client.failure().await;
    assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest));
    assert!(worker.peer.is_silent().await);
    worker.head(request_id);
    assert!(matches!(client.answer().await, Answer::Head { .. }), "the first goes on");
}

#[tokio::test(start_paused = true)]
async fn the_same_request_id_of_two_clients() {
    let (world, _first, mut worker, request_id) = caught().await;
    let second = world.client(VersionRange::ALL).await;
    second.run(1);
    assert_ne!(worker.request().await.request_id, request_id);
}

#[tokio::test(start_paused = true)]
async fn flood_of_queries() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 1).await;
    let mut client = world.client(VersionRange::ALL).await;
    let other = world.client(VersionRange::ALL).await;
    for id in 0..100 {
        client.run(id);
    }
    // One runs and four wait; everybody else is told when to come back.
    for _ in 0..95 {
        let failure = client.failure().await;
        assert_eq!(failure.code, FailureCode::Overloaded);
        assert!(failure.retry_after_ms.is_some());
    }
    for _ in 0..5 {
        let request_id = worker.request().await.request_id;
        worker.head(request_id);
        worker.end(request_id, 1);
    }
    other.run(1);
    worker.request().await;
}

#[tokio::test(start_paused = true)]
async fn slow_reader_of_a_fast_stream() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    // An original client that shakes hands, asks, and never reads again.
    let slow = world.client(VersionRange::ORIGINAL).await;
    slow.run(1);
    let first = worker.request().await.request_id;
    world.network.freeze("clients");
    let mut other = world.client(VersionRange::ORIGINAL).await;
    other.run(2);
    let second = worker.request().await.request_id;
    worker.head(first);
    worker.head(second);
    for _ in 0..200 {
        worker.part(first, vec![b'x'; 60_000]);
        worker.part(second, vec![b'y'; 1_000]);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The worker is told to stop after 4 MiB or so, long before 12 MB.
    let ProxyToWorker::Cancel { request_id } = worker.next().await else { panic!("not cancelled") };
    assert_eq!(request_id, first);
    worker.end(second, 1);
    let mut received = 0;
    loop {
        match other.answer().await {
            Answer::Part { body, end: None, .. } => received += body.len(),
            Answer::Part { end: Some(_), .. } => break,
            _ => {}
        }
    }
    assert_eq!(received, 200_000, "others are not affected");
}

#[tokio::test(start_paused = true)]
async fn wrong_nesting() {
    let world = World::new(config());
    // A request before the handshake.
    let mut peer = Peer::new(world.connect("clients").await);
    peer.outbox.send(ClientMessage::Run(run(1)).encode(cocoon_wire::Version::V2)).unwrap();
    peer.ended().await;
    // Authorization before the connection.
    let peer = Peer::new(world.connect("clients").await);
    let secret = cocoon_wire::Sealed::default();
    assert!(peer.ask(ClientQuery::AuthorizeShort { secret }.encode()).await.is_err());
    // A second connection after the handshake.
    let mut client = world.client(VersionRange::ALL).await;
    let params = ClientParams { owner_address: "other".into(), is_test: true, versions: None };
    let again = ClientQuery::Connect { params, min_config_version: 0 };
    assert!(client.peer.ask(again.encode()).await.is_err());
    client.peer.ended().await;
    // And it serves on.
    world.client(VersionRange::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn garbage_after_the_handshake() {
    let world = World::new(config());
    let mut client = world.client(VersionRange::ALL).await;
    client.peer.outbox.send(bytes::Bytes::from_static(b"garbage!").into()).unwrap();
    client.peer.ended().await;
    let mut worker = world.worker(VersionRange::ALL, 1).await;
    worker.peer.outbox.send(bytes::Bytes::from_static(b"garbage!").into()).unwrap();
    worker.peer.ended().await;
    world.client(VersionRange::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_finishes_its_handshake() {
    let world = World::new(config());
    let mut peer = Peer::new(world.connect("workers").await);
    peer.ended().await;
    world.client(VersionRange::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_json() {
    let world = World::new(config());
    let mut client = world.client(VersionRange::ALL).await;
    client.send(ClientMessage::Run(crate::peers::run_with(1, "{\"n\":".into())));
    assert_eq!(client.failure().await.code, FailureCode::BadRequest);
    let mut original = world.client(VersionRange::ORIGINAL).await;
    original.send(ClientMessage::Run(crate::peers::run_with(1, "{\"n\":".into())));
    let Answer::Head { response, .. } = original.answer().await else { panic!("no answer") };
    assert_eq!(HttpResponse::decode(&response).unwrap().status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_names_another_model_than_its_envelope() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let mut client = world.client(VersionRange::ALL).await;
    let body = r#"{"model":"dear","messages":[],"max_tokens":1}"#;
    client.send(ClientMessage::Run(crate::peers::run_with(1, body.into())));
    let failure = client.failure().await;
    assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest));
    assert!(worker.peer.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_no_credit_to_a_fast_original_worker() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ORIGINAL, 4).await;
    let mut client = world.client(VersionRange::ALL).await;
    let mut run = run(1);
    run.answer_credit = Some(1_000);
    client.send(ClientMessage::Run(run));
    let request_id = worker.request().await.request_id;
    worker.head(request_id);
    client.answer().await;
    for _ in 0..100 {
        worker.part(request_id, vec![b'x'; 60_000]);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // An original worker cannot be told; what it goes on to send is ignored, and its end is billed.
    assert!(client.peer.is_silent().await);
    worker.end(request_id, 7);
    let Answer::Failed { failure, end: Some(end), .. } = client.answer().await else { panic!("not told") };
    assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::SlowReader));
    assert_eq!(end.tokens.total.get(), 7);
    assert_eq!(world.handle.status().tally.tokens_charged, 7);
    client.run(2);
    worker.request().await;
}

#[tokio::test(start_paused = true)]
async fn wrong_secret() {
    let world = World::new(config());
    let mut peer = Peer::new(world.connect("clients").await);
    let params = ClientParams { owner_address: "wallet".into(), is_test: true, versions: Some(VersionRange::ALL) };
    peer.ask(ClientQuery::Connect { params, min_config_version: 0 }.encode()).await.unwrap();
    let secret = cocoon_wire::Sealed::from(b"guess".to_vec());
    let answer = peer.ask(ClientQuery::AuthorizeShort { secret }.encode()).await.unwrap();
    assert!(matches!(ClientAnswer::decode(answer).unwrap(), ClientAnswer::AuthorizationFailed { .. }));
    peer.ended().await;
    assert_eq!(world.handle.status().tally.clients, 0);
}

#[tokio::test(start_paused = true)]
async fn flood_of_credits_does_not_reach_the_worker() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let client = world.client(VersionRange::ALL).await;
    let mut run = run(1);
    run.answer_credit = Some(10);
    client.send(ClientMessage::Run(run));
    let request_id = worker.request().await.request_id;
    let many_small = [0, 1, 100].repeat(1_000);
    for bytes in many_small.into_iter().chain([u32::MAX; 1_000]) {
        client.send(ClientMessage::Credit { request_id: RequestId::new([1; 32]), bytes });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    worker.head(request_id);
    let mut told = 0;
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(1), worker.next()).await {
        assert!(matches!(message, ProxyToWorker::Credit { .. }), "unexpected {message:?}");
        told += 1;
    }
    assert!((1..=32).contains(&told), "{told} of 4000 were passed on");
}

#[tokio::test(start_paused = true)]
async fn credit_a_byte_at_a_time_still_arrives() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let client = world.client(VersionRange::ALL).await;
    let mut run = run(1);
    run.answer_credit = Some(0);
    client.send(ClientMessage::Run(run));
    worker.request().await;
    let mut credit = 0;
    for _ in 0..100 {
        client.send(ClientMessage::Credit { request_id: RequestId::new([1; 32]), bytes: 1 });
    }
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(1), worker.next()).await {
        let ProxyToWorker::Credit { bytes, .. } = message else { panic!("unexpected {message:?}") };
        credit += bytes;
    }
    assert!((50..=100).contains(&credit), "at least half of it is with the worker: {credit}");
}

#[tokio::test(start_paused = true)]
async fn flood_of_empty_parts() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let mut client = world.client(VersionRange::ALL).await;
    client.run(1);
    let request_id = worker.request().await.request_id;
    worker.head(request_id);
    for _ in 0..1_000 {
        worker.part(request_id, "");
    }
    worker.part(request_id, "x");
    client.answer().await;
    let Answer::Part { body, .. } = client.answer().await else { panic!("no part") };
    assert_eq!(body.expose(), &b"x"[..], "nothing that says nothing is passed on");
}

#[tokio::test(start_paused = true)]
async fn large_message_of_a_stranger() {
    let world = World::new(config());
    let large = WorkerQuery::ExtendedCompareBalance {
        tokens_committed_to_db: AdjustedTokens::ZERO,
        other: vec![0; 100 << 10].into(),
    };
    for listener in ["clients", "workers"] {
        let mut peer = Peer::new(world.connect(listener).await);
        let error = peer.ask(large.encode()).await.unwrap_err();
        // Not even read, so it is not refused in words.
        assert!(!matches!(error, QueryError::PeerRefused { .. }), "{error}");
        peer.ended().await;
    }
    world.client(VersionRange::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_handover_that_was_asked_for_may_be_long() {
    let world = World::new(config());
    let mut peer = Peer::new(world.connect("workers").await);
    peer.ask(WorkerQuery::Connect(params(VersionRange::ALL, 4, 1_000)).encode()).await.unwrap();
    let none = AdjustedTokens::ZERO;
    let compare = WorkerQuery::CompareBalance {
        tokens_committed_to_blockchain: none,
        tokens_committed_to_db: none,
        max_tokens: AdjustedTokens::new(1),
    };
    peer.ask(compare.encode()).await.unwrap();
    let other = vec![0; 100 << 10].into();
    let long = WorkerQuery::ExtendedCompareBalance { tokens_committed_to_db: none, other };
    peer.ask(long.encode()).await.unwrap();
    assert!(peer.ask(long.encode()).await.is_err());
    peer.ended().await;
}

#[tokio::test(start_paused = true)]
async fn forged_proxy_headers_of_a_worker() {
    let (_world, mut client, worker, request_id) = caught().await;
    let forged = HttpResponse {
        status: 200,
        reason: "OK".into(),
        headers: vec![("x-cocoon-PROXY-start".into(), "forged".into()), ("X-Cocoon-Worker-Start".into(), "1".into())],
        payload: bytes::Bytes::new(),
    };
    worker.say(Answer::Head { request_id, response: forged.encode().unwrap(), end: None });
    let Answer::Head { response, .. } = client.answer().await else { panic!("no head") };
    let head = HttpResponse::decode(&response).unwrap();
    assert!(head.headers.iter().all(|(_, value)| value != "forged"));
    assert!(head.header("x-cocoon-proxy-start").is_some() && head.header("x-cocoon-worker-start").is_some());
}

/// Keeps every field of every event.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<String>>);

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let mut log = self.0.lock().unwrap();
        *log += &format!("{}={value:?} ", field.name());
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn prompt_quoted_in_a_workers_failure_is_not_logged() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (_world, mut client, worker, request_id) = caught().await;
    let failure = Failure::new(Blame::Client, FailureCode::BadRequest, "cannot answer: my secret prompt");
    worker.say(Answer::Failed { request_id, failure, end: None });
    assert!(client.failure().await.message.contains("secret"), "the app is told");
    let log = log.0.lock().unwrap();
    assert!(log.contains("bad_request") && !log.contains("secret"), "{log}");
}
