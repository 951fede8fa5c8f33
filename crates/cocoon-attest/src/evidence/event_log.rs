//! Event logs of a boot: the CCEL table of a TD, in the crypto-agile format of the TCG, and their replay.
//!
//! A log is untrusted text that explains registers: it is worth what its replay is. [`EventLog::replay`] gives the
//! registers that the log claims; the caller compares them with the quote's, and only then do the digests count. An
//! event's `data` counts only where [`Event::data_is_measured`].
//!
//! ```text
//! header     register u32  kind u32 (EV_NO_ACTION)  digest[20]  size u32
//!            "Spec ID Event03\0"  class u32  minor u8  major u8  errata u8  word u8
//!            algorithms u32 { id u16  size u16 }  vendor u8 [vendor]
//! event      register u32  kind u32  digests u32 { algorithm u16  digest }  size u32  data[size]
//! ```
//!
//! The register of the log counts from 1: `n` is RTMR `n - 1`, and 0 is MRTD, which no event extends. The table is
//! larger than the log; what is left is filled with 0xff or 0x00. Firmware and boot loader write the table; what user
//! space extends RTMR3 with, the attester appends in the same form ([`runtime_event`]).
//!
//! TCG PC Client Platform Firmware Profile, section 10; Intel's Guest-Host Communication Interface, section 4.3.3.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use sha2::{Digest as _, Sha384};
use thiserror::Error;

use super::{FormatError, Reader};
use crate::limits::EVENT_LOG_BYTES_MAX;

/// An event that tells something and extends nothing.
const EV_NO_ACTION: u32 = 0x0000_0003;
/// The kind that [`runtime_event`] writes: a tag of the application's own choice.
const EV_EVENT_TAG: u32 = 0x0000_0006;
/// The id of SHA-384 in the TCG's registry.
const SHA384: u16 = 0x000c;
const SHA384_LEN: u16 = 48;
const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
/// The TCG's registry knows five digests; a log that names more is none.
const ALGORITHMS_MAX: u32 = 8;

/// A parsed log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLog {
    events: Vec<Event>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The RTMR that it extends, counted from zero; `None` is MRTD, which only [`Self::is_informative`] events name.
    pub register: Option<u8>,
    /// The TCG's event type. Not measured.
    pub kind: u32,
    /// SHA-384, as it extends the register; zero where an informative event has none.
    pub digest: [u8; 48],
    /// What the event tells. Measured only where [`Self::data_is_measured`].
    pub data: Vec<u8>,
}

/// Why bytes are no event log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// More than [`EVENT_LOG_BYTES_MAX`].
    #[error("an event log of {len} bytes; at most {EVENT_LOG_BYTES_MAX} are read: cut it after its last event")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// A field or a length in it reaches past the end.
    #[error("event {event}: {error}")]
    Truncated {
        /// Counted from zero, the header included.
        event: usize,
        /// Which field.
        error: FormatError,
    },
    /// The log does not begin with the header of the crypto-agile format.
    #[error("no header of a crypto-agile event log with SHA-384")]
    Header,
    /// The register is none of a TD's.
    #[error("event {event} extends register {register}; a TD's are 1 to 4")]
    Register {
        /// Counted from zero, the header included.
        event: usize,
        /// The register.
        register: u32,
    },
    /// An algorithm that the header does not name, one twice, or no SHA-384.
    #[error("event {event} has other digests than the header names")]
    Digests {
        /// Counted from zero, the header included.
        event: usize,
    },
}

impl EventLog {
    /// Reads a log.
    ///
    /// # Errors
    /// When the bytes are too many, or not a header and whole events with nothing but filling after them.
    pub fn parse(log: &[u8]) -> Result<Self, EventLogError> {
        if log.len() > EVENT_LOG_BYTES_MAX {
            return Err(EventLogError::TooLong { len: log.len() });
        }
        let mut walk = Walk::new(log)?;
        let mut events = Vec::new();
        while let Some(event) = walk.next()? {
            events.push(event);
        }
        Ok(Self { events })
    }

    /// The part of a table that is the log, for an attester to send: the filling cut off. No bound on the table.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn used(table: &[u8]) -> Result<&[u8], EventLogError> {
        let mut walk = Walk::new(table)?;
        while walk.next()?.is_some() {}
        let used = table.len().saturating_sub(walk.reader.rest().len());
        Ok(table.get(..used).unwrap_or(table))
    }

    /// The registers that the log claims: from zero, each event's digest extends its register.
    #[must_use]
    pub fn replay(&self) -> [[u8; 48]; 4] {
        let mut registers = [[0; 48]; 4];
        for event in self.events.iter().filter(|event| !event.is_informative()) {
            if let Some(register) = event.register.and_then(|register| registers.get_mut(usize::from(register))) {
                *register = extend(register, &event.digest);
            }
        }
        registers
    }

    /// The events that extend an RTMR, counted from zero, in order.
    pub fn events(&self, register: u8) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.register == Some(register) && !event.is_informative())
    }

    /// Every event, informative ones included; the header is none.
    #[must_use]
    pub fn all(&self) -> &[Event] {
        &self.events
    }
}

impl Event {
    /// Whether it only tells something: EV_NO_ACTION.
    #[must_use]
    pub const fn is_informative(&self) -> bool {
        self.kind == EV_NO_ACTION
    }

    /// Whether the digest is that of the data. Firmware measures some things that it does not write into the log.
    #[must_use]
    pub fn data_is_measured(&self) -> bool {
        self.digest.as_slice() == Sha384::digest(&self.data).as_slice()
    }

    /// The TCG's name of its kind; `None` where it has none.
    #[must_use]
    pub const fn kind_name(&self) -> Option<&'static str> {
        Some(match self.kind {
            0x0000_0000 => "EV_PREBOOT_CERT",
            0x0000_0001 => "EV_POST_CODE",
            EV_NO_ACTION => "EV_NO_ACTION",
            0x0000_0004 => "EV_SEPARATOR",
            0x0000_0005 => "EV_ACTION",
            EV_EVENT_TAG => "EV_EVENT_TAG",
            0x0000_0007 => "EV_S_CRTM_CONTENTS",
            0x0000_0008 => "EV_S_CRTM_VERSION",
            0x0000_0009 => "EV_CPU_MICROCODE",
            0x0000_000a => "EV_PLATFORM_CONFIG_FLAGS",
            0x0000_000b => "EV_TABLE_OF_DEVICES",
            0x0000_000c => "EV_COMPACT_HASH",
            0x0000_000d => "EV_IPL",
            0x0000_000e => "EV_IPL_PARTITION_DATA",
            0x0000_000f => "EV_NONHOST_CODE",
            0x0000_0010 => "EV_NONHOST_CONFIG",
            0x0000_0011 => "EV_NONHOST_INFO",
            0x0000_0012 => "EV_OMIT_BOOT_DEVICE_EVENTS",
            0x8000_0001 => "EV_EFI_VARIABLE_DRIVER_CONFIG",
            0x8000_0002 => "EV_EFI_VARIABLE_BOOT",
            0x8000_0003 => "EV_EFI_BOOT_SERVICES_APPLICATION",
            0x8000_0004 => "EV_EFI_BOOT_SERVICES_DRIVER",
            0x8000_0005 => "EV_EFI_RUNTIME_SERVICES_DRIVER",
            0x8000_0006 => "EV_EFI_GPT_EVENT",
            0x8000_0007 => "EV_EFI_ACTION",
            0x8000_0008 => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
            0x8000_0009 => "EV_EFI_HANDOFF_TABLES",
            0x8000_000a => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
            0x8000_000b => "EV_EFI_HANDOFF_TABLES2",
            0x8000_000c => "EV_EFI_VARIABLE_BOOT2",
            0x8000_0010 => "EV_EFI_HCRTM_EVENT",
            0x8000_00e0 => "EV_EFI_VARIABLE_AUTHORITY",
            0x8000_00e1 => "EV_EFI_SPDM_FIRMWARE_BLOB",
            0x8000_00e2 => "EV_EFI_SPDM_FIRMWARE_CONFIG",
            _ => return None,
        })
    }
}

/// What extending does: SHA-384 over the register and the digest.
#[must_use]
pub fn extend(register: &[u8; 48], digest: &[u8; 48]) -> [u8; 48] {
    Sha384::new().chain_update(register).chain_update(digest).finalize().into()
}

/// The header that a log begins with; then come events.
#[must_use]
pub fn header() -> Vec<u8> {
    let mut content = SIGNATURE.to_vec();
    content.extend([0, 0, 0, 0]); // Class: a client.
    content.extend([0, 2, 0, 2]); // Version 2.0, errata 0; words of 64 bits.
    content.extend(1_u32.to_le_bytes());
    content.extend(SHA384.to_le_bytes());
    content.extend(SHA384_LEN.to_le_bytes());
    content.push(0); // No vendor data.

    let mut header = 1_u32.to_le_bytes().to_vec();
    header.extend(EV_NO_ACTION.to_le_bytes());
    header.extend([0; 20]);
    header.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    header.extend(content);
    header
}

/// An event in the log's form, whose digest is that of its data. `None` where `register` is no RTMR or `data` is longer
/// than any log may be.
#[must_use]
pub fn event(register: u8, kind: u32, data: &[u8]) -> Option<Vec<u8>> {
    if register > 3 || data.len() > EVENT_LOG_BYTES_MAX {
        return None;
    }
    let mut event = u32::from(register).checked_add(1)?.to_le_bytes().to_vec();
    event.extend(kind.to_le_bytes());
    event.extend(1_u32.to_le_bytes());
    event.extend(SHA384.to_le_bytes());
    event.extend(Sha384::digest(data));
    event.extend(u32::try_from(data.len()).ok()?.to_le_bytes());
    event.extend(data);
    Some(event)
}

/// What user space extended RTMR3 with, to be appended to the log.
#[must_use]
pub fn runtime_event(data: &[u8]) -> Option<Vec<u8>> {
    event(3, EV_EVENT_TAG, data)
}

/// Reads one event after the other.
struct Walk<'a> {
    reader: Reader<'a>,
    /// Id and length of each digest.
    algorithms: Vec<(u16, u16)>,
    /// Of the event being read, the header included.
    index: usize,
}

impl<'a> Walk<'a> {
    fn new(log: &'a [u8]) -> Result<Self, EventLogError> {
        let mut reader = Reader::new(log);
        let algorithms = header_algorithms(&mut reader)
            .map_err(|error| EventLogError::Truncated { event: 0, error })?
            .ok_or(EventLogError::Header)?;
        Ok(Self { reader, algorithms, index: 0 })
    }

    /// `None` where only filling is left, or nothing.
    fn next(&mut self) -> Result<Option<Event>, EventLogError> {
        if is_filling(self.reader.rest()) {
            return Ok(None);
        }
        self.index = self.index.saturating_add(1);
        self.event().map(Some)
    }

    fn event(&mut self) -> Result<Event, EventLogError> {
        let index = self.index;
        let truncated = |error| EventLogError::Truncated { event: index, error };
        let register = self.reader.u32("register").map_err(truncated)?;
        let kind = self.reader.u32("event type").map_err(truncated)?;
        let digest = self.digest()?;
        let informative = kind == EV_NO_ACTION;
        let rtmr = match register {
            0 if informative => None,
            1..=4 => register.checked_sub(1).and_then(|rtmr| u8::try_from(rtmr).ok()),
            _ => return Err(EventLogError::Register { event: index, register }),
        };
        let digest = match digest {
            Some(digest) => digest,
            None if informative => [0; 48],
            None => return Err(EventLogError::Digests { event: index }),
        };
        let data = self.reader.sized("event data").map_err(truncated)?.to_vec();
        Ok(Event { register: rtmr, kind, digest, data })
    }

    /// The SHA-384 among the digests of an event; `None` where it has none.
    fn digest(&mut self) -> Result<Option<[u8; 48]>, EventLogError> {
        let index = self.index;
        let truncated = |error| EventLogError::Truncated { event: index, error };
        let count = self.reader.u32("digest count").map_err(truncated)?;
        if count > ALGORITHMS_MAX {
            return Err(EventLogError::Digests { event: index });
        }
        let mut sha384 = None;
        let mut seen = Vec::new();
        for _ in 0..count {
            let algorithm = self.reader.u16("digest algorithm").map_err(truncated)?;
            let known = self.algorithms.iter().find(|(id, _)| *id == algorithm);
            let Some((_, len)) = known.filter(|_| !seen.contains(&algorithm)) else {
                return Err(EventLogError::Digests { event: index });
            };
            seen.push(algorithm);
            let digest = self.reader.bytes("digest", usize::from(*len)).map_err(truncated)?;
            if algorithm == SHA384 {
                sha384 = <[u8; 48]>::try_from(digest).ok();
            }
        }
        Ok(sha384)
    }
}

/// The digest algorithms that the header names, with their lengths; `None` where it is not what it should be.
fn header_algorithms(reader: &mut Reader<'_>) -> Result<Option<Vec<(u16, u16)>>, FormatError> {
    let _register = reader.u32("header register")?;
    let kind = reader.u32("header type")?;
    let _digest = reader.array::<20>("header digest")?;
    let mut content = Reader::new(reader.sized("header data")?);
    if kind != EV_NO_ACTION {
        return Ok(None);
    }
    specification(&mut content)
}

fn specification(content: &mut Reader<'_>) -> Result<Option<Vec<(u16, u16)>>, FormatError> {
    let signature = content.array::<16>("header signature")?;
    let _class = content.u32("platform class")?;
    let _version = content.u32("version")?;
    let count = content.u32("algorithm count")?;
    if &signature != SIGNATURE || count > ALGORITHMS_MAX {
        return Ok(None);
    }
    let mut algorithms = Vec::new();
    for _ in 0..count {
        algorithms.push((content.u16("algorithm")?, content.u16("digest length")?));
    }
    let [vendor] = content.array("vendor data length")?;
    let _vendor = content.bytes("vendor data", vendor.into())?;
    let mut sha384 = algorithms.iter().filter(|(id, _)| *id == SHA384);
    let has_sha384 = sha384.next() == Some(&(SHA384, SHA384_LEN)) && sha384.next().is_none();
    Ok((content.rest().is_empty() && has_sha384).then_some(algorithms))
}

/// Whether nothing but the table's filling is left. An event begins with a register of 0 to 4 and a kind, so it is
/// never all one byte.
fn is_filling(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0xff) || rest.iter().all(|byte| *byte == 0x00)
}
