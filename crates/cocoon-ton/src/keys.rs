//! The keys of wallets: words that people write down, files that programs read.
//!
//! 1. [`Mnemonic`]: 24 words by TON's own scheme, which is not BIP 39's though it uses its words.
//! 2. [`KeyFile`]: a key at rest, readable by its owner only, optionally sealed with a passphrase.
//! 3. [`Secret`]: text that no log and no error shows.
//!
//! What is secret is wiped when it is dropped and never in `Debug` or in an error. What this is not: a keystore that
//! survives a hostile root user; a key whose machine is not trusted belongs into the other kind of wallet, whose owner
//! can block it.

mod file;
mod mnemonic;
mod seal;
mod secret;

pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use file::{KeyFile, KeyFileError};
pub use mnemonic::{Mnemonic, MnemonicError};
pub use secret::Secret;
