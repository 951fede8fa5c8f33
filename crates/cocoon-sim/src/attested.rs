//! What attested links cost, measured inside one process over loopback TCP: `cocoon-sim attest`.
//!
//! 1. [`handshakes`]: from `connect` to an open connection, for each kind of link, beside plain mutual TLS 1.3 of the
//!    same library. Kinds take turns within each round, so that drift of the machine falls on all of them.
//! 2. [`appraisal`]: verifying one quote as the verifier does, beside the bare library call that it rests on.
//! 3. [`crowd`]: many handshakes at once, and the memory that they need.
//!
//! CPU is what the kernel says the threads of this process ran, both ends of a link together. Quotes come from the
//! simulated platform in a millisecond; a real one takes 50 ms to a second, which strict mode adds to each handshake.

mod appraisal;
mod crowd;
mod handshakes;
mod plain;
mod stage;

use serde::Serialize;

pub(crate) use stage::{MODEL, Stage, connect};

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct AttestConfig {
    /// Rounds; each measures every kind of link.
    pub rounds: usize,
    /// Handshakes of each kind in a round.
    pub handshakes: usize,
    /// Handshakes at once in the crowd.
    pub crowd: usize,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct AttestReport {
    handshakes: Vec<HandshakeCost>,
    appraisals: Vec<AppraisalCost>,
    crowds: Vec<CrowdCost>,
}

/// One kind of link; the medians, in microseconds, of the rounds' means.
#[derive(Debug, Serialize)]
pub(crate) struct HandshakeCost {
    pub(crate) link: &'static str,
    pub(crate) cpu_us: f64,
    pub(crate) wall_us: f64,
}

/// One kind of evidence; medians in microseconds of CPU.
#[derive(Debug, Serialize)]
pub(crate) struct AppraisalCost {
    pub(crate) evidence: &'static str,
    pub(crate) bare_us: f64,
    pub(crate) ours_us: f64,
}

/// Many handshakes at once.
#[derive(Debug, Serialize)]
pub(crate) struct CrowdCost {
    pub(crate) link: &'static str,
    pub(crate) handshakes: usize,
    pub(crate) open: usize,
    pub(crate) seconds: f64,
    /// Growth of resident memory at its peak, both ends together.
    pub(crate) peak_kib: u64,
}

/// Why a benchmark did not end.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures everything.
///
/// # Errors
/// When a handshake fails that should not, or the kernel keeps no accounts.
pub async fn attest(config: AttestConfig) -> std::io::Result<AttestReport> {
    measure(config).await.map_err(std::io::Error::other)
}

async fn measure(config: AttestConfig) -> Result<AttestReport, Failure> {
    let stage = Stage::new()?;
    Ok(AttestReport {
        handshakes: handshakes::measure(&stage, config).await?,
        appraisals: appraisal::measure(&stage, config).await?,
        crowds: crowd::measure(&stage, config).await?,
    })
}

/// CPU time of this process so far, in microseconds: nanoseconds on a CPU, summed over its threads.
pub(crate) fn cpu_us() -> Result<f64, Failure> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        // A thread may end between the listing and the reading.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanoseconds / 1e3)
}

pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
