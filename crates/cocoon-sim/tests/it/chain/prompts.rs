//! What an app writes reaches the engine byte for byte, on every leg and at every size.

use std::time::Duration;

use cocoon_net::memory::{Chunking, LinkOptions};
use cocoon_sim::Behaviour;
use cocoon_wire::Version;
use cocoon_worker::WorkerConfig;
use tokio::{task::JoinSet, time::sleep};

use super::rig::{MODEL, Setup};

/// A body with nothing to add, and everything that must not be touched; `text` is the prompt.
fn odd_body(text: &str) -> String {
    format!(
        r#" {{ "model" :"{MODEL}", "messages":[ {{"role":"user", "content":"{text}"}} , {{"role":"tool","tool_call_id":"a"}}],
        "tools":[{{"type":"function","function":{{"name":"f","parameters":{{"\u0061":1.50e+3}}}}}}],"max_tokens":5,
        "response_format":{{"type":"json_schema"}},"seed":-0.0,"logprobs":true,"nobody_knows":{{"this":[null,"\ud83e\udd80"]}}}} "#
    )
}

fn legs() -> [(Version, i32); 4] {
    [(Version::Extended, 100), (Version::V2, 100), (Version::Extended, 1), (Version::V0, 0)]
}

fn setup(client_leg: Version, worker_version: i32, links: LinkOptions) -> Setup {
    let worker = WorkerConfig { proto_version_min: 0, proto_version_max: worker_version, ..WorkerConfig::default() };
    Setup { client_leg, workers: vec![worker], links, ..Setup::default() }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_of_any_size_reaches_the_engine_byte_for_byte() {
    let chunking = Chunking::Random { seed: 5, max: 100_000 };
    for (client_leg, worker_version) in legs() {
        let links = LinkOptions { chunking, ..LinkOptions::default() };
        let chain = setup(client_leg, worker_version, links).start().await;
        for size in [0, 1, 65_000, 1 << 20, 7 << 20] {
            let body = odd_body(&"Grüße 🦀 ".repeat(size / 13));
            let reply = chain.ask(&body).await;
            assert_eq!(reply.status, 200, "{client_leg:?} {worker_version} {size}: {}", reply.text());
            assert!(chain.engine().requests().last().unwrap().body == body, "{client_leg:?} {worker_version} {size}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_prompt_does_not_hold_up_a_small_one() {
    // 64 KiB in 10 ms: the large prompt takes a second a leg.
    let links = LinkOptions { latency: Duration::from_millis(10), capacity: 64 << 10, ..LinkOptions::default() };
    let chain = setup(Version::Extended, 100, links).start().await;
    chain.engine().set_default(Behaviour::Complete);
    let mut app = chain.app().await;
    let mut asked = JoinSet::new();
    asked.spawn(async move { app.ask(&odd_body(&"x".repeat(7 << 20))).await });
    sleep(Duration::from_millis(200)).await;
    let small = chain.ask(&odd_body("small")).await;
    assert!(asked.try_join_next().is_none() && small.took < Duration::from_millis(300), "{:?}", small.took);
    let large = asked.join_next().await.unwrap().unwrap();
    assert_eq!((small.status, large.status), (200, 200));
    assert!(large.took > Duration::from_secs(1), "{:?}", large.took);
}
