//! Verification: signatures, certificates, revocation and freshness of collateral. Evidence in, facts out.
//!
//! What comes out was signed by a key under one of the given roots at the given time, on a platform whose patch level
//! the [`IntelRules`] accept. Whether the facts are the wanted ones (measurements, report data, versions of AMD's
//! firmware, which machine) is for [`crate::policy`]. Everything fails closed: an error that is not understood refuses.
//!
//! The one judgement that is made here, before any signature is looked at, is that of attributes under which a TD or
//! enclave keeps no secret from its host (DEBUG and the like): no rule can allow them.

use crate::collateral::{Collateral, CollateralNeed};
use crate::evidence::PlatformEvidence;
use crate::facts::{PlatformFacts, TcbStatus};
use crate::limits::QUOTE_BYTES_MAX;
use crate::refusal::{Check, Refusal};
use crate::roots::TrustAnchor;
use crate::verdict::Provenance;

mod amd;
mod intel;
pub mod nvidia;
mod x509;

/// The roots that count, by vendor.
#[derive(Debug, Clone, Copy)]
pub struct Roots<'a> {
    /// For TDX and SGX.
    pub intel: &'a [TrustAnchor],
    /// For SEV-SNP: root keys (ARK).
    pub amd: &'a [TrustAnchor],
    /// For GPUs.
    pub nvidia: &'a [TrustAnchor],
}

/// What patch levels and configurations of Intel's platforms are acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntelRules {
    /// Statuses that pass. None passes when this is empty, and `Revoked` never does.
    pub allowed_statuses: Vec<TcbStatus>,
    /// How long after the date of its level an out-of-date platform passes, if its status is allowed; in seconds.
    pub platform_grace_s: u64,
    /// The same for the quoting enclave.
    pub qe_grace_s: u64,
    /// Advisories (`INTEL-SA-…`) that refuse wherever they apply.
    pub rejected_advisories: Vec<String>,
    /// The least evaluation number: older collateral is a roll-back.
    pub evaluation_number_min: u32,
    /// Whether packages may be added to the platform. Servers are built so.
    pub allow_dynamic_platform: bool,
    /// Whether simultaneous multithreading may be on. Servers have it on.
    pub allow_smt: bool,
    /// Whether Intel's registration service may keep the platform's keys. On bare metal it does.
    pub allow_cached_keys: bool,
}

impl IntelRules {
    /// For real servers: fully patched, in the configuration in which servers are sold.
    #[must_use]
    pub fn up_to_date() -> Self {
        Self {
            allowed_statuses: vec![TcbStatus::UpToDate],
            platform_grace_s: 0,
            qe_grace_s: 0,
            rejected_advisories: Vec::new(),
            evaluation_number_min: 0,
            allow_dynamic_platform: true,
            allow_smt: true,
            allow_cached_keys: true,
        }
    }
}

/// Verifies CPU evidence.
///
/// # Errors
/// With the first check that refuses.
pub fn platform(
    evidence: &PlatformEvidence,
    collateral: &Collateral,
    roots: Roots<'_>,
    rules: &IntelRules,
    now_unix_s: u64,
) -> Result<(PlatformFacts, Provenance), Refusal> {
    check_size(evidence)?;
    match (evidence, collateral) {
        (PlatformEvidence::Tdx { quote }, Collateral::Intel(collateral)) => {
            intel::verify_tdx(quote, collateral, roots.intel, rules, now_unix_s)
        }
        (PlatformEvidence::Sgx { quote }, Collateral::Intel(collateral)) => {
            intel::verify_sgx(quote, collateral, roots.intel, rules, now_unix_s)
        }
        (PlatformEvidence::SevSnp { report, certificates }, Collateral::Amd(collateral)) => {
            amd::verify(report, certificates, collateral, roots.amd, now_unix_s)
        }
        (PlatformEvidence::Tdx { .. } | PlatformEvidence::Sgx { .. }, Collateral::Amd(_))
        | (PlatformEvidence::SevSnp { .. }, Collateral::Intel(_)) => Err(Refusal::new(
            Check::Collateral,
            format!("collateral for {}", evidence.format().name()),
            "that of the other vendor",
            "fetch collateral for this very evidence",
        )),
    }
}

/// What collateral this evidence needs. Nothing is verified: the answer is good for a lookup.
///
/// # Errors
/// When the evidence cannot be read.
pub fn collateral_need(evidence: &PlatformEvidence) -> Result<CollateralNeed, Refusal> {
    check_size(evidence)?;
    match evidence {
        PlatformEvidence::Tdx { quote } => intel::need_tdx(quote),
        PlatformEvidence::Sgx { quote } => intel::need_sgx(quote),
        PlatformEvidence::SevSnp { report, certificates } => amd::need(report, certificates),
    }
}

fn check_size(evidence: &PlatformEvidence) -> Result<(), Refusal> {
    let len = match evidence {
        PlatformEvidence::Tdx { quote } | PlatformEvidence::Sgx { quote } => quote.len(),
        PlatformEvidence::SevSnp { report, certificates } => {
            certificates.iter().map(Vec::len).fold(report.len(), usize::saturating_add)
        }
    };
    if len <= QUOTE_BYTES_MAX {
        return Ok(());
    }
    Err(Refusal::new(
        Check::Size,
        format!("at most {QUOTE_BYTES_MAX} bytes of evidence"),
        format!("{len} bytes"),
        "have the attester send the evidence alone",
    ))
}
