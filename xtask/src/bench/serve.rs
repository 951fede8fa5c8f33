//! `cargo xtask bench serve`: what the chain client → proxy → worker costs, beside the engine alone and
//! beside gateways (one hop of vllm-router and sglang-router, two TLS hops of nginx), all in one run.
//!
//! Three processes of the release build serve over loopback TCP, once attested under a simulated platform, once in plain,
//! and once attested with receipts and payments on a devnet; the engine is a constant answer.
//! In each round every path (direct, chains, gateways) is loaded in turn at each concurrency, so that
//! drift of the machine falls on all of them; figures are the minimum, median and maximum over rounds.
//! CPU is the time that the kernel says the servers' threads ran, divided by completed requests;
//! the load generator and the engine are not counted.

mod chart;
mod peers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::process::{self, Server, free_addr};
use crate::shell::{cargo, command, output, print, root, run as run_command, say, target};

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; each measures every path
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load for each figure
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Requests in flight
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32, 128])]
    concurrency: Vec<usize>,
    /// Streams in flight
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    streams: Vec<usize>,
    /// Leave the peers out
    #[arg(long)]
    no_peer: bool,
}

const ALONE: &str = "engine alone";
const ATTESTED: &str = "cocoon, attested";
const PLAIN: &str = "cocoon, plain";
const PAID: &str = "cocoon, paid";
const MODEL: &str = "fake";
/// What the client proves itself with, and its SHA-256.
const SECRET: &str = "bench";
const SECRET_HASH: &str = "1b32c28cb38c05480eccc1bd60ff97029b57a05c96718b96dad7e9d84894f549";

/// Something that answers at an address, and the processes whose CPU it costs.
struct Route {
    name: &'static str,
    addr: SocketAddr,
    servers: Vec<Server>,
}

/// What the load generator prints.
#[derive(Debug, Deserialize)]
struct Load {
    completed: u64,
    failed: u64,
    seconds: f64,
    latency_p50_us: f64,
    latency_p99_us: f64,
    events: u64,
    event_p50_us: f64,
    event_p99_us: f64,
}

/// One figure over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

/// One path at one concurrency.
#[derive(Debug, Serialize)]
struct Row {
    path: &'static str,
    mode: &'static str,
    concurrency: usize,
    failed: u64,
    cpu_us_per_request: Option<Spread>,
    requests_per_second: Spread,
    latency_p50_us: Spread,
    latency_p99_us: Spread,
    event_p50_us: Option<Spread>,
    event_p99_us: Option<Spread>,
}

#[derive(Debug, Default)]
struct Samples {
    failed: u64,
    cpu_us: Vec<f64>,
    per_second: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    event_p50: Vec<f64>,
    event_p99: Vec<f64>,
}

/// Builds, starts, measures, prints and writes `target/bench/serve.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    run_command(&mut cargo(&["build", "--locked", "--release", "-p", "cocoon", "-p", "cocoon-sim"]))?;
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)?;

    let mut rows = Vec::new();
    let plain = engine(&folder, &["--fast", "--text-len", "256"])?;
    let mut paths = paths(&folder, plain.1, args)?;
    for &concurrency in &args.concurrency {
        rows.extend(measure(&mut paths, "plain", concurrency, args)?);
    }
    drop((plain, paths));
    // Paced and stamped, so that the delay of each event can be told from the engine's own pace.
    let paced = engine(&folder, &["--fast", "--events", "32", "--pace-us", "10000", "--stamp"])?;
    let mut paths = self::paths(&folder, paced.1, args)?;
    for &concurrency in &args.streams {
        rows.extend(measure(&mut paths, "stream", concurrency, args)?);
    }
    report(&rows, &folder.join("serve.json"))
}

/// A program of the release build.
pub(super) fn binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

fn engine(folder: &Path, options: &[&str]) -> Result<(Server, SocketAddr)> {
    let arguments = [&["engine"], options].concat();
    let mut command = command(binary("cocoon-sim"), &arguments);
    let mut server =
        Server::start(process::ENGINE, command.stdout(std::process::Stdio::piped()), &folder.join("engine.log"))?;
    let addr = server.first_line()?.parse().context("the engine did not print its address")?;
    Ok((server, addr))
}

fn paths(folder: &Path, engine: SocketAddr, args: &Args) -> Result<Vec<Route>> {
    let mut paths = vec![
        Route { name: ALONE, addr: engine, servers: Vec::new() },
        chain(folder, engine, ATTESTED)?,
        chain(folder, engine, PLAIN)?,
        paid(folder, engine)?,
    ];
    if !args.no_peer {
        paths.extend(peers::all(folder, engine)?);
    }
    Ok(paths)
}

/// Client, proxy and worker as three processes.
fn chain(folder: &Path, engine: SocketAddr, name: &'static str) -> Result<Route> {
    let (http, clients, workers) = (free_addr()?, free_addr()?, free_addr()?);
    let links = if name == ATTESTED {
        let platform = folder.join("simulated-tee");
        format!("[attestation]\ninsecure_simulated_tee = \"{}\"\n", platform.display())
    } else {
        "[attestation]\ninsecure_plain_loopback = true\n".to_owned()
    };
    let folder = folder.join(if name == ATTESTED { "attested" } else { "plain" });
    std::fs::create_dir_all(&folder)?;
    let start = |role: &'static str, config: String| {
        let file = folder.join(format!("{role}.toml"));
        std::fs::write(&file, config + &links)?;
        Server::start(
            role,
            &mut command(binary("cocoon"), &[role, "--config", &file.to_string_lossy()]),
            &folder.join(format!("{role}.log")),
        )
    };
    let proxy = format!(
        "[listen]\nclients = \"{clients}\"\nworkers = \"{workers}\"\n[proxy]\nis_test = true\nclient_secret_hash = \"{SECRET_HASH}\"\n"
    );
    let mut proxy = start("proxy", proxy)?;
    proxy.wait_listening(workers)?;
    let worker = format!(
        "proxies = [\"{workers}\"]\n[engine]\nkind = \"openai-http\"\nurl = \"http://{engine}\"\n[worker]\nis_test = true\nmodel = \"{MODEL}\"\nmax_active_requests = 256\n"
    );
    let worker = start("worker", worker)?;
    let client = format!(
        "proxies = [\"{clients}\"]\n[client]\nlisten = \"{http}\"\nis_test = true\nauth_secret = \"{SECRET}\"\n"
    );
    let mut client = start("client", client)?;
    client.wait_listening(http)?;
    client.wait_until(|| loaded(http, 1, 0.05, false).is_ok_and(|load| load.completed > 0), "the chain to answer")?;
    Ok(Route { name, addr: http, servers: vec![client, proxy, worker] })
}

/// The same three, attested, with receipts, and every request paid for on a devnet.
fn paid(folder: &Path, engine: SocketAddr) -> Result<Route> {
    let folder = folder.join("paid");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let (cocoon, place, engine) = (binary("cocoon"), folder.to_string_lossy(), engine.to_string());
    let arguments =
        ["paid", "--cocoon", &cocoon.to_string_lossy(), "--folder", &place, "--engine", &engine, "--model", MODEL];
    let mut command = command(binary("cocoon-sim"), &arguments);
    let mut network = Server::start(process::PAID, &mut command, &folder.join("paid.log"))?;
    let Paid { api, processes } =
        serde_json::from_str(&network.first_line()?).context("the paid network's log tells")?;
    network.measures(processes);
    Ok(Route { name: PAID, addr: api, servers: vec![network] })
}

/// What a paid network says of itself.
#[derive(Debug, Deserialize)]
struct Paid {
    api: SocketAddr,
    processes: Vec<u32>,
}

fn loaded(addr: SocketAddr, concurrency: usize, seconds: f64, stream: bool) -> Result<Load> {
    let (addr, concurrency, seconds) = (addr.to_string(), concurrency.to_string(), seconds.to_string());
    let mut arguments =
        vec!["load", "--addr", &addr, "--model", MODEL, "--concurrency", &concurrency, "--seconds", &seconds];
    if stream {
        arguments.push("--stream");
    }
    Ok(serde_json::from_str(&output(&mut command(binary("cocoon-sim"), &arguments))?)?)
}

fn measure(paths: &mut [Route], mode: &'static str, concurrency: usize, args: &Args) -> Result<Vec<Row>> {
    let stream = mode == "stream";
    let mut samples: Vec<Samples> = paths.iter().map(|_| Samples::default()).collect();
    for round in 0..args.rounds {
        for (path, samples) in paths.iter().zip(&mut samples) {
            say(&format!("{mode}, {concurrency} in flight, round {}: {}", round + 1, path.name));
            let before = cpu_seconds(path)?;
            let load = loaded(path.addr, concurrency, args.seconds, stream)?;
            let cpu = cpu_seconds(path)? - before;
            ensure!(load.completed > 0, "{} completed no request", path.name);
            samples.add(&load, cpu);
        }
    }
    Ok(paths.iter().zip(samples).map(|(path, samples)| samples.row(path.name, mode, concurrency)).collect())
}

fn cpu_seconds(path: &Route) -> Result<f64> {
    path.servers.iter().map(Server::cpu_seconds).sum()
}

impl Samples {
    fn add(&mut self, load: &Load, cpu_seconds: f64) {
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
        let completed = load.completed as f64;
        self.failed += load.failed;
        self.cpu_us.push(cpu_seconds * 1e6 / completed);
        self.per_second.push(completed / load.seconds);
        self.p50.push(load.latency_p50_us);
        self.p99.push(load.latency_p99_us);
        if load.events > 0 {
            self.event_p50.push(load.event_p50_us);
            self.event_p99.push(load.event_p99_us);
        }
    }

    fn row(self, path: &'static str, mode: &'static str, concurrency: usize) -> Row {
        Row {
            path,
            mode,
            concurrency,
            failed: self.failed,
            cpu_us_per_request: spread(self.cpu_us).filter(|spread| spread.max > 0.0),
            requests_per_second: spread(self.per_second).unwrap_or(NOTHING),
            latency_p50_us: spread(self.p50).unwrap_or(NOTHING),
            latency_p99_us: spread(self.p99).unwrap_or(NOTHING),
            event_p50_us: spread(self.event_p50),
            event_p99_us: spread(self.event_p99),
        }
    }
}

const NOTHING: Spread = Spread { min: 0.0, median: 0.0, max: 0.0 };

fn spread(mut samples: Vec<f64>) -> Option<Spread> {
    samples.sort_unstable_by(f64::total_cmp);
    let median = *samples.get(samples.len() / 2)?;
    Some(Spread { min: *samples.first()?, median, max: *samples.last()? })
}

fn report(rows: &[Row], json: &Path) -> Result<()> {
    print(
        "\npath             mode    in flight  CPU µs/request            requests/s          p50 µs   p99 µs  event p50 µs  event p99 µs",
    );
    for row in rows {
        let cpu = row
            .cpu_us_per_request
            .map_or_else(|| "-".into(), |s| format!("{:.0} ({:.0}..{:.0})", s.median, s.min, s.max));
        let per_second = format!(
            "{:.0} ({:.0}..{:.0})",
            row.requests_per_second.median, row.requests_per_second.min, row.requests_per_second.max
        );
        let event = |spread: Option<Spread>| spread.map_or_else(|| "-".into(), |s| format!("{:.0}", s.median));
        print(&format!(
            "{:<16} {:<7} {:>9}  {:<24} {:<20} {:>7.0} {:>8.0}  {:>12}  {:>12}{}",
            row.path,
            row.mode,
            row.concurrency,
            cpu,
            per_second,
            row.latency_p50_us.median,
            row.latency_p99_us.median,
            event(row.event_p50_us),
            event(row.event_p99_us),
            if row.failed > 0 { format!("  {} failed", row.failed) } else { String::new() }
        ));
    }
    print("");
    for aim in aims(rows) {
        print(&aim);
    }
    let chart = json.with_extension("svg");
    std::fs::write(&chart, chart::svg(&panels(rows)))?;
    std::fs::write(json, serde_json::to_string_pretty(rows)?)?;
    print(&format!("written to {} and {}", json.display(), chart.display()));
    Ok(())
}

/// What was aimed at, what was measured, and whether that is enough.
fn aims(rows: &[Row]) -> Vec<String> {
    let find = |path: &str, mode: &str, concurrency: usize| {
        rows.iter().find(|row| row.path == path && row.mode == mode && row.concurrency == concurrency)
    };
    let cpu = |path| find(path, "plain", 32)?.cpu_us_per_request.map(|spread| spread.median);
    let rate = |path| find(path, "plain", 128).map(|row| row.requests_per_second.median);
    let p50 = |path| find(path, "plain", 1).map(|row| row.latency_p50_us.median / 1e3);
    let delay = |path, streams| find(path, "stream", streams)?.event_p50_us.map(|spread| spread.median / 1e3);
    let added = |streams| Some(delay(PAID, streams)? - delay(ALONE, streams)?);
    let ratio = |ours: Option<f64>, theirs: Option<f64>| Some(ours? / theirs?);
    let router = peers::ROUTER;
    [
        told("CPU at 32 in flight, attested over plain", ratio(cpu(ATTESTED), cpu(PLAIN)), Aim::AtMost(3.0)),
        told(&format!("CPU at 32 in flight, paid over {router}"), ratio(cpu(PAID), cpu(router)), Aim::AtMost(1.0)),
        told(&format!("requests/s at 128, paid over {router}"), ratio(rate(PAID), rate(router)), Aim::AtLeast(0.7)),
        told(
            "ms added to the engine's median, 1 in flight, paid",
            p50(PAID).zip(p50(ALONE)).map(|(ours, alone)| ours - alone),
            Aim::AtMost(0.5),
        ),
        told("ms of delay added to an event, 1 stream, paid", added(1), Aim::AtMost(0.2)),
        told("ms of delay added to an event, 64 streams, paid", added(64), Aim::AtMost(0.5)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a figure should be.
enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

fn told(what: &str, got: Option<f64>, aim: Aim) -> Option<String> {
    let got = got?;
    let (is_met, words, bound) = match aim {
        Aim::AtMost(bound) => (got <= bound, "at most", bound),
        Aim::AtLeast(bound) => (got >= bound, "at least", bound),
    };
    Some(format!("{what}: {got:.2} (aim: {words} {bound}), {}", if is_met { "met" } else { "missed" }))
}

/// What the picture shows: the paths of one load beside each other.
fn panels(rows: &[Row]) -> Vec<chart::Panel<'_>> {
    let bars = |mode: &str, concurrency: usize, value: fn(&Row) -> Option<f64>| {
        let of_load = rows.iter().filter(|row| row.mode == mode && row.concurrency == concurrency);
        of_load.filter_map(|row| Some((row.path, value(row)?, row.path.starts_with("cocoon")))).collect()
    };
    let cpu = |row: &Row| row.cpu_us_per_request.map(|spread| spread.median);
    let rate = |row: &Row| (row.path != ALONE).then_some(row.requests_per_second.median);
    let delay = |row: &Row| row.event_p50_us.map(|spread| spread.median / 1e3);
    [
        chart::Panel { title: "CPU of a short request, 32 in flight", unit: "µs", bars: bars("plain", 32, cpu) },
        chart::Panel { title: "Short requests a second, 128 in flight", unit: "", bars: bars("plain", 128, rate) },
        chart::Panel {
            title: "Delay of a streamed event, 64 streams, median",
            unit: "ms",
            bars: bars("stream", 64, delay),
        },
    ]
    .into_iter()
    .filter(|panel| !panel.bars.is_empty())
    .collect()
}
