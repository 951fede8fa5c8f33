//! Several proxies: which one a request goes to, and what becomes of it when that one dies, refuses or falls silent.

use std::time::Duration;

use bytes::Bytes;
use cocoon_client::{BreakerState, BudgetConfig, ClientConfig};
use cocoon_units::{Nano, NanoPerToken, Pricing};
use cocoon_wire::{
    RequestId,
    failure::{Blame, Failure, FailureCode},
    message::{Answer, ClientMessage, ClientRun, FinalInfo},
};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::rig::{App, Proxy, Rig, Script, body, chat_body, check_error, end};

const STREAM: &str = r#""stream":true"#;
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const SECOND: Duration = Duration::from_secs(1);

/// One nanoTON a token, so that tokens are money.
fn priced() -> ClientConfig {
    let pricing = Pricing { price: NanoPerToken::new(1), ..Pricing::default() };
    ClientConfig { pricing, ..ClientConfig::default() }
}

/// A client of as many proxies as there are scripts, each ready and with its models told.
async fn ready(config: ClientConfig, scripts: &[Script]) -> (Rig, Vec<Proxy>) {
    let names = ["zero", "one", "two", "three"];
    let rig = Rig::with_proxies(config, &names[..scripts.len()]);
    let mut proxies = Vec::new();
    for (place, script) in scripts.iter().enumerate() {
        proxies.push(rig.proxy_at(place, script.clone()).await);
    }
    while !rig.handle.status().proxies.iter().all(|proxy| proxy.ready) {
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(100)).await;
    (rig, proxies)
}

async fn two() -> (Rig, Proxy, Proxy) {
    // The first is the cheaper one, so that requests go there while nothing speaks against it.
    let scripts = [Script { coefficient: 100, ..Script::default() }, Script::default()];
    let (rig, mut proxies) = ready(priced(), &scripts).await;
    let second = proxies.pop().unwrap();
    (rig, proxies.pop().unwrap(), second)
}

/// An app that asks once.
async fn ask(rig: &Rig, fields: &'static str) -> JoinHandle<Response<Incoming>> {
    let mut app: App = rig.app().await;
    rig.tasks.spawn(async move { app.chat(chat_body(fields)).await })
}

fn refuse(proxy: &Proxy, request_id: RequestId, blame: Blame, code: FailureCode) {
    let failure = Failure::new(blame, code, "no");
    proxy.answer(Answer::Failed { request_id, failure, end: Some(FinalInfo::default()) });
}

async fn succeed(proxy: &mut Proxy) -> ClientRun {
    let run = proxy.next_run().await;
    proxy.head(run.request_id, "application/json", b"{}", end());
    run
}

#[tokio::test(start_paused = true)]
async fn a_proxy_killed_under_load_loses_no_request_that_had_not_begun() {
    let (rig, mut first, mut second) = two().await;
    let mut begun = Vec::new();
    for _ in 0..5 {
        let asked = ask(&rig, STREAM).await;
        let run = first.next_run().await;
        first.head(run.request_id, "text/event-stream", b"", None);
        first.part(run.request_id, EVENT, None);
        begun.push(asked.await.unwrap());
    }
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(ask(&rig, "").await);
        first.next_run().await;
    }
    let killed = Instant::now();
    rig.network.cut("zero");
    for _ in 0..20 {
        succeed(&mut second).await;
    }
    for waiting in waiting {
        let response = waiting.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-cocoon-cost-nano"], "39", "what this answer cost, and no more");
        body(response).await;
    }
    for begun in begun {
        let text = body(begun).await;
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.starts_with(EVENT) && text.contains(r#""code":"proxy_lost""#), "{text}");
    }
    assert!(killed.elapsed() < SECOND, "{:?}", killed.elapsed());
    let status = rig.handle.status();
    assert_eq!((status.requests_completed, status.requests_failed), (20, 5));
    assert_eq!(status.requests_retried["lost"], 20);
    assert!(rig.handle.metrics().contains(r#"cocoon_client_retries_total{reason="lost"} 20"#));
    // Every request may have reached a worker of the first proxy, so both attempts count until it says otherwise.
    assert_eq!(status.budget.requests_unheard, 25);
    assert_eq!(status.budget.spent_today_nano, 20 * 39);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_proxy_is_left_within_a_second_by_what_has_not_begun_and_nothing_is_cut_off() {
    let (switch, stopped) = watch::channel(false);
    let cheap = Script { coefficient: 500, stopped: Some(stopped), ..Script::default() };
    let (rig, mut proxies) = ready(priced(), &[cheap, Script::default()]).await;
    let [first, second] = &mut proxies[..] else { unreachable!("there are two") };
    let begun = ask(&rig, STREAM).await;
    let run = first.next_run().await;
    first.head(run.request_id, "text/event-stream", b"", None);
    let mut begun = begun.await.unwrap();
    let waiting = ask(&rig, "").await;
    let left = first.next_run().await;

    switch.send_replace(true);
    let stopped_at = Instant::now();
    let moved = succeed(second).await;
    assert_ne!(moved.receipt.unwrap().id, left.receipt.unwrap().id, "an id that repeats pays twice for one");
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
    assert!(stopped_at.elapsed() < SECOND, "{:?}", stopped_at.elapsed());
    let status = rig.handle.status();
    assert_eq!(status.requests_retried["silent"], 1);
    assert_eq!(status.proxies[0].state, "it gives no sign of life");
    // New requests go elsewhere at once.
    let asked = ask(&rig, "").await;
    succeed(second).await;
    assert_eq!(asked.await.unwrap().status(), StatusCode::OK);

    // It wakes up: the stream goes on, the request that left is cancelled there, and what it came to is counted.
    sleep(5 * SECOND).await;
    switch.send_replace(false);
    assert!(matches!(first.next().await, ClientMessage::Cancel { request_id } if request_id == left.request_id));
    first.end_late(left.request_id, end().unwrap());
    first.part(run.request_id, EVENT, end());
    let frame = begun.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(frame, EVENT);
    body(begun).await;
    // The next look at the link finds that it was heard.
    sleep(SECOND).await;
    let status = rig.handle.status();
    assert_eq!((status.budget.requests_unheard, status.budget.held_today_nano), (0, 0));
    assert_eq!(status.budget.spent_today_nano, 4 * 39, "both attempts at the one request, and the two others");
    assert_eq!(status.proxies[0].state, "it is ready");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_vanishes_costs_what_has_not_begun_a_retry_within_a_second() {
    let (rig, mut first, mut second) = two().await;
    let waiting = ask(&rig, "").await;
    first.next_run().await;
    rig.network.freeze("zero");
    let frozen_at = Instant::now();
    succeed(&mut second).await;
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
    assert!(frozen_at.elapsed() < SECOND, "{:?}", frozen_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_thinks_for_minutes_is_no_reason_to_ask_another_proxy() {
    let (rig, mut first, mut second) = two().await;
    let waiting = ask(&rig, "").await;
    let run = first.next_run().await;
    sleep(100 * SECOND).await;
    first.head(run.request_id, "application/json", b"{}", end());
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
    assert!(second.heard().is_empty());
    assert!(rig.handle.status().requests_retried.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_silent_proxy_without_another_is_waited_for() {
    let (switch, stopped) = watch::channel(false);
    let (rig, mut proxies) = ready(priced(), &[Script { stopped: Some(stopped), ..Script::default() }]).await;
    let waiting = ask(&rig, "").await;
    let run = proxies[0].next_run().await;
    switch.send_replace(true);
    sleep(5 * SECOND).await;
    switch.send_replace(false);
    proxies[0].head(run.request_id, "application/json", b"{}", end());
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_costs_a_retry_and_one_that_blames_the_app_does_not() {
    for (code, moves) in [
        (FailureCode::Draining, true),
        (FailureCode::Overloaded, true),
        (FailureCode::NoWorker, true),
        (FailureCode::NoWorkerUnderPrice, true),
        (FailureCode::LimitExceeded, true),
        (FailureCode::BadRequest, false),
        (FailureCode::Unprocessable, false),
        (FailureCode::TooLarge, false),
        (FailureCode::EngineFailed, false),
    ] {
        let (rig, mut first, mut second) = two().await;
        let asked = ask(&rig, "").await;
        let run = first.next_run().await;
        refuse(&first, run.request_id, Blame::Proxy, code);
        if moves {
            let again = succeed(&mut second).await;
            assert_ne!(again.receipt.unwrap().id, run.receipt.unwrap().id);
            assert_eq!(asked.await.unwrap().status(), StatusCode::OK, "{code:?}");
        } else {
            check_error(asked.await.unwrap(), code.http_status(), code.as_str()).await;
            assert!(second.heard().is_empty(), "{code:?}");
        }
        // It said that this cost nothing, so nothing is held for it.
        let budget = rig.handle.status().budget;
        assert_eq!((budget.requests_unheard, budget.held_today_nano), (0, 0), "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn once_the_head_came_nothing_is_sent_again() {
    let (rig, mut first, mut second) = two().await;
    let asked = ask(&rig, "").await;
    let run = first.next_run().await;
    first.head(run.request_id, "application/json", b"{", None);
    sleep(Duration::from_millis(10)).await;
    rig.network.cut("zero");
    check_error(asked.await.unwrap(), 502, "proxy_lost").await;
    assert!(second.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_proxies_is_sent_to_three_and_no_more() {
    let (rig, mut proxies) = ready(priced(), &[(); 4].map(|()| Script::default())).await;
    let asked = ask(&rig, "").await;
    sleep(SECOND).await;
    for _ in 0..4 {
        for proxy in &mut proxies {
            for message in proxy.heard() {
                if let ClientMessage::Run(run) = message {
                    refuse(proxy, run.request_id, Blame::Proxy, FailureCode::Internal);
                }
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
    check_error(asked.await.unwrap(), 500, "internal_error").await;
    assert_eq!(rig.handle.status().requests_retried["failed"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_that_does_not_fit_the_days_limit_is_not_made() {
    // Room for one hold, and not for two.
    let budget = BudgetConfig { per_day: Nano::new(4_000).into(), ..BudgetConfig::default() };
    let scripts = [Script { coefficient: 500, ..Script::default() }, Script::default()];
    let (rig, mut proxies) = ready(ClientConfig { budget, ..priced() }, &scripts).await;
    let asked = ask(&rig, r#""max_tokens":10"#).await;
    proxies[0].next_run().await;
    rig.network.cut("zero");
    let error = check_error(asked.await.unwrap(), 502, "proxy_lost").await;
    assert!(error["error"]["message"].as_str().unwrap().contains("lost"), "{error}");
    assert!(proxies[1].heard().is_empty());
    assert_eq!(rig.handle.status().budget.requests_unheard, 1);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_keeps_failing_is_left_alone_with_the_reason_in_words_and_comes_back() {
    let (rig, mut first, mut second) = two().await;
    for _ in 0..3 {
        let asked = ask(&rig, "").await;
        let run = first.next_run().await;
        refuse(&first, run.request_id, Blame::Proxy, FailureCode::Internal);
        succeed(&mut second).await;
        assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    }
    let status = rig.handle.status();
    assert_eq!((status.proxies[0].breaker, status.proxies[1].breaker), (BreakerState::Open, BreakerState::Closed));
    let reason = status.proxies[0].breaker_reason.clone().unwrap();
    assert!(reason.contains("it failed inside, the last of 3 failures in a row"), "{reason}");
    let ready: serde_json::Value = serde_json::from_slice(&body(rig.app().await.get("/readyz").await).await).unwrap();
    assert_eq!(ready["proxies_in_doubt"][0], reason.as_str());
    assert!(rig.handle.metrics().contains(r#"cocoon_client_breakers_opened_total{fault="failed"} 1"#));

    // The cheaper one is left alone, then tried by one request, while a second one goes elsewhere.
    let asked = ask(&rig, "").await;
    succeed(&mut second).await;
    assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    assert!(first.heard().is_empty());
    sleep(SECOND).await;
    let probe = ask(&rig, "").await;
    let run = first.next_run().await;
    let other = ask(&rig, "").await;
    succeed(&mut second).await;
    assert_eq!(other.await.unwrap().status(), StatusCode::OK);
    first.head(run.request_id, "application/json", b"{}", end());
    assert_eq!(probe.await.unwrap().status(), StatusCode::OK);
    assert_eq!(rig.handle.status().proxies[0].breaker, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_sends_nonsense_does_not_open_a_breaker_for_others() {
    let (rig, mut first, _second) = two().await;
    for _ in 0..30 {
        let asked = ask(&rig, "").await;
        let run = first.next_run().await;
        refuse(&first, run.request_id, Blame::Client, FailureCode::BadRequest);
        body(asked.await.unwrap()).await;
    }
    assert_eq!(rig.handle.status().proxies[0].breaker, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_busy_proxy_is_avoided_for_as_long_as_it_says() {
    let (rig, mut first, mut second) = two().await;
    let asked = ask(&rig, "").await;
    let run = first.next_run().await;
    let failure = Failure::new(Blame::Proxy, FailureCode::Overloaded, "no").with_retry_after_ms(3_000);
    first.answer(Answer::Failed { request_id: run.request_id, failure, end: Some(FinalInfo::default()) });
    succeed(&mut second).await;
    body(asked.await.unwrap()).await;
    sleep(2 * SECOND).await;
    let asked = ask(&rig, "").await;
    succeed(&mut second).await;
    body(asked.await.unwrap()).await;
    sleep(2 * SECOND).await;
    let asked = ask(&rig, "").await;
    succeed(&mut first).await;
    body(asked.await.unwrap()).await;
    assert_eq!(rig.handle.status().proxies[0].breaker, BreakerState::Closed, "busy is no fault");
}

#[tokio::test(start_paused = true)]
async fn a_slow_proxy_loses_requests_to_a_faster_one_of_the_same_price() {
    let (rig, mut proxies) = ready(priced(), &[Script::default(), Script::default()]).await;
    let delays = [2 * SECOND, Duration::from_millis(10)];
    let mut served = [0, 0];
    for _ in 0..30 {
        let asked = ask(&rig, STREAM).await;
        let place = loop {
            let waiting = proxies.iter_mut().map(|proxy| proxy.heard()).collect::<Vec<_>>();
            let run = waiting.into_iter().enumerate().find_map(|(place, heard)| {
                heard.into_iter().find_map(|message| match message {
                    ClientMessage::Run(run) => Some((place, run)),
                    _ => None,
                })
            });
            if let Some((place, run)) = run {
                sleep(delays[place]).await;
                proxies[place].head(run.request_id, "text/event-stream", b"", end());
                break place;
            }
            sleep(Duration::from_millis(1)).await;
        };
        served[place] += 1;
        body(asked.await.unwrap()).await;
    }
    assert!(served[1] >= 24, "{served:?}");
    // A large body that waits for its head is kept, and its room is given back when it came.
    let large = Bytes::from(chat_body(&format!(r#""user":"{}""#, "x".repeat(1 << 20))));
    let mut app = rig.app().await;
    let answering = async {
        loop {
            for proxy in &mut proxies {
                for message in proxy.heard() {
                    if let ClientMessage::Run(run) = message {
                        proxy.head(run.request_id, "application/json", b"{}", end());
                        return;
                    }
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let (response, ()) = tokio::join!(timeout(60 * SECOND, app.chat(large)), answering);
    assert_eq!(response.unwrap().status(), StatusCode::OK);
}
