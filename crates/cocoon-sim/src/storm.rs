//! A network of real processes under load, whose processes are killed at random moments; then everything is closed, and
//! the money must add up.
//!
//! 1. [`stage`]: a devnet, a root, one or two proxies, three workers of three owners with different prices, one of which speaks the original
//!    protocol, and a client, each a process of the real binary with a configuration file, attested by a simulated platform;
//!    and a scripted engine.
//! 2. [`traffic`]: apps that ask, stream, hang up in the middle, and ask for too much.
//! 3. [`run`]: `kill -9` of a random process, a pause, the same process again; as often as asked.
//! 4. When the dust has settled, the client leaves, the workers cash, the proxy closes; [`books`] reads the chain and
//!    compares.
//!
//! [`failover`] is the same with proxies alone as victims, and watches what apps see of it.
//!
//! What is claimed: what clients were charged is what workers were paid plus the commission, to the nano; what is not:
//! that a request survives the death of the process that carried it.

mod books;
mod failover;
mod http;
mod keys;
mod node;
mod stage;
mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

pub use books::Books;
pub use failover::{FailoverReport, failover};
use node::{CLIENTS, Name, WORKERS};
use stage::{Plan, Stage};
pub use traffic::Counts;
use traffic::Traffic;

/// Why a storm could not be run, or what did not add up.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How hard it blows.
#[derive(Debug, Clone)]
pub struct StormConfig {
    /// The binary under test.
    pub cocoon: PathBuf,
    /// Where the network's folders and logs go; kept when something fails.
    pub folder: PathBuf,
    /// Processes killed, one after the other.
    pub kills: u32,
    /// Of the random choices; the moments are the machine's.
    pub seed: u64,
    /// Apps that ask at the same time.
    pub apps: usize,
    /// How many proxies there are, one or two.
    pub proxies: usize,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct StormReport {
    /// The seed of the choices.
    pub seed: u64,
    /// Kills by process.
    pub kills: Vec<(String, u32)>,
    /// Requests by how they ended.
    pub requests: Counts,
    /// What the chain says in the end.
    pub books: Books,
    /// Lines of `cocoon contract show --statement`, which together are every account's balance.
    pub statement_lines: usize,
    /// From start to end.
    pub seconds: f64,
}

/// A token costs so much that a storm of a minute moves amounts that are worth their fees.
const PRICE: u64 = 40_000;
const WORKER_FEE: u64 = 30_000;
/// What clients put down: so little that they top up now and then, and are out of it at times.
const STAKE: u64 = 5;
/// Requests that may be open at once: far above the apps.
const REQUESTS: usize = 1024;
/// How long the storm lets the network run between two kills, at most.
const CALM_MAX: Duration = Duration::from_millis(2_500);
/// How long a killed process stays away, at most.
const AWAY_MAX: Duration = Duration::from_millis(1_500);

/// Runs a storm to its end. Blocks for a second or two per kill, and for a minute or so at the end.
///
/// # Errors
/// When the network does not come up, does not come to rest, or the books do not add up; the text names the folder with
/// the logs.
pub fn storm(config: &StormConfig) -> Result<StormReport, Failure> {
    let began = Instant::now();
    run(config, began)
        .map_err(|error| format!("{error}\nseed {}; the logs are in {}", config.seed, config.folder.display()).into())
}

/// A network in which every request is paid for, in front of an engine that runs already: for benchmarks.
#[derive(Debug, Clone)]
pub struct PaidConfig {
    /// The binary to measure.
    pub cocoon: PathBuf,
    /// Where the network's folders and logs go.
    pub folder: PathBuf,
    /// The engine.
    pub engine: SocketAddr,
    /// The model that it serves.
    pub model: String,
    /// Requests that apps may have open at once.
    pub requests: usize,
}

/// Where a paid network answers, and what runs there.
#[derive(Debug, Clone, Serialize)]
pub struct PaidNetwork {
    /// Where apps connect.
    pub api: SocketAddr,
    /// The processes that a request passes through.
    pub processes: Vec<u32>,
}

/// Brings a paid network up, says where it is, and keeps it until `end` returns.
///
/// # Errors
/// When it does not come up; the text names the folder with the logs.
pub fn paid(config: &PaidConfig, up: impl FnOnce(&PaidNetwork), end: impl FnOnce()) -> Result<(), Failure> {
    let plan = Plan {
        binary: &config.cocoon,
        folder: &config.folder,
        engine: Some(config.engine),
        model: &config.model,
        price: 2,
        worker_fee: 1,
        stake: STAKE,
        proxies: 1,
        workers: 1,
        clients: 1,
        requests: config.requests,
    };
    let bring = || {
        let mut stage = Stage::build(&plan)?;
        stage.wait_until_served()?;
        Ok::<_, Failure>(stage)
    };
    let stage = bring().map_err(|error| format!("{error}; the logs are in {}", config.folder.display()))?;
    let &[api] = stage.apis() else { return Err("a paid network has one client".into()) };
    up(&PaidNetwork { api, processes: stage.processes() });
    end();
    Ok(())
}

fn run(config: &StormConfig, began: Instant) -> Result<StormReport, Failure> {
    let mut random = StdRng::seed_from_u64(config.seed);
    let mut stage = Stage::build(&Plan {
        binary: &config.cocoon,
        folder: &config.folder,
        engine: None,
        model: traffic::MODEL,
        price: PRICE,
        worker_fee: WORKER_FEE,
        stake: STAKE,
        proxies: config.proxies,
        workers: WORKERS,
        clients: CLIENTS,
        requests: REQUESTS,
    })?;
    stage.wait_until_served()?;
    let traffic = Traffic::start(stage.apis(), config.apps, config.seed, traffic::Mix::Storm);
    let mut kills: Vec<_> = Name::all(config.proxies).into_iter().map(|name| (name, 0_u32)).collect();
    for _ in 0..config.kills {
        std::thread::sleep(CALM_MAX.mul_f64(random.random()));
        let index = random.random_range(0..kills.len());
        let Some((name, count)) = kills.get_mut(index) else { continue };
        *count += 1;
        let name = *name;
        stage.kill(name)?;
        std::thread::sleep(AWAY_MAX.mul_f64(random.random()));
        stage.restart(name)?;
    }
    stage.wait_until_served()?;
    // A while without kills, so that there is something to settle even where there were many.
    std::thread::sleep(CALM_MAX);
    let requests = traffic.stop();
    let counted = stage.counted()?;
    stage.close()?;
    let books = stage.books()?;
    books.check(&counted)?;
    let statement_lines = stage.statements()?;
    let kills = kills.iter().map(|(name, count)| (name.to_string(), *count)).collect();
    Ok(StormReport {
        seed: config.seed,
        kills,
        requests,
        books,
        statement_lines,
        seconds: began.elapsed().as_secs_f64(),
    })
}
