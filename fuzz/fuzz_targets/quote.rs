//! TDX and SGX quotes. Parsing is total, the lookup of collateral agrees with it, and nothing is accepted without
//! collateral, whatever it says.

#![no_main]

use cocoon_attest::evidence::{sgx::SgxQuote, tdx::TdxQuote};
use cocoon_attest::verify::{self, IntelRules, Roots};
use cocoon_attest::{Collateral, Format, PlatformEvidence, TdxCollateral, roots};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for evidence in [PlatformEvidence::Tdx { quote: data.to_vec() }, PlatformEvidence::Sgx { quote: data.to_vec() }] {
        let parses = match evidence.format() {
            Format::Tdx => TdxQuote::parse(data).is_ok(),
            _ => SgxQuote::parse(data).is_ok(),
        };
        let need = verify::collateral_need(&evidence);
        assert!(parses || need.is_err(), "collateral for a quote that cannot be read");
        let intel = [roots::intel()];
        let roots = Roots { intel: &intel, amd: &[], nvidia: &[] };
        let collateral = Collateral::Intel(no_collateral());
        verify::platform(&evidence, &collateral, roots, &IntelRules::up_to_date(), 1_791_000_000)
            .expect_err("no quote is accepted without collateral");
    }
});

fn no_collateral() -> TdxCollateral {
    TdxCollateral {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: Vec::new(),
        pck_crl: Vec::new(),
        tcb_info_issuer_chain: String::new(),
        tcb_info: String::new(),
        tcb_info_signature: Vec::new(),
        qe_identity_issuer_chain: String::new(),
        qe_identity: String::new(),
        qe_identity_signature: Vec::new(),
    }
}
