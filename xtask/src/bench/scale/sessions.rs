//! What an idle session with a worker takes of a proxy's memory: thousands of attested ones, made by one simulated program.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::budget;
use crate::bench::network;
use crate::bench::process::{self, Server};
use crate::shell::{command, print, say};

/// The proxy's memory without and with them, in bytes.
#[derive(Debug, Serialize)]
pub(super) struct Sessions {
    workers: usize,
    seconds: f64,
    before: u64,
    with_all: u64,
    per_session: f64,
}

/// What the workers say.
#[derive(Debug, Deserialize)]
struct Up {
    connected: usize,
    seconds: f64,
}

/// Starts a proxy, connects some workers and lets them go, and then all.
pub(super) fn measure(folder: &Path, workers: usize) -> Result<Sessions> {
    say(&format!("{workers} workers at one proxy"));
    let (proxy, addr) = network::proxy(folder, workers + 64)?;
    let resident = || -> Result<u64> { Ok(proxy.resident_bytes()?.into_iter().map(|(_, bytes)| bytes).sum()) };
    drop(connect(folder, addr, workers / 50)?);
    let before = resident()?;
    let (_running, up) = connect(folder, addr, workers)?;
    let with_all = resident()?;
    #[expect(clippy::cast_precision_loss, reason = "bytes and counts of a benchmark are far below 2^53")]
    let per_session = (with_all as f64 - before as f64) / up.connected.max(1) as f64;
    Ok(Sessions { workers: up.connected, seconds: up.seconds, before, with_all, per_session })
}

fn connect(folder: &Path, proxy: std::net::SocketAddr, workers: usize) -> Result<(Server, Up)> {
    let (proxy, workers) = (proxy.to_string(), workers.to_string());
    let platform = network::platform(folder);
    let options = ["--proxy", &proxy, "--platform", &platform.to_string_lossy(), "--count", &workers];
    let mut command = command(network::binary("cocoon-sim"), &[&["workers"], &options[..]].concat());
    let mut running = Server::start(process::WORKERS, &mut command, &folder.join("workers.log"))?;
    let up = serde_json::from_str(&running.first_line()?).context("the workers' log tells")?;
    Ok((running, up))
}

/// One line.
pub(super) fn print_table(sessions: &Sessions) {
    let Sessions { workers, seconds, before, with_all, per_session } = sessions;
    print("\nworkers at one proxy  connected within s  before MiB  with all MiB  KiB a session");
    print(&format!(
        "{workers:>20}  {seconds:>18.0}  {:>10.1}  {:>12.1}  {:>13.1}\n",
        super::mib(*before),
        super::mib(*with_all),
        per_session / 1024.0
    ));
}

/// What was aimed at, and whether it was met.
pub(super) fn aim(sessions: &Sessions) -> Result<String> {
    let budget = budget::constant("cocoon-net", "IDLE_CONNECTION_BYTES")?;
    #[expect(clippy::cast_precision_loss, reason = "a budget is some KiB")]
    let verdict = if sessions.per_session <= budget as f64 { "met" } else { "missed" };
    let kib = sessions.per_session / 1024.0;
    Ok(format!("an idle worker takes {kib:.1} KiB of the proxy (budget: {}), {verdict}", budget >> 10))
}
