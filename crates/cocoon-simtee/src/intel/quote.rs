//! TDX quotes, versions 4 and 5 (Intel's "TDX DCAP Quote Generation Library and Quote Verification Library", appendix A).
//!
//! ```text
//! header 48 | [v5: body type, size] | TD report 584 or 648 | length | signature 64 | attestation key 64
//!   | certification data 6: QE report 384, its signature by the PCK key 64, auth data 32, certification data 5: PEM chain
//! ```
//!
//! The attestation key signs header and body; the QE report vouches for that key: its report data is
//! SHA-256(key || auth data).

use sha2::{Digest as _, Sha256};

use super::collateral::{mr_seam, qe_measurement};
use super::{CPU_SVN, Intel, QE_ATTRIBUTES, QE_ISV_SVN, TD_QE_PRODUCT, TEE_TCB_SVN, qe_signer};

/// Which quote a TD shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum QuoteVersion {
    /// Version 4 with the TDX 1.0 body of 584 bytes: what most hosts make.
    #[default]
    V4,
    /// Version 5 with the TDX 1.5 body of 648 bytes.
    V5,
}

/// What the TDX module reports of a TD.
#[derive(Debug, Clone)]
pub(crate) struct TdReport {
    pub(crate) attributes: u64,
    pub(crate) xfam: u64,
    pub(crate) mr_td: [u8; 48],
    pub(crate) mr_config_id: [u8; 48],
    pub(crate) mr_owner: [u8; 48],
    pub(crate) mr_owner_config: [u8; 48],
    pub(crate) rtmr: [[u8; 48]; 4],
    pub(crate) report_data: [u8; 64],
}

const TEE_TYPE_TDX: u32 = 0x81;
const ECDSA_P256: u16 = 2;
const INTEL_QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
const BODY_TD_REPORT_15: u16 = 3;
const CERTIFICATION_PCK_CHAIN: u16 = 5;
const CERTIFICATION_QE_REPORT: u16 = 6;

impl TdReport {
    /// The body of a quote: 584 bytes, or 648.
    pub(crate) fn body(&self, version: QuoteVersion) -> Vec<u8> {
        let mut body = Vec::with_capacity(648);
        body.extend_from_slice(&TEE_TCB_SVN);
        body.extend_from_slice(&mr_seam());
        body.extend_from_slice(&[0; 48]); // MRSIGNERSEAM: zero, as for Intel's module.
        body.extend_from_slice(&[0; 8]); // SEAMATTRIBUTES
        body.extend_from_slice(&self.attributes.to_le_bytes());
        body.extend_from_slice(&self.xfam.to_le_bytes());
        for register in [&self.mr_td, &self.mr_config_id, &self.mr_owner, &self.mr_owner_config] {
            body.extend_from_slice(register);
        }
        for register in &self.rtmr {
            body.extend_from_slice(register);
        }
        body.extend_from_slice(&self.report_data);
        if version == QuoteVersion::V5 {
            body.extend_from_slice(&TEE_TCB_SVN); // TEE_TCB_SVN2: the module was not updated under the TD.
            body.extend_from_slice(&[0; 48]); // MRSERVICETD: no service TD is bound.
        }
        body
    }
}

/// A quote over a report.
pub(crate) fn quote(intel: &Intel, report: &TdReport, version: QuoteVersion) -> Vec<u8> {
    let mut quote = header(version);
    let body = report.body(version);
    if version == QuoteVersion::V5 {
        quote.extend_from_slice(&BODY_TD_REPORT_15.to_le_bytes());
        quote.extend_from_slice(&len32(&body));
    }
    quote.extend_from_slice(&body);

    let signature = intel.attestation_key.sign_raw(&quote);
    let certification = certification_data(CERTIFICATION_QE_REPORT, &qe_certification(intel));
    let signature_data = [signature, intel.attestation_key.raw_point(), certification].concat();
    quote.extend_from_slice(&len32(&signature_data));
    quote.extend_from_slice(&signature_data);
    quote
}

fn header(version: QuoteVersion) -> Vec<u8> {
    let number: u16 = match version {
        QuoteVersion::V4 => 4,
        QuoteVersion::V5 => 5,
    };
    let mut header = Vec::with_capacity(48);
    header.extend_from_slice(&number.to_le_bytes());
    header.extend_from_slice(&ECDSA_P256.to_le_bytes());
    header.extend_from_slice(&TEE_TYPE_TDX.to_le_bytes());
    header.extend_from_slice(&[0; 4]); // Versions of QE and PCE, reserved since version 4.
    header.extend_from_slice(&INTEL_QE_VENDOR);
    header.extend_from_slice(&[0; 20]); // User data.
    header
}

fn qe_certification(intel: &Intel) -> Vec<u8> {
    let report = qe_report(intel);
    let auth_data_len = u16::try_from(intel.qe_auth_data.len()).expect("32 bytes");
    let mut data = report.clone();
    data.extend_from_slice(&intel.pck.key.sign_raw(&report));
    data.extend_from_slice(&auth_data_len.to_le_bytes());
    data.extend_from_slice(&intel.qe_auth_data);
    data.extend_from_slice(&certification_data(CERTIFICATION_PCK_CHAIN, intel.pck_chain().as_bytes()));
    data
}

/// The report of the quoting enclave: 384 bytes.
fn qe_report(intel: &Intel) -> Vec<u8> {
    let key_hash: [u8; 32] = Sha256::new()
        .chain_update(intel.attestation_key.raw_point())
        .chain_update(intel.qe_auth_data)
        .finalize()
        .into();
    let mut report = Vec::with_capacity(384);
    report.extend_from_slice(&CPU_SVN);
    report.extend_from_slice(&[0; 32]); // MISCSELECT and reserved.
    report.push(QE_ATTRIBUTES);
    report.extend_from_slice(&[0; 15]);
    report.extend_from_slice(&qe_measurement());
    report.extend_from_slice(&[0; 32]);
    report.extend_from_slice(&qe_signer());
    report.extend_from_slice(&[0; 96]);
    report.extend_from_slice(&TD_QE_PRODUCT.to_le_bytes());
    report.extend_from_slice(&QE_ISV_SVN.to_le_bytes());
    report.extend_from_slice(&[0; 60]);
    report.extend_from_slice(&key_hash);
    report.extend_from_slice(&[0; 32]);
    report
}

fn certification_data(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_le_bytes().as_slice(), &len32(data), data].concat()
}

fn len32(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("parts of a quote are some KiB long").to_le_bytes()
}
