//! The blocks of one answer as they are kept for a document, or for the events that repeat them. Bounded by their bytes.

use super::{
    Fault,
    chat::{BlockEnd, Finish, Kind, Teller, Usage, Violation},
};
use crate::limits::DIALECT_TEXT_BYTES;

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) list: Vec<Block>,
    bytes: usize,
    pub(super) finish: Option<Finish>,
    pub(super) usage: Option<Usage>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    /// Of a call, its arguments.
    pub(super) text: String,
    /// Entries of a JSON list.
    pub(super) logprobs: String,
    /// None while it is open.
    pub(super) end: Option<BlockEnd>,
}

/// What it is.
#[derive(Debug)]
pub(super) enum BlockKind {
    Reasoning,
    Text,
    Refusal,
    Call { id: String, name: String },
}

impl From<Kind<'_>> for BlockKind {
    fn from(kind: Kind<'_>) -> Self {
        match kind {
            Kind::Reasoning => Self::Reasoning,
            Kind::Text => Self::Text,
            Kind::Refusal => Self::Refusal,
            Kind::Call { id, name } => Self::Call { id: id.to_owned(), name: name.to_owned() },
        }
    }
}

impl Teller for Blocks {
    fn begin(&mut self, _: &mut Vec<u8>) {}

    fn open(&mut self, kind: Kind<'_>, _: &mut Vec<u8>) -> Result<(), Violation> {
        let block = Block { kind: kind.into(), text: String::new(), logprobs: String::new(), end: None };
        self.list.push(block);
        Ok(())
    }

    fn piece(&mut self, text: &str, logprobs: &str, _: &mut Vec<u8>) -> Result<(), Violation> {
        self.bytes = self.bytes.saturating_add(text.len()).saturating_add(logprobs.len());
        if self.bytes > DIALECT_TEXT_BYTES {
            return Err(Violation::TooLong);
        }
        if let Some(block) = self.list.last_mut() {
            block.text.push_str(text);
            if !logprobs.is_empty() {
                let comma = if block.logprobs.is_empty() { "" } else { "," };
                block.logprobs.push_str(comma);
                block.logprobs.push_str(logprobs);
            }
        }
        Ok(())
    }

    fn close(&mut self, end: BlockEnd, _: &mut Vec<u8>) {
        if let Some(block) = self.list.last_mut() {
            block.end = Some(end);
        }
    }

    fn end(&mut self, finish: &Finish, usage: Option<&Usage>, _: &mut Vec<u8>) {
        self.finish = Some(finish.clone());
        self.usage = usage.copied();
    }

    fn fail(&mut self, _: &Fault<'_>, _: &mut Vec<u8>) {}
}
