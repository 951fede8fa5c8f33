//! SEV-SNP reports and AMD's collateral.

use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::facts::{Attributes, Measurements, PlatformIdentity, Tcb};
use cocoon_attest::verify::IntelRules;
use cocoon_attest::{Check, Evidence, Provenance, Role, roots};
use cocoon_simtee::{Faults, Platform, ReportVersion, SimImage};

use crate::{Accepted, REPORT_DATA, collateral, evidence, kept_platform, refused};

async fn report(platform: &Platform, version: ReportVersion) -> Evidence {
    evidence(&platform.snp_guest(SimImage::for_role(Role::Worker)).report_version(version)).await
}

#[tokio::test]
async fn reports_of_both_versions_are_accepted_under_their_own_root() {
    let platform = &kept_platform("one");
    let accepted = Accepted::amd(&platform.amd_root_pem());
    for version in [ReportVersion::V2, ReportVersion::V3] {
        let mut evidence = report(platform, version).await;
        let collateral = collateral(platform, &evidence).await;
        let (facts, provenance) = accepted.verify(&evidence, &collateral, &IntelRules::up_to_date()).unwrap();
        assert_eq!(provenance, Provenance::Simulated);
        assert_eq!(facts.report_data, REPORT_DATA);
        let Measurements::SevSnp(measured) = &facts.measurements else { panic!("not of SNP: {facts:?}") };
        assert_eq!(measured.measurement, SimImage::for_role(Role::Worker).launch_measurement());
        assert!(matches!(&facts.identity, PlatformIdentity::Amd { product, vlek: false, .. } if product == "Genoa"));
        assert!(
            matches!(facts.tcb, Tcb::Amd { reported, committed, launch } if reported == committed && committed == launch)
        );

        // The collateral has the certificate too.
        let PlatformEvidence::SevSnp { certificates, .. } = &mut evidence.platform else { panic!("not of SNP") };
        certificates.clear();
        accepted.verify(&evidence, &collateral, &IntelRules::up_to_date()).unwrap();
    }
}

#[tokio::test]
async fn a_simulated_report_under_amds_roots_is_refused() {
    let platform = kept_platform("one");
    let evidence = report(&platform, ReportVersion::V3).await;
    let accepted = Accepted { intel: Vec::new(), amd: roots::amd_all() };
    let collateral = collateral(&platform, &evidence).await;
    assert!(accepted.verify(&evidence, &collateral, &IntelRules::up_to_date()).is_err());
}

#[tokio::test]
async fn two_platforms_never_accept_each_others_reports() {
    let other = kept_platform("other");
    let evidence = report(&other, ReportVersion::V3).await;
    let collateral = collateral(&other, &evidence).await;
    let accepted = Accepted::amd(&kept_platform("one").amd_root_pem());
    assert!(accepted.verify(&evidence, &collateral, &IntelRules::up_to_date()).is_err());
}

#[tokio::test]
async fn a_report_with_one_flipped_bit_is_refused() {
    let platform = &kept_platform("one");
    let good = report(platform, ReportVersion::V3).await;
    let collateral = collateral(platform, &good).await;
    let accepted = Accepted::amd(&platform.amd_root_pem());
    // Report data, measurement, the first number of the signature.
    for at in [0x50, 0x90, 0x2a0] {
        let mut bad = good.clone();
        let PlatformEvidence::SevSnp { report, .. } = &mut bad.platform else { panic!("not of SNP") };
        report[at] ^= 1;
        refused(accepted.verify(&bad, &collateral, &IntelRules::up_to_date()), Check::Signature);
    }
}

#[tokio::test]
async fn a_revoked_ask_is_refused_and_so_is_an_old_list() {
    let platform = kept_platform("one");
    let accepted = Accepted::amd(&platform.amd_root_pem());
    let revoked = Faults { ask_revoked: true, ..Faults::default() };
    let expired = Faults { collateral_expired: true, ..Faults::default() };
    for (state, check) in [(revoked, Check::Revocation), (expired, Check::Collateral)] {
        platform.faults().set(|faults| *faults = state);
        let evidence = report(&platform, ReportVersion::V3).await;
        let collateral = collateral(&platform, &evidence).await;
        refused(accepted.verify(&evidence, &collateral, &IntelRules::up_to_date()), check);
    }

    // Debugging is in the guest policy, which the verifier reports and the appraisal policy judges.
    platform.faults().clear();
    platform.faults().set(|faults| faults.debug_guest = true);
    let evidence = report(&platform, ReportVersion::V3).await;
    let collateral = collateral(&platform, &evidence).await;
    let (facts, _) = accepted.verify(&evidence, &collateral, &IntelRules::up_to_date()).unwrap();
    assert!(matches!(facts.attributes, Attributes::SevSnp { policy, .. } if policy & (1 << 19) != 0));
}
