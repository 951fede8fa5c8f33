//! The events of a streamed `response`, each with its type and number.
//!
//! ```text
//! response.created, response.in_progress
//!   response.output_item.added
//!     response.content_part.added
//!       response.output_text.delta …, response.output_text.done        (or refusal, reasoning_text)
//!     response.content_part.done
//!     response.function_call_arguments.delta …, ….done                 (instead of a part)
//!   response.output_item.done
//! response.completed | response.incomplete | response.failed
//! ```

use serde::Serialize;

use super::{
    Frame,
    answer::{Item, Logprobs, Part, Response, Status, item_id},
};
use crate::dialect::{
    Fault, Violation,
    blocks::{Block, BlockKind, Blocks},
    chat::{BlockEnd, Finish, Kind, Teller, Usage},
    write_event,
};

/// Tells one answer. It keeps the text, because the last events repeat it.
#[derive(Debug)]
pub(in crate::dialect) struct Events {
    frame: Frame,
    blocks: Blocks,
    next: u64,
}

/// One event on the wire.
#[derive(Serialize)]
struct Event<T> {
    r#type: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct Whole<'a> {
    response: Response<'a>,
}

#[derive(Serialize)]
struct OfItem<'a> {
    output_index: usize,
    item: Item<'a>,
}

#[derive(Serialize)]
struct OfPart<'a> {
    item_id: &'a str,
    output_index: usize,
    content_index: u32,
    part: Part<'a>,
}

/// A piece of a block, or the whole of it at its end, under the name of its kind.
#[derive(Serialize)]
struct OfText<'a> {
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Logprobs>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    /// The official SDKs raise an error for an event that has this, and hand on one that has not.
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

impl Events {
    pub(in crate::dialect) fn new(frame: Frame) -> Self {
        Self { frame, blocks: Blocks::default(), next: 0 }
    }

    /// The block that came last: the open one.
    fn last(&self) -> Option<Place<'_>> {
        let block = self.blocks.list.last()?;
        let at = self.blocks.list.len().saturating_sub(1);
        Some(Place { at, item_id: item_id(&self.frame, at, &block.kind), block })
    }
}

/// A block and where it is.
struct Place<'a> {
    at: usize,
    item_id: String,
    block: &'a Block,
}

impl<'a> Place<'a> {
    fn has_part(&self) -> bool {
        match self.block.kind {
            BlockKind::Reasoning | BlockKind::Text | BlockKind::Refusal => true,
            BlockKind::Call { .. } => false,
        }
    }

    fn item(&'a self, frame: &Frame, status: Status) -> OfItem<'a> {
        OfItem { output_index: self.at, item: Item::of(frame, self.at, self.block, status) }
    }

    fn part(&'a self) -> OfPart<'a> {
        OfPart { item_id: &self.item_id, output_index: self.at, content_index: 0, part: Part::of(self.block) }
    }

    fn text(&'a self) -> OfText<'a> {
        OfText {
            item_id: &self.item_id,
            output_index: self.at,
            content_index: self.has_part().then_some(0),
            delta: None,
            text: None,
            refusal: None,
            arguments: None,
            name: None,
            logprobs: None,
        }
    }

    fn delta(&'a self, piece: &'a str, logprobs: &str) -> (&'static str, OfText<'a>) {
        let body = OfText { delta: Some(piece), ..self.text() };
        match self.block.kind {
            BlockKind::Reasoning => ("response.reasoning_text.delta", body),
            BlockKind::Refusal => ("response.refusal.delta", body),
            BlockKind::Call { .. } => ("response.function_call_arguments.delta", body),
            BlockKind::Text => {
                ("response.output_text.delta", OfText { logprobs: Some(Logprobs::of(logprobs)), ..body })
            }
        }
    }

    fn done(&'a self) -> (&'static str, OfText<'a>) {
        let (text, body) = (Some(self.block.text.as_str()), self.text());
        match &self.block.kind {
            BlockKind::Reasoning => ("response.reasoning_text.done", OfText { text, ..body }),
            BlockKind::Refusal => ("response.refusal.done", OfText { refusal: text, ..body }),
            BlockKind::Call { name, .. } => {
                ("response.function_call_arguments.done", OfText { arguments: text, name: Some(name), ..body })
            }
            BlockKind::Text => {
                let logprobs = Some(Logprobs::of(&self.block.logprobs));
                ("response.output_text.done", OfText { text, logprobs, ..body })
            }
        }
    }
}

/// Writes one event and counts it.
fn emit(next: &mut u64, r#type: &'static str, body: impl Serialize, out: &mut Vec<u8>) {
    write_event(out, r#type, &Event { r#type, sequence_number: *next, body });
    *next = next.saturating_add(1);
}

impl Teller for Events {
    fn begin(&mut self, out: &mut Vec<u8>) {
        for name in ["response.created", "response.in_progress"] {
            emit(&mut self.next, name, Whole { response: Response::begun(&self.frame) }, out);
        }
    }

    fn open(&mut self, kind: Kind<'_>, out: &mut Vec<u8>) -> Result<(), Violation> {
        self.blocks.open(kind, out)?;
        let mut next = self.next;
        if let Some(place) = self.last() {
            emit(&mut next, "response.output_item.added", place.item(&self.frame, Status::InProgress), out);
            if place.has_part() {
                emit(&mut next, "response.content_part.added", place.part(), out);
            }
        }
        self.next = next;
        Ok(())
    }

    fn piece(&mut self, text: &str, logprobs: &str, out: &mut Vec<u8>) -> Result<(), Violation> {
        self.blocks.piece(text, logprobs, out)?;
        let mut next = self.next;
        if let Some(place) = self.last() {
            let (name, body) = place.delta(text, logprobs);
            emit(&mut next, name, body, out);
        }
        self.next = next;
        Ok(())
    }

    fn close(&mut self, end: BlockEnd, out: &mut Vec<u8>) {
        self.blocks.close(end, out);
        let mut next = self.next;
        if let Some(place) = self.last() {
            let (name, body) = place.done();
            emit(&mut next, name, body, out);
            if place.has_part() {
                emit(&mut next, "response.content_part.done", place.part(), out);
            }
            emit(&mut next, "response.output_item.done", place.item(&self.frame, Status::of(place.block)), out);
        }
        self.next = next;
    }

    fn end(&mut self, finish: &Finish, usage: Option<&Usage>, out: &mut Vec<u8>) {
        self.blocks.end(finish, usage, out);
        let response = Response::ended(&self.frame, &self.blocks);
        let name = match response.status() {
            Status::Incomplete => "response.incomplete",
            Status::InProgress | Status::Completed | Status::Failed => "response.completed",
        };
        emit(&mut self.next, name, Whole { response }, out);
    }

    fn fail(&mut self, fault: &Fault<'_>, out: &mut Vec<u8>) {
        let response = Response::failed(&self.frame, &self.blocks, fault);
        emit(&mut self.next, "response.failed", Whole { response }, out);
        let Fault { message, code, openai_type, .. } = *fault;
        let error = ErrorBody { message, r#type: openai_type, param: None, code };
        emit(&mut self.next, "error", Error { code, message, param: None, error }, out);
    }
}
