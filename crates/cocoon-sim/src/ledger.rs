//! What counting money costs, measured inside one process: `cocoon-sim ledger`.
//!
//! 1. [`memory`]: reservations that are made and settled, with nothing written.
//! 2. [`disk`]: what the disk takes to make one page durable, with nothing of ours in between.
//! 3. [`durable`]: the same settlements written by a journal on that disk, as a proxy does it: one thread settles and
//!    hands over whatever has come together as soon as the other has written the batch before. Each settlement waits
//!    until it is on disk; how long is measured one by one.

mod disk;
mod durable;
mod memory;

use std::path::PathBuf;

use serde::Serialize;

/// How much to measure.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// Where the journal's file goes: the disk that is measured.
    pub folder: PathBuf,
    /// Settlements of each kind.
    pub settles: u32,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct LedgerReport {
    memory: Vec<InMemory>,
    sync: Sync,
    durable: Vec<Durable>,
}

/// Reservations and settlements without a disk.
#[derive(Debug, Serialize)]
pub(crate) struct InMemory {
    pub(crate) what: &'static str,
    pub(crate) pairs: u32,
    pub(crate) seconds: f64,
}

/// One page written and synced; microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Sync {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Reservations and settlements that a journal made durable.
#[derive(Debug, Serialize)]
pub(crate) struct Durable {
    pub(crate) what: &'static str,
    pub(crate) settles: u32,
    pub(crate) seconds: f64,
    pub(crate) batches: u32,
    /// Syncs that the journal asked the disk for, and what they took together.
    pub(crate) syncs: u64,
    pub(crate) sync_seconds: f64,
    pub(crate) written_bytes: u64,
    pub(crate) file_bytes: u64,
    /// From a settlement to its being on disk.
    pub(crate) wait_p50_us: f64,
    pub(crate) wait_p99_us: f64,
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + std::marker::Sync>;

/// Measures all of it.
///
/// # Errors
///
/// When the disk fails.
pub fn ledger(config: &LedgerConfig) -> std::io::Result<LedgerReport> {
    measure(config).map_err(std::io::Error::other)
}

fn measure(config: &LedgerConfig) -> Result<LedgerReport, Failure> {
    Ok(LedgerReport {
        memory: memory::measure(config.settles)?,
        sync: disk::sync(&config.folder)?,
        durable: durable::measure(&config.folder, config.settles)?,
    })
}

/// The value below which this share of the sorted values lies, or 0 if there are none.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or(0.0)
}
