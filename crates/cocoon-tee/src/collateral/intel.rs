//! The head of Intel's signed documents: which platform they are about, and how old they are.
//!
//! Not here: the TCB levels themselves, which `cocoon-attest` judges after the signature.

use cocoon_attest::TdxCollateral;
use cocoon_attest::collateral::{CollateralNeed, IntelTee, PckCa};
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

/// What the first document is called in messages.
pub(super) const TCB_INFO: &str = "TCB info";
/// And the second.
pub(super) const QE_IDENTITY: &str = "QE identity";

/// A document and its signature, as PCS and PCCS send them.
#[derive(Debug)]
pub(super) struct Signed {
    /// Exactly the text that is signed.
    pub(super) text: String,
    /// Raw r and s.
    pub(super) signature: Vec<u8>,
}

impl Signed {
    /// Reads `{"tcbInfo": …, "signature": "…"}` or `{"enclaveIdentity": …, "signature": "…"}`.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow, rename = "tcbInfo", alias = "enclaveIdentity")]
            body: &'a RawValue,
            signature: String,
        }
        let envelope: Envelope<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let signature = hex::decode(envelope.signature).map_err(|error| format!("its signature: {error}"))?;
        if signature.len() != 64 {
            return Err(format!("its signature has {} bytes instead of 64", signature.len()));
        }
        Ok(Self { text: envelope.body.get().to_owned(), signature })
    }
}

/// What every such document begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// `SGX`, `TDX`, `QE`, `TD_QE`.
    pub(super) id: String,
    /// Of TCB info only.
    pub(super) fmspc: Option<String>,
    pub(super) issued_unix_s: u64,
    pub(super) expires_unix_s: u64,
    pub(super) evaluation_number: u32,
}

impl Head {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields {
            id: String,
            fmspc: Option<String>,
            issue_date: String,
            next_update: String,
            tcb_evaluation_data_number: u32,
        }
        let fields: Fields = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(Self {
            id: fields.id,
            fmspc: fields.fmspc,
            issued_unix_s: unix_s(&fields.issue_date)?,
            expires_unix_s: unix_s(&fields.next_update)?,
            evaluation_number: fields.tcb_evaluation_data_number,
        })
    }
}

fn unix_s(date: &str) -> Result<u64, String> {
    let time = OffsetDateTime::parse(date, &Rfc3339).map_err(|error| format!("the date {date:?}: {error}"))?;
    u64::try_from(time.unix_timestamp()).map_err(|_| format!("the date {date:?} is before 1970"))
}

/// What collateral is about, by its own words.
pub(super) fn subject(collateral: &TdxCollateral) -> Result<CollateralNeed, String> {
    let head = Head::parse(&collateral.tcb_info).map_err(|why| format!("{TCB_INFO}: {why}"))?;
    let tee = match head.id.as_str() {
        "TDX" => IntelTee::Tdx,
        "SGX" => IntelTee::Sgx,
        other => return Err(format!("{TCB_INFO}: of {other:?}, neither TDX nor SGX")),
    };
    let mut fmspc = [0; 6];
    hex::decode_to_slice(head.fmspc.unwrap_or_default(), &mut fmspc)
        .map_err(|error| format!("{TCB_INFO}: its FMSPC: {error}"))?;
    let qe_id = Head::parse(&collateral.qe_identity).map_err(|why| format!("{QE_IDENTITY}: {why}"))?.id;
    let qe_fits = match tee {
        IntelTee::Tdx => qe_id == "TD_QE",
        IntelTee::Sgx => qe_id == "QE",
    };
    if !qe_fits {
        return Err(format!("{QE_IDENTITY}: it is of {qe_id:?}"));
    }
    Ok(CollateralNeed::Intel { fmspc, ca: pck_ca(&collateral.pck_crl)?, tee })
}

/// Which intermediate issued a PCK revocation list: its name says so, of a simulated one too.
fn pck_ca(crl: &[u8]) -> Result<PckCa, String> {
    let (_, list) =
        CertificateRevocationList::from_der(crl).map_err(|error| format!("PCK revocation list: {error}"))?;
    let issuer = list.issuer().to_string();
    match (issuer.contains("Processor"), issuer.contains("Platform")) {
        (true, false) => Ok(PckCa::Processor),
        (false, true) => Ok(PckCa::Platform),
        (true, true) | (false, false) => Err(format!("PCK revocation list: of {issuer:?}, no PCK CA")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_text_is_kept_to_the_byte() {
        let signature = "00".repeat(64);
        let body = r#"{"id":"TDX","b":1.50,"a":"\u00e9"}"#;
        for name in ["tcbInfo", "enclaveIdentity"] {
            let signed = Signed::parse(&format!(r#" {{ "{name}":{body}, "signature":"{signature}" }} "#)).unwrap();
            assert_eq!(signed.text, body);
        }
        let long = format!(r#"{{"tcbInfo":{body},"signature":"{}"}}"#, "00".repeat(65));
        for odd in ["", "{}", r#"{"tcbInfo":{},"signature":"zz"}"#, &long] {
            assert!(Signed::parse(odd).is_err(), "{odd}");
        }
    }
}
