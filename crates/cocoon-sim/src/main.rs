//! `cocoon-sim engine` and `cocoon-sim load`: engines and load as processes, for tests in other
//! languages and for benchmarks.
//!
//! `engine` prints the address it listens on as one line, then runs until it is ended.
//! `load`, `attest`, `chain`, `ledger` and `storm` print one JSON object, their report.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cocoon_sim::{
    AttestConfig, ChainConfig, FakeConfig, FakeEngine, LedgerConfig, LoadConfig, PaidConfig, PaidNetwork,
    ScriptedEngine, StormConfig, attest, chain, failover, ledger, load, paid, storm,
};

const USAGE: &str = "usage:
  cocoon-sim engine [--port P] [--scripted | --fast [--events N] [--pace-us U] [--text-len L] [--stamp]]
  cocoon-sim load --addr HOST:PORT --model NAME [--concurrency N] [--seconds S] [--prompt-len L] [--stream]
  cocoon-sim attest [--rounds N] [--handshakes N] [--crowd N]
  cocoon-sim chain [--charges N] [--accounts N] [--refreshes N]
  cocoon-sim ledger --folder DIR [--settles N]
  cocoon-sim paid --cocoon BINARY --folder DIR --engine HOST:PORT --model NAME
  cocoon-sim storm --cocoon BINARY --folder DIR [--kills N] [--seed N] [--apps N] [--proxies 1|2]
  cocoon-sim failover --cocoon BINARY --folder DIR [--kills N] [--seed N] [--apps N]";

enum Command {
    Scripted { port: u16 },
    Fast { port: u16, fake: FakeConfig },
    Load(LoadConfig),
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
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cocoon-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Command> {
    match arguments.next()?.as_str() {
        "engine" => parse_engine(arguments),
        "load" => parse_load(arguments),
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
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--cocoon" => config.cocoon = value.into(),
            "--folder" => config.folder = value.into(),
            "--engine" => config.engine = value.parse().ok()?,
            "--model" => config.model = value,
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
        let end = || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        };
        return paid(config, up, end).map_err(std::io::Error::other);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(command))
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
