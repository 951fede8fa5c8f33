//! `cocoon-sim engine` and `cocoon-sim load`: engines and load as processes, for tests in other
//! languages and for benchmarks.
//!
//! `engine` prints the address it listens on as one line, then runs until it is ended.
//! `load`, `attest`, `chain`, `ledger` and `storm` print one JSON object, their report; `hold` prints one line before it,
//! when all streams are open. `workers` and `paid` print one when they are up.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cocoon_sim::{
    AttestConfig, ChainConfig, FakeConfig, FakeEngine, HoldConfig, LedgerConfig, LoadConfig, PaidConfig, PaidNetwork,
    ScriptedEngine, StormConfig, WorkersConfig, attest, chain, failover, hold, ledger, load, paid, storm, workers,
};

const USAGE: &str = "usage:
  cocoon-sim engine [--port P] [--scripted | --fast [--events N] [--pace-us U] [--text-len L] [--stamp]]
  cocoon-sim load --addr HOST:PORT --model NAME [--concurrency N] [--seconds S] [--prompt-len L] [--stream]
  cocoon-sim hold --addr HOST:PORT --model NAME [--streams N] [--unread N] [--per-second R] [--events N] [--prompt-len L]
  cocoon-sim attest [--rounds N] [--handshakes N] [--crowd N]
  cocoon-sim chain [--charges N] [--accounts N] [--refreshes N]
  cocoon-sim ledger --folder DIR [--settles N]
  cocoon-sim paid --cocoon BINARY --folder DIR --engine HOST:PORT --model NAME [--requests N]
  cocoon-sim workers --proxy HOST:PORT --platform DIR [--count N]
  cocoon-sim storm --cocoon BINARY --folder DIR [--kills N] [--seed N] [--apps N] [--proxies 1|2]
  cocoon-sim failover --cocoon BINARY --folder DIR [--kills N] [--seed N] [--apps N]";

enum Command {
    Scripted { port: u16 },
    Fast { port: u16, fake: FakeConfig },
    Load(LoadConfig),
    Hold(HoldConfig),
    Workers(WorkersConfig),
    Attest(AttestConfig),
    Chain(ChainConfig),
    Ledger(LedgerConfig),
    Storm(StormConfig),
    Failover(StormConfig),
    Paid(PaidConfig),
}

fn main() -> ExitCode {
    let Some(command) = parse(std::env::args().skip(1)) else {
        let _ = writeln!(std::io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    raise_descriptors();
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cocoon-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An engine and a crowd of apps have a socket for each stream.
#[cfg(unix)]
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is refused, the crowd is as large as it can be, and its report says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

#[cfg(not(unix))]
fn raise_descriptors() {}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    match arguments.next()?.as_str() {
        "engine" => parse_engine(arguments),
        "load" => parse_load(arguments),
        "hold" => parse_hold(arguments),
        "workers" => parse_workers(arguments),
        "attest" => parse_attest(arguments),
        "chain" => parse_chain(arguments),
        "ledger" => parse_ledger(arguments),
        "storm" => parse_storm(arguments).map(Command::Storm),
        "failover" => parse_storm(arguments).map(Command::Failover),
        "paid" => parse_paid(arguments),
        _ => None,
    }
}

fn parse_engine(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    let (mut port, mut fast, mut fake) = (0, false, FakeConfig::default());
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--scripted" => fast = false,
            "--fast" => fast = true,
            "--stamp" => fake.stamp = true,
            "--port" => port = arguments.next()?.parse().ok()?,
            "--events" => fake.events = arguments.next()?.parse().ok()?,
            "--pace-us" => fake.pace = Duration::from_micros(arguments.next()?.parse().ok()?),
            "--text-len" => fake.text_len = arguments.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(if fast { Command::Fast { port, fake } } else { Command::Scripted { port } })
}

fn parse_load(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    let mut config = LoadConfig {
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 10000)),
        model: String::new(),
        concurrency: 1,
        duration: Duration::from_secs(5),
        stream: false,
        prompt_len: 256,
    };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--addr" => config.addr = arguments.next()?.parse().ok()?,
            "--model" => config.model = arguments.next()?,
            "--concurrency" => config.concurrency = arguments.next()?.parse().ok()?,
            "--seconds" => config.duration = Duration::try_from_secs_f64(arguments.next()?.parse().ok()?).ok()?,
            "--prompt-len" => config.prompt_len = arguments.next()?.parse().ok()?,
            "--stream" => config.stream = true,
            _ => return None,
        }
    }
    Some(Command::Load(config))
}

fn parse_hold(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    let mut config = HoldConfig {
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 10000)),
        model: String::new(),
        streams: 1,
        unread: 0,
        per_second: 500.0,
        events: 32,
        prompt_len: 256,
    };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--addr" => config.addr = arguments.next()?.parse().ok()?,
            "--model" => config.model = arguments.next()?,
            "--streams" => config.streams = arguments.next()?.parse().ok()?,
            "--unread" => config.unread = arguments.next()?.parse().ok()?,
            "--per-second" => config.per_second = arguments.next()?.parse().ok().filter(|rate| *rate > 0.0)?,
            "--events" => config.events = arguments.next()?.parse().ok()?,
            "--prompt-len" => config.prompt_len = arguments.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(Command::Hold(config))
}

fn parse_workers(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, 10002));
    let mut config = WorkersConfig { proxy, platform: PathBuf::new(), count: 1 };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--proxy" => config.proxy = value.parse().ok()?,
            "--platform" => config.platform = value.into(),
            "--count" => config.count = value.parse().ok()?,
            _ => return None,
        }
    }
    config.platform.is_absolute().then_some(Command::Workers(config))
}

fn parse_attest(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    let mut config = AttestConfig { rounds: 9, handshakes: 100, crowd: 200 };
    while let Some(name) = arguments.next() {
        let number = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--rounds" => config.rounds = number,
            "--handshakes" => config.handshakes = number,
            "--crowd" => config.crowd = number,
            _ => return None,
        }
    }
    Some(Command::Attest(config))
}

fn parse_chain(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    let mut config = ChainConfig { charges: 20_000, accounts: 20_000, refreshes: 1_000 };
    while let Some(name) = arguments.next() {
        let number = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--charges" => config.charges = number,
            "--accounts" => config.accounts = number,
            "--refreshes" => config.refreshes = number,
            _ => return None,
        }
    }
    Some(Command::Chain(config))
}

fn parse_ledger(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    let mut config = LedgerConfig { folder: PathBuf::new(), settles: 500_000 };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--folder" => config.folder = value.into(),
            "--settles" => config.settles = value.parse().ok()?,
            _ => return None,
        }
    }
    config.folder.is_absolute().then_some(Command::Ledger(config))
}

fn parse_storm(mut arguments: impl Iterator<Item = String>) -> Option<StormConfig> {
    let mut config =
        StormConfig { cocoon: PathBuf::new(), folder: PathBuf::new(), kills: 20, seed: 1, apps: 8, proxies: 1 };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--cocoon" => config.cocoon = value.into(),
            "--folder" => config.folder = value.into(),
            "--kills" => config.kills = value.parse().ok()?,
            "--seed" => config.seed = value.parse().ok()?,
            "--apps" => config.apps = value.parse().ok()?,
            "--proxies" => config.proxies = value.parse().ok().filter(|proxies| (1..=2).contains(proxies))?,
            _ => return None,
        }
    }
    let is_complete = config.cocoon.is_absolute() && config.folder.is_absolute();
    is_complete.then_some(config)
}

fn parse_paid(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    let mut config = PaidConfig {
        cocoon: PathBuf::new(),
        folder: PathBuf::new(),
        engine: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        model: String::new(),
        requests: 1024,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--cocoon" => config.cocoon = value.into(),
            "--folder" => config.folder = value.into(),
            "--engine" => config.engine = value.parse().ok()?,
            "--model" => config.model = value,
            "--requests" => config.requests = value.parse().ok()?,
            _ => return None,
        }
    }
    let is_complete = config.cocoon.is_absolute() && config.folder.is_absolute() && config.engine.port() != 0;
    is_complete.then_some(Command::Paid(config))
}

fn run(command: Command) -> std::io::Result<()> {
    if let Command::Storm(config) = &command {
        // It blocks, and runs a runtime of its own.
        let report = storm(config).map_err(std::io::Error::other)?;
        return print(&serde_json::to_string(&report)?);
    }
    if let Command::Failover(config) = &command {
        let report = failover(config).map_err(std::io::Error::other)?;
        return print(&serde_json::to_string(&report)?);
    }
    if let Command::Paid(config) = &command {
        // Whoever asked for it ends it by closing standard input, however that comes about.
        let up = |network: &PaidNetwork| {
            let _ = serde_json::to_string(network).map(|line| print(&line));
        };
        return paid(config, up, wait_for_end).map_err(std::io::Error::other);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(command))
}

/// Returns when standard input is closed.
fn wait_for_end() {
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
}

async fn input_closed() {
    let _ = tokio::task::spawn_blocking(wait_for_end).await;
}

async fn serve(command: Command) -> std::io::Result<()> {
    let addr = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match command {
        Command::Fast { port, fake } => {
            let engine = FakeEngine::bind(addr(port), fake).await?;
            print(&engine.addr().to_string())?;
            engine.closed().await;
        }
        Command::Scripted { port } => {
            let engine = ScriptedEngine::bind(addr(port)).await?;
            print(&engine.addr().unwrap_or_else(|| addr(port)).to_string())?;
            engine.closed().await;
        }
        Command::Attest(config) => print(&serde_json::to_string(&attest(config).await?)?)?,
        Command::Chain(config) => print(&serde_json::to_string(&chain(config).await?)?)?,
        Command::Ledger(config) => print(&serde_json::to_string(&ledger(&config)?)?)?,
        Command::Hold(config) => {
            let opened = |opened| {
                let _ = serde_json::to_string(&opened).map(|line| print(&line));
            };
            print(&serde_json::to_string(&hold(&config, opened).await?)?)?;
        }
        Command::Workers(config) => {
            let up = |report| {
                let _ = serde_json::to_string(&report).map(|line| print(&line));
            };
            workers(&config, up, input_closed()).await?;
        }
        Command::Load(config) => print(&serde_json::to_string(&load(&config).await?)?)?,
        Command::Storm(_) | Command::Failover(_) | Command::Paid(_) => {}
    }
    Ok(())
}

fn print(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
