//! The recorded evidence and what every test of it needs: read in place from the folder that `COCOON_VECTORS` names.

use std::path::PathBuf;

use cocoon_attest::Provenance;
use cocoon_attest::collateral::{Collateral, TdxCollateral};
use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::facts::PlatformFacts;
use cocoon_attest::roots::{self, TrustAnchor};
use cocoon_attest::verify::{self, IntelRules, Roots};
use cocoon_attest::{Check, Refusal};

/// When these tests were written; all of Intel's collateral has expired since it was recorded.
pub(crate) const PRESENT: u64 = 1_795_392_000;

pub(crate) fn read(name: &str) -> Vec<u8> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var_os("COCOON_VECTORS").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let path = folder.join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn read_hex(name: &str) -> Vec<u8> {
    let text = String::from_utf8(read(name)).unwrap();
    let text = text.trim();
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).unwrap()
}

pub(crate) fn intel_collateral(name: &str) -> TdxCollateral {
    serde_json::from_slice(&read(name)).unwrap()
}

/// The vendors' roots.
pub(crate) struct Vendors {
    pub(crate) intel: Vec<TrustAnchor>,
    pub(crate) amd: Vec<TrustAnchor>,
}

impl Vendors {
    pub(crate) fn new() -> Self {
        Self { intel: vec![roots::intel()], amd: roots::amd_all() }
    }

    pub(crate) fn verify(
        &self,
        evidence: &PlatformEvidence,
        collateral: &Collateral,
        rules: &IntelRules,
        now_unix_s: u64,
    ) -> Result<PlatformFacts, Refusal> {
        let roots = Roots { intel: &self.intel, amd: &self.amd, nvidia: &[] };
        let (facts, provenance) = verify::platform(evidence, collateral, roots, rules, now_unix_s)?;
        assert_eq!(provenance, Provenance::Vendor);
        Ok(facts)
    }
}

/// Asserts that a check refused, and returns the whole refusal.
#[track_caller]
pub(crate) fn refused(result: Result<PlatformFacts, Refusal>, check: Check) -> Refusal {
    let refusal = result.expect_err("refused");
    assert_eq!(refusal.check, check, "{refusal}");
    refusal
}

/// Positions to alter: the edges of the structures, and every `step`-th byte between.
pub(crate) fn positions(edges: &[usize], end: usize, step: usize) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..end).step_by(step).chain(edges.iter().copied()).collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}
