//! Receipts and receipt files. Any bytes are refused or are a receipt; what breaks a rule is refused under a genuine
//! signature too, and what is accepted is written again to the same bytes. Half of the inputs are spliced into a real
//! body, since random text seldom is one.

#![no_main]

use std::sync::LazyLock;

use cocoon_receipt::limits::TOKENS_MAX;
use cocoon_receipt::{Receipt, ReceiptFile, SignedReceipt};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[3; 32]));

static BODY: LazyLock<String> = LazyLock::new(|| {
    let receipt = Receipt::example().sign(&KEY);
    let body = receipt.unverified_body().to_owned();
    assert_eq!(signed(&body), receipt.to_bytes(), "this target signs as workers do");
    body
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(receipt) = SignedReceipt::from_bytes(data) {
        assert_eq!(receipt.to_bytes(), data);
        assert!(receipt.verify(None).is_err(), "nobody guesses a signature");
    }
    if let Ok(file) = ReceiptFile::decode(data) {
        assert_eq!(ReceiptFile::decode(file.encode().as_bytes()).ok(), Some(file));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
    }
    if let Some((&[a, b, cut], text)) = data.split_first_chunk()
        && let Ok(text) = std::str::from_utf8(text)
    {
        let start = usize::from(u16::from_le_bytes([a, b])) % BODY.len();
        let end = start.saturating_add(usize::from(cut)).min(BODY.len());
        if let (Some(before), Some(after)) = (BODY.get(..start), BODY.get(end..)) {
            check(&[before, text, after].concat());
        }
    }
});

/// A body under a genuine signature, by itself.
fn signed(body: &str) -> Vec<u8> {
    let leaf = Sha256::new().chain_update([0]).chain_update(body).finalize();
    let signature = KEY.sign(&[b"cocoon receipt v2\0".as_slice(), &leaf].concat()).to_bytes();
    [KEY.verifying_key().as_bytes().as_slice(), &signature, &[0, 1], body.as_bytes()].concat()
}

fn check(body: &str) {
    let bytes = signed(body);
    let Ok(receipt) = SignedReceipt::from_bytes(&bytes).and_then(|receipt| receipt.verify(None)) else { return };
    assert_eq!(receipt.sign(&KEY).unverified_body(), body, "one form");
    assert_eq!(receipt.usage.adjust(receipt.coefficient, &receipt.multipliers), Ok(receipt.adjusted));
    assert!(receipt.usage.prompt <= TOKENS_MAX && receipt.adjusted.total().get() <= TOKENS_MAX);
    assert!(receipt.started_unix_ms <= receipt.ended_unix_ms);
}
