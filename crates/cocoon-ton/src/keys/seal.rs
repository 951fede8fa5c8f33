//! A secret under a passphrase: argon2id makes the key, ChaCha20-Poly1305 seals.
//!
//! The parameters travel with the box, so that they can be raised later; whoever opens one bounds them first, since
//! the file may be somebody else's.

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Secret;
use crate::limits::{KEY_KDF_LANES, KEY_KDF_MEMORY_KIB, KEY_KDF_MEMORY_KIB_MAX, KEY_KDF_PASSES, KEY_KDF_PASSES_MAX};

const SALT_LEN: usize = 16;

/// A sealed secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealed {
    /// "argon2id".
    kdf: Kdf,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "hex::serde")]
    salt: [u8; SALT_LEN],
    /// "chacha20-poly1305".
    cipher: Cipher,
    #[serde(with = "hex::serde")]
    nonce: [u8; NONCE_LEN],
    #[serde(with = "hex::serde")]
    sealed: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Kdf {
    #[serde(rename = "argon2id")]
    Argon2id,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Cipher {
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

/// Why nothing was sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SealError {
    /// Another passphrase, or a changed file: the two cannot be told apart.
    Passphrase,
    /// Parameters that are not worth their memory, or do not exist.
    Parameters,
    /// The system gave no random numbers.
    NoRandomness,
}

impl Sealed {
    /// Seals `secret`; `bound` must be the same when it is opened.
    pub(super) fn seal(secret: &[u8], passphrase: &Secret, bound: &[u8]) -> Result<Self, SealError> {
        let (mut salt, mut nonce) = ([0; SALT_LEN], [0; NONCE_LEN]);
        getrandom::fill(&mut salt).map_err(|_| SealError::NoRandomness)?;
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut this = Self {
            kdf: Kdf::Argon2id,
            memory_kib: KEY_KDF_MEMORY_KIB,
            passes: KEY_KDF_PASSES,
            lanes: KEY_KDF_LANES,
            salt,
            cipher: Cipher::ChaCha20Poly1305,
            nonce,
            sealed: Vec::with_capacity(secret.len().saturating_add(CHACHA20_POLY1305.tag_len())),
        };
        let key = this.key(passphrase)?;
        // Sealed in place, in a buffer that already has room for the tag: no copy of the secret stays behind.
        this.sealed.extend_from_slice(secret);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut this.sealed)
            .map_err(|_| SealError::Parameters)?;
        Ok(this)
    }

    /// Opens it.
    pub(super) fn open(&self, passphrase: &Secret, bound: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = self.key(passphrase)?;
        let mut buffer = Zeroizing::new(self.sealed.clone());
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let opened = key.open_in_place(nonce, Aad::from(bound), &mut buffer).map_err(|_| SealError::Passphrase)?;
        let length = opened.len();
        buffer.truncate(length);
        Ok(buffer)
    }

    fn key(&self, passphrase: &Secret) -> Result<LessSafeKey, SealError> {
        let Kdf::Argon2id = self.kdf;
        let Cipher::ChaCha20Poly1305 = self.cipher;
        if self.memory_kib > KEY_KDF_MEMORY_KIB_MAX || self.passes > KEY_KDF_PASSES_MAX || self.lanes != KEY_KDF_LANES {
            return Err(SealError::Parameters);
        }
        let mut key = Zeroizing::new([0_u8; 32]);
        let parameters = Params::new(self.memory_kib, self.passes, self.lanes, Some(key.len()));
        let parameters = parameters.map_err(|_| SealError::Parameters)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(passphrase.expose().as_bytes(), &self.salt, key.as_mut_slice())
            .map_err(|_| SealError::Parameters)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).map_err(|_| SealError::Parameters)?;
        Ok(LessSafeKey::new(key))
    }
}
