//! What a worker, a proxy or a stranger could try.

use cocoon_receipt::{Expected, ExpectedCoefficient, Receipt, ReceiptError, SignedReceipt};
use cocoon_units::{AdjustedTokens, AdjustedUsage, Coefficient, Multipliers, Usage, UsageError};
use ed25519_dalek::SigningKey;

use crate::fixture::{body, key, receipt, signed};

fn verify(bytes: &[u8]) -> Result<Receipt, ReceiptError> {
    SignedReceipt::from_bytes(bytes)?.verify(None)
}

/// A genuine signature over a body in which one thing is written differently.
#[track_caller]
fn check_forged(from: &str, to: &str) -> ReceiptError {
    let body = body();
    assert_eq!(body.matches(from).count(), 1, "{from}");
    verify(&signed(&body.replace(from, to))).unwrap_err()
}

#[test]
fn attack_one_bit_flipped_anywhere() {
    let bytes = receipt().sign(&key()).to_bytes();
    assert_eq!(verify(&bytes), Ok(receipt()));
    for index in 0..bytes.len() {
        // Every bit of key and signature, one of each byte of the body.
        for bit in if index < 98 { 0..8 } else { 0..1 } {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1 << bit;
            // The place of the only one there is.
            let is_place = (96..98).contains(&index);
            let refused = verify(&flipped).unwrap_err();
            assert!(is_place || refused == ReceiptError::Signature, "byte {index}, bit {bit}: {refused}");
        }
    }
}

#[test]
fn attack_cut_short_or_prolonged() {
    let bytes = receipt().sign(&key()).to_bytes();
    for len in 0..bytes.len() {
        assert!(verify(&bytes[..len]).is_err(), "{len}");
    }
    for tail in [&b" "[..], b"\0", b"\n", b"}"] {
        assert_eq!(verify(&[&bytes[..], tail].concat()), Err(ReceiptError::Signature));
    }
    let huge = vec![b'x'; 4_097];
    assert_eq!(verify(&huge), Err(ReceiptError::Length { len: 4_097 }));
    assert_eq!(verify(&bytes[..98]), Err(ReceiptError::Length { len: 98 }));
}

#[test]
fn attack_key_swapped() {
    let attested = key().verifying_key().to_bytes();
    let other = SigningKey::from_bytes(&[99; 32]);
    // Signed by somebody else, who says so.
    let foreign = receipt().sign(&other);
    assert!(matches!(foreign.verify(Some(&attested)), Err(ReceiptError::Key { .. })));
    // Signed by somebody else, under the attested key.
    let mut bytes = foreign.to_bytes();
    bytes[..32].copy_from_slice(&attested);
    assert_eq!(verify(&bytes), Err(ReceiptError::Signature));
}

#[test]
fn attack_key_of_small_order() {
    // With the neutral element as key, R = identity and s = 0 satisfy a lax verifier for every message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let bytes = [&neutral[..], &neutral[..], &[0; 32], &[0, 1], body().as_bytes()].concat();
    assert_eq!(verify(&bytes), Err(ReceiptError::Signature));
}

#[test]
fn attack_signature_made_for_something_else() {
    use ed25519_dalek::Signer;
    use sha2::{Digest as _, Sha256};

    let body = body();
    for domain in ["", "cocoon receipt v2", "cocoon receipt v1\0"] {
        let leaf = Sha256::new().chain_update([0]).chain_update(&body).finalize();
        let signature = key().sign(&[domain.as_bytes(), &leaf].concat()).to_bytes();
        let bytes = [key().verifying_key().as_bytes().as_slice(), &signature, &[0, 1], body.as_bytes()].concat();
        assert_eq!(verify(&bytes), Err(ReceiptError::Signature), "{domain:?}");
    }
}

#[test]
fn attack_adjusted_inflated() {
    // One token more than the counts make, in a kind, in the sum, in both.
    for (from, to) in [
        (r#""completion":60"#, r#""completion":61"#),
        (r#""total":115"#, r#""total":116"#),
        (r#""completion":60,"reasoning":18,"total":115"#, r#""completion":61,"reasoning":18,"total":116"#),
        (r#""prompt":36,"cached":1,"#, r#""prompt":1,"cached":36,"#),
    ] {
        assert!(matches!(check_forged(from, to), ReceiptError::Adjusted { .. }), "{to}");
    }
    let ReceiptError::Adjusted { expected, found } = check_forged(r#""total":115"#, r#""total":116"#) else {
        panic!("another error");
    };
    assert_eq!((expected.as_str(), found.as_str()), ("36 + 1 + 60 + 18 = 115", "36 + 1 + 60 + 18 = 116"));
    // The same by way of the library: what it signs, it does not accept.
    let one = AdjustedTokens::new(1_000);
    let adjusted = AdjustedUsage::new(one, one, one, one).unwrap();
    let inflated = Receipt { adjusted, ..receipt() }.sign(&key());
    assert!(matches!(inflated.verify(None), Err(ReceiptError::Adjusted { .. })));
}

#[test]
fn attack_counts_negative_or_no_numbers() {
    for count in ["-1", "34.0", "3.4e1", "\"34\"", "null", "true", "[34]", "18446744073709551616", "-0", "034", "+34"] {
        let error = check_forged(r#""prompt":34"#, &format!(r#""prompt":{count}"#));
        assert!(matches!(error, ReceiptError::Body { .. }), "{count}: {error}");
    }
    for (from, to) in [
        (r#""coefficient":1500"#, r#""coefficient":-1500"#),
        (r#""coefficient":1500"#, r#""coefficient":4294967296"#),
        (r#""cached":1000"#, r#""cached":-1"#),
        (r#""status":200"#, r#""status":65536"#),
        (r#""started_unix_ms":1763900000000"#, r#""started_unix_ms":-1"#),
    ] {
        assert!(matches!(check_forged(from, to), ReceiptError::Body { .. }), "{to}");
    }
}

#[test]
fn attack_counts_overflow() {
    let forged = |usage: Usage, coefficient: u32| {
        Receipt { usage, coefficient: Coefficient::from_thousandths(coefficient), ..receipt() }
            .sign(&key())
            .verify(None)
    };
    let most = i64::MAX.unsigned_abs();
    let usage = Usage { prompt: u64::MAX, ..Usage::default() };
    assert_eq!(forged(usage, 1_500), Err(ReceiptError::Usage(UsageError::TooLarge)));
    // Beyond what the wire and the contracts can carry, raw or adjusted.
    assert_eq!(forged(Usage { prompt: most + 1, ..usage }, 0), Err(ReceiptError::TooManyTokens));
    assert_eq!(forged(Usage { prompt: most, ..usage }, 1_500), Err(ReceiptError::TooManyTokens));
}

#[test]
fn attack_more_cached_than_prompted() {
    assert_eq!(
        check_forged(r#""prompt":34,"cached":10"#, r#""prompt":34,"cached":35"#),
        ReceiptError::Usage(UsageError::CachedAbovePrompt)
    );
    assert_eq!(
        check_forged(r#""completion":8,"reasoning":3"#, r#""completion":8,"reasoning":9"#),
        ReceiptError::Usage(UsageError::ReasoningAboveCompletion)
    );
}

#[test]
fn attack_a_field_twice_unknown_or_missing() {
    for (from, to) in [
        (r#""status":200"#, r#""status":200,"status":200"#),
        (r#""status":200"#, r#""status":200,"st\u0061tus":500"#),
        (r#""status":200"#, r#""status":200,"tip":1"#),
        (r#""status":200,"#, ""),
        (r#""cached":1,"completion":60"#, r#""completion":60"#),
        (r#""how":"declared""#, r#""how":"guessed""#),
        (r#""how":"declared""#, r#""how":"declared","by":"me""#),
        (r#""outcome":"complete""#, r#""outcome":"excellent""#),
        (r#""version":1"#, r#""version":2"#),
    ] {
        let error = check_forged(from, to);
        assert!(matches!(error, ReceiptError::Body { .. }), "{to}: {error}");
    }
    // Serde passes over these; the comparison with the one form does not.
    for (from, to) in [
        (r#""cached":10,"#, r#""cached":10,"audio":7,"#),
        (r#""multipliers":{"prompt":10000,"#, r#""multipliers":{"#),
        (r#"}},"status""#, r#"},"chat_template":null},"status""#),
    ] {
        assert_eq!(check_forged(from, to), ReceiptError::NotCanonical, "{to}");
    }
}

#[test]
fn attack_another_spelling_of_the_same_facts() {
    for (from, to) in [
        (r#""status":200"#, r#""status": 200"#),
        (r#""model":"Qwen"#, r#""model":"\u0051wen"#),
        (r#""version":1,"#, r#" "version":1,"#),
        (&"1f".repeat(32)[..], &format!("{}\\u0066", "1f".repeat(32).trim_end_matches('f'))[..]),
    ] {
        assert_eq!(check_forged(from, to), ReceiptError::NotCanonical, "{to}");
    }
    let body = body();
    let upper = Receipt { request_hmac: [0xab; 32], ..receipt() }.sign(&key());
    let upper = upper.unverified_body().replace(&"ab".repeat(32), &"AB".repeat(32));
    for other in [format!("{body} "), format!("\u{feff}{body}"), upper] {
        let error = verify(&signed(&other)).unwrap_err();
        assert!(matches!(error, ReceiptError::NotCanonical | ReceiptError::Body { .. }), "{error}");
    }
}

#[test]
fn attack_hashes_of_another_length() {
    for to in ["", "01", &"01".repeat(31), &"01".repeat(33), &"0g".repeat(32)] {
        let error = check_forged(&"01".repeat(32), to);
        assert!(matches!(error, ReceiptError::Body { .. }), "{to}");
    }
}

#[test]
fn attack_names_that_fill_the_file() {
    let long = |model: usize, proxy: usize| {
        Receipt { model: "m".repeat(model), proxy: "p".repeat(proxy), ..receipt() }.sign(&key()).verify(None)
    };
    assert!(long(512, 128).is_ok());
    assert_eq!(long(513, 1), Err(ReceiptError::NameTooLong));
    assert_eq!(long(1, 129), Err(ReceiptError::NameTooLong));
    assert!(matches!(long(5_000, 1), Err(ReceiptError::Length { .. })));
}

#[test]
fn attack_over_before_it_began() {
    let error = check_forged(r#""ended_unix_ms":1763900001250"#, r#""ended_unix_ms":1"#);
    assert_eq!(error, ReceiptError::Times);
}

#[test]
fn attack_nesting_bomb() {
    let bomb = "[".repeat(3_900);
    assert!(matches!(verify(&signed(&bomb)), Err(ReceiptError::Body { .. })));
}

#[test]
fn attack_escape_sequences_in_an_error() {
    let error = check_forged(r#""status":200"#, "\"\\u001b[2J\":1,\"status\":200").to_string();
    assert!(error.chars().all(|character| !character.is_control()), "{error:?}");
    let long = check_forged(r#""status":200"#, &format!("\"{}\":1,\"status\":200", "x".repeat(2_000))).to_string();
    assert!(long.len() < 400, "{long}");
}

const ASKED: fn(&Receipt) -> Expected<'_> = |receipt| Expected {
    id: receipt.id,
    proxy: &receipt.proxy,
    model: &receipt.model,
    multipliers: receipt.multipliers,
    coefficient: ExpectedCoefficient::Exactly(receipt.coefficient),
};

#[track_caller]
fn check_differs(given: &Receipt, field: &str) {
    let asked = receipt();
    let given = given.sign(&key()).verify(None).unwrap();
    let Err(ReceiptError::Differs { field: found, .. }) = given.check(&ASKED(&asked)) else {
        panic!("{field} is not looked at");
    };
    assert_eq!(found, field);
}

#[test]
fn attack_receipt_of_another_model() {
    assert_eq!(receipt().check(&ASKED(&receipt())), Ok(()));
    check_differs(&Receipt { model: "Qwen/Qwen3-0.6B".to_owned(), ..receipt() }, "model");
}

#[test]
fn attack_receipt_of_another_request() {
    check_differs(&Receipt { id: [2; 32], ..receipt() }, "id");
    check_differs(&Receipt { proxy: "0:2e".to_owned(), ..receipt() }, "proxy");
}

#[test]
fn attack_price_of_the_workers_own() {
    let priced = |coefficient, multipliers| {
        let adjusted = receipt().usage.adjust(coefficient, &multipliers).unwrap();
        Receipt { coefficient, multipliers, adjusted, ..receipt() }
    };
    let dear = Coefficient::from_thousandths(1_501);
    check_differs(&priced(dear, receipt().multipliers), "coefficient");
    check_differs(&priced(receipt().coefficient, Multipliers::default()), "multipliers");
    let asked = receipt();
    let at_most = Expected { coefficient: ExpectedCoefficient::AtMost(asked.coefficient), ..ASKED(&asked) };
    assert_eq!(priced(Coefficient::ONE, asked.multipliers).check(&at_most), Ok(()));
    let error = priced(dear, asked.multipliers).check(&at_most).unwrap_err();
    assert_eq!(error.to_string(), "the receipt is for another request: coefficient is 1501, expected at most 1500");
}
