//! Anthropic's `/v1/messages` over chat completions.
//!
//! Differences that cannot be told away: tokens are counted by the worker, so a stream gives the prompt's count at its end
//! and not at its beginning; thinking has no signature, and is told only to those who asked for it; what the assistant is
//! to begin with (a prefill) is refused, because most engines would begin anew after it.

mod answer;
mod events;
mod request;

use bytes::Bytes;

use super::{Birth, DialectError, Violation, blocks::Blocks, chat::ChatReader, write_json};
use answer::Message;
pub(super) use answer::refusal;
pub(crate) use answer::{anthropic_type, error_body};
pub(super) use events::Events;

/// What the answer needs to know of the request, and its own name.
#[derive(Debug)]
pub(super) struct Frame {
    birth: Birth,
    model: String,
    /// Whether the app asked for the model's thinking.
    thinking: Thinking,
    /// To tell a stop sequence of the app's from one of the model's own.
    stop_sequences: Vec<String>,
}

/// Whether reasoning is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thinking {
    Told,
    Untold,
}

impl Frame {
    pub(super) const fn birth(&self) -> Birth {
        self.birth
    }

    pub(super) fn kept_bytes(&self) -> usize {
        // A string takes some bytes besides its own.
        let sequences = self.stop_sequences.iter().map(|sequence| sequence.len().saturating_add(64));
        sequences.fold(self.model.len(), usize::saturating_add)
    }

    fn message_id(&self) -> String {
        format!("msg_{}", hex::encode(self.birth.id))
    }
}

pub(super) fn translate(body: &[u8], birth: Birth) -> Result<(Bytes, Frame), DialectError> {
    request::translate(body, birth)
}

/// The `message` document of a whole chat answer.
pub(super) fn whole(frame: &Frame, body: &[u8]) -> Result<Bytes, Violation> {
    let blocks = ChatReader::new(Blocks::default(), frame.birth.id).whole(body)?;
    let mut out = Vec::new();
    write_json(&mut out, &Message::of(frame, &blocks)?);
    Ok(out.into())
}

#[cfg(test)]
mod tests;
