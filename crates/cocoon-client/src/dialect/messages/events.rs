//! The events of a streamed `message`.
//!
//! ```text
//! message_start, ping
//!   content_block_start, content_block_delta …, content_block_stop     (for each block)
//! message_delta, message_stop  |  error
//! ```

use serde::Serialize;

use super::{
    Frame, Thinking,
    answer::{Message, MessageUsage, Stop, error_body},
};
use crate::dialect::{
    Fault, Violation,
    chat::{BlockEnd, Finish, Kind, Teller, Usage},
    write_event,
};

/// Tells one answer. It keeps nothing of it.
#[derive(Debug)]
pub(in crate::dialect) struct Events {
    frame: Frame,
    /// The blocks that were told.
    blocks: u64,
    /// The kind of the open block; none where it is not told.
    open: Option<DeltaKind>,
    has_calls: bool,
    refuses: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeltaKind {
    Text,
    Thinking,
    Arguments,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart { message: Message<'a> },
    Ping,
    ContentBlockStart { index: u64, content_block: Start<'a> },
    ContentBlockDelta { index: u64, delta: Delta<'a> },
    ContentBlockStop { index: u64 },
    MessageDelta { delta: Ending<'a>, usage: MessageUsage },
    MessageStop,
}

/// A block that has just begun.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Start<'a> {
    Text { text: &'static str },
    Thinking { thinking: &'static str, signature: &'static str },
    ToolUse { id: &'a str, name: &'a str, input: NoInput },
}

/// An object without members, to which the pieces of the arguments come.
#[derive(Serialize)]
struct NoInput {}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

#[derive(Serialize)]
struct Ending<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

impl Event<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::Ping => "ping",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_event(out, self.name(), self);
    }
}

impl Events {
    pub(in crate::dialect) const fn new(frame: Frame) -> Self {
        Self { frame, blocks: 0, open: None, has_calls: false, refuses: false }
    }

    /// The index of the open block.
    const fn index(&self) -> u64 {
        self.blocks.saturating_sub(1)
    }
}

impl Teller for Events {
    fn begin(&mut self, out: &mut Vec<u8>) {
        Event::MessageStart { message: Message::begun(&self.frame) }.write(out);
        Event::Ping.write(out);
    }

    fn open(&mut self, kind: Kind<'_>, out: &mut Vec<u8>) -> Result<(), Violation> {
        let (open, content_block) = match kind {
            Kind::Reasoning if self.frame.thinking == Thinking::Untold => return Ok(()),
            Kind::Reasoning => (DeltaKind::Thinking, Start::Thinking { thinking: "", signature: "" }),
            Kind::Text => (DeltaKind::Text, Start::Text { text: "" }),
            Kind::Refusal => {
                self.refuses = true;
                (DeltaKind::Text, Start::Text { text: "" })
            }
            Kind::Call { id, name } => {
                self.has_calls = true;
                (DeltaKind::Arguments, Start::ToolUse { id, name, input: NoInput {} })
            }
        };
        self.open = Some(open);
        self.blocks = self.blocks.saturating_add(1);
        Event::ContentBlockStart { index: self.index(), content_block }.write(out);
        Ok(())
    }

    fn piece(&mut self, text: &str, _: &str, out: &mut Vec<u8>) -> Result<(), Violation> {
        let delta = match self.open {
            None => return Ok(()),
            Some(DeltaKind::Text) => Delta::Text { text },
            Some(DeltaKind::Thinking) => Delta::Thinking { thinking: text },
            Some(DeltaKind::Arguments) => Delta::InputJson { partial_json: text },
        };
        Event::ContentBlockDelta { index: self.index(), delta }.write(out);
        Ok(())
    }

    fn close(&mut self, _: BlockEnd, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            Event::ContentBlockStop { index: self.index() }.write(out);
        }
    }

    fn end(&mut self, finish: &Finish, usage: Option<&Usage>, out: &mut Vec<u8>) {
        let stop = Stop::of(&self.frame, finish, self.has_calls, self.refuses);
        let delta = Ending { stop_reason: stop.reason, stop_sequence: stop.sequence };
        let usage = usage.map(MessageUsage::from).unwrap_or_default();
        Event::MessageDelta { delta, usage }.write(out);
        Event::MessageStop.write(out);
    }

    fn fail(&mut self, fault: &Fault<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: error\ndata: ");
        out.extend_from_slice(&error_body(fault.anthropic_type, fault.message, Some(fault.code)));
        out.extend_from_slice(b"\n\n");
    }
}
