//! The JSON inside a receipt: one encoding of each receipt, and a reader that accepts no other.
//!
//! Fields stand in the order of [`Body`], without white space; hashes are lower-case hex of full length; counts are
//! integers. The reader writes again what it read and compares, so a spelling that two programs could read in two ways
//! never gets past it.

use cocoon_units::{AdjustedTokens, AdjustedUsage, Coefficient, Multipliers, Usage};
use serde::{Deserialize, Serialize};

use crate::error::{ReceiptError, shown};
use crate::limits::{MODEL_NAME_MAX, PROXY_NAME_MAX, TOKENS_MAX};
use crate::receipt::{Hash, How, ModelHashes, Outcome, Receipt};

/// The form of this file. Another one gets another number and another domain of the signature.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    version: u32,
    #[serde(with = "cocoon_units::hex_text")]
    id: [u8; 32],
    proxy: String,
    model: String,
    hashes: BodyHashes,
    status: u16,
    outcome: BodyOutcome,
    usage: Usage,
    adjusted: BodyAdjusted,
    coefficient: Coefficient,
    multipliers: Multipliers,
    started_unix_ms: u64,
    ended_unix_ms: u64,
    #[serde(with = "cocoon_units::hex_text")]
    request_hmac: [u8; 32],
    #[serde(with = "cocoon_units::hex_text")]
    answer_hmac: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyHashes {
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<BodyHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<BodyHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<BodyHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template: Option<BodyHash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyHash {
    #[serde(with = "cocoon_units::hex_text")]
    sha256: [u8; 32],
    how: BodyHow,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BodyHow {
    Measured,
    Declared,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BodyOutcome {
    Complete,
    Stopped,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyAdjusted {
    prompt: AdjustedTokens,
    cached: AdjustedTokens,
    completion: AdjustedTokens,
    reasoning: AdjustedTokens,
    total: AdjustedTokens,
}

/// Writes a receipt.
pub(crate) fn encode(receipt: &Receipt) -> String {
    to_text(&Body::from(receipt))
}

/// Reads a receipt and checks every rule that needs nothing but the receipt.
pub(crate) fn decode(text: &str) -> Result<Receipt, ReceiptError> {
    let body: Body =
        serde_json::from_str(text).map_err(|error| ReceiptError::Body { detail: shown(&error.to_string()) })?;
    if body.version != VERSION {
        return Err(ReceiptError::Body { detail: format!("version {}; this program reads {VERSION}", body.version) });
    }
    if to_text(&body) != text {
        return Err(ReceiptError::NotCanonical);
    }
    if body.model.len() > MODEL_NAME_MAX || body.proxy.len() > PROXY_NAME_MAX {
        return Err(ReceiptError::NameTooLong);
    }
    if body.ended_unix_ms < body.started_unix_ms {
        return Err(ReceiptError::Times);
    }
    let adjusted = check_price(&body)?;
    Ok(body.into_receipt(adjusted))
}

/// The counts are possible, and the adjusted ones are theirs.
fn check_price(body: &Body) -> Result<AdjustedUsage, ReceiptError> {
    let adjusted = body.usage.adjust(body.coefficient, &body.multipliers)?;
    let counts = [body.usage.prompt, body.usage.completion, adjusted.total().get()];
    if counts.into_iter().any(|count| count > TOKENS_MAX) {
        return Err(ReceiptError::TooManyTokens);
    }
    let (expected, found) = (BodyAdjusted::from(&adjusted).shown(), body.adjusted.shown());
    if expected == found { Ok(adjusted) } else { Err(ReceiptError::Adjusted { expected, found }) }
}

fn to_text(body: &Body) -> String {
    serde_json::to_string(body).expect("a body holds no map, float or foreign type, so it always serialises")
}

impl From<&Receipt> for Body {
    fn from(receipt: &Receipt) -> Self {
        Self {
            version: VERSION,
            id: receipt.id,
            proxy: receipt.proxy.clone(),
            model: receipt.model.clone(),
            hashes: BodyHashes::from(&receipt.hashes),
            status: receipt.status,
            outcome: match receipt.outcome {
                Outcome::Complete => BodyOutcome::Complete,
                Outcome::Stopped => BodyOutcome::Stopped,
            },
            usage: receipt.usage,
            adjusted: BodyAdjusted::from(&receipt.adjusted),
            coefficient: receipt.coefficient,
            multipliers: receipt.multipliers,
            started_unix_ms: receipt.started_unix_ms,
            ended_unix_ms: receipt.ended_unix_ms,
            request_hmac: receipt.request_hmac,
            answer_hmac: receipt.answer_hmac,
        }
    }
}

impl Body {
    fn into_receipt(self, adjusted: AdjustedUsage) -> Receipt {
        Receipt {
            id: self.id,
            proxy: self.proxy,
            model: self.model,
            hashes: self.hashes.into(),
            status: self.status,
            outcome: match self.outcome {
                BodyOutcome::Complete => Outcome::Complete,
                BodyOutcome::Stopped => Outcome::Stopped,
            },
            usage: self.usage,
            adjusted,
            coefficient: self.coefficient,
            multipliers: self.multipliers,
            started_unix_ms: self.started_unix_ms,
            ended_unix_ms: self.ended_unix_ms,
            request_hmac: self.request_hmac,
            answer_hmac: self.answer_hmac,
        }
    }
}

impl From<&ModelHashes> for BodyHashes {
    fn from(hashes: &ModelHashes) -> Self {
        let written = |hash: Option<Hash>| {
            hash.map(|hash| BodyHash {
                sha256: hash.sha256,
                how: match hash.how {
                    How::Measured => BodyHow::Measured,
                    How::Declared => BodyHow::Declared,
                },
            })
        };
        Self {
            weights: written(hashes.weights),
            engine: written(hashes.engine),
            tokenizer: written(hashes.tokenizer),
            chat_template: written(hashes.chat_template),
        }
    }
}

impl From<BodyHashes> for ModelHashes {
    fn from(hashes: BodyHashes) -> Self {
        let read = |hash: Option<BodyHash>| {
            hash.map(|hash| Hash {
                sha256: hash.sha256,
                how: match hash.how {
                    BodyHow::Measured => How::Measured,
                    BodyHow::Declared => How::Declared,
                },
            })
        };
        Self {
            weights: read(hashes.weights),
            engine: read(hashes.engine),
            tokenizer: read(hashes.tokenizer),
            chat_template: read(hashes.chat_template),
        }
    }
}

impl From<&AdjustedUsage> for BodyAdjusted {
    fn from(adjusted: &AdjustedUsage) -> Self {
        Self {
            prompt: adjusted.prompt,
            cached: adjusted.cached,
            completion: adjusted.completion,
            reasoning: adjusted.reasoning,
            total: adjusted.total(),
        }
    }
}

impl BodyAdjusted {
    /// For comparison and for people: the kinds in their order, and their sum.
    fn shown(&self) -> String {
        let Self { prompt, cached, completion, reasoning, total } = self;
        let [prompt, cached, completion, reasoning, total] =
            [prompt, cached, completion, reasoning, total].map(|count| count.get());
        format!("{prompt} + {cached} + {completion} + {reasoning} = {total}")
    }
}
