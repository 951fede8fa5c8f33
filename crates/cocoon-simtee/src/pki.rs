//! X.509 certificates and revocation lists, in DER, for the three kinds of keys that vendors of TEEs use: P-256 (Intel),
//! P-384 (NVIDIA, AMD chips) and RSA-PSS (AMD roots).
//!
//! One writer for all three, because no certificate library of the ecosystem signs with RSA-PSS *and* writes vendor
//! extensions. It is not a general one: names are a common name and [`ORGANIZATION`], and what is written is what the
//! vendors write.

use base64::Engine as _;
use p256::ecdsa::signature::Signer as _;
use sha2::{Digest as _, Sha256, Sha384};
use time::OffsetDateTime;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

use crate::limits::{CERTIFICATE_BACKDATE_S, CERTIFICATE_VALIDITY_S};
use crate::seed::SeededRng;

/// Organisation in every name: nobody takes such a certificate for a vendor's.
pub const ORGANIZATION: &str = "SIMULATED TEE";

const CN: &[u64] = &[2, 5, 4, 3];
const O: &[u64] = &[2, 5, 4, 10];
const SUBJECT_KEY_ID: &[u64] = &[2, 5, 29, 14];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const CRL_NUMBER: &[u64] = &[2, 5, 29, 20];
const REASON_CODE: &[u64] = &[2, 5, 29, 21];
const CRL_DISTRIBUTION_POINTS: &[u64] = &[2, 5, 29, 31];
const AUTHORITY_KEY_ID: &[u64] = &[2, 5, 29, 35];
const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const ECDSA_SHA384: &[u64] = &[1, 2, 840, 10045, 4, 3, 3];
const RSA_PSS: &[u64] = &[1, 2, 840, 113_549, 1, 1, 10];
const MGF1: &[u64] = &[1, 2, 840, 113_549, 1, 1, 8];
const SHA384: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 2];
const SHA384_BYTES: u8 = 48;

/// A private key that signs certificates, lists or evidence.
pub(crate) enum Key {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    RsaPss(Box<rsa::RsaPrivateKey>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::P256(_) => "Key::P256",
            Self::P384(_) => "Key::P384",
            Self::RsaPss(_) => "Key::RsaPss",
        })
    }
}

impl Key {
    /// SubjectPublicKeyInfo, as DER.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let der = match self {
            Self::P256(key) => p256::pkcs8::EncodePublicKey::to_public_key_der(key.verifying_key()),
            Self::P384(key) => p384::pkcs8::EncodePublicKey::to_public_key_der(key.verifying_key()),
            Self::RsaPss(key) => rsa::pkcs8::EncodePublicKey::to_public_key_der(&key.to_public_key()),
        };
        der.expect("a public key always has a DER form").into_vec()
    }

    /// The public point without its leading tag, as quotes carry it.
    pub(crate) fn raw_point(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.verifying_key().to_encoded_point(false).as_bytes().get(1..).map(<[u8]>::to_vec),
            Self::P384(key) => key.verifying_key().to_encoded_point(false).as_bytes().get(1..).map(<[u8]>::to_vec),
            Self::RsaPss(_) => None,
        }
        .unwrap_or_default()
    }

    /// `r || s`, big-endian, as quotes, reports and signed JSON carry it; empty for RSA, which no evidence uses.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
            Self::RsaPss(_) => Vec::new(),
        }
    }

    /// A signature in the form that X.509 has for this kind of key.
    fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::RsaPss(key) => sign_pss(key, message),
        }
    }

    fn write_algorithm(&self, writer: DERWriter<'_>) {
        match self {
            Self::P256(_) => writer.write_sequence(|w| w.next().write_oid(&oid(ECDSA_SHA256))),
            Self::P384(_) => writer.write_sequence(|w| w.next().write_oid(&oid(ECDSA_SHA384))),
            Self::RsaPss(_) => write_pss_algorithm(writer),
        }
    }

    fn id(&self) -> [u8; 20] {
        truncated(&self.spki())
    }
}

/// A certificate, and what its holder's own certificates need of it.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    pub(crate) serial: [u8; 20],
    common_name: String,
}

impl Certificate {
    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }
}

/// A key with its certificate.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) key: Key,
    pub(crate) certificate: Certificate,
}

/// What a certificate says.
pub(crate) struct Profile<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) kind: Kind,
    /// Where its revocation list is.
    pub(crate) crl_url: Option<&'a str>,
    /// Of the vendor; not critical.
    pub(crate) extensions: Vec<(&'a [u64], Vec<u8>)>,
    /// When the platform was made.
    pub(crate) created_unix_s: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Authority { path_len: Option<u8> },
    Leaf,
}

impl Holder {
    /// A self-signed root.
    pub(crate) fn root(key: Key, profile: &Profile<'_>) -> Self {
        let certificate = issue(&key, profile.common_name, &key, profile);
        Self { key, certificate }
    }

    /// A key with a certificate that `self` issues for it.
    pub(crate) fn issue(&self, key: Key, profile: &Profile<'_>) -> Self {
        let certificate = issue(&self.key, &self.certificate.common_name, &key, profile);
        Self { key, certificate }
    }

    /// A revocation list for these serial numbers.
    pub(crate) fn revocation_list(&self, revoked: &[[u8; 20]], this_update: u64, next_update: u64) -> Vec<u8> {
        let body = yasna::construct_der(|writer| {
            writer.write_sequence(|w| {
                w.next().write_u8(1);
                self.key.write_algorithm(w.next());
                write_name(w.next(), &self.certificate.common_name);
                write_time(w.next(), this_update);
                write_time(w.next(), next_update);
                if !revoked.is_empty() {
                    w.next().write_sequence(|w| {
                        for serial in revoked {
                            write_revoked(w.next(), serial, this_update);
                        }
                    });
                }
                w.next().write_tagged(Tag::context(0), |w| {
                    w.write_sequence(|w| {
                        write_extension(w.next(), CRL_NUMBER, false, &yasna::construct_der(|w| w.write_u8(1)));
                        write_extension(w.next(), AUTHORITY_KEY_ID, false, &authority_key_id(&self.key));
                    });
                });
            });
        });
        signed(&self.key, &body)
    }
}

/// A DER structure as PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const LINE: usize = 64;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(LINE).map(String::from_utf8_lossy);
    let body: String = lines.flat_map(|line| [line, "\n".into()]).collect();
    format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n")
}

/// An object identifier from its arcs.
pub(crate) fn oid(arcs: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(arcs)
}

fn issue(issuer_key: &Key, issuer_name: &str, key: &Key, profile: &Profile<'_>) -> Certificate {
    let serial = serial(&key.spki(), profile.common_name);
    let not_before = profile.created_unix_s.saturating_sub(CERTIFICATE_BACKDATE_S);
    let not_after = profile.created_unix_s.saturating_add(CERTIFICATE_VALIDITY_S);
    let body = yasna::construct_der(|writer| {
        writer.write_sequence(|w| {
            w.next().write_tagged(Tag::context(0), |w| w.write_u8(2));
            w.next().write_bigint_bytes(&serial, true);
            issuer_key.write_algorithm(w.next());
            write_name(w.next(), issuer_name);
            w.next().write_sequence(|w| {
                write_time(w.next(), not_before);
                write_time(w.next(), not_after);
            });
            write_name(w.next(), profile.common_name);
            w.next().write_der(&key.spki());
            w.next().write_tagged(Tag::context(3), |w| write_extensions(w, issuer_key, key, profile));
        });
    });
    Certificate { der: signed(issuer_key, &body), serial, common_name: profile.common_name.to_owned() }
}

fn write_extensions(writer: DERWriter<'_>, issuer_key: &Key, key: &Key, profile: &Profile<'_>) {
    writer.write_sequence(|w| {
        write_extension(w.next(), AUTHORITY_KEY_ID, false, &authority_key_id(issuer_key));
        if let Some(url) = profile.crl_url {
            write_extension(w.next(), CRL_DISTRIBUTION_POINTS, false, &distribution_points(url));
        }
        let key_id = yasna::construct_der(|w| w.write_bytes(&key.id()));
        write_extension(w.next(), SUBJECT_KEY_ID, false, &key_id);
        write_extension(w.next(), KEY_USAGE, true, &key_usage(profile.kind));
        write_extension(w.next(), BASIC_CONSTRAINTS, true, &basic_constraints(profile.kind));
        for (arcs, value) in &profile.extensions {
            write_extension(w.next(), arcs, false, value);
        }
    });
}

fn signed(key: &Key, body: &[u8]) -> Vec<u8> {
    let signature = key.sign_der(body);
    yasna::construct_der(|writer| {
        writer.write_sequence(|w| {
            w.next().write_der(body);
            key.write_algorithm(w.next());
            w.next().write_bitvec_bytes(&signature, signature.len().saturating_mul(8));
        });
    })
}

fn write_name(writer: DERWriter<'_>, common_name: &str) {
    writer.write_sequence(|w| {
        for (arcs, value) in [(CN, common_name), (O, ORGANIZATION)] {
            w.next().write_set(|w| {
                w.next().write_sequence(|w| {
                    w.next().write_oid(&oid(arcs));
                    w.next().write_utf8_string(value);
                });
            });
        }
    });
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280, section 4.1.2.5).
fn write_time(writer: DERWriter<'_>, unix_s: u64) {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let at = datetime(unix_s);
    let clock = format!("{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second());
    let date = format!("{:04}{:02}{:02}", at.year(), u8::from(at.month()), at.day());
    let (tag, text) = if at.year() < 2050 {
        (UTC_TIME, format!("{}{clock}", date.get(2..).unwrap_or_default()))
    } else {
        (GENERALIZED_TIME, format!("{date}{clock}"))
    };
    let mut der = vec![tag, u8::try_from(text.len()).expect("a time has 13 or 15 characters")];
    der.extend_from_slice(text.as_bytes());
    writer.write_der(&der);
}

/// A time; the end of time for what lies beyond the calendar.
pub(crate) fn datetime(unix_s: u64) -> OffsetDateTime {
    i64::try_from(unix_s)
        .ok()
        .and_then(|unix_s| OffsetDateTime::from_unix_timestamp(unix_s).ok())
        .unwrap_or(time::macros::datetime!(9999-12-31 23:59:59 UTC))
}

fn write_extension(writer: DERWriter<'_>, arcs: &[u64], critical: bool, value: &[u8]) {
    writer.write_sequence(|w| {
        w.next().write_oid(&oid(arcs));
        if critical {
            w.next().write_bool(true);
        }
        w.next().write_bytes(value);
    });
}

fn write_revoked(writer: DERWriter<'_>, serial: &[u8; 20], at: u64) {
    const KEY_COMPROMISE: u8 = 1;
    writer.write_sequence(|w| {
        w.next().write_bigint_bytes(serial, true);
        write_time(w.next(), at);
        w.next().write_sequence(|w| {
            let reason = yasna::construct_der(|w| w.write_enum(i64::from(KEY_COMPROMISE)));
            write_extension(w.next(), REASON_CODE, false, &reason);
        });
    });
}

fn authority_key_id(issuer: &Key) -> Vec<u8> {
    yasna::construct_der(|w| {
        w.write_sequence(|w| w.next().write_tagged_implicit(Tag::context(0), |w| w.write_bytes(&issuer.id())));
    })
}

fn distribution_points(url: &str) -> Vec<u8> {
    yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_sequence(|w| {
                w.next().write_tagged(Tag::context(0), |w| {
                    w.write_tagged_implicit(Tag::context(0), |w| {
                        w.write_sequence(|w| {
                            w.next().write_tagged_implicit(Tag::context(6), |w| w.write_ia5_string(url));
                        });
                    });
                });
            });
        });
    })
}

fn key_usage(kind: Kind) -> Vec<u8> {
    let (bits, count) = match kind {
        // keyCertSign and cRLSign.
        Kind::Authority { .. } => ([0b0000_0110], 7),
        // digitalSignature and nonRepudiation.
        Kind::Leaf => ([0b1100_0000], 2),
    };
    yasna::construct_der(|w| w.write_bitvec_bytes(&bits, count))
}

fn basic_constraints(kind: Kind) -> Vec<u8> {
    yasna::construct_der(|w| {
        w.write_sequence(|w| {
            if let Kind::Authority { path_len } = kind {
                w.next().write_bool(true);
                if let Some(path_len) = path_len {
                    w.next().write_u8(path_len);
                }
            }
        });
    })
}

fn write_pss_algorithm(writer: DERWriter<'_>) {
    let write_hash = |writer: DERWriter<'_>| {
        writer.write_sequence(|w| {
            w.next().write_oid(&oid(SHA384));
            w.next().write_null();
        });
    };
    writer.write_sequence(|w| {
        w.next().write_oid(&oid(RSA_PSS));
        w.next().write_sequence(|w| {
            w.next().write_tagged(Tag::context(0), write_hash);
            w.next().write_tagged(Tag::context(1), |w| {
                w.write_sequence(|w| {
                    w.next().write_oid(&oid(MGF1));
                    write_hash(w.next());
                });
            });
            w.next().write_tagged(Tag::context(2), |w| w.write_u8(SHA384_BYTES));
        });
    });
}

/// Signs with a salt drawn from key and message, so that a platform's certificates are the same in every process.
fn sign_pss(key: &rsa::RsaPrivateKey, message: &[u8]) -> Vec<u8> {
    use rsa::traits::PrivateKeyParts as _;

    let mut salt_rng = SeededRng::new(&[b"pss salt", key.d().to_bytes_be().as_slice(), message]);
    let padding = rsa::Pss::new_with_salt::<Sha384>(usize::from(SHA384_BYTES));
    key.sign_with_rng(&mut salt_rng, padding, &Sha384::digest(message))
        .expect("a key of this size holds a SHA-384 digest and its salt")
}

/// Positive, 20 bytes, and the same for the same key and name.
fn serial(spki: &[u8], common_name: &str) -> [u8; 20] {
    let mut serial: [u8; 20] = truncated(&[spki, common_name.as_bytes()].concat());
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    serial
}

fn truncated(bytes: &[u8]) -> [u8; 20] {
    let digest = Sha256::digest(bytes);
    let mut out = [0; 20];
    for (to, from) in out.iter_mut().zip(digest) {
        *to = from;
    }
    out
}
