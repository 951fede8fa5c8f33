//! Why `dcap-qvl` refused, in our words. It reports errors as text; this is the only file that reads it.
//!
//! Runs after a refusal and can only return one: text that the table does not know is a refusal by `signature`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use dcap_qvl::{PckCertFlag, QuoteClaims};
use serde::Deserialize;

use super::{IntelRules, from_library};
use crate::collateral::TdxCollateral;
use crate::refusal::{Check, Refusal};

/// Characters of the library's text that are repeated.
const TEXT_MAX: usize = 300;

/// One reason: a piece of the library's text and what it means.
struct Cause {
    text: &'static str,
    check: Check,
    expected: &'static str,
    remedy: &'static str,
}

const fn cause(text: &'static str, check: Check, expected: &'static str, remedy: &'static str) -> Cause {
    Cause { text, check, expected, remedy }
}

const FETCH: &str = "fetch the collateral again, and compare this machine's clock";
const OTHER: &str = "fetch the collateral of this very platform";
const FORGED: &str = "trust nothing that this attester says until its operator has explained it";
const UPDATE: &str = "update the platform's firmware, or allow its level in the policy";
const RESTART: &str = "start it in its production configuration";
const PROVISION: &str = "have the attester's host provision its certificates again";

/// The first line whose text occurs decides, so the telling ones come first.
const CAUSES: &[Cause] = &[
    // Of the web PKI library underneath, which names its errors like this.
    cause("CertRevoked", Check::Revocation, "certificates that nobody revoked", FORGED),
    cause("CrlExpired", Check::Collateral, "revocation lists in date", FETCH),
    cause("CertExpired", Check::Collateral, "certificates in date", FETCH),
    cause("CertNotValidYet", Check::Collateral, "certificates in date", FETCH),
    cause("UnknownRevocationStatus", Check::Collateral, "a revocation list for every certificate", OTHER),
    cause("InvalidCrlSignatureForPublicKey", Check::Signature, "revocation lists signed by the root", FETCH),
    cause("Failed to parse root CA CRL", Check::Collateral, "a revocation list of the root", FETCH),
    cause("Failed to parse PCK CRL", Check::Collateral, "a revocation list of the PCK issuer", FETCH),
    cause("Failed to load root ca", Check::Root, "a root certificate", "correct the roots in the policy"),
    // The quote.
    cause("Failed to decode quote", Check::Format, "a quote", PROVISION),
    cause("Unsupported DCAP PCK cert format", Check::Format, "the platform's certificates in the quote", PROVISION),
    cause("Failed to extract PCK certificates", Check::Format, "the platform's certificates in the quote", PROVISION),
    cause("Failed to parse PCK certificate", Check::Format, "the platform's certificates in the quote", PROVISION),
    cause("Intel extension not found", Check::Format, "a PCK certificate with Intel's extension", PROVISION),
    // TCB info and QE identity.
    cause("Failed to decode TcbInfo", Check::Collateral, "TCB info", FETCH),
    cause("Failed to decode QeIdentity", Check::Collateral, "a QE identity", FETCH),
    cause("TCBInfo issue date is in the future", Check::Collateral, "TCB info issued before now", FETCH),
    cause("TCBInfo expired", Check::Collateral, "TCB info in date", FETCH),
    cause("QE Identity issue date is in the future", Check::Collateral, "a QE identity issued before now", FETCH),
    cause("QE Identity expired", Check::Collateral, "a QE identity in date", FETCH),
    cause("Unsupported QE Identity id/version", Check::Collateral, "the QE identity of this kind of quote", OTHER),
    cause("TCB info in the collateral", Check::Collateral, "the TCB info of this kind of quote", OTHER),
    cause("Fmspc mismatch", Check::Collateral, "the TCB info of this platform", OTHER),
    cause("Unrecognized TCB status", Check::Collateral, "statuses that Intel uses", FETCH),
    cause("issued directly by the root", Check::Signature, "a TCB signing certificate issued by the root", FETCH),
    cause("Signature is invalid for tcb_info", Check::Signature, "TCB info signed by Intel's key", FETCH),
    cause("Signature is invalid for qe_identity", Check::Signature, "a QE identity signed by Intel's key", FETCH),
    // The chain from the platform's certificate to the report.
    cause(
        "Signature is invalid for qe_report",
        Check::Signature,
        "a quoting enclave certified by the platform",
        FORGED,
    ),
    cause("QE report hash mismatch", Check::Signature, "an attestation key of the quoting enclave", FORGED),
    cause("ISV enclave report signature", Check::Signature, "a report signed by the attestation key", FORGED),
    cause("QE MRSIGNER mismatch", Check::Signature, "a quoting enclave of Intel's", FORGED),
    cause("QE report validation failed", Check::Signature, "a quoting enclave without DEBUG", FORGED),
    cause("QE ISVPRODID mismatch", Check::Signature, "a quoting enclave of Intel's", FORGED),
    cause("QE MISCSELECT mismatch", Check::Signature, "a quoting enclave of Intel's", FORGED),
    cause("QE ATTRIBUTES mismatch", Check::Signature, "a quoting enclave of Intel's", FORGED),
    cause("Failed to verify certificate chain", Check::Signature, "certificates signed up to the root", FORGED),
    // Patch level.
    cause("No matching TCB level found", Check::Tcb, "a platform as new as Intel's oldest level", UPDATE),
    cause("QE ISVSVN", Check::Tcb, "a quoting enclave as new as Intel's oldest level", UPDATE),
    cause("TDX module ISVSVN", Check::Tcb, "a TDX module as new as Intel's oldest level", UPDATE),
    cause("No TDX module identity", Check::Tcb, "a TDX module that Intel lists", UPDATE),
    cause("TCB status is invalid: Revoked", Check::Tcb, "a platform that is not revoked", UPDATE),
    // The module and the TD.
    cause("TDX module MRSIGNER mismatch", Check::Attributes, "a TDX module of Intel's", FORGED),
    cause("TDX module SEAMATTRIBUTES", Check::Attributes, "a production TDX module", RESTART),
    cause("Debug mode is enabled", Check::Attributes, "no DEBUG", RESTART),
    cause("TD profiling is enabled", Check::Attributes, "no profiling", RESTART),
    cause("Reserved bits in TD attributes", Check::Attributes, "no reserved attributes", RESTART),
    cause("TD migration is enabled", Check::Attributes, "no migration", RESTART),
    cause("SERVTD_EXT is enabled", Check::Attributes, "no service TDs", RESTART),
    cause("SEPT_VE_DISABLE is not enabled", Check::Attributes, "SEPT_VE_DISABLE", RESTART),
    cause("Invalid MR service TD", Check::Attributes, "no service TDs", RESTART),
];

/// The refusal for the library's error. `claims` are there when everything but the rules was in order.
pub(super) fn diagnose(
    text: &str,
    claims: Option<&QuoteClaims>,
    collateral: &TdxCollateral,
    rules: &IntelRules,
    now_unix_s: u64,
) -> Refusal {
    if let Some(refusal) = claims.and_then(|claims| by_rules(claims, rules, now_unix_s)) {
        return refusal;
    }
    let text: String = text.chars().take(TEXT_MAX).collect();
    match CAUSES.iter().find(|cause| text.contains(cause.text)) {
        Some(cause) => {
            let found = if cause.check == Check::Collateral { dated(&text, collateral, now_unix_s) } else { text };
            Refusal::new(cause.check, cause.expected, found, cause.remedy)
        }
        None => Refusal::new(Check::Signature, "a quote that verifies", text, FORGED),
    }
}

/// Which rule refused claims that are otherwise true.
fn by_rules(claims: &QuoteClaims, rules: &IntelRules, now_unix_s: u64) -> Option<Refusal> {
    let tcb = |expected: String, found: String| Some(Refusal::new(Check::Tcb, expected, found, UPDATE));
    let status = from_library(claims.tcb.status);
    if !rules.allowed_statuses.contains(&status) {
        let advisories = claims.tcb.advisory_ids.join(", ");
        let found = if advisories.is_empty() { format!("{status:?}") } else { format!("{status:?} ({advisories})") };
        return tcb(format!("a patch level among {:?}", rules.allowed_statuses), found);
    }
    if claims.earliest_expiration_date < now_unix_s {
        let found = format!("some that expired at {}", claims.earliest_expiration_date);
        return Some(Refusal::new(Check::Collateral, format!("collateral in date at {now_unix_s}"), found, FETCH));
    }
    let advisory = rules.rejected_advisories.iter().find(|id| applies(claims, id));
    if let Some(advisory) = advisory {
        return tcb("advisories that the policy does not reject".to_owned(), advisory.clone());
    }
    if claims.tcb.eval_data_number < rules.evaluation_number_min {
        let expected = format!("collateral of TCB evaluation {} or later", rules.evaluation_number_min);
        let found = format!("evaluation {}", claims.tcb.eval_data_number);
        return Some(Refusal::new(
            Check::Tcb,
            expected,
            found,
            "fetch newer collateral: older one hides what is known",
        ));
    }
    let pck = &claims.platform.pck;
    for (flag, allowed, name) in [
        (pck.dynamic_platform, rules.allow_dynamic_platform, "dynamic platform"),
        (pck.cached_keys, rules.allow_cached_keys, "cached keys"),
        (pck.smt_enabled, rules.allow_smt, "simultaneous multithreading"),
    ] {
        if flag == PckCertFlag::True && !allowed {
            let remedy = "allow it in the policy, or change the platform's configuration";
            return Some(Refusal::new(Check::Tcb, "a platform without it", name, remedy));
        }
    }
    // What is left of the library's checks: the ages of levels that are allowed to be out of date.
    let found = format!(
        "a platform level of {} and a quoting enclave's of {}",
        claims.platform.tcb_level.tcb_date, claims.qe.tcb_level.tcb_date
    );
    let expected =
        format!("levels no longer out of date than {} and {} seconds", rules.platform_grace_s, rules.qe_grace_s);
    tcb(expected, found)
}

fn applies(claims: &QuoteClaims, id: &str) -> bool {
    let current = claims.platform.current_tcb_level.iter().flat_map(|level| &level.advisory_ids);
    claims.tcb.advisory_ids.iter().chain(current).any(|advisory| advisory.eq_ignore_ascii_case(id))
}

/// The library's text with the dates that the collateral states.
fn dated(text: &str, collateral: &TdxCollateral, now_unix_s: u64) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Dates {
        issue_date: String,
        next_update: String,
    }
    let dates = |name: &str, json: &str| {
        serde_json::from_str::<Dates>(json).map_or_else(
            |_| format!("{name} without dates"),
            |Dates { issue_date, next_update }| {
                let cut = |date: String| date.chars().take(32).collect::<String>();
                format!("{name} from {} to {}", cut(issue_date), cut(next_update))
            },
        )
    };
    let tcb = dates("TCB info", &collateral.tcb_info);
    let qe = dates("QE identity", &collateral.qe_identity);
    format!("{text} at {now_unix_s} ({tcb}, {qe})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Check {
        let cause = CAUSES.iter().find(|cause| text.contains(cause.text));
        cause.map_or_else(|| panic!("no cause for {text}"), |cause| cause.check)
    }

    /// The library's texts as it writes them, contexts included. A new version that words them otherwise still refuses,
    /// by `signature`; this test and those on altered evidence say that the table has to follow.
    #[test]
    fn texts_of_the_library_have_their_check() {
        for (text, expected) in [
            ("CertRevoked", Check::Revocation),
            ("Failed to verify certificate chain: CertRevoked", Check::Revocation),
            ("Failed to verify certificate chain: CrlExpired { time: UnixTime(1) }", Check::Collateral),
            ("Failed to verify certificate chain: CertExpired { time: UnixTime(1) }", Check::Collateral),
            ("Failed to verify certificate chain: CertNotValidYet { time: UnixTime(1) }", Check::Collateral),
            ("Failed to verify certificate chain: UnknownRevocationStatus", Check::Collateral),
            ("Failed to verify certificate chain: UnknownIssuer", Check::Signature),
            ("Failed to verify certificate chain: InvalidSignatureForPublicKey", Check::Signature),
            ("Failed to parse root CA CRL: InvalidCrlSignatureForPublicKey", Check::Signature),
            ("Failed to parse root CA CRL: BadDer", Check::Collateral),
            ("Failed to parse PCK CRL: BadDer", Check::Collateral),
            ("Failed to load root ca: BadDer", Check::Root),
            ("Failed to decode quote: Not enough data", Check::Format),
            ("Unsupported DCAP PCK cert format: 3. Use get_collateral()", Check::Format),
            ("Failed to extract PCK certificates from quote: x", Check::Format),
            ("Failed to parse PCK certificate: BadDer", Check::Format),
            ("Intel extension not found", Check::Format),
            ("Failed to decode TcbInfo: EOF", Check::Collateral),
            ("Failed to decode QeIdentity: EOF", Check::Collateral),
            ("TCBInfo issue date is in the future", Check::Collateral),
            ("TCBInfo expired", Check::Collateral),
            ("QE Identity issue date is in the future", Check::Collateral),
            ("QE Identity expired", Check::Collateral),
            ("Unsupported QE Identity id/version for the quote TEE type: QE version 2", Check::Collateral),
            ("TDX quote with non-TDX TCB info in the collateral", Check::Collateral),
            ("SGX quote with non-SGX TCB info in the collateral", Check::Collateral),
            ("Fmspc mismatch", Check::Collateral),
            ("Unrecognized TCB status SWHardeningNeeded in QE Identity", Check::Collateral),
            ("TCB Info signer must be issued directly by the root CA", Check::Signature),
            ("QE Identity signer must be issued directly by the root CA", Check::Signature),
            ("Signature is invalid for tcb_info in quote_collateral", Check::Signature),
            ("Signature is invalid for qe_identity in quote_collateral", Check::Signature),
            ("Signature is invalid for qe_report in quote", Check::Signature),
            ("QE report hash mismatch", Check::Signature),
            ("ISV enclave report signature is invalid", Check::Signature),
            ("QE MRSIGNER mismatch: expected 00, got 01", Check::Signature),
            ("QE report validation failed: Debug mode is enabled", Check::Signature),
            ("QE ISVPRODID mismatch: expected 1, got 2", Check::Signature),
            ("QE MISCSELECT mismatch: expected 0 (masked), got 1 (masked)", Check::Signature),
            ("QE ATTRIBUTES mismatch at byte 0: expected 0 (masked), got 1 (masked)", Check::Signature),
            ("No matching TCB level found", Check::Tcb),
            ("QE ISVSVN 1 is below minimum required 2 from QE Identity", Check::Tcb),
            ("TDX module TCB level check: TDX module ISVSVN 1 is below minimum required", Check::Tcb),
            ("TDX module TCB level check: No TDX module identity with id TDX_07 found", Check::Tcb),
            ("TCB status is invalid: Revoked", Check::Tcb),
            ("TDX module identity check: TDX module MRSIGNER mismatch: expected 0, got 1", Check::Attributes),
            ("TDX module identity check: TDX module SEAMATTRIBUTES mismatch at byte 0", Check::Attributes),
            ("Debug mode is enabled", Check::Attributes),
            ("TD profiling is enabled", Check::Attributes),
            ("Reserved bits in TD attributes are set", Check::Attributes),
            ("TD migration is enabled", Check::Attributes),
            ("SERVTD_EXT is enabled", Check::Attributes),
            ("SEPT_VE_DISABLE is not enabled", Check::Attributes),
            ("Invalid MR service TD", Check::Attributes),
        ] {
            assert_eq!(check(text), expected, "{text}");
        }
    }

    #[test]
    fn no_line_of_the_table_hides_a_later_one() {
        for (index, cause) in CAUSES.iter().enumerate() {
            assert_eq!(
                CAUSES.iter().position(|earlier| cause.text.contains(earlier.text)),
                Some(index),
                "{}",
                cause.text
            );
        }
    }
}
