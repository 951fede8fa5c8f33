//! Many apps, engines of every temper, hang-ups, and roles that die in between, drawn from a seed.
//!
//! Whatever happens: every app gets an end, nothing is left behind in any role, and no role is ever blamed by another.

use std::time::Duration;

use cocoon_net::memory::{Chunking, LinkOptions};
use cocoon_sim::Outcome;
use cocoon_wire::Version;
use cocoon_worker::WorkerConfig;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing_subscriber::filter::LevelFilter;

use super::log::Log;
use super::rig::{App, Chain, Reply, Setup, chat_body, stream_body};

/// Longer than a proxy waits for the last word on a request that it cannot cancel.
const EVERYTHING_ENDS: Duration = Duration::from_secs(150);
const STREAM: &str = r#"{\"kind\":\"tokens\",\"count\":40,\"delay_ms\":7}"#;
const TEMPERS: [&str; 12] = [
    "sim:echo",
    "",
    "sim:tokens=2000",
    "sim:hang",
    "sim:cut",
    "sim:stall",
    "sim:close",
    "sim:loading",
    "sim:error400",
    "sim:error500",
    "sim:ndjson",
    "sim:STREAM",
];

/// xorshift64: any spread will do.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let place = self.below(u64::try_from(of.len()).unwrap());
        of[usize::try_from(place).unwrap()]
    }

    fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

fn setup(dice: &mut Dice) -> Setup {
    let versions = [Version::V0, Version::V1, Version::V2, Version::Extended, Version::Extended, Version::Extended];
    let mut worker = || {
        let number = dice.pick(&versions).number();
        let max_active_requests = u32::try_from(1 + dice.below(4)).unwrap();
        WorkerConfig { proto_version_min: 0, proto_version_max: number, max_active_requests, ..WorkerConfig::default() }
    };
    let workers = vec![worker(), worker(), worker()];
    let client_leg = dice.pick(&versions);
    let seed = dice.below(u64::MAX);
    let links = LinkOptions {
        latency: dice.millis(4),
        chunking: Chunking::Random { seed, max: 2_000 },
        ..LinkOptions::default()
    };
    Setup { workers, client_leg, links, ..Setup::default() }
}

fn request(dice: &mut Dice) -> String {
    let user = dice.pick(&TEMPERS).replace("STREAM", STREAM);
    let timeout = 1 + dice.below(6);
    let fields = format!(r#""user":"{user}","max_tokens":2000,"timeout":{timeout}"#);
    if dice.one_in(3) { chat_body(&fields) } else { stream_body(&fields, dice.one_in(2)) }
}

/// Asks, and sometimes hangs up; then there is no reply.
async fn live(mut app: App, body: String, start: Duration, patience: Duration) -> Option<Reply> {
    sleep(start).await;
    timeout(patience, app.ask(&body)).await.ok()
}

fn check_reply(reply: &Reply) {
    let text = String::from_utf8_lossy(&reply.body()).into_owned();
    if reply.status != 200 {
        assert!(matches!(reply.status, 400 | 429 | 502 | 503 | 504), "{} {text}", reply.status);
        assert_eq!(reply.retry_after().is_some(), matches!(reply.status, 429 | 503), "{} {text}", reply.status);
        return drop(serde_json::from_str::<serde_json::Value>(&text).expect("an error is JSON"));
    }
    let kind = reply.headers["content-type"].to_str().unwrap();
    if kind == "text/event-stream" {
        let ends = text.ends_with("data: [DONE]\n\n") || !reply.error_event_code().is_empty();
        assert!(ends && !reply.was_cut, "{text}");
    } else if !reply.was_cut && !text.contains("chunk") {
        serde_json::from_str::<serde_json::Value>(&text).expect("a whole answer is JSON");
    }
}

async fn trouble(chain: &mut Chain, dice: &mut Dice) {
    for _ in 0..6 {
        sleep(dice.millis(800)).await;
        let place = usize::try_from(dice.below(3)).unwrap();
        match dice.below(5) {
            0 => chain.network.cut("clients"),
            1 => chain.network.cut("workers"),
            2 => chain.restart_proxy(),
            _ => chain.workers[place].restart(&chain.network).await,
        }
    }
}

async fn check_storm(seed: u64, with_trouble: bool) {
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let mut dice = Dice::new(seed);
    let mut chain = setup(&mut dice).start().await;
    let mut apps = JoinSet::new();
    for _ in 0..60 {
        let (body, start) = (request(&mut dice), dice.millis(4_000));
        let patience = if dice.one_in(4) { dice.millis(400) } else { Duration::from_secs(3_600) };
        apps.spawn(live(chain.app().await, body, start, patience));
    }
    if with_trouble {
        trouble(&mut chain, &mut dice).await;
    }
    for reply in apps.join_all().await.into_iter().flatten() {
        check_reply(&reply);
    }
    sleep(EVERYTHING_ENDS).await;
    check_nothing_is_left(&chain).await;
    check_nobody_is_blamed(&log.text());
}

async fn check_nothing_is_left(chain: &Chain) {
    chain.until_ready().await;
    chain.until_idle().await;
    let tally = chain.proxy.status().tally;
    assert_eq!((tally.clients, tally.workers, tally.queued, tally.held_bytes), (1, 3, 0, 0));
    assert_eq!(chain.client.status().proxies[0].requests_in_flight, 0);
    for worker in &chain.workers {
        assert_eq!(worker.handle.status().active, 0);
        assert!(worker.engine.requests().iter().all(|record| record.outcome != Outcome::Running));
    }
    let reply = chain.ask(&chat_body("")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn check_nobody_is_blamed(log: &str) {
    for line in log.lines() {
        let blames = ["blame", "violat", "stuck", "panicked", "handshake refused", "impossible"];
        assert!(!blames.iter().any(|word| line.contains(word)), "{line}");
    }
}

/// Each storm has a runtime of its own, with which all of it ends.
#[expect(clippy::print_stderr, reason = "when a test fails, this says what to run again")]
fn storm(seed: u64, with_trouble: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    eprintln!("seed {seed}");
    runtime.block_on(check_storm(seed, with_trouble));
}

#[test]
fn a_storm_of_apps_leaves_nothing_behind() {
    (0..8).for_each(|seed| storm(seed, false));
}

#[test]
fn a_storm_of_apps_and_dying_roles_leaves_nothing_behind() {
    (100..108).for_each(|seed| storm(seed, true));
}
