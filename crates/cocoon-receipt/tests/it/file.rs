//! Receipt files: what a user keeps.

use cocoon_receipt::{ReceiptError, ReceiptFile, ReceiptFileError};
use cocoon_units::NanoPerToken;

use crate::fixture::{key, receipt};

fn file() -> ReceiptFile {
    ReceiptFile {
        receipt: receipt().sign(&key()),
        salt: [2; 32],
        evidence: Some("{\"version\":1,\n \"id\":\"\u{e9}\"}".to_owned()),
        price: Some(NanoPerToken::new(20)),
        request_hmac: Some([8; 32]),
        answer_hmac: None,
    }
}

#[test]
fn a_file_keeps_the_exact_bytes() {
    for file in [file(), ReceiptFile { evidence: None, price: None, request_hmac: None, ..file() }] {
        let read = ReceiptFile::decode(file.encode().as_bytes()).unwrap();
        assert_eq!(read, file);
        assert_eq!(read.receipt.verify(Some(key().verifying_key().as_bytes())), Ok(receipt()));
    }
}

#[test]
fn a_file_that_says_something_twice_or_unknown_is_refused() {
    let text = file().encode();
    for (from, to) in [
        ("\"version\": 2", "\"version\": 2, \"version\": 2"),
        ("\"version\": 2", "\"version\": 2, \"tip\": 1"),
        ("\"version\": 2", "\"version\": 2.0"),
        ("\"price_nano_per_token\": 20", "\"price_nano_per_token\": -20"),
        ("\"price_nano_per_token\": 20", "\"price_nano_per_token\": 0.5"),
        (&"02".repeat(32), &"02".repeat(31)),
        (&format!("\"request_hmac\": \"{}\"", "08".repeat(32)), "\"request_hmac\": null"),
        ("\"key\"", "\"no_key\""),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        let refused = ReceiptFile::decode(text.replace(from, to).as_bytes());
        assert!(matches!(refused, Err(ReceiptFileError::Json(_))), "{to}: {refused:?}");
    }
    let other = text.replace("\"version\": 2", "\"version\": 3");
    assert!(matches!(ReceiptFile::decode(other.as_bytes()), Err(ReceiptFileError::Version(3))));
    let huge = vec![b' '; 8 * 1024 * 1024 + 1];
    assert!(matches!(ReceiptFile::decode(&huge), Err(ReceiptFileError::TooLong { .. })));
}

#[test]
fn attack_receipt_edited_in_the_file() {
    let text = file().encode().replace("\\\"prompt\\\":34", "\\\"prompt\\\":33");
    let read = ReceiptFile::decode(text.as_bytes()).unwrap();
    assert_eq!(read.receipt.verify(None), Err(ReceiptError::Signature));
    // Longer than any receipt may be.
    let long = receipt().sign(&key()).unverified_body().to_owned() + &" ".repeat(4_096);
    let text = file().encode().replace(
        &serde_json::to_string(file().receipt.unverified_body()).unwrap(),
        &serde_json::to_string(&long).unwrap(),
    );
    let read = ReceiptFile::decode(text.as_bytes()).unwrap();
    assert!(matches!(read.receipt.verify(None), Err(ReceiptError::Length { .. })));
}
