//! SEV-SNP reports of real machines, and attacks on them.

use cocoon_attest::collateral::{Collateral, CollateralNeed, SnpCollateral, TdxCollateral};
use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::evidence::snp::{Product, SIGNED_BYTES, SigningKey, SnpReport};
use cocoon_attest::facts::{Attributes, Measurements, PlatformFacts, PlatformIdentity, SnpTcb, Tcb};
use cocoon_attest::roots;
use cocoon_attest::verify::{self, IntelRules, Roots};
use cocoon_attest::{Check, Refusal};
use proptest::prelude::*;
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser as _;

use crate::vectors::{PRESENT, Vendors, positions, read, read_hex, refused};

/// Within the dates of every certificate but the VLEK's.
const NOW: u64 = 1_750_000_000;

fn milan() -> Vec<u8> {
    read_hex("snp/virtee-sev/report_milan.hex")
}

fn chain(file: &str) -> String {
    String::from_utf8(read(file)).unwrap()
}

fn collateral(leaf: Option<&str>, chain_file: &str) -> SnpCollateral {
    SnpCollateral { leaf: leaf.map(read), chain: chain(chain_file), crl: None }
}

const MILAN_CHAIN: &str = "snp/virtee-sev/cert_chain_milan";
const MILAN_VCEK: &str = "snp/virtee-sev/vcek_milan.der";

fn verify_with(
    report: Vec<u8>,
    certificates: Vec<Vec<u8>>,
    collateral: SnpCollateral,
    now: u64,
) -> Result<PlatformFacts, Refusal> {
    let evidence = PlatformEvidence::SevSnp { report, certificates };
    Vendors::new().verify(&evidence, &Collateral::Amd(collateral), &IntelRules::up_to_date(), now)
}

fn verify_milan(report: Vec<u8>) -> Result<PlatformFacts, Refusal> {
    verify_with(report, vec![], collateral(Some(MILAN_VCEK), MILAN_CHAIN), NOW)
}

#[test]
fn reports_of_real_chips_are_accepted() {
    for (report, vcek) in [(milan(), MILAN_VCEK), (read("snp/trustee/test-report.bin"), "snp/trustee/test-vcek.der")] {
        let facts = verify_with(report.clone(), vec![], collateral(Some(vcek), MILAN_CHAIN), NOW).unwrap();
        assert_eq!(facts.root, roots::amd(Product::Milan).id);
        let parsed = SnpReport::parse(&report).unwrap();
        assert_eq!(facts.report_data, parsed.report_data);
        let expected = PlatformIdentity::Amd { chip_id: parsed.chip_id, product: "Milan".to_owned(), vlek: false };
        assert_eq!(facts.identity, expected);
        let Tcb::Amd { reported, .. } = facts.tcb else { panic!() };
        assert_eq!(reported, SnpTcb { fmc: None, boot_loader: 3, tee: 0, snp: 8, microcode: 0x73 });
        // Certificates hold for years, so the present is as good as the day of the record.
        verify_with(report, vec![], collateral(Some(vcek), MILAN_CHAIN), PRESENT).unwrap();
    }
}

#[test]
fn the_certificate_may_come_with_the_report() {
    let certificates = vec![read(MILAN_VCEK)];
    verify_with(milan(), certificates, collateral(None, MILAN_CHAIN), NOW).unwrap();
    let refusal = refused(verify_with(milan(), vec![], collateral(None, MILAN_CHAIN), NOW), Check::Collateral);
    assert!(refusal.expected.contains("VCEK"), "{refusal}");
}

/// A report of version 3, signed by a cloud provider's key.
#[test]
fn vlek_report_is_accepted_up_to_the_pinned_root() {
    let report = read("snp/trustee/test-vlek-report.bin");
    let parsed = SnpReport::parse(&report).unwrap();
    assert_eq!((parsed.version, parsed.signing_key, parsed.product), (3, SigningKey::Vlek, Some(Product::Milan)));
    let collateral = SnpCollateral { leaf: Some(read("snp/trustee/test-vlek.der")), chain: String::new(), crl: None };
    let facts = verify_with(report.clone(), vec![], collateral.clone(), NOW).unwrap();
    let expected = PlatformIdentity::Amd { chip_id: [0; 64], product: "Milan".to_owned(), vlek: true };
    assert_eq!(facts.identity, expected);
    refused(verify_with(report, vec![], collateral, PRESENT), Check::Collateral);
}

/// AMD's published ASK and ASVK need not come along; no root ever does.
#[test]
fn the_chain_may_be_left_out() {
    let collateral = SnpCollateral { leaf: Some(read(MILAN_VCEK)), chain: String::new(), crl: None };
    verify_with(milan(), vec![], collateral, NOW).unwrap();
}

/// Any certificate can claim an issuer; a VCEK cannot be one.
#[test]
fn a_vcek_that_issues_certificates_is_refused() {
    let evidence = vec![read(MILAN_VCEK), read("snp/trustee/test-vcek.der")];
    verify_with(milan(), evidence, collateral(None, MILAN_CHAIN), NOW).unwrap();
    let swapped = vec![chain_der(0), read(MILAN_VCEK)];
    let result = verify_with(milan(), swapped, collateral(None, MILAN_CHAIN), NOW);
    assert!(matches!(result.expect_err("an ASK as leaf").check, Check::Signature | Check::Collateral));
}

fn chain_der(index: usize) -> Vec<u8> {
    let chain = chain(MILAN_CHAIN);
    let blocks = x509_parser::pem::Pem::iter_from_buffer(chain.as_bytes());
    blocks.map(|block| block.unwrap().contents).nth(index).unwrap()
}

#[test]
fn wrong_vceks_are_refused() {
    let trustee = read("snp/trustee/test-report.bin");
    for (report, vcek) in [
        (trustee.clone(), "snp/trustee/test-vcek-invalid-legacy.der"),
        (trustee.clone(), "snp/trustee/test-vcek-invalid-new.der"),
        (trustee, MILAN_VCEK),
        (milan(), "snp/trustee/test-vcek.der"),
        (milan(), "snp/trustee/test-vlek.der"),
    ] {
        let result = verify_with(report, vec![], collateral(Some(vcek), MILAN_CHAIN), NOW);
        let refusal = result.expect_err(vcek);
        assert!(matches!(refusal.check, Check::Signature | Check::Collateral), "{vcek}: {refusal}");
    }
}

/// The VCEK of a Turin chip, for which no report is recorded: its chain and extensions are read to the signature.
#[test]
fn turin_certificates_do_not_certify_milan_reports() {
    let collateral = collateral(Some("snp/virtee-sev/vcek_turin.der"), "snp/virtee-sev/cert_chain_turin");
    refused(verify_with(milan(), vec![], collateral, NOW), Check::Signature);
}

#[test]
fn altered_reports_are_refused() {
    let original = milan();
    let edges = [0, 4, 8, 0x30, 0x34, 0x48, 0x50, 0x90, 0x180, 0x188, 0x1a0, 0x1e0, 0x1f0, 0x29f];
    for position in positions(&edges, SIGNED_BYTES, 37) {
        let mut report = original.clone();
        report[position] ^= 0x04;
        let refusal = verify_milan(report).expect_err("an altered report");
        assert!(matches!(refusal.check, Check::Signature | Check::Format), "byte {position:#x}: {refusal}");
    }
    for position in SIGNED_BYTES..original.len() {
        let mut report = original.clone();
        report[position] ^= 0x04;
        let padding = (SIGNED_BYTES + 48..SIGNED_BYTES + 72).contains(&position) || position >= SIGNED_BYTES + 120;
        // Padding is refused by the parser; of the real signature bytes some are enough.
        if padding {
            assert!(SnpReport::parse(&report).is_err(), "byte {position:#x}");
        } else if position % 13 == 0 {
            refused(verify_milan(report), Check::Signature);
        }
    }
}

#[test]
fn cut_reports_never_panic() {
    let report = milan();
    for len in 0..report.len() {
        assert!(SnpReport::parse(&report[..len]).is_err(), "{len}");
    }
}

#[test]
fn altered_certificates_are_refused() {
    let original = read(MILAN_VCEK);
    for position in (0..original.len()).step_by(29) {
        let mut leaf = original.clone();
        leaf[position] ^= 0x01;
        let collateral = SnpCollateral { leaf: Some(leaf), chain: chain(MILAN_CHAIN), crl: None };
        verify_with(milan(), vec![], collateral, NOW).expect_err("an altered certificate");
    }
}

#[test]
fn certificates_out_of_date_are_refused() {
    let expired = 1_950_000_000;
    let early = 1_600_000_000;
    for now in [early, expired] {
        let result = verify_with(milan(), vec![], collateral(Some(MILAN_VCEK), MILAN_CHAIN), now);
        refused(result, Check::Collateral);
    }
}

#[test]
fn another_root_is_refused() {
    let evidence = PlatformEvidence::SevSnp { report: milan(), certificates: vec![] };
    let collateral = Collateral::Amd(collateral(Some(MILAN_VCEK), MILAN_CHAIN));
    for amd in [vec![], vec![roots::amd(Product::Genoa)], vec![roots::intel()]] {
        let roots = Roots { intel: &[], amd: &amd, nvidia: &[] };
        let result = verify::platform(&evidence, &collateral, roots, &IntelRules::up_to_date(), NOW);
        assert_eq!(result.expect_err("another root").check, Check::Root);
    }
}

#[test]
fn unreadable_revocation_lists_are_refused() {
    for crl in [vec![], vec![0x30, 0x00], read(MILAN_VCEK)] {
        let mut collateral = collateral(Some(MILAN_VCEK), MILAN_CHAIN);
        collateral.crl = Some(crl);
        refused(verify_with(milan(), vec![], collateral, NOW), Check::Collateral);
    }
}

#[test]
fn collateral_of_the_other_vendor_is_refused() {
    let evidence = PlatformEvidence::SevSnp { report: milan(), certificates: vec![] };
    let intel: TdxCollateral = crate::vectors::intel_collateral("tdx/dcap-qvl/tdx_quote_collateral.json");
    let result = Vendors::new().verify(&evidence, &Collateral::Intel(intel), &IntelRules::up_to_date(), NOW);
    refused(result, Check::Collateral);
}

#[test]
fn both_parsers_agree() {
    let bytes = milan();
    let ours = SnpReport::parse(&bytes).unwrap();
    let theirs = AttestationReport::from_bytes(&bytes).unwrap();
    assert_eq!(ours.version, theirs.version);
    assert_eq!(ours.policy, u64::from(theirs.policy));
    assert_eq!(ours.platform_info, u64::from(theirs.plat_info));
    assert_eq!(ours.vmpl, theirs.vmpl);
    assert_eq!(ours.chip_id, theirs.chip_id);
    let facts = verify_milan(bytes).unwrap();
    assert_eq!(facts.report_data, theirs.report_data);
    let Measurements::SevSnp(guest) = facts.measurements else { panic!() };
    assert_eq!(guest.measurement, theirs.measurement);
    assert_eq!(guest.host_data, theirs.host_data);
    assert_eq!(guest.id_key_digest, theirs.id_key_digest);
    assert_eq!(guest.author_key_digest, theirs.author_key_digest);
    assert_eq!(guest.family_id, theirs.family_id);
    assert_eq!(guest.image_id, theirs.image_id);
    assert_eq!(guest.guest_svn, theirs.guest_svn);
    let attributes = Attributes::SevSnp { policy: 0x30000, platform_info: 1, vmpl: 0 };
    assert_eq!(facts.attributes, attributes);
    let Tcb::Amd { reported, committed, launch } = facts.tcb else { panic!() };
    for (ours, theirs) in
        [(reported, theirs.reported_tcb), (committed, theirs.committed_tcb), (launch, theirs.launch_tcb)]
    {
        assert_eq!(ours.fmc, theirs.fmc);
        assert_eq!((ours.boot_loader, ours.tee), (theirs.bootloader, theirs.tee));
        assert_eq!((ours.snp, ours.microcode), (theirs.snp, theirs.microcode));
    }
}

/// The layout of TCB versions changed with Turin; reports of version 5 add fields that the signature covers.
#[test]
fn turin_reports_of_version_5_are_read() {
    let mut bytes = milan();
    bytes[0] = 5;
    bytes[0x188..0x18b].copy_from_slice(&[0x1a, 0x02, 0x01]);
    bytes[0x1f8..0x208].fill(0xff);
    let report = SnpReport::parse(&bytes).unwrap();
    assert_eq!((report.version, report.product), (5, Some(Product::Turin)));
    let tcb = SnpTcb::from_raw(0x4800_0000_0301_0201, Product::Turin);
    assert_eq!(tcb, SnpTcb { fmc: Some(1), boot_loader: 2, tee: 1, snp: 3, microcode: 0x48 });
    bytes[0x188] = 0x17;
    assert!(SnpReport::parse(&bytes).is_err(), "a processor without SNP");
    bytes[0] = 6;
    assert!(SnpReport::parse(&bytes).is_err(), "a version that nobody described");
}

#[test]
fn reports_that_nobody_signed_are_refused() {
    for key_info in [0b10_u8, 0b1_1100, 0b0_1000] {
        let mut report = milan();
        report[0x48] = key_info;
        refused(verify_milan(report), Check::Format);
    }
}

#[test]
fn collateral_need_names_product_and_chip() {
    let evidence = PlatformEvidence::SevSnp { report: milan(), certificates: vec![read(MILAN_VCEK)] };
    let CollateralNeed::Amd { product, vlek, reported_tcb, .. } = verify::collateral_need(&evidence).unwrap() else {
        panic!()
    };
    assert_eq!((product.as_str(), vlek, reported_tcb), ("Milan", false, 0x7308_0000_0000_0003));
    let report = read("snp/trustee/test-vlek-report.bin");
    let need = verify::collateral_need(&PlatformEvidence::SevSnp { report, certificates: vec![] }).unwrap();
    assert!(matches!(need, CollateralNeed::Amd { vlek: true, .. }), "{need:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..1400)) {
        let _ = SnpReport::parse(&bytes);
    }

    #[test]
    fn noise_in_a_report_never_panics(start in 0_usize..1184, noise in prop::collection::vec(any::<u8>(), 1..32)) {
        let mut report = milan();
        for (byte, noise) in report.iter_mut().skip(start).zip(noise) {
            *byte = noise;
        }
        let _ = SnpReport::parse(&report);
        let _ = verify::collateral_need(&PlatformEvidence::SevSnp { report, certificates: vec![] });
    }
}
