//! `cargo xtask bench stream`: how much later an event of a stream arrives than it left the engine, by the number of streams,
//! through the chain (three hops) attested and paid, beside the engine alone and vllm-router's single plain hop.
//!
//! Each event carries the time at which the engine wrote it. The pace is an event every 10 ms a stream, or slower, so that
//! all streams together have no more than [`EVENTS_PER_SECOND`]: what is measured is delay, not a queue.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::load::{Effort, Row, STREAM, measure};
use super::network::{self, ALONE, ATTESTED, PAID, Route};
use super::serve::peers;
use crate::shell::{print, root};

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; each measures every path
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load for each figure
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Streams in flight
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 512])]
    streams: Vec<usize>,
    /// Leave the peer out
    #[arg(long)]
    no_peer: bool,
}

/// Events of all streams in a second, at most: as many as 64 streams have at the fastest pace.
const EVENTS_PER_SECOND: usize = 6_400;
/// The fastest pace of one stream.
const PACE_US_MIN: usize = 10_000;
/// Events of one stream.
const EVENTS: &str = "32";
/// Requests that each chain has room for at once.
const REQUESTS: usize = 1024;

/// One path at one number of streams, in milliseconds.
#[derive(Debug, Serialize)]
struct Delay {
    path: &'static str,
    streams: usize,
    pace_ms: f64,
    p50: f64,
    p99: f64,
    /// What the path adds to the engine's own median.
    added: Option<f64>,
    /// The same by hop.
    added_per_hop: Option<f64>,
    failed: u64,
    cpu_us_per_event: Option<f64>,
}

/// Builds, starts, measures, prints and writes `target/bench/stream.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    network::build()?;
    let folder = root().join("target/bench/stream");
    std::fs::create_dir_all(&folder)?;
    let mut delays = Vec::new();
    for streams in by_pace(&args.streams) {
        let Some(pace_us) = streams.first().copied().map(pace_us) else { continue };
        let pace = pace_us.to_string();
        let (_engine, addr) = network::engine(&folder, &["--events", EVENTS, "--pace-us", &pace, "--stamp"])?;
        let routes = routes(&folder, addr, args)?;
        // Long enough for each stream to end once, whatever the pace.
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a benchmark are far below 2^53")]
        let seconds = args.seconds.max(pace_us as f64 / 1e6);
        for &concurrency in &streams {
            let rows = measure(&routes, STREAM, concurrency, Effort { rounds: args.rounds, seconds })?;
            delays.extend(told(&rows, pace_us));
        }
    }
    report(&delays, &folder.with_extension("json"))
}

fn pace_us(streams: usize) -> usize {
    PACE_US_MIN.max(streams * 1_000_000 / EVENTS_PER_SECOND)
}

/// Numbers of streams that go at one pace, together.
fn by_pace(streams: &[usize]) -> Vec<Vec<usize>> {
    let groups = streams.chunk_by(|one, next| pace_us(*one) == pace_us(*next));
    groups.map(<[usize]>::to_vec).collect()
}

fn routes(folder: &Path, engine: std::net::SocketAddr, args: &Args) -> Result<Vec<Route>> {
    let mut routes = vec![
        Route::alone(engine),
        network::chain(folder, engine, ATTESTED, REQUESTS)?,
        network::paid(folder, engine, REQUESTS)?,
    ];
    if !args.no_peer {
        routes.push(peers::vllm_router(folder, engine)?);
    }
    Ok(routes)
}

fn told(rows: &[Row], pace_us: usize) -> Vec<Delay> {
    let median = |row: &Row| row.event_p50_us.map(|spread| spread.median / 1e3);
    let alone = rows.iter().find(|row| row.path == ALONE).and_then(median);
    let of_row = |row: &Row| {
        let p50 = median(row)?;
        let added = alone.filter(|_| row.path != ALONE).map(|alone| p50 - alone);
        let hops = if row.path == peers::ROUTER { 1.0 } else { 3.0 };
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a benchmark are far below 2^53")]
        let pace_ms = pace_us as f64 / 1e3;
        Some(Delay {
            path: row.path,
            streams: row.concurrency,
            pace_ms,
            p50,
            p99: row.event_p99_us.map_or(f64::NAN, |spread| spread.median / 1e3),
            added,
            added_per_hop: added.map(|added| added / hops),
            failed: row.failed,
            cpu_us_per_event: row.cpu_us_per_request.map(|spread| spread.median / EVENTS.parse().unwrap_or(1.0)),
        })
    };
    rows.iter().filter_map(of_row).collect()
}

fn report(delays: &[Delay], json: &Path) -> Result<()> {
    print("\nstreams  pace ms  path              delay p50 ms  p99 ms  added p50 ms  per hop  CPU µs/event");
    let number =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"));
    for delay in delays {
        print(&format!(
            "{:>7}  {:>7}  {:<16}  {:>12.3}  {:>6.3}  {:>12}  {:>7}  {:>12}{}",
            delay.streams,
            delay.pace_ms,
            delay.path,
            delay.p50,
            delay.p99,
            number(delay.added, 3),
            number(delay.added_per_hop, 3),
            number(delay.cpu_us_per_event, 0),
            if delay.failed > 0 { format!("  {} failed", delay.failed) } else { String::new() }
        ));
    }
    print("");
    for (streams, bound) in [(1, 0.2), (64, 0.5)] {
        for path in [ATTESTED, PAID] {
            let found = delays.iter().find(|delay| delay.path == path && delay.streams == streams);
            let Some(added) = found.and_then(|delay| delay.added) else { continue };
            let verdict = if added <= bound { "met" } else { "missed" };
            print(&format!("{path}, {streams} streams: {added:.2} ms added (aim: at most {bound}), {verdict}"));
        }
    }
    std::fs::write(json, serde_json::to_string_pretty(delays)?)?;
    print(&format!("written to {}", json.display()));
    Ok(())
}
