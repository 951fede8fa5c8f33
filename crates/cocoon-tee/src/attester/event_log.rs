//! The event log of the boot, as firmware left it in the CCEL area, cut after its last event.
//!
//! The area is larger than the log, and its rest is 0xff or zeros. Only the lengths are read here, to find the end; what
//! the events say and whether they give the measured registers is the verifier's to replay.
//! Layout: TCG PC Client Platform Firmware Profile, section 10.2: one `TCG_PCR_EVENT` with the list of algorithms, then
//! `TCG_PCR_EVENT2`. Events that the image extended into RTMR3 itself are kept by the image, in a file in that form.

use std::path::{Path, PathBuf};

use cocoon_attest::EvidenceError;

use crate::files;
use crate::limits::{EVENT_LOG_AREA_BYTES_MAX, EVENT_LOG_USED_BYTES_MAX};

/// Digests of one event: there are four algorithms in use.
const DIGESTS_MAX: u32 = 8;

/// Where the logs are.
#[derive(Debug, Clone)]
pub(super) struct EventLogFiles {
    boot: PathBuf,
    runtime: Option<PathBuf>,
}

impl EventLogFiles {
    pub(super) const fn new(boot: PathBuf, runtime: Option<PathBuf>) -> Self {
        Self { boot, runtime }
    }

    /// Both logs as one. Blocks.
    pub(super) fn read(&self) -> Result<Vec<u8>, EvidenceError> {
        let area = read_file(&self.boot)?;
        let end = end_of_boot_log(&area).ok_or_else(|| failed(&self.boot, "it is no TCG event log"))?;
        let mut log = area.get(..end).unwrap_or_default().to_vec();
        if let Some(path) = &self.runtime {
            let events = read_file(path)?;
            if end_of_events(&events, 0) != Some(events.len()) {
                return Err(failed(path, "it does not end with a whole event"));
            }
            log.extend_from_slice(&events);
        }
        if log.len() > EVENT_LOG_USED_BYTES_MAX {
            return Err(failed(&self.boot, "it is longer than a verifier would take"));
        }
        Ok(log)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, EvidenceError> {
    let max = u64::try_from(EVENT_LOG_AREA_BYTES_MAX).unwrap_or(u64::MAX);
    files::read_bounded(path, max).map_err(|error| failed(path, &error.to_string()))
}

fn failed(path: &Path, why: &str) -> EvidenceError {
    EvidenceError::Platform(format!("the event log {}: {why}", path.display()))
}

/// Where the boot's log ends: after its header and its last whole event.
fn end_of_boot_log(area: &[u8]) -> Option<usize> {
    // Register, type, SHA-1 digest, size, data.
    let size = u32_at(area, 28)?;
    let start = usize::try_from(size).ok()?.checked_add(32)?;
    (start <= area.len()).then_some(())?;
    end_of_events(area, start)
}

/// Where the events that begin at `start` end. `None` when one is cut off.
fn end_of_events(log: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while at < log.len() && !is_padding(log, at) {
        at = end_of_event(log, at)?;
    }
    Some(at)
}

/// Unused room: no register has the number 0xffffffff, and no event is without digests.
fn is_padding(log: &[u8], at: usize) -> bool {
    let rest = log.get(at..).unwrap_or_default();
    match (u32_at(rest, 0), u32_at(rest, 8)) {
        (Some(register), Some(digests)) => register == u32::MAX || digests == 0,
        // Too short for an event; a cut off one is told from padding by what is in it.
        _ => rest.iter().all(|byte| *byte == 0xff) || rest.iter().all(|byte| *byte == 0),
    }
}

fn end_of_event(log: &[u8], at: usize) -> Option<usize> {
    let count = u32_at(log, at.checked_add(8)?)?;
    if count > DIGESTS_MAX {
        return None;
    }
    let mut at = at.checked_add(12)?;
    for _ in 0..count {
        let algorithm = u16::from_le_bytes(*log.get(at..)?.first_chunk()?);
        at = at.checked_add(2)?.checked_add(digest_bytes(algorithm)?)?;
    }
    let size = usize::try_from(u32_at(log, at)?).ok()?;
    let end = at.checked_add(4)?.checked_add(size)?;
    (end <= log.len()).then_some(end)
}

/// By the TCG algorithm registry.
const fn digest_bytes(algorithm: u16) -> Option<usize> {
    match algorithm {
        0x0004 => Some(20),
        0x000b | 0x0012 => Some(32),
        0x000c => Some(48),
        0x000d => Some(64),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An event with a SHA-384 digest.
    fn event(register: u32, data: &[u8]) -> Vec<u8> {
        let mut event = [register.to_le_bytes(), 0x8000_0001_u32.to_le_bytes(), 1u32.to_le_bytes()].concat();
        event.extend_from_slice(&0x000c_u16.to_le_bytes());
        event.extend_from_slice(&[7; 48]);
        event.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
        event.extend_from_slice(data);
        event
    }

    /// A header as firmware writes it, with two events.
    pub(in crate::attester) fn log() -> Vec<u8> {
        let mut header = vec![0; 28];
        header.extend_from_slice(&5u32.to_le_bytes());
        header.extend_from_slice(b"algos");
        [header, event(1, b"firmware"), event(4, b"")].concat()
    }

    #[test]
    fn cut_after_the_last_event_whatever_the_padding() {
        for padding in [0xff, 0x00] {
            let mut area = log();
            let end = area.len();
            area.resize(end + 4096, padding);
            assert_eq!(end_of_boot_log(&area), Some(end), "{padding:#x}");
            area.truncate(end + 3);
            assert_eq!(end_of_boot_log(&area), Some(end), "{padding:#x}, hardly any");
        }
        assert_eq!(end_of_boot_log(&log()), Some(log().len()));
    }

    #[test]
    fn real_logs() {
        let folder = std::env::var_os("COCOON_VECTORS")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"), PathBuf::from);
        for file in ["tdx/go-tdx-guest/ccel_data.dat", "tdx/trustee/CCEL_data_ovmf", "eventlog/trustee_CCEL_data_grub"]
        {
            let path = folder.join(file);
            let area = std::fs::read(&path).unwrap();
            let log = EventLogFiles::new(path, None).read().unwrap();
            assert!(log.len() > 1000 && log.len() < area.len(), "{file}: {} of {}", log.len(), area.len());
            let rest = &area[log.len()..];
            assert!(rest.iter().all(|byte| *byte == rest[0]), "{file}: only padding is cut off");
        }
    }

    #[test]
    fn events_of_the_image_follow_those_of_the_boot() {
        let folder = tempfile::tempdir().unwrap();
        let (boot, runtime) = (folder.path().join("boot"), folder.path().join("runtime"));
        std::fs::write(&boot, [log(), vec![0xff; 100]].concat()).unwrap();
        std::fs::write(&runtime, event(4, b"inited")).unwrap();
        let files = EventLogFiles::new(boot, Some(runtime.clone()));
        assert_eq!(files.read().unwrap(), [log(), event(4, b"inited")].concat());
        std::fs::write(&runtime, &event(4, b"inited")[..60]).unwrap();
        assert!(files.read().unwrap_err().to_string().contains("whole event"));
    }

    #[test]
    fn a_log_that_is_cut_off_or_none_is_refused() {
        let log = log();
        for end in [0, 31, 34, log.len() - 60, log.len() - 1] {
            assert_eq!(end_of_boot_log(&log[..end]), None, "{end}");
        }
        let mut bomb = log;
        bomb[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(end_of_boot_log(&bomb), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Some(end) = end_of_boot_log(&bytes) {
                prop_assert!(end <= bytes.len());
            }
        }
    }
}
