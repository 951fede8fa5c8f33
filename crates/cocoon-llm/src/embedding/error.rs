//! Errors of embedding models. As elsewhere in this crate, none carries a text, a token or a vector.

/// Why a folder could not be loaded as an embedding model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedderLoadError {
    /// A file could not be opened or read.
    #[error("cannot read {file}")]
    Io {
        /// Which.
        file: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("malformed {file}: {problem}")]
    Malformed {
        /// Which.
        file: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The files are well formed, but describe a model this crate does not run.
    #[error("unsupported embedding model: {0}")]
    Unsupported(String),
    /// The caller's options cannot be used.
    #[error("bad option: {0}")]
    Option(&'static str),
    /// The operating system refused a thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The tensor library failed on data that passed validation.
    #[error("internal: {0}")]
    Internal(String),
}

impl EmbedderLoadError {
    pub(super) fn malformed(file: &'static str, problem: impl Into<String>) -> Self {
        Self::Malformed { file, problem: problem.into() }
    }

    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Why texts were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The queue is full: try again later.
    #[error("the queue is full")]
    Busy,
    /// There is nothing to embed.
    #[error("there is no input")]
    NoInput,
    /// More texts than one request may hold.
    #[error("{inputs} inputs are above the limit of {inputs_max}")]
    TooManyInputs {
        /// How many there are.
        inputs: usize,
        /// The limit.
        inputs_max: usize,
    },
    /// A text has no token.
    #[error("input {input} is empty")]
    Empty {
        /// Its place in the request, from zero.
        input: usize,
    },
    /// A text has more tokens than the model takes. Nothing is cut off: half a text has another meaning.
    #[error("input {input} has {tokens} tokens, the model takes at most {tokens_max}: split it, nothing is cut off")]
    TooLong {
        /// Its place in the request, from zero.
        input: usize,
        /// Its tokens, those included that mark its ends.
        tokens: usize,
        /// The limit.
        tokens_max: usize,
    },
    /// A token is outside the vocabulary.
    #[error("input {input} holds a token that the model does not have")]
    UnknownToken {
        /// Its place in the request, from zero.
        input: usize,
    },
    /// The model is being dropped, or its thread has died.
    #[error("the model is shutting down")]
    ShuttingDown,
}

/// Why an accepted request has no vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedFailure {
    /// The ticket or the model was dropped.
    #[error("cancelled")]
    Cancelled,
    /// The engine failed; the text names nothing of the request.
    #[error("the embedding model failed: {0}")]
    Failed(String),
}
