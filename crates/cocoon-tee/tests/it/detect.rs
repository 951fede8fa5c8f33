//! Finding this machine's platform, on machines that have none.

use cocoon_attest::EvidenceError;
use cocoon_tee::{Machine, TeeChoice, detect};

#[test]
fn a_machine_without_a_tee_is_told_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let machine =
        Machine { tsm: folder.path().join("report"), sev_guest: folder.path().join("sev-guest"), ..Machine::default() };
    for choice in [TeeChoice::Auto, TeeChoice::Tdx, TeeChoice::SevSnp] {
        let error = detect(&machine, choice, None).unwrap_err();
        assert!(matches!(error, EvidenceError::NotATee(_)), "{error}");
        assert!(error.to_string().contains("report is not there"), "{error}");
        assert!(error.to_string().contains("sev-guest is not there"), "{error}");
        assert_eq!(TeeChoice::from_name(choice.name()), Some(choice));
    }
    assert_eq!(TeeChoice::from_name("sgx"), None);
}
