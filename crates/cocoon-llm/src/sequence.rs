//! One request while it runs: its prompt, its sampling, its text, its sink.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits::TOKENS_HELD_MAX;
use crate::request::{Finish, GenerateRequest, Generated, Piece, PieceToken, TokenSink};
use crate::sampler::{self, Sampler};
use crate::text::TextStream;
use crate::tokenizer::Tokenizer;

pub(crate) struct Sequence {
    prompt: Vec<u32>,
    prompt_done: usize,
    last: [u32; 1],
    generated: u32,
    max_tokens: u32,
    ignore_eos: bool,
    logprobs: Option<u8>,
    sampler: Sampler,
    text: TextStream,
    /// Tokens not reported yet.
    tokens: Vec<PieceToken>,
    sink: Box<dyn TokenSink>,
    cancelled: Arc<AtomicBool>,
}

/// What follows a token.
pub(crate) enum Next {
    Continue,
    End(Finish),
}

impl Sequence {
    pub(crate) fn new(request: GenerateRequest, sink: Box<dyn TokenSink>, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            prompt: request.prompt_tokens,
            prompt_done: 0,
            last: [0],
            generated: 0,
            max_tokens: request.max_tokens,
            ignore_eos: request.ignore_eos,
            logprobs: request.logprobs,
            sampler: Sampler::new(request.sampling),
            text: TextStream::new(request.stop),
            tokens: Vec::new(),
            sink,
            cancelled,
        }
    }

    pub(crate) fn in_prefill(&self) -> bool {
        self.prompt_done < self.prompt.len()
    }

    /// The next chunk of the prompt, at most `len` tokens.
    pub(crate) fn chunk(&self, len: usize) -> &[u32] {
        let rest = self.prompt.get(self.prompt_done..).unwrap_or_default();
        rest.get(..len).unwrap_or(rest)
    }

    /// Counts `n` tokens of the prompt as processed.
    pub(crate) fn prefilled(&mut self, n: usize) {
        self.prompt_done += n;
    }

    /// The token to decode next, as a run of one.
    pub(crate) fn last(&self) -> &[u32] {
        &self.last
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn cancelled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// Chooses the next token and shows its text.
    pub(crate) fn accept(&mut self, logits: &mut [f32], tokenizer: &Tokenizer) -> Next {
        let raw = self.logprobs.map(|top| (logits.to_vec(), top));
        let token = self.sampler.sample(logits);
        self.last = [token];
        self.generated += 1;
        if !self.ignore_eos && tokenizer.eos_ids().contains(&token) {
            return Next::End(Finish::Stop);
        }
        let logprobs = raw.map(|(raw, top)| sampler::logprobs(&raw, token, top));
        self.tokens.push(PieceToken { id: token, logprobs });
        let released = self.text.push(tokenizer.bytes(token));
        if self.show(released.text).is_break() {
            return Next::End(Finish::Cancelled);
        }
        if released.stopped {
            return Next::End(Finish::Stop);
        }
        match self.generated >= self.max_tokens {
            true => Next::End(Finish::Length),
            false => Next::Continue,
        }
    }

    /// Shows what was held back and tells the sink.
    pub(crate) fn end(mut self, finish: Finish) {
        let text = std::mem::replace(&mut self.text, TextStream::new(Vec::new())).finish();
        let show = matches!(finish, Finish::Stop | Finish::Length);
        if show && (!text.is_empty() || !self.tokens.is_empty()) {
            let tokens = std::mem::take(&mut self.tokens);
            // The sequence ends here either way, so a `Break` changes nothing.
            let _ = self.sink.on_text(Piece { text, tokens });
        }
        let prompt_tokens = u32::try_from(self.prompt_done).unwrap_or(u32::MAX);
        self.sink.on_end(Generated { finish, prompt_tokens, completion_tokens: self.generated });
    }

    fn show(&mut self, text: String) -> ControlFlow<()> {
        if text.is_empty() && self.tokens.len() < TOKENS_HELD_MAX {
            return ControlFlow::Continue(());
        }
        let tokens = std::mem::take(&mut self.tokens);
        self.sink.on_text(Piece { text, tokens })
    }
}
