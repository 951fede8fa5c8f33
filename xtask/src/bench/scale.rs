//! `cargo xtask bench scale`: how much one node of each role holds.
//!
//! 1. [`crowd`]: thousands of slow streams at once through client, proxy and worker, attested and paid: whether each gets
//!    every event in time, and what the roles' memory grows by for each; then again beside streams that nobody reads.
//! 2. [`routing`]: what it costs the proxy to choose among tens and thousands of workers.
//! 3. [`sessions`]: thousands of workers connected to one proxy, and what an idle one takes.
//!
//! Budgets are the constants of the roles' own `limits.rs`, read from there ([`budget`]).

mod budget;
mod crowd;
mod routing;
mod sessions;

use anyhow::Result;
use serde::Serialize;

use super::network;
use crate::shell::{print, root};

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Streams at once
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
    /// Streams opened a second
    #[arg(long, default_value_t = 400.0)]
    per_second: f64,
    /// Seconds between two events of a stream
    #[arg(long, default_value_t = 5.0)]
    pace: f64,
    /// Events of a stream
    #[arg(long, default_value_t = 14)]
    events: u32,
    /// Streams that nobody reads, in percent of the others, in the second run
    #[arg(long, default_value_t = 1)]
    unread_percent: usize,
    /// Workers at one proxy
    #[arg(long, default_value_t = 5_000)]
    workers: usize,
    /// Leave the paid chain out
    #[arg(long)]
    no_paid: bool,
    /// Only some of it
    #[arg(long, value_delimiter = ',', default_values_t = [Part::Streams, Part::Routing, Part::Sessions])]
    only: Vec<Part>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Streams at once
    Streams,
    /// The cost of choosing a worker
    Routing,
    /// Idle workers
    Sessions,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Streams => "streams",
            Self::Routing => "routing",
            Self::Sessions => "sessions",
        })
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
struct Report {
    crowds: Vec<crowd::Crowd>,
    routing: Vec<routing::Cost>,
    sessions: Option<sessions::Sessions>,
    aims: Vec<String>,
}

/// Builds, measures, prints and writes `target/bench/scale.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    network::build()?;
    let folder = root().join("target/bench/scale");
    std::fs::create_dir_all(&folder)?;
    let mut report = Report::default();
    if args.only.contains(&Part::Streams) {
        report.crowds = crowd::measure(&folder, args)?;
        crowd::print_table(&report.crowds);
        report.aims.extend(crowd::aims(&report.crowds, args)?);
    }
    if args.only.contains(&Part::Routing) {
        report.routing = routing::measure()?;
        routing::print_table(&report.routing);
        report.aims.push(routing::aim(&report.routing));
    }
    if args.only.contains(&Part::Sessions) {
        let sessions = sessions::measure(&folder, args.workers)?;
        sessions::print_table(&sessions);
        report.aims.push(sessions::aim(&sessions)?);
        report.sessions = Some(sessions);
    }
    report.aims.iter().for_each(|aim| print(aim));
    let json = folder.with_extension("json");
    std::fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    print(&format!("written to {}", json.display()));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^53")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
