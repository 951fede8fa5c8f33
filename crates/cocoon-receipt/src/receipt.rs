//! What a receipt says. It is worth something once it comes out of [`SignedReceipt::verify`](crate::SignedReceipt::verify).

use cocoon_units::{AdjustedUsage, Coefficient, Multipliers, Usage};
use ed25519_dalek::SigningKey;

use crate::error::{ReceiptError, shown};
use crate::signed::SignedReceipt;

/// How a hash came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The worker's own program read the bytes and hashed them.
    Measured,
    /// Somebody wrote it in the configuration; the program only repeats it.
    Declared,
}

/// A SHA-256 and how it came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    /// The hash.
    pub sha256: [u8; 32],
    /// Whether it was measured.
    pub how: How,
}

/// What an answer was made with; `None` where the worker cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelHashes {
    /// Of the weights.
    pub weights: Option<Hash>,
    /// Of the engine's arguments.
    pub engine: Option<Hash>,
    /// Of the tokenizer.
    pub tokenizer: Option<Hash>,
    /// Of the chat template.
    pub chat_template: Option<Hash>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The engine said all that it had to say.
    Complete,
    /// It was cut short: cancelled, out of time, or failed. The counts are those until then.
    Stopped,
}

/// The name under which apps ask for a model that a worker serves as `name@revision:hash`.
#[must_use]
pub fn public_name(model: &str) -> &str {
    model.split_once('@').map_or(model, |(name, _)| name)
}

/// What a worker says that one request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Random, from the client; no two requests have the same.
    pub id: [u8; 32],
    /// The proxy's contract as a raw address; without a chain, the proxy's owner.
    pub proxy: String,
    /// The model, as the worker serves it.
    pub model: String,
    /// What the answer was made with.
    pub hashes: ModelHashes,
    /// The HTTP status of the answer.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// Tokens as the engine counted them.
    pub usage: Usage,
    /// Tokens to pay: `usage.adjust(coefficient, multipliers)`.
    pub adjusted: AdjustedUsage,
    /// The worker's coefficient.
    pub coefficient: Coefficient,
    /// The network's multipliers.
    pub multipliers: Multipliers,
    /// When the worker took the request, in milliseconds since the Unix epoch, by its own clock.
    pub started_unix_ms: u64,
    /// When the answer ended.
    pub ended_unix_ms: u64,
    /// [`BodyDigest::request`](crate::BodyDigest::request) over the body that the client sent.
    pub request_hmac: [u8; 32],
    /// [`BodyDigest::answer`](crate::BodyDigest::answer) over the bytes of the answer's body.
    pub answer_hmac: [u8; 32],
}

impl Receipt {
    /// Signs the receipt by itself; [`sign_all`](crate::sign_all) signs many for the cost of one. What breaks a rule of
    /// [`SignedReceipt::verify`], or a bound of [`crate::limits`], is signed as well and refused by every reader.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedReceipt {
        SignedReceipt::alone(self, key)
    }

    /// Whether this is the receipt of the request that was asked, on the terms that were agreed.
    ///
    /// # Errors
    /// The first fact that differs.
    pub fn check(&self, expected: &Expected<'_>) -> Result<(), ReceiptError> {
        same("id", &expected.id, &self.id, hex::encode)?;
        same("proxy", expected.proxy, self.proxy.as_str(), shown)?;
        same("model", expected.model, self.model.as_str(), shown)?;
        same("multipliers", &expected.multipliers, &self.multipliers, weights)?;
        let thousandths = |coefficient: &Coefficient| coefficient.thousandths().to_string();
        match expected.coefficient {
            ExpectedCoefficient::Exactly(exact) => same("coefficient", &exact, &self.coefficient, thousandths),
            ExpectedCoefficient::AtMost(most) if self.coefficient <= most => Ok(()),
            ExpectedCoefficient::AtMost(most) => {
                let most = format!("at most {}", most.thousandths());
                Err(differs("coefficient", most, thousandths(&self.coefficient)))
            }
        }
    }
}

/// What the reader of a receipt knows of the request by itself.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The id that the client drew.
    pub id: [u8; 32],
    /// The proxy that the request went through.
    pub proxy: &'a str,
    /// The model that was to answer.
    pub model: &'a str,
    /// The network's multipliers.
    pub multipliers: Multipliers,
    /// The worker's coefficient, as far as it is known.
    pub coefficient: ExpectedCoefficient,
}

/// What is known of a worker's coefficient before its receipt comes.
#[derive(Clone, Copy, Debug)]
pub enum ExpectedCoefficient {
    /// The proxy chose the worker by it.
    Exactly(Coefficient),
    /// The client named the most it takes.
    AtMost(Coefficient),
}

/// Both are put in words only if they differ.
fn same<'a, T: PartialEq + ?Sized>(
    field: &'static str,
    expected: &'a T,
    found: &'a T,
    words: impl Fn(&'a T) -> String,
) -> Result<(), ReceiptError> {
    if expected == found { Ok(()) } else { Err(differs(field, words(expected), words(found))) }
}

const fn differs(field: &'static str, expected: String, found: String) -> ReceiptError {
    ReceiptError::Differs { field, expected, found }
}

/// The four multipliers in ten-thousandths.
fn weights(multipliers: &Multipliers) -> String {
    let Multipliers { prompt, cached, completion, reasoning } = multipliers;
    let [prompt, cached, completion, reasoning] =
        [prompt, cached, completion, reasoning].map(|weight| weight.ten_thousandths());
    format!("prompt {prompt}, cached {cached}, completion {completion}, reasoning {reasoning}")
}
