//! Load on several routes in turn, and figures over rounds: what `serve` and `stream` share.
//!
//! In each round every route is loaded in turn, so that drift of the machine falls on all of them; figures are the minimum,
//! median and maximum over rounds. CPU is the time that the kernel says the servers' threads ran, divided by completed
//! requests; the load generator and the engine are not counted.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::network::{MODEL, Route, binary};
use crate::shell::{command, output, say};

/// What the load generator prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Load {
    pub(crate) completed: u64,
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
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

/// One path at one concurrency.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) path: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) concurrency: usize,
    pub(crate) failed: u64,
    pub(crate) cpu_us_per_request: Option<Spread>,
    pub(crate) requests_per_second: Spread,
    pub(crate) latency_p50_us: Spread,
    pub(crate) latency_p99_us: Spread,
    pub(crate) event_p50_us: Option<Spread>,
    pub(crate) event_p99_us: Option<Spread>,
}

/// How long each path is loaded, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
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

/// The mode of [`measure`] in which answers are streamed.
pub(crate) const STREAM: &str = "stream";

/// Loads one address once.
pub(crate) fn loaded(addr: SocketAddr, concurrency: usize, seconds: f64, stream: bool) -> Result<Load> {
    let (addr, concurrency, seconds) = (addr.to_string(), concurrency.to_string(), seconds.to_string());
    let mut arguments =
        vec!["load", "--addr", &addr, "--model", MODEL, "--concurrency", &concurrency, "--seconds", &seconds];
    if stream {
        arguments.push("--stream");
    }
    Ok(serde_json::from_str(&output(&mut command(binary("cocoon-sim"), &arguments))?)?)
}

/// Loads every path in turn, round by round.
pub(crate) fn measure(paths: &[Route], mode: &'static str, concurrency: usize, effort: Effort) -> Result<Vec<Row>> {
    let mut samples: Vec<Samples> = paths.iter().map(|_| Samples::default()).collect();
    for round in 0..effort.rounds {
        for (path, samples) in paths.iter().zip(&mut samples) {
            say(&format!("{mode}, {concurrency} in flight, round {}: {}", round + 1, path.name));
            let before = path.cpu_seconds()?;
            let load = loaded(path.addr, concurrency, effort.seconds, mode == STREAM)?;
            let cpu = path.cpu_seconds()? - before;
            ensure!(load.completed > 0, "{} completed no request", path.name);
            samples.add(&load, cpu);
        }
    }
    Ok(paths.iter().zip(samples).map(|(path, samples)| samples.row(path.name, mode, concurrency)).collect())
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
