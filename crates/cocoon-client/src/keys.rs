//! API keys: what an app shows to use this client.
//!
//! A key is `sk-cocoon-` and 256 random bits in hex. It is shown once, when it is made; the
//! configuration holds its SHA-256 only. A plain hash is enough because a key is not a password:
//! there is nothing to guess.
//! Keys are compared by hash, over all configured hashes, without an early exit.
//!
//! A key has a name, under which its use is counted, and may have quotas, so that a team can share one client. Keys of
//! the owner see the use of all; a key without a table in the configuration is none of those.

use std::{collections::BTreeSet, fmt, hint::black_box, str::FromStr, sync::Arc};

use cocoon_units::Ton;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{config::ConfigError, limits};

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

    /// A name for a key that was given none.
    fn short(&self) -> String {
        hex::encode(self.0).chars().take(8).collect()
    }

    /// Whether two hashes are equal, in a time that does not depend on where they differ.
    fn matches(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0_u8, |all, (a, b)| black_box(all | (a ^ b)));
        black_box(difference) == 0
    }
}

/// One API key in the configuration: its hash alone, or a table with `hash` and any of the other fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "KeyForm")]
pub struct ApiKeyConfig {
    /// Of the key.
    pub hash: ApiKeyHash,
    /// Under which its use is counted.
    pub name: String,
    /// Whether it is the owner's: it sees the use of all keys, and may move money.
    pub is_owner: bool,
    /// The most adjusted tokens of a UTC day, open requests at their most.
    pub tokens_per_day: Option<u64>,
    /// The most TON of a UTC day, likewise.
    pub ton_per_day: Option<Ton>,
}

/// How a key is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum KeyForm {
    Bare(ApiKeyHash),
    Table(KeyTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    hash: ApiKeyHash,
    name: Option<String>,
    #[serde(default)]
    is_owner: bool,
    tokens_per_day: Option<u64>,
    ton_per_day: Option<Ton>,
}

impl From<ApiKeyHash> for ApiKeyConfig {
    fn from(hash: ApiKeyHash) -> Self {
        Self { hash, name: hash.short(), is_owner: false, tokens_per_day: None, ton_per_day: None }
    }
}

impl From<KeyForm> for ApiKeyConfig {
    fn from(form: KeyForm) -> Self {
        match form {
            KeyForm::Bare(hash) => hash.into(),
            KeyForm::Table(KeyTable { hash, name, is_owner, tokens_per_day, ton_per_day }) => {
                let name = name.unwrap_or_else(|| hash.short());
                Self { hash, name, is_owner, tokens_per_day, ton_per_day }
            }
        }
    }
}

/// What one key may use in a day; nothing said is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) tokens_per_day: Option<u64>,
    pub(crate) ton_per_day: Option<Ton>,
}

impl ApiKeyConfig {
    pub(crate) const fn quota(&self) -> Quota {
        Quota { tokens_per_day: self.tokens_per_day, ton_per_day: self.ton_per_day }
    }
}

/// Refuses keys that could not be told apart, and names that do not fit a report.
pub(crate) fn check(keys: &[ApiKeyConfig]) -> Result<(), ConfigError> {
    let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    for key in keys {
        let bad =
            |fault| Err(ConfigError::BadKey { name: key.name.chars().take(limits::KEY_NAME_CHARS).collect(), fault });
        if key.name.is_empty() || key.name.chars().count() > limits::KEY_NAME_CHARS {
            return bad("needs a name of 1 to 64 characters");
        }
        if key.name.chars().any(char::is_control) {
            return bad("has a control character in its name");
        }
        if !names.insert(&key.name) {
            return bad("is there twice: each needs a name of its own");
        }
        if !hashes.insert(key.hash.0) {
            return bad("has the hash of another key");
        }
    }
    Ok(())
}

/// Who calls, once the gate has let them in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The name of the key; none where there are no keys.
    pub(crate) key: Option<Arc<str>>,
    /// Whether it is the owner: whoever reaches a client without keys, or shows a key of theirs.
    pub(crate) is_owner: bool,
}

impl Access {
    /// Of a client without keys, which only its own host reaches.
    pub(crate) const OWNER: Self = Self { key: None, is_owner: true };
}

/// The keys of one client.
#[derive(Debug)]
pub(crate) struct Keys(Vec<(ApiKeyHash, Access)>);

impl Keys {
    pub(crate) fn new(keys: &[ApiKeyConfig]) -> Self {
        let access = |key: &ApiKeyConfig| Access { key: Some(key.name.as_str().into()), is_owner: key.is_owner };
        Self(keys.iter().map(|key| (key.hash, access(key))).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose key it is. All hashes are compared, whichever matches.
    pub(crate) fn find(&self, presented: &str) -> Option<Access> {
        let presented = ApiKeyHash::of(presented);
        let found = self.0.iter().fold(None, |found, (hash, access)| {
            let is_it = black_box(hash.matches(&presented));
            if is_it { Some(access) } else { found }
        });
        found.cloned()
    }
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
        let mine = ApiKeyConfig { name: "mine".into(), is_owner: true, ..key.hash().into() };
        let keys = Keys::new(&[ApiKeyHash::of("another").into(), mine]);
        assert_eq!(keys.find(key.expose()), Some(Access { key: Some("mine".into()), is_owner: true }));
        assert!(!keys.find("another").unwrap().is_owner);
        assert_eq!(keys.find("sk-cocoon-0"), None);
        assert_eq!(Keys::new(&[]).find(key.expose()), None);
    }

    #[test]
    fn a_key_is_a_hash_or_a_table() {
        let hash = ApiKeyHash::of("key");
        let bare: ApiKeyConfig = serde_json::from_value(serde_json::json!(hash.to_string())).unwrap();
        assert_eq!(bare, hash.into());
        assert_eq!(bare.name.len(), 8);
        let table = serde_json::json!({ "hash": hash.to_string(), "name": "team", "ton_per_day": "0.5" });
        let table: ApiKeyConfig = serde_json::from_value(table).unwrap();
        let quota = Quota { tokens_per_day: None, ton_per_day: Some("0.5".parse().unwrap()) };
        assert_eq!((table.name.as_str(), table.is_owner, table.quota()), ("team", false, quota));
        let again: ApiKeyConfig = serde_json::from_value(serde_json::to_value(&table).unwrap()).unwrap();
        assert_eq!(again, table);
        let typo = serde_json::json!({ "hash": hash.to_string(), "ton_per_dya": "0.5" });
        assert!(serde_json::from_value::<ApiKeyConfig>(typo).is_err());
    }

    #[test]
    fn keys_that_cannot_be_told_apart() {
        let key = |name: &str, secret: &str| ApiKeyConfig { name: name.into(), ..ApiKeyHash::of(secret).into() };
        assert_eq!(check(&[key("a", "1"), key("b", "2")]), Ok(()));
        for keys in [[key("a", "1"), key("a", "2")], [key("a", "1"), key("b", "1")], [key("a", "1"), key("", "2")]] {
            assert!(matches!(check(&keys), Err(ConfigError::BadKey { .. })), "{keys:?}");
        }
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
