//! `cargo xtask bench ledger`: what counting money costs, beside the disk's own sync, all in one run of
//! `cocoon-sim ledger` (its source says what is measured and how).

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::network::binary;
use crate::shell::{cargo, command, output, print, root, run as run_command};

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Settlements of each kind
    #[arg(long, default_value_t = 500_000)]
    settles: u32,
}

/// Settlements that are made durable in a second.
const DURABLE_AIM: f64 = 50_000.0;
/// Settlements that one sync makes durable, when they come as fast as they go.
const GROUP_AIM: f64 = 50.0;
/// What `cocoon-sim` calls the settlements of a proxy.
const WITH_RECEIPT: &str = "with id and receipt";

#[derive(Debug, Deserialize, Serialize)]
struct Report {
    memory: Vec<InMemory>,
    sync: Sync,
    durable: Vec<Durable>,
}

#[derive(Debug, Deserialize, Serialize)]
struct InMemory {
    what: String,
    pairs: u32,
    seconds: f64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Sync {
    p50_us: f64,
    p99_us: f64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Durable {
    what: String,
    settles: u32,
    seconds: f64,
    batches: u32,
    syncs: u32,
    sync_seconds: f64,
    written_bytes: u64,
    file_bytes: u64,
    wait_p50_us: f64,
    wait_p99_us: f64,
}

impl Durable {
    fn per_second(&self) -> f64 {
        f64::from(self.settles) / self.seconds
    }

    fn per_sync(&self) -> f64 {
        f64::from(self.settles) / f64::from(self.syncs)
    }
}

/// Builds, measures, prints and writes `target/bench/ledger.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    run_command(&mut cargo(&["build", "--locked", "--release", "-p", "cocoon-sim"]))?;
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let (settles, disk) = (args.settles.to_string(), folder.to_string_lossy().into_owned());
    let arguments = ["ledger", "--folder", &disk, "--settles", &settles];
    let report: Report = serde_json::from_str(&output(&mut command(binary("cocoon-sim"), &arguments))?)?;
    std::fs::write(folder.join("ledger.json"), serde_json::to_string_pretty(&report)?)?;
    show(&report)
}

fn show(report: &Report) -> Result<()> {
    print("\nin memory                          pairs   pairs / s");
    for InMemory { what, pairs, seconds } in &report.memory {
        print(&format!("{what:<30} {pairs:>9} {:>11.0}", f64::from(*pairs) / seconds));
    }
    let Sync { p50_us, p99_us } = report.sync;
    print(&format!("\none page written and synced: {:.2} ms, p99 {:.2} ms", p50_us / 1e3, p99_us / 1e3));
    print(
        "\ndurable                          settles         /s   / sync   sync ms   wait p50 ms   p99 ms   B written   file MiB",
    );
    for row in &report.durable {
        let Durable { what, settles, syncs, sync_seconds, written_bytes, file_bytes, wait_p50_us, wait_p99_us, .. } =
            row;
        let bytes = written_bytes / u64::from(*settles).max(1);
        print(&format!(
            "{what:<30} {settles:>9} {:>10.0} {:>8.1} {:>9.2} {:>13.2} {:>8.2} {bytes:>11} {:>10}",
            row.per_second(),
            row.per_sync(),
            sync_seconds / f64::from(*syncs) * 1e3,
            wait_p50_us / 1e3,
            wait_p99_us / 1e3,
            file_bytes >> 20,
        ));
    }
    // The aims are judged by what a proxy does: an id and a receipt with each settlement.
    let real =
        report.durable.iter().find(|row| row.what == WITH_RECEIPT).context("nothing with receipts was measured")?;
    let (rate, group) = (real.per_second(), real.per_sync());
    print(&format!("\n{rate:.0} durable settlements a second (aim: at least {DURABLE_AIM})"));
    print(&format!("{group:.0} of them with one sync (aim: at least {GROUP_AIM})"));
    ensure!(rate >= DURABLE_AIM && group >= GROUP_AIM, "an aim is missed");
    Ok(())
}
