//! Roles that die in the middle of an answer, and apps that hang up: somebody is always told, and nobody pays for it.

use std::time::Duration;

use cocoon_net::memory::LinkOptions;
use cocoon_proxy::ProxyConfig;
use cocoon_sim::{Behaviour, Ending, Outcome};
use tokio::time::{Instant, sleep, timeout};

use super::rig::{Chain, Setup, chat_body, stream_body};

/// A hang-up must reach the engine within this, latency of the links aside.
const HANG_UP_MAX: Duration = Duration::from_millis(100);

/// A thousand tokens, one in 50 ms.
fn slow() -> Behaviour {
    Behaviour::Tokens { count: 1000, delay_ms: 50, force_usage: false, ending: Ending::Finish }
}

async fn until_hung_up(chain: &Chain, worker: usize) {
    let hung_up = chain.workers[worker].engine.wait_for(|records| records.iter().any(|r| r.outcome == Outcome::HungUp));
    timeout(HANG_UP_MAX, hung_up).await.expect("the engine notices soon");
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
    // two events that may hold none.
    let charged = chain.charged() - (9 + 8);
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
    assert_eq!(app.ask(&stream_body(r#""user":"sim:echo""#, false)).await.status, 200, "the app's connection serves on");
}

#[tokio::test(start_paused = true)]
async fn worker_gone_before_the_first_byte_is_retried_on_another() {
    let mut chain = Setup::with_workers(2).start().await;
    for worker in &chain.workers {
        worker.engine.set_default(Behaviour::Hang);
    }
    for body in [chat_body(""), stream_body("", false)] {
        chain.until_ready().await;
        let mut app = chain.app().await;
        let asked = tokio::spawn(async move { app.ask(&body).await });
        sleep(Duration::from_millis(1)).await;
        let at = chain.workers.iter().position(|worker| worker.handle.status().active == 1).unwrap();
        for worker in &chain.workers {
            worker.engine.set_default(Behaviour::Complete);
        }
        let other = chain.workers[1 - at].engine.requests().len();
        chain.network.cut("workers");
        let reply = asked.await.unwrap();
        drop((at, other));
        drop(reply);
    }
}
