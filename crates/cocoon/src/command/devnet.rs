//! `cocoon devnet`: a TON network on this machine, for wallets, tests and tools that speak toncenter v2.
//!
//! 1. The port is taken first, then the data folder is locked: a clash of either is told before anything runs.
//! 2. The network makes blocks by itself (`--block-ms`), or only when told to (`--manual`, `POST /dev/tick`).
//! 3. Ctrl-C stops it. What it acknowledged is in the data folder by then; a kill loses none of it either.
//!
//! What it is not: the devnet inside `cocoon up`, which has a folder of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cocoon_ton::chain::{Chain as _, Head};
use cocoon_ton::devnet::{Devnet, Options, http};
use tokio_util::sync::CancellationToken;

use crate::{environment, runtime, terminal, wiring};

/// Where the network is if nothing else is asked for: the port of toncenter's own server.
const PORT: u16 = 8081;

/// One for connections, one for what computes between two answers; blocks are made on threads of their own.
const THREADS: usize = 2;

/// Run a TON network on this machine: real contracts, play money, toncenter v2 over HTTP
///
/// Listens on loopback only, for programs of this machine and for no web page. Prices, limits and the machine are
/// those of the main network. Transactions that it acknowledged survive a kill at any moment.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon devnet                                    keeps everything under the data folder
  cocoon devnet --data-dir /tmp/ton --port 8082    a second network beside it
  cocoon devnet --manual                           blocks only on POST /dev/tick, for tests")]
pub(crate) struct Args {
    /// Folder of the network; it is created, and goes on from where it was [default: $XDG_DATA_HOME/cocoon/devnet or ~/.local/share/cocoon/devnet]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = PORT)]
    port: u16,

    /// Milliseconds between blocks
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..=60_000), conflicts_with = "manual")]
    block_ms: u64,

    /// Make blocks only when told to: POST /dev/tick
    #[arg(long)]
    manual: bool,
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = runtime::build(THREADS)?;
    let outcome = runtime.block_on(serve(args));
    // A block that is being made reaches the disk or leaves no trace; nobody has to wait for it.
    runtime.shutdown_background();
    outcome
}

async fn serve(args: &Args) -> Result<()> {
    let listener = wiring::bind_http(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port), "--port")?;
    let folder = std::path::absolute(args.data_dir.clone().map_or_else(default_folder, Ok)?)?;
    let options = Options {
        clock: Some(wiring::clock()),
        auto_tick: (!args.manual).then_some(Duration::from_millis(args.block_ms)),
        ..Options::default()
    };
    let devnet = Devnet::open(&folder, &options)
        .with_context(|| format!("cannot open the devnet in {} (--data-dir)", folder.display()))?;
    let head = devnet.head().await?.for_display();
    terminal::line(&announcement(listener.local_addr()?, &folder, head, args));
    let stop = CancellationToken::new();
    tokio::select! {
        outcome = http::serve(listener, devnet, stop.clone()) => outcome.context("cannot serve the devnet"),
        () = runtime::stop_on_signal(stop.clone()) => Ok(()),
    }
}

fn default_folder() -> Result<PathBuf> {
    Ok(environment::data_dir()?.join("devnet"))
}

/// Where it is, what it is, and how to try it.
fn announcement(address: SocketAddr, folder: &Path, head: Head, args: &Args) -> String {
    let blocks = if args.manual {
        "only on POST /dev/tick".to_owned()
    } else {
        format!("every {} ms while there is work", args.block_ms)
    };
    let rows = [
        ["toncenter v2".to_owned(), format!("http://{address}/api/v2/jsonRPC")],
        ["data folder".to_owned(), folder.display().to_string()],
        ["newest block".to_owned(), head.seqno.to_string()],
        ["blocks".to_owned(), blocks],
    ];
    format!(
        "a TON network for development is up; its money is play money\n\n{}\n\n\
         try it\n  \
         cocoon wallet faucet 10 --chain http://{address}\n  \
         curl http://{address}/dev/status\n  \
         curl http://{address}/dev/faucet -d '{{\"address\": \"UQ…\", \"amount\": \"10\"}}'\n  \
         new TonClient({{ endpoint: \"http://{address}/api/v2/jsonRPC\" }})    in JavaScript, with @ton/ton\n  \
         curl http://{address}/                 what else it answers\n",
        terminal::table(&rows.map(Vec::from)),
    )
}
