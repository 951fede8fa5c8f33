//! One of two proxies is killed under load, or stands still for a while, and again, and the other: what had not begun must
//! not be lost, what had begun must say within a second that it broke, and go on where nobody died, and in the end the money
//! must add up.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

use super::node::{Name, PROXIES, WORKERS};
use super::stage::{Plan, Stage};
use super::traffic::{Harm, MODEL, Mix, Traffic};
use super::{Books, Counts, Failure, PRICE, REQUESTS, StormConfig, WORKER_FEE};

/// What the client puts down with each proxy, in TON: so much that it covers all requests of both, and what is held for those
/// that a dead proxy had, so that no request is refused for want of it.
const STAKE: u64 = 25;
/// How long the proxies serve together before one is killed, at least; as long again at random.
const CALM: Duration = Duration::from_millis(700);
/// How long a proxy stays away: the other one has all the load.
const AWAY: Duration = Duration::from_millis(1_500);
/// How soon an answer that had begun must say that it broke.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct FailoverReport {
    /// The seed of the choices.
    pub seed: u64,
    /// Proxies killed.
    pub kills: u32,
    /// Proxies that stood still instead.
    pub stops: u32,
    /// Requests by how they ended. None may be refused or cut off.
    pub requests: Counts,
    /// Requests that were sent to the other proxy.
    pub retried: u64,
    /// From a kill to the last app that was told that its answer broke, in milliseconds.
    pub told_within_ms: u64,
    /// What the chain says in the end.
    pub books: Books,
    /// From start to end.
    pub seconds: f64,
}

/// Runs it to its end. Blocks.
///
/// # Errors
/// When a request was lost, an app was left waiting, the network does not come to rest, or the books do not add up; the text
/// names the folder with the logs.
pub fn failover(config: &StormConfig) -> Result<FailoverReport, Failure> {
    let began = Instant::now();
    run(config, began)
        .map_err(|error| format!("{error}\nseed {}; the logs are in {}", config.seed, config.folder.display()).into())
}

fn run(config: &StormConfig, began: Instant) -> Result<FailoverReport, Failure> {
    let mut random = StdRng::seed_from_u64(config.seed);
    let mut stage = Stage::build(&Plan {
        binary: &config.cocoon,
        folder: &config.folder,
        engine: None,
        model: MODEL,
        price: PRICE,
        worker_fee: WORKER_FEE,
        stake: STAKE,
        proxies: PROXIES,
        workers: WORKERS,
        clients: 1,
        requests: REQUESTS,
    })?;
    stage.wait_until_served()?;
    stage.wait_until_whole()?;
    let traffic = Traffic::start(stage.apis(), config.apps, config.seed, Mix::Steady);
    let mut killed = Vec::new();
    for number in 0..config.kills {
        std::thread::sleep(CALM + CALM.mul_f64(random.random()));
        let name = Name::Proxy(random.random_range(0..PROXIES));
        if number % 2 == 0 {
            killed.push(Instant::now());
            stage.kill(name)?;
            std::thread::sleep(AWAY);
            stage.restart(name)?;
        } else {
            stage.set_still(name, true)?;
            std::thread::sleep(AWAY);
            stage.set_still(name, false)?;
        }
        stage.wait_until_whole()?;
    }
    std::thread::sleep(CALM);
    let (harms, answered) = (traffic.harms(), traffic.answered());
    let requests = traffic.stop();
    let told_within = judge(&harms, &killed)?;
    if answered == 0 {
        return Err("no request was answered at all".into());
    }
    let retried = retried(&stage.metrics()?);
    let counted = stage.counted()?;
    stage.close()?;
    let books = stage.books()?;
    books.check(&counted)?;
    let told_within_ms = u64::try_from(told_within.as_millis())?;
    let seconds = began.elapsed().as_secs_f64();
    let kills = u32::try_from(killed.len())?;
    let stops = config.kills.saturating_sub(kills);
    Ok(FailoverReport { seed: config.seed, kills, stops, requests, retried, told_within_ms, books, seconds })
}

/// What had not begun must not have failed, and what had begun, soon after a kill.
fn judge(harms: &[Harm], killed: &[Instant]) -> Result<Duration, Failure> {
    let mut slowest = Duration::ZERO;
    for harm in harms {
        if !harm.had_begun {
            return Err(format!("a request that had not begun was lost: {}", harm.words).into());
        }
        let since = killed.iter().filter_map(|at| harm.at.checked_duration_since(*at)).min();
        match since {
            Some(since) if since <= TOLD_WITHIN => slowest = slowest.max(since),
            Some(since) => return Err(format!("an app was told {since:?} after a kill: {}", harm.words).into()),
            None => return Err(format!("an answer broke before anything was killed: {}", harm.words).into()),
        }
    }
    Ok(slowest)
}

/// What the client's metrics say.
fn retried(metrics: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with("cocoon_client_retries_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
