//! `cargo xtask bench`: benchmarks, each with a strong peer in the same run.

mod process;
mod serve;

use anyhow::Result;

/// Which benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, clap::Subcommand)]
enum Which {
    /// The chain as three processes: CPU per request, added latency, throughput, stream delay
    Serve(serve::Args),
}

/// Runs one benchmark.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.which {
        Which::Serve(args) => serve::run(args),
    }
}
