//! What is read of a chat answer: an event of a stream, or a whole document, which differs by one word.
//!
//! Everything may be absent or null; what is there must have its type. Lists are bounded while they are read.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::limits::DIALECT_TOOL_CALLS;

/// One event, or the whole answer.
#[derive(Deserialize)]
pub(super) struct Chunk {
    /// One at most: more are never asked for.
    pub(super) choices: Option<Few<Choice, 1>>,
    pub(super) usage: Option<Usage>,
    pub(super) error: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    pub(super) index: Option<u64>,
    #[serde(alias = "message")]
    pub(super) delta: Option<Delta>,
    pub(super) finish_reason: Option<String>,
    /// vLLM's and SGLang's: the stop sequence that ended it, or a token's id.
    #[serde(alias = "matched_stop")]
    pub(super) stop_reason: Option<Box<RawValue>>,
    pub(super) logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
pub(super) struct Delta {
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    pub(super) reasoning_content: Option<String>,
    /// The newer name; something else at some engines.
    pub(super) reasoning: Option<Box<RawValue>>,
    pub(super) tool_calls: Option<Few<Call, DIALECT_TOOL_CALLS>>,
}

impl Delta {
    /// The piece of reasoning, by whichever name.
    pub(super) fn take_reasoning(&mut self) -> Option<String> {
        let by_new_name = || self.reasoning.as_deref().and_then(text);
        self.reasoning_content.take().or_else(by_new_name)
    }
}

#[derive(Deserialize)]
pub(super) struct Call {
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) function: Option<Function>,
}

#[derive(Deserialize)]
pub(super) struct Function {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Logprobs {
    /// A list, one entry a token.
    pub(super) content: Option<Box<RawValue>>,
}

impl Logprobs {
    /// The entries as they were written, without the brackets around them.
    pub(super) fn entries(&self) -> &str {
        let list = self.content.as_deref().map(|list| list.get().trim()).unwrap_or_default();
        list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).map(str::trim).unwrap_or_default()
    }
}

/// What the worker counted, and what this client found it to cost.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    prompt_total_cost: Option<u64>,
    completion_total_cost: Option<u64>,
    total_cost: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Tokens of the prompt, cached ones included.
    pub(in crate::dialect) fn prompt(&self) -> u64 {
        self.prompt_tokens.unwrap_or(0)
    }

    /// Cached tokens of the prompt; never more than it has.
    pub(in crate::dialect) fn cached(&self) -> u64 {
        self.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0).min(self.prompt())
    }

    /// Tokens of the answer, reasoning included.
    pub(in crate::dialect) fn completion(&self) -> u64 {
        self.completion_tokens.unwrap_or(0)
    }

    pub(in crate::dialect) fn reasoning(&self) -> u64 {
        let told = self.completion_tokens_details.and_then(|details| details.reasoning_tokens);
        told.unwrap_or(0).min(self.completion())
    }

    pub(in crate::dialect) fn total(&self) -> u64 {
        self.total_tokens.unwrap_or_else(|| self.prompt().saturating_add(self.completion()))
    }

    /// What it cost, in the members that this client adds to every usage.
    pub(in crate::dialect) const fn costs(&self) -> Costs {
        Costs {
            prompt_total_cost: self.prompt_total_cost,
            completion_total_cost: self.completion_total_cost,
            total_cost: self.total_cost,
        }
    }
}

/// The costs within a usage object, in billionths of a TON; absent where no price is known.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(in crate::dialect) struct Costs {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_total_cost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_total_cost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_cost: Option<u64>,
}

/// A JSON string, decoded; none of anything else.
pub(super) fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// A list that is refused while it is read once it has more than `MAX` elements.
pub(super) struct Few<T, const MAX: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Few<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Few<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() >= MAX {
                        return Err(A::Error::custom("too many elements"));
                    }
                    elements.push(element);
                }
                Ok(Few(elements))
            }
        }

        deserializer.deserialize_seq(List(PhantomData))
    }
}
