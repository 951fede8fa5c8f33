//! Intel's endorsements from a PCCS, or from Intel's PCS itself, by the protocol of version 4.
//!
//! 1. `/sgx/certification/v4/pckcrl?ca=…&encoding=der`: revoked PCK certificates; the issuer chain is in a header.
//! 2. `/{tdx,sgx}/certification/v4/tcb?fmspc=…`: patch levels, signed; chain in a header.
//! 3. `/{tdx,sgx}/certification/v4/qe/identity`: the quoting enclave, signed; chain in a header.
//! 4. `/sgx/certification/v4/rootcacrl`: revoked intermediates. A PCCS writes hexadecimal digits, others DER; Intel's
//!    own service has no such path, its list lies beside its root certificate.
//!
//! Not here: verification, and remembering ([`CollateralCache`](super::CollateralCache)).

use std::sync::Arc;

use async_trait::async_trait;
use cocoon_attest::collateral::{CollateralNeed, IntelTee, PckCa, TdxCollateral};
use cocoon_attest::{Collateral, CollateralError, CollateralSource};

use super::http::{Service, ServiceUrlError};
use super::intel::{QE_IDENTITY, Signed, TCB_INFO, subject};
use crate::limits::FETCH_TIMEOUT;

/// Intel's own service.
const INTEL_PCS: &str = "https://api.trustedservices.intel.com";

/// Where Intel's own root revocation list is.
const INTEL_ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

const TCB_CHAIN: &[&str] = &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"];
const QE_CHAIN: &[&str] = &["SGX-Enclave-Identity-Issuer-Chain"];
const CRL_CHAIN: &[&str] = &["SGX-PCK-CRL-Issuer-Chain"];

/// A client of a PCCS. Each call fetches: put a cache before it.
#[derive(Debug, Clone)]
pub struct Pccs {
    service: Service,
}

impl Pccs {
    /// A client of the service at this address, such as `https://pccs.example` or `http://127.0.0.1:8081`.
    /// An address that goes on with `/sgx/certification/v4` is understood too.
    ///
    /// # Errors
    /// When it is no such address, or one without TLS on another machine.
    pub fn new(base: &str) -> Result<Self, ServiceUrlError> {
        Self::with_timeout(base, FETCH_TIMEOUT)
    }

    /// As [`new`](Self::new), with another deadline for each answer.
    ///
    /// # Errors
    /// As there.
    pub fn with_timeout(base: &str, timeout: std::time::Duration) -> Result<Self, ServiceUrlError> {
        let base = base.trim_end_matches('/');
        let base = ["/sgx/certification/v4", "/tdx/certification/v4"]
            .iter()
            .find_map(|path| base.strip_suffix(path))
            .unwrap_or(base);
        Ok(Self { service: Service::new(base, timeout)? })
    }

    fn fetch(&self, fmspc: [u8; 6], ca: PckCa, tee: IntelTee) -> Result<Collateral, CollateralError> {
        let service = &self.service;
        let (ca_name, tee_name) = (ca_name(ca), tee_name(tee));
        let tcb_path = format!("/{tee_name}/certification/v4/tcb?fmspc={}", hex::encode_upper(fmspc));
        let tcb = service.get(&tcb_path)?;
        let qe = service.get(&format!("/{tee_name}/certification/v4/qe/identity"))?;
        let pck = service.get(&format!("/sgx/certification/v4/pckcrl?ca={ca_name}&encoding=der"))?;
        let signed = |what, text: &str| Signed::parse(text).map_err(|why| service.malformed(what, why));
        let tcb_signed = signed(TCB_INFO, tcb.text(TCB_INFO)?)?;
        let qe_signed = signed(QE_IDENTITY, qe.text(QE_IDENTITY)?)?;
        let collateral = TdxCollateral {
            pck_crl_issuer_chain: pck.pem_header(CRL_CHAIN)?,
            root_ca_crl: self.fetch_root_crl()?,
            pck_crl: der_or_hex(&pck.body)
                .ok_or_else(|| service.malformed("PCK revocation list", "neither DER nor hex"))?,
            tcb_info_issuer_chain: tcb.pem_header(TCB_CHAIN)?,
            tcb_info: tcb_signed.text,
            tcb_info_signature: tcb_signed.signature,
            qe_identity_issuer_chain: qe.pem_header(QE_CHAIN)?,
            qe_identity: qe_signed.text,
            qe_identity_signature: qe_signed.signature,
        };
        let found = subject(&collateral).map_err(|why| service.malformed("the answers", why))?;
        let asked = CollateralNeed::Intel { fmspc, ca, tee };
        if found != asked {
            return Err(service.malformed("the answers", format_args!("asked for {asked:?}, got {found:?}")));
        }
        Ok(Collateral::Intel(collateral))
    }

    fn fetch_root_crl(&self) -> Result<Vec<u8>, CollateralError> {
        let answer = if self.service.base() == INTEL_PCS {
            self.service.get_absolute(INTEL_ROOT_CRL)?
        } else {
            self.service.get("/sgx/certification/v4/rootcacrl")?
        };
        let what = "root revocation list";
        der_or_hex(&answer.body).ok_or_else(|| self.service.malformed(what, "neither DER nor hex"))
    }
}

#[async_trait]
impl CollateralSource for Pccs {
    async fn collateral(&self, need: &CollateralNeed, _now_unix_s: u64) -> Result<Arc<Collateral>, CollateralError> {
        let CollateralNeed::Intel { fmspc, ca, tee } = *need else {
            return Err(CollateralError::NoSource);
        };
        let this = self.clone();
        let fetched = tokio::task::spawn_blocking(move || this.fetch(fmspc, ca, tee)).await;
        fetched.map_err(|error| self.service.failed("fetching", error))?.map(Arc::new)
    }
}

const fn ca_name(ca: PckCa) -> &'static str {
    match ca {
        PckCa::Processor => "processor",
        PckCa::Platform => "platform",
    }
}

const fn tee_name(tee: IntelTee) -> &'static str {
    match tee {
        IntelTee::Sgx => "sgx",
        IntelTee::Tdx => "tdx",
    }
}

/// A DER sequence, or one written in hexadecimal digits.
fn der_or_hex(body: &[u8]) -> Option<Vec<u8>> {
    const SEQUENCE: u8 = 0x30;
    // The digit "0" is 0x30 too, so the digits are tried first: DER of this length never consists of digits alone.
    let bytes = hex::decode(body.trim_ascii()).unwrap_or_else(|_| body.to_vec());
    (bytes.first() == Some(&SEQUENCE)).then_some(bytes)
}
