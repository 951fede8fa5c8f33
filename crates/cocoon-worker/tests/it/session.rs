//! Connections to proxies: handshake, changes at run time, loss, shutdown.

use cocoon_sim::{Behaviour, Ending, Outcome};
use cocoon_units::{AdjustedTokens, Coefficient};
use cocoon_wire::Version;
use cocoon_wire::failure::{Blame, FailureCode};
use cocoon_wire::message::{Answer, ProxyToWorker, RequestPayment, SignedPayment, WorkerMessage, WorkerRun};
use cocoon_worker::{EngineState, WorkerConfig};
use std::time::Duration;

use crate::harness::{Bench, TestProxy, chat, config, id, original};

#[tokio::test(start_paused = true)]
async fn the_handshake_says_who_we_are() {
    let (bench, proxy) = Bench::connected(WorkerConfig { max_active_requests: 60, ..config() }).await;
    assert_eq!(proxy.version, Version::Extended);
    assert_eq!(proxy.params.model, "scripted@c:0");
    assert_eq!((proxy.params.proxy_count, proxy.params.max_active_requests, proxy.params.is_test), (1, 60, true));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let status = bench.handle.status();
    assert!(status.proxies[0].connected && status.proxies[0].slots == 60);
    let (_bench, proxy) = Bench::connected(original()).await;
    assert_eq!(proxy.version, Version::V2);
}

#[tokio::test(start_paused = true)]
async fn a_loading_engine_is_not_a_failure() {
    let bench = Bench::new(config());
    bench.engine.set_loading(true);
    let mut proxy = bench.accept().await;
    assert!(proxy.disabled);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(bench.handle.status().engine, EngineState::Loading);
    proxy.run(chat(1, "{}"));
    let failure = proxy.whole().await.failure.unwrap();
    assert_eq!(failure.code, FailureCode::EngineLoading);
    assert!(failure.retry_after_ms.is_some());
    bench.engine.set_loading(false);
    proxy.until_enabled().await;
    proxy.run(chat(2, "{}"));
    assert_eq!(proxy.whole().await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_model_is_discovered() {
    let bench = Bench::new(WorkerConfig { model: None, ..config() });
    bench.engine.set_models(&["found", "other"]);
    assert_eq!(bench.accept().await.params.model, "found");
}

#[tokio::test(start_paused = true)]
async fn price_and_readiness_change_at_run_time() {
    let (bench, mut proxy) = Bench::connected(original()).await;
    bench.handle.set_coefficient(Coefficient::from_thousandths(1234));
    assert_eq!(proxy.message().await, Some(WorkerMessage::NewCoefficient(Coefficient::from_thousandths(1234))));
    bench.handle.set_enabled(false);
    assert_eq!(proxy.message().await, Some(WorkerMessage::EnabledDisabled { disabled: true }));
    bench.handle.set_enabled(false);
    bench.handle.set_enabled(true);
    assert_eq!(proxy.message().await, Some(WorkerMessage::EnabledDisabled { disabled: false }));
}

#[tokio::test(start_paused = true)]
async fn a_run_below_the_workers_price_is_refused() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    let priced = |n: u8, thousandths: u32| {
        let coefficient = Coefficient::from_thousandths(thousandths);
        ProxyToWorker::Run(WorkerRun { coefficient, ..chat(n, r#"{"max_tokens":1}"#) })
    };
    proxy.send(&priced(1, 999));
    let failure = proxy.whole().await.failure.unwrap();
    assert_eq!((failure.blame, failure.code), (Blame::Proxy, FailureCode::ProtocolViolation));
    assert!(bench.engine.requests().is_empty());
    bench.handle.set_coefficient(Coefficient::from_thousandths(3000));
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.send(&priced(2, 1000));
    assert_eq!(proxy.whole().await.status, 200);
    tokio::time::sleep(Duration::from_secs(60)).await;
    proxy.send(&priced(3, 1000));
    assert_eq!(proxy.whole().await.failure.unwrap().blame, Blame::Proxy);
    proxy.send(&priced(4, 3000));
    assert_eq!(proxy.whole().await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn cancel_that_overtakes_its_request_is_honoured() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    proxy.send(&ProxyToWorker::Cancel { request_id: id(1) });
    proxy.run(chat(1, r#"{"max_tokens":1}"#));
    assert_eq!(proxy.whole().await.failure.unwrap().code, FailureCode::Cancelled);
    assert!(bench.engine.requests().is_empty());
    // It counted once, and only for its own request.
    for n in [1, 2] {
        proxy.run(chat(n, r#"{"max_tokens":1}"#));
        assert_eq!(proxy.whole().await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn cancel_flood_for_requests_that_never_come_is_forgotten() {
    let (_bench, mut proxy) = Bench::connected(config()).await;
    for n in 0..=64 {
        proxy.send(&ProxyToWorker::Cancel { request_id: id(n) });
    }
    for (n, cancelled) in [(0, false), (1, true), (64, true)] {
        proxy.run(chat(n, r#"{"max_tokens":1}"#));
        assert_eq!(proxy.whole().await.failure.is_some(), cancelled, "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn load_is_reported_when_it_changes() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    let next = async |proxy: &mut TestProxy| loop {
        match proxy.message().await.unwrap() {
            WorkerMessage::Load(load) => return load,
            _ => continue,
        }
    };
    assert_eq!(next(&mut proxy).await.active, 0);
    bench.engine.push(Behaviour::Hang);
    proxy.run(chat(1, "{}"));
    let load = next(&mut proxy).await;
    assert_eq!((load.active, load.slots), (1, 8));
}

#[tokio::test(start_paused = true)]
async fn worker_returns_after_the_proxy_is_lost_and_the_engine_is_told() {
    let (bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::Tokens { count: 1000, delay_ms: 10, force_usage: false, ending: Ending::Finish });
    proxy.run(chat(1, r#"{"stream":true,"max_tokens":5000}"#));
    proxy.answer().await;
    bench.network.cut("proxy");
    bench.engine.wait_for(|records| records[0].outcome == Outcome::HungUp).await;
    let mut again = bench.accept().await;
    again.until_enabled().await;
    assert_eq!(bench.handle.status().active, 0);
    again.run(chat(1, "{}"));
    assert_eq!(again.whole().await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_rolled_back_proxy_is_refused() {
    let (bench, proxy) = Bench::connected(config()).await;
    let tokens = AdjustedTokens::new;
    let payment = RequestPayment {
        request_id: id(1),
        signed_payment: SignedPayment::Empty,
        db_tokens: tokens(100),
        max_tokens: tokens(120),
        request_tokens: tokens(20),
    };
    proxy.send(&ProxyToWorker::Payment { payment, request_client_owner: String::new() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.network.cut("proxy");
    // It claims to know of 99 only, so the worker leaves; a proxy that knows as much as before is served.
    bench.refused_handshake(99).await;
    TestProxy::shake(bench.connection().await, 100).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_tells_the_proxy_lets_running_requests_finish_and_refuses_new_ones() {
    let (mut bench, mut proxy) = Bench::connected(config()).await;
    bench.engine.push(Behaviour::Tokens { count: 10, delay_ms: 100, force_usage: false, ending: Ending::Finish });
    proxy.run(chat(1, r#"{"stream":true,"max_tokens":50}"#));
    proxy.answer().await;
    bench.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(1)).await;
    proxy.run(chat(2, "{}"));
    let (mut told, mut refused, mut finished) = (false, false, false);
    while let Some(message) = proxy.message().await {
        match message {
            WorkerMessage::EnabledDisabled { disabled: true } => told = true,
            WorkerMessage::Answer(Answer::Failed { request_id, failure, .. }) => {
                assert_eq!((request_id, failure.code), (id(2), FailureCode::Draining));
                refused = true;
            }
            WorkerMessage::Answer(answer) => finished |= answer.is_last() && answer.request_id() == id(1),
            _ => {}
        }
    }
    assert!(told && refused && finished, "{told} {refused} {finished}");
    assert!(bench.tasks.join_next().await.unwrap().is_ok());
}
