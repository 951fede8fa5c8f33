#![expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "bytes made by the test itself")]

use proptest::prelude::*;
use rcgen::{BasicConstraints, IsCa, KeyPair, SigningKey as _};

use super::*;

const NOW: u64 = 1_790_000_000;
const DAY: u64 = 24 * 60 * 60;
const SKEW: u64 = 5 * 60;
const SEED: [u8; 32] = [7; 32];
const QUOTE: &[u8] = b"a quote of some bytes";

fn plain() -> Vec<u8> {
    issue(&SEED, NOW, None).unwrap().to_vec()
}

fn public() -> [u8; 32] {
    Key::new(&SEED).public
}

fn original() -> Vec<u8> {
    issue(&SEED, NOW, Some(CocoonV1 { quote: QUOTE, claims: public() })).unwrap().to_vec()
}

/// A certificate as this node writes it but for one change.
fn changed(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.not_before = date(NOW).unwrap();
    params.not_after = date(NOW + DAY).unwrap();
    change(&mut params);
    params.self_signed(&Key::new(&SEED)).unwrap().der().to_vec()
}

fn with_extensions(extensions: &[(&[u64], &[u8], bool)]) -> Vec<u8> {
    changed(|params| {
        params.custom_extensions = extensions
            .iter()
            .map(|(oid, value, critical)| {
                let mut extension = CustomExtension::from_oid_content(oid, value.to_vec());
                extension.set_criticality(*critical);
                extension
            })
            .collect();
    })
}

/// A certificate whose signed part is this one's, changed, and signed again.
fn signed_again(der: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (_, certificate) = X509CertificateParser::new().parse(der).unwrap();
    let tbs: &[u8] = certificate.tbs_certificate.as_ref();
    let head = match tbs[1] {
        0x82 => 4,
        0x81 => 3,
        _ => 2,
    };
    let mut content = tbs[head..].to_vec();
    change(&mut content);
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let tbs = [&[0x30, 0x82, high, low][..], &content].concat();
    let signature = Key::new(&SEED).sign(&tbs).unwrap();
    encode(&tbs, &signature.try_into().unwrap()).unwrap()
}

#[track_caller]
fn refused(der: &[u8], why: CertificateError) {
    assert_eq!(parse(der, NOW), Err(why));
}

#[test]
fn own_certificate_is_read() {
    let der = plain();
    let read = parse(&der, NOW).unwrap();
    assert_eq!(read.public_key, public());
    assert_eq!(read.spki_der, spki(&public()));
    assert_eq!(read.sha256, <[u8; 32]>::from(Sha256::digest(&der)));
    assert_eq!((read.quote_extension, read.claims_extension), (None, None));
    assert_eq!(der, plain(), "the same arguments give the same bytes");
    assert!(der.len() < 300, "{}", der.len());
}

#[test]
fn own_cocoon_v1_certificate_is_read() {
    let read = parse(&original(), NOW).unwrap();
    assert_eq!(read.quote_extension.as_deref(), Some(QUOTE));
    assert_eq!(read.claims_extension, Some(public()));
}

/// Written by OpenSSL 3.0 with the extensions, names and validity that the original gives it.
#[test]
fn openssl_certificate_as_of_the_original_is_read() {
    let read = parse(include_bytes!("openssl.der"), 1_795_405_685).unwrap();
    assert_eq!(read.quote_extension.as_deref(), Some(&[1, 2, 3, 4, 5][..]));
    assert_eq!(read.claims_extension, Some(read.public_key));
}

#[test]
fn certificate_truncated_at_every_length_is_refused() {
    for der in [plain(), original()] {
        for len in 0..der.len() {
            assert!(parse(&der[..len], NOW).is_err(), "{len} bytes");
        }
    }
}

#[test]
fn certificate_with_any_bit_flipped_is_refused() {
    for der in [plain(), original()] {
        for bit in 0..der.len() * 8 {
            let mut der = der.clone();
            der[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&der, NOW).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let der = plain();
    refused(&[&der[..], &[0]].concat(), CertificateError::Malformed);
    refused(&[&der[..], &der[..]].concat(), CertificateError::Malformed);
    // Inside the outer sequence, where the self-signature does not reach.
    let mut inside = der.clone();
    inside.push(0);
    assert_eq!(inside[1], 0x81);
    inside[2] += 1;
    refused(&inside, CertificateError::Malformed);
    // Inside the signed part, after the extensions.
    refused(&signed_again(&der, |tbs| tbs.extend([0x05, 0x00])), CertificateError::Malformed);
}

#[test]
fn longer_encoding_of_the_same_certificate_is_refused() {
    let der = plain();
    assert_eq!(der[1], 0x81);
    let longer = [&[0x30, 0x82, 0x00, der[2]], &der[3..]].concat();
    refused(&longer, CertificateError::Malformed);
}

#[test]
fn oversized_certificate_is_refused() {
    let quote = vec![0; CERTIFICATE_BYTES_MAX];
    let der = issue(&SEED, NOW, Some(CocoonV1 { quote: &quote, claims: public() })).unwrap();
    refused(&der, CertificateError::TooLong { len: der.len() });
    let largest = vec![0; cocoon_attest::limits::QUOTE_BYTES_MAX];
    let der = issue(&SEED, NOW, Some(CocoonV1 { quote: &largest, claims: public() })).unwrap();
    assert!(parse(&der, NOW).is_ok());
}

#[test]
fn second_certificate_is_refused() {
    let one = CertificateDer::from(plain());
    assert!(PeerCertificate::parse(&one, &[], NOW).is_ok());
    assert_eq!(PeerCertificate::parse(&one, std::slice::from_ref(&one), NOW), Err(CertificateError::NotOne(2)));
}

#[test]
fn known_certificate_still_expires() {
    let known = KnownCertificates::default();
    let one = CertificateDer::from(plain());
    assert_eq!(known.parse(&one, &[], NOW), PeerCertificate::parse(&one, &[], NOW));
    assert_eq!(known.parse(&one, &[], NOW), PeerCertificate::parse(&one, &[], NOW));
    let late = NOW + 2 * DAY;
    assert_eq!(known.parse(&one, &[], late), PeerCertificate::parse(&one, &[], late));
    assert_eq!(known.parse(&one, std::slice::from_ref(&one), NOW), Err(CertificateError::NotOne(2)));
}

#[test]
fn forged_self_signature_is_refused() {
    // The victim's key, signed by the attacker's.
    struct Forger {
        victim: Key,
        attacker: Key,
    }
    impl rcgen::PublicKeyData for Forger {
        fn der_bytes(&self) -> &[u8] {
            self.victim.der_bytes()
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &PKCS_ED25519
        }
    }
    impl rcgen::SigningKey for Forger {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            self.attacker.sign(message)
        }
    }
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date(NOW).unwrap(), date(NOW + DAY).unwrap());
    let forger = Forger { victim: Key::new(&SEED), attacker: Key::new(&[8; 32]) };
    refused(params.self_signed(&forger).unwrap().der(), CertificateError::NotSelfSigned);
}

#[test]
fn certificate_of_an_authority_is_refused() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::OrganizationName, "an authority");
    let issuer = rcgen::Issuer::from_params(&params, Key::new(&SEED));
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date(NOW).unwrap(), date(NOW + DAY).unwrap());
    // The same key, so that the signature holds; but a name above it.
    refused(params.signed_by(&Key::new(&SEED), &issuer).unwrap().der(), CertificateError::NotSelfSigned);
}

/// Signs as no key can: the order-1 point accepts R = B·s for every message when cofactors are cleared.
#[test]
fn small_order_key_is_refused() {
    struct Weak([u8; 32]);
    impl rcgen::PublicKeyData for Weak {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &PKCS_ED25519
        }
    }
    impl rcgen::SigningKey for Weak {
        fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            // R is the identity and s is 0: valid for the identity key under RFC 8032's cofactored equation.
            let mut signature = vec![0; 64];
            signature[0] = 1;
            Ok(signature)
        }
    }
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date(NOW).unwrap(), date(NOW + DAY).unwrap());
    refused(params.self_signed(&Weak(identity)).unwrap().der(), CertificateError::BadKey);
}

#[test]
fn p256_certificate_is_refused() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date(NOW).unwrap(), date(NOW + DAY).unwrap());
    refused(params.self_signed(&key).unwrap().der(), CertificateError::NotEd25519("key"));
}

#[test]
fn rsa_certificate_is_refused() {
    struct Rsa;
    impl rcgen::PublicKeyData for Rsa {
        fn der_bytes(&self) -> &[u8] {
            // RSAPublicKey { modulus 0x10001, exponent 3 }: the algorithm is refused before the key is looked at.
            &[0x30, 0x08, 0x02, 0x03, 0x01, 0x00, 0x01, 0x02, 0x01, 0x03]
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_RSA_SHA256
        }
    }
    impl rcgen::SigningKey for Rsa {
        fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            Ok(vec![1; 256])
        }
    }
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date(NOW).unwrap(), date(NOW + DAY).unwrap());
    refused(params.self_signed(&Rsa).unwrap().der(), CertificateError::NotEd25519("key"));
}

/// The signed part names another signature algorithm than the outside.
#[test]
fn algorithm_confusion_is_refused() {
    let der = signed_again(&plain(), |tbs| {
        // The first Ed25519 identifier in the signed part is the signature's; the second is the key's.
        let at = tbs.windows(ED25519.len()).position(|bytes| bytes == ED25519).unwrap();
        tbs[at + ED25519.len() - 1] = 0x71;
    });
    refused(&der, CertificateError::NotEd25519("signature"));
}

#[test]
fn version_1_certificate_is_refused() {
    let der = signed_again(&plain(), |tbs| {
        assert_eq!(tbs[..5], [0xa0, 0x03, 0x02, 0x01, 0x02]);
        tbs.drain(..5);
    });
    refused(&der, CertificateError::Version);
    let der = signed_again(&plain(), |tbs| tbs[4] = 1);
    refused(&der, CertificateError::Version);
}

#[test]
fn validity_is_a_day_around_now_with_some_skew() {
    let der = plain();
    for now in [NOW - SKEW, NOW, NOW + DAY, NOW + DAY + SKEW] {
        assert!(parse(&der, now).is_ok(), "{now}");
    }
    assert_eq!(parse(&der, NOW - SKEW - 1), Err(CertificateError::NotYetValid { in_s: SKEW + 1 }));
    assert_eq!(parse(&der, NOW + DAY + SKEW + 1), Err(CertificateError::Expired { ago_s: SKEW + 1 }));
    assert_eq!(parse(&der, 0), Err(CertificateError::NotYetValid { in_s: NOW }));
    assert!(matches!(parse(&der, u64::MAX), Err(CertificateError::Expired { .. })));
}

#[test]
fn long_lived_certificate_is_refused() {
    let lives = |seconds: u64| changed(|params| params.not_after = date(NOW + seconds).unwrap());
    assert!(parse(&lives(DAY + SKEW), NOW).is_ok());
    refused(&lives(DAY + SKEW + 1), CertificateError::Lifetime(i64::try_from(DAY + SKEW + 1).unwrap()));
    refused(&lives(0), CertificateError::Lifetime(0));
    refused(&changed(|params| params.not_after = date(NOW - 1).unwrap()), CertificateError::Lifetime(-1));
    // RFC 5280's "no well-defined expiration".
    let for_ever = changed(|params| params.not_after = date(253_402_300_799).unwrap());
    assert!(matches!(parse(&for_ever, NOW), Err(CertificateError::Lifetime(_))));
}

#[test]
fn unknown_critical_extension_is_refused() {
    let unknown: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 3];
    refused(&with_extensions(&[(unknown, b"x", true)]), CertificateError::UnknownCriticalExtension);
    assert!(parse(&with_extensions(&[(unknown, b"x", false)]), NOW).is_ok());
    // Names are not looked at, but one that must be understood is.
    refused(&with_extensions(&[(&[2, 5, 29, 17], &[0x30, 0], true)]), CertificateError::UnknownCriticalExtension);
    let extra = [(QUOTE_OID, QUOTE, true), (CLAIMS_OID, &public()[..], true), (unknown, b"x", true)];
    refused(&with_extensions(&extra), CertificateError::UnknownCriticalExtension);
}

#[test]
fn duplicate_extension_is_refused() {
    for oid in [QUOTE_OID, &[1, 2, 3, 4]] {
        let twice = with_extensions(&[(oid, b"one", true), (&[1, 2, 9], b"x", false), (oid, b"two", true)]);
        let critical_first = with_extensions(&[(oid, b"one", false), (oid, b"one", false)]);
        refused(&critical_first, CertificateError::DuplicateExtension);
        refused(&twice, CertificateError::DuplicateExtension);
    }
}

#[test]
fn extensions_without_end_are_refused() {
    let oids: Vec<[u64; 3]> = (0..17).map(|n| [1, 2, n]).collect();
    let many: Vec<(&[u64], &[u8], bool)> = oids.iter().map(|oid| (&oid[..], &b"x"[..], false)).collect();
    refused(&with_extensions(&many), CertificateError::TooManyExtensions(17));
    assert!(parse(&with_extensions(&many[..16]), NOW).is_ok());
}

#[test]
fn non_critical_quote_is_refused() {
    refused(&with_extensions(&[(QUOTE_OID, QUOTE, false)]), CertificateError::NotCritical);
    refused(&with_extensions(&[(CLAIMS_OID, &public(), false)]), CertificateError::NotCritical);
}

#[test]
fn claims_of_another_length_are_refused() {
    for claims in [&[][..], &[1; 31], &[1; 33]] {
        refused(&with_extensions(&[(CLAIMS_OID, claims, true)]), CertificateError::ExtensionValue);
    }
}

#[test]
fn key_of_an_authority_is_refused() {
    let authority: (&[u64], &[u8], bool) = (&[2, 5, 29, 19], &[0x30, 0x03, 0x01, 0x01, 0xff], true);
    refused(&with_extensions(&[authority]), CertificateError::ExtensionValue);
    refused(&with_extensions(&[(&[2, 5, 29, 15], &[0x03, 0x02, 0x02, 0x04], true)]), CertificateError::ExtensionValue);
    refused(&with_extensions(&[(&[2, 5, 29, 37], &[0x30, 0x00], true)]), CertificateError::ExtensionValue);
}

#[test]
fn impossible_clock_issues_nothing() {
    for now in [u64::MAX, i64::MAX.unsigned_abs(), 300_000_000_000] {
        assert!(matches!(issue(&SEED, now, None), Err(IssueError::Time(_))));
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..600), now: u64) {
        let _ = parse(&bytes, now);
    }

    #[test]
    fn any_signed_part_gives_a_result(at in 0_usize..500, put in proptest::collection::vec(any::<u8>(), 0..8), now: u64) {
        // Past the self-signature, where an attacker is free.
        let der = signed_again(&original(), |tbs| {
            let at = at % tbs.len();
            let end = (at + put.len()).min(tbs.len());
            tbs.splice(at..end, put.iter().copied());
        });
        if let Ok(read) = parse(&der, now) {
            prop_assert_eq!(read.public_key, public());
        }
    }

    #[test]
    fn every_honest_certificate_is_read(seed: [u8; 32], now in 0_u64..4_000_000_000, quote in proptest::collection::vec(any::<u8>(), 0..5_000)) {
        let claims = Key::new(&seed).public;
        let der = issue(&seed, now, Some(CocoonV1 { quote: &quote, claims })).unwrap();
        let read = parse(&der, now).unwrap();
        prop_assert_eq!(read.quote_extension, Some(quote));
        prop_assert_eq!(read.claims_extension, Some(claims));
    }
}
