//! TDX quotes and Intel's collateral: the table of attestation.md, section 3.2.

use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::facts::{Attributes, Measurements, PlatformIdentity, Tcb, TcbStatus};
use cocoon_attest::verify::IntelRules;
use cocoon_attest::{Check, Collateral, Evidence, PlatformFacts, Provenance, Refusal, Role, roots};
use cocoon_simtee::{FMSPC, Faults, Platform, QuoteVersion, SimImage, SimTd, TCB_EVALUATION_NUMBER, TdOptions};
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::policy::QuotePolicy;
use dcap_qvl::verify::QuoteVerifier;

use crate::{Accepted, DAY_S, NOW, REPORT_DATA, collateral, evidence, refused};

const VERSIONS: [QuoteVersion; 2] = [QuoteVersion::V4, QuoteVersion::V5];

fn td(platform: &Platform, version: QuoteVersion) -> SimTd {
    platform.td(TdOptions::new(SimImage::for_role(Role::Worker)).quote(version))
}

async fn verify(
    platform: &Platform,
    evidence: &Evidence,
    rules: &IntelRules,
) -> Result<(PlatformFacts, Provenance), Refusal> {
    Accepted::intel(&platform.root_pem()).verify(evidence, collateral(platform, evidence).await.as_ref(), rules)
}

/// What becomes of a platform with these faults.
async fn verify_with(faults: impl FnOnce(&mut Faults), rules: &IntelRules) -> Result<PlatformFacts, Refusal> {
    let platform = Platform::generate(NOW);
    platform.faults().set(faults);
    let evidence = evidence(&td(&platform, QuoteVersion::V4)).await;
    verify(&platform, &evidence, rules).await.map(|(facts, _)| facts)
}

fn quote(evidence: &mut Evidence) -> &mut Vec<u8> {
    match &mut evidence.platform {
        PlatformEvidence::Tdx { quote } => quote,
        other => panic!("no TDX evidence: {other:?}"),
    }
}

fn tcb(facts: &PlatformFacts) -> (TcbStatus, &[String], u32) {
    match &facts.tcb {
        Tcb::Intel { status, advisories, evaluation_number, .. } => (*status, advisories, *evaluation_number),
        other => panic!("no Intel TCB: {other:?}"),
    }
}

#[tokio::test]
async fn quotes_of_both_versions_are_accepted_under_their_own_root() {
    let platform = Platform::generate(NOW);
    for version in VERSIONS {
        let td = td(&platform, version);
        let (facts, provenance) = verify(&platform, &evidence(&td).await, &IntelRules::up_to_date()).await.unwrap();
        assert_eq!(provenance, Provenance::Simulated);
        assert_eq!(facts.root, platform.root_id());
        assert_eq!(facts.report_data, REPORT_DATA);
        assert_eq!(tcb(&facts), (TcbStatus::UpToDate, [].as_slice(), TCB_EVALUATION_NUMBER));
        let Measurements::Tdx(measured) = &facts.measurements else { panic!("not of a TD: {facts:?}") };
        assert_eq!((measured.mr_td, measured.rtmr), (td.image().mr_td(), td.rtmr()));
        let PlatformIdentity::Intel { ppid, platform_instance_id, fmspc } = &facts.identity else {
            panic!("not of Intel: {facts:?}")
        };
        assert_eq!((ppid.as_slice(), *fmspc), (platform.ppid().as_slice(), FMSPC));
        assert!(platform_instance_id.is_some());
        assert!(matches!(facts.attributes, Attributes::Tdx { td_attributes: 0x1000_0000, .. }));
    }
}

/// The library itself, with what production tells it; not only our use of it.
#[tokio::test]
async fn dcap_qvl_accepts_quotes_only_with_the_flags_of_real_hosts() {
    let platform = Platform::generate(NOW);
    let mut evidence = evidence(&td(&platform, QuoteVersion::V4)).await;
    let Collateral::Intel(collateral) = collateral(&platform, &evidence).await.as_ref().clone() else {
        panic!("another vendor's collateral")
    };
    let collateral = QuoteCollateralV3 {
        pck_crl_issuer_chain: collateral.pck_crl_issuer_chain,
        root_ca_crl: collateral.root_ca_crl,
        pck_crl: collateral.pck_crl,
        tcb_info_issuer_chain: collateral.tcb_info_issuer_chain,
        tcb_info: collateral.tcb_info,
        tcb_info_signature: collateral.tcb_info_signature,
        qe_identity_issuer_chain: collateral.qe_identity_issuer_chain,
        qe_identity: collateral.qe_identity,
        qe_identity_signature: collateral.qe_identity_signature,
        pck_certificate_chain: None,
    };
    let der = pem_der(&platform.root_pem());
    let verify = |policy: QuotePolicy| {
        QuoteVerifier::new(der.clone()).verify_with_policy(
            quote(&mut evidence.clone()),
            collateral.clone(),
            NOW,
            &policy,
        )
    };
    let strict = verify(QuotePolicy::strict(NOW)).unwrap_err();
    assert!(strict.to_string().contains("Dynamic platform"), "{strict:#}");
    let claims = verify(QuotePolicy::strict(NOW).allow_dynamic_platform(true).allow_smt(true)).unwrap();
    assert_eq!(claims.platform.root_key_id, platform.root_id().0);
    assert_eq!(quote(&mut evidence).len() / 1000, 4, "real quotes have 4 to 5 KB");
}

fn pem_der(pem: &str) -> Vec<u8> {
    roots::TrustAnchor::simulated_pem(pem).unwrap().certificate_der
}

#[tokio::test]
async fn a_simulated_quote_under_intels_root_is_refused() {
    let platform = Platform::generate(NOW);
    let evidence = evidence(&td(&platform, QuoteVersion::V4)).await;
    let accepted = Accepted { intel: vec![roots::intel()], amd: Vec::new() };
    let collateral = collateral(&platform, &evidence).await;
    refused(accepted.verify(&evidence, &collateral, &IntelRules::up_to_date()), Check::Root);
}

#[tokio::test]
async fn two_platforms_never_accept_each_others_quotes() {
    let (one, other) = (Platform::generate(NOW), Platform::generate(NOW));
    assert_ne!(one.root_id(), other.root_id());
    for (own, foreign) in [(&one, &other), (&other, &one)] {
        let evidence = evidence(&td(foreign, QuoteVersion::V4)).await;
        let accepted = Accepted::intel(&own.root_pem());
        let foreign_collateral = collateral(foreign, &evidence).await;
        refused(accepted.verify(&evidence, &foreign_collateral, &IntelRules::up_to_date()), Check::Root);
        // Collateral of the accepted root does not help a quote of another.
        let own_collateral = collateral(own, &evidence).await;
        assert!(accepted.verify(&evidence, &own_collateral, &IntelRules::up_to_date()).is_err());
    }
}

#[tokio::test]
async fn a_quote_with_one_flipped_bit_is_refused() {
    const RTMR0: usize = 48 + 328;
    let platform = Platform::generate(NOW);
    let good = evidence(&td(&platform, QuoteVersion::V4)).await;
    let td = td(&platform, QuoteVersion::V4);
    assert_eq!(quote(&mut good.clone())[RTMR0..RTMR0 + 48], td.rtmr()[0]);
    // RTMR0, report data, signature, attestation key, QE report.
    for at in [RTMR0, 48 + 520, 48 + 584 + 4, 48 + 584 + 4 + 64, 48 + 584 + 4 + 128 + 6 + 100] {
        let mut bad = good.clone();
        quote(&mut bad)[at] ^= 1;
        refused(verify(&platform, &bad, &IntelRules::up_to_date()).await, Check::Signature);
    }
}

#[tokio::test]
async fn tds_that_keep_no_secret_are_refused() {
    let rules = IntelRules::up_to_date();
    refused(verify_with(|faults| faults.debug_guest = true, &rules).await, Check::Attributes);
    refused(verify_with(|faults| faults.sept_ve_disable_off = true, &rules).await, Check::Attributes);
    refused(verify_with(|faults| faults.migratable_guest = true, &rules).await, Check::Attributes);
}

#[tokio::test]
async fn a_revoked_pck_certificate_is_refused() {
    refused(verify_with(|faults| faults.pck_revoked = true, &IntelRules::up_to_date()).await, Check::Revocation);
}

#[tokio::test]
async fn collateral_outside_its_dates_is_refused() {
    let rules = IntelRules::up_to_date();
    refused(verify_with(|faults| faults.collateral_expired = true, &rules).await, Check::Collateral);
    refused(verify_with(|faults| faults.clock_offset_s = 2 * 86_400, &rules).await, Check::Collateral);
    // A clock that is an hour behind does no harm.
    verify_with(|faults| faults.clock_offset_s = -3_600, &rules).await.unwrap();
}

#[tokio::test]
async fn an_out_of_date_platform_is_accepted_within_its_grace_only() {
    let out_of_date = |days: u64| {
        move |faults: &mut Faults| {
            faults.tcb_status = TcbStatus::OutOfDate;
            faults.tcb_level_date_unix_s = Some(NOW - days * DAY_S);
        }
    };
    let rules = |grace_days: u64| IntelRules {
        allowed_statuses: vec![TcbStatus::UpToDate, TcbStatus::OutOfDate],
        platform_grace_s: grace_days * DAY_S,
        ..IntelRules::up_to_date()
    };
    refused(verify_with(out_of_date(10), &IntelRules::up_to_date()).await, Check::Tcb);
    refused(verify_with(out_of_date(10), &rules(0)).await, Check::Tcb);
    refused(verify_with(out_of_date(10), &rules(9)).await, Check::Tcb);
    let facts = verify_with(out_of_date(10), &rules(11)).await.unwrap();
    assert_eq!(tcb(&facts).0, TcbStatus::OutOfDate);
}

#[tokio::test]
async fn a_rejected_advisory_is_refused() {
    let hardening = |faults: &mut Faults| {
        faults.tcb_status = TcbStatus::SWHardeningNeeded;
        faults.advisories = vec!["INTEL-SA-00001".to_owned()];
    };
    let allowed = IntelRules { allowed_statuses: vec![TcbStatus::SWHardeningNeeded], ..IntelRules::up_to_date() };
    let facts = verify_with(hardening, &allowed).await.unwrap();
    assert_eq!(tcb(&facts).1, ["INTEL-SA-00001"]);
    let rejected = IntelRules { rejected_advisories: vec!["INTEL-SA-00001".to_owned()], ..allowed };
    refused(verify_with(hardening, &rejected).await, Check::Tcb);
    refused(verify_with(hardening, &IntelRules::up_to_date()).await, Check::Tcb);
}

#[tokio::test]
async fn a_revoked_tcb_is_refused_whatever_is_allowed() {
    let everything = IntelRules {
        allowed_statuses: vec![TcbStatus::UpToDate, TcbStatus::OutOfDate, TcbStatus::Revoked],
        platform_grace_s: u64::from(u32::MAX),
        ..IntelRules::up_to_date()
    };
    let result = verify_with(|faults| faults.tcb_status = TcbStatus::Revoked, &everything).await;
    assert!(matches!(&result, Err(refusal) if matches!(refusal.check, Check::Tcb | Check::Revocation)), "{result:?}");
}

#[tokio::test]
async fn rolled_back_collateral_is_refused() {
    let rules = IntelRules { evaluation_number_min: TCB_EVALUATION_NUMBER, ..IntelRules::up_to_date() };
    verify_with(|_| {}, &rules).await.unwrap();
    refused(verify_with(|faults| faults.tcb_evaluation_number -= 1, &rules).await, Check::Tcb);
}

#[tokio::test]
async fn switches_turn_while_a_td_runs() {
    let platform = Platform::generate(NOW);
    let td = td(&platform, QuoteVersion::V5);
    let rules = IntelRules::up_to_date();
    verify(&platform, &evidence(&td).await, &rules).await.unwrap();
    platform.faults().set(|faults| faults.pck_revoked = true);
    refused(verify(&platform, &evidence(&td).await, &rules).await, Check::Revocation);
    platform.faults().clear();
    assert_eq!(platform.faults().snapshot(), Faults::default());
    verify(&platform, &evidence(&td).await, &rules).await.unwrap();
}
