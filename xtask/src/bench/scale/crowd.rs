//! Thousands of streams at once through the three roles.
//!
//! A role's memory is its resident set: before anything, after a tenth of the crowd has come and gone (what allocators and
//! pools keep is no stream's), and while all streams are open. What a stream takes is the growth between the last two, by
//! the number of streams. The kernel's socket buffers are not in it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Args, budget, mib};
use crate::bench::network::{self, ATTESTED, MODEL, Route};
use crate::shell::{command, print, say};

/// The three roles together may take so much for a stream.
const CHAIN_BYTES_PER_STREAM: f64 = 32.0 * 1024.0;
/// The longest time between two events of any stream, over the pace.
const GAP_OVER_PACE: f64 = 1.5;
/// What streams that nobody reads may do to the others' median delay, and to its 99th percentile.
const DELAY_RATIO: f64 = 1.5;
/// Between two looks at memory while all streams are open.
const LOOK: Duration = Duration::from_secs(2);

/// What one chain did.
#[derive(Debug, Serialize)]
pub(super) struct Crowd {
    path: &'static str,
    pace_ms: f64,
    idle: Vec<(&'static str, u64)>,
    /// Streams of the first run, all of them read.
    read: Run,
    /// The same beside some that are not.
    beside_unread: Run,
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    streams: usize,
    unread: usize,
    opened: Opened,
    held: Held,
    roles: Vec<Role>,
    cpu_us_per_event: f64,
}

/// A role's memory in one run, in bytes.
#[derive(Debug, Serialize)]
struct Role {
    name: &'static str,
    before: u64,
    with_all: u64,
    per_stream: f64,
}

/// What the crowd says when all streams are open.
#[derive(Debug, Deserialize, Serialize)]
struct Opened {
    open: usize,
    seconds: f64,
}

/// What it says in the end.
#[derive(Debug, Deserialize, Serialize)]
struct Held {
    completed: usize,
    failed: usize,
    open_max: usize,
    unread_held: usize,
    seconds: f64,
    events: u64,
    events_min: u64,
    event_p50_us: f64,
    event_p99_us: f64,
    event_max_us: f64,
    gap_p50_ms: f64,
    gap_max_ms: f64,
}

/// Measures every chain.
pub(super) fn measure(folder: &Path, args: &Args) -> Result<Vec<Crowd>> {
    let pace_us = format!("{:.0}", args.pace * 1e6);
    let options = ["--events", &args.events.to_string(), "--pace-us", &pace_us, "--stamp"];
    let (_engine, addr) = network::engine(folder, &options)?;
    // Some more, for those that are not read and those that are just ending.
    let requests = args.streams + args.streams / 8 + 64;
    let mut crowds = vec![crowd(network::chain(folder, addr, ATTESTED, requests)?, args)?];
    if !args.no_paid {
        crowds.push(crowd(network::paid(folder, addr, requests)?, args)?);
    }
    Ok(crowds)
}

fn crowd(route: Route, args: &Args) -> Result<Crowd> {
    let idle = route.resident_bytes()?;
    hold(&route, args, args.streams / 10, 0)?;
    let read = hold(&route, args, args.streams, 0)?;
    let beside_unread = hold(&route, args, args.streams, args.streams * args.unread_percent / 100)?;
    Ok(Crowd { path: route.name, pace_ms: args.pace * 1e3, idle, read, beside_unread })
}

fn hold(route: &Route, args: &Args, streams: usize, unread: usize) -> Result<Run> {
    say(&format!("{}: {streams} streams at once, and {unread} that nobody reads", route.name));
    let (before, cpu_before) = (route.resident_bytes()?, route.cpu_seconds()?);
    let mut crowd = start(route, args, streams, unread)?;
    let mut lines = BufReader::new(crowd.stdout.take().context("standard output is piped")?).lines();
    let opened: Opened = serde_json::from_str(&lines.next().context("the crowd ended early")??)?;
    let mut with_all = route.resident_bytes()?;
    let told = std::thread::spawn(move || lines.next());
    while !told.is_finished() {
        std::thread::sleep(LOOK);
        for (most, now) in with_all.iter_mut().zip(route.resident_bytes()?) {
            most.1 = most.1.max(now.1);
        }
    }
    let last = told.join().ok().flatten().context("the crowd did not report")??;
    let held: Held = serde_json::from_str(&last)?;
    ensure!(crowd.wait()?.success(), "the crowd failed");
    let cpu = route.cpu_seconds()? - cpu_before;
    #[expect(clippy::cast_precision_loss, reason = "counts and bytes of a benchmark are far below 2^53")]
    let roles = before.into_iter().zip(with_all).map(|((name, before), (_, with_all))| Role {
        name,
        before,
        with_all,
        per_stream: (with_all as f64 - before as f64) / (streams + unread) as f64,
    });
    #[expect(clippy::cast_precision_loss, reason = "events of a benchmark are far fewer than 2^53")]
    let cpu_us_per_event = cpu * 1e6 / (held.events as f64).max(1.0);
    Ok(Run { streams, unread, opened, roles: roles.collect(), held, cpu_us_per_event })
}

fn start(route: &Route, args: &Args, streams: usize, unread: usize) -> Result<Child> {
    let (addr, rate) = (route.addr.to_string(), args.per_second.to_string());
    let (streams, unread, events) = (streams.to_string(), unread.to_string(), args.events.to_string());
    let options = ["--streams", &streams, "--unread", &unread, "--per-second", &rate, "--events", &events];
    let arguments = [&["hold", "--addr", &addr, "--model", MODEL], &options[..]].concat();
    let mut crowd = command(network::binary("cocoon-sim"), &arguments);
    crowd.stdout(Stdio::piped()).spawn().context("cannot start the crowd")
}

impl Run {
    fn per_stream(&self) -> f64 {
        self.roles.iter().map(|role| role.per_stream).sum()
    }
}

/// One line for each run.
pub(super) fn print_table(crowds: &[Crowd]) {
    print(
        "\npath              streams  unread  open at once  failed  fewest events  gap p50 ms  longest ms  delay p50 ms   p99 ms   max ms  CPU µs/event",
    );
    for (crowd, run) in crowds.iter().flat_map(|crowd| [(crowd, &crowd.read), (crowd, &crowd.beside_unread)]) {
        let held = &run.held;
        print(&format!(
            "{:<16}  {:>7}  {:>6}  {:>12}  {:>6}  {:>13}  {:>10.0}  {:>10.0}  {:>12.2}  {:>7.2}  {:>7.1}  {:>12.0}",
            crowd.path,
            run.streams,
            run.unread,
            run.opened.open,
            held.failed,
            held.events_min,
            held.gap_p50_ms,
            held.gap_max_ms,
            held.event_p50_us / 1e3,
            held.event_p99_us / 1e3,
            held.event_max_us / 1e3,
            run.cpu_us_per_event,
        ));
    }
    print("\npath              unread  role      idle MiB  before MiB  with all MiB  KiB a stream");
    for (crowd, run) in crowds.iter().flat_map(|crowd| [(crowd, &crowd.read), (crowd, &crowd.beside_unread)]) {
        for role in &run.roles {
            let idle = crowd.idle.iter().find(|(name, _)| *name == role.name).map_or(0, |(_, bytes)| *bytes);
            print(&format!(
                "{:<16}  {:>6}  {:<8}  {:>8.1}  {:>10.1}  {:>12.1}  {:>12.1}",
                crowd.path,
                run.unread,
                role.name,
                mib(idle),
                mib(role.before),
                mib(role.with_all),
                role.per_stream / 1024.0,
            ));
        }
        print(&format!("{:<16}  {:>6}  together  {:>49.1}", crowd.path, run.unread, run.per_stream() / 1024.0));
    }
    print("");
}

/// What was aimed at, and whether it was met.
pub(super) fn aims(crowds: &[Crowd], args: &Args) -> Result<Vec<String>> {
    let mut told = Vec::new();
    let mut tell = |is_met: bool, text: String| told.push(format!("{text}, {}", if is_met { "met" } else { "missed" }));
    for Crowd { path, pace_ms, read, beside_unread, .. } in crowds {
        let held = &read.held;
        let all = read.opened.open == read.streams && held.failed == 0 && held.events_min == u64::from(args.events);
        tell(all, format!("{path}: {} of {} streams at once, {} failed", read.opened.open, read.streams, held.failed));
        let gap = held.gap_max_ms / pace_ms;
        tell(
            gap <= GAP_OVER_PACE,
            format!("{path}: longest gap over the pace {gap:.2} (aim: at most {GAP_OVER_PACE})"),
        );
        let bytes = read.per_stream();
        let aim = CHAIN_BYTES_PER_STREAM / 1024.0;
        let kib = bytes / 1024.0;
        tell(
            bytes <= CHAIN_BYTES_PER_STREAM,
            format!("{path}: {kib:.1} KiB a stream over the chain (aim: at most {aim})"),
        );
        for role in &read.roles {
            #[expect(clippy::cast_precision_loss, reason = "a budget is some KiB")]
            let budget = budget::stream_bytes(role.name)? as f64;
            let [kib, aim] = [role.per_stream, budget].map(|bytes| bytes / 1024.0);
            let is_met = role.per_stream <= budget;
            tell(is_met, format!("{path}, {}: {kib:.1} KiB a stream (budget: {aim:.1})", role.name));
        }
        let slow = &beside_unread.held;
        let ratios = [slow.event_p50_us / held.event_p50_us, slow.event_p99_us / held.event_p99_us];
        tell(
            ratios.iter().all(|ratio| *ratio <= DELAY_RATIO) && slow.failed == 0,
            format!(
                "{path}: delay beside {} unread streams over without: p50 {:.2}, p99 {:.2} (aim: at most {DELAY_RATIO})",
                slow.unread_held, ratios[0], ratios[1]
            ),
        );
    }
    Ok(told)
}
