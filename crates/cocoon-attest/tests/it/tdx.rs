//! TDX quotes of real machines, and attacks on them.

use cocoon_attest::collateral::{Collateral, CollateralNeed, IntelTee, PckCa, SnpCollateral, TdxCollateral};
use cocoon_attest::evidence::tdx::TdxQuote;
use cocoon_attest::evidence::{Format, PlatformEvidence};
use cocoon_attest::facts::{Attributes, Measurements, PlatformFacts, PlatformIdentity, Tcb, TcbStatus};
use cocoon_attest::roots::{self, TrustAnchor};
use cocoon_attest::verify::{self, IntelRules, Roots};
use cocoon_attest::{Check, Refusal};
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::quote::Quote;
use proptest::prelude::*;

use crate::vectors::{PRESENT, Vendors, intel_collateral, positions, read, read_hex, refused};

/// A quote with the collateral of its day.
struct Vector {
    quote: &'static str,
    collateral: &'static str,
    recorded_unix_s: u64,
    version: u16,
}

const ACCEPTED: [Vector; 4] = [
    Vector {
        quote: "tdx/dcap-qvl/tdx_quote",
        collateral: "tdx/dcap-qvl/tdx_quote_collateral.json",
        recorded_unix_s: 1_751_624_655,
        version: 4,
    },
    Vector {
        quote: "tdx/dcap-qvl/tdx_quote_td15ex",
        collateral: "tdx/dcap-qvl/tdx_quote_td15ex_collateral.json",
        recorded_unix_s: 1_792_713_448,
        version: 5,
    },
    Vector {
        quote: "tdx/flashbots/dcap-tdx-1766059550570652607",
        collateral: "tdx/flashbots/dcap-quote-collateral-00.json",
        recorded_unix_s: 1_769_507_399,
        version: 4,
    },
    Vector {
        quote: "tdx/flashbots/gcp-tdx-1782809233226668671",
        collateral: "tdx/flashbots/gcp-tdx-collateral-1782809233226668671.json",
        recorded_unix_s: 1_782_809_233,
        version: 4,
    },
];

/// A quote and the collateral of a machine of the same kind, recorded a year later: it was not updated in between.
const OUT_OF_DATE: Vector = Vector {
    quote: "tdx/dcap-qvl/tdx_quote",
    collateral: "tdx/dcap-qvl/tdx_quote_td15ex_collateral.json",
    recorded_unix_s: 1_792_713_448,
    version: 4,
};

const OUTDATED: Vector = Vector {
    quote: "tdx/dcap-qvl/tdx_quote_outdated",
    collateral: "tdx/dcap-qvl/tdx_quote_outdated_collateral.json",
    recorded_unix_s: 1_772_707_833,
    version: 5,
};

/// A real debug TD; nobody kept its collateral.
const DEBUG_TD: &str = "tdx/trustee/tdx_quote_4.dat";

/// Without collateral: good for the parser only.
const PARSE_ONLY: [&str; 3] = ["tdx/go-tdx-guest/cos-113-tdx-quote.dat", DEBUG_TD, "tdx/trustee/tdx_quote_5.dat"];
const PARSE_ONLY_HEX: [&str; 2] = ["tdx/dcap-qvl/quote-from-tappd.hex", "tdx/dcap-qvl/tdx-quote.hex"];

impl Vector {
    fn quote(&self) -> Vec<u8> {
        read(self.quote)
    }

    fn collateral(&self) -> TdxCollateral {
        intel_collateral(self.collateral)
    }

    fn verify(&self) -> Result<PlatformFacts, Refusal> {
        self.verify_with(self.quote(), self.collateral(), &IntelRules::up_to_date(), self.recorded_unix_s)
    }

    fn verify_with(
        &self,
        quote: Vec<u8>,
        collateral: TdxCollateral,
        rules: &IntelRules,
        now_unix_s: u64,
    ) -> Result<PlatformFacts, Refusal> {
        let evidence = PlatformEvidence::Tdx { quote };
        Vendors::new().verify(&evidence, &Collateral::Intel(collateral), rules, now_unix_s)
    }
}

fn first() -> &'static Vector {
    &ACCEPTED[0]
}

#[test]
fn quotes_of_patched_machines_are_accepted_at_their_time() {
    for vector in &ACCEPTED {
        let facts = vector.verify().unwrap_or_else(|refusal| panic!("{}: {refusal}", vector.quote));
        assert_eq!(facts.format, Format::Tdx);
        assert_eq!(facts.root, roots::intel().id);
        let Tcb::Intel { status, .. } = facts.tcb else { panic!("{:?}", facts.tcb) };
        assert_eq!(status, TcbStatus::UpToDate, "{}", vector.quote);
        let (from, until) = facts.collateral_window;
        assert!((from..=until).contains(&vector.recorded_unix_s), "{}", vector.quote);
        assert_eq!(TdxQuote::parse(&vector.quote()).unwrap().version, vector.version);
    }
}

#[test]
fn facts_are_those_of_the_recorded_machine() {
    let facts = first().verify().unwrap();
    let PlatformIdentity::Intel { fmspc, ppid, platform_instance_id } = &facts.identity else { panic!() };
    assert_eq!(hex::encode(fmspc), "b0c06f000000");
    assert_eq!(ppid.len(), 16);
    assert!(platform_instance_id.is_some());
    let listed = format!("{:?}\n{:?}\n{:?}", facts.attributes, facts.tcb, facts.collateral_window);
    expect_test::expect![[r#"
        Tdx { td_attributes: 268435456, xfam: 393959, seam_attributes: 0 }
        Intel { status: UpToDate, advisories: [], evaluation_number: 17, level_date_unix_s: 1710288000 }
        (1750329147, 1752919235)"#]]
    .assert_eq(&listed);
}

#[test]
fn evaluation_number_is_the_lower_of_tcb_info_and_qe_identity() {
    for vector in &ACCEPTED {
        let collateral = vector.collateral();
        let number = |json: &str| {
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            json["tcbEvaluationDataNumber"].as_u64().unwrap()
        };
        let lower = number(&collateral.tcb_info).min(number(&collateral.qe_identity));
        let Tcb::Intel { evaluation_number, .. } = vector.verify().unwrap().tcb else { panic!() };
        assert_eq!(u64::from(evaluation_number), lower);
    }
}

#[test]
fn collateral_need_names_platform_and_issuer() {
    let need = verify::collateral_need(&PlatformEvidence::Tdx { quote: first().quote() }).unwrap();
    let fmspc = [0xb0, 0xc0, 0x6f, 0, 0, 0];
    assert_eq!(need, CollateralNeed::Intel { fmspc, ca: PckCa::Platform, tee: IntelTee::Tdx });
}

/// Our parser and the verifying library's read the same fields from the same bytes.
#[test]
fn both_parsers_agree_on_every_quote() {
    let mut quotes: Vec<Vec<u8>> = ACCEPTED.iter().map(Vector::quote).chain([OUTDATED.quote()]).collect();
    quotes.extend(PARSE_ONLY.map(read));
    quotes.extend(PARSE_ONLY_HEX.map(read_hex));
    assert_eq!(quotes.len(), 10);
    for bytes in quotes {
        let ours = TdxQuote::parse(&bytes).unwrap();
        let theirs = Quote::parse(&bytes).unwrap();
        assert_eq!(ours.version, theirs.header.version);
        assert_eq!(ours.signed_bytes, theirs.signed_length());
        let td10 = theirs.report.as_td10().unwrap();
        let ours = ours.report;
        assert_eq!(ours.tee_tcb_svn, td10.tee_tcb_svn);
        assert_eq!(ours.seam_attributes.to_le_bytes(), td10.seam_attributes);
        assert_eq!(ours.td_attributes.to_le_bytes(), td10.td_attributes);
        assert_eq!(ours.xfam.to_le_bytes(), td10.xfam);
        assert_eq!(ours.report_data, td10.report_data);
        let td15 = theirs.report.as_td15();
        assert_eq!(ours.tee_tcb_svn_now, td15.map(|td15| td15.tee_tcb_svn2));
        let registers = ours.measurements;
        assert_eq!(registers.mr_td, td10.mr_td);
        assert_eq!(registers.mr_config_id, td10.mr_config_id);
        assert_eq!(registers.mr_owner, td10.mr_owner);
        assert_eq!(registers.mr_owner_config, td10.mr_owner_config);
        assert_eq!(registers.rtmr, [td10.rt_mr0, td10.rt_mr1, td10.rt_mr2, td10.rt_mr3]);
        assert_eq!(registers.mr_seam, td10.mr_seam);
        assert_eq!(registers.mr_signer_seam, td10.mr_signer_seam);
        assert_eq!(registers.mr_service_td, td15.map_or([0; 48], |td15| td15.mr_service_td));
        match (ours.extension, theirs.report.as_td15_ex()) {
            (Some(ours), Some(theirs)) => {
                assert_eq!(ours.vm_id, theirs.vmid);
                assert_eq!(ours.td_id, theirs.td_id);
                assert_eq!(ours.device_info, theirs.dev_info);
                assert_eq!(ours.service_td_hash_now, theirs.cur_service_td_hash);
            }
            (None, None) => {}
            (ours, theirs) => panic!("{ours:?} {theirs:?}"),
        }
    }
}

#[test]
fn facts_carry_what_the_quote_states() {
    for vector in &ACCEPTED {
        let facts = vector.verify().unwrap();
        let report = TdxQuote::parse(&vector.quote()).unwrap().report;
        assert_eq!(facts.report_data, report.report_data);
        assert_eq!(facts.measurements, Measurements::Tdx(Box::new(report.measurements)));
        let Attributes::Tdx { td_attributes, xfam, seam_attributes } = facts.attributes else { panic!() };
        assert_eq!((td_attributes, xfam, seam_attributes), (report.td_attributes, report.xfam, report.seam_attributes));
    }
}

#[test]
fn stale_collateral_is_refused() {
    for vector in ACCEPTED.iter().chain([&OUTDATED]) {
        let result = vector.verify_with(vector.quote(), vector.collateral(), &IntelRules::up_to_date(), PRESENT);
        refused(result, Check::Collateral);
    }
}

#[test]
fn collateral_from_the_future_is_refused() {
    for vector in &ACCEPTED {
        let result = vector.verify_with(vector.quote(), vector.collateral(), &IntelRules::up_to_date(), 1_700_000_000);
        refused(result, Check::Collateral);
    }
}

#[test]
fn machines_behind_every_tcb_level_are_refused() {
    let refusal = refused(OUTDATED.verify(), Check::Tcb);
    assert!(refusal.found.contains("No matching TCB level"), "{refusal}");
}

#[test]
fn altered_quotes_are_refused() {
    for vector in &ACCEPTED {
        let original = vector.quote();
        let collateral = Collateral::Intel(vector.collateral());
        let vendors = Vendors::new();
        let signed = TdxQuote::parse(&original).unwrap().signed_bytes;
        let body = if vector.version == 4 { 48 } else { 54 };
        // Header, body descriptor, the registers at their edges, report data, and all of the signature after the length.
        let mut edges = vec![body, body + 16, body + 64, body + 112, body + 120, body + 128, body + 136, body + 184];
        edges.extend([signed - 64, signed - 1, signed]);
        edges.extend((signed + 4..signed + 4 + 128).step_by(9));
        edges.extend((signed + 138..signed + 138 + 384 + 64 + 34).step_by(23));
        for position in positions(&edges, signed, 37) {
            let mut quote = original.clone();
            quote[position] ^= 0x04;
            let evidence = PlatformEvidence::Tdx { quote };
            let result = vendors.verify(&evidence, &collateral, &IntelRules::up_to_date(), vector.recorded_unix_s);
            let refusal = result.expect_err("an altered quote");
            assert!(
                matches!(refusal.check, Check::Signature | Check::Format | Check::Attributes),
                "{} with byte {position} altered: {refusal}",
                vector.quote
            );
        }
    }
}

#[test]
fn altered_certificates_in_the_quote_are_refused() {
    let vector = first();
    let original = vector.quote();
    let starts: Vec<usize> =
        (0..original.len()).filter(|start| original[*start..].starts_with(b"-----BEGIN")).collect();
    // Leaf and intermediate; of the copy of the root nothing but its key is looked at.
    for position in (starts[0]..starts[2] - 1).step_by(37) {
        let mut quote = original.clone();
        quote[position] = if quote[position] == b'A' { b'B' } else { b'A' };
        let result = vector.verify_with(quote, vector.collateral(), &IntelRules::up_to_date(), vector.recorded_unix_s);
        assert!(result.is_err(), "byte {position}");
    }
}

#[test]
fn cut_quotes_never_panic() {
    let vector = first();
    let original = vector.quote();
    let collateral = Collateral::Intel(vector.collateral());
    let vendors = Vendors::new();
    let padding = original.iter().rev().take_while(|byte| **byte == 0).count();
    for len in 0..original.len() - padding {
        let evidence = PlatformEvidence::Tdx { quote: original[..len].to_vec() };
        let rules = IntelRules::up_to_date();
        refused(vendors.verify(&evidence, &collateral, &rules, vector.recorded_unix_s), Check::Format);
        assert!(verify::collateral_need(&evidence).is_err());
    }
}

#[test]
fn bytes_after_the_quote_are_refused_unless_zero() {
    let vector = first();
    let mut quote = vector.quote();
    quote.extend([0; 100]);
    let rules = IntelRules::up_to_date();
    vector.verify_with(quote.clone(), vector.collateral(), &rules, vector.recorded_unix_s).unwrap();
    quote.push(1);
    refused(vector.verify_with(quote, vector.collateral(), &rules, vector.recorded_unix_s), Check::Format);
}

#[test]
fn oversized_quotes_are_refused_before_parsing() {
    let vector = first();
    let mut quote = vector.quote();
    quote.resize(1 << 20, 0);
    let result = vector.verify_with(quote, vector.collateral(), &IntelRules::up_to_date(), vector.recorded_unix_s);
    refused(result, Check::Size);
}

#[test]
fn debug_tds_are_refused_by_attributes() {
    let vector = first();
    let rules = IntelRules::up_to_date();
    let result = vector.verify_with(read(DEBUG_TD), vector.collateral(), &rules, vector.recorded_unix_s);
    let refusal = refused(result, Check::Attributes);
    assert!(refusal.found.contains("DEBUG"), "{refusal}");
}

#[test]
fn attributes_that_expose_a_td_are_refused() {
    let vector = first();
    let attributes = 48 + 16 + 96 + 8;
    // DEBUG, profiling, a reserved bit, SERVTD_EXT, SEPT_VE_DISABLE cleared, MIGRATABLE.
    for (byte, bit) in [(0, 0x01), (0, 0x10), (0, 0x02), (2, 0x02), (3, 0x10), (3, 0x20)] {
        let mut quote = vector.quote();
        quote[attributes + byte] ^= bit;
        let rules = IntelRules::up_to_date();
        refused(vector.verify_with(quote, vector.collateral(), &rules, vector.recorded_unix_s), Check::Attributes);
    }
}

#[test]
fn another_root_is_refused() {
    let vector = first();
    let evidence = PlatformEvidence::Tdx { quote: vector.quote() };
    let collateral = Collateral::Intel(vector.collateral());
    let rules = IntelRules::up_to_date();
    for intel in [vec![], vec![roots::nvidia()], roots::amd_all()] {
        let roots = Roots { intel: &intel, amd: &[], nvidia: &[] };
        let result = verify::platform(&evidence, &collateral, roots, &rules, vector.recorded_unix_s);
        assert_eq!(result.expect_err("another root").check, Check::Root);
    }
}

/// A root with Intel's name and a key of somebody else is no root of Intel's.
#[test]
fn a_root_that_only_has_the_name_is_refused() {
    let vector = first();
    let evidence = PlatformEvidence::Tdx { quote: vector.quote() };
    let collateral = Collateral::Intel(vector.collateral());
    let mut der = roots::intel().certificate_der;
    // The last bytes of the public key, found by the bytes before the extensions.
    let key = der.windows(4).position(|window| window == [0x03, 0x42, 0x00, 0x04]).unwrap();
    der[key + 20] ^= 1;
    let impostor = TrustAnchor::from_der(der, cocoon_attest::Provenance::Vendor).unwrap();
    let roots = Roots { intel: &[impostor], amd: &[], nvidia: &[] };
    let rules = IntelRules::up_to_date();
    let result = verify::platform(&evidence, &collateral, roots, &rules, vector.recorded_unix_s);
    assert_eq!(result.expect_err("an impostor").check, Check::Root);
}

#[test]
fn collateral_of_the_other_vendor_is_refused() {
    let evidence = PlatformEvidence::Tdx { quote: first().quote() };
    let amd = Collateral::Amd(SnpCollateral { leaf: None, chain: String::new(), crl: None });
    refused(
        Vendors::new().verify(&evidence, &amd, &IntelRules::up_to_date(), first().recorded_unix_s),
        Check::Collateral,
    );
}

#[test]
fn collateral_of_another_platform_is_refused() {
    let other = &ACCEPTED[3];
    let result =
        other.verify_with(first().quote(), other.collateral(), &IntelRules::up_to_date(), other.recorded_unix_s);
    assert!(matches!(result.expect_err("another platform").check, Check::Collateral | Check::Tcb));
}

#[test]
fn altered_collateral_is_refused() {
    let vector = first();
    let now = vector.recorded_unix_s;
    let rules = IntelRules::up_to_date();
    let check = |alter: fn(&mut TdxCollateral), check: Check| {
        let mut collateral = vector.collateral();
        alter(&mut collateral);
        refused(vector.verify_with(vector.quote(), collateral, &rules, now), check);
    };
    check(|it| it.tcb_info = it.tcb_info.replace("OutOfDate", "UpToDate"), Check::Signature);
    check(|it| it.qe_identity = it.qe_identity.replace("UpToDate", "OutOfDate"), Check::Signature);
    check(|it| it.tcb_info_signature[10] ^= 1, Check::Signature);
    check(|it| it.qe_identity_signature[10] ^= 1, Check::Signature);
    check(|it| it.tcb_info.clear(), Check::Collateral);
    check(|it| it.qe_identity.clear(), Check::Collateral);
    check(|it| it.root_ca_crl.clear(), Check::Collateral);
    check(|it| it.pck_crl.clear(), Check::Collateral);
    check(|it| it.tcb_info_issuer_chain.clear(), Check::Collateral);
    check(|it| it.pck_crl = it.root_ca_crl.clone(), Check::Collateral);
    check(
        |it| {
            let last = it.root_ca_crl.len() - 1;
            it.root_ca_crl[last] ^= 1;
        },
        Check::Signature,
    );
}

#[test]
fn rules_refuse_what_they_do_not_allow() {
    let vector = first();
    let check = |rules: IntelRules, text: &str| {
        let result = vector.verify_with(vector.quote(), vector.collateral(), &rules, vector.recorded_unix_s);
        let refusal = refused(result, Check::Tcb);
        assert!(refusal.to_string().contains(text), "{refusal}");
    };
    let rules = IntelRules::up_to_date;
    check(IntelRules { allowed_statuses: vec![], ..rules() }, "allows none");
    check(IntelRules { allowed_statuses: vec![TcbStatus::OutOfDate], ..rules() }, "UpToDate");
    check(IntelRules { allow_dynamic_platform: false, ..rules() }, "dynamic platform");
    check(IntelRules { allow_smt: false, ..rules() }, "multithreading");
    check(IntelRules { evaluation_number_min: 1000, ..rules() }, "evaluation 1000");
}

/// The trap that `verify_with_policy` avoids: the library's plain `verify` accepts a platform that is out of date.
#[test]
fn out_of_date_platforms_that_the_plain_verifier_accepts_are_refused() {
    let vector = &OUT_OF_DATE;
    let quote = vector.quote();
    let collateral = vector.collateral();
    let library = QuoteCollateralV3::from(&collateral);
    let plain = dcap_qvl::verify::verify(&quote, &library, vector.recorded_unix_s).unwrap();
    assert_eq!(plain.status, "OutOfDate");
    let result = vector.verify_with(quote, collateral, &IntelRules::up_to_date(), vector.recorded_unix_s);
    let refusal = refused(result, Check::Tcb);
    assert!(refusal.found.starts_with("OutOfDate (INTEL-SA-01192, "), "{refusal}");
}

/// An allowed status is not enough: the level's date plus the grace must not have passed.
#[test]
fn out_of_date_platforms_are_accepted_within_their_grace_alone() {
    let vector = &OUT_OF_DATE;
    let verify = |platform_grace_s| {
        let rules = IntelRules {
            allowed_statuses: vec![TcbStatus::UpToDate, TcbStatus::OutOfDate],
            platform_grace_s,
            ..IntelRules::up_to_date()
        };
        vector.verify_with(vector.quote(), vector.collateral(), &rules, vector.recorded_unix_s)
    };
    let Tcb::Intel { status, level_date_unix_s, .. } = verify(10 * 365 * 86_400).unwrap().tcb else { panic!() };
    assert_eq!(status, TcbStatus::OutOfDate);
    let age = vector.recorded_unix_s - level_date_unix_s;
    verify(age).unwrap();
    refused(verify(age - 1), Check::Tcb);
    refused(verify(0), Check::Tcb);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        let _ = TdxQuote::parse(&bytes);
    }

    /// Any bytes in any place: the parser either refuses, or reads the same signed part.
    #[test]
    fn noise_in_a_quote_never_panics(start in 0_usize..5000, noise in prop::collection::vec(any::<u8>(), 1..64)) {
        let mut quote = first().quote();
        for (byte, noise) in quote.iter_mut().skip(start).zip(noise) {
            *byte = noise;
        }
        if let Ok(parsed) = TdxQuote::parse(&quote) {
            prop_assert_eq!(parsed.signed_bytes, 632);
        }
        let _ = verify::collateral_need(&PlatformEvidence::Tdx { quote });
    }
}
