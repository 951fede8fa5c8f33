//! `cargo xtask bench`: benchmarks, each with a strong peer in the same run.

mod attest;
mod chain;
mod engine;
mod ledger;
mod load;
mod network;
mod process;
mod receipt;
mod scale;
mod serve;
mod stream;

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
    /// The embedded engine beside llama.cpp on the same file: prefill, decoding, four sequences at once
    Engine(engine::Args),
    /// The ledger: reservations and settlements in memory and durable, what the disk takes alone, how long one waits
    Ledger(ledger::Args),
    /// Receipts: making, signing and verifying one beside the bare signature, digests of bodies, bytes
    Receipt(receipt::Args),
    /// One node of each role at its limits: 10,000 streams at once, streams that nobody reads, thousands of workers
    Scale(scale::Args),
    /// The three roles as processes: CPU per request, added latency, throughput, stream delay
    Serve(serve::Args),
    /// How much later events of a stream arrive, by the number of streams, beside the engine alone and one plain hop
    Stream(stream::Args),
}

/// Runs one benchmark.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.which {
        Which::Attest(args) => attest::run(args),
        Which::Chain(args) => chain::run(args),
        Which::Engine(args) => engine::run(args),
        Which::Ledger(args) => ledger::run(args),
        Which::Receipt(args) => receipt::run(args),
        Which::Scale(args) => scale::run(args),
        Which::Serve(args) => serve::run(args),
        Which::Stream(args) => stream::run(args),
    }
}
