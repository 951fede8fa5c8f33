//! The parts that Intel's quotes share: the header, and the signature with its certification.
//!
//! Layouts: Intel SGX ECDSA QuoteLibReference, appendix A (v3); Intel TDX DCAP Quoting Library API, appendix A (v4, v5).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{FormatError, Reader};

/// Bytes of the header of every version.
pub(super) const HEADER_BYTES: usize = 48;

/// The only signature scheme there is: ECDSA with P-256.
const KEY_TYPE_ECDSA_P256: u16 = 2;

/// `939a7233-f79c-4ca9-940a-0db3957f0607`: Intel's quoting enclaves, the only ones with collateral.
const INTEL_QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];

const ENCLAVE_REPORT_BYTES: usize = 384;
const SIGNATURE_BYTES: usize = 64;
const PUBLIC_KEY_BYTES: usize = 64;

/// What the quoting enclave adds to its own report; Intel's adds 32 bytes.
const QE_AUTHENTICATION_BYTES: u16 = 32;

/// Certification of kind 6 wraps the quoting enclave's report since version 4.
const QE_REPORT_CERTIFICATION: u16 = 6;

/// The signature of a quote and what certifies its key. Not checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteSignature {
    /// Over everything before the signature: raw r and s.
    pub signature: [u8; SIGNATURE_BYTES],
    /// The attestation key: raw x and y.
    pub attestation_key: [u8; PUBLIC_KEY_BYTES],
    /// What certifies the quoting enclave.
    pub certification: Certification,
}

/// How a quote names the certificate of its platform (the PCK certificate).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certification {
    /// The kind.
    pub kind: CertificationKind,
    /// Its bytes: PEM for a chain, leaf first, with or without a NUL after it.
    pub data: Vec<u8>,
}

/// The kinds of certification that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificationKind {
    /// The whole chain: the only kind that can be verified from the quote alone.
    Chain,
    /// Any other: an identifier that a service would have to resolve.
    Other(u16),
}

/// Fields of the header that matter after it was checked.
pub(super) struct Header {
    pub(super) version: u16,
}

/// Reads the header; `tee_type` is the one that the caller parses.
pub(super) fn header(reader: &mut Reader<'_>, tee_type: u32, versions: &[u16]) -> Result<Header, FormatError> {
    let version = reader.u16("quote version")?;
    if !versions.contains(&version) {
        return Err(field("quote version", "one that this program reads", version));
    }
    let key_type = reader.u16("attestation key type")?;
    if key_type != KEY_TYPE_ECDSA_P256 {
        return Err(field("attestation key type", "2 (ECDSA with P-256)", key_type));
    }
    let found = reader.u32("TEE type")?;
    if found != tee_type {
        return Err(field("TEE type", "that of this format", format!("{found:#x}")));
    }
    // Security versions of the quoting and provisioning enclaves in v3, reserved later; the certificate has them too.
    reader.bytes("QE and PCE security versions", 4)?;
    let vendor = reader.array::<16>("QE vendor")?;
    if vendor != INTEL_QE_VENDOR {
        return Err(field("QE vendor", "Intel", hex::encode(vendor)));
    }
    reader.bytes("user data", 20)?;
    Ok(Header { version })
}

/// The signature data of version 3.
pub(super) fn signature_v3(bytes: &[u8]) -> Result<QuoteSignature, FormatError> {
    let mut reader = Reader::new(bytes);
    let signature = reader.array("quote signature")?;
    let attestation_key = reader.array("attestation key")?;
    let certification = certification(&mut reader)?;
    reader.end("certification data")?;
    Ok(QuoteSignature { signature, attestation_key, certification })
}

/// The signature data of versions 4 and 5.
pub(super) fn signature_v4(bytes: &[u8]) -> Result<QuoteSignature, FormatError> {
    let mut reader = Reader::new(bytes);
    let signature = reader.array("quote signature")?;
    let attestation_key = reader.array("attestation key")?;
    let kind = reader.u16("QE certification kind")?;
    if kind != QE_REPORT_CERTIFICATION {
        return Err(field("QE certification kind", "6 (QE report)", kind));
    }
    let mut inner = Reader::new(reader.sized("QE certification")?);
    reader.end("QE certification")?;
    let certification = certification(&mut inner)?;
    inner.end("certification data")?;
    Ok(QuoteSignature { signature, attestation_key, certification })
}

fn certification(reader: &mut Reader<'_>) -> Result<Certification, FormatError> {
    reader.bytes("QE report", ENCLAVE_REPORT_BYTES)?;
    reader.bytes("QE report signature", SIGNATURE_BYTES)?;
    let len = reader.u16("QE authentication data")?;
    if len != QE_AUTHENTICATION_BYTES {
        return Err(field("QE authentication data", "32 bytes long", len));
    }
    reader.bytes("QE authentication data", usize::from(len))?;
    let kind = match reader.u16("certification kind")? {
        5 => CertificationKind::Chain,
        other => CertificationKind::Other(other),
    };
    let data = reader.sized("certification data")?.to_vec();
    Ok(Certification { kind, data })
}

fn field(field: &'static str, expected: &'static str, found: impl ToString) -> FormatError {
    FormatError::Field { field, expected, found: found.to_string() }
}
