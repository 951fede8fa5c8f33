//! NVIDIA GPU reports: an SPDM 1.1 GET_MEASUREMENTS request and the signed response, in one string of bytes.
//!
//! Parsing believes nothing: what is here becomes a fact in [`crate::verify::nvidia`], after the signature.
//!
//! ```text
//! request    0x11 0xe0 0x01 0xff  nonce[32]  slot                                              37 bytes
//! response   0x11 0x60 param param  count u8  length u24  blocks[length]  nonce[32]
//!            length u16  opaque[length]  signature[96]
//! block      index u8  specification u8 (1: DMTF)  size u16  { type u8  size u16  value[size] }
//! opaque     { id u16  size u16  value[size] }*
//! ```
//!
//! Integers are little-endian. The signature covers every byte before it, the request included. Its place is where the
//! parsed fields end, not 96 bytes before the end: one real report has a byte after it, and one such byte is ignored.
//!
//! attestation.md, section 6.3; DMTF DSP0274 1.1.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use thiserror::Error;

use super::{FormatError, Reader};
use crate::limits::GPU_REPORT_BYTES_MAX;

/// Versions, codes and parameters that NVIDIA's driver sends: SPDM 1.1, GET_MEASUREMENTS, signed, all of them.
const REQUEST_HEAD: [u8; 4] = [0x11, 0xe0, 0x01, 0xff];
/// SPDM 1.1, MEASUREMENTS. The two parameters after it say nothing that is read here.
const RESPONSE_HEAD: [u8; 2] = [0x11, 0x60];
/// The measurement specification of the DMTF, the only one.
const DMTF: u8 = 1;
/// Bytes that may follow the signature.
const TRAILING_BYTES_MAX: usize = 1;

/// Ids of opaque data that are read. NVIDIA documents more; unknown ones are kept and not looked at.
#[expect(missing_docs, reason = "NVIDIA's names")]
pub mod opaque {
    pub const DRIVER_VERSION: u16 = 3;
    pub const VBIOS_VERSION: u16 = 6;
    pub const NVDEC0_STATUS: u16 = 11;
    pub const CHIP_SKU: u16 = 15;
    pub const PROJECT: u16 = 17;
    pub const PROJECT_SKU: u16 = 18;
    pub const FWID: u16 = 20;
    pub const CHIP_INFO: u16 = 35;

    /// Each of them may be there once: two values would leave open which one counts.
    pub(super) const READ: [u16; 8] =
        [DRIVER_VERSION, VBIOS_VERSION, NVDEC0_STATUS, CHIP_SKU, PROJECT, PROJECT_SKU, FWID, CHIP_INFO];
}

/// A parsed report. Nothing in it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpdmReport<'a> {
    /// What the verifier asked for, and the device signed.
    pub request_nonce: [u8; 32],
    /// What the device drew.
    pub response_nonce: [u8; 32],
    /// In the report's order, each index once.
    pub measurements: Vec<Measurement<'a>>,
    /// What the signature covers.
    pub signed: &'a [u8],
    /// The two numbers of an ECDSA signature over P-384.
    pub signature: [u8; 96],
    opaque: Vec<(u16, &'a [u8])>,
}

/// A measurement block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement<'a> {
    /// Counted from one.
    pub index: u8,
    /// The DMTF's value type: 1 is a digest of mutable firmware.
    pub kind: u8,
    /// The value.
    pub value: &'a [u8],
}

/// Why bytes are no report.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpdmError {
    /// More than [`GPU_REPORT_BYTES_MAX`].
    #[error("a report of {len} bytes; at most {GPU_REPORT_BYTES_MAX} are read")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// A field or a length in it reaches past the end.
    #[error(transparent)]
    Truncated(#[from] FormatError),
    /// Not the request that asks for signed measurements, all of them, in SPDM 1.1.
    #[error("no SPDM 1.1 request for all measurements, signed")]
    Request,
    /// Not the response to it.
    #[error("no SPDM 1.1 measurements")]
    Response,
    /// A measurement block is not of the DMTF's form, or the blocks do not fill their record.
    #[error("malformed measurement block {index}")]
    Measurement {
        /// Its index.
        index: u8,
    },
    /// The record holds another number of blocks than it says.
    #[error("{found} measurement blocks, {announced} announced")]
    MeasurementCount {
        /// What the response says.
        announced: u8,
        /// What its record holds.
        found: usize,
    },
    /// A measurement index or an opaque id that is read is there twice.
    #[error("{what} {id} twice")]
    Twice {
        /// Which kind.
        what: &'static str,
        /// Its number.
        id: u16,
    },
    /// Bytes after the signature.
    #[error("{0} bytes after the signature")]
    Trailing(usize),
}

impl<'a> SpdmReport<'a> {
    /// Reads a report.
    ///
    /// # Errors
    /// When the bytes are not exactly one request and its response.
    pub fn parse(report: &'a [u8]) -> Result<Self, SpdmError> {
        if report.len() > GPU_REPORT_BYTES_MAX {
            return Err(SpdmError::TooLong { len: report.len() });
        }
        let mut reader = Reader::new(report);
        let request_nonce = request(&mut reader)?;
        let (count, record) = measurement_record(&mut reader)?;
        let measurements = measurements(count, record)?;
        let response_nonce = reader.array("response nonce")?;
        let opaque_len = reader.u16("opaque data length")?;
        let opaque = opaque_data(reader.bytes("opaque data", opaque_len.into())?)?;
        let signed_len = report.len().saturating_sub(reader.rest().len());
        let signed = Reader::new(report).bytes("signed part", signed_len)?;
        let signature = reader.array("signature")?;
        match reader.rest().len() {
            0..=TRAILING_BYTES_MAX => {}
            trailing => return Err(SpdmError::Trailing(trailing)),
        }
        Ok(Self { request_nonce, response_nonce, measurements, signed, signature, opaque })
    }

    /// The opaque value of an id; `None` where the report has none.
    #[must_use]
    pub fn opaque(&self, id: u16) -> Option<&'a [u8]> {
        self.opaque.iter().find(|(found, _)| *found == id).map(|(_, value)| *value)
    }
}

fn request(reader: &mut Reader<'_>) -> Result<[u8; 32], SpdmError> {
    if reader.array("request")? != REQUEST_HEAD {
        return Err(SpdmError::Request);
    }
    let nonce = reader.array("request nonce")?;
    let [_slot] = reader.array("request slot")?;
    Ok(nonce)
}

fn measurement_record<'a>(reader: &mut Reader<'a>) -> Result<(u8, &'a [u8]), SpdmError> {
    if reader.array("response")? != RESPONSE_HEAD {
        return Err(SpdmError::Response);
    }
    let [_, _] = reader.array("response parameters")?;
    let [count, a, b, c] = reader.array("measurement record length")?;
    // A length that does not fit in memory is longer than anything that is left.
    let len = usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap_or(usize::MAX);
    Ok((count, reader.bytes("measurement record", len)?))
}

fn measurements(announced: u8, record: &[u8]) -> Result<Vec<Measurement<'_>>, SpdmError> {
    let mut reader = Reader::new(record);
    let mut measurements = Vec::new();
    let mut seen = [false; 256];
    while !reader.rest().is_empty() {
        let measurement = measurement(&mut reader)?;
        match seen.get_mut(usize::from(measurement.index)) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(SpdmError::Twice { what: "measurement", id: measurement.index.into() }),
        }
        measurements.push(measurement);
    }
    if measurements.len() != usize::from(announced) {
        return Err(SpdmError::MeasurementCount { announced, found: measurements.len() });
    }
    Ok(measurements)
}

fn measurement<'a>(reader: &mut Reader<'a>) -> Result<Measurement<'a>, SpdmError> {
    let [index, specification] = reader.array("measurement block")?;
    let size = reader.u16("measurement block size")?;
    let mut block = Reader::new(reader.bytes("measurement block", size.into())?);
    let [kind] = block.array("measurement type")?;
    let value_size = block.u16("measurement size")?;
    let value = block.bytes("measurement", value_size.into())?;
    if specification != DMTF || !block.rest().is_empty() {
        return Err(SpdmError::Measurement { index });
    }
    Ok(Measurement { index, kind, value })
}

fn opaque_data(bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, SpdmError> {
    let mut reader = Reader::new(bytes);
    let mut fields: Vec<(u16, &[u8])> = Vec::new();
    while !reader.rest().is_empty() {
        let id = reader.u16("opaque id")?;
        let size = reader.u16("opaque size")?;
        let value = reader.bytes("opaque value", size.into())?;
        if opaque::READ.contains(&id) && fields.iter().any(|(seen, _)| *seen == id) {
            return Err(SpdmError::Twice { what: "opaque field", id });
        }
        fields.push((id, value));
    }
    Ok(fields)
}
