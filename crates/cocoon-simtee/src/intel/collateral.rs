//! What Intel's provisioning certification service says: TCB info, QE identity, revocation lists, issued on demand.
//!
//! Patch levels work as Intel's do: after a "TCB recovery" the list begins with a level that asks for more than the
//! platform has, and the platform falls through to its own, older one.

use cocoon_attest::collateral::{IntelTee, TdxCollateral};
use cocoon_attest::facts::TcbStatus;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::format_description::well_known::Rfc3339;

use super::{CPU_SVN, FMSPC, Intel, PCE_SVN, QE_ATTRIBUTES, QE_ISV_SVN, SGX_QE_PRODUCT, TD_QE_PRODUCT, TEE_TCB_SVN};
use crate::faults::Faults;
use crate::issuing::Window;
use crate::pki::datetime;

/// TCB info or QE identity with its signature, in the service's envelope.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    /// The signed text.
    pub(crate) body: String,
    /// Raw r and s.
    pub(crate) signature: Vec<u8>,
}

impl Signed {
    /// `{"tcbInfo": …, "signature": "…"}`, with the signed text as it is: a client cuts it out again.
    pub(crate) fn envelope(&self, name: &str) -> String {
        format!(r#"{{"{name}":{},"signature":"{}"}}"#, self.body, hex::encode(&self.signature))
    }
}

/// Everything at once, as a verifier wants it.
pub(crate) fn collateral(intel: &Intel, tee: IntelTee, faults: &Faults, window: Window) -> TdxCollateral {
    let tcb_info = tcb_info(intel, tee, faults, window);
    let qe_identity = qe_identity(intel, tee, faults, window);
    TdxCollateral {
        pck_crl_issuer_chain: intel.platform_ca_chain(),
        root_ca_crl: root_crl(intel, window),
        pck_crl: pck_crl(intel, faults, window),
        tcb_info_issuer_chain: intel.tcb_signing_chain(),
        tcb_info: tcb_info.body,
        tcb_info_signature: tcb_info.signature,
        qe_identity_issuer_chain: intel.tcb_signing_chain(),
        qe_identity: qe_identity.body,
        qe_identity_signature: qe_identity.signature,
    }
}

pub(crate) fn root_crl(intel: &Intel, window: Window) -> Vec<u8> {
    intel.root.revocation_list(&[], window.issued_unix_s, window.ends_unix_s)
}

pub(crate) fn pck_crl(intel: &Intel, faults: &Faults, window: Window) -> Vec<u8> {
    let revoked = faults.pck_revoked.then_some(intel.pck.certificate.serial);
    intel.platform_ca.revocation_list(revoked.as_slice(), window.issued_unix_s, window.ends_unix_s)
}

pub(crate) fn tcb_info(intel: &Intel, tee: IntelTee, faults: &Faults, window: Window) -> Signed {
    let mut info = json!({
        "id": match tee { IntelTee::Sgx => "SGX", IntelTee::Tdx => "TDX" },
        "version": 3,
        "issueDate": date(window.issued_unix_s),
        "nextUpdate": date(window.ends_unix_s),
        "fmspc": hex::encode_upper(FMSPC),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": faults.tcb_evaluation_number,
        "tcbLevels": tcb_levels(tee, faults, window),
    });
    if let (IntelTee::Tdx, Value::Object(fields)) = (tee, &mut info) {
        fields.insert("tdxModule".to_owned(), tdx_module());
        fields.insert("tdxModuleIdentities".to_owned(), json!([tdx_module_identity(window)]));
    }
    sign(intel, &info)
}

pub(crate) fn qe_identity(intel: &Intel, tee: IntelTee, faults: &Faults, window: Window) -> Signed {
    let (id, product) = match tee {
        IntelTee::Sgx => ("QE", SGX_QE_PRODUCT),
        IntelTee::Tdx => ("TD_QE", TD_QE_PRODUCT),
    };
    sign(
        intel,
        &json!({
            "id": id,
            "version": 2,
            "issueDate": date(window.issued_unix_s),
            "nextUpdate": date(window.ends_unix_s),
            "tcbEvaluationDataNumber": faults.tcb_evaluation_number,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": format!("{QE_ATTRIBUTES:02X}{}", "00".repeat(15)),
            "attributesMask": format!("FB{}{}", "FF".repeat(7), "00".repeat(8)),
            "mrsigner": hex::encode_upper(super::qe_signer()),
            "isvprodid": product,
            "tcbLevels": [{
                "tcb": { "isvsvn": QE_ISV_SVN },
                "tcbDate": date(window.made_unix_s),
                "tcbStatus": "UpToDate",
            }],
        }),
    )
}

/// MRSEAM of the simulated TDX module.
pub(crate) fn mr_seam() -> [u8; 48] {
    sha2::Sha384::digest(b"simulated TDX module").into()
}

/// Measurement of the simulated quoting enclave.
pub(crate) fn qe_measurement() -> [u8; 32] {
    Sha256::digest(b"simulated quoting enclave").into()
}

fn tcb_levels(tee: IntelTee, faults: &Faults, window: Window) -> Vec<Value> {
    let level_date = faults.tcb_level_date_unix_s.unwrap_or(window.made_unix_s);
    let own = tcb_level(tee, PCE_SVN, level_date, faults.tcb_status, &faults.advisories);
    let recovered = match faults.tcb_status {
        TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded | TcbStatus::Revoked => {
            let newer = PCE_SVN.saturating_add(1);
            Some(tcb_level(tee, newer, window.issued_unix_s, TcbStatus::UpToDate, &[]))
        }
        TcbStatus::UpToDate
        | TcbStatus::SWHardeningNeeded
        | TcbStatus::ConfigurationNeeded
        | TcbStatus::ConfigurationAndSWHardeningNeeded
        | TcbStatus::TDRelaunchAdvised
        | TcbStatus::TDRelaunchAdvisedConfigurationNeeded => None,
    };
    recovered.into_iter().chain([own]).collect()
}

fn tcb_level(tee: IntelTee, pce_svn: u8, at: u64, status: TcbStatus, advisories: &[String]) -> Value {
    let components = |svns: [u8; 16]| svns.map(|svn| json!({ "svn": svn })).to_vec();
    let mut tcb = json!({ "sgxtcbcomponents": components(CPU_SVN), "pcesvn": pce_svn });
    if let (IntelTee::Tdx, Value::Object(fields)) = (tee, &mut tcb) {
        fields.insert("tdxtcbcomponents".to_owned(), Value::Array(components(TEE_TCB_SVN)));
    }
    let mut level = json!({ "tcb": tcb, "tcbDate": date(at), "tcbStatus": status });
    if let (false, Value::Object(fields)) = (advisories.is_empty(), &mut level) {
        fields.insert("advisoryIDs".to_owned(), json!(advisories));
    }
    level
}

fn tdx_module() -> Value {
    json!({
        "mrsigner": "00".repeat(48),
        "attributes": "0000000000000000",
        "attributesMask": "FFFFFFFFFFFFFFFF",
    })
}

fn tdx_module_identity(window: Window) -> Value {
    let [isv_svn, major, ..] = TEE_TCB_SVN;
    json!({
        "id": format!("TDX_{major:02X}"),
        "mrsigner": "00".repeat(48),
        "attributes": "0000000000000000",
        "attributesMask": "FFFFFFFFFFFFFFFF",
        "tcbLevels": [{ "tcb": { "isvsvn": isv_svn }, "tcbDate": date(window.made_unix_s), "tcbStatus": "UpToDate" }],
    })
}

fn sign(intel: &Intel, value: &Value) -> Signed {
    let body = value.to_string();
    let signature = intel.tcb_signing.key.sign_raw(body.as_bytes());
    Signed { body, signature }
}

fn date(unix_s: u64) -> String {
    datetime(unix_s).format(&Rfc3339).expect("a time within the calendar has an RFC 3339 form")
}
