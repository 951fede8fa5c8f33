//! The SGX quote of a real machine.

use cocoon_attest::collateral::{Collateral, CollateralNeed, IntelTee};
use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::evidence::sgx::SgxQuote;
use cocoon_attest::evidence::tdx::TdxQuote;
use cocoon_attest::facts::{Attributes, Measurements, PlatformFacts, Tcb, TcbStatus};
use cocoon_attest::verify::{self, IntelRules};
use cocoon_attest::{Check, Refusal};
use dcap_qvl::quote::Quote;
use proptest::prelude::*;

use crate::vectors::{PRESENT, Vendors, intel_collateral, positions, read, refused};

const QUOTE: &str = "tdx/dcap-qvl/sgx_quote";
const COLLATERAL: &str = "tdx/dcap-qvl/sgx_quote_collateral.json";
const RECORDED: u64 = 1_751_624_924;

fn lenient() -> IntelRules {
    let allowed_statuses = vec![TcbStatus::UpToDate, TcbStatus::ConfigurationAndSWHardeningNeeded];
    IntelRules { allowed_statuses, ..IntelRules::up_to_date() }
}

fn verify(quote: Vec<u8>, rules: &IntelRules, now_unix_s: u64) -> Result<PlatformFacts, Refusal> {
    let collateral = Collateral::Intel(intel_collateral(COLLATERAL));
    Vendors::new().verify(&PlatformEvidence::Sgx { quote }, &collateral, rules, now_unix_s)
}

#[test]
fn accepted_when_its_status_is_allowed() {
    let facts = verify(read(QUOTE), &lenient(), RECORDED).unwrap();
    let Tcb::Intel { status, advisories, .. } = facts.tcb else { panic!() };
    assert_eq!(status, TcbStatus::ConfigurationAndSWHardeningNeeded);
    assert!(!advisories.is_empty());
}

#[test]
fn refused_when_its_status_is_not_allowed() {
    let refusal = refused(verify(read(QUOTE), &IntelRules::up_to_date(), RECORDED), Check::Tcb);
    assert!(refusal.found.starts_with("ConfigurationAndSWHardeningNeeded (INTEL-SA-"), "{refusal}");
}

#[test]
fn rejected_advisories_refuse_what_is_otherwise_allowed() {
    let Tcb::Intel { advisories, .. } = verify(read(QUOTE), &lenient(), RECORDED).unwrap().tcb else { panic!() };
    for advisory in advisories {
        let rules = IntelRules { rejected_advisories: vec![advisory.clone()], ..lenient() };
        let refusal = refused(verify(read(QUOTE), &rules, RECORDED), Check::Tcb);
        assert_eq!(refusal.found, advisory);
    }
}

#[test]
fn stale_collateral_is_refused() {
    refused(verify(read(QUOTE), &lenient(), PRESENT), Check::Collateral);
}

#[test]
fn both_parsers_agree() {
    let bytes = read(QUOTE);
    let ours = SgxQuote::parse(&bytes).unwrap();
    let theirs = Quote::parse(&bytes).unwrap();
    assert_eq!(ours.signed_bytes, theirs.signed_length());
    let theirs = theirs.report.as_sgx().unwrap();
    let ours = ours.report;
    assert_eq!(ours.cpu_svn, theirs.cpu_svn);
    assert_eq!(ours.misc_select, theirs.misc_select);
    assert_eq!([ours.flags.to_le_bytes(), ours.xfrm.to_le_bytes()].concat(), theirs.attributes);
    assert_eq!(ours.report_data, theirs.report_data);
    let facts = verify(bytes, &lenient(), RECORDED).unwrap();
    assert_eq!(facts.report_data, theirs.report_data);
    assert_eq!(facts.attributes, Attributes::Sgx { flags: ours.flags, xfrm: ours.xfrm });
    let Measurements::Sgx(identity) = facts.measurements else { panic!() };
    assert_eq!(identity.mr_enclave, theirs.mr_enclave);
    assert_eq!(identity.mr_signer, theirs.mr_signer);
    assert_eq!((identity.isv_prod_id, identity.isv_svn), (theirs.isv_prod_id, theirs.isv_svn));
}

#[test]
fn altered_quotes_are_refused() {
    let original = read(QUOTE);
    let mut edges = vec![47, 48, 431, 432];
    edges.extend((436..436 + 128 + 448 + 34).step_by(19));
    for position in positions(&edges, 432, 37) {
        let mut quote = original.clone();
        quote[position] ^= 0x08;
        let refusal = verify(quote, &lenient(), RECORDED).expect_err("an altered quote");
        assert!(matches!(refusal.check, Check::Signature | Check::Format), "byte {position}: {refusal}");
    }
}

#[test]
fn debug_enclaves_are_refused_by_attributes() {
    let mut quote = read(QUOTE);
    quote[48 + 48] |= 2;
    refused(verify(quote, &lenient(), RECORDED), Check::Attributes);
}

#[test]
fn cut_quotes_never_panic() {
    let quote = read(QUOTE);
    let padding = quote.iter().rev().take_while(|byte| **byte == 0).count();
    for len in 0..quote.len() - padding {
        assert!(SgxQuote::parse(&quote[..len]).is_err(), "{len}");
    }
}

#[test]
fn formats_are_not_confused() {
    let tdx = read("tdx/dcap-qvl/tdx_quote");
    assert!(SgxQuote::parse(&tdx).is_err());
    assert!(TdxQuote::parse(&read(QUOTE)).is_err());
    refused(verify(tdx, &lenient(), RECORDED), Check::Format);
}

#[test]
fn collateral_need_is_that_of_sgx() {
    let need = verify::collateral_need(&PlatformEvidence::Sgx { quote: read(QUOTE) }).unwrap();
    assert!(matches!(need, CollateralNeed::Intel { tee: IntelTee::Sgx, .. }), "{need:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        let _ = SgxQuote::parse(&bytes);
    }
}
