//! OpenAI's `response` and its items, as they are written.

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::Frame;
use crate::dialect::{
    Fault,
    blocks::{Block, BlockKind, Blocks},
    chat::{BlockEnd, Costs, Finish, Usage},
};

/// The document.
#[derive(Debug, Serialize)]
pub(super) struct Response<'a> {
    id: String,
    object: &'static str,
    created_at: u64,
    status: Status,
    background: bool,
    error: Option<ResponseError<'a>>,
    incomplete_details: Option<Incomplete>,
    instructions: Option<&'a RawValue>,
    max_output_tokens: Option<&'a RawValue>,
    max_tool_calls: Option<u64>,
    metadata: OrElse<'a>,
    model: &'a str,
    output: Vec<Item<'a>>,
    parallel_tool_calls: OrElse<'a>,
    previous_response_id: Option<&'a str>,
    prompt_cache_key: Option<&'a RawValue>,
    reasoning: OrElse<'a>,
    safety_identifier: Option<&'a RawValue>,
    service_tier: &'static str,
    store: bool,
    temperature: Option<&'a RawValue>,
    text: OrElse<'a>,
    tool_choice: OrElse<'a>,
    tools: OrElse<'a>,
    top_logprobs: Option<&'a RawValue>,
    top_p: Option<&'a RawValue>,
    truncation: &'static str,
    usage: Option<ResponseUsage>,
    user: Option<&'a RawValue>,
}

/// What the request said, or what holds where it said nothing.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum OrElse<'a> {
    Said(&'a RawValue),
    Default(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

#[derive(Debug, Serialize)]
struct ResponseError<'a> {
    code: &'static str,
    message: &'a str,
}

#[derive(Debug, Serialize)]
struct Incomplete {
    reason: &'static str,
}

/// Counts under this API's names.
#[derive(Debug, Serialize)]
struct ResponseUsage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
    #[serde(flatten)]
    costs: Costs,
}

#[derive(Debug, Serialize)]
struct InputDetails {
    cached_tokens: u64,
}

#[derive(Debug, Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl From<&Usage> for ResponseUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.prompt(),
            input_tokens_details: InputDetails { cached_tokens: usage.cached() },
            output_tokens: usage.completion(),
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning() },
            total_tokens: usage.total(),
            costs: usage.costs(),
        }
    }
}

impl<'a> Response<'a> {
    /// As it is while it is made: no output is listed, which comes in events.
    pub(super) fn begun(frame: &'a Frame) -> Self {
        let echo = &frame.echo;
        let or_else = |said: &'a Option<Box<RawValue>>, default: Value| match said {
            Some(said) => OrElse::Said(said),
            None => OrElse::Default(default),
        };
        Self {
            id: format!("resp_{}", hex::encode(frame.birth.id)),
            object: "response",
            created_at: frame.birth.unix_s,
            status: Status::InProgress,
            background: false,
            error: None,
            incomplete_details: None,
            instructions: echo.instructions.as_deref(),
            max_output_tokens: echo.max_output_tokens.as_deref(),
            max_tool_calls: None,
            metadata: or_else(&echo.metadata, serde_json::json!({})),
            model: &frame.model,
            output: Vec::new(),
            parallel_tool_calls: or_else(&echo.parallel_tool_calls, Value::Bool(true)),
            previous_response_id: None,
            prompt_cache_key: echo.prompt_cache_key.as_deref(),
            reasoning: or_else(&echo.reasoning, serde_json::json!({"effort": null, "summary": null})),
            safety_identifier: echo.safety_identifier.as_deref(),
            service_tier: "default",
            store: false,
            temperature: echo.temperature.as_deref(),
            text: or_else(&echo.text, serde_json::json!({"format": {"type": "text"}})),
            tool_choice: or_else(&echo.tool_choice, Value::from("auto")),
            tools: or_else(&echo.tools, Value::Array(Vec::new())),
            top_logprobs: echo.top_logprobs.as_deref(),
            top_p: echo.top_p.as_deref(),
            truncation: "disabled",
            usage: None,
            user: echo.user.as_deref(),
        }
    }

    /// As it is at its end.
    pub(super) fn ended(frame: &'a Frame, blocks: &'a Blocks) -> Self {
        let reason = match &blocks.finish {
            Some(Finish::Length) => Some("max_output_tokens"),
            Some(Finish::Filtered) => Some("content_filter"),
            Some(Finish::Stop { .. } | Finish::ToolCalls) | None => None,
        };
        Self {
            status: if reason.is_some() { Status::Incomplete } else { Status::Completed },
            incomplete_details: reason.map(|reason| Incomplete { reason }),
            output: output(frame, blocks),
            usage: blocks.usage.as_ref().map(ResponseUsage::from),
            ..Self::begun(frame)
        }
    }

    /// As it is when it broke off.
    pub(super) fn failed(frame: &'a Frame, blocks: &'a Blocks, fault: &Fault<'a>) -> Self {
        Self {
            status: Status::Failed,
            // The word that official clients know; our own is in the `error` event.
            error: Some(ResponseError { code: "server_error", message: fault.message }),
            output: output(frame, blocks),
            usage: blocks.usage.as_ref().map(ResponseUsage::from),
            ..Self::begun(frame)
        }
    }

    pub(super) const fn status(&self) -> Status {
        self.status
    }
}

fn output<'a>(frame: &Frame, blocks: &'a Blocks) -> Vec<Item<'a>> {
    let items = blocks.list.iter().enumerate();
    items.map(|(at, block)| Item::of(frame, at, block, Status::of(block))).collect()
}

impl Status {
    /// Of a block that nothing is added to.
    pub(super) fn of(block: &Block) -> Self {
        if block.end == Some(BlockEnd::Whole) { Self::Completed } else { Self::Incomplete }
    }
}

/// One item of the output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item<'a> {
    Message { id: String, status: Status, role: &'static str, content: Vec<Part<'a>> },
    Reasoning { id: String, status: Status, summary: [(); 0], content: Vec<Part<'a>> },
    FunctionCall { id: String, status: Status, call_id: &'a str, name: &'a str, arguments: &'a str },
}

impl<'a> Item<'a> {
    pub(super) fn of(frame: &Frame, at: usize, block: &'a Block, status: Status) -> Self {
        // An item that has just begun has no part yet.
        let is_begun = status == Status::InProgress;
        let part = |part: Part<'a>| if is_begun { Vec::new() } else { vec![part] };
        let id = item_id(frame, at, &block.kind);
        match &block.kind {
            BlockKind::Reasoning => Self::Reasoning { id, status, summary: [], content: part(Part::of(block)) },
            BlockKind::Text | BlockKind::Refusal => {
                Self::Message { id, status, role: "assistant", content: part(Part::of(block)) }
            }
            BlockKind::Call { id: call_id, name } => {
                Self::FunctionCall { id, status, call_id, name, arguments: &block.text }
            }
        }
    }
}

/// The id of the item at this place of the output.
pub(super) fn item_id(frame: &Frame, at: usize, kind: &BlockKind) -> String {
    let prefix = match kind {
        BlockKind::Reasoning => "rs",
        BlockKind::Text | BlockKind::Refusal => "msg",
        BlockKind::Call { .. } => "fc",
    };
    format!("{prefix}_{}{at:02x}", hex::encode(frame.birth.id))
}

/// The content of an item.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    OutputText { text: &'a str, annotations: [(); 0], logprobs: Logprobs },
    Refusal { refusal: &'a str },
    ReasoningText { text: &'a str },
}

impl<'a> Part<'a> {
    /// Of a block that is no call.
    pub(super) fn of(block: &'a Block) -> Self {
        let text = block.text.as_str();
        match block.kind {
            BlockKind::Reasoning => Self::ReasoningText { text },
            BlockKind::Refusal => Self::Refusal { refusal: text },
            BlockKind::Text | BlockKind::Call { .. } => {
                Self::OutputText { text, annotations: [], logprobs: Logprobs::of(&block.logprobs) }
            }
        }
    }
}

/// The probabilities of tokens as the engine wrote them, or none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Logprobs {
    None([(); 0]),
    Written(Box<RawValue>),
}

impl Logprobs {
    /// From entries of a list.
    pub(super) fn of(entries: &str) -> Self {
        let list = (!entries.is_empty()).then(|| RawValue::from_string(format!("[{entries}]")).ok());
        list.flatten().map_or(Self::None([]), Self::Written)
    }
}
