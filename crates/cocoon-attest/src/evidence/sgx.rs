//! SGX quotes, version 3: evidence of enclaves, such as the one that keeps the original's sealing keys.
//!
//! Layout: Intel SGX ECDSA QuoteLibReference, appendix A. What is returned is untrusted.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::quote::{self, HEADER_BYTES, QuoteSignature};
use super::{FormatError, Reader};
use crate::facts::SgxMeasurements;

const TEE_TYPE_SGX: u32 = 0;

const REPORT_BYTES: usize = 384;

/// A parsed quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SgxQuote {
    /// What the processor reported.
    pub report: EnclaveReport,
    /// The signature and its certification.
    pub signature: QuoteSignature,
    /// How many bytes from the start the signature covers.
    pub signed_bytes: usize,
}

/// The report of an enclave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnclaveReport {
    /// Security versions of the processor.
    pub cpu_svn: [u8; 16],
    /// MISCSELECT.
    pub misc_select: u32,
    /// ATTRIBUTES.FLAGS.
    pub flags: u64,
    /// ATTRIBUTES.XFRM.
    pub xfrm: u64,
    /// Who the enclave is.
    pub measurements: SgxMeasurements,
    /// 64 bytes of the enclave's choice.
    pub report_data: [u8; 64],
}

impl SgxQuote {
    /// Reads a quote; zeros may follow it.
    ///
    /// # Errors
    /// When the bytes are no such quote.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        quote::header(&mut reader, TEE_TYPE_SGX, &[3])?;
        let report = EnclaveReport::parse(reader.bytes("enclave report", REPORT_BYTES)?)?;
        let signature = quote::signature_v3(reader.sized("signature data")?)?;
        reader.padding("signature data")?;
        Ok(Self { report, signature, signed_bytes: HEADER_BYTES + REPORT_BYTES })
    }
}

impl EnclaveReport {
    /// Parts that the processor keeps for itself (CONFIGID and the like among them) are covered by the signature and
    /// skipped.
    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let cpu_svn = reader.array("CPUSVN")?;
        let misc_select = reader.u32("MISCSELECT")?;
        reader.bytes("reserved", 28)?;
        let flags = reader.u64("ATTRIBUTES.FLAGS")?;
        let xfrm = reader.u64("ATTRIBUTES.XFRM")?;
        let mr_enclave = reader.array("MRENCLAVE")?;
        reader.bytes("reserved", 32)?;
        let mr_signer = reader.array("MRSIGNER")?;
        reader.bytes("reserved", 96)?;
        let isv_prod_id = reader.u16("ISVPRODID")?;
        let isv_svn = reader.u16("ISVSVN")?;
        reader.bytes("reserved", 60)?;
        let report_data = reader.array("REPORTDATA")?;
        reader.end("enclave report")?;
        let measurements = SgxMeasurements { mr_enclave, mr_signer, isv_prod_id, isv_svn };
        Ok(Self { cpu_svn, misc_select, flags, xfrm, measurements, report_data })
    }
}
