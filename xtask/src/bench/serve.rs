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
pub(super) mod peers;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::load::{self, Effort, Row, STREAM, Spread};
use super::network::{self, ALONE, ATTESTED, PAID, PLAIN, Route};
use crate::shell::{print, root};

/// Requests that each chain has room for at once: above every concurrency that is measured.
const REQUESTS: usize = 1024;

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

/// Builds, starts, measures, prints and writes `target/bench/serve.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    network::build()?;
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)?;

    let effort = Effort { rounds: args.rounds, seconds: args.seconds };
    let mut rows = Vec::new();
    let plain = network::engine(&folder, &["--text-len", "256"])?;
    let paths = paths(&folder, plain.1, args)?;
    for &concurrency in &args.concurrency {
        rows.extend(load::measure(&paths, "plain", concurrency, effort)?);
    }
    drop((plain, paths));
    // Paced and stamped, so that the delay of each event can be told from the engine's own pace.
    let paced = network::engine(&folder, &["--events", "32", "--pace-us", "10000", "--stamp"])?;
    let paths = self::paths(&folder, paced.1, args)?;
    for &concurrency in &args.streams {
        rows.extend(load::measure(&paths, STREAM, concurrency, effort)?);
    }
    report(&rows, &folder.join("serve.json"))
}

fn paths(folder: &Path, engine: SocketAddr, args: &Args) -> Result<Vec<Route>> {
    let mut paths = vec![
        Route::alone(engine),
        network::chain(folder, engine, ATTESTED, REQUESTS)?,
        network::chain(folder, engine, PLAIN, REQUESTS)?,
        network::paid(folder, engine, REQUESTS)?,
    ];
    if !args.no_peer {
        paths.extend(peers::all(folder, engine)?);
    }
    Ok(paths)
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
