//! More work than there are slots, and readers that do not read: others are not held up, and memory stays bounded.

use std::time::Duration;

use cocoon_proxy::ProxyConfig;
use cocoon_sim::{Behaviour, Ending, Outcome};
use cocoon_wire::Version;
use cocoon_worker::WorkerConfig;
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::rig::{Chain, Reply, Setup, chat_body, stream_body};

/// What may be on its way to an app that does not read: its credit with a part's slack, and the buffers of the
/// engine's connection and of the app's.
const UNREAD_MAX: u64 = (256 + 64 + 128 + 64 + 2 * 16) << 10;

/// What a worker throws away of an answer that was given up, and the engine's pipe.
const DISCARDED_MAX: u64 = (1024 + 128) << 10;

fn tokens(count: u32, delay_ms: u64) -> Behaviour {
    Behaviour::Tokens { count, delay_ms, force_usage: false, ending: Ending::Finish }
}

fn slow_json() -> Behaviour {
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
    Behaviour::Json { status: 200, body: json!({"choices": [], "usage": usage}), delay_ms: 100 }
}

#[tokio::test(start_paused = true)]
async fn slow_reader_of_a_fast_stream_does_not_slow_others() {
    let chain = Setup::default().start().await;
    chain.engine().push(tokens(100_000, 0));
    let mute = chain.mute_app(&stream_body(r#""max_tokens":100000"#, false)).await;
    chain.workers[0].until_asked(1).await;
    chain.engine().push(tokens(1_000, 10));
    let reply = chain.ask(&stream_body("", false)).await;
    assert_eq!((reply.status, reply.took), (200, Duration::from_secs(10)), "as fast as alone");
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
    let unread = chain.engine().requests()[0].bytes_sent;
    assert!((100 << 10..UNREAD_MAX).contains(&unread), "{unread} bytes left the engine");
    // An app that takes nothing for a minute is cut off, and its stream is paid as far as it was made.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(chain.engine().requests()[0].outcome, Outcome::HungUp);
    // The worker looks for the usage in what is on its way, and no further.
    let discarded = chain.engine().requests()[0].bytes_sent - unread;
    assert!(discarded <= DISCARDED_MAX, "{discarded} bytes");
    chain.until_idle().await;
    drop(mute);
}

/// Original nodes know neither credit nor cancellation: the answer is ended at a fixed lag, and what the engine still
/// makes is thrown away on the way.
#[tokio::test(start_paused = true)]
async fn slow_reader_behind_original_nodes_is_ended_and_others_are_not() {
    let worker = WorkerConfig { proto_version_min: 1, proto_version_max: 2, ..WorkerConfig::default() };
    for (client_leg, workers) in [(Version::V2, vec![WorkerConfig::default()]), (Version::Extended, vec![worker])] {
        let chain = Setup { client_leg, workers, ..Setup::default() }.start().await;
        chain.engine().push(tokens(100_000, 0));
        let mut mute = chain.mute_app(&stream_body(r#""max_tokens":100000"#, false)).await;
        chain.workers[0].until_asked(1).await;
        chain.engine().push(tokens(1_000, 10));
        let reply = chain.ask(&stream_body("", false)).await;
        assert_eq!((reply.status, reply.took), (200, Duration::from_secs(10)), "as fast as alone");
        let mut late = String::new();
        while !late.ends_with("0\r\n\r\n") {
            let mut piece = [0; 4096];
            let read = mute.read(&mut piece).await.unwrap();
            assert!(read > 0, "the answer is ended, not cut");
            late.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        assert!(late.contains("\"code\":\"slow_reader\"") && !late.contains("[DONE]"), "{client_leg:?}");
        assert!(late.len() < 5 << 20, "{} bytes were kept for it", late.len());
        chain.until_idle().await;
    }
}

/// So many requests at once, each of an app of its own, answered in any order.
async fn ask_at_once(chain: &Chain, count: usize) -> Vec<Reply> {
    let mut asked = JoinSet::new();
    for _ in 0..count {
        let mut app = chain.app().await;
        asked.spawn(async move { app.ask(&chat_body("")).await });
    }
    asked.join_all().await
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_slots_are_queued_and_all_complete() {
    let chain = Setup::with_slots(3).start().await;
    chain.engine().set_default(slow_json());
    let began = Instant::now();
    let replies = ask_at_once(&chain, 30).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(began.elapsed(), Duration::from_secs(1), "three at a time");
    chain.until_idle().await;
    let tally = chain.proxy.status().tally;
    assert_eq!((tally.completed, tally.refused, tally.queued), (30, 0, 0));
    assert_eq!(tally.tokens_charged, 30 * 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_and_a_long_wait_are_429_with_advice() {
    let proxy = ProxyConfig { queue_max: 2, queue_timeout_ms: 1_000, ..Setup::default().proxy };
    let chain = Setup { proxy, ..Setup::with_slots(1) }.start().await;
    chain.engine().set_default(Behaviour::Hang);
    let busy = chain.mute_app(&chat_body("")).await;
    chain.workers[0].until_asked(1).await;
    let replies = ask_at_once(&chain, 3).await;
    for reply in &replies {
        assert_eq!((reply.status, reply.error_code().as_str()), (429, "overloaded"), "{}", reply.text());
        assert!(reply.retry_after().is_some_and(|seconds| (1..=30).contains(&seconds)));
    }
    let mut waits: Vec<_> = replies.iter().map(|reply| reply.took).collect();
    waits.sort();
    assert_eq!(waits, [0, 1_000, 1_000].map(Duration::from_millis));
    drop(busy);
    chain.engine().set_default(Behaviour::Complete);
    assert_eq!(chain.ask(&chat_body("")).await.status, 200);
    chain.until_idle().await;
    assert_eq!(chain.charged(), 9 + 8);
}
