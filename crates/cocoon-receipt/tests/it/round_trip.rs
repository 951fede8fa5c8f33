//! Whatever a receipt says survives its bytes, in one form.

use cocoon_receipt::limits::RECEIPT_BYTES_MAX;
use cocoon_receipt::{BodyDigest, Hash, How, ModelHashes, Outcome, Receipt, SignedReceipt};
use cocoon_units::{Coefficient, Multiplier, Multipliers, Usage};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::fixture::{key, receipt, signed};

#[test]
fn the_form_of_a_receipt() {
    let text = r#"{"version":1,"id":"0101010101010101010101010101010101010101010101010101010101010101","proxy":"0:1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f","model":"Qwen/Qwen3-0.6B@c1899de:9a","hashes":{"weights":{"sha256":"0404040404040404040404040404040404040404040404040404040404040404","how":"measured"},"engine":{"sha256":"0505050505050505050505050505050505050505050505050505050505050505","how":"declared"},"tokenizer":{"sha256":"0606060606060606060606060606060606060606060606060606060606060606","how":"measured"}},"status":200,"outcome":"complete","usage":{"prompt":34,"cached":10,"completion":8,"reasoning":3},"adjusted":{"prompt":36,"cached":1,"completion":60,"reasoning":18,"total":115},"coefficient":1500,"multipliers":{"prompt":10000,"cached":1000,"completion":80000,"reasoning":40000},"started_unix_ms":1763900000000,"ended_unix_ms":1763900001250,"request_hmac":"0808080808080808080808080808080808080808080808080808080808080808","answer_hmac":"0909090909090909090909090909090909090909090909090909090909090909"}"#;
    let receipt = receipt().sign(&key());
    assert_eq!(receipt.unverified_body(), text);
    assert_eq!(receipt.to_bytes(), signed(text));
}

#[test]
fn the_largest_names_fit() {
    let long = Receipt {
        model: "m".repeat(512),
        proxy: "p".repeat(128),
        started_unix_ms: u64::MAX,
        ended_unix_ms: u64::MAX,
        ..receipt()
    };
    let bytes = long.sign(&key()).to_bytes();
    assert!(bytes.len() < RECEIPT_BYTES_MAX / 2, "{}", bytes.len());
    assert_eq!(SignedReceipt::from_bytes(&bytes).unwrap().verify(None), Ok(long));
}

#[test]
fn bodies_are_digested_as_they_come() {
    let whole = |make: fn(&[u8; 32]) -> BodyDigest, salt: &[u8; 32], parts: &[&[u8]]| {
        let mut digest = make(salt);
        for part in parts {
            digest.update(part);
        }
        digest.finish()
    };
    let (salt, other) = ([1; 32], [2; 32]);
    let digest = whole(BodyDigest::request, &salt, &[b"abc"]);
    assert_eq!(digest, whole(BodyDigest::request, &salt, &[b"a", b"", b"bc"]));
    assert_ne!(digest, whole(BodyDigest::answer, &salt, &[b"abc"]));
    assert_ne!(digest, whole(BodyDigest::request, &other, &[b"abc"]));
    assert_ne!(digest, whole(BodyDigest::request, &salt, &[b"abcd"]));
    // By another implementation: printf 'requestabc' | openssl dgst -sha256 -mac hmac -macopt hexkey:0101…01
    assert_eq!(hex::encode(digest), "87fbbff1c217a3efe0a13daf7c5efd1268509df4afebcc9b0f80210efe1c1a0d");
    assert_eq!(format!("{:?}", BodyDigest::request(&salt)), "BodyDigest { .. }");
}

fn hash() -> impl Strategy<Value = Option<Hash>> {
    let how = prop_oneof![Just(How::Measured), Just(How::Declared)];
    prop::option::of((any::<[u8; 32]>(), how).prop_map(|(sha256, how)| Hash { sha256, how }))
}

prop_compose! {
    fn any_receipt()(
        id: [u8; 32], request_hmac: [u8; 32], answer_hmac: [u8; 32],
        proxy in "\\PC{0,32}", model in "[ -~\\n\\t\u{e9}\u{1f980}]{0,60}",
        hashes in [hash(), hash(), hash(), hash()],
        status: u16, stopped: bool,
        parts in [0..1_u64 << 40, 0..1_u64 << 40, 0..1_u64 << 40, 0..1_u64 << 40],
        coefficient in 0..100_000_u32, weights in [0..200_000_u32, 0..200_000_u32, 0..200_000_u32, 0..200_000_u32],
        started_unix_ms in 0..u64::MAX / 2, took in 0..u64::MAX / 2,
    ) -> Receipt {
        let [weights_hash, engine, tokenizer, chat_template] = hashes;
        let [fresh, cached, answered, reasoning] = parts;
        let usage = Usage { prompt: fresh + cached, cached, completion: answered + reasoning, reasoning };
        let [prompt, cached, completion, reasoning] = weights.map(Multiplier::from_ten_thousandths);
        let multipliers = Multipliers { prompt, cached, completion, reasoning };
        let coefficient = Coefficient::from_thousandths(coefficient);
        Receipt {
            id, proxy, model, status, usage, coefficient, multipliers, started_unix_ms, request_hmac, answer_hmac,
            hashes: ModelHashes { weights: weights_hash, engine, tokenizer, chat_template },
            outcome: if stopped { Outcome::Stopped } else { Outcome::Complete },
            adjusted: usage.adjust(coefficient, &multipliers).unwrap(),
            ended_unix_ms: started_unix_ms + took,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn every_receipt_survives_its_bytes(receipt in any_receipt(), seed: [u8; 32]) {
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let bytes = receipt.sign(&key).to_bytes();
        let read = SignedReceipt::from_bytes(&bytes).unwrap();
        prop_assert_eq!(read.to_bytes(), bytes);
        prop_assert_eq!(read.verify(Some(key.verifying_key().as_bytes())), Ok(receipt));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[ -~]{0,300}") {
        if let Ok(receipt) = SignedReceipt::from_bytes(&bytes) {
            prop_assert!(receipt.verify(None).is_err());
        }
        prop_assert!(SignedReceipt::from_bytes(&signed(&text)).is_ok_and(|receipt| receipt.verify(None).is_err()) || text.is_empty());
    }
}
