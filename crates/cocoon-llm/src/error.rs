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
