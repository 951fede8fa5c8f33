//! A node's TLS key and the certificate that it shows.
//!
//! Certificates live for a day, so that an old one is no identity; a new one is written every hour. Peers know a node
//! by its key and never by its certificate.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ed25519_dalek::SigningKey;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::certificate::{self, IssueError, KnownCertificates};
use super::cocoon_v1::{QuotedCertificates, ShowError};
use super::prover::Prover;
use crate::limits::CERTIFICATE_RENEWED_AFTER_S;

/// PKCS #8 around an Ed25519 seed (RFC 8410, section 7), up to the seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A TLS key, and the certificate that shows it.
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    public_key: [u8; 32],
    spki: [u8; 44],
    shown: Mutex<Arc<OwnCertificate>>,
    /// For original nodes; made when a policy first allows them.
    quoted: OnceLock<QuotedCertificates>,
    /// Certificates of peers that came before.
    pub(super) known: KnownCertificates,
}

/// The certificate of the hour.
pub(super) struct OwnCertificate {
    pub(super) sha256: [u8; 32],
    pub(super) key: Arc<CertifiedKey>,
    der: CertificateDer<'static>,
    issued_unix_s: u64,
}

/// Why a node has no certificate to show.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The certificate could not be written.
    #[error(transparent)]
    Certificate(#[from] IssueError),
    /// The TLS library does not take the key.
    #[error("the TLS key cannot be used: {0}")]
    Key(#[source] rustls::Error),
}

impl Identity {
    /// The identity of a seed.
    ///
    /// # Errors
    /// When the time is one that no certificate can name.
    pub fn new(tls_seed: &[u8; 32], now_unix_s: u64) -> Result<Self, IdentityError> {
        let public_key = SigningKey::from_bytes(tls_seed).verifying_key().to_bytes();
        let shown = Mutex::new(Arc::new(OwnCertificate::issue(tls_seed, now_unix_s)?));
        Ok(Self {
            seed: Zeroizing::new(*tls_seed),
            public_key,
            spki: certificate::spki(&public_key),
            shown,
            quoted: OnceLock::new(),
            known: KnownCertificates::default(),
        })
    }

    /// The raw Ed25519 key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// The key as DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The certificate that was shown last, as DER.
    #[must_use]
    pub fn certificate_der(&self) -> Vec<u8> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).der.to_vec()
    }

    /// The certificate to show now.
    pub(super) fn shown_at(&self, now_unix_s: u64) -> Result<Arc<OwnCertificate>, IdentityError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let age_s = now_unix_s.checked_sub(shown.issued_unix_s);
        if age_s.is_none_or(|age_s| age_s > CERTIFICATE_RENEWED_AFTER_S) {
            *shown = Arc::new(OwnCertificate::issue(&self.seed, now_unix_s)?);
        }
        Ok(Arc::clone(&shown))
    }

    /// The certificate to show to an original node: with a quote of this hour.
    pub(super) async fn quoted_at(&self, prover: &Prover, now_unix_s: u64) -> Result<Arc<OwnCertificate>, ShowError> {
        let quoted = self.quoted.get_or_init(|| QuotedCertificates::new(&self.seed, prover.attester_in_turn()));
        let der = quoted.shown_at(now_unix_s).await?;
        Ok(Arc::new(OwnCertificate::new(&self.seed, der, now_unix_s).map_err(ShowError::Key)?))
    }
}

impl OwnCertificate {
    fn issue(seed: &[u8; 32], now_unix_s: u64) -> Result<Self, IdentityError> {
        Self::new(seed, certificate::issue(seed, now_unix_s, None)?, now_unix_s).map_err(IdentityError::Key)
    }

    fn new(seed: &[u8; 32], der: CertificateDer<'static>, now_unix_s: u64) -> Result<Self, rustls::Error> {
        let pkcs8 = Zeroizing::new([PKCS8_PREFIX.as_slice(), seed].concat());
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))?;
        Ok(Self {
            sha256: Sha256::digest(&der).into(),
            key: Arc::new(CertifiedKey::new(vec![der.clone()], key)),
            der,
            issued_unix_s: now_unix_s,
        })
    }
}

/// Shows the public key only.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex: String = self.public_key.iter().map(|byte| format!("{byte:02x}")).collect();
        f.debug_tuple("Identity").field(&hex).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_renewed_by_the_hour_and_keys_stay() {
        let identity = Identity::new(&[1; 32], 1_000_000).unwrap();
        let first = identity.certificate_der();
        assert_eq!(identity.shown_at(1_000_000 + 3_600).unwrap().der.as_ref(), first);
        let later = identity.shown_at(1_000_000 + 3_601).unwrap();
        assert_ne!(later.der.as_ref(), first);
        let parsed = certificate::parse(&later.der, 1_000_000 + 3_601).unwrap();
        assert_eq!((parsed.public_key, parsed.spki_der.as_slice()), (identity.public_key(), identity.spki()));
        // A clock that was set back makes the certificate one from the future.
        assert_eq!(identity.shown_at(1_000_000).unwrap().der.as_ref(), first);
    }

    #[test]
    fn seeds_are_not_shown() {
        let identity = Identity::new(&[0xab; 32], 1_000_000).unwrap();
        assert!(!format!("{identity:?}").contains("abab"));
    }
}
