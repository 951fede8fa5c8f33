//! Keys: one for each purpose, derived from one secret that the platform keeps (attestation.md, sections 5 and 9).
//!
//! ```text
//! platform secret ── HKDF-SHA256(salt, info = len(name) ‖ name ‖ version) ──► tls, session, receipt, …
//! ```
//!
//! A key that leaks says nothing about another. A version is raised to change one key and leave the others.
//!
//! Not here: storing keys (none is stored but the secret of [`InsecureFileKeys`]), and protection against a host that
//! rolls back what was sealed with them: see the ledger's journal.
//!
//! | provider | the secret is |
//! |---|---|
//! | [`SnpDerivedKeys`] | the AMD secure processor's, bound to this chip, image and guest policy |
//! | `cocoon-simtee` | a simulated platform's: protects nothing |
//! | [`InsecureFileKeys`] | in a file: protects from nobody who reads it |

mod insecure_file;
mod snp_derived;

use std::fmt;

use cocoon_attest::PublicKeys;
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

pub use insecure_file::InsecureFileKeys;
pub use snp_derived::SnpDerivedKeys;

use crate::limits::KEY_NAME_BYTES_MAX;

/// Names of our keys.
pub mod purpose {
    /// Of the TLS certificate.
    pub const TLS: &str = "tls";
    /// Signs exporters of later connections in session-key mode.
    pub const SESSION: &str = "session";
    /// Signs receipts.
    pub const RECEIPT: &str = "receipt";
    /// Signs payments.
    pub const PAYMENT: &str = "payment";
    /// Of the wallet that pays for messages on chain.
    pub const WALLET: &str = "wallet";
    /// Seals the proxy's journal; symmetric.
    pub const JOURNAL: &str = "journal";
    /// Authenticates the last time seen; symmetric.
    pub const CLOCK: &str = "clock";
    /// The instance id in the claims; not secret, but as lasting as the keys.
    pub const INSTANCE: &str = "instance";
}

/// The version that all keys of a node have today.
pub const KEY_VERSION: u32 = 1;

/// Domain of the derivation: no other program derives the same keys from the same platform secret.
const SALT: &[u8] = b"cocoon key derivation v1";

/// Derives keys from a secret that stays inside.
pub trait KeyProvider: fmt::Debug + Send + Sync {
    /// The key of this name and version; the same each time on the same platform, image and provider.
    ///
    /// # Errors
    /// When the name is not one, or the platform does not answer.
    fn derive(&self, name: &str, version: u32) -> Result<Zeroizing<[u8; 32]>, KeyError>;

    /// What protects the secret, for logs and status.
    fn describe(&self) -> KeyOrigin;
}

/// Where keys come from, in words that may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrigin {
    /// How well the secret is kept.
    pub protection: Protection,
    /// What it is bound to.
    pub text: String,
}

/// Who can learn a provider's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// Only this image in this TEE.
    Tee,
    /// Anyone on the machine: a simulated TEE keeps no secret.
    Simulated,
    /// Anyone who reads a file.
    InsecureFile,
}

/// Why there is no key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Names are 1 to [`KEY_NAME_BYTES_MAX`] of `a-z 0-9 - _ . /`.
    #[error("{0:?} is no name of a key")]
    Name(String),
    /// This machine has no such platform.
    #[error("no platform that keeps a secret: {0}")]
    NoPlatform(String),
    /// The platform is there and failed.
    #[error("the platform gave no key: {0}")]
    Platform(String),
    /// The secret's file cannot be used.
    #[error("the key file {path} cannot be used: {why}")]
    File {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
}

/// The derivation that every provider uses: one secret and a name give one key.
///
/// # Errors
/// When the name is not one.
pub fn expand(secret: &[u8; 32], name: &str, version: u32) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/');
    if name.is_empty() || name.len() > KEY_NAME_BYTES_MAX || !name.bytes().all(is_name) {
        return Err(KeyError::Name(name.chars().take(KEY_NAME_BYTES_MAX).collect()));
    }
    // The length comes first, so that no two pairs of name and version give the same bytes.
    let length = u32::try_from(name.len()).expect("a name has at most 64 bytes").to_le_bytes();
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(SALT), secret)
        .expand_multi_info(&[&length, name.as_bytes(), &version.to_le_bytes()], key.as_mut())
        .expect("HKDF-SHA256 gives up to 8160 bytes");
    Ok(key)
}

/// All keys of one node. Wiped when dropped; `Debug` shows the public halves only.
pub struct NodeKeys {
    tls: SigningKey,
    session: SigningKey,
    receipt: SigningKey,
    payment: SigningKey,
    wallet: SigningKey,
    journal: Zeroizing<[u8; 32]>,
    instance: [u8; 16],
}

impl NodeKeys {
    /// Derives them all.
    ///
    /// # Errors
    /// When the provider fails.
    pub fn derive(provider: &dyn KeyProvider) -> Result<Self, KeyError> {
        let signing = |name| provider.derive(name, KEY_VERSION).map(|seed| SigningKey::from_bytes(&seed));
        let mut instance = [0; 16];
        instance.copy_from_slice(&provider.derive(purpose::INSTANCE, KEY_VERSION)?[..16]);
        Ok(Self {
            tls: signing(purpose::TLS)?,
            session: signing(purpose::SESSION)?,
            receipt: signing(purpose::RECEIPT)?,
            payment: signing(purpose::PAYMENT)?,
            wallet: signing(purpose::WALLET)?,
            journal: provider.derive(purpose::JOURNAL, KEY_VERSION)?,
            instance,
        })
    }

    /// The public halves, as the claims name them.
    #[must_use]
    pub fn public(&self) -> PublicKeys {
        PublicKeys {
            tls: self.tls.verifying_key().to_bytes(),
            session: self.session.verifying_key().to_bytes(),
            receipt: self.receipt.verifying_key().to_bytes(),
            payment: self.payment.verifying_key().to_bytes(),
            wallet: self.wallet.verifying_key().to_bytes(),
        }
    }

    /// Of the TLS certificate. Its `as_bytes` is the seed.
    #[must_use]
    pub const fn tls(&self) -> &SigningKey {
        &self.tls
    }

    /// Signs exporters of later connections. Its `as_bytes` is the seed.
    #[must_use]
    pub const fn session(&self) -> &SigningKey {
        &self.session
    }

    /// Signs receipts.
    #[must_use]
    pub const fn receipt(&self) -> &SigningKey {
        &self.receipt
    }

    /// Signs payments.
    #[must_use]
    pub const fn payment(&self) -> &SigningKey {
        &self.payment
    }

    /// Of the wallet.
    #[must_use]
    pub const fn wallet(&self) -> &SigningKey {
        &self.wallet
    }

    /// Seals the journal.
    #[must_use]
    pub fn journal(&self) -> &[u8; 32] {
        &self.journal
    }

    /// The instance id for the claims: lasts as long as the keys, and tells nothing about them.
    #[must_use]
    pub const fn instance(&self) -> [u8; 16] {
        self.instance
    }
}

impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKeys").field("tls", &hex::encode(self.public().tls)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A provider with a known secret.
    #[derive(Debug)]
    struct Known([u8; 32]);

    impl KeyProvider for Known {
        fn derive(&self, name: &str, version: u32) -> Result<Zeroizing<[u8; 32]>, KeyError> {
            expand(&self.0, name, version)
        }

        fn describe(&self) -> KeyOrigin {
            KeyOrigin { protection: Protection::Simulated, text: "a test".into() }
        }
    }

    #[test]
    fn derivation_is_hkdf_sha256_over_length_name_and_version() {
        // HKDF-SHA256 by hand, RFC 5869, from HMAC alone: extract, then one block of expand.
        use hmac::{Hmac, Mac};
        let mac = |key: &[u8], parts: &[&[u8]]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            parts.iter().for_each(|part| mac.update(part));
            <[u8; 32]>::from(mac.finalize().into_bytes())
        };
        let secret = [7; 32];
        let extracted = mac(b"cocoon key derivation v1", &[&secret]);
        let expected = mac(&extracted, &[&3u32.to_le_bytes(), b"tls", &1u32.to_le_bytes(), &[1]]);
        assert_eq!(*expand(&secret, "tls", 1).unwrap(), expected);
    }

    #[test]
    fn golden_keys_do_not_change() {
        let key = |name, version| hex::encode(*expand(&[7; 32], name, version).unwrap());
        assert_eq!(key("tls", 1), "3a16308d55efc724e36ca3cadda5713c703d0a86b5ff5b3dfae40ac8762886b4");
        assert_eq!(key("tls", 2), "8879f9b0e03744b88faa34c74ffb176f8077e7a6a9dc7eb3567febad91f878db");
        assert_eq!(key("journal", 1), "bc4eb3e2675c62a33caff251ea172d950486f23e88d4f1979acab12356b9a99e");
    }

    #[test]
    fn a_node_has_a_key_for_each_purpose_and_they_differ() {
        let keys = NodeKeys::derive(&Known([1; 32])).unwrap();
        let public = keys.public();
        let all = BTreeSet::from([public.tls, public.session, public.receipt, public.payment, public.wallet]);
        assert_eq!(all.len(), 5);
        assert_eq!(NodeKeys::derive(&Known([1; 32])).unwrap().public(), public);
        assert_ne!(NodeKeys::derive(&Known([2; 32])).unwrap().public(), public);
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = NodeKeys::derive(&Known([1; 32])).unwrap();
        let shown = format!("{keys:?}");
        for secret in [keys.tls().as_bytes(), keys.wallet().as_bytes(), keys.journal()] {
            assert!(!shown.contains(&hex::encode(secret)));
        }
        assert!(shown.contains(&hex::encode(keys.public().tls)));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "Tls", "tls ", "tls\0", "ключ", &"a".repeat(65)] {
            assert!(matches!(expand(&[0; 32], name, 1), Err(KeyError::Name(_))), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn names_and_versions_separate_keys(
            one in "[a-z0-9/._-]{1,12}", other in "[a-z0-9/._-]{1,12}", v in 0u32..4, w in 0u32..4, secret: [u8; 32],
        ) {
            let same = one == other && v == w;
            let keys_are_same = *expand(&secret, &one, v).unwrap() == *expand(&secret, &other, w).unwrap();
            prop_assert_eq!(keys_are_same, same);
        }
    }
}
