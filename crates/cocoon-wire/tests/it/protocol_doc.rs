//! `docs/protocol.md` says what the code says.

use cocoon_wire::failure::FailureCode;

const DOC: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md"));
const ATTESTATION_DOC: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/attestation.md"));
const SCHEME: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/scheme.tl"));

#[test]
fn the_table_of_failures_is_complete() {
    for code in FailureCode::ALL {
        let row = format!("| {} | {code:?} | {} | `{}` |", code.number(), code.http_status(), code.as_str());
        assert!(DOC.contains(&row), "docs/protocol.md lacks: {row}");
    }
}

#[test]
fn every_extended_constructor_is_described() {
    let (_, extended) = SCHEME.split_once("// Extended profile").unwrap();
    for line in extended.lines().filter(|line| line.contains(" = ")) {
        let (declaration, _) = line.split_once(" = ").unwrap();
        assert!(DOC.contains(declaration), "docs/protocol.md lacks: {declaration}");
    }
}

#[test]
fn every_attestation_constructor_is_described() {
    let declarations = SCHEME.lines().filter_map(|line| line.split_once(" = ")).map(|(declaration, _)| declaration);
    let mut attested = declarations.filter(|declaration| declaration.starts_with("attest.")).peekable();
    assert!(attested.peek().is_some());
    for declaration in attested {
        assert!(ATTESTATION_DOC.contains(declaration), "docs/attestation.md lacks: {declaration}");
    }
}
