//! What benchmarks of the chain run: the fake engine, client, proxy and worker as processes of the release build, and the
//! same three in a network where every request is paid for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::load::loaded;
use super::process::{self, Server, free_addr};
use crate::shell::{cargo, command, run, target};

/// The engine without anything before it.
pub(crate) const ALONE: &str = "engine alone";
/// The three roles with TLS and evidence of a simulated platform on both links.
pub(crate) const ATTESTED: &str = "cocoon, attested";
/// The three roles in plain.
pub(crate) const PLAIN: &str = "cocoon, plain";
/// The three roles attested, with receipts, and every request paid for on a devnet.
pub(crate) const PAID: &str = "cocoon, paid";

/// The model that the fake engine serves.
pub(crate) const MODEL: &str = "fake";
/// What the client proves itself with, and its SHA-256.
const SECRET: &str = "bench";
const SECRET_HASH: &str = "1b32c28cb38c05480eccc1bd60ff97029b57a05c96718b96dad7e9d84894f549";

/// Something that answers at an address, and the processes whose CPU it costs.
pub(crate) struct Route {
    pub(crate) name: &'static str,
    pub(crate) addr: SocketAddr,
    pub(crate) servers: Vec<Server>,
}

impl Route {
    /// The engine itself.
    pub(crate) const fn alone(engine: SocketAddr) -> Self {
        Self { name: ALONE, addr: engine, servers: Vec::new() }
    }

    /// User and system time of its processes so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.servers.iter().map(Server::cpu_seconds).sum()
    }

    /// What its processes hold in memory, in bytes, each by its name.
    pub(crate) fn resident_bytes(&self) -> Result<Vec<(&'static str, u64)>> {
        let of_each: Vec<_> = self.servers.iter().map(Server::resident_bytes).collect::<Result<_>>()?;
        Ok(of_each.into_iter().flatten().collect())
    }
}

/// Builds the programs that are measured.
pub(crate) fn build() -> Result<()> {
    run(&mut cargo(&["build", "--locked", "--release", "-p", "cocoon", "-p", "cocoon-sim"]))
}

/// A program of the release build.
pub(crate) fn binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// Starts the fake engine.
pub(crate) fn engine(folder: &Path, options: &[&str]) -> Result<(Server, SocketAddr)> {
    let arguments = [&["engine", "--fast"], options].concat();
    let mut command = command(binary("cocoon-sim"), &arguments);
    let mut server = Server::start(process::ENGINE, command.stdout(Stdio::piped()), &folder.join("engine.log"))?;
    let addr = server.first_line()?.parse().context("the engine did not print its address")?;
    Ok((server, addr))
}

/// Client, proxy and worker as three processes, with room for this many requests at once.
pub(crate) fn chain(folder: &Path, engine: SocketAddr, name: &'static str, requests: usize) -> Result<Route> {
    let (http, clients, workers) = (free_addr()?, free_addr()?, free_addr()?);
    let links = links(folder, name);
    let folder = folder.join(if name == ATTESTED { "attested" } else { "plain" });
    let start = |role, config: String| start(&folder, role, config + &links);
    let proxy = format!(
        "[listen]\nclients = \"{clients}\"\nworkers = \"{workers}\"\n[proxy]\nis_test = true\nclient_in_flight_max = {requests}\nclient_secret_hash = \"{SECRET_HASH}\"\n"
    );
    let mut proxy = start("proxy", proxy)?;
    proxy.wait_listening(workers)?;
    let worker = format!(
        "proxies = [\"{workers}\"]\n[engine]\nkind = \"openai-http\"\nurl = \"http://{engine}\"\n[worker]\nis_test = true\nmodel = \"{MODEL}\"\nmax_active_requests = {requests}\n"
    );
    let worker = start("worker", worker)?;
    let client = format!(
        "proxies = [\"{clients}\"]\n[client]\nlisten = \"{http}\"\nis_test = true\nauth_secret = \"{SECRET}\"\n[client.limits]\nconnections = {requests}\nrequests = {requests}\n"
    );
    let mut client = start("client", client)?;
    client.wait_listening(http)?;
    client.wait_until(|| loaded(http, 1, 0.05, false).is_ok_and(|load| load.completed > 0), "the chain to answer")?;
    Ok(Route { name, addr: http, servers: vec![client, proxy, worker] })
}

/// A proxy alone, attested, with room for this many connections, and where it listens for workers.
pub(crate) fn proxy(folder: &Path, connections: usize) -> Result<(Server, SocketAddr)> {
    let (clients, workers) = (free_addr()?, free_addr()?);
    let config = format!(
        "[listen]\nclients = \"{clients}\"\nworkers = \"{workers}\"\nconnections = {connections}\n[proxy]\nis_test = true\n"
    );
    let mut proxy = start(&folder.join("alone"), "proxy", config + &links(folder, ATTESTED))?;
    proxy.wait_listening(workers)?;
    Ok((proxy, workers))
}

/// The folder of the simulated platform of attested chains.
pub(crate) fn platform(folder: &Path) -> PathBuf {
    folder.join("simulated-tee")
}

/// How the links of a chain are protected, for its configuration files.
fn links(folder: &Path, name: &str) -> String {
    if name == ATTESTED {
        format!("[attestation]\ninsecure_simulated_tee = \"{}\"\n", platform(folder).display())
    } else {
        "[attestation]\ninsecure_plain_loopback = true\n".to_owned()
    }
}

fn start(folder: &Path, role: &'static str, config: String) -> Result<Server> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join(format!("{role}.toml"));
    std::fs::write(&file, config)?;
    let mut command = command(binary("cocoon"), &[role, "--config", &file.to_string_lossy()]);
    Server::start(role, &mut command, &folder.join(format!("{role}.log")))
}

/// The same three, attested, with receipts, and every request paid for on a devnet.
pub(crate) fn paid(folder: &Path, engine: SocketAddr, requests: usize) -> Result<Route> {
    let folder = folder.join("paid");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let (cocoon, place, engine) = (binary("cocoon"), folder.to_string_lossy(), engine.to_string());
    let (cocoon, requests) = (cocoon.to_string_lossy(), requests.to_string());
    let mut arguments = vec!["paid", "--cocoon", &cocoon, "--folder", &place, "--engine", &engine, "--model", MODEL];
    arguments.extend(["--requests", &requests]);
    let mut command = command(binary("cocoon-sim"), &arguments);
    let mut network = Server::start(process::PAID, &mut command, &folder.join("paid.log"))?;
    let Paid { api, processes } =
        serde_json::from_str(&network.first_line()?).context("the paid network's log tells")?;
    network.measures(["proxy", "worker", "client"].into_iter().zip(processes).collect());
    Ok(Route { name: PAID, addr: api, servers: vec![network] })
}

/// What a paid network says of itself: where it answers, and its proxy's, worker's and client's processes.
#[derive(Debug, Deserialize)]
struct Paid {
    api: SocketAddr,
    processes: Vec<u32>,
}
