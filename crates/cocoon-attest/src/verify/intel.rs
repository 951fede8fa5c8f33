//! TDX and SGX quotes, by `dcap-qvl`.
//!
//! 1. Read the quote with our own parser, which is stricter than the library's about sizes and padding.
//! 2. Refuse attributes under which a TD or enclave has no secrets.
//! 3. Find the accepted root that the platform's certificates claim to end at.
//! 4. `QuoteVerifier::new(root).verify_with_policy(…)`, the one call whose success counts. The library's `verify()`
//!    accepts every patch level but `Revoked`, and is not used.
//! 5. Turn its claims into facts; or, after a failure, find the reason to tell: see `diagnosis`.
//!
//! Specification: attestation.md, sections 1 and 4.4(7).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use dcap_qvl::intel as pck;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3, QuotePolicy, QuotePolicyConfig};

use self::diagnosis::diagnose;
use super::{IntelRules, x509};
use crate::collateral::{CollateralNeed, IntelTee, PckCa, TdxCollateral};
use crate::evidence::sgx::SgxQuote;
use crate::evidence::tdx::TdxQuote;
use crate::evidence::{Certification, CertificationKind, Format};
use crate::facts::{Attributes, Measurements, PlatformFacts, PlatformIdentity, Tcb, TcbStatus};
use crate::refusal::{Check, Refusal};
use crate::roots::{TrustAnchor, root_id};
use crate::verdict::Provenance;

mod attributes;
mod diagnosis;

/// The parts of the facts that the quote itself states.
struct Statement {
    format: Format,
    report_data: [u8; 64],
    measurements: Measurements,
    attributes: Attributes,
}

pub(super) fn verify_tdx(
    bytes: &[u8],
    collateral: &TdxCollateral,
    roots: &[TrustAnchor],
    rules: &IntelRules,
    now_unix_s: u64,
) -> Result<(PlatformFacts, Provenance), Refusal> {
    let quote = parse_tdx(bytes)?;
    attributes::check_td(&quote.report)?;
    let report = quote.report;
    let statement = Statement {
        format: Format::Tdx,
        report_data: report.report_data,
        measurements: Measurements::Tdx(Box::new(report.measurements)),
        attributes: Attributes::Tdx {
            td_attributes: report.td_attributes,
            xfam: report.xfam,
            seam_attributes: report.seam_attributes,
        },
    };
    let case = Case { bytes, collateral, roots, rules, now_unix_s };
    case.verify(statement, &quote.signature.certification)
}

pub(super) fn verify_sgx(
    bytes: &[u8],
    collateral: &TdxCollateral,
    roots: &[TrustAnchor],
    rules: &IntelRules,
    now_unix_s: u64,
) -> Result<(PlatformFacts, Provenance), Refusal> {
    let quote = parse_sgx(bytes)?;
    attributes::check_enclave(quote.report.flags)?;
    let report = quote.report;
    let statement = Statement {
        format: Format::Sgx,
        report_data: report.report_data,
        measurements: Measurements::Sgx(report.measurements),
        attributes: Attributes::Sgx { flags: report.flags, xfrm: report.xfrm },
    };
    let case = Case { bytes, collateral, roots, rules, now_unix_s };
    case.verify(statement, &quote.signature.certification)
}

pub(super) fn need_tdx(bytes: &[u8]) -> Result<CollateralNeed, Refusal> {
    need(&parse_tdx(bytes)?.signature.certification, IntelTee::Tdx)
}

pub(super) fn need_sgx(bytes: &[u8]) -> Result<CollateralNeed, Refusal> {
    need(&parse_sgx(bytes)?.signature.certification, IntelTee::Sgx)
}

fn parse_tdx(bytes: &[u8]) -> Result<TdxQuote, Refusal> {
    TdxQuote::parse(bytes).map_err(|error| error.refusal(Format::Tdx))
}

fn parse_sgx(bytes: &[u8]) -> Result<SgxQuote, Refusal> {
    SgxQuote::parse(bytes).map_err(|error| error.refusal(Format::Sgx))
}

/// What one quote is verified with.
struct Case<'a> {
    bytes: &'a [u8],
    collateral: &'a TdxCollateral,
    roots: &'a [TrustAnchor],
    rules: &'a IntelRules,
    now_unix_s: u64,
}

impl Case<'_> {
    fn verify(
        &self,
        statement: Statement,
        certification: &Certification,
    ) -> Result<(PlatformFacts, Provenance), Refusal> {
        let chain = pck_chain(certification)?;
        let root = self.root_of(&chain)?;
        let claims = self.claims(root)?;
        if claims.platform.root_key_id != root.id.0 {
            let found = hex::encode(&claims.platform.root_key_id);
            return Err(other_root("the quote", &found));
        }
        // The library looks at the dates of certificates and JSON, not at when revocation lists begin.
        if claims.latest_issue_date > self.now_unix_s {
            return Err(Refusal::new(
                Check::Collateral,
                format!("collateral issued by {}", self.now_unix_s),
                format!("collateral issued at {}", claims.latest_issue_date),
                "compare this machine's clock",
            ));
        }
        Ok((facts(statement, claims, root), root.provenance))
    }

    /// The accepted root that the platform's chain and the collateral claim to end at. A claim only: the signatures are
    /// checked against it afterwards.
    fn root_of(&self, chain: &[Vec<u8>]) -> Result<&TrustAnchor, Refusal> {
        let root = self.root_of_chain("the platform's certificates", chain)?;
        for (what, pem) in [
            ("the TCB info", &self.collateral.tcb_info_issuer_chain),
            ("the QE identity", &self.collateral.qe_identity_issuer_chain),
            ("the revocation list", &self.collateral.pck_crl_issuer_chain),
        ] {
            let chain = x509::pem_chain(what, pem.as_bytes()).map_err(as_collateral)?;
            let other = self.root_of_chain(what, &chain)?;
            if other.id != root.id {
                return Err(other_root(what, &other.id.to_string()));
            }
        }
        Ok(root)
    }

    /// By the key of the self-issued certificate at the end of the chain, or, where it was left out, by the name of the
    /// last issuer.
    fn root_of_chain(&self, what: &str, chain: &[Vec<u8>]) -> Result<&TrustAnchor, Refusal> {
        let last = chain.last().map_or(&[][..], Vec::as_slice);
        let last = x509::certificate(what, last)?;
        let self_issued = last.subject().as_raw() == last.issuer().as_raw();
        let id = root_id(&last);
        let named = |root: &&TrustAnchor| {
            if self_issued {
                return root.id == id;
            }
            x509::certificate("the root", &root.certificate_der)
                .is_ok_and(|root| root.subject().as_raw() == last.issuer().as_raw())
        };
        let found = if self_issued { id.to_string() } else { last.issuer().to_string() };
        self.roots.iter().find(named).ok_or_else(|| other_root(what, &found))
    }

    /// The verified claims, or the reason why there are none.
    fn claims(&self, root: &TrustAnchor) -> Result<QuoteClaims, Refusal> {
        let policy = self.policy()?;
        let verifier = QuoteVerifier::new(root.certificate_der.clone());
        let collateral = QuoteCollateralV3::from(self.collateral);
        verifier.verify_with_policy(self.bytes, &collateral, self.now_unix_s, &policy).map_err(|error| {
            // Accepts nothing: these claims only tell which rule refused.
            let refused = verifier.verify_with_policy(
                self.bytes,
                &collateral,
                self.now_unix_s,
                &QuotePolicy::claims_only(self.now_unix_s),
            );
            diagnose(&format!("{error:#}"), refused.ok().as_ref(), self.collateral, self.rules, self.now_unix_s)
        })
    }

    fn policy(&self) -> Result<QuotePolicy, Refusal> {
        if self.rules.allowed_statuses.is_empty() {
            // The library would read an empty list as "UpToDate".
            let remedy = "allow a status in the policy";
            return Err(Refusal::new(Check::Tcb, "no patch level: the policy allows none", "a quote", remedy));
        }
        Ok(QuotePolicyConfig {
            allowed_statuses: self.rules.allowed_statuses.iter().copied().map(to_library).collect(),
            rejected_advisory_ids: self.rules.rejected_advisories.clone(),
            platform_grace_period_secs: self.rules.platform_grace_s,
            qe_grace_period_secs: self.rules.qe_grace_s,
            min_tcb_eval_data_number: self.rules.evaluation_number_min,
            allow_dynamic_platform: self.rules.allow_dynamic_platform,
            allow_cached_keys: self.rules.allow_cached_keys,
            allow_smt: self.rules.allow_smt,
            accepted_sgx_types: None,
        }
        .into_policy(self.now_unix_s))
    }
}

fn facts(statement: Statement, claims: QuoteClaims, root: &TrustAnchor) -> PlatformFacts {
    let Statement { format, report_data, measurements, attributes } = statement;
    let mut advisories = claims.tcb.advisory_ids;
    // Of the module that runs now, where the merged list has those of the module at launch.
    for advisory in claims.platform.current_tcb_level.iter().flat_map(|level| &level.advisory_ids) {
        if !advisories.contains(advisory) {
            advisories.push(advisory.clone());
        }
    }
    PlatformFacts {
        format,
        root: root.id,
        report_data,
        measurements,
        attributes,
        tcb: Tcb::Intel {
            status: from_library(claims.tcb.status),
            advisories,
            evaluation_number: claims.tcb.eval_data_number,
            level_date_unix_s: claims.platform.tcb_date_tag,
        },
        identity: PlatformIdentity::Intel {
            ppid: claims.platform.pck.ppid,
            platform_instance_id: claims.platform.pck.platform_instance_id,
            fmspc: claims.platform.pck.fmspc,
        },
        collateral_window: (claims.latest_issue_date, claims.earliest_expiration_date),
    }
}

fn need(certification: &Certification, tee: IntelTee) -> Result<CollateralNeed, Refusal> {
    let chain = pck_chain(certification)?;
    let leaf = chain.first().map_or(&[][..], Vec::as_slice);
    let unreadable = |error| {
        Refusal::new(
            Check::Format,
            "a PCK certificate with Intel's extension",
            format!("{error:#}"),
            "have the attester's host provision its certificates again",
        )
    };
    let fmspc = pck::parse_pck_extension(leaf).map_err(unreadable)?.fmspc;
    let ca = match pck::pck_ca(leaf).map_err(unreadable)? {
        dcap_qvl::config::PckCa::Processor => PckCa::Processor,
        dcap_qvl::config::PckCa::Platform => PckCa::Platform,
    };
    Ok(CollateralNeed::Intel { fmspc, ca, tee })
}

fn pck_chain(certification: &Certification) -> Result<Vec<Vec<u8>>, Refusal> {
    match certification.kind {
        CertificationKind::Chain => x509::pem_chain("the platform's certificates", &certification.data),
        CertificationKind::Other(kind) => Err(Refusal::new(
            Check::Format,
            "a quote that carries the platform's certificates (certification kind 5)",
            format!("certification kind {kind}"),
            "have the attester's host provision its PCK certificate",
        )),
    }
}

fn other_root(what: &str, found: &str) -> Refusal {
    Refusal::new(
        Check::Root,
        format!("{what} to end at a root that the policy accepts"),
        format!("the root {found}"),
        "compare the roots in the policy with the kind of platform: real, or which simulated one",
    )
}

/// Certificates inside collateral are the collateral's fault.
fn as_collateral(refusal: Refusal) -> Refusal {
    Refusal { check: Check::Collateral, ..refusal }
}

const fn to_library(status: TcbStatus) -> dcap_qvl::TcbStatus {
    match status {
        TcbStatus::UpToDate => dcap_qvl::TcbStatus::UpToDate,
        TcbStatus::SWHardeningNeeded => dcap_qvl::TcbStatus::SWHardeningNeeded,
        TcbStatus::ConfigurationNeeded => dcap_qvl::TcbStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSWHardeningNeeded => dcap_qvl::TcbStatus::ConfigurationAndSWHardeningNeeded,
        TcbStatus::TDRelaunchAdvised => dcap_qvl::TcbStatus::TDRelaunchAdvised,
        TcbStatus::TDRelaunchAdvisedConfigurationNeeded => dcap_qvl::TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
        TcbStatus::OutOfDate => dcap_qvl::TcbStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded => dcap_qvl::TcbStatus::OutOfDateConfigurationNeeded,
        TcbStatus::Revoked => dcap_qvl::TcbStatus::Revoked,
    }
}

const fn from_library(status: dcap_qvl::TcbStatus) -> TcbStatus {
    match status {
        dcap_qvl::TcbStatus::UpToDate => TcbStatus::UpToDate,
        dcap_qvl::TcbStatus::SWHardeningNeeded => TcbStatus::SWHardeningNeeded,
        dcap_qvl::TcbStatus::ConfigurationNeeded => TcbStatus::ConfigurationNeeded,
        dcap_qvl::TcbStatus::ConfigurationAndSWHardeningNeeded => TcbStatus::ConfigurationAndSWHardeningNeeded,
        dcap_qvl::TcbStatus::TDRelaunchAdvised => TcbStatus::TDRelaunchAdvised,
        dcap_qvl::TcbStatus::TDRelaunchAdvisedConfigurationNeeded => TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
        dcap_qvl::TcbStatus::OutOfDate => TcbStatus::OutOfDate,
        dcap_qvl::TcbStatus::OutOfDateConfigurationNeeded => TcbStatus::OutOfDateConfigurationNeeded,
        dcap_qvl::TcbStatus::Revoked => TcbStatus::Revoked,
    }
}
