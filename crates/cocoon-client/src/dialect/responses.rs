//! OpenAI's `/v1/responses` over chat completions.
//!
//! The official API keeps responses, conversations and prompts on its servers. A confidential network keeps nothing, so an
//! answer always says `"store": false`, and whatever names something kept is refused: the app sends the whole
//! conversation, as it does with `store: false` at the original.

mod answer;
mod events;
mod request;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Birth, DialectError, Violation, blocks::Blocks, chat::ChatReader, write_json};
use answer::Response;
pub(super) use events::Events;

/// What the answer repeats of the request, and its own names.
#[derive(Debug)]
pub(super) struct Frame {
    birth: Birth,
    model: String,
    echo: Echo,
}

/// Fields of the request that its answer repeats, as they were written.
#[derive(Debug, Default)]
struct Echo {
    instructions: Option<Box<RawValue>>,
    max_output_tokens: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
    parallel_tool_calls: Option<Box<RawValue>>,
    prompt_cache_key: Option<Box<RawValue>>,
    reasoning: Option<Box<RawValue>>,
    safety_identifier: Option<Box<RawValue>>,
    temperature: Option<Box<RawValue>>,
    text: Option<Box<RawValue>>,
    tool_choice: Option<Box<RawValue>>,
    tools: Option<Box<RawValue>>,
    top_logprobs: Option<Box<RawValue>>,
    top_p: Option<Box<RawValue>>,
    user: Option<Box<RawValue>>,
}

impl Frame {
    pub(super) const fn birth(&self) -> Birth {
        self.birth
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.echo.bytes().saturating_add(self.model.len())
    }
}

impl Echo {
    /// All of it: any of these fields may be as long as a body, since nobody here reads what is in it.
    fn bytes(&self) -> usize {
        let Self {
            instructions,
            max_output_tokens,
            metadata,
            parallel_tool_calls,
            prompt_cache_key,
            reasoning,
            safety_identifier,
            temperature,
            text,
            tool_choice,
            tools,
            top_logprobs,
            top_p,
            user,
        } = self;
        let settings = [max_output_tokens, parallel_tool_calls, reasoning, temperature, top_logprobs, top_p];
        let names = [prompt_cache_key, safety_identifier, user];
        let texts = [instructions, metadata, text, tool_choice, tools];
        let values = settings.into_iter().chain(names).chain(texts).flatten();
        values.map(|value| value.get().len()).fold(0, usize::saturating_add)
    }
}

pub(super) fn translate(body: &[u8], birth: Birth) -> Result<(Bytes, Frame), DialectError> {
    request::translate(body, birth)
}

/// The `response` document of a whole chat answer.
pub(super) fn whole(frame: &Frame, body: &[u8]) -> Result<Bytes, Violation> {
    let blocks = ChatReader::new(Blocks::default(), frame.birth.id).whole(body)?;
    let mut out = Vec::new();
    write_json(&mut out, &Response::ended(frame, &blocks));
    Ok(out.into())
}

#[cfg(test)]
mod tests;
