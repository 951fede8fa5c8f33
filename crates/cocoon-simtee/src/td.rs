//! A simulated TD: measured at boot, extended while it runs, and able to show quotes and local reports.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cocoon_attest::evidence::{Evidence, Format, GpuEvidence, PlatformEvidence};
use cocoon_attest::provider::{Attester, EvidenceError};

use crate::event_log::{EventKind, MeasuredLog, Rtmr};
use crate::faults::Faults;
use crate::gpu::SimGpus;
use crate::image::SimImage;
use crate::intel::quote::{self, QuoteVersion, TdReport};
use crate::limits::{EVENTS_MAX, GPUS_MAX};
use crate::platform::Inner;
use crate::td_report::{self, TD_REPORT_BYTES};

/// ATTRIBUTES.DEBUG.
const DEBUG: u64 = 1;
/// ATTRIBUTES.SEPT_VE_DISABLE.
const SEPT_VE_DISABLE: u64 = 1 << 28;
/// ATTRIBUTES.MIGRATABLE.
const MIGRATABLE: u64 = 1 << 29;
/// XFAM as hosts set it: x87, SSE, AVX, AVX-512, PKRU, AMX.
const XFAM: u64 = 0x0006_02e7;

/// How a TD is started.
#[derive(Debug, Clone)]
pub struct TdOptions {
    image: SimImage,
    quote: QuoteVersion,
    gpus: usize,
}

impl TdOptions {
    /// A TD that boots this image, shows quotes of version 4 and has no GPU.
    #[must_use]
    pub fn new(image: SimImage) -> Self {
        Self { image, quote: QuoteVersion::default(), gpus: 0 }
    }

    /// Shows quotes of this version.
    #[must_use]
    pub fn quote(mut self, version: QuoteVersion) -> Self {
        self.quote = version;
        self
    }

    /// Has so many GPUs, at most [`GPUS_MAX`].
    #[must_use]
    pub fn gpus(mut self, count: usize) -> Self {
        self.gpus = count.min(GPUS_MAX);
        self
    }
}

impl From<SimImage> for TdOptions {
    fn from(image: SimImage) -> Self {
        Self::new(image)
    }
}

/// A running TD. Clones are the same TD.
#[derive(Clone)]
pub struct SimTd {
    platform: Arc<Inner>,
    options: TdOptions,
    log: Arc<Mutex<MeasuredLog>>,
    gpus: SimGpus,
    manifest: Arc<[u8]>,
}

impl fmt::Debug for SimTd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTd")
            .field("image", &self.options.image.name())
            .field("gpus", &self.gpus.len())
            .finish_non_exhaustive()
    }
}

/// The TD has extended its registers more often than [`EVENTS_MAX`] times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the simulated event log is full: at most {EVENTS_MAX} events")]
pub struct LogFull;

impl SimTd {
    pub(crate) fn boot(platform: Arc<Inner>, options: TdOptions) -> Self {
        let log = options.image.boot(options.gpus);
        let gpus = SimGpus::new(Arc::clone(&platform), options.gpus);
        let manifest = options.image.manifest().encode().into_bytes().into();
        Self { platform, options, log: Arc::new(Mutex::new(log)), gpus, manifest }
    }

    /// The image that was booted.
    #[must_use]
    pub fn image(&self) -> &SimImage {
        &self.options.image
    }

    /// RTMR0 to RTMR3 as they stand.
    #[must_use]
    pub fn rtmr(&self) -> [[u8; 48]; 4] {
        self.with_log(|log| log.rtmr())
    }

    /// Extends a register, and the event log with it.
    ///
    /// # Errors
    /// [`LogFull`].
    pub fn extend(&self, register: Rtmr, kind: EventKind, data: &[u8]) -> Result<(), LogFull> {
        self.with_log(|log| {
            if log.events() >= EVENTS_MAX {
                return Err(LogFull);
            }
            log.measure(register, kind, data);
            Ok(())
        })
    }

    /// A quote, without waiting: the simulated quoting enclave takes no time.
    #[must_use]
    pub fn quote(&self, report_data: [u8; 64]) -> Vec<u8> {
        quote::quote(&self.platform.intel, &self.report(report_data), self.options.quote)
    }

    /// A TDREPORT: evidence for somebody on the same machine, such as a sealing enclave.
    #[must_use]
    pub fn td_report(&self, report_data: [u8; 64]) -> [u8; TD_REPORT_BYTES] {
        td_report::issue(&self.platform.seed, &self.report(report_data))
    }

    pub(crate) fn platform(&self) -> &Arc<Inner> {
        &self.platform
    }

    pub(crate) fn report(&self, report_data: [u8; 64]) -> TdReport {
        TdReport {
            attributes: attributes(&self.platform.faults.snapshot()),
            xfam: XFAM,
            mr_td: self.options.image.mr_td(),
            mr_config_id: [0; 48],
            mr_owner: [0; 48],
            mr_owner_config: [0; 48],
            rtmr: self.rtmr(),
            report_data,
        }
    }

    fn with_log<T>(&self, read: impl FnOnce(&mut MeasuredLog) -> T) -> T {
        read(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Attester for SimTd {
    fn format(&self) -> Format {
        Format::Tdx
    }

    async fn gpu_evidence(&self, nonce: [u8; 32]) -> Result<Vec<GpuEvidence>, EvidenceError> {
        Ok(self.gpus.evidence(nonce))
    }

    async fn evidence(&self, report_data: [u8; 64]) -> Result<Evidence, EvidenceError> {
        Ok(Evidence {
            platform: PlatformEvidence::Tdx { quote: self.quote(report_data) },
            event_log: Some(self.with_log(|log| log.bytes().to_vec())),
            manifest: Some(self.manifest.to_vec()),
            gpus: Vec::new(),
        })
    }
}

fn attributes(faults: &Faults) -> u64 {
    let bit = |set: bool, bit: u64| if set { bit } else { 0 };
    bit(!faults.sept_ve_disable_off, SEPT_VE_DISABLE)
        | bit(faults.debug_guest, DEBUG)
        | bit(faults.migratable_guest, MIGRATABLE)
}
