//! A receipt, and what a worker that runs another program could make of it.

use cocoon_receipt::{Hash, How, ModelHashes, Outcome, Receipt};
use cocoon_units::{Coefficient, Multiplier, Multipliers, Usage};
use ed25519_dalek::SigningKey;

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// Of a coefficient and multipliers that change every kind.
pub(crate) fn receipt() -> Receipt {
    let usage = Usage { prompt: 34, cached: 10, completion: 8, reasoning: 3 };
    let coefficient = Coefficient::from_thousandths(1_500);
    let multipliers = Multipliers {
        prompt: Multiplier::from_ten_thousandths(10_000),
        cached: Multiplier::from_ten_thousandths(1_000),
        completion: Multiplier::from_ten_thousandths(80_000),
        reasoning: Multiplier::from_ten_thousandths(40_000),
    };
    Receipt {
        id: [1; 32],
        proxy: format!("0:{}", "1f".repeat(32)),
        model: "Qwen/Qwen3-0.6B@c1899de:9a".to_owned(),
        hashes: ModelHashes {
            weights: Some(Hash { sha256: [4; 32], how: How::Measured }),
            engine: Some(Hash { sha256: [5; 32], how: How::Declared }),
            tokenizer: Some(Hash { sha256: [6; 32], how: How::Measured }),
            chat_template: None,
        },
        status: 200,
        outcome: Outcome::Complete,
        usage,
        adjusted: usage.adjust(coefficient, &multipliers).unwrap(),
        coefficient,
        multipliers,
        started_unix_ms: 1_763_900_000_000,
        ended_unix_ms: 1_763_900_001_250,
        request_hmac: [8; 32],
        answer_hmac: [9; 32],
    }
}

/// The signed text, to be forged.
pub(crate) fn body() -> String {
    receipt().sign(&key()).unverified_body().to_owned()
}

/// Any text under a genuine signature: what a worker that runs another program could send.
pub(crate) fn signed(body: &str) -> Vec<u8> {
    use ed25519_dalek::Signer;

    let message = [b"cocoon receipt v1\0", body.as_bytes()].concat();
    let signature = key().sign(&message).to_bytes();
    [key().verifying_key().as_bytes().as_slice(), &signature, body.as_bytes()].concat()
}
