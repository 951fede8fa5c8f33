//! Writes what an answer cost into its last usage object, once the end of the answer says so.
//!
//! Bytes leave as they come, usually as the very same buffer, up to the brace that opens a usage object; what follows
//! waits for the end, or for the next usage object, which shows that the first was not the last. An engine that repeats
//! its usage in every event is therefore one event behind, and one that says it once at the end loses nothing.
//!
//! At the end, a cost that the object already has gets the new number in the old one's place, and the missing ones are
//! added behind the last member. Every other byte is the engine's. A body that ends within a usage object, or that goes on
//! for too long after one, passes unchanged.

use std::fmt;

use bytes::{Bytes, BytesMut};
use cocoon_units::{AdjustedTokens, Nano, NanoPerToken};
use memchr::memmem;

use super::Form;
use super::framer::{Advance, SseFramer};
use super::scanner::{CostField, Edge, Scanner};
use crate::limits::{COST_MEMBERS_MAX, HELD_COST_MAX};
use crate::message::TokensUsed;

/// The members of a usage object that say a cost, in the order in which they are added.
const FIELDS: [(CostField, &str); 3] = [
    (CostField::Prompt, "prompt_total_cost"),
    (CostField::Completion, "completion_total_cost"),
    (CostField::Total, "total_cost"),
];

/// What an answer cost, in two parts whose sum is what is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    prompt: Nano,
    completion: Nano,
    total: Nano,
}

impl Cost {
    /// The price of adjusted tokens. `total` counts: where the kinds do not sum to it, since a proxy clamped it, the
    /// prompt is paid first and the completion is what remains. `None` when it does not fit.
    #[must_use]
    pub fn of(tokens: &TokensUsed, price: NanoPerToken) -> Option<Self> {
        let prompt = tokens.prompt.get().saturating_add(tokens.cached.get()).min(tokens.total.get());
        let total = price.cost(tokens.total)?;
        let prompt = price.cost(AdjustedTokens::new(prompt))?;
        Some(Self { prompt, completion: total.checked_sub(prompt)?, total })
    }

    /// Of the prompt, cached tokens included.
    #[must_use]
    pub const fn prompt(&self) -> Nano {
        self.prompt
    }

    /// Of the completion, reasoning included.
    #[must_use]
    pub const fn completion(&self) -> Nano {
        self.completion
    }

    /// Of everything: adjusted tokens times the price of one.
    #[must_use]
    pub const fn total(&self) -> Nano {
        self.total
    }

    /// The bytes of an answer before a [`CostSplicer`] added this cost: what the worker sent. `None` where it added nothing,
    /// or put it in place of a worker's own.
    #[must_use]
    pub fn taken_out(&self, body: &[u8]) -> Option<Vec<u8>> {
        let members: Vec<String> = FIELDS.iter().map(|&(field, name)| self.member(field, name)).collect();
        let added = members.join(",");
        let start = memmem::rfind(body, added.as_bytes())?;
        let (before, rest) = body.split_at_checked(start)?;
        let before = before.strip_suffix(b",").unwrap_or(before);
        Some([before, rest.get(added.len()..)?].concat())
    }

    fn member(&self, field: CostField, name: &str) -> String {
        format!("\"{name}\":{}", self.number(field))
    }

    const fn number(&self, field: CostField) -> u64 {
        match field {
            CostField::Prompt => self.prompt.get(),
            CostField::Completion => self.completion.get(),
            CostField::Total => self.total.get(),
        }
    }
}

/// A splicer for one answer: one JSON document, lines of JSON, or events.
///
/// It changes the length of the body: whoever passes a `Content-Length` on has to know.
#[derive(Default)]
pub struct CostSplicer {
    form: Form,
    framer: SseFramer,
    scanner: Scanner,
    held: Option<Held>,
}

/// A usage object from behind its opening brace, and whatever followed.
#[derive(Default)]
struct Held {
    bytes: BytesMut,
    /// Values of costs that are there, in order.
    values: Vec<Value>,
    /// The value that is being read, from its first byte.
    open_value: Option<(CostField, usize)>,
    closed: Option<Closed>,
}

struct Value {
    field: CostField,
    start: usize,
    end: usize,
}

/// Whether a place could be remembered.
#[derive(PartialEq, Eq)]
enum Noted {
    Kept,
    /// No honest object has so many costs.
    TooMany,
}

#[derive(Clone, Copy)]
struct Closed {
    /// Where the closing brace is.
    brace: usize,
    has_members: bool,
}

impl CostSplicer {
    /// A splicer for one answer.
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
            out.pass(0, position);
        }
        while position < out.chunk.len() {
            let advance = self.advance(out.chunk.get(position..).unwrap_or_default());
            let end = position.saturating_add(advance.consumed);
            match &mut self.held {
                Some(held) => held.bytes.extend_from_slice(out.chunk.get(position..end).unwrap_or_default()),
                None => out.pass(position, end),
            }
            self.decide(&advance, &mut out);
            position = end;
        }
        if self.held.as_ref().is_some_and(Held::is_too_long) {
            self.let_go(&mut out);
        }
        out.finish()
    }

    /// Gives what is still held, with the cost in it where it is known.
    #[must_use]
    pub fn finish(&mut self, cost: Option<&Cost>) -> Bytes {
        let Some(held) = self.held.take() else { return Bytes::new() };
        match (cost, held.closed) {
            (Some(cost), Some(closed)) => held.spliced(cost, closed),
            (None, _) | (_, None) => held.bytes.freeze(),
        }
    }

    fn advance(&mut self, bytes: &[u8]) -> Advance {
        match self.form {
            Form::Events => self.framer.advance(bytes, &mut self.scanner),
            Form::Json | Form::Unknown => {
                let consumed = self.scanner.feed(bytes);
                Advance { consumed, unit_ended: false, edge: self.scanner.edge() }
            }
        }
    }

    /// Starts or ends holding at what was found.
    fn decide(&mut self, advance: &Advance, out: &mut Output) {
        match (advance.edge, &mut self.held) {
            (Some(Edge::UsageOpened), _) => {
                self.let_go(out);
                self.held = Some(Held::default());
            }
            (Some(edge), Some(held)) if held.closed.is_none() => {
                if held.note(edge) == Noted::TooMany {
                    self.let_go(out);
                }
            }
            (Some(_) | None, Some(_) | None) => {}
        }
        if advance.unit_ended {
            self.scanner.next_document();
            if self.held.as_ref().is_some_and(|held| held.closed.is_none()) {
                self.let_go(out);
            }
        }
    }

    /// Gives up on the usage object that is held.
    fn let_go(&mut self, out: &mut Output) {
        if let Some(held) = self.held.take() {
            out.put(held.bytes);
        }
    }
}

impl Held {
    fn is_too_long(&self) -> bool {
        self.bytes.len() > HELD_COST_MAX
    }

    fn note(&mut self, edge: Edge) -> Noted {
        let here = self.bytes.len();
        match edge {
            Edge::UsageOpened => {}
            Edge::CostStarted(field) => self.open_value = Some((field, here.saturating_sub(1))),
            Edge::CostEnded => {
                if let Some((field, start)) = self.open_value.take() {
                    self.values.push(Value { field, start, end: here });
                }
            }
            Edge::UsageClosed { has_members } => {
                self.closed = Some(Closed { brace: here.saturating_sub(1), has_members });
            }
        }
        if self.values.len() <= COST_MEMBERS_MAX { Noted::Kept } else { Noted::TooMany }
    }

    fn spliced(&self, cost: &Cost, closed: Closed) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes.len().saturating_add(ADDED_LEN_MAX));
        let mut copied = 0;
        for value in &self.values {
            out.extend_from_slice(self.bytes.get(copied..value.start).unwrap_or_default());
            out.extend_from_slice(cost.number(value.field).to_string().as_bytes());
            copied = value.end;
        }
        let end_of_members = self.end_of_members(copied, closed);
        out.extend_from_slice(self.bytes.get(copied..end_of_members).unwrap_or_default());
        self.add_missing(cost, closed, &mut out);
        out.extend_from_slice(self.bytes.get(end_of_members..).unwrap_or_default());
        out.freeze()
    }

    /// Behind the last member: before the white space that precedes the closing brace.
    fn end_of_members(&self, from: usize, closed: Closed) -> usize {
        let members = self.bytes.get(from..closed.brace).unwrap_or_default();
        from.saturating_add(members.trim_ascii_end().len())
    }

    fn add_missing(&self, cost: &Cost, closed: Closed, out: &mut BytesMut) {
        let mut comma = if closed.has_members { "," } else { "" };
        for (field, name) in FIELDS {
            if self.values.iter().all(|value| value.field != field) {
                out.extend_from_slice(comma.as_bytes());
                out.extend_from_slice(cost.member(field, name).as_bytes());
                comma = ",";
            }
        }
    }
}

/// Three names, three numbers of 20 digits, quotes, colons and commas.
const ADDED_LEN_MAX: usize = 128;

impl fmt::Debug for CostSplicer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.as_ref().map(|held| held.bytes.len());
        f.debug_struct("CostSplicer").field("form", &self.form).field("held", &held).finish_non_exhaustive()
    }
}

/// What leaves: a stretch of the chunk as it is, or several things joined.
struct Output {
    chunk: Bytes,
    /// What leaves before the stretch.
    before: BytesMut,
    /// The stretch of the chunk that is to leave and not yet in `before`.
    from: usize,
    to: usize,
}

impl Output {
    fn new(chunk: Bytes) -> Self {
        Self { chunk, before: BytesMut::new(), from: 0, to: 0 }
    }

    /// Lets a part of the chunk leave.
    fn pass(&mut self, start: usize, end: usize) {
        if start != self.to {
            self.join();
            self.from = start;
        }
        self.to = end;
    }

    /// Lets bytes of earlier chunks leave, or copies of this one's.
    fn put(&mut self, bytes: BytesMut) {
        self.join();
        self.before.unsplit(bytes);
    }

    fn join(&mut self) {
        self.before.extend_from_slice(self.chunk.get(self.from..self.to).unwrap_or_default());
        self.from = self.to;
    }

    fn finish(mut self) -> Bytes {
        if self.before.is_empty() {
            return self.chunk.slice(self.from..self.to);
        }
        self.join();
        self.before.freeze()
    }
}

#[cfg(test)]
mod tests;
