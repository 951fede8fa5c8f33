//! The boot event log of a simulated TD, and the registers that it replays to.
//!
//! The format is the one that firmware leaves in the CCEL table: TCG's crypto-agile log with SHA-384 (TCG PC Client
//! Platform Firmware Profile, section 10; TDX Virtual Firmware Design Guide, section 8). Register index n is RTMR n-1.

use sha2::{Digest as _, Sha384};

const EV_NO_ACTION: u32 = 0x3;
const TPM_ALG_SHA384: u16 = 0xc;
const SHA384_BYTES: u16 = 48;
const SPEC_ID_SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";

/// Kinds of events (TCG PC Client Platform Firmware Profile, table 27).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of TCG's specification")]
pub enum EventKind {
    Separator,
    EventTag,
    Ipl,
    EfiBootServicesApplication,
    EfiHandoffTables,
    EfiPlatformFirmwareBlob,
}

impl EventKind {
    const fn code(self) -> u32 {
        match self {
            Self::Separator => 0x4,
            Self::EventTag => 0x6,
            Self::Ipl => 0xd,
            Self::EfiBootServicesApplication => 0x8000_0003,
            Self::EfiPlatformFirmwareBlob => 0x8000_0008,
            Self::EfiHandoffTables => 0x8000_0009,
        }
    }
}

/// Runtime measurement registers with the log of what went into them.
#[derive(Debug, Clone)]
pub(crate) struct MeasuredLog {
    rtmr: [[u8; 48]; 4],
    log: Vec<u8>,
    events: usize,
}

impl MeasuredLog {
    pub(crate) fn new() -> Self {
        Self { rtmr: [[0; 48]; 4], log: spec_id_event(), events: 0 }
    }

    pub(crate) fn rtmr(&self) -> [[u8; 48]; 4] {
        self.rtmr
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.log
    }

    pub(crate) fn events(&self) -> usize {
        self.events
    }

    /// An event whose digest is that of its data.
    pub(crate) fn measure(&mut self, register: Rtmr, kind: EventKind, data: &[u8]) {
        self.measure_digest(register, kind, Sha384::digest(data).into(), data);
    }

    /// An event whose data only names what was hashed, as for executables.
    pub(crate) fn measure_digest(&mut self, register: Rtmr, kind: EventKind, digest: [u8; 48], data: &[u8]) {
        let rtmr = match register {
            Rtmr::Firmware => &mut self.rtmr[0],
            Rtmr::Loader => &mut self.rtmr[1],
            Rtmr::System => &mut self.rtmr[2],
            Rtmr::Application => &mut self.rtmr[3],
        };
        *rtmr = Sha384::new().chain_update(*rtmr).chain_update(digest).finalize().into();
        self.log.extend_from_slice(&register.log_index().to_le_bytes());
        self.log.extend_from_slice(&kind.code().to_le_bytes());
        self.log.extend_from_slice(&1_u32.to_le_bytes());
        self.log.extend_from_slice(&TPM_ALG_SHA384.to_le_bytes());
        self.log.extend_from_slice(&digest);
        self.log.extend_from_slice(&len32(data));
        self.log.extend_from_slice(data);
        self.events = self.events.saturating_add(1);
    }
}

/// A runtime measurement register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rtmr {
    /// RTMR0: the shape of the machine, by its firmware.
    Firmware,
    /// RTMR1: boot loader and kernel.
    Loader,
    /// RTMR2: command line and initial file system.
    System,
    /// RTMR3: what the running image adds.
    Application,
}

impl Rtmr {
    const fn log_index(self) -> u32 {
        match self {
            Self::Firmware => 1,
            Self::Loader => 2,
            Self::System => 3,
            Self::Application => 4,
        }
    }
}

/// The first event: it measures nothing, and says which digests the others have.
fn spec_id_event() -> Vec<u8> {
    let mut event = SPEC_ID_SIGNATURE.to_vec();
    event.extend_from_slice(&0_u32.to_le_bytes()); // Platform class: client.
    event.extend_from_slice(&[0, 2, 0, 2]); // Version 2.0, errata 0, 64-bit.
    event.extend_from_slice(&1_u32.to_le_bytes());
    event.extend_from_slice(&TPM_ALG_SHA384.to_le_bytes());
    event.extend_from_slice(&SHA384_BYTES.to_le_bytes());
    event.push(0);

    let mut log = Vec::new();
    log.extend_from_slice(&1_u32.to_le_bytes());
    log.extend_from_slice(&EV_NO_ACTION.to_le_bytes());
    log.extend_from_slice(&[0; 20]);
    log.extend_from_slice(&len32(&event));
    log.extend_from_slice(&event);
    log
}

fn len32(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("an event's data is below a page").to_le_bytes()
}
