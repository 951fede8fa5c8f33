//! The `messages` and `tools` of a chat body, as both dialects make them.
//!
//! What an assistant said in several items becomes one message: its reasoning, its text and its tool calls. What the
//! system says at the beginning becomes one message too, because chat templates of many models know one place for it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

/// Messages in order.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a>(Vec<Message<'a>>);

/// One message of a chat body.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
}

/// What a message says.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    /// Null, beside tool calls.
    Nothing,
    Text(Cow<'a, str>),
    /// A string as the app wrote it.
    Written(&'a RawValue),
    Parts(Vec<Part<'a>>),
}

/// One part of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    Text {
        text: &'a RawValue,
    },
    /// Text of ours.
    #[serde(rename = "text")]
    Said {
        text: &'static str,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    InputAudio {
        input_audio: &'a RawValue,
    },
    File {
        file: File<'a>,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct ImageUrl<'a> {
    pub(super) url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
pub(super) struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) filename: Option<&'a RawValue>,
    pub(super) file_data: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct ToolCall<'a> {
    id: Cow<'a, str>,
    r#type: &'static str,
    function: Called<'a>,
}

#[derive(Debug, Serialize)]
struct Called<'a> {
    name: Cow<'a, str>,
    arguments: Cow<'a, str>,
}

/// A tool of a chat body.
#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

/// What it is.
#[derive(Debug, Serialize)]
pub(super) struct Function<'a> {
    pub(super) name: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strict: Option<&'a RawValue>,
}

impl<'a> From<Function<'a>> for Tool<'a> {
    fn from(function: Function<'a>) -> Self {
        Self { r#type: "function", function }
    }
}

impl<'a> Content<'a> {
    /// Parts in their shortest form: one text alone is a string, which every engine takes.
    pub(super) fn of(parts: Vec<Part<'a>>) -> Self {
        match parts.as_slice() {
            [Part::Text { text }] => Self::Written(text),
            _ => Self::Parts(parts),
        }
    }

    /// Itself as one text that can grow, if it has nothing else.
    fn as_text(&mut self) -> Option<&mut String> {
        if !matches!(self, Self::Text(_)) {
            *self = Self::Text(self.text()?.into());
        }
        match self {
            Self::Text(text) => Some(text.to_mut()),
            Self::Nothing | Self::Written(_) | Self::Parts(_) => None,
        }
    }

    /// All of its text, if it has nothing else.
    fn text(&self) -> Option<String> {
        match self {
            Self::Nothing => Some(String::new()),
            Self::Text(text) => Some(text.to_string()),
            Self::Written(text) => serde_json::from_str(text.get()).ok(),
            Self::Parts(parts) => parts.iter().map(Part::text).collect(),
        }
    }
}

impl Part<'_> {
    fn text(&self) -> Option<String> {
        match self {
            Self::Text { text } => serde_json::from_str(text.get()).ok(),
            Self::Said { text } => Some((*text).to_owned()),
            Self::ImageUrl { .. } | Self::InputAudio { .. } | Self::File { .. } => None,
        }
    }
}

impl<'a> Conversation<'a> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn messages(&self) -> &[Message<'a>] {
        &self.0
    }

    /// Adds what the system says; at the beginning, to what it said before.
    pub(super) fn system(&mut self, content: Content<'a>) {
        if let [first] = self.0.as_mut_slice()
            && first.role == "system"
            && let (Some(before), Some(more)) = (first.content.as_text(), content.text())
        {
            // In place: there can be thousands of them.
            before.push_str("\n\n");
            before.push_str(&more);
            return;
        }
        self.push("system", content);
    }

    pub(super) fn user(&mut self, content: Content<'a>) {
        self.push("user", content);
    }

    pub(super) fn tool_result(&mut self, call_id: Cow<'a, str>, content: Content<'a>) {
        self.push("tool", content).tool_call_id = Some(call_id);
    }

    /// Adds text of the assistant, behind what it said before its last tool call or anybody else's message.
    pub(super) fn assistant(&mut self, content: Content<'a>) {
        match self.open_assistant() {
            Some(open) if matches!(open.content, Content::Nothing) && open.tool_calls.is_empty() => {
                open.content = content;
            }
            Some(_) | None => {
                self.push("assistant", content);
            }
        }
    }

    /// Adds reasoning, which precedes what it led to.
    pub(super) fn reasoning(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let open = match self.open_assistant() {
            Some(open) if matches!(open.content, Content::Nothing) && open.tool_calls.is_empty() => open,
            Some(_) | None => self.push("assistant", Content::Nothing),
        };
        open.reasoning_content.get_or_insert_default().push_str(text);
    }

    pub(super) fn tool_call(&mut self, id: Cow<'a, str>, name: Cow<'a, str>, arguments: Cow<'a, str>) {
        let call = ToolCall { id, r#type: "function", function: Called { name, arguments } };
        let is_open = self.open_assistant().is_some();
        let message = match self.0.last_mut() {
            Some(last) if is_open => last,
            Some(_) | None => self.push("assistant", Content::Nothing),
        };
        message.tool_calls.push(call);
    }

    /// Reasoning that led to nothing is no message.
    pub(super) fn close(&mut self) {
        self.0.retain(|message| {
            let is_mute = matches!(message.content, Content::Nothing) && message.tool_calls.is_empty();
            !(message.role == "assistant" && is_mute)
        });
    }

    fn open_assistant(&mut self) -> Option<&mut Message<'a>> {
        self.0.last_mut().filter(|last| last.role == "assistant")
    }

    fn push(&mut self, role: &'static str, content: Content<'a>) -> &mut Message<'a> {
        let message = Message { role, content, reasoning_content: None, tool_calls: Vec::new(), tool_call_id: None };
        self.0.push(message);
        self.0.last_mut().expect("a message was pushed")
    }
}
