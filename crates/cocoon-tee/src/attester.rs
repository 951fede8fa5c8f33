//! Evidence of this machine: the CPU's, its GPUs', its boot's event log, the manifest of its image.
//!
//! | platform | through | since |
//! |---|---|---|
//! | Intel TDX | [`ConfigfsTsm`], provider `tdx_guest` | Linux 6.7 |
//! | AMD SEV-SNP | [`ConfigfsTsm`], provider `sev_guest` | Linux 6.7 |
//! | AMD SEV-SNP | [`SevGuest`], the device itself | Linux 5.19 |
//! | NVIDIA GPUs | [`Nvml`] | driver 535 |
//!
//! [`detect`] chooses. Nothing is retried without a bound, and everything that waits for a device does so on a thread
//! of its own. What is produced is not judged: a machine cannot vouch for itself.

mod certificate_table;
mod configfs_tsm;
mod event_log;
mod nvml;
mod sev_guest;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::{Attester, Evidence, EvidenceError, Format, GpuEvidence};
use tokio::sync::Semaphore;

pub use configfs_tsm::ConfigfsTsm;
pub use nvml::{GpuMode, Nvml};
pub use sev_guest::SevGuest;

/// Where this machine's interfaces are. The defaults are Linux's; tests and simulated platforms give others.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The report folder of configfs-tsm.
    pub tsm: PathBuf,
    /// The SEV guest device.
    pub sev_guest: PathBuf,
    /// The CCEL table's data: the event log of the boot.
    pub event_log: PathBuf,
    /// Events that the image itself wrote to RTMR3 after the boot, in the same format and without a header.
    pub runtime_event_log: Option<PathBuf>,
    /// NVIDIA's management library, by name or path.
    pub nvml: OsString,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            tsm: "/sys/kernel/config/tsm/report".into(),
            sev_guest: "/dev/sev-guest".into(),
            event_log: "/sys/firmware/acpi/tables/data/CCEL".into(),
            runtime_event_log: None,
            nvml: "libnvidia-ml.so.1".into(),
        }
    }
}

/// Which platform to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TeeChoice {
    /// The one that is there.
    #[default]
    Auto,
    /// Intel TDX, or fail.
    Tdx,
    /// AMD SEV-SNP, or fail.
    SevSnp,
}

impl TeeChoice {
    /// The choice of a name: `auto`, `tdx`, `sev-snp`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Tdx, Self::SevSnp].into_iter().find(|choice| choice.name() == name)
    }

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tdx => Format::Tdx.name(),
            Self::SevSnp => Format::SevSnp.name(),
        }
    }

    fn allows(self, format: Format) -> bool {
        match self {
            Self::Auto => true,
            Self::Tdx => format == Format::Tdx,
            Self::SevSnp => format == Format::SevSnp,
        }
    }
}

/// Finds this machine's platform and GPUs. Blocks for some milliseconds.
///
/// # Errors
/// [`EvidenceError::NotATee`] when there is no platform of the wanted kind, with what was looked for.
pub fn detect(
    machine: &Machine,
    choice: TeeChoice,
    manifest: Option<Vec<u8>>,
) -> Result<MachineAttester, EvidenceError> {
    let platform = detect_platform(machine, choice)?;
    let gpus = Nvml::load(&machine.nvml)?.map(Arc::new);
    let event_log = (platform.format() == Format::Tdx)
        .then(|| event_log::EventLogFiles::new(machine.event_log.clone(), machine.runtime_event_log.clone()));
    Ok(MachineAttester { platform, cpu: Device::new(), gpu: Device::new(), event_log, manifest, gpus })
}

fn detect_platform(machine: &Machine, choice: TeeChoice) -> Result<Platform, EvidenceError> {
    let mut missing = Vec::new();
    let found = [
        ConfigfsTsm::open(&machine.tsm).map(Platform::Tsm),
        SevGuest::open(&machine.sev_guest).map(Platform::SevGuest),
    ];
    for platform in found {
        match platform {
            Ok(platform) if choice.allows(platform.format()) => return Ok(platform),
            Ok(platform) => missing.push(format!("there is {}, which was not asked for", platform.format().name())),
            Err(EvidenceError::NotATee(why)) => missing.push(why),
            // There and broken is not the same as absent: say so instead of looking further.
            Err(error) => return Err(error),
        }
    }
    Err(EvidenceError::NotATee(missing.join("; ")))
}

/// The CPU's side.
#[derive(Debug, Clone)]
enum Platform {
    Tsm(ConfigfsTsm),
    SevGuest(SevGuest),
}

impl Platform {
    const fn format(&self) -> Format {
        match self {
            Self::Tsm(tsm) => tsm.format(),
            Self::SevGuest(_) => Format::SevSnp,
        }
    }

    /// Blocks while the platform signs: up to a second.
    fn evidence(&self, report_data: [u8; 64]) -> Result<PlatformEvidence, EvidenceError> {
        let evidence = match self {
            Self::Tsm(tsm) => tsm.evidence(report_data)?,
            Self::SevGuest(device) => device.evidence(report_data)?,
        };
        check_is_ours(&evidence, report_data)?;
        Ok(evidence)
    }
}

/// Evidence for another report data would be refused by every peer; better to say here that the platform mixed it up.
fn check_is_ours(evidence: &PlatformEvidence, report_data: [u8; 64]) -> Result<(), EvidenceError> {
    let bytes = match evidence {
        PlatformEvidence::Tdx { quote } | PlatformEvidence::Sgx { quote } => quote,
        PlatformEvidence::SevSnp { report, .. } => report,
        _ => return Ok(()),
    };
    if bytes.windows(report_data.len()).any(|window| window == report_data) {
        return Ok(());
    }
    Err(EvidenceError::Platform("it answered with evidence for other report data".into()))
}

/// A device that is asked on a blocking thread, one question at a time. Whoever stops waiting cannot take the thread back
/// from a device that hangs; so the turn ends with the question, and a hung device costs one thread, not all of them.
#[derive(Debug)]
struct Device(Arc<Semaphore>);

impl Device {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// What the device answers; `None` when the runtime is stopping.
    async fn ask<T: Send + 'static>(&self, question: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let turn = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let work = move || {
            let _turn = turn;
            question()
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// The attester of this machine.
#[derive(Debug)]
pub struct MachineAttester {
    platform: Platform,
    cpu: Device,
    gpu: Device,
    event_log: Option<event_log::EventLogFiles>,
    manifest: Option<Vec<u8>>,
    gpus: Option<Arc<Nvml>>,
}

impl MachineAttester {
    /// The GPUs' library, where there is one.
    #[must_use]
    pub fn gpus(&self) -> Option<&Nvml> {
        self.gpus.as_deref()
    }
}

#[async_trait]
impl Attester for MachineAttester {
    fn format(&self) -> Format {
        self.platform.format()
    }

    async fn gpu_evidence(&self, nonce: [u8; 32]) -> Result<Vec<GpuEvidence>, EvidenceError> {
        let Some(nvml) = self.gpus.clone() else { return Ok(Vec::new()) };
        let asked = self.gpu.ask(move || nvml.evidence(nonce)).await;
        asked.unwrap_or_else(|| Err(EvidenceError::Gpu("the question was interrupted".into())))
    }

    async fn evidence(&self, report_data: [u8; 64]) -> Result<Evidence, EvidenceError> {
        let (platform, files) = (self.platform.clone(), self.event_log.clone());
        let work = move || {
            let platform = platform.evidence(report_data)?;
            let event_log = files.map(|files| files.read()).transpose()?;
            Ok((platform, event_log))
        };
        let interrupted = || Err(EvidenceError::Platform("the question was interrupted".into()));
        let (platform, event_log) = self.cpu.ask(work).await.unwrap_or_else(interrupted)?;
        Ok(Evidence { platform, event_log, manifest: self.manifest.clone(), gpus: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn callers_that_leave_a_hung_device_do_not_pile_up_threads() {
        let device = Device::new();
        let (asked, questions) = mpsc::sync_channel(9);
        let (let_go, hang) = mpsc::sync_channel::<()>(1);
        let first = asked.clone();
        let hung = device.ask(move || (first.send(()), hang.recv().is_ok()));
        assert!(timeout(Duration::from_millis(20), hung).await.is_err());
        for _ in 0..3 {
            let asked = asked.clone();
            assert!(timeout(Duration::from_millis(20), device.ask(move || asked.send(()))).await.is_err());
        }
        assert_eq!(questions.try_iter().count(), 1);
        let_go.send(()).unwrap();
        assert_eq!(device.ask(|| 7).await, Some(7));
    }
}
