//! `cargo xtask bench chain`: what the embedded devnet does, all in one run of `cocoon-sim chain` (its source says what is
//! measured and how).

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::network::binary;
use crate::shell::{cargo, command, output, print, root, run as run_command};

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Charges, in each of the three ways; each is five transactions
    #[arg(long, default_value_t = 20_000)]
    charges: u32,
    /// Accounts to deploy
    #[arg(long, default_value_t = 20_000)]
    accounts: u32,
    /// Refreshes of the root
    #[arg(long, default_value_t = 1_000)]
    refreshes: u32,
}

/// Transactions per second of the engine.
const THROUGHPUT_AIM: f64 = 5_000.0;

#[derive(Debug, Deserialize, Serialize)]
struct Report {
    throughput: Vec<Throughput>,
    memory: Memory,
    refresh: Refresh,
}

#[derive(Debug, Deserialize, Serialize)]
struct Throughput {
    network: String,
    transactions: f64,
    seconds: f64,
    block_seconds: f64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Memory {
    accounts: u64,
    kib: u64,
    file_kib: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Refresh {
    proxies: u32,
    hashes: u32,
    cells: u64,
    local_us: f64,
    decoded_us: f64,
}

/// Builds, measures, prints and writes `target/bench/chain.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    run_command(&mut cargo(&["build", "--locked", "--release", "-p", "cocoon-sim"]))?;
    let [charges, accounts, refreshes] = [args.charges, args.accounts, args.refreshes].map(|number| number.to_string());
    let arguments = ["chain", "--charges", &charges, "--accounts", &accounts, "--refreshes", &refreshes];
    let report: Report = serde_json::from_str(&output(&mut command(binary("cocoon-sim"), &arguments))?)?;
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("chain.json"), serde_json::to_string_pretty(&report)?)?;
    show(&report)
}

fn show(report: &Report) -> Result<()> {
    print("\ncharges through          transactions   accepted and run /s   run in blocks /s");
    for Throughput { network, transactions, seconds, block_seconds } in &report.throughput {
        let (all, blocks) = (transactions / seconds, transactions / block_seconds);
        print(&format!("{network:<22} {transactions:>14} {all:>21.0} {blocks:>18.0}"));
    }
    let Memory { accounts, kib, file_kib } = &report.memory;
    let per_100_000 = |kib: &u64| kib * 100_000 / accounts.max(&1) / 1024;
    let (memory, file) = (per_100_000(kib), per_100_000(file_kib));
    print(&format!("\n100,000 contracts: {memory} MiB of memory, {file} MiB of file ({accounts} measured)"));
    let Refresh { proxies, hashes, cells, local_us, decoded_us } = &report.refresh;
    print(&format!(
        "refresh of a root of {proxies} proxies and {hashes} hashes, {cells} cells: {local_us:.0} µs in this process, {decoded_us:.0} µs from bytes"
    ));
    let best = report.throughput.first().map_or(0.0, |row| row.transactions / row.block_seconds);
    print(&format!("{best:.0} transactions a second (aim: at least {THROUGHPUT_AIM})"));
    ensure!(best >= THROUGHPUT_AIM, "the aim is missed");
    Ok(())
}
