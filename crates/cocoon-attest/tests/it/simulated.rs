//! Evidence of the simulated platform, verified by its own roots: what no recorded evidence shows.

use std::sync::Arc;

use cocoon_attest::collateral::{Collateral, SnpCollateral};
use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::facts::{Measurements, PlatformFacts, PlatformIdentity, Tcb, TcbStatus};
use cocoon_attest::provider::CollateralSource as _;
use cocoon_attest::roots::{self, TrustAnchor};
use cocoon_attest::verify::{self, IntelRules, Roots};
use cocoon_attest::{Check, Provenance, Refusal, Role};
use cocoon_simtee::{Faults, Platform, QuoteVersion, ReportVersion, SimImage, TdOptions};

use crate::case::{DAY_S, NOW, now};

const REPORT_DATA: [u8; 64] = [7; 64];

/// The simulated vendors' roots.
struct Simulated {
    platform: Platform,
    intel: Vec<TrustAnchor>,
    amd: Vec<TrustAnchor>,
}

impl Simulated {
    fn new(seed: u8) -> Self {
        let platform = Platform::from_seed([seed; 32], NOW);
        let intel = vec![TrustAnchor::simulated_pem(&platform.root_pem()).unwrap()];
        Self { platform, intel, amd: vec![] }
    }

    fn with_amd(seed: u8) -> Self {
        let mut simulated = Self::new(seed);
        simulated.amd = vec![TrustAnchor::simulated_pem(&simulated.platform.amd_root_pem()).unwrap()];
        simulated
    }

    fn td(&self, version: QuoteVersion) -> PlatformEvidence {
        let options = TdOptions::new(SimImage::for_role(Role::Worker)).quote(version);
        PlatformEvidence::Tdx { quote: self.platform.td(options).quote(REPORT_DATA) }
    }

    fn snp(&self, version: ReportVersion) -> PlatformEvidence {
        let guest = self.platform.snp_guest(SimImage::for_role(Role::Worker)).report_version(version);
        PlatformEvidence::SevSnp { report: guest.report(REPORT_DATA), certificates: vec![] }
    }

    fn collateral(&self, evidence: &PlatformEvidence) -> Collateral {
        let need = verify::collateral_need(evidence).unwrap();
        Arc::unwrap_or_clone(now(self.platform.collateral_source().collateral(&need, NOW)).unwrap())
    }

    fn snp_collateral(&self, evidence: &PlatformEvidence) -> SnpCollateral {
        let Collateral::Amd(collateral) = self.collateral(evidence) else { panic!("the other vendor's") };
        collateral
    }

    fn verify(&self, evidence: &PlatformEvidence) -> Result<PlatformFacts, Refusal> {
        self.verify_with(evidence, &self.collateral(evidence), &IntelRules::up_to_date(), NOW)
    }

    fn verify_with(
        &self,
        evidence: &PlatformEvidence,
        collateral: &Collateral,
        rules: &IntelRules,
        now_unix_s: u64,
    ) -> Result<PlatformFacts, Refusal> {
        let roots = Roots { intel: &self.intel, amd: &self.amd, nvidia: &[] };
        let (facts, provenance) = verify::platform(evidence, collateral, roots, rules, now_unix_s)?;
        assert_eq!(provenance, Provenance::Simulated);
        Ok(facts)
    }
}

#[track_caller]
fn refused(result: Result<PlatformFacts, Refusal>, check: Check) {
    let refusal = result.expect_err("refused");
    assert_eq!(refusal.check, check, "{refusal}");
}

#[test]
fn simulated_tds_are_accepted_under_their_own_root() {
    let simulated = Simulated::new(1);
    for version in [QuoteVersion::V4, QuoteVersion::V5] {
        let facts = simulated.verify(&simulated.td(version)).unwrap();
        assert_eq!(facts.root, simulated.intel[0].id);
        assert_eq!(facts.report_data, REPORT_DATA);
        let Tcb::Intel { status, .. } = facts.tcb else { panic!() };
        assert_eq!(status, TcbStatus::UpToDate);
    }
}

#[test]
fn simulated_tds_are_refused_under_any_other_root() {
    let simulated = Simulated::new(1);
    let evidence = simulated.td(QuoteVersion::V4);
    let collateral = simulated.collateral(&evidence);
    for intel in [vec![roots::intel()], Simulated::new(2).intel] {
        let roots = Roots { intel: &intel, amd: &[], nvidia: &[] };
        let result = verify::platform(&evidence, &collateral, roots, &IntelRules::up_to_date(), NOW);
        assert_eq!(result.expect_err("another root").check, Check::Root);
    }
}

/// Collateral of one platform's vendor says nothing about another's.
#[test]
fn collateral_under_another_root_is_refused() {
    let simulated = Simulated::new(1);
    let other = Simulated::new(2);
    let evidence = simulated.td(QuoteVersion::V4);
    let foreign = other.collateral(&other.td(QuoteVersion::V4));
    refused(simulated.verify_with(&evidence, &foreign, &IntelRules::up_to_date(), NOW), Check::Root);
    // Not even when both roots are accepted.
    let both = Simulated { intel: [simulated.intel, other.intel].concat(), ..Simulated::new(1) };
    refused(both.verify_with(&evidence, &foreign, &IntelRules::up_to_date(), NOW), Check::Root);
}

#[test]
fn faults_of_a_td_are_refused_by_their_check() {
    let simulated = Simulated::new(1);
    for (fault, check) in [
        ((|faults| faults.pck_revoked = true) as fn(&mut Faults), Check::Revocation),
        (|faults| faults.collateral_expired = true, Check::Collateral),
        (|faults| faults.debug_guest = true, Check::Attributes),
        (|faults| faults.sept_ve_disable_off = true, Check::Attributes),
        (|faults| faults.migratable_guest = true, Check::Attributes),
        (|faults| faults.tcb_status = TcbStatus::OutOfDate, Check::Tcb),
        (|faults| faults.tcb_status = TcbStatus::Revoked, Check::Tcb),
    ] {
        simulated.platform.faults().set(fault);
        refused(simulated.verify(&simulated.td(QuoteVersion::V5)), check);
        simulated.platform.faults().clear();
    }
    simulated.verify(&simulated.td(QuoteVersion::V5)).unwrap();
}

/// No rule lets a revoked platform pass.
#[test]
fn revoked_platforms_are_refused_whatever_the_rules_allow() {
    let simulated = Simulated::new(1);
    simulated.platform.faults().set(|faults| faults.tcb_status = TcbStatus::Revoked);
    let evidence = simulated.td(QuoteVersion::V4);
    let rules = IntelRules {
        allowed_statuses: vec![TcbStatus::UpToDate, TcbStatus::OutOfDate, TcbStatus::Revoked],
        platform_grace_s: u64::MAX,
        ..IntelRules::up_to_date()
    };
    refused(simulated.verify_with(&evidence, &simulated.collateral(&evidence), &rules, NOW), Check::Tcb);
}

#[test]
fn simulated_snp_guests_are_accepted_under_their_own_root() {
    let simulated = Simulated::with_amd(1);
    for version in [ReportVersion::V2, ReportVersion::V3] {
        let evidence = simulated.snp(version);
        let collateral = simulated.snp_collateral(&simulated.snp(ReportVersion::V3));
        let collateral = Collateral::Amd(collateral);
        let facts = simulated.verify_with(&evidence, &collateral, &IntelRules::up_to_date(), NOW).unwrap();
        assert_eq!(facts.root, simulated.amd[0].id);
        assert_eq!(facts.report_data, REPORT_DATA);
        assert!(matches!(facts.measurements, Measurements::SevSnp(_)));
        assert!(matches!(facts.identity, PlatformIdentity::Amd { vlek: false, .. }));
        // The revocation list is the first to expire.
        assert!(facts.collateral_window.1 < NOW + 400 * DAY_S);
    }
}

#[test]
fn simulated_snp_guests_are_refused_under_amd_roots() {
    let simulated = Simulated::with_amd(1);
    let evidence = simulated.snp(ReportVersion::V3);
    let collateral = simulated.collateral(&evidence);
    let amd = roots::amd_all();
    let roots = Roots { intel: &[], amd: &amd, nvidia: &[] };
    let result = verify::platform(&evidence, &collateral, roots, &IntelRules::up_to_date(), NOW);
    assert_eq!(result.expect_err("another root").check, Check::Root);
}

#[test]
fn revoked_ask_is_refused() {
    let simulated = Simulated::with_amd(1);
    let evidence = simulated.snp(ReportVersion::V3);
    simulated.verify(&evidence).unwrap();
    simulated.platform.faults().set(|faults| faults.ask_revoked = true);
    refused(simulated.verify(&evidence), Check::Revocation);
}

#[test]
fn bad_revocation_lists_of_amd_are_refused() {
    let simulated = Simulated::with_amd(1);
    let evidence = simulated.snp(ReportVersion::V3);
    let collateral = simulated.snp_collateral(&evidence);
    let check = |crl: Vec<u8>, now_unix_s: u64, check: Check| {
        let collateral = Collateral::Amd(SnpCollateral { crl: Some(crl), ..collateral.clone() });
        refused(simulated.verify_with(&evidence, &collateral, &IntelRules::up_to_date(), now_unix_s), check);
    };
    let crl = collateral.crl.clone().unwrap();
    let mut altered = crl.clone();
    *altered.last_mut().unwrap() ^= 1;
    check(altered, NOW, Check::Signature);
    // Later than the list's next update, while the certificates still hold.
    check(crl.clone(), NOW + 400 * DAY_S, Check::Collateral);
    let mut longer = crl;
    longer.push(0);
    check(longer, NOW, Check::Collateral);
    // One that another platform's root signed, under the same name.
    let other = Simulated::with_amd(2);
    let foreign = other.snp_collateral(&other.snp(ReportVersion::V3)).crl.unwrap();
    check(foreign, NOW, Check::Signature);
}

/// A report that the genuine key signed, by a chain that is not the one of that key.
#[test]
fn a_report_under_another_platforms_vcek_is_refused() {
    let simulated = Simulated::with_amd(1);
    let other = Simulated::with_amd(2);
    let evidence = simulated.snp(ReportVersion::V3);
    let foreign = Collateral::Amd(other.snp_collateral(&other.snp(ReportVersion::V3)));
    refused(other.verify_with(&evidence, &foreign, &IntelRules::up_to_date(), NOW), Check::Signature);
}
