//! One request while it runs: its prompt, its sampling, its text, its sink.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::constraint::{Constrained, TooComplex};
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
    constrained: Option<Constrained>,
    text: TextStream,
    /// Tokens not reported yet.
    tokens: Vec<PieceToken>,
    sink: Box<dyn TokenSink>,
    cancelled: Arc<AtomicBool>,
    /// Further choices of the same prompt, until that is done.
    choices: Vec<Self>,
}

/// What follows a token.
pub(crate) enum Next {
    Continue,
    End(Finish),
}

impl Sequence {
    /// One sequence for every sink, of which the first owns the others until the prompt is done.
    /// A given seed is the first one's; the others count on from it.
    pub(crate) fn new(
        mut request: GenerateRequest,
        sinks: Vec<Box<dyn TokenSink>>,
        cancelled: &Arc<AtomicBool>,
    ) -> Option<Self> {
        let prompt = std::mem::take(&mut request.prompt_tokens);
        let mut choices = Vec::with_capacity(sinks.len());
        for sink in sinks {
            choices.push(Self::choice(request.clone(), sink, Arc::clone(cancelled)));
            request.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(1));
        }
        let rest = choices.split_off(choices.len().min(1));
        let first = choices.pop()?;
        Some(Self { prompt, choices: rest, ..first })
    }

    fn choice(request: GenerateRequest, sink: Box<dyn TokenSink>, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            prompt: request.prompt_tokens,
            prompt_done: 0,
            last: [0],
            generated: 0,
            max_tokens: request.max_tokens,
            ignore_eos: request.ignore_eos,
            logprobs: request.logprobs,
            sampler: Sampler::new(request.sampling),
            constrained: request.constraint.map(|constraint| constraint.begin()),
            text: TextStream::new(request.stop),
            tokens: Vec::new(),
            sink,
            cancelled,
            choices: Vec::new(),
        }
    }

    /// The further choices; each begins where the prompt ends.
    pub(crate) fn take_choices(&mut self) -> Vec<Self> {
        std::mem::take(&mut self.choices)
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
        // The model's own probabilities: before constraint, penalties, bias and temperature.
        let raw = self.logprobs.map(|top| (logits.to_vec(), top));
        if let Some(constrained) = &mut self.constrained
            && let Err(TooComplex) = constrained.mask(logits)
        {
            return Next::End(Finish::Length);
        }
        let token = self.sampler.sample(logits);
        self.last = [token];
        self.generated += 1;
        // A constrained answer can only end where it is complete.
        let may_end = !self.ignore_eos || self.constrained.is_some();
        if may_end && tokenizer.eos_ids().contains(&token) {
            return Next::End(Finish::Stop);
        }
        let constrained = self.constrained.as_mut().map_or(Ok(false), |constrained| constrained.advance(token));
        let logprobs = raw.map(|(raw, top)| sampler::logprobs(&raw, token, top));
        self.tokens.push(PieceToken { id: token, logprobs });
        let released = self.text.push(tokenizer.bytes(token));
        if self.show(released.text).is_break() {
            return Next::End(Finish::Cancelled);
        }
        match constrained {
            _ if released.stopped => Next::End(Finish::Stop),
            Ok(true) => Next::End(Finish::Stop),
            Err(TooComplex) => Next::End(Finish::Length),
            Ok(false) if self.generated >= self.max_tokens => Next::End(Finish::Length),
            Ok(false) => Next::Continue,
        }
    }

    /// Shows what was held back and tells the sink. Choices that have not begun end likewise.
    pub(crate) fn end(mut self, finish: Finish) {
        for choice in self.take_choices() {
            choice.end(finish.clone());
        }
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
