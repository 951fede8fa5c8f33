//! Twenty-four words that are a key, by the scheme of TON's own wallets (`tonlib/keys/Mnemonic.cpp`).
//!
//! 1. entropy = HMAC-SHA512(key: the words with single spaces, message: the password, or nothing).
//! 2. The words are valid when PBKDF2-SHA512(entropy, "TON seed version", 390 rounds) begins with 0: one list in 256.
//! 3. With a password, the words alone must also say that one is needed: PBKDF2-SHA512(their entropy without it,
//!    "TON fast seed version", 1 round) begins with 1, and they are not valid without it.
//! 4. The key's seed is the first half of PBKDF2-SHA512(entropy, "TON default seed", 100,000 rounds).
//!
//! The words are BIP 39's English list; the rest of BIP 39 (checksum, derivation) plays no part.

use std::fmt;

use bip39::Language;
use ed25519_dalek::SigningKey;
use hmac::{Hmac, Mac};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::Secret;
use crate::limits::{MNEMONIC_DRAWS_MAX, MNEMONIC_TEXT_BYTES_MAX};

/// How many words there are.
const WORDS: usize = 24;
const ROUNDS: u32 = 100_000;
const VERSION_ROUNDS: u32 = ROUNDS / 256;

/// A list of words that is a key, with its password where it has one.
#[derive(Clone)]
pub struct Mnemonic {
    /// Lower case, single spaces.
    phrase: Zeroizing<String>,
    password: Secret,
}

/// Why words are no key. It never repeats them: a word with a slip of one letter is still most of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MnemonicError {
    /// Too few or too many.
    #[error("a TON mnemonic has {WORDS} words; these are {found}")]
    Count {
        /// How many there were.
        found: usize,
    },
    /// One is not in the list.
    #[error("word {position} is not in the word list: check its spelling")]
    Word {
        /// Which, from one.
        position: usize,
    },
    /// They are words, and no key.
    #[error("these words are no TON key: check their order, and that they come from a TON wallet")]
    NotAKey,
    /// They are a key with a password that was not given.
    #[error("these words need their password")]
    PasswordNeeded,
    /// A password was given and is not theirs.
    #[error("the password does not belong to these words")]
    WrongPassword,
    /// The system has no randomness.
    #[error("the system gave no random numbers: {0}")]
    NoRandomness(String),
}

impl Mnemonic {
    /// Draws a new one.
    ///
    /// # Errors
    ///
    /// [`MnemonicError::NoRandomness`] when the system gives none.
    pub fn generate() -> Result<Self, MnemonicError> {
        let list = Language::English.word_list();
        for _ in 0..MNEMONIC_DRAWS_MAX {
            let phrase = draw(list)?;
            if is_basic(&phrase, "") {
                return Ok(Self { phrase, password: Secret::default() });
            }
        }
        Err(MnemonicError::NoRandomness("every draw was refused".to_owned()))
    }

    /// Reads words that a person typed: any case, any white space between.
    ///
    /// # Errors
    ///
    /// [`MnemonicError`] says what is wrong, and never names a word.
    pub fn parse(words: &str, password: Option<&Secret>) -> Result<Self, MnemonicError> {
        let phrase = normalize(words)?;
        let password = password.cloned().unwrap_or_default();
        match (password.is_empty(), is_basic(&phrase, password.expose())) {
            (true, true) => {}
            (true, false) if asks_for_password(&phrase) => return Err(MnemonicError::PasswordNeeded),
            (true, false) => return Err(MnemonicError::NotAKey),
            (false, basic) if !basic || !asks_for_password(&phrase) => return Err(MnemonicError::WrongPassword),
            (false, _) => {}
        }
        Ok(Self { phrase, password })
    }

    /// The words, single spaces between: the export. They are the key.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.phrase
    }

    /// The password, where it has one.
    #[must_use]
    pub fn password(&self) -> Option<&Secret> {
        (!self.password.is_empty()).then_some(&self.password)
    }

    /// The key. Its 100,000 rounds take a good part of a second.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        let stretched = stretch(&entropy(&self.phrase, self.password.expose()), b"TON default seed", ROUNDS);
        let mut seed = Zeroizing::new([0_u8; 32]);
        seed.copy_from_slice(stretched.split_at(32).0);
        SigningKey::from_bytes(&seed)
    }
}

impl fmt::Debug for Mnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mnemonic")
    }
}

/// A list of random words, which is a key once in 256 times.
fn draw(list: &[&str]) -> Result<Zeroizing<String>, MnemonicError> {
    let mut random = Zeroizing::new([0_u8; 2 * WORDS]);
    getrandom::fill(random.as_mut_slice()).map_err(|error| MnemonicError::NoRandomness(error.to_string()))?;
    // Large enough from the start: a string that grows leaves copies of itself behind.
    let mut phrase = Zeroizing::new(String::with_capacity(MNEMONIC_TEXT_BYTES_MAX));
    for (position, pair) in random.chunks_exact(2).enumerate() {
        // 2048 words divide 65536 evenly, so every word is equally likely.
        let index = usize::from(u16::from_le_bytes([pair[0], pair[1]])) % list.len();
        if position > 0 {
            phrase.push(' ');
        }
        phrase.push_str(list[index]);
    }
    Ok(phrase)
}

fn normalize(words: &str) -> Result<Zeroizing<String>, MnemonicError> {
    let found = words.split_whitespace().count();
    if found != WORDS {
        return Err(MnemonicError::Count { found });
    }
    let mut phrase = Zeroizing::new(String::with_capacity(MNEMONIC_TEXT_BYTES_MAX));
    for (index, word) in words.split_whitespace().enumerate() {
        let word = Zeroizing::new(word.to_lowercase());
        if Language::English.find_word(&word).is_none() {
            return Err(MnemonicError::Word { position: index.saturating_add(1) });
        }
        if index > 0 {
            phrase.push(' ');
        }
        phrase.push_str(&word);
    }
    Ok(phrase)
}

fn is_basic(phrase: &str, password: &str) -> bool {
    stretch(&entropy(phrase, password), b"TON seed version", VERSION_ROUNDS)[0] == 0
}

fn asks_for_password(phrase: &str) -> bool {
    stretch(&entropy(phrase, ""), b"TON fast seed version", 1)[0] == 1 && !is_basic(phrase, "")
}

fn entropy(phrase: &str, password: &str) -> Zeroizing<[u8; 64]> {
    let mut mac = Hmac::<Sha512>::new_from_slice(phrase.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(password.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn stretch(entropy: &[u8; 64], salt: &[u8], rounds: u32) -> Zeroizing<[u8; 64]> {
    let mut out = Zeroizing::new([0_u8; 64]);
    pbkdf2::pbkdf2_hmac::<Sha512>(entropy, salt, rounds, out.as_mut_slice());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `mnemonicNew` and `mnemonicToPrivateKey` of @ton/crypto 3.3.0: words, password, public key.
    const VECTORS: [(&str, &str, &str); 3] = [
        (
            "news crunch recipe coil have anxiety spirit enhance urge mountain helmet cake debate trophy voice battle \
             protect round favorite this breeze slam clinic decide",
            "",
            "a4f26221e1c1f9dab4795c6ccb3389bc914252cba8021db1da2f2519b830aafd",
        ),
        (
            "hire volume man picnic leader taxi tank chaos negative flame behind urban noise skate usual stomach final \
             nature dwarf imitate occur sweet poet modify",
            "",
            "da5bd7931a0a5713ba9b6af6b99ff329b329e613518ceb87765043dc7883e5a3",
        ),
        (
            "shrimp next nothing average usual opinion weather ten suggest priority fire estate engine clever fiscal \
             perfect skirt forget silk lemon style inject ignore obscure",
            "correct horse",
            "392834eccb20de8b752520bf125e0eff8c61e3f4b3dd1738eb9cd1652e7178ac",
        ),
    ];

    fn parse(words: &str, password: &str) -> Result<Mnemonic, MnemonicError> {
        Mnemonic::parse(words, Some(&Secret::new(password)))
    }

    #[test]
    fn keys_are_those_of_ton_wallets() {
        for (words, password, public) in VECTORS {
            let mnemonic = parse(words, password).unwrap();
            assert_eq!(hex::encode(mnemonic.signing_key().verifying_key().as_bytes()), public);
            assert_eq!(mnemonic.words(), words);
            assert_eq!(mnemonic.password().is_some(), !password.is_empty());
        }
    }

    #[test]
    fn case_and_white_space_do_not_matter() {
        let (words, _, public) = VECTORS[0];
        let typed = format!("\n {}\t", words.to_uppercase().replace(' ', "  "));
        let key = Mnemonic::parse(&typed, None).unwrap().signing_key();
        assert_eq!(hex::encode(key.verifying_key().as_bytes()), public);
    }

    #[test]
    fn a_new_one_can_be_read_back() {
        let mnemonic = Mnemonic::generate().unwrap();
        assert_eq!(Mnemonic::parse(mnemonic.words(), None).unwrap().signing_key(), mnemonic.signing_key());
        assert_ne!(Mnemonic::generate().unwrap().words(), mnemonic.words());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_words() {
        let (words, ..) = VECTORS[0];
        assert_eq!(parse("abandon ability", "").err(), Some(MnemonicError::Count { found: 2 }));
        let slip = words.replace("coil", "coyl");
        assert_eq!(parse(&slip, "").err(), Some(MnemonicError::Word { position: 4 }));
        assert!(!parse(&slip, "").unwrap_err().to_string().contains("coyl"));
        let swapped = words.replace("news crunch", "crunch news");
        assert_eq!(parse(&swapped, "").err(), Some(MnemonicError::NotAKey));
        assert_eq!(parse(words, "not theirs").err(), Some(MnemonicError::WrongPassword));
        assert_eq!(parse(VECTORS[2].0, "").err(), Some(MnemonicError::PasswordNeeded));
        assert_eq!(parse(VECTORS[2].0, "wrong horse").err(), Some(MnemonicError::WrongPassword));
        assert_eq!(format!("{:?}", parse(words, "").unwrap()), "Mnemonic");
    }
}
