//! Reads a chat answer and tells it as a series of blocks: reasoning, text, refusals, tool calls.
//!
//! One block is open at a time. A piece of another kind closes it, and what was closed is never added to: engines send
//! answers in this order, and the protocols that are told from it know no other.
//!
//! Whatever a worker sends becomes blocks or a [`Violation`]: an answer without an end, tool calls out of order or in
//! thousands, text behind the end, counts that are none. After a violation nothing more is read.

mod chunk;

use std::fmt;

use serde_json::value::RawValue;

use super::{Fault, sse::Sse};
use crate::limits::{DIALECT_BLOCKS, DIALECT_ERROR_BYTES, DIALECT_NAME_BYTES, DIALECT_TOOL_CALLS};
use chunk::{Call, Choice, Chunk, text};
pub(super) use chunk::{Costs, Usage};

/// An answer that cannot be translated; a worker, or its engine, is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("the worker's answer is not one of chat completions")]
    Malformed,
    #[error("the worker's answer is in an order that makes no sense")]
    OutOfOrder,
    #[error("the worker's answer is too long to be translated")]
    TooLong,
    #[error("the worker's answer has too many parts to be translated")]
    TooManyBlocks,
    #[error("the worker's answer ended before it was complete")]
    Unfinished,
    #[error("the model called a tool with arguments that are no JSON object")]
    BadArguments,
    #[error("{0}")]
    Engine(String),
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Reasoning,
    Text,
    Refusal,
    Call { id: &'a str, name: &'a str },
}

/// How a block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockEnd {
    Whole,
    /// The answer ended within it.
    Cut,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// The model was done, or came upon a stop sequence, which some engines name.
    Stop {
        sequence: Option<String>,
    },
    Length,
    ToolCalls,
    Filtered,
}

/// Tells blocks in words of its own. Calls come in this order: `begin`, then for each block `open`, `piece`s and `close`,
/// then `end`; `fail` can come instead of any of them but the first, and is the last.
pub(super) trait Teller: fmt::Debug {
    fn begin(&mut self, out: &mut Vec<u8>);

    fn open(&mut self, kind: Kind<'_>, out: &mut Vec<u8>) -> Result<(), Violation>;

    /// More of the open block; `logprobs` are entries of a JSON list.
    fn piece(&mut self, text: &str, logprobs: &str, out: &mut Vec<u8>) -> Result<(), Violation>;

    fn close(&mut self, end: BlockEnd, out: &mut Vec<u8>);

    fn end(&mut self, finish: &Finish, usage: Option<&Usage>, out: &mut Vec<u8>);

    fn fail(&mut self, fault: &Fault<'_>, out: &mut Vec<u8>);
}

/// Reads one answer for one teller.
#[derive(Debug)]
pub(super) struct ChatReader<T> {
    sse: Sse,
    state: State<T>,
}

#[derive(Debug)]
struct State<T> {
    teller: T,
    open: Option<Open>,
    blocks: usize,
    /// The highest index of a tool call so far.
    last_call: Option<u64>,
    /// For the ids of tool calls that the engine gave none.
    id: [u8; 16],
    finish: Option<Finish>,
    usage: Option<Usage>,
    is_over: bool,
}

/// The open block.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Open {
    Reasoning,
    Text,
    Refusal,
    Call { index: u64, id: String, is_empty: bool },
}

impl<T: Teller> ChatReader<T> {
    pub(super) fn new(teller: T, id: [u8; 16]) -> Self {
        let state =
            State { teller, open: None, blocks: 0, last_call: None, id, finish: None, usage: None, is_over: false };
        Self { sse: Sse::default(), state }
    }

    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        self.state.teller.begin(out);
    }

    /// Takes bytes of a stream.
    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
        if self.state.is_over {
            return Ok(());
        }
        let state = &mut self.state;
        let read = self.sse.push(chunk, |data| state.event(data, out));
        self.check(read)
    }

    /// Ends a stream.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Violation> {
        if self.state.is_over {
            return Ok(());
        }
        let state = &mut self.state;
        let read = self.sse.finish(|data| state.event(data, out)).and_then(|()| self.state.end(out));
        self.check(read)
    }

    /// Reads a whole answer, and gives back who was told.
    pub(super) fn whole(mut self, body: &[u8]) -> Result<T, Violation> {
        let mut out = Vec::new();
        self.state.teller.begin(&mut out);
        self.state.event(body, &mut out)?;
        self.state.end(&mut out)?;
        Ok(self.state.teller)
    }

    pub(super) fn break_off(&mut self, fault: &Fault<'_>, out: &mut Vec<u8>) {
        self.state.is_over = true;
        self.state.teller.fail(fault, out);
    }

    fn check(&mut self, read: Result<(), Violation>) -> Result<(), Violation> {
        self.state.is_over |= read.is_err();
        read
    }
}

impl<T: Teller> State<T> {
    /// Takes one event, or the whole answer.
    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
        if data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_slice(data).map_err(|_| Violation::Malformed)?;
        if let Some(error) = chunk.error {
            return Err(Violation::Engine(engine_words(&error)));
        }
        if let Some(usage) = chunk.usage {
            self.usage = Some(usage);
        }
        match chunk.choices.and_then(|choices| choices.0.into_iter().next()) {
            Some(choice) => self.choice(choice, out),
            None => Ok(()),
        }
    }

    fn choice(&mut self, choice: Choice, out: &mut Vec<u8>) -> Result<(), Violation> {
        if choice.index.is_some_and(|index| index != 0) {
            return Err(Violation::OutOfOrder);
        }
        let logprobs = choice.logprobs;
        let entries = logprobs.as_ref().map(chunk::Logprobs::entries).unwrap_or_default();
        if let Some(mut delta) = choice.delta {
            self.piece(&Open::Reasoning, &delta.take_reasoning().unwrap_or_default(), "", out)?;
            self.piece(&Open::Text, &delta.content.unwrap_or_default(), entries, out)?;
            self.piece(&Open::Refusal, &delta.refusal.unwrap_or_default(), "", out)?;
            for call in delta.tool_calls.map(|calls| calls.0).unwrap_or_default() {
                self.call(call, out)?;
            }
        }
        match choice.finish_reason.as_deref() {
            None | Some("") => Ok(()),
            Some(reason) => self.finish(reason, choice.stop_reason.as_deref(), out),
        }
    }

    /// Adds to the open block of this kind, or to a new one.
    fn piece(&mut self, kind: &Open, text: &str, logprobs: &str, out: &mut Vec<u8>) -> Result<(), Violation> {
        if text.is_empty() {
            return Ok(());
        }
        if self.open.as_ref() != Some(kind) {
            let told = match kind {
                Open::Reasoning => Kind::Reasoning,
                Open::Refusal => Kind::Refusal,
                Open::Text | Open::Call { .. } => Kind::Text,
            };
            self.open(kind.clone(), told, out)?;
        }
        self.teller.piece(text, logprobs, out)
    }

    fn call(&mut self, call: Call, out: &mut Vec<u8>) -> Result<(), Violation> {
        let function = call.function.as_ref();
        let name = function.and_then(|function| function.name.as_deref()).filter(|name| !name.is_empty());
        let id = call.id.as_deref().filter(|id| !id.is_empty());
        if !self.continues(call.index, id, name) {
            self.open_call(call.index, id, name.ok_or(Violation::OutOfOrder)?, out)?;
        }
        let arguments = function.and_then(|function| function.arguments.as_deref()).unwrap_or_default();
        if arguments.is_empty() {
            return Ok(());
        }
        if let Some(Open::Call { is_empty, .. }) = &mut self.open {
            *is_empty = false;
        }
        self.teller.piece(arguments, "", out)
    }

    /// Whether these are more arguments of the open call. Some engines give every call the index 0 and an id of its own,
    /// some give a whole call neither.
    fn continues(&self, index: Option<u64>, id: Option<&str>, name: Option<&str>) -> bool {
        let Some(Open::Call { index: open_index, id: open_id, .. }) = &self.open else { return false };
        let is_bare = index.is_none() && id.is_none() && name.is_some();
        !is_bare && index.is_none_or(|index| index == *open_index) && id.is_none_or(|id| id == open_id)
    }

    fn open_call(
        &mut self,
        index: Option<u64>,
        id: Option<&str>,
        name: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        let next = self.last_call.map_or(0, |last| last.saturating_add(1));
        let index = match index {
            // An index that was there already begins another call only under an id of its own.
            Some(index) if index < next && id.is_none() => return Err(Violation::OutOfOrder),
            Some(index) => index,
            None => next,
        };
        if usize::try_from(index).map_or(true, |index| index >= DIALECT_TOOL_CALLS) {
            return Err(Violation::TooManyBlocks);
        }
        if name.len() > DIALECT_NAME_BYTES || id.is_some_and(|id| id.len() > DIALECT_NAME_BYTES) {
            return Err(Violation::TooLong);
        }
        let id = id.map_or_else(|| format!("call_{}{:02x}", hex::encode(self.id), self.blocks), str::to_owned);
        self.last_call = Some(index.max(self.last_call.unwrap_or(0)));
        let kind = Kind::Call { id: &id, name };
        self.open(Open::Call { index, id: id.clone(), is_empty: true }, kind, out)
    }

    fn open(&mut self, open: Open, kind: Kind<'_>, out: &mut Vec<u8>) -> Result<(), Violation> {
        if self.finish.is_some() {
            return Err(Violation::OutOfOrder);
        }
        self.close(BlockEnd::Whole, out)?;
        self.blocks = self.blocks.saturating_add(1);
        if self.blocks > DIALECT_BLOCKS {
            return Err(Violation::TooManyBlocks);
        }
        self.open = Some(open);
        self.teller.open(kind, out)
    }

    fn close(&mut self, end: BlockEnd, out: &mut Vec<u8>) -> Result<(), Violation> {
        match self.open.take() {
            None => return Ok(()),
            // A call of a tool that takes nothing: apps parse what they get.
            Some(Open::Call { is_empty: true, .. }) if end == BlockEnd::Whole => self.teller.piece("{}", "", out)?,
            Some(Open::Call { .. } | Open::Reasoning | Open::Text | Open::Refusal) => {}
        }
        self.teller.close(end, out);
        Ok(())
    }

    fn finish(&mut self, reason: &str, stop: Option<&RawValue>, out: &mut Vec<u8>) -> Result<(), Violation> {
        if self.finish.is_some() {
            // Said again, as some engines do with the usage.
            return Ok(());
        }
        let finish = match reason {
            "length" => Finish::Length,
            "tool_calls" | "function_call" => Finish::ToolCalls,
            "content_filter" => Finish::Filtered,
            "abort" | "error" => return Err(Violation::Unfinished),
            _ => Finish::Stop { sequence: stop.and_then(text).filter(|stop| stop.len() <= DIALECT_NAME_BYTES) },
        };
        let end = match finish {
            Finish::Length | Finish::Filtered => BlockEnd::Cut,
            Finish::Stop { .. } | Finish::ToolCalls => BlockEnd::Whole,
        };
        self.close(end, out)?;
        self.finish = Some(finish);
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Violation> {
        let finish = self.finish.take().ok_or(Violation::Unfinished)?;
        self.is_over = true;
        self.teller.end(&finish, self.usage.as_ref(), out);
        Ok(())
    }
}

/// What an engine says about an error, if it says it in words.
fn engine_words(error: &RawValue) -> String {
    #[derive(serde::Deserialize)]
    struct Words {
        message: Option<String>,
    }
    let words = text(error).or_else(|| serde_json::from_str::<Words>(error.get()).ok()?.message);
    let mut words = words.filter(|words| !words.is_empty()).unwrap_or_else(|| "the engine failed".to_owned());
    words.truncate(words.floor_char_boundary(DIALECT_ERROR_BYTES));
    words
}
