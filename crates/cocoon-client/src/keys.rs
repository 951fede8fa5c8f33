//! API keys: what an app shows to use this client.
//!
//! A key is `sk-cocoon-` and 256 random bits in hex. It is shown once, when it is made; the
//! configuration holds its SHA-256 only. A plain hash is enough because a key is not a password:
//! there is nothing to guess.
//! Keys are compared by hash, over all configured hashes, without an early exit.

use std::{fmt, hint::black_box, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

const PREFIX: &str = "sk-cocoon-";
const HASH_PREFIX: &str = "sha256:";

/// A new API key, to be shown to its owner once.
pub struct ApiKey(String);

impl ApiKey {
    /// Draws a key from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// When the operating system has none to give.
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = [0_u8; 32];
        getrandom::fill(&mut secret).map_err(|_| KeyError::Randomness)?;
        Ok(Self(format!("{PREFIX}{}", hex::encode(secret))))
    }

    /// The key itself, for its owner's eyes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the configuration keeps.
    #[must_use]
    pub fn hash(&self) -> ApiKeyHash {
        ApiKeyHash::of(&self.0)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(secret)")
    }
}

/// SHA-256 of an API key, written `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ApiKeyHash([u8; 32]);

impl ApiKeyHash {
    /// The hash of a key as an app presents it.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Whether two hashes are equal, in a time that does not depend on where they differ.
    fn matches(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0_u8, |all, (a, b)| black_box(all | (a ^ b)));
        black_box(difference) == 0
    }
}

/// Whether `presented` is one of the keys. All hashes are compared, whichever matches.
pub(crate) fn is_known(keys: &[ApiKeyHash], presented: &str) -> bool {
    let presented = ApiKeyHash::of(presented);
    keys.iter().fold(false, |known, key| black_box(known | key.matches(&presented)))
}

impl fmt::Display for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH_PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ApiKeyHash {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(KeyError::NotAHash)?;
        let mut hash = [0_u8; 32];
        hex::decode_to_slice(digits, &mut hash).map_err(|_| KeyError::NotAHash)?;
        Ok(Self(hash))
    }
}

impl Serialize for ApiKeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApiKeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a key could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Randomness,
    /// A configured hash has another form; perhaps the key itself was pasted.
    #[error("an API key is configured by its hash, `sha256:` and 64 hex digits, not by the key itself")]
    NotAHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_256_bits_and_is_known_by_its_hash() {
        let key = ApiKey::generate().unwrap();
        assert_eq!(key.expose().len(), PREFIX.len() + 64);
        let keys = [ApiKeyHash::of("another"), key.hash()];
        assert!(is_known(&keys, key.expose()));
        assert!(!is_known(&keys, "sk-cocoon-0"));
        assert!(!is_known(&[], key.expose()));
    }

    #[test]
    fn every_bit_of_a_hash_counts() {
        let hash = ApiKeyHash::of("key");
        for bit in 0..256_usize {
            let mut other = hash;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!hash.matches(&other), "bit {bit}");
        }
        assert!(hash.matches(&hash.clone()));
    }

    #[test]
    fn a_hash_reads_back_and_a_key_does_not_pass_for_one() {
        let key = ApiKey::generate().unwrap();
        assert_eq!(key.hash().to_string().parse::<ApiKeyHash>().unwrap(), key.hash());
        assert!(key.expose().parse::<ApiKeyHash>().is_err());
        assert_eq!(format!("{key:?}"), "ApiKey(secret)");
    }
}
