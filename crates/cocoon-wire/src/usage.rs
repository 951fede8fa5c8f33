//! Finds token usage in an answer as it passes, without holding back or changing a byte.
//!
//! The body is one JSON document, newline-delimited JSON, or server-sent events; the form is found
//! from the first byte, and chunks may be cut anywhere.
//!
//! 1. A form-specific cutter finds the JSON within the bytes (`usage/framer.rs`).
//! 2. A small scanner walks it with one bit a level of nesting and looks only at the keys on the way
//!    to `usage` (`usage/scanner.rs`). Text inside strings is skipped, so an answer that quotes a usage
//!    object fools nobody.
//! 3. Whole events without the letters `usage` are skipped at the speed of a substring search.
//!
//! Nothing is parsed into values and nothing is re-serialised.
//! [`SseFilter`] is the client's counterpart: it drops the one usage event an app did not ask for.
//! [`CostSplicer`] writes what the answer cost into the last usage object.

mod cost;
mod filter;
mod framer;
mod scanner;

use std::fmt;

use cocoon_units::Usage;

use framer::SseFramer;
use scanner::Scanner;

pub use cost::{Cost, CostSplicer};
pub use filter::SseFilter;

/// Reads usage from the chunks of one answer. The last usage object wins, count by count.
///
/// Known names: `usage` at the top, or within `response` or `message`; `prompt_tokens` or
/// `input_tokens`, `completion_tokens` or `output_tokens`, and their `…_details` with
/// `cached_tokens` and `reasoning_tokens`.
#[derive(Default)]
pub struct UsageReader {
    form: Form,
    framer: SseFramer,
    scanner: Scanner,
}

/// Everything that an engine may say of what it used; which of it counts depends on what was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// As [`UsageReader::usage`].
    pub usage: Option<Usage>,
    /// `usage.total_tokens`: rerankers say no more than that.
    pub total: Option<u64>,
    /// Length of audio, in whole seconds begun: `usage.seconds`, or `duration` at the top of a verbose transcript.
    pub seconds: Option<u64>,
}

/// How the JSON lies in the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    /// No byte that tells has come yet.
    #[default]
    Unknown,
    /// One document, or several one after another.
    Json,
    /// Server-sent events.
    Events,
}

impl Form {
    /// The form that a first byte tells; white space and a byte-order mark tell nothing.
    const fn of(byte: u8) -> Self {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf => Self::Unknown,
            b'{' | b'[' => Self::Json,
            _ => Self::Events,
        }
    }

    /// Finds the form in a chunk, and how many bytes precede the telling one.
    fn detect(chunk: &[u8]) -> (Self, usize) {
        let found = chunk.iter().map(|&byte| Self::of(byte)).enumerate();
        let mut telling = found.filter(|(_, form)| *form != Self::Unknown);
        telling.next().map_or((Self::Unknown, chunk.len()), |(offset, form)| (form, offset))
    }
}

impl UsageReader {
    /// A reader for one answer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next bytes of the body; they may be cut anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        if self.form == Form::Unknown {
            let (form, skipped) = Form::detect(rest);
            self.form = form;
            rest = rest.get(skipped..).unwrap_or_default();
        }
        match self.form {
            Form::Unknown => {}
            Form::Json => self.scanner.feed_all(rest),
            Form::Events => self.push_events(rest),
        }
    }

    fn push_events(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            let advance = self.framer.advance(rest, &mut self.scanner);
            rest = rest.get(advance.consumed..).unwrap_or_default();
            if advance.unit_ended {
                self.scanner.next_document();
            }
        }
    }

    /// The latest usage so far; counts that were never named are 0.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let counts = self.scanner.counts();
        counts.any().then(|| Usage {
            prompt: counts.prompt.unwrap_or(0),
            cached: counts.cached.unwrap_or(0),
            completion: counts.completion.unwrap_or(0),
            reasoning: counts.reasoning.unwrap_or(0),
        })
    }

    /// All that was said so far.
    #[must_use]
    pub fn told(&self) -> Told {
        let counts = self.scanner.counts();
        let seconds = counts.seconds.or_else(|| self.scanner.duration());
        Told { usage: self.usage(), total: counts.total, seconds }
    }

    /// Whether a usage object held counts that are none: negative, fractional, beyond 63 bits.
    /// Such an object is ignored; the engine is to blame.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        self.scanner.is_malformed()
    }
}

impl fmt::Debug for UsageReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageReader").field("form", &self.form).field("usage", &self.usage()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
