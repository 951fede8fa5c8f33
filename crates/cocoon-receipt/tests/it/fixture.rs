//! A receipt, and what a worker that runs another program could make of it.

use cocoon_receipt::{ModelHashes, Receipt};
use cocoon_units::{Coefficient, Multiplier, Multipliers, Usage};
use ed25519_dalek::SigningKey;

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// Of a coefficient and multipliers that change every kind.
pub(crate) fn receipt() -> Receipt {
    let coefficient = Coefficient::from_thousandths(1_500);
    let multipliers = Multipliers {
        prompt: Multiplier::from_ten_thousandths(10_000),
        cached: Multiplier::from_ten_thousandths(1_000),
        completion: Multiplier::from_ten_thousandths(80_000),
        reasoning: Multiplier::from_ten_thousandths(40_000),
    };
    let example = Receipt::example();
    let hashes = ModelHashes { chat_template: None, ..example.hashes };
    Receipt { hashes, coefficient, multipliers, ..example }.with_usage(Usage {
        prompt: 34,
        cached: 10,
        completion: 8,
        reasoning: 3,
    })
}

/// The signed text, to be forged.
pub(crate) fn body() -> String {
    receipt().sign(&key()).unverified_body().to_owned()
}

/// Any text under a genuine signature: what a worker that runs another program could send.
pub(crate) fn signed(body: &str) -> Vec<u8> {
    use ed25519_dalek::Signer;
    use sha2::{Digest as _, Sha256};

    let leaf = Sha256::new().chain_update([0]).chain_update(body).finalize();
    let signature = key().sign(&[b"cocoon receipt v2\0".as_slice(), &leaf].concat()).to_bytes();
    [key().verifying_key().as_bytes().as_slice(), &signature, &[0, 1], body.as_bytes()].concat()
}
