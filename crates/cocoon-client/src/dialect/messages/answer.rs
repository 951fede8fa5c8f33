//! Anthropic's `message`, its blocks and its errors, as they are written.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Frame, Thinking};
use crate::{
    dialect::{
        Violation,
        blocks::{Block, BlockKind, Blocks},
        chat::{BlockEnd, Costs, Finish, Usage},
        write_json,
    },
    limits::DIALECT_ERROR_BYTES,
};

/// The document.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    id: String,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Content<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: MessageUsage,
}

/// A block of it.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Content<'a> {
    Text { text: &'a str },
    Thinking { thinking: &'a str, signature: &'static str },
    ToolUse { id: &'a str, name: &'a str, input: &'a RawValue },
}

/// Counts under this API's names.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct MessageUsage {
    /// Without the cached ones.
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    #[serde(flatten)]
    costs: Costs,
}

impl From<&Usage> for MessageUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.prompt().saturating_sub(usage.cached()),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached(),
            output_tokens: usage.completion(),
            costs: usage.costs(),
        }
    }
}

impl<'a> Message<'a> {
    /// As it is before anything was said.
    pub(super) fn begun(frame: &'a Frame) -> Self {
        Self {
            id: frame.message_id(),
            r#type: "message",
            role: "assistant",
            model: &frame.model,
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: MessageUsage::default(),
        }
    }

    /// As it is at its end.
    pub(super) fn of(frame: &'a Frame, blocks: &'a Blocks) -> Result<Self, Violation> {
        let has_calls = blocks.list.iter().any(|block| matches!(block.kind, BlockKind::Call { .. }));
        let refuses = blocks.list.iter().any(|block| matches!(block.kind, BlockKind::Refusal));
        let stop = blocks.finish.as_ref().map(|finish| Stop::of(frame, finish, has_calls, refuses));
        let content = blocks.list.iter().filter_map(|block| content(frame, block).transpose());
        Ok(Self {
            content: content.collect::<Result<_, _>>()?,
            stop_reason: stop.map(|stop| stop.reason),
            stop_sequence: stop.and_then(|stop| stop.sequence),
            usage: blocks.usage.as_ref().map(MessageUsage::from).unwrap_or_default(),
            ..Self::begun(frame)
        })
    }
}

fn content<'a>(frame: &Frame, block: &'a Block) -> Result<Option<Content<'a>>, Violation> {
    let text = block.text.as_str();
    Ok(match &block.kind {
        BlockKind::Reasoning if frame.thinking == Thinking::Untold => None,
        BlockKind::Reasoning => Some(Content::Thinking { thinking: text, signature: "" }),
        BlockKind::Text | BlockKind::Refusal => Some(Content::Text { text }),
        BlockKind::Call { id, name } => match object(text) {
            Some(input) => Some(Content::ToolUse { id, name, input }),
            // The stop reason says that something is missing; half of a call is not a call.
            None if block.end == Some(BlockEnd::Cut) => None,
            None => return Err(Violation::BadArguments),
        },
    })
}

/// The text as JSON, if it is an object.
fn object(text: &str) -> Option<&RawValue> {
    serde_json::from_str::<&RawValue>(text).ok().filter(|value| value.get().starts_with('{'))
}

/// Why an answer ended, in this API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop<'a> {
    pub(super) reason: &'static str,
    pub(super) sequence: Option<&'a str>,
}

impl<'a> Stop<'a> {
    pub(super) fn of(frame: &Frame, finish: &'a Finish, has_calls: bool, refuses: bool) -> Self {
        let only = |reason| Self { reason, sequence: None };
        match finish {
            Finish::Length => only("max_tokens"),
            Finish::Filtered => only("refusal"),
            Finish::ToolCalls => only("tool_use"),
            // Some engines say `stop` at the end of any answer.
            Finish::Stop { .. } if has_calls => only("tool_use"),
            Finish::Stop { .. } if refuses => only("refusal"),
            Finish::Stop { sequence: Some(sequence) } if frame.stop_sequences.contains(sequence) => {
                Self { reason: "stop_sequence", sequence: Some(sequence) }
            }
            Finish::Stop { .. } => only("end_turn"),
        }
    }
}

/// Anthropic's word for an error of this status.
pub(crate) const fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500..=599 => "api_error",
        _ => "invalid_request_error",
    }
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    r#type: &'static str,
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    r#type: &'a str,
    message: &'a str,
    /// Our own word, beside what this API has.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

/// An error in this API's form.
pub(crate) fn error_body(r#type: &str, message: &str, code: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    write_json(&mut out, &ErrorDocument { r#type: "error", error: ErrorBody { r#type, message, code } });
    out
}

/// An engine's error in this API's form.
pub(in crate::dialect) fn refusal(status: u16, body: &[u8]) -> Bytes {
    #[derive(Deserialize)]
    struct Document {
        error: Option<Words>,
        message: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Plain(String),
        Body { message: String },
    }
    let words = serde_json::from_slice::<Document>(body).ok().and_then(|document| match document.error {
        Some(Words::Plain(words) | Words::Body { message: words }) => Some(words),
        None => document.message,
    });
    let words = words.unwrap_or_else(|| format!("the worker's engine answered with status {status}"));
    let words = words.get(..words.floor_char_boundary(DIALECT_ERROR_BYTES)).unwrap_or_default();
    error_body(anthropic_type(status), words, None).into()
}
