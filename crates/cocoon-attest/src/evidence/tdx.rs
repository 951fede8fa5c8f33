//! TDX quotes, version 4 (TD 1.0 bodies) and version 5 (TD 1.0, 1.5 and 1.5 with service TD extension).
//!
//! Layout: Intel TDX DCAP Quoting Library API, appendix A. Every field of the body is read; reserved ones have no place
//! in it. What is returned is untrusted.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::quote::{self, HEADER_BYTES, QuoteSignature};
use super::{FormatError, Reader};
use crate::facts::TdxMeasurements;

const TEE_TYPE_TDX: u32 = 0x81;

const TD10_BYTES: usize = 584;
const TD15_BYTES: usize = 648;
const TD15_EX_BYTES: usize = 885;

/// A parsed quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxQuote {
    /// 4 or 5.
    pub version: u16,
    /// What the module reported.
    pub report: TdReport,
    /// The signature and its certification.
    pub signature: QuoteSignature,
    /// How many bytes from the start the signature covers.
    pub signed_bytes: usize,
}

/// The report of a TD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdReport {
    /// Security versions of the module and its loader.
    pub tee_tcb_svn: [u8; 16],
    /// SEAMATTRIBUTES.
    pub seam_attributes: u64,
    /// ATTRIBUTES of the TD.
    pub td_attributes: u64,
    /// The extended features that the TD may use.
    pub xfam: u64,
    /// Everything measured.
    pub measurements: TdxMeasurements,
    /// 64 bytes of the TD's choice.
    pub report_data: [u8; 64],
    /// TEE_TCB_SVN2 of TD 1.5: what runs now, where the above is what the TD was launched on.
    pub tee_tcb_svn_now: Option<[u8; 16]>,
    /// What TD 1.5 with the service TD extension adds.
    pub extension: Option<Box<TdExtension>>,
}

/// Fields of body type 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdExtension {
    /// 0 for an unpartitioned TD.
    pub vm_id: u8,
    /// Of this very launch.
    pub td_id: [u8; 32],
    /// Hash of the devices bound to the TD.
    pub device_info: [u8; 48],
    /// Hash over the service TDs bound now; the measurements have those of the launch.
    pub service_td_hash_now: [u8; 48],
}

#[derive(Clone, Copy)]
enum Body {
    Td10,
    Td15,
    Td15Extended,
}

impl TdxQuote {
    /// Reads a quote; zeros may follow it.
    ///
    /// # Errors
    /// When the bytes are no such quote.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let header = quote::header(&mut reader, TEE_TYPE_TDX, &[4, 5])?;
        let (body, prefix) = if header.version == 4 { (Body::Td10, 0) } else { (Body::read(&mut reader)?, 6) };
        let report = TdReport::parse(reader.bytes("TD report", body.len())?, body)?;
        let signature = quote::signature_v4(reader.sized("signature data")?)?;
        reader.padding("signature data")?;
        // The parts were just read from a slice, so their sum is no longer than it.
        let signed_bytes = HEADER_BYTES.saturating_add(prefix).saturating_add(body.len());
        Ok(Self { version: header.version, report, signature, signed_bytes })
    }
}

impl Body {
    /// The body descriptor of version 5.
    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let body = match reader.u16("body type")? {
            2 => Self::Td10,
            3 => Self::Td15,
            4 => Self::Td15Extended,
            other => {
                let found = other.to_string();
                return Err(FormatError::Field { field: "body type", expected: "2, 3 or 4 (TD reports)", found });
            }
        };
        let size = reader.u32("body size")?;
        if usize::try_from(size) != Ok(body.len()) {
            let found = size.to_string();
            return Err(FormatError::Field { field: "body size", expected: "that of its type", found });
        }
        Ok(body)
    }

    const fn len(self) -> usize {
        match self {
            Self::Td10 => TD10_BYTES,
            Self::Td15 => TD15_BYTES,
            Self::Td15Extended => TD15_EX_BYTES,
        }
    }
}

impl TdReport {
    fn parse(bytes: &[u8], body: Body) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let tee_tcb_svn = reader.array("TEE_TCB_SVN")?;
        let mr_seam = reader.array("MRSEAM")?;
        let mr_signer_seam = reader.array("MRSIGNERSEAM")?;
        let seam_attributes = reader.u64("SEAMATTRIBUTES")?;
        let td_attributes = reader.u64("TDATTRIBUTES")?;
        let xfam = reader.u64("XFAM")?;
        let mut measurements = TdxMeasurements {
            mr_td: reader.array("MRTD")?,
            mr_config_id: reader.array("MRCONFIGID")?,
            mr_owner: reader.array("MROWNER")?,
            mr_owner_config: reader.array("MROWNERCONFIG")?,
            rtmr: [reader.array("RTMR0")?, reader.array("RTMR1")?, reader.array("RTMR2")?, reader.array("RTMR3")?],
            mr_seam,
            mr_signer_seam,
            mr_service_td: [0; 48],
        };
        let report_data = reader.array("REPORTDATA")?;
        let (tee_tcb_svn_now, extension) = match body {
            Body::Td10 => (None, None),
            Body::Td15 | Body::Td15Extended => {
                let now = reader.array("TEE_TCB_SVN2")?;
                measurements.mr_service_td = reader.array("MRSERVICETD")?;
                let extended = matches!(body, Body::Td15Extended);
                (Some(now), extended.then(|| TdExtension::read(&mut reader)).transpose()?)
            }
        };
        reader.end("TD report")?;
        let extension = extension.map(Box::new);
        Ok(Self {
            tee_tcb_svn,
            seam_attributes,
            td_attributes,
            xfam,
            measurements,
            report_data,
            tee_tcb_svn_now,
            extension,
        })
    }
}

impl TdExtension {
    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let [vm_id] = reader.array("VMID")?;
        let td_id = reader.array("TDID")?;
        let device_info = reader.array("device info")?;
        // State of the service TDs and of the platform when the TD was created; nothing appraises it.
        reader.bytes("initial service TD hash and attributes", 48 + 8)?;
        reader.bytes("initial CPUSVN, TEE_TCB_SVN and FMSPC", 16 + 16 + 12)?;
        let service_td_hash_now = reader.array("current service TD hash")?;
        reader.bytes("current service TD attributes", 8)?;
        Ok(Self { vm_id, td_id, device_info, service_td_hash_now })
    }
}
