//! Signed usage: what a worker says a request came to, in a form that it cannot take back.
//!
//! A worker's receipt key stands in its attested claims.
//! With it the worker signs, for each request, what it served, with which files, and how many tokens that took.
//! The proxy settles on the receipt, and the client keeps it: a receipt verifies offline for good.
//!
//! 1. The client draws an id and a salt and sends both with the request.
//! 2. The worker runs a [`BodyDigest`] over the request and the answer under that salt, and signs a [`Receipt`].
//! 3. Whoever gets the [`SignedReceipt`] calls [`SignedReceipt::verify`], then [`Receipt::check`] against what it asked.
//! 4. The client writes a [`ReceiptFile`]: the receipt, the salt, and the evidence for the key that signed.
//!
//! What a receipt does not prove: that the counts are true. The attested program of the worker says so; the prompt can be
//! counted again by whoever has it and the tokenizer that the receipt names.
//! This crate knows no network, no clock and no attestation; who holds a key is for `cocoon-attest` to say.
//!
//! ```
//! use cocoon_receipt::{BodyDigest, ModelHashes, Outcome, Receipt, SignedReceipt};
//! use cocoon_units::{Coefficient, Multipliers, Usage};
//! use ed25519_dalek::SigningKey;
//!
//! let (id, salt) = ([1; 32], [2; 32]);
//! let mut request = BodyDigest::request(&salt);
//! request.update(br#"{"model":"m","messages":[]}"#);
//! let mut answer = BodyDigest::answer(&salt);
//! answer.update(br#"{"choices":[]}"#);
//!
//! let usage = Usage { prompt: 34, cached: 10, completion: 5, reasoning: 0 };
//! let (coefficient, multipliers) = (Coefficient::ONE, Multipliers::default());
//! let receipt = Receipt {
//!     id,
//!     proxy: "0:1f".to_owned(),
//!     model: "m".to_owned(),
//!     hashes: ModelHashes::default(),
//!     status: 200,
//!     outcome: Outcome::Complete,
//!     usage,
//!     adjusted: usage.adjust(coefficient, &multipliers)?,
//!     coefficient,
//!     multipliers,
//!     started_unix_ms: 1_000,
//!     ended_unix_ms: 2_000,
//!     request_hmac: request.finish(),
//!     answer_hmac: answer.finish(),
//! };
//! let key = SigningKey::from_bytes(&[3; 32]);
//! let sent = receipt.sign(&key).to_bytes();
//!
//! let verified = SignedReceipt::from_bytes(&sent)?.verify(Some(key.verifying_key().as_bytes()))?;
//! assert_eq!(verified, receipt);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod body;
mod digest;
mod error;
#[cfg(feature = "example")]
mod example;
mod file;
pub mod limits;
mod receipt;
mod signed;
mod tree;

pub use digest::BodyDigest;
pub use error::ReceiptError;
pub use file::{ReceiptFile, ReceiptFileError};
pub use receipt::{Expected, ExpectedCoefficient, Hash, How, ModelHashes, Outcome, Receipt, public_name};
pub use signed::{SignedReceipt, VerifiedRoots, sign_all};
