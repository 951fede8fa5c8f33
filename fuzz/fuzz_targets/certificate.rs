//! Certificates of peers, of roots that a policy names, and of GPU chains. Parsing is total; no chain that does not end
//! in a pinned root is accepted.

#![no_main]

use cocoon_attest::roots::{self, TrustAnchor};
use cocoon_attest::verify::nvidia;
use cocoon_attest::{GpuEvidence, Provenance};
use cocoon_net::ratls::certificate;

const NOW: u64 = 1_791_000_000;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let first = certificate::parse(data, NOW).is_ok();
    assert_eq!(first, certificate::parse(data, NOW).is_ok());
    if let Ok(anchor) = TrustAnchor::from_der(data.to_vec(), Provenance::Simulated) {
        assert_eq!(anchor.certificate_der, data);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = TrustAnchor::simulated_pem(text);
        let evidence = GpuEvidence { report: Vec::new(), certificate_chain: text.to_owned() };
        nvidia::gpu(&evidence, &[roots::nvidia()], NOW).expect_err("there is no report");
    }
});
