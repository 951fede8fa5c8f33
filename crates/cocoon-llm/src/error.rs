//! Errors, one enum per operation, grouped by whose fault they are.
//!
//! No variant carries a prompt, a completion or a token of either: errors end up in logs.

/// Why a model file could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be opened or read.
    #[error("cannot read the model file")]
    Io(#[from] std::io::Error),
    /// The file is not well-formed GGUF.
    #[error("malformed GGUF: {0}")]
    Malformed(String),
    /// The file is well formed, but describes a model this crate does not run.
    #[error("unsupported model: {0}")]
    Unsupported(String),
    /// The caller's options cannot be used with this model.
    #[error("bad option: {0}")]
    Option(&'static str),
    /// The operating system refused a thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The tensor library failed on data that passed validation.
    #[error("internal: {0}")]
    Internal(String),
}

/// Why a conversation could not be turned into a prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The model file has no chat template: it is a base model, use plain completions.
    #[error("the model has no chat template")]
    Missing,
    /// The messages are not what the chat API describes; names the field, never its content.
    #[error("bad messages: {0}")]
    Messages(&'static str),
    /// The template refused the conversation (`raise_exception`) or failed on it.
    ///
    /// The text comes from the template and may quote a role, never a message.
    #[error("the model's chat template refused the conversation: {0}")]
    Refused(String),
}

/// Why text could not be tokenised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// The text is longer than the context can hold, were all its tokens the longest there are.
    #[error("text of {bytes} bytes is above the limit of {bytes_max}")]
    TooLong {
        /// Length of the text.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The tokenizer library failed.
    #[error("internal: the tokenizer failed")]
    Internal,
}

/// Why a schema cannot constrain an answer. Its sender is to blame, but for the last three.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// A schema is an object.
    #[error("the schema must be an object")]
    NotAnObject,
    /// Longer than 64 KiB.
    #[error("the schema is longer than 65536 bytes")]
    TooLong,
    /// Nested more than 64 levels deep.
    #[error("the schema is nested more than 64 levels deep")]
    TooDeep,
    /// Patterns that must hold of one text at once multiply each other.
    #[error(
        "the schema has too many patterns, or too long ones, that must hold of one text at once (`allOf`, or `$ref` or \
         `anyOf` beside other words, or `pattern` with `format`): make one pattern of them"
    )]
    TooManyPatterns,
    /// The library refused it.
    #[error("the schema cannot be used: {0}")]
    Schema(Reason),
    /// It was not compiled in time.
    #[error("the schema takes too long to compile")]
    TooSlow,
    /// Too many schemas are being compiled: try again later.
    #[error("too many schemas are being compiled")]
    Busy,
    /// The model's vocabulary does not fit the library, or the model has no end of an answer.
    #[error("this model's answers cannot be constrained")]
    Vocabulary,
}

/// What is wrong with a schema. It may quote names of the schema, so it is for whoever sent that:
/// `Display` gives the text, `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// Keeps the first line of what the library says, and no more than a person reads.
    pub(crate) fn new(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        Self(line.chars().take(REASON_CHARS_MAX).collect())
    }
}

const REASON_CHARS_MAX: usize = 200;

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reason").finish_non_exhaustive()
    }
}

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue is full: try again later.
    #[error("the queue is full")]
    Busy,
    /// The prompt leaves no room for a single new token.
    #[error("the prompt has {prompt_tokens} tokens, the context holds {context_tokens}")]
    PromptTooLong {
        /// Tokens in the prompt.
        prompt_tokens: u32,
        /// Tokens a sequence may hold, prompt and completion together.
        context_tokens: u32,
    },
    /// A parameter is out of range; names it.
    #[error("bad request: {0}")]
    Invalid(&'static str),
    /// The model is being dropped, or its thread has died.
    #[error("the model is shutting down")]
    ShuttingDown,
}
