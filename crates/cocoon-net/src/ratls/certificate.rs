//! The self-signed Ed25519 certificates that nodes show each other in TLS: making them, and reading a stranger's.
//!
//! A certificate proves one thing here: that its owner wrote it with the key in it. TLS itself proves that the other
//! end has the key now. Who that is, evidence says; names in a certificate mean nothing and are not looked at.
//! There is no input, output or clock here; `now` is a parameter.
//!
//! Two link profiles write two kinds (attestation.md, sections 4.1 and 4.4):
//!
//! - `attested-v2` has no extensions: everything that matters is attested inside the session;
//! - `cocoon-v1`, the original's, has five critical ones: `QUOTE_OID`, `CLAIMS_OID`, and the basic constraints and
//!   key usages that the original writes, with exactly its values.
//!
//! Reading is strict, because every byte comes from a stranger before anything is known about it: one certificate of
//! bounded size in the one encoding that DER allows around its signed part, version 3, Ed25519 in all three places, a
//! short validity around now, no extension twice, and no critical one that is not listed here.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, PKCS_ED25519};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::{TbsCertificate, X509Certificate, X509CertificateParser};
use x509_parser::extensions::X509Extension;
use x509_parser::nom::Parser as _;
use x509_parser::x509::{AlgorithmIdentifier, X509Version};

use crate::limits::{
    CERTIFICATE_BYTES_MAX, CERTIFICATE_CLOCK_SKEW_S, CERTIFICATE_EXTENSIONS_MAX, CERTIFICATE_LIFETIME_S,
    CERTIFICATES_KNOWN_MAX,
};

/// The quote of a `cocoon-v1` certificate: its raw bytes.
pub(crate) const QUOTE_OID: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 1];

/// The claims of a `cocoon-v1` certificate: the raw Ed25519 key.
pub(crate) const CLAIMS_OID: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 2];

/// Critical extensions of the original besides quote and claims, and the only values that they may have.
const ORIGINAL_EXTENSIONS: [(&[u64], &[u8]); 3] = [
    // Basic constraints: no certificate authority.
    (&[2, 5, 29, 19], &[0x30, 0x00]),
    // Key usage: digital signatures only.
    (&[2, 5, 29, 15], &[0x03, 0x02, 0x07, 0x80]),
    // Extended key usage: server and client authentication.
    (
        &[2, 5, 29, 37],
        &[
            0x30, 0x14, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05,
            0x05, 0x07, 0x03, 0x02,
        ],
    ),
];

/// `AlgorithmIdentifier` of Ed25519 (RFC 8410, section 3): the OID 1.3.101.112 and no parameters.
const ED25519: [u8; 7] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

/// `SubjectPublicKeyInfo` of an Ed25519 key, up to the key.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a `cocoon-v1` certificate carries besides its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CocoonV1<'a> {
    /// The raw quote.
    pub(crate) quote: &'a [u8],
    /// The claims: the certificate's own raw key.
    pub(crate) claims: [u8; 32],
}

/// This node could not write its own certificate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The clock shows a time that no certificate can name.
    #[error("the clock shows {0} s since 1970, which no certificate can name; set the clock")]
    Time(u64),
    /// The encoder refused.
    #[error("cannot encode a certificate: {0}")]
    Encoding(#[from] rcgen::Error),
}

/// Why a peer's certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A self-signed certificate has no chain.
    #[error("peer sent {0} certificates; exactly one is read")]
    NotOne(usize),
    /// Longer than any certificate with a quote.
    #[error("a certificate of {len} bytes; at most {CERTIFICATE_BYTES_MAX} are read")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// Not the DER of one certificate, or something follows it.
    #[error("not the DER encoding of one certificate")]
    Malformed,
    /// Extensions need version 3, and nothing older is written today.
    #[error("a certificate that is not of version 3")]
    Version,
    /// Key or signature are of another algorithm.
    #[error("a certificate whose {0} is not Ed25519")]
    NotEd25519(&'static str),
    /// The key is no point of the curve, or one of those that sign everything.
    #[error("a certificate with an unusable key")]
    BadKey,
    /// Whoever wrote it does not have its key.
    #[error("a certificate that its own key did not sign")]
    NotSelfSigned,
    /// Begins later than now, with allowance for clocks.
    #[error("a certificate that is valid only in {in_s} s from now")]
    NotYetValid {
        /// Seconds until it is valid.
        in_s: u64,
    },
    /// Ended before now, with allowance for clocks.
    #[error("a certificate that expired {ago_s} s ago")]
    Expired {
        /// Seconds since it was valid.
        ago_s: u64,
    },
    /// Valid for longer than a day, or never.
    #[error("a certificate that is valid for {0} s; at most {CERTIFICATE_LIFETIME_S} are accepted")]
    Lifetime(i64),
    /// More than anyone writes.
    #[error("a certificate of {0} extensions; at most {CERTIFICATE_EXTENSIONS_MAX} are read")]
    TooManyExtensions(usize),
    /// The same extension twice: readers disagree about which one counts.
    #[error("a certificate with an extension twice")]
    DuplicateExtension,
    /// Its writer demands that it be understood, and it is not.
    #[error("a certificate with an unknown critical extension")]
    UnknownCriticalExtension,
    /// A known extension with another value than the one it must have.
    #[error("a certificate whose extension has an unexpected value")]
    ExtensionValue,
    /// Quote and claims are critical, so that no reader can pass over them.
    #[error("a certificate whose quote or claims are not critical")]
    NotCritical,
}

/// A peer's certificate that passed every check in this file. It proves possession of nothing: TLS does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCertificate {
    /// `SubjectPublicKeyInfo`, as DER.
    pub spki_der: [u8; 44],
    /// The raw key.
    pub public_key: [u8; 32],
    /// SHA-256 of the whole certificate.
    pub sha256: [u8; 32],
    /// The raw quote of a `cocoon-v1` certificate.
    pub quote_extension: Option<Vec<u8>>,
    /// The claims of a `cocoon-v1` certificate.
    pub claims_extension: Option<[u8; 32]>,
    /// From when to when it is valid, in seconds since the Unix epoch.
    pub(crate) validity: (i64, i64),
}

/// Certificates without a quote that were read a short time ago, by their hash. A peer that comes back shows the same one
/// for an hour, and verifying its signature again would say nothing new; its time is looked at each time.
#[derive(Debug, Default)]
pub(crate) struct KnownCertificates {
    by_sha256: Mutex<HashMap<[u8; 32], PeerCertificate>>,
}

impl KnownCertificates {
    /// As [`PeerCertificate::parse`].
    pub(crate) fn parse(
        &self,
        certificate: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now_unix_s: u64,
    ) -> Result<PeerCertificate, CertificateError> {
        let sha256: [u8; 32] = Sha256::digest(certificate).into();
        let known = self.lock().get(&sha256).filter(|_| rest.is_empty()).cloned();
        if let Some(known) = known {
            return check_validity(known.validity, now_unix_s).map(|()| known);
        }
        let peer = PeerCertificate::parse(certificate, rest, now_unix_s)?;
        if peer.quote_extension.is_none() {
            let mut by_sha256 = self.lock();
            if by_sha256.len() >= CERTIFICATES_KNOWN_MAX {
                by_sha256.clear();
            }
            by_sha256.insert(sha256, peer.clone());
        }
        Ok(peer)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], PeerCertificate>> {
        self.by_sha256.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a certificate for the key of this seed, valid for a day from now. The same arguments give the same bytes.
pub(crate) fn issue(
    seed: &[u8; 32],
    now_unix_s: u64,
    cocoon_v1: Option<CocoonV1<'_>>,
) -> Result<CertificateDer<'static>, IssueError> {
    let key = Key::new(seed);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "cocoon");
    params.not_before = date(now_unix_s)?;
    params.not_after = date(now_unix_s.saturating_add(CERTIFICATE_LIFETIME_S))?;
    if let Some(CocoonV1 { quote, claims }) = cocoon_v1 {
        let own = [(QUOTE_OID, quote), (CLAIMS_OID, &claims)];
        params.custom_extensions = own.into_iter().chain(ORIGINAL_EXTENSIONS).map(critical).collect();
    }
    Ok(params.self_signed(&key)?.der().clone())
}

fn date(unix_s: u64) -> Result<OffsetDateTime, IssueError> {
    let seconds = i64::try_from(unix_s).map_err(|_| IssueError::Time(unix_s))?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| IssueError::Time(unix_s))
}

fn critical((oid, value): (&[u64], &[u8])) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, value.to_vec());
    extension.set_criticality(true);
    extension
}

/// `SubjectPublicKeyInfo` of a raw key.
pub(crate) fn spki(public_key: &[u8; 32]) -> [u8; 44] {
    let mut spki = [0; 44];
    let (prefix, key) = spki.split_at_mut(SPKI_PREFIX.len());
    prefix.copy_from_slice(&SPKI_PREFIX);
    key.copy_from_slice(public_key);
    spki
}

/// The seed's key, as the encoder wants it: the seed is never put into another form that would have to be wiped.
struct Key {
    secret: SigningKey,
    public: [u8; 32],
}

impl Key {
    fn new(seed: &[u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(seed);
        Self { public: secret.verifying_key().to_bytes(), secret }
    }
}

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.secret.sign(message).to_bytes().to_vec())
    }
}

impl PeerCertificate {
    /// Reads what a peer sent in TLS: its certificate, and the rest of a chain, which must be empty.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(crate) fn parse(
        certificate: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now_unix_s: u64,
    ) -> Result<Self, CertificateError> {
        if !rest.is_empty() {
            return Err(CertificateError::NotOne(rest.len().saturating_add(1)));
        }
        parse(certificate, now_unix_s)
    }
}

/// Reads one certificate. Total: any bytes give a result. For a fuzz target; nodes go through TLS.
///
/// # Errors
/// The first rule that it breaks.
#[doc(hidden)]
pub fn parse(der: &[u8], now_unix_s: u64) -> Result<PeerCertificate, CertificateError> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(CertificateError::TooLong { len: der.len() });
    }
    // Extensions are compared as bytes below; nothing inside them has to be parsed.
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    let (rest, certificate) = parser.parse(der).map_err(|_| CertificateError::Malformed)?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed);
    }
    let tbs = &certificate.tbs_certificate;
    if tbs.version() != X509Version::V3 {
        return Err(CertificateError::Version);
    }
    let public_key = key_of(&certificate)?;
    check_signature(der, &certificate, &public_key)?;
    let validity = (tbs.validity().not_before.timestamp(), tbs.validity().not_after.timestamp());
    check_validity(validity, now_unix_s)?;
    let (quote_extension, claims_extension) = extensions_of(tbs)?;
    Ok(PeerCertificate {
        spki_der: spki(&public_key),
        public_key,
        sha256: Sha256::digest(der).into(),
        quote_extension,
        claims_extension,
        validity,
    })
}

/// The raw key, when the key and both names of the signature's algorithm are Ed25519.
fn key_of(certificate: &X509Certificate<'_>) -> Result<[u8; 32], CertificateError> {
    let tbs = &certificate.tbs_certificate;
    let key = tbs.subject_pki.raw.strip_prefix(&SPKI_PREFIX).ok_or(CertificateError::NotEd25519("key"))?;
    if !is_ed25519(&certificate.signature_algorithm) || !is_ed25519(&tbs.signature) {
        return Err(CertificateError::NotEd25519("signature"));
    }
    key.try_into().map_err(|_| CertificateError::NotEd25519("key"))
}

fn is_ed25519(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    algorithm.parameters.is_none() && algorithm.algorithm.as_bytes() == [0x2b, 0x65, 0x70]
}

fn check_signature(
    der: &[u8],
    certificate: &X509Certificate<'_>,
    public_key: &[u8; 32],
) -> Result<(), CertificateError> {
    let tbs = &certificate.tbs_certificate;
    let signature: &[u8] = &certificate.signature_value.data;
    let signature: &[u8; 64] = signature.try_into().map_err(|_| CertificateError::Malformed)?;
    // The parser forgives some encodings; there is exactly one certificate around this signed part and signature.
    if der != encode(tbs.as_ref(), signature).ok_or(CertificateError::Malformed)? {
        return Err(CertificateError::Malformed);
    }
    if tbs.subject().as_raw() != tbs.issuer().as_raw() {
        return Err(CertificateError::NotSelfSigned);
    }
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| CertificateError::BadKey)?;
    if key.is_weak() {
        return Err(CertificateError::BadKey);
    }
    key.verify_strict(tbs.as_ref(), &Signature::from_bytes(signature)).map_err(|_| CertificateError::NotSelfSigned)
}

/// The certificate with this signed part and signature; `None` when that would be too long.
fn encode(tbs: &[u8], signature: &[u8; 64]) -> Option<Vec<u8>> {
    const SIGNATURE_PREFIX: [u8; 3] = [0x03, 0x41, 0x00];
    let len = [ED25519.len(), SIGNATURE_PREFIX.len(), signature.len()].into_iter().sum::<usize>();
    let len = u16::try_from(tbs.len().checked_add(len)?).ok()?;
    let [high, low] = len.to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[0x30, low],
        (0, _) => &[0x30, 0x81, low],
        _ => &[0x30, 0x82, high, low],
    };
    Some([head, tbs, &ED25519, &SIGNATURE_PREFIX, signature].concat())
}

fn check_validity((from, to): (i64, i64), now_unix_s: u64) -> Result<(), CertificateError> {
    let (now, skew, lifetime) =
        (i128::from(now_unix_s), i128::from(CERTIFICATE_CLOCK_SKEW_S), i128::from(CERTIFICATE_LIFETIME_S));
    let valid = i128::from(to).saturating_sub(i128::from(from));
    if !(1..=lifetime.saturating_add(skew)).contains(&valid) {
        return Err(CertificateError::Lifetime(to.saturating_sub(from)));
    }
    let early = i128::from(from).saturating_sub(now);
    if early > skew {
        return Err(CertificateError::NotYetValid { in_s: u64::try_from(early).unwrap_or(u64::MAX) });
    }
    let late = now.saturating_sub(i128::from(to));
    if late > skew {
        return Err(CertificateError::Expired { ago_s: u64::try_from(late).unwrap_or(u64::MAX) });
    }
    Ok(())
}

type Extensions = (Option<Vec<u8>>, Option<[u8; 32]>);

fn extensions_of(tbs: &TbsCertificate<'_>) -> Result<Extensions, CertificateError> {
    let (mut quote, mut claims) = (None, None);
    let mut left = tbs.extensions();
    if left.len() > CERTIFICATE_EXTENSIONS_MAX {
        return Err(CertificateError::TooManyExtensions(left.len()));
    }
    while let Some((extension, later)) = left.split_first() {
        if later.iter().any(|other| other.oid == extension.oid) {
            return Err(CertificateError::DuplicateExtension);
        }
        if is(extension, QUOTE_OID) {
            quote = Some(critical_value(extension)?.to_vec());
        } else if is(extension, CLAIMS_OID) {
            let value = critical_value(extension)?;
            claims = Some(value.try_into().map_err(|_| CertificateError::ExtensionValue)?);
        } else {
            check_other(extension)?;
        }
        left = later;
    }
    Ok((quote, claims))
}

fn check_other(extension: &X509Extension<'_>) -> Result<(), CertificateError> {
    match ORIGINAL_EXTENSIONS.iter().find(|(oid, _)| is(extension, oid)) {
        Some((_, value)) if extension.value == *value => Ok(()),
        Some(_) => Err(CertificateError::ExtensionValue),
        None if extension.critical => Err(CertificateError::UnknownCriticalExtension),
        None => Ok(()),
    }
}

fn critical_value<'a>(extension: &X509Extension<'a>) -> Result<&'a [u8], CertificateError> {
    if extension.critical { Ok(extension.value) } else { Err(CertificateError::NotCritical) }
}

fn is(extension: &X509Extension<'_>, oid: &[u64]) -> bool {
    extension.oid.iter().is_some_and(|parts| parts.eq(oid.iter().copied()))
}

#[cfg(test)]
mod tests;
