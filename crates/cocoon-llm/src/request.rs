//! What a caller asks for and what it gets back.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::constraint::Constraint;
use crate::sampler::{Sampling, TokenLogprobs};

/// A completion to generate.
///
/// `Debug` shows sizes only.
#[derive(Clone, PartialEq)]
pub struct GenerateRequest {
    /// The prompt, from [`crate::Llm::tokenize`] or [`crate::Llm::tokenize_prompt`].
    pub prompt_tokens: Vec<u32>,
    /// Most tokens to generate; the end of the context may come first.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Generation ends before the first of these appears in the text.
    pub stop: Vec<String>,
    /// Goes on after an end-of-sequence token: for measurements.
    pub ignore_eos: bool,
    /// Reports the probability of every token, with this many alternatives.
    pub logprobs: Option<u8>,
    /// The answer is JSON by this schema, from [`crate::Llm::compile_schema`] of the same model, and
    /// ends where the JSON does.
    pub constraint: Option<Constraint>,
}

impl GenerateRequest {
    /// A request with the API's defaults.
    #[must_use]
    pub fn new(prompt_tokens: Vec<u32>, max_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            max_tokens,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            constraint: None,
        }
    }
}

impl std::fmt::Debug for GenerateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenerateRequest")
            .field("prompt_tokens", &self.prompt_tokens.len())
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

/// A part of the answer.
///
/// `Debug` shows sizes only.
#[derive(Clone, PartialEq)]
pub struct Piece {
    /// Whole code points; never part of a stop string. May be empty when tokens are reported whose
    /// text is not known yet.
    pub text: String,
    /// Tokens since the last piece. Text may run behind them by what is held back.
    pub tokens: Vec<PieceToken>,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piece")
            .field("bytes", &self.text.len())
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct PieceToken {
    /// Its id.
    pub id: u32,
    /// Present when the request asked for it.
    pub logprobs: Option<TokenLogprobs>,
}

/// Takes an answer as it is generated.
///
/// The methods run on the model's thread, between steps of every sequence: they hand the piece on
/// and return, they never wait.
pub trait TokenSink: Send + 'static {
    /// A part of the answer; `Break` cancels the rest.
    fn on_text(&mut self, piece: Piece) -> ControlFlow<()>;
    /// The end, called exactly once, also for requests that were cancelled or never started.
    fn on_end(self: Box<Self>, end: Generated);
}

/// How a request ended and what it used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt that were processed: all, unless it ended earlier.
    pub prompt_tokens: u32,
    /// Tokens generated, the end-of-sequence token included.
    pub completion_tokens: u32,
}

/// Why a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its answer, or a stop string appeared.
    Stop,
    /// `max_tokens` or the end of the context was reached, or a constraint would have taken more work
    /// than a step may.
    Length,
    /// The ticket was dropped, the sink broke off, or the model was dropped.
    Cancelled,
    /// The engine failed; the text names no part of the prompt.
    Failed(String),
}

/// A submitted request; dropping it cancels the request before its next step.
#[derive(Debug)]
#[must_use = "dropping the ticket cancels the request"]
pub struct Ticket {
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}
