//! Requests that go well, on every pair of dialects; cancellation, credit, queue and drain.

use std::time::Duration;

use cocoon_wire::failure::FailureCode;
use cocoon_wire::http::{HttpRequest, HttpResponse};
use cocoon_wire::message::{Answer, ClientAnswer, ClientMessage, ClientQuery, ProxyToClient, ProxyToWorker};
use cocoon_wire::{RequestId, Version, VersionRange};

use crate::peers::{MODEL, World, config, end, response, run, run_with};

async fn check_stream(client: VersionRange, worker: VersionRange) {
    let world = World::new(config());
    let mut worker = world.worker(worker, 4).await;
    let mut client = world.client(client).await;
    client.run(7);
    let request = worker.request().await;
    assert_ne!(request.request_id, RequestId::new([7; 32]), "each hop has its own id");
    assert_eq!(HttpRequest::decode(&request.query).unwrap().url, "/v1/chat/completions");
    match worker.version {
        Version::Extended => {
            assert_eq!((request.timeout_ms, request.token_limit), (114_000, Some(50)));
        }
        _ => assert_eq!((request.timeout_ms, request.token_limit), (108_300, None)),
    }
    worker.head(request.request_id);
    worker.part(request.request_id, "data: 1\n\n");
    let Answer::Head { request_id, response, end: None } = client.answer().await else { panic!("no head") };
    assert_eq!(request_id, RequestId::new([7; 32]));
    let head = HttpResponse::decode(&response).unwrap();
    assert_eq!(head.header("x-cocoon-proxy-start"), Some("1700000000.500000"));
    assert_eq!(head.header("x-cocoon-proxy-end"), None, "a stream's end is not known at its head");
    let Answer::Part { body, end: None, .. } = client.answer().await else { panic!("no part") };
    assert_eq!(&body.expose()[..], b"data: 1\n\n");
    worker.end(request.request_id, 39);
    let Answer::Part { end: Some(info), .. } = client.answer().await else { panic!("no end") };
    assert_eq!(info.tokens.total.get(), 39);
    if client.version != Version::V1 {
        // Version 1 knows no times, on either leg.
        let worker_start = (worker.version != Version::V1).then_some(1.0);
        assert_eq!((info.worker_start, info.proxy_start), (worker_start, Some(1_700_000_000.5)));
    }
    if client.version != Version::Extended {
        let ProxyToClient::Payment(payment) = client.next().await else { panic!("no payment") };
        assert_eq!((payment.request_tokens.get(), payment.max_tokens.get()), (39, 39));
    }
    if worker.version != Version::Extended {
        let ProxyToWorker::Payment { payment, request_client_owner } = worker.next().await else {
            panic!("no payment")
        };
        assert_eq!((payment.request_id, payment.max_tokens.get()), (request.request_id, 39));
        assert_eq!(request_client_owner, "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_passes_between_all_dialects() {
    let only = |version: Version| VersionRange { min: version.number(), max: version.number() };
    for client in [Version::V1, Version::V2, Version::Extended] {
        for worker in [Version::V1, Version::V2, Version::Extended] {
            check_stream(only(client), only(worker)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_one_message_carries_both_times() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let mut client = world.client(VersionRange::ALL).await;
    client.run(1);
    let request_id = worker.request().await.request_id;
    let response = response("application/json", b"{}");
    worker.say(Answer::Head { request_id, response, end: Some(end(5)) });
    let Answer::Head { response, end: Some(info), .. } = client.answer().await else { panic!("no answer") };
    let head = HttpResponse::decode(&response).unwrap();
    assert!(head.header("x-cocoon-proxy-end").is_some());
    assert_eq!(&head.payload[..], b"{}");
    assert_eq!(info.tokens.total.get(), 5);
}

#[tokio::test(start_paused = true)]
async fn polls_are_answered() {
    let world = World::new(config());
    let client = world.client(VersionRange::ORIGINAL).await;
    let _worker = world.worker(VersionRange::ORIGINAL, 60).await;
    let ask = async |query: ClientQuery| {
        client.peer.ask(query.encode()).await.map(|data| ClientAnswer::decode(data).unwrap())
    };
    let Ok(ClientAnswer::WorkerTypesV2(types)) = ask(ClientQuery::GetWorkerTypesV2).await else { panic!("no types") };
    assert_eq!((types[0].name.as_str(), types[0].workers[0].max_active_requests), (MODEL, 60));
    let Ok(ClientAnswer::WorkerTypes(types)) = ask(ClientQuery::GetWorkerTypes).await else { panic!("no types") };
    assert_eq!((types[0].active_workers, types[0].coefficient_bucket50.thousandths()), (1, 1_000));
    let Ok(ClientAnswer::PaymentStatus(_)) = ask(ClientQuery::UpdatePaymentStatus).await else { panic!("no status") };
    assert!(ask(ClientQuery::RequestRefund).await.is_err());
    client.run(1);
    let Ok(ClientAnswer::RefundRejected { active_queries: 1 }) = ask(ClientQuery::RequestRefund).await else {
        panic!("refunded while a request runs")
    };
    let status = world.handle.status();
    assert_eq!((status.tally.clients, status.tally.workers, status.tally.requests), (1, 1, 1));
    assert!(world.handle.metrics().contains("cocoon_proxy_requests 1\n"));
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_reaches_the_worker_and_bills_what_was_produced() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let mut client = world.client(VersionRange::ALL).await;
    client.run(1);
    let request_id = worker.request().await.request_id;
    worker.head(request_id);
    client.answer().await;
    client.send(ClientMessage::Cancel { request_id: RequestId::new([1; 32]) });
    let ProxyToWorker::Cancel { request_id: cancelled } = worker.next().await else { panic!("not cancelled") };
    assert_eq!(cancelled, request_id);
    worker.part(request_id, "too late");
    worker.end(request_id, 9);
    let Answer::Failed { failure, end: Some(info), .. } = client.answer().await else { panic!("no end") };
    assert_eq!((failure.code, info.tokens.total.get()), (FailureCode::Cancelled, 9));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_cancels_its_requests() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let client = world.client(VersionRange::ALL).await;
    client.run(1);
    let request_id = worker.request().await.request_id;
    drop(client);
    let ProxyToWorker::Cancel { request_id: cancelled } = worker.next().await else { panic!("not cancelled") };
    assert_eq!(cancelled, request_id);
}

#[tokio::test(start_paused = true)]
async fn credit_is_passed_on_from_end_to_end() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let client = world.client(VersionRange::ALL).await;
    let mut run = run(1);
    run.answer_credit = Some(1_000);
    client.send(ClientMessage::Run(run));
    let request = worker.request().await;
    assert_eq!(request.answer_credit, Some(1_000));
    client.send(ClientMessage::Credit { request_id: RequestId::new([1; 32]), bytes: 1_000 });
    let ProxyToWorker::Credit { request_id, bytes } = worker.next().await else { panic!("no credit") };
    assert_eq!((request_id, bytes), (request.request_id, 1_000));
}

#[tokio::test(start_paused = true)]
async fn what_an_original_worker_sends_beyond_the_credit_is_held_until_there_is_some() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ORIGINAL, 4).await;
    let mut client = world.client(VersionRange::ALL).await;
    let mut run = run(1);
    run.answer_credit = Some(1_000);
    client.send(ClientMessage::Run(run));
    let request_id = worker.request().await.request_id;
    worker.head(request_id);
    client.answer().await;
    worker.part(request_id, vec![b'x'; 2_000]);
    worker.end(request_id, 3);
    assert!(client.peer.is_silent().await);
    client.send(ClientMessage::Credit { request_id: RequestId::new([1; 32]), bytes: 2_000 });
    let Answer::Part { body, end: None, .. } = client.answer().await else { panic!("no part") };
    assert_eq!(body.len(), 2_000);
    let Answer::Part { end: Some(info), .. } = client.answer().await else { panic!("no end") };
    assert_eq!(info.tokens.total.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn original_clients_get_errors_as_http() {
    let world = World::new(config());
    let mut client = world.client(VersionRange::ORIGINAL).await;
    client.run(1);
    let Answer::Head { response, end: Some(_), .. } = client.answer().await else { panic!("no answer") };
    let response = HttpResponse::decode(&response).unwrap();
    assert_eq!(response.status, 503);
    let body: serde_json::Value = serde_json::from_slice(&response.payload).unwrap();
    assert_eq!(body["error"]["code"], "no_worker");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_fit_an_original_packet_is_413() {
    let world = World::new(config());
    let _worker = world.worker(VersionRange::ORIGINAL, 4).await;
    let mut client = world.client(VersionRange::ALL).await;
    let body = format!(r#"{{"max_tokens":5,"user":"{}"}}"#, "x".repeat((16 << 20) - 200));
    client.send(ClientMessage::Run(run_with(1, body.into())));
    let failure = client.failure().await;
    assert_eq!((failure.code, failure.code.http_status()), (FailureCode::TooLarge, 413));
    client.run(2);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_slot_and_then_runs() {
    let world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 1).await;
    let client = world.client(VersionRange::ALL).await;
    client.run(1);
    client.run(2);
    let first = worker.request().await.request_id;
    assert!(worker.peer.is_silent().await);
    worker.head(first);
    worker.end(first, 1);
    let second = worker.request().await.request_id;
    assert_ne!(first, second);
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_running_requests_finish_and_ends_the_proxy() {
    let mut world = World::new(config());
    let mut worker = world.worker(VersionRange::ALL, 1).await;
    let mut client = world.client(VersionRange::ALL).await;
    client.run(1);
    let request_id = worker.request().await.request_id;
    world.handle.drain();
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.run(2);
    assert_eq!(client.failure().await.code, FailureCode::Draining);
    worker.head(request_id);
    worker.end(request_id, 1);
    client.answer().await;
    let Answer::Part { end: Some(_), .. } = client.answer().await else { panic!("no end") };
    client.peer.ended().await;
    world.proxy.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_still_waits_for_its_workers_link_is_taken_back() {
    let world = World::new(config());
    let _worker = world.worker(VersionRange::ALL, 16).await;
    let mut client = world.client(VersionRange::ALL).await;
    world.network.freeze("workers");
    let body = format!(r#"{{"max_tokens":5,"user":"{}"}}"#, "x".repeat(200_000));
    for id in 0..10 {
        client.send(ClientMessage::Run(run_with(id, body.clone().into())));
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let started = tokio::time::Instant::now();
    client.send(ClientMessage::Cancel { request_id: RequestId::new([9; 32]) });
    assert_eq!(client.failure().await.code, FailureCode::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(1), "nobody waits for a worker that never had it");
}
