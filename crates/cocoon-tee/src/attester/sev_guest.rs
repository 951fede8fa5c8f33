//! Reports and keys from `/dev/sev-guest`: for kernels without configfs-tsm, and for keys, which that does not offer.
//!
//! Untested on hardware: tests cover the answer's parsers and the refusal on machines without the device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_attest::EvidenceError;
use cocoon_attest::evidence::PlatformEvidence;
use zeroize::Zeroizing;

use crate::keys::KeyError;

/// An attestation report (SNP ABI specification, table 23).
const REPORT_BYTES: u32 = 1184;

/// Where the report and the key begin in an answer.
const PAYLOAD_AT: usize = 0x20;

/// `GUEST_FIELD_SELECT` of `MSG_KEY_REQ` (SNP ABI specification): the guest policy, bit 0, and the launch measurement,
/// bit 3.
#[cfg(target_os = "linux")]
const KEY_FIELDS: u64 = 0b1001;

/// The SEV guest device, open.
#[derive(Debug, Clone)]
pub struct SevGuest {
    device: Arc<File>,
    path: PathBuf,
}

impl SevGuest {
    /// Opens the device, `/dev/sev-guest` on a real machine.
    ///
    /// # Errors
    /// [`EvidenceError::NotATee`] when it is not there, [`EvidenceError::Platform`] when it may not be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, EvidenceError> {
        let path = path.as_ref().to_owned();
        match File::open(&path) {
            Ok(device) => Ok(Self { device: Arc::new(device), path }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(EvidenceError::NotATee(format!("{} is not there", path.display())))
            }
            Err(error) => Err(EvidenceError::Platform(format!("{}: {error}", path.display()))),
        }
    }

    /// A report with this report data, and the host's certificates. Blocks.
    ///
    /// # Errors
    /// When the device refuses, or answers with something else.
    #[cfg(target_os = "linux")]
    pub fn evidence(&self, report_data: [u8; 64]) -> Result<PlatformEvidence, EvidenceError> {
        let failed = |why: String| EvidenceError::Platform(format!("{}: {why}", self.path.display()));
        let (answer, table) = crate::foreign::ioctl::extended_report(&self.device, report_data)
            .map_err(|error| failed(error.to_string()))?;
        let report = read_report(answer.as_slice()).map_err(failed)?.to_vec();
        let certificates = super::certificate_table::parse(&table).map_err(|error| failed(error.to_string()))?;
        Ok(PlatformEvidence::SevSnp { report, certificates })
    }

    /// A report; never on this system.
    ///
    /// # Errors
    /// Always: only Linux has the device.
    #[cfg(not(target_os = "linux"))]
    pub fn evidence(&self, _: [u8; 64]) -> Result<PlatformEvidence, EvidenceError> {
        Err(EvidenceError::NotATee(format!("{} is a device of Linux", self.path.display())))
    }

    /// The secret that keys come from. Blocks.
    #[cfg(target_os = "linux")]
    pub(crate) fn derived_key(&self) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let failed = |why: String| KeyError::Platform(format!("{}: {why}", self.path.display()));
        let answer = crate::foreign::ioctl::derived_key(&self.device, KEY_FIELDS).map(Zeroizing::new);
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        read_key(answer.as_slice()).map_err(failed)
    }

    /// The secret; never on this system.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn derived_key(&self) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        Err(KeyError::NoPlatform(format!("{} is a device of Linux", self.path.display())))
    }
}

/// `MSG_REPORT_RSP`: status, size, 24 reserved bytes, the report.
fn read_report(answer: &[u8]) -> Result<&[u8], String> {
    check_status(answer)?;
    let size = answer.get(4..).and_then(|rest| rest.first_chunk()).map(|size| u32::from_le_bytes(*size));
    if size != Some(REPORT_BYTES) {
        return Err(format!("a report of {size:?} bytes instead of {REPORT_BYTES}"));
    }
    let end = usize::try_from(REPORT_BYTES).ok().and_then(|size| size.checked_add(PAYLOAD_AT));
    end.and_then(|end| answer.get(PAYLOAD_AT..end)).ok_or_else(|| "the report is cut off".into())
}

/// `MSG_KEY_RSP`: status, 28 reserved bytes, the key.
fn read_key(answer: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
    check_status(answer)?;
    let key = answer.get(PAYLOAD_AT..).and_then(|rest| rest.first_chunk::<32>());
    let key = Zeroizing::new(*key.ok_or("the key is cut off")?);
    // The kernel zeroes what the firmware did not fill: a key that everybody knows.
    if *key == [0; 32] { Err("the key is empty".into()) } else { Ok(key) }
}

fn check_status(answer: &[u8]) -> Result<(), String> {
    match answer.first_chunk::<4>().map(|status| u32::from_le_bytes(*status)) {
        Some(0) => Ok(()),
        Some(status) => Err(format!("the firmware answers with status {status:#x}")),
        None => Err("the answer is empty".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_the_device_is_no_tee() {
        let folder = tempfile::tempdir().unwrap();
        let error = SevGuest::open(folder.path().join("sev-guest")).unwrap_err();
        assert!(matches!(error, EvidenceError::NotATee(_)), "{error}");
    }

    #[test]
    fn another_file_is_no_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let device = SevGuest::open(file.path()).unwrap();
        assert!(matches!(device.evidence([0; 64]), Err(EvidenceError::Platform(_))));
        assert!(matches!(device.derived_key(), Err(KeyError::Platform(_))));
    }

    #[test]
    fn answers_are_read_strictly() {
        let answer = |status: u32, size: u32| {
            let mut answer = vec![0; 4000];
            answer[..4].copy_from_slice(&status.to_le_bytes());
            answer[4..8].copy_from_slice(&size.to_le_bytes());
            answer[0x20..0x40].fill(9);
            answer
        };
        assert_eq!(read_report(&answer(0, 1184)).unwrap().len(), 1184);
        for (status, size) in [(0x16, 1184), (0, 0), (0, 1183), (0, u32::MAX)] {
            assert!(read_report(&answer(status, size)).is_err());
        }
        assert!(read_report(&answer(0, 1184)[..1000]).is_err());
        assert_eq!(*read_key(&answer(0, 0)[..64]).unwrap(), [9; 32]);
        assert!(read_key(&[0; 64]).is_err(), "a key of zeros is none");
        assert!(read_key(&answer(1, 0)[..64]).is_err());
        assert!(read_key(&answer(0, 0)[..60]).is_err());
    }
}
