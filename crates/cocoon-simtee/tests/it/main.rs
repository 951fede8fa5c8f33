//! Evidence of simulated platforms before the real verifiers (attestation.md, section 3.2).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests, outside test functions, fail as tests do"
)]

mod appraisal;
mod boot;
mod cost;
mod gpu;
mod platform;
mod services;
mod sev_snp;
mod tdx;

use std::path::Path;
use std::sync::Arc;

use cocoon_attest::provider::{Attester, CollateralSource as _};
use cocoon_attest::roots::TrustAnchor;
use cocoon_attest::verify::{self, IntelRules, Roots};
use cocoon_attest::{Check, Collateral, Evidence, PlatformFacts, Provenance, Refusal};
use cocoon_simtee::Platform;

/// 2026-11-22, in seconds since the Unix epoch: the time of all these tests.
const NOW: u64 = 1_795_305_600;
const DAY_S: u64 = 86_400;
const REPORT_DATA: [u8; 64] = [0xab; 64];

/// A platform whose RSA keys, which take seconds to make, are kept from one test and run to the next. Its switches are
/// each test's own.
fn kept_platform(name: &str) -> Platform {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("platforms").join(name);
    Platform::open(directory, NOW).unwrap()
}

/// The roots that a verifier accepts.
struct Accepted {
    intel: Vec<TrustAnchor>,
    amd: Vec<TrustAnchor>,
}

impl Accepted {
    fn intel(pem: &str) -> Self {
        Self { intel: vec![TrustAnchor::simulated_pem(pem).unwrap()], amd: Vec::new() }
    }

    fn amd(pem: &str) -> Self {
        Self { intel: Vec::new(), amd: vec![TrustAnchor::simulated_pem(pem).unwrap()] }
    }

    fn verify(
        &self,
        evidence: &Evidence,
        collateral: &Collateral,
        rules: &IntelRules,
    ) -> Result<(PlatformFacts, Provenance), Refusal> {
        let roots = Roots { intel: &self.intel, amd: &self.amd, nvidia: &[] };
        verify::platform(&evidence.platform, collateral, roots, rules, NOW)
    }
}

async fn evidence(attester: &dyn Attester) -> Evidence {
    attester.evidence(REPORT_DATA).await.unwrap()
}

/// The endorsements that this platform issues for this evidence.
async fn collateral(platform: &Platform, evidence: &Evidence) -> Arc<Collateral> {
    let need = verify::collateral_need(&evidence.platform).unwrap();
    platform.collateral_source().collateral(&need, NOW).await.unwrap()
}

#[track_caller]
fn refused<T>(result: Result<T, Refusal>, check: Check) {
    match result {
        Ok(_) => panic!("accepted, though the {check} check should refuse"),
        Err(refusal) => assert_eq!(refusal.check, check, "{refusal}"),
    }
}
