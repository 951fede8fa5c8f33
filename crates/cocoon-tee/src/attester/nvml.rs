//! Evidence of NVIDIA GPUs through the driver's management library, loaded when it is there.
//!
//! 1. No library: no GPUs. That is normal for a proxy.
//! 2. For each GPU: a report for the nonce, signed by the GPU, and the device's certificate chain.
//!
//! Confidential computing that is off, or in its development mode, is not refused here: a report says it, and the
//! verifier's policy judges. GPUs that cannot report at all (older ones, or the feature off) are an error when evidence
//! is asked for, so that a worker which claims none of its GPUs does not pass for one that has none.

use std::ffi::{OsStr, c_int};
use std::fmt::Display;

use cocoon_attest::facts::CcMode;
use cocoon_attest::{EvidenceError, GpuEvidence};

use crate::foreign::nvml::{Device, LoadError, Nvml as Library};
use crate::limits::GPUS_MAX;

/// `NVML_CC_SYSTEM_FEATURE_ENABLED`, and `NVML_CC_SYSTEM_DEVTOOLS_MODE_ON` too.
const ENABLED: u32 = 1;

/// The library, initialised, with at least one GPU.
#[derive(Debug)]
pub struct Nvml {
    library: Library,
    count: usize,
}

/// What the driver says of this machine's GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuMode {
    /// How many there are.
    pub count: usize,
    /// Their mode. The driver's word, not evidence.
    pub mode: CcMode,
}

impl Nvml {
    /// Loads the library, `libnvidia-ml.so.1` on a real machine. `None` when it is not there or sees no GPU.
    ///
    /// # Errors
    /// When it is there and does not work.
    pub fn load(name: impl AsRef<OsStr>) -> Result<Option<Self>, EvidenceError> {
        let library = match Library::load(name.as_ref()) {
            Ok(library) => library,
            Err(LoadError::Absent(why)) => {
                tracing::debug!(why, "no GPU library");
                return Ok(None);
            }
            Err(LoadError::Incomplete(function)) => {
                return Err(failed(format!("the driver is too old for confidential computing: it lacks {function}")));
            }
            // The library without a driver, as in a container that has no GPU.
            Err(LoadError::Init(DRIVER_NOT_LOADED)) => return Ok(None),
            Err(LoadError::Init(code)) => return Err(failed(said("nvmlInit", code))),
        };
        let count = library.device_count().map_err(|code| failed(said("nvmlDeviceGetCount", code)))?;
        match usize::try_from(count) {
            Ok(0) => Ok(None),
            Ok(count) if count <= GPUS_MAX => Ok(Some(Self { library, count })),
            Ok(_) | Err(_) => Err(failed(format!("{count} GPUs; at most {GPUS_MAX} are attested"))),
        }
    }

    /// How many GPUs there are, and what the driver says of their mode.
    ///
    /// # Errors
    /// When the driver does not say.
    pub fn mode(&self) -> Result<GpuMode, EvidenceError> {
        let state = self.library.state().map_err(|code| failed(said("nvmlSystemGetConfComputeState", code)))?;
        let mode = match (state.feature == ENABLED, state.dev_tools == ENABLED) {
            (true, false) => CcMode::On,
            (true, true) => CcMode::DevTools,
            (false, _) => CcMode::Off,
        };
        Ok(GpuMode { count: self.count, mode })
    }

    /// A report and a certificate chain of each GPU. Blocks, about a tenth of a second for each.
    ///
    /// # Errors
    /// When one of them gives none.
    pub fn evidence(&self, nonce: [u8; 32]) -> Result<Vec<GpuEvidence>, EvidenceError> {
        (0..self.count).map(|index| self.evidence_of(index, nonce)).collect()
    }

    fn evidence_of(&self, index: usize, nonce: [u8; 32]) -> Result<GpuEvidence, EvidenceError> {
        let of_gpu = |why: String| failed(format!("GPU {index}: {why}"));
        let index = u32::try_from(index).map_err(|error| of_gpu(error.to_string()))?;
        let device = self.library.device(index).map_err(|code| of_gpu(said("nvmlDeviceGetHandleByIndex", code)))?;
        Ok(GpuEvidence {
            report: self.report(device, nonce).map_err(of_gpu)?,
            certificate_chain: self.certificate_chain(device).map_err(of_gpu)?,
        })
    }

    fn report(&self, device: Device, nonce: [u8; 32]) -> Result<Vec<u8>, String> {
        let name = "nvmlDeviceGetConfComputeGpuAttestationReport";
        let report = self.library.report(device, nonce).map_err(|code| said(name, code))?;
        used(&report.report, report.report_size).map(<[u8]>::to_vec).map_err(|why| format!("{name}: {why}"))
    }

    fn certificate_chain(&self, device: Device) -> Result<String, String> {
        let name = "nvmlDeviceGetConfComputeGpuCertificate";
        let certificate = self.library.certificate(device).map_err(|code| said(name, code))?;
        let chain = used(&certificate.attestation_chain, certificate.attestation_chain_size)
            .map_err(|why| format!("{name}: {why}"))?;
        // Some drivers count the terminator of the C string.
        let chain = chain.strip_suffix(&[0]).unwrap_or(chain);
        String::from_utf8(chain.to_vec()).map_err(|_| format!("{name}: not PEM"))
    }
}

/// The part of a buffer that the library says it filled.
fn used(buffer: &[u8], size: u32) -> Result<&[u8], String> {
    let filled = usize::try_from(size).ok().and_then(|size| buffer.get(..size));
    match filled {
        Some([]) => Err("it is empty".into()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("{size} bytes in a buffer of {}", buffer.len())),
    }
}

fn failed(why: String) -> EvidenceError {
    EvidenceError::Gpu(why)
}

/// `NVML_ERROR_DRIVER_NOT_LOADED`.
const DRIVER_NOT_LOADED: c_int = 9;

/// A function's answer, in words for the ones that happen.
fn said(function: impl Display, code: c_int) -> String {
    let meaning = match code {
        1 => "not initialised",
        2 => "invalid argument",
        3 => "not supported: is confidential computing on?",
        4 => "no permission",
        6 => "not found",
        DRIVER_NOT_LOADED => "the driver is not loaded",
        15 => "the GPU is lost",
        999 => "unknown error",
        _ => "see nvmlReturn_t",
    };
    format!("{function} answers {code} ({meaning})")
}
