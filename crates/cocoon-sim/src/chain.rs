//! What the embedded devnet costs, measured inside one process: `cocoon-sim chain`.
//!
//! 1. [`throughput`]: signed charges of many clients at once, through the bare engine, a devnet in memory, and one whose
//!    file is made durable. A charge is a message of a puppet, the client's contract, the proxy's contract, a log entry
//!    and the change: five transactions, of which two run contracts of this project.
//! 2. [`memory`]: what an account takes, with worker contracts that were each deployed by a message.
//! 3. [`refresh`]: what a node does every half minute: fetch the root and parse it.

mod memory;
mod refresh;
mod stage;
mod throughput;

use serde::Serialize;

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct ChainConfig {
    /// Charges, in each of the three ways.
    pub charges: u32,
    /// Accounts to deploy.
    pub accounts: u32,
    /// Refreshes of the root.
    pub refreshes: u32,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct ChainReport {
    throughput: Vec<Throughput>,
    memory: Memory,
    refresh: Refresh,
}

/// One way to run the network.
#[derive(Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) network: &'static str,
    pub(crate) transactions: u64,
    /// Accepting messages and making blocks.
    pub(crate) seconds: f64,
    /// Making blocks alone.
    pub(crate) block_seconds: f64,
}

/// What accounts take.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) accounts: u32,
    /// Of memory, the database's cache among it, which is bounded.
    pub(crate) kib: u64,
    /// Of the file, with their transactions.
    pub(crate) file_kib: u64,
}

/// What following the root takes; medians in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Refresh {
    pub(crate) proxies: u32,
    pub(crate) hashes: u32,
    pub(crate) cells: u64,
    /// From a devnet in this process.
    pub(crate) local_us: f64,
    /// From bytes, as a server sends them.
    pub(crate) decoded_us: f64,
}

/// Measures all of it.
///
/// # Errors
///
/// When the devnet fails, which it does not.
pub async fn chain(config: ChainConfig) -> std::io::Result<ChainReport> {
    let measured = async {
        Ok::<_, Failure>(ChainReport {
            throughput: throughput::measure(config.charges).await?,
            memory: memory::measure(config.accounts).await?,
            refresh: refresh::measure(config.refreshes).await?,
        })
    };
    measured.await.map_err(std::io::Error::other)
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
