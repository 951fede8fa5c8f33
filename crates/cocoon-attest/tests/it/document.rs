//! Saved appraisals: they can be checked again, and no digit of them can change.

use cocoon_attest::document::{DocumentError, Verified};
use cocoon_attest::{Binding, Check, Document, Exhibit, Expected, Policy, Refusal, Role};

use crate::case::{Case, DAY_S, NOW, refused};

fn saved(case: &Case) -> Document {
    let (evidence, collateral) = (case.evidence(), case.collateral());
    let claims = case.claims.encode();
    let exhibit =
        Exhibit { evidence: &evidence, claims: claims.as_bytes(), binding: &case.binding(), collateral: &collateral };
    let verdict = cocoon_attest::appraise(&case.policy(), exhibit, &case.expected, case.now_unix_s).unwrap();
    Document::record(&case.policy(), exhibit, &case.expected, &verdict).unwrap()
}

fn check(text: &str) -> Result<Verified, Refusal> {
    match Document::decode(text.as_bytes()) {
        Ok(document) => document.verify(None, None),
        Err(error) => Err(Refusal::new(Check::Document, "a document", error.to_string(), "none")),
    }
}

#[test]
fn saved_appraisal_is_accepted_again() {
    let case = Case::honest(Role::Proxy);
    let document = saved(&case);
    let verified = check(&document.encode()).unwrap();
    assert_eq!(verified.verdict, *document.unverified_verdict());
    assert_eq!(verified.trust.warnings().len(), 2);
    assert_eq!(document.id().len(), 32);

    // Nothing depends on white space.
    let value: serde_json::Value = serde_json::from_str(&document.encode()).unwrap();
    check(&serde_json::to_string_pretty(&value).unwrap()).unwrap();
}

#[test]
fn readers_policy_and_time_count() {
    let case = Case::honest(Role::Proxy);
    let document = saved(&case);
    let own = case.policy();
    let verified = document.verify(Some(&own), Some(NOW + 60)).unwrap();
    assert!(verified.trust.warnings().is_empty());
    assert_eq!(verified.verdict.appraised_unix_s, NOW + 60);
    refused(document.verify(None, Some(NOW + 365 * DAY_S)), Check::Collateral);
    let production = Policy::from_toml(&Policy::production_template()).unwrap();
    refused(document.verify(Some(&production), None), Check::Root);
}

/// Every digit outside long hex strings, and a sample of those within.
#[test]
fn no_digit_can_change() {
    const STRIDE: usize = 61;

    let text = saved(&Case::honest(Role::Proxy)).encode();
    check(&text).unwrap();
    let mut in_run = 0_usize;
    let mut flipped = 0;
    for (at, byte) in text.bytes().enumerate() {
        in_run = if byte.is_ascii_alphanumeric() { in_run + 1 } else { 0 };
        if !byte.is_ascii_digit() || (in_run > 8 && at % STRIDE != 0) {
            continue;
        }
        let mut altered = text.clone().into_bytes();
        altered[at] = if byte == b'9' { b'0' } else { byte + 1 };
        let altered = String::from_utf8(altered).unwrap();
        assert!(check(&altered).is_err(), "digit at {at}: …{}…", &text[at.saturating_sub(60)..=at]);
        flipped += 1;
    }
    assert!(flipped > 500, "{flipped} digits");
}

#[test]
fn most_telling_check_is_named() {
    let case = Case::honest(Role::Proxy);
    let text = saved(&case).encode();
    let replaced = |from: &str, to: &str| {
        assert!(text.contains(from), "{from:?}");
        check(&text.replacen(from, to, 1)).expect_err("refused").check
    };
    // The claims are a string of JSON inside JSON.
    assert_eq!(replaced(&format!("\\\"time_unix_s\\\":{NOW}"), "\\\"time_unix_s\\\":1795305601"), Check::ReportData);
    assert_eq!(
        replaced(&format!("\"nonce\":\"{}\"", "04".repeat(32)), &format!("\"nonce\":\"{}\"", "40".repeat(32))),
        Check::ReportData
    );
    assert_eq!(replaced("\"tcb_evaluation_number\":17", "\"tcb_evaluation_number\":18"), Check::Document);
    assert_eq!(replaced("claims_skew_max_s = 300", "claims_skew_max_s = 299"), Check::Document);
}

#[test]
fn unknown_repeated_and_unusual_fields() {
    let text = saved(&Case::honest(Role::Proxy)).encode();
    for altered in [
        text.replacen("{\"version\":1", "{\"version\":1,\"note\":\"trust me\"", 1),
        text.replacen("{\"version\":1", "{\"version\":1,\"version\":1", 1),
        text.replacen("\"tcb_info_signature\":", "\"unread\":\"1\",\"tcb_info_signature\":", 1),
        text.replacen("{\"version\":1", "{\"version\":2", 1),
        format!("{text}1"),
    ] {
        assert!(Document::decode(altered.as_bytes()).is_err());
    }
    let huge = " ".repeat((4 << 20) + 1);
    assert!(matches!(Document::decode(huge.as_bytes()), Err(DocumentError::TooLong { .. })));
}

#[test]
fn document_made_of_a_rebound_one_says_unbound() {
    let case = Case::honest(Role::Proxy);
    let (evidence, collateral) = (case.evidence(), case.collateral());
    let exhibit = Exhibit { evidence: &evidence, claims: b"", binding: &Binding::Unbound, collateral: &collateral };
    let verdict = cocoon_attest::appraise::appraise_unbound(&case.policy(), &evidence, &collateral, NOW).unwrap();
    let document = Document::record(&case.policy(), exhibit, &Expected::default(), &verdict).unwrap();
    assert_eq!(check(&document.encode()).unwrap().verdict.profile, "unbound");
}
