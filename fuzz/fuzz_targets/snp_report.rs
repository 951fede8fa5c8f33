//! SEV-SNP reports. Parsing is total, and no report is accepted without a certificate.

#![no_main]

use cocoon_attest::evidence::snp::SnpReport;
use cocoon_attest::verify::{self, IntelRules, Roots};
use cocoon_attest::{Collateral, PlatformEvidence, SnpCollateral, roots};

/// What a report is at least.
const REPORT_BYTES: usize = 1184;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The certificates of the evidence come behind the report, so that both are reached.
    let (report, certificate) = data.split_at(data.len().min(REPORT_BYTES));
    let parses = SnpReport::parse(report).is_ok();
    let certificates = if certificate.is_empty() { vec![] } else { vec![certificate.to_vec()] };
    let evidence = PlatformEvidence::SevSnp { report: report.to_vec(), certificates };
    let need = verify::collateral_need(&evidence);
    assert!(parses || need.is_err(), "collateral for a report that cannot be read");
    let amd = roots::amd_all();
    let roots = Roots { intel: &[], amd: &amd, nvidia: &[] };
    let collateral = Collateral::Amd(SnpCollateral { leaf: None, chain: String::new(), crl: None });
    verify::platform(&evidence, &collateral, roots, &IntelRules::up_to_date(), 1_791_000_000)
        .expect_err("no report is accepted without AMD's certificates");
});
