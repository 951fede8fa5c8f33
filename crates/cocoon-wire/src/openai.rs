//! The few fields of a request body that this layer reads, and the few edits it makes.
//!
//! - [`Endpoint`]: what can be asked for at all, and whether its body is JSON or a form.
//! - [`RequestFacts`]: what a request to any of them says, what it may use at most, and what counts where an engine does not.
//! - [`RequestFields`] and [`edit_request`]: bodies of JSON; [`edit_body`] is either.
//!
//! A body is read once, strictly, into spans; edits splice around them, so every other byte of the
//! app's body reaches the engine as it was sent.
//! It is not a schema: fields that nobody here needs pass unread.
//!
//! A key given twice at the top level is refused, however it is spelled: otherwise two nodes could
//! disagree on which one counts, and one would be billed for the other's reading. So is a key that is read
//! here in other letters than lower case, which some engines take for the same.
//!
//! A token limit has several names, and every engine reads some of them. So they must all say the same, and a body that
//! gives it by another name than `max_tokens` gets that one too: what is paid for is what any engine keeps to.

mod edit;
mod endpoint;
mod facts;
mod form;
mod media;
mod multipart;
mod prompt;
mod read;

use bytes::Bytes;
use cocoon_units::Coefficient;
use thiserror::Error;

use crate::json::JsonError;

pub use edit::{Edits, edit_body, edit_request};
pub use endpoint::{BodyKind, Endpoint};
pub use facts::RequestFacts;
pub use media::{AUDIO_TOKENS_PER_SECOND, MediaSize};
pub use multipart::multipart_type;

/// The form field by which streams of transcripts are asked for their usage.
const STREAM_USAGE: &str = "stream_include_usage";

/// What the network needs to know of a request body.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestFields {
    /// `model`.
    pub model: Option<String>,
    /// `stream`; absent and null mean false.
    pub stream: bool,
    /// `stream_options.include_usage`, in forms `stream_include_usage`: whether the app wants the usage event.
    pub include_usage: bool,
    /// The token limit of one choice, by whichever of the names `max_tokens`, `max_completion_tokens`,
    /// `max_output_tokens`, `n_predict` it is given.
    pub max_tokens: Option<u32>,
    /// Whether `max_tokens` is one of them: the only name that every engine reads.
    pub has_max_tokens: bool,
    /// `n`; 1 if absent.
    pub n: u32,
    /// `best_of`, or `n_cmpl` if that is larger; 1 if both are absent.
    pub best_of: u32,
    /// How many prompts `prompt` and `prompt_embeds` are; each is answered `n` times. A list of token ids is one.
    pub prompts: u32,
    /// Bytes of text that the engine certainly reads: of messages, prompts and tools; no media.
    pub prompt_text_bytes: u64,
    /// Prompt tokens that are given as their ids.
    pub prompt_token_ids: u64,
    /// `max_coefficient`.
    pub max_coefficient: Option<Coefficient>,
    /// `timeout`, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// `enable_debug`.
    pub enable_debug: bool,
    /// `request_guid`.
    pub request_guid: Option<String>,
    /// Whether an `image_url` or the like anywhere is something other than a `data:` URL.
    pub has_remote_image: bool,
}

impl Default for RequestFields {
    fn default() -> Self {
        Self {
            model: None,
            stream: false,
            include_usage: false,
            max_tokens: None,
            has_max_tokens: false,
            n: 1,
            best_of: 1,
            prompts: 1,
            prompt_text_bytes: 0,
            prompt_token_ids: 0,
            max_coefficient: None,
            timeout_ms: None,
            enable_debug: false,
            request_guid: None,
            has_remote_image: false,
        }
    }
}

impl RequestFields {
    /// Reads the fields in one pass.
    ///
    /// # Errors
    ///
    /// See [`BodyError`].
    pub fn read(body: &Bytes) -> Result<Self, BodyError> {
        read::RequestBody::read(body).map(|body| body.fields)
    }

    /// How many answers the engine may produce: the larger of `n` and `best_of`, for each prompt.
    #[must_use]
    pub fn choices(&self) -> u32 {
        self.n.max(self.best_of).max(1).saturating_mul(self.prompts.max(1))
    }
}

/// A request body that is refused; the app is to blame. Never holds bytes of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Not JSON.
    #[error("the body is not valid JSON (at byte {offset})")]
    Syntax {
        /// Where reading stopped.
        offset: usize,
    },
    /// Not an object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// The same key twice: nodes could disagree on which counts.
    #[error("a key is given twice (at byte {offset})")]
    DuplicateKey {
        /// Where the second one starts.
        offset: usize,
    },
    /// Nested too deeply.
    #[error("the body is nested too deeply (at byte {offset})")]
    TooDeep {
        /// Where.
        offset: usize,
    },
    /// Too long or too many members.
    #[error("the body is too large")]
    TooLarge,
    /// A field of the wrong type or range.
    #[error("`{field}` must be {expected}")]
    BadField {
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Not a form where one is needed.
    #[error("the content type must be `multipart/form-data` with one boundary")]
    NotMultipart,
    /// A form that two readers could take for different things.
    #[error("the multipart body is refused: {fault} (at byte {offset})")]
    Multipart {
        /// Where.
        offset: usize,
        /// What is wrong.
        fault: &'static str,
    },
    /// Something that this network does not do.
    #[error("`{field}`: {reason}")]
    Unsupported {
        /// Which field.
        field: &'static str,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// Two token limits: engines disagree on which of them counts.
    #[error("`{field}` and `{other}` are both given and differ: give one token limit")]
    LimitsDiffer {
        /// The one that comes later.
        field: &'static str,
        /// The one before.
        other: &'static str,
    },
}

impl BodyError {
    /// The field that is to blame, if it is one.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        if let Self::BadField { field, .. } | Self::LimitsDiffer { field, .. } | Self::Unsupported { field, .. } = *self
        {
            return Some(field);
        }
        None
    }
}

impl From<JsonError> for BodyError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Syntax { offset } => Self::Syntax { offset },
            JsonError::TooDeep { offset } => Self::TooDeep { offset },
        }
    }
}

#[cfg(test)]
mod tests;
