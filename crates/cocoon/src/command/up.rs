//! `cocoon up`: the whole network in one process, for trying it and for developing against it.
//!
//! 1. The port is taken first: a clash is told before anything is fetched.
//! 2. The engine: one that is already running (`--engine`), or a small model in this process.
//! 3. The ground: a TON devnet in the data folder, with the network's contracts on it, which answers over HTTP.
//! 4. Proxies, workers and client start as tasks and talk over real loopback TCP, with the network's own protocol. A
//!    simulated TEE attests them to each other; which images and models they accept, and at what price, the root
//!    contract says.
//! 5. Once the client sees the workers, a table says what runs, and what is not protected yet; an engine that lets it
//!    wait is named.
//! 6. Ctrl-C drains: the client takes nothing new and finishes what runs, then the workers, then the proxies.

mod engine;
mod ground;
mod network;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use cocoon_worker::EngineState;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::model::SourceArgs;
use crate::attestation::PROVES_NOTHING;
use crate::attestation::simulated::Simulated;
use crate::{environment, limits, runtime, terminal, wiring};
use engine::Chosen;
use ground::{Costs, Ground};
use network::{Network, Size, View};

/// Where the OpenAI endpoint is if nothing else is asked for; `chat` looks for it there.
pub(super) const PORT: u16 = 10_000;

/// Run the whole network on this machine: client, proxy, worker and a small model
///
/// Everything listens on loopback only, and the roles prove what they run to each other with a simulated TEE, which
/// proves nothing about this machine. The network's contracts run on a TON devnet of its own, with play money; `cocoon
/// root show` and `cocoon contract show` look at them. The first start fetches a model of 98 MB,
/// and one of 91 MB for embeddings while it already answers.
/// Ctrl-C stops: running answers may finish first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon up                                   with the small default model
  cocoon up --proxies 2 --workers 4           with two proxies, each in front of all workers
  cocoon up --engine http://127.0.0.1:8000    with vLLM, SGLang, llama.cpp or Ollama that already runs
  cocoon up --model-file my-model.gguf        with a llama-architecture model of your own")]
pub(crate) struct Args {
    /// Port of the OpenAI endpoint on 127.0.0.1; 0 takes a free one
    #[arg(long, env = "COCOON_PORT", default_value_t = PORT)]
    port: u16,

    /// How many proxies to start; each has a contract of its own, every worker connects to all, and the client spreads requests
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(limits::UP_PROXIES_MAX)))]
    proxies: u16,

    /// How many workers to start; with the embedded engine they share one model
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(limits::UP_WORKERS_MAX)))]
    workers: u16,

    /// Use an OpenAI-compatible engine that already runs, instead of the embedded one
    #[arg(long, value_name = "URL", conflicts_with_all = ["model", "model_file"])]
    engine: Option<String>,

    /// Model for the embedded engine; see `cocoon model list`
    #[arg(long, value_name = "NAME", default_value = crate::model::catalogue::DEFAULT.name)]
    model: String,

    /// A .gguf file for the embedded engine, instead of a known model
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    model_file: Option<PathBuf>,

    /// Folder for models, the simulated TEE, and the devnet with its wallets [default: $XDG_DATA_HOME/cocoon or ~/.local/share/cocoon]
    #[arg(long, env = "COCOON_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    #[command(flatten)]
    sources: SourceArgs,
}

/// Carries the command out.
pub(crate) fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    // One thread moves all the bytes; the embedded engine computes on threads of its own.
    let runtime = runtime::build(1)?;
    let listener = {
        let _entered = runtime.enter();
        wiring::bind_http(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port), "--port")?
    };
    let folder = std::path::absolute(args.data_dir.clone().map_or_else(environment::data_dir, Ok)?)?;
    let engine = engine::choose(&args)?;
    let size = Size { proxies: args.proxies, workers: args.workers };
    let outcome = runtime.block_on(async {
        let ground = Ground::open(&folder).await?;
        let simulated = Simulated::open_at(&folder.join(ground::SIMULATED), ground.clock())?;
        let mut network = Network::start(listener, &engine, size, &simulated, ground).await?;
        let stop = CancellationToken::new();
        tokio::select! {
            outcome = serve(&mut network, &engine, started, stop.clone()) => outcome,
            () = runtime::stop_on_signal(stop.clone()) => Ok(()),
        }
    });
    // Blocking work that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn serve(
    Network { view, tasks }: &mut Network,
    engine: &Chosen,
    started: Instant,
    stop: CancellationToken,
) -> Result<()> {
    tokio::select! {
        never = tell(view, engine, started) => match never {},
        () = stop.cancelled() => tasks.drain().await,
        failure = tasks.failure() => Err(failure),
    }
}

/// Says what there is to say while the network runs.
async fn tell(view: &View, engine: &Chosen, started: Instant) -> Infallible {
    if timeout(limits::PATIENCE, view.ready()).await.is_err() {
        if let Some(why) = wiring::engine_trouble(engine.engine.as_ref()).await {
            terminal::note(&format!("waiting for the engine at {}: {why}", engine.shown()));
        }
        let _ = timeout(limits::UP_READY_TIMEOUT, view.ready()).await;
    }
    let is_ready = view.is_ready();
    // Only a network that serves has all its contracts.
    let costs = if is_ready { view.chain.costs().await.ok() } else { None };
    terminal::line(&announcement(view, engine, started, costs.as_ref()));
    if !is_ready {
        view.ready().await;
        terminal::line(&format!("ready\n{}", invitation(view)));
    }
    std::future::pending().await
}

/// What runs, how to try it, what is not there yet.
fn announcement(network: &View, engine: &Chosen, started: Instant, costs: Option<&Costs>) -> String {
    let mut text = format!(
        "cocoon {} is up after {:.1} s\n\n{}\n\n",
        env!("CARGO_PKG_VERSION"),
        started.elapsed().as_secs_f64(),
        terminal::table(&rows(network, engine)),
    );
    if network.is_ready() {
        let _ = writeln!(text, "{}", invitation(network));
    }
    let _ = write!(
        text,
        "attested by a {PROVES_NOTHING}\n  \
         policy: {policy}\n  \
         try: cocoon attest peer {proxy} --policy {policy}\n\n\
         on a devnet at {chain}\n  \
         root: {root}\n  \
         try: cocoon root show{folder}\n  \
         try: cocoon contract show{folder} {contract}\n\n\
         {costs}money: play money of the devnet, with real contracts\n  \
         paid by: {payer}\n  \
         try: cocoon client status --config {client_config}\n  \
         try: cocoon worker earnings --config {worker_config}",
        policy = network.client_policy.display(),
        proxy = network.proxies.first().map(ToString::to_string).unwrap_or_default(),
        folder = folder_option(&network.client_policy),
        chain = network.chain.url,
        root = network.chain.root.friendly(true, true),
        contract = network.chain.contract().friendly(true, true),
        costs = costs.map(|costs| format!("{}\n\n", costs.words())).unwrap_or_default(),
        payer = network.chain.payer.friendly(false, true),
        client_config = network.client_config.display(),
        worker_config = network.worker_config.display(),
    );
    if let Some(remark) = engine.remark() {
        let _ = write!(text, "\n  model: {remark}");
    }
    text
}

/// What other commands need to find this network: nothing, where the folder is the one they look into anyway.
fn folder_option(policy: &Path) -> String {
    let folder = policy.parent().and_then(Path::parent).unwrap_or(policy);
    match environment::data_dir() {
        Ok(default) if default == folder => String::new(),
        Ok(_) | Err(_) => format!(" --data-dir {}", folder.display()),
    }
}

/// How to try it; only true once there is a model.
fn invitation(network: &View) -> String {
    let url = network.url();
    let model = network.model().unwrap_or_default();
    let address = if network.api.port() == PORT { String::new() } else { format!(" --url {url}") };
    format!(
        "try it\n  \
         cocoon chat{address} \"What is the capital of France?\"\n  \
         curl {url}/chat/completions -H 'content-type: application/json' -d '{{\"model\": \"{model}\", \
         \"temperature\": 0, \"messages\": [{{\"role\": \"system\", \"content\": \"You are a helpful assistant.\"}}, \
         {{\"role\": \"user\", \"content\": \"What is the capital of France?\"}}]}}'\n"
    )
}

fn rows(network: &View, engine: &Chosen) -> Vec<Vec<String>> {
    let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
    let ready = if network.is_ready() { "ready" } else { "waits for a worker" };
    let mut rows = vec![row(["role", "address", "model", "state"]), row(["client", &network.url(), "-", ready])];
    for proxy in &network.proxies {
        rows.push(row(["proxy", &proxy.to_string(), "-", "ready"]));
    }
    for worker in network.workers.iter().chain(&network.embeddings) {
        let status = worker.status();
        let model = status.model.unwrap_or_else(|| "-".to_owned());
        let state = match status.engine {
            EngineState::Ready => "ready",
            EngineState::Loading => "waits for the engine",
            EngineState::Failed => "engine does not answer",
        };
        rows.push(row(["worker", engine.shown(), &model, state]));
    }
    rows
}
