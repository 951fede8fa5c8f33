//! What the original's TLS router says about an attested peer, once, before the packets.
//!
//! The record is a claim of whoever connects: it proves nothing, and only a listener in
//! `InsecureBehindRouter` mode reads it, in interoperability tests.
//! See wire.md, end of section 1.

use bytes::Bytes;
use thiserror::Error;

use crate::DecodeError;
use crate::limits::{ADDRESS_MAX, ROUTER_RECORD_MAX};
use crate::reader::Reader;
use crate::writer::Writer;

/// An unverified claim about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterRecord {
    /// What the router says it measured, if the peer was attested.
    pub unverified_report: Option<UnverifiedReport>,
    /// The hash of the collateral's root.
    pub collateral_root_hash: [u8; 48],
    /// The peer's key.
    pub public_key: [u8; 32],
    /// Where the peer connected from.
    pub source_ip: String,
    /// Its port.
    pub source_port: u16,
    /// Where the peer connected to.
    pub destination_ip: String,
    /// Its port.
    pub destination_port: u16,
}

/// The measurements of a TDX quote, as the router claims.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnverifiedReport {
    /// Intel TDX.
    Tdx(Box<TdxFields>),
}

/// Fields of a TDX report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxFields {
    /// MRTD.
    pub mr_td: [u8; 48],
    /// MRCONFIGID.
    pub mr_config_id: [u8; 48],
    /// MROWNER.
    pub mr_owner: [u8; 48],
    /// MROWNERCONFIG.
    pub mr_owner_config: [u8; 48],
    /// RTMR0 to RTMR3.
    pub rtmrs: [[u8; 48]; 4],
    /// REPORTDATA.
    pub report_data: [u8; 64],
}

/// A record that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RouterRecordError {
    /// Longer than any record.
    #[error("router record of {0} bytes is too long")]
    TooLong(u32),
    /// SGX and whatever comes after it.
    #[error("router record has report type {0}, which is not supported")]
    UnsupportedReport(u32),
    /// Not a record.
    #[error("router record: {0}")]
    Decode(#[from] DecodeError),
}

impl RouterRecord {
    /// A record without a report, for a dialer that plays the router.
    #[must_use]
    pub fn unattested(public_key: [u8; 32], source: (String, u16), destination: (String, u16)) -> Self {
        Self {
            unverified_report: None,
            collateral_root_hash: [0; 48],
            public_key,
            source_ip: source.0,
            source_port: source.1,
            destination_ip: destination.0,
            destination_port: destination.1,
        }
    }

    /// How many bytes follow the four of the length.
    ///
    /// # Errors
    ///
    /// When it is more than [`ROUTER_RECORD_MAX`].
    pub fn body_len(length: [u8; 4]) -> Result<usize, RouterRecordError> {
        let length = u32::from_le_bytes(length);
        let body_len = usize::try_from(length).ok().filter(|&len| len <= ROUTER_RECORD_MAX);
        body_len.ok_or(RouterRecordError::TooLong(length))
    }

    /// Reads a record's body: what follows the length.
    ///
    /// # Errors
    ///
    /// See [`RouterRecordError`]; the peer is to blame.
    pub fn decode_body(body: Bytes) -> Result<Self, RouterRecordError> {
        let mut reader = Reader::new(body);
        let unverified_report = match reader.u32()? {
            0 => None,
            1 => Some(read_report(&mut reader)?),
            other => return Err(DecodeError::BadBool(other).into()),
        };
        let collateral_root_hash = reader.raw()?;
        let public_key = reader.bytes()?;
        let public_key = public_key.as_ref().try_into();
        let record = Self {
            unverified_report,
            collateral_root_hash,
            public_key: public_key.map_err(|_| DecodeError::OutOfRange("public_key"))?,
            source_ip: read_ip(&mut reader)?,
            source_port: read_port(&mut reader)?,
            destination_ip: read_ip(&mut reader)?,
            destination_port: read_port(&mut reader)?,
        };
        reader.finish()?;
        Ok(record)
    }

    /// Writes length and body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        match &self.unverified_report {
            None => writer.u32(0),
            Some(UnverifiedReport::Tdx(fields)) => {
                writer.u32(1);
                write_tdx(&mut writer, fields);
            }
        }
        writer.raw(&self.collateral_root_hash);
        writer.bytes_inline(&self.public_key);
        writer.string(&self.source_ip);
        writer.u32(u32::from(self.source_port));
        writer.string(&self.destination_ip);
        writer.u32(u32::from(self.destination_port));
        let body = writer.finish().to_bytes();
        let mut framed = Writer::with_capacity(body.len().saturating_add(4));
        // A few hundred bytes of fixed fields and two addresses.
        framed.u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        framed.raw(&body);
        framed.finish().to_bytes()
    }
}

const TDX: u32 = 0;

fn read_report(reader: &mut Reader) -> Result<UnverifiedReport, RouterRecordError> {
    match reader.u32()? {
        TDX => {}
        other => return Err(RouterRecordError::UnsupportedReport(other)),
    }
    Ok(UnverifiedReport::Tdx(Box::new(TdxFields {
        mr_td: reader.raw()?,
        mr_config_id: reader.raw()?,
        mr_owner: reader.raw()?,
        mr_owner_config: reader.raw()?,
        rtmrs: [reader.raw()?, reader.raw()?, reader.raw()?, reader.raw()?],
        report_data: reader.raw()?,
    })))
}

fn write_tdx(writer: &mut Writer, fields: &TdxFields) {
    writer.u32(TDX);
    for field in [&fields.mr_td, &fields.mr_config_id, &fields.mr_owner, &fields.mr_owner_config] {
        writer.raw(field);
    }
    for rtmr in &fields.rtmrs {
        writer.raw(rtmr);
    }
    writer.raw(&fields.report_data);
}

fn read_ip(reader: &mut Reader) -> Result<String, DecodeError> {
    let ip = reader.string()?;
    if ip.len() > ADDRESS_MAX { Err(DecodeError::TooLong("ip")) } else { Ok(ip) }
}

fn read_port(reader: &mut Reader) -> Result<u16, DecodeError> {
    u16::try_from(reader.u32()?).map_err(|_| DecodeError::OutOfRange("port"))
}
