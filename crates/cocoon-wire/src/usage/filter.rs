//! Drops the one usage-only event of a stream whose app did not ask for it.
//!
//! Everything else passes unchanged and, where possible, as the very same buffer.
//! Only the bytes of an incomplete event that may still become a usage event are held back: an
//! ordinary event is let go as soon as its first choice opens.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::Form;
use super::framer::{Advance, SseFramer, advance_line};
use super::scanner::Scanner;
use crate::limits::HELD_EVENT_MAX;

/// A filter for one answer stream: events, or lines of JSON.
///
/// The usage-only unit has one JSON object with empty `choices` and a `usage` object.
#[derive(Default)]
pub struct SseFilter {
    form: Form,
    framer: SseFramer,
    scanner: Scanner,
    /// Bytes of the current unit from earlier chunks, while it is undecided.
    held: BytesMut,
    /// Whether bytes of the current unit have come.
    in_unit: bool,
    /// Whether the current unit passes whatever follows.
    passes: bool,
}

impl SseFilter {
    /// A filter for one answer stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives what may leave now; usually the very same bytes.
    #[must_use]
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let mut out = Output::new(chunk);
        let mut position = 0_usize;
        if self.form == Form::Unknown {
            (self.form, position) = Form::detect(&out.chunk);
            if self.form == Form::Unknown {
                return out.chunk;
            }
        }
        let mut unit_start = position;
        while position < out.chunk.len() {
            let advance = self.advance(out.chunk.get(position..).unwrap_or_default());
            position = position.saturating_add(advance.consumed);
            self.in_unit = true;
            if advance.unit_ended {
                self.end_unit(unit_start, position, &mut out);
                unit_start = position;
            }
        }
        self.hold_or_let_go(unit_start, &mut out);
        out.finish()
    }

    /// Gives what is still held back at the end of the stream.
    #[must_use]
    pub fn finish(&mut self) -> Bytes {
        let held = self.held.split().freeze();
        // An event that lacks its blank line is none; a line may lack its line feed.
        let is_whole = match self.form {
            Form::Events => self.framer.is_after_event(),
            Form::Json | Form::Unknown => true,
        };
        if is_whole && self.scanner.is_usage_only() { Bytes::new() } else { held }
    }

    fn advance(&mut self, bytes: &[u8]) -> Advance {
        match self.form {
            Form::Events => self.framer.advance(bytes, &mut self.scanner),
            Form::Json | Form::Unknown => advance_line(bytes, !self.in_unit, &mut self.scanner),
        }
    }

    /// Decides a whole unit, the last bytes of which are `start..end` of the chunk.
    fn end_unit(&mut self, start: usize, end: usize, out: &mut Output) {
        if !self.passes && self.scanner.is_usage_only() {
            self.held.clear();
            out.drop_range(start, end);
        } else {
            out.put_before(&mut self.held);
        }
        self.scanner.next_document();
        self.in_unit = false;
        self.passes = false;
    }

    /// Holds the incomplete unit from `start` on, unless it is decided or too long.
    fn hold_or_let_go(&mut self, start: usize, out: &mut Output) {
        if self.passes || !self.in_unit {
            return;
        }
        let held_len = self.held.len().saturating_add(out.chunk.len().saturating_sub(start));
        if self.scanner.may_become_usage_only() && held_len <= HELD_EVENT_MAX {
            self.held.extend_from_slice(out.chunk.get(start..).unwrap_or_default());
            out.drop_range(start, out.chunk.len());
        } else {
            self.passes = true;
            out.put_before(&mut self.held);
        }
    }
}

impl fmt::Debug for SseFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseFilter").field("form", &self.form).field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// What leaves: the chunk itself where nothing is dropped and nothing was held.
struct Output {
    chunk: Bytes,
    /// What leaves before the chunk's bytes from `pass_from` on.
    before: BytesMut,
    pass_from: usize,
}

impl Output {
    fn new(chunk: Bytes) -> Self {
        Self { chunk, before: BytesMut::new(), pass_from: 0 }
    }

    /// Held bytes always belong before everything of this chunk that has not been passed.
    fn put_before(&mut self, held: &mut BytesMut) {
        if !held.is_empty() {
            self.before.unsplit(held.split());
        }
    }

    fn drop_range(&mut self, start: usize, end: usize) {
        let passed = self.chunk.get(self.pass_from..start).unwrap_or_default();
        if !passed.is_empty() && end < self.chunk.len() || !self.before.is_empty() {
            self.before.extend_from_slice(passed);
        } else if !passed.is_empty() {
            // The end of the chunk is dropped: the rest passes as it is.
            self.chunk.truncate(start);
            return;
        }
        self.pass_from = end;
    }

    fn finish(mut self) -> Bytes {
        let rest = self.chunk.split_off(self.pass_from.min(self.chunk.len()));
        if self.before.is_empty() {
            return rest;
        }
        self.before.extend_from_slice(&rest);
        self.before.freeze()
    }
}
