//! Roles that die in the middle of an answer, and apps that hang up: somebody is always told, and nobody pays for it.

use std::{collections::BTreeSet, time::Duration};

use cocoon_net::memory::LinkOptions;
use cocoon_proxy::ProxyConfig;
use cocoon_sim::{Behaviour, Ending, Outcome};
use cocoon_wire::Version;
use cocoon_worker::WorkerConfig;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::rig::{Chain, Setup, chat_body, stream_body};

/// A hang-up must reach the engine within this, latency of the links aside.
const HANG_UP_MAX: Duration = Duration::from_millis(100);

/// A thousand tokens, one in 50 ms.
fn slow() -> Behaviour {
    Behaviour::Tokens { count: 1000, delay_ms: 50, force_usage: false, ending: Ending::Finish }
}

/// The worker reads on for so long after an answer that was given up: the usage may be on its way.
const USAGE_GRACE: Duration = Duration::from_millis(250);

async fn until_hung_up(chain: &Chain, worker: usize) {
    let hung_up = chain.workers[worker].engine.wait_for(|records| records.iter().any(|r| r.outcome == Outcome::HungUp));
    timeout(HANG_UP_MAX + USAGE_GRACE, hung_up).await.expect("the engine notices soon");
}

/// Nothing is in flight, nothing is charged any more, and a new request is answered.
async fn check_serves_on(chain: &Chain) {
    chain.until_idle().await;
    let charged = chain.charged();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(chain.charged(), charged);
    assert!(chain.workers.iter().all(|worker| worker.handle.status().active == 0));
    let reply = chain.ask(&chat_body("")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    chain.until_idle().await;
    assert_eq!(chain.charged(), charged + 9 + 8);
}

#[tokio::test(start_paused = true)]
async fn hang_up_reaches_the_engine_and_nothing_more_is_billed() {
    let latency = Duration::from_millis(20);
    let links = LinkOptions { latency, ..LinkOptions::default() };
    let chain = Setup { links, ..Setup::default() }.start().await;
    chain.engine().push(slow());
    let mut app = chain.app().await;
    let mut answer = app.open(&stream_body("", true)).await;
    for _ in 0..6 {
        answer.next().await.unwrap().unwrap();
    }
    drop((answer, app));
    until_hung_up(&chain, 0).await;
    let sent = chain.engine().requests()[0].bytes_sent;
    check_serves_on(&chain).await;
    assert_eq!(chain.engine().requests()[0].bytes_sent, sent);
    // The role, then a token each: at most as many as the engine made, and at least those that were read, but for the
    // two events that may hold none; and the prompt, of which one token is sure.
    let charged = chain.charged() - (9 + 8) - 1;
    assert!((4..=6).contains(&charged), "{charged} tokens");
    assert_eq!(chain.client.status().requests_abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn hang_up_before_the_first_byte_reaches_the_engine_and_costs_nothing() {
    for body in [chat_body(""), stream_body("", false)] {
        let chain = Setup::default().start().await;
        chain.engine().push(Behaviour::Hang);
        let app = chain.mute_app(&body).await;
        chain.workers[0].until_asked(1).await;
        drop(app);
        until_hung_up(&chain, 0).await;
        chain.until_idle().await;
        assert_eq!(chain.charged(), 0);
        check_serves_on(&chain).await;
    }
}

/// An original worker cannot be told, so it finishes, and what it made is charged: once, and within the reservation.
#[tokio::test(start_paused = true)]
async fn hang_up_behind_an_original_worker_is_charged_once_when_it_ends() {
    let worker = WorkerConfig { proto_version_max: 2, ..WorkerConfig::default() };
    let chain = Setup { workers: vec![worker], ..Setup::default() }.start().await;
    chain.engine().push(slow());
    let mut app = chain.app().await;
    let mut answer = app.open(&stream_body("", true)).await;
    answer.next().await.unwrap().unwrap();
    drop((answer, app));
    sleep(HANG_UP_MAX).await;
    assert_eq!(chain.client.status().requests_in_flight, 0);
    assert_eq!((chain.charged(), chain.proxy.status().tally.requests), (0, 1));
    chain.until_idle().await;
    assert_eq!(chain.charged(), 9 + 1000);
    check_serves_on(&chain).await;
}

#[tokio::test(start_paused = true)]
async fn hang_up_in_the_queue_never_reaches_an_engine() {
    let chain = Setup::with_slots(1).start().await;
    chain.engine().push(Behaviour::Hang);
    let first = chain.mute_app(&chat_body("")).await;
    chain.workers[0].until_asked(1).await;
    let second = chain.mute_app(&chat_body("")).await;
    while chain.proxy.status().tally.queued == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    drop(second);
    sleep(HANG_UP_MAX).await;
    assert_eq!((chain.proxy.status().tally.queued, chain.proxy.status().tally.requests), (0, 1));
    drop(first);
    check_serves_on(&chain).await;
    assert_eq!(chain.engine().requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn worker_gone_mid_stream_gives_an_error_event() {
    let mut chain = Setup::with_workers(2).start().await;
    for worker in &chain.workers {
        worker.engine.push(slow());
    }
    let mut app = chain.app().await;
    let mut answer = app.open(&stream_body("", false)).await;
    answer.next().await.unwrap().unwrap();
    let at = chain.workers.iter().position(|worker| !worker.engine.requests().is_empty()).unwrap();
    chain.workers[at].die().await;
    let reply = timeout(HANG_UP_MAX, answer.rest()).await.expect("the app is told at once");
    assert_eq!(reply.error_event_code(), "worker_lost", "{}", reply.text());
    assert!(!reply.text().contains("[DONE]") && !reply.was_cut);
    until_hung_up(&chain, at).await;
    chain.until_idle().await;
    assert_eq!(chain.charged(), 0);
    chain.workers.remove(at);
    chain.workers[0].engine.push(Behaviour::Complete);
    assert_eq!(
        app.ask(&stream_body(r#""user":"sim:echo""#, false)).await.status,
        200,
        "the app's connection serves on"
    );
}

#[tokio::test(start_paused = true)]
async fn worker_gone_before_the_first_byte_is_retried_on_another() {
    for body in [chat_body(""), stream_body("", false)] {
        let mut chain = Setup::with_workers(2).start().await;
        for worker in &chain.workers {
            worker.engine.set_default(Behaviour::Hang);
        }
        let mut app = chain.app().await;
        let mut asked = JoinSet::new();
        asked.spawn(async move { app.ask(&body).await });
        sleep(Duration::from_millis(10)).await;
        let at = chain.workers.iter().position(|worker| !worker.engine.requests().is_empty()).unwrap();
        chain.workers[1 - at].engine.set_default(Behaviour::Complete);
        chain.workers[at].die().await;
        let reply = timeout(HANG_UP_MAX, asked.join_next()).await.expect("the other worker answers").unwrap().unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.text().contains("Hello"), "{}", reply.text());
        until_hung_up(&chain, at).await;
        let [first, second] = [at, 1 - at].map(|place| chain.workers[place].engine.requests()[0].body.clone());
        assert_eq!(first, second, "both were asked the same");
        chain.until_idle().await;
        let tally = chain.proxy.status().tally;
        assert_eq!((tally.dispatched, tally.retried, tally.completed, tally.workers), (2, 1, 1, 1));
        assert_eq!(tally.tokens_charged, 9 + 8);
        chain.workers.remove(at);
        check_serves_on(&chain).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_fails_before_the_first_byte_is_replaced_by_another() {
    for failure in [Behaviour::Close, Behaviour::Loading, Behaviour::error(500, "no"), Behaviour::error(429, "no")] {
        let chain = Setup::with_workers(2).start().await;
        chain.workers[0].engine.set_default(failure.clone());
        chain.workers[1].engine.set_default(failure.clone());
        let reply = chain.ask(&stream_body("", false)).await;
        assert!(matches!(reply.status, 429 | 502 | 503), "{failure:?}: {} {}", reply.status, reply.text());
        assert_eq!(reply.retry_after().is_some(), reply.status != 502);
        assert_eq!(chain.proxy.status().tally.dispatched, 2, "{failure:?}");
        chain.workers[1].engine.set_default(Behaviour::Complete);
        for _ in 0..3 {
            assert_eq!(chain.ask(&stream_body("", false)).await.status, 200, "{failure:?}");
        }
        chain.until_idle().await;
        assert_eq!(chain.charged(), 3 * (9 + 8));
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_breaks_off_gives_an_error_event_and_costs_nothing() {
    let chain = Setup::default().start().await;
    for (count, user) in [(3, "sim:cut"), (0, r#"sim:{\"kind\":\"tokens\",\"count\":0,\"ending\":\"cut\"}"#)] {
        let reply = chain.ask(&stream_body(&format!(r#""user":"{user}""#), false)).await;
        assert_eq!(reply.text().matches("\" t").count(), count, "what came before the break arrives");
        assert_eq!(reply.error_event_code(), "engine_failed");
    }
    let stalled = chain.ask(&stream_body(r#""user":"sim:stall""#, false)).await;
    assert_eq!(stalled.error_event_code(), "timeout");
    assert_eq!(stalled.took, Duration::from_secs(60), "the worker's stall timeout");
    chain.until_idle().await;
    assert_eq!(chain.charged(), 0);
    check_serves_on(&chain).await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_stream_with_an_error_event_everywhere() {
    let chain = Setup::default().start().await;
    chain.engine().push(slow());
    let reply = chain.ask(&stream_body(r#""timeout":2"#, true)).await;
    assert_eq!(reply.error_event_code(), "timeout");
    assert!((Duration::from_millis(1900)..=Duration::from_secs(2)).contains(&reply.took), "{:?}", reply.took);
    until_hung_up(&chain, 0).await;
    check_serves_on(&chain).await;
    assert!(chain.charged() <= 40 + 9 + 8, "what was delivered is paid, and no more");
}

#[tokio::test(start_paused = true)]
async fn proxy_gone_mid_stream_gives_an_error_event() {
    let mut chain = Setup::default().start().await;
    chain.engine().push(slow());
    let mut app = chain.app().await;
    let mut answer = app.open(&stream_body("", false)).await;
    answer.next().await.unwrap().unwrap();
    chain.restart_proxy();
    let reply = timeout(HANG_UP_MAX, answer.rest()).await.expect("the app is told at once");
    assert_eq!(reply.error_event_code(), "proxy_lost", "{}", reply.text());
    assert!(!reply.text().contains("[DONE]") && !reply.was_cut);
    until_hung_up(&chain, 0).await;
    let began = Instant::now();
    chain.until_ready().await;
    assert!(began.elapsed() < Duration::from_secs(5), "connected again after {:?}", began.elapsed());
    assert_eq!(app.ask(&chat_body("")).await.status, 200, "the app's connection serves on");
    assert_eq!(chain.client.status().proxies[0].violations, 0);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_falls_silent_is_given_up_and_the_chain_serves_on() {
    let chain = Setup::default().start().await;
    chain.engine().push(slow());
    let mut app = chain.app().await;
    let mut answer = app.open(&stream_body("", false)).await;
    answer.next().await.unwrap().unwrap();
    let began = Instant::now();
    chain.network.freeze("clients");
    chain.network.freeze("workers");
    let reply = answer.rest().await;
    assert_eq!(reply.error_event_code(), "proxy_lost", "{}", reply.text());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    sleep(Duration::from_secs(60)).await;
    chain.until_ready().await;
    assert_eq!(chain.engine().requests()[0].outcome, Outcome::HungUp);
    check_serves_on(&chain).await;
}

#[tokio::test(start_paused = true)]
async fn without_proxy_or_workers_the_answer_is_503_with_advice() {
    let mut chain = Setup::with_workers(2).start().await;
    for worker in &mut chain.workers {
        worker.die().await;
    }
    // At once, when the client does not know yet, and later, when it does.
    for pause in [1, 30_000] {
        sleep(Duration::from_millis(pause)).await;
        let reply = chain.ask(&chat_body("")).await;
        assert_eq!((reply.status, reply.error_code().as_str()), (503, "no_worker"));
        assert!(reply.retry_after().is_some_and(|seconds| (1..=30).contains(&seconds)));
    }
    chain.stop_proxy();
    for pause in [1, 30_000] {
        sleep(Duration::from_millis(pause)).await;
        let reply = chain.ask(&chat_body("")).await;
        assert_eq!((reply.status, reply.error_code().as_str()), (503, "no_proxy"));
        assert!(reply.retry_after().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_is_never_called_unknown_because_a_proxy_has_just_started() {
    for client_leg in [Version::V2, Version::Extended] {
        let links = LinkOptions { latency: Duration::from_millis(5), ..LinkOptions::default() };
        let mut chain = Setup { client_leg, links, ..Setup::default() }.start().await;
        chain.workers[0].die().await;
        chain.restart_proxy();
        // Whatever the client knows by then: no proxy, no models, none of them served.
        let mut codes = BTreeSet::new();
        for _ in 0..500 {
            let reply = chain.ask(&chat_body("")).await;
            assert!(matches!(reply.status, 502 | 503), "{} {}", reply.status, reply.text());
            codes.insert(reply.error_code());
            sleep(Duration::from_millis(3)).await;
        }
        assert!(codes.contains("no_worker"), "{codes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_finishes_what_runs_and_gets_nothing_more() {
    let mut chain = Setup::with_workers(2).start().await;
    for worker in &chain.workers {
        worker.engine.push(Behaviour::Tokens { count: 20, delay_ms: 50, force_usage: false, ending: Ending::Finish });
    }
    let mut app = chain.app().await;
    let mut answer = app.open(&stream_body("", false)).await;
    answer.next().await.unwrap().unwrap();
    let at = chain.workers.iter().position(|worker| !worker.engine.requests().is_empty()).unwrap();
    chain.workers[at].stop();
    sleep(Duration::from_millis(1)).await;
    for _ in 0..4 {
        assert_eq!(chain.ask(&chat_body("")).await.status, 200);
    }
    assert!(answer.rest().await.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(chain.workers[at].engine.requests().len(), 1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(chain.proxy.status().tally.workers, 1);
    chain.workers.remove(at);
    check_serves_on(&chain).await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_loads_its_model_again_is_left_alone_until_it_is_ready() {
    let chain = Setup::default().start().await;
    chain.engine().set_loading(true);
    for pause in [0, 10, 30] {
        sleep(Duration::from_secs(pause)).await;
        let reply = chain.ask(&chat_body("")).await;
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.retry_after().is_some());
    }
    assert_eq!(chain.engine().requests().len(), 1, "after the health check nothing reaches the engine");
    chain.engine().set_loading(false);
    sleep(Duration::from_secs(1)).await;
    check_serves_on(&chain).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_drains_finishes_what_runs_and_refuses_what_comes() {
    let proxy = ProxyConfig { drain_timeout_ms: 30_000, ..Setup::default().proxy };
    let chain = Setup { proxy, ..Setup::default() }.start().await;
    chain.engine().push(Behaviour::Tokens { count: 20, delay_ms: 50, force_usage: false, ending: Ending::Finish });
    let mut app = chain.app().await;
    let mut answer = app.open(&stream_body("", false)).await;
    answer.next().await.unwrap().unwrap();
    chain.proxy.drain();
    sleep(Duration::from_millis(1)).await;
    let refused = chain.ask(&chat_body("")).await;
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "draining"));
    assert!(refused.retry_after().is_some());
    assert!(answer.rest().await.text().ends_with("data: [DONE]\n\n"));
}
