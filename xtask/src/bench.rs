//! `cargo xtask bench`: benchmarks, each with a strong peer in the same run.

mod attest;
mod chain;
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
    /// Attested links: handshakes beside plain mutual TLS, appraisal beside the bare library, a crowd at once
    Attest(attest::Args),
    /// The embedded devnet: transactions per second, memory of accounts, a refresh of the root
    Chain(chain::Args),
    /// The three roles as processes: CPU per request, added latency, throughput, stream delay
    Serve(serve::Args),
}

/// Runs one benchmark.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.which {
        Which::Attest(args) => attest::run(args),
        Which::Chain(args) => chain::run(args),
        Which::Serve(args) => serve::run(args),
    }
}
