//! Other APIs over chat completions: OpenAI's `/v1/responses` and Anthropic's `/v1/messages`.
//!
//! The translation happens here, on the app's own host: proxies and workers see a chat completion, so these APIs work with
//! every worker there is, and receipts, usage and prices are those of the chat body on the wire.
//! Nothing is kept between requests: whatever of these APIs would need that is refused by name.
//!
//! 1. `responses::request` and `messages::request` turn a body into a chat body (`conversation`, `members`), and keep what
//!    the answer must repeat.
//! 2. `chat` reads answers: events (`sse`), lines or one document become a series of blocks of text, reasoning and tool
//!    calls. This is where a worker's nonsense ends, and where memory is bounded.
//! 3. `responses::events` and `messages::events` tell the blocks as a stream, the `answer` beside them as one document.
//!
//! No sockets, clocks or randomness: a request's id and time are parameters. What is not asked of the worker in other
//! words travels untouched, also fields that nobody here knows.

mod blocks;
mod chat;
mod conversation;
mod members;
mod messages;
mod responses;
mod sse;

use std::borrow::Cow;

use bytes::Bytes;

use chat::ChatReader;
pub(crate) use chat::Violation;
pub(crate) use messages::{anthropic_type, error_body};

/// The API that an app speaks, where it is not that of chat completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
}

/// What a pure translation cannot know by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    /// Random, for the ids of the answer and its parts.
    pub(crate) id: [u8; 16],
    pub(crate) unix_s: u64,
}

/// A request that is not translated; the app is to blame. Quotes no prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialectError {
    #[error("the body must be a JSON object, without a key given twice")]
    NotAnObject,
    #[error("`{field}` {problem}")]
    Bad { field: String, problem: Cow<'static, str> },
    #[error("`{field}` is not supported: {reason}")]
    Unsupported { field: String, reason: Cow<'static, str> },
}

impl DialectError {
    fn bad(field: impl Into<String>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Bad { field: field.into(), problem: problem.into() }
    }

    fn unsupported(field: impl Into<String>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unsupported { field: field.into(), reason: reason.into() }
    }

    /// The field that is at fault.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::NotAnObject => None,
            Self::Bad { field, .. } | Self::Unsupported { field, .. } => Some(field),
        }
    }
}

/// Why an answer broke off, in words that an app may read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault<'a> {
    pub(crate) message: &'a str,
    /// Our word for it.
    pub(crate) code: &'a str,
    /// OpenAI's word.
    pub(crate) openai_type: &'a str,
    /// Anthropic's word.
    pub(crate) anthropic_type: &'a str,
}

impl Dialect {
    /// The API that a path belongs to, also where the path itself is unknown: its errors are of that API's form.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let is_within = |dialect: &Self| {
            path.strip_prefix(dialect.path()).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        [Self::Responses, Self::Messages].into_iter().find(is_within)
    }

    /// Where requests go.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// Makes a chat body of a request, and what translates its answer back.
    pub(crate) fn translate(self, body: &[u8], birth: Birth) -> Result<(Bytes, Translation), DialectError> {
        match self {
            Self::Responses => {
                let (chat, frame) = responses::translate(body, birth)?;
                Ok((chat, Translation(Frame::Responses(frame))))
            }
            Self::Messages => {
                let (chat, frame) = messages::translate(body, birth)?;
                Ok((chat, Translation(Frame::Messages(frame))))
            }
        }
    }
}

/// Translates the answer to one request.
#[derive(Debug)]
pub(crate) struct Translation(Frame);

/// What a dialect keeps of a request for its answer.
#[derive(Debug)]
enum Frame {
    Responses(responses::Frame),
    Messages(messages::Frame),
}

impl Translation {
    /// Bytes of the request that it keeps.
    pub(crate) fn kept_bytes(&self) -> usize {
        match &self.0 {
            Frame::Responses(frame) => frame.kept_bytes(),
            Frame::Messages(frame) => frame.kept_bytes(),
        }
    }

    /// Translates a whole answer that succeeded.
    pub(crate) fn whole(&self, body: &[u8]) -> Result<Bytes, Violation> {
        match &self.0 {
            Frame::Responses(frame) => responses::whole(frame, body),
            Frame::Messages(frame) => messages::whole(frame, body),
        }
    }

    /// Translates a whole answer that is an engine's error.
    pub(crate) fn refusal(&self, status: u16, body: Bytes) -> Bytes {
        match &self.0 {
            // Engines' errors have OpenAI's form already.
            Frame::Responses(_) => body,
            Frame::Messages(_) => messages::refusal(status, &body),
        }
    }

    /// Translates a stream.
    pub(crate) fn into_events(self) -> DialectEvents {
        DialectEvents(match self.0 {
            Frame::Responses(frame) => {
                let id = frame.birth().id;
                Events::Responses(Box::new(ChatReader::new(responses::Events::new(frame), id)))
            }
            Frame::Messages(frame) => {
                let id = frame.birth().id;
                Events::Messages(Box::new(ChatReader::new(messages::Events::new(frame), id)))
            }
        })
    }
}

/// The events of a streamed answer, as the chat's events come in. `begin` comes first; `finish` or `break_off` last.
#[derive(Debug)]
pub(crate) struct DialectEvents(Events);

#[derive(Debug)]
enum Events {
    Responses(Box<ChatReader<responses::Events>>),
    Messages(Box<ChatReader<messages::Events>>),
}

impl DialectEvents {
    /// What precedes the answer.
    pub(crate) fn begin(&mut self) -> Bytes {
        let mut out = Vec::new();
        match &mut self.0 {
            Events::Responses(reader) => reader.begin(&mut out),
            Events::Messages(reader) => reader.begin(&mut out),
        }
        out.into()
    }

    /// Takes the next bytes of the chat answer, cut anywhere, and adds whole events to `out`.
    pub(crate) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
        match &mut self.0 {
            Events::Responses(reader) => reader.push(chunk, out),
            Events::Messages(reader) => reader.push(chunk, out),
        }
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Violation> {
        match &mut self.0 {
            Events::Responses(reader) => reader.finish(out),
            Events::Messages(reader) => reader.finish(out),
        }
    }

    /// Ends the stream before its time.
    pub(crate) fn break_off(&mut self, fault: &Fault<'_>, out: &mut Vec<u8>) {
        match &mut self.0 {
            Events::Responses(reader) => reader.break_off(fault, out),
            Events::Messages(reader) => reader.break_off(fault, out),
        }
    }
}

/// Writes an event. What apps and workers wrote is repeated as it was written, and may have line breaks between its words:
/// they would tear the event apart, and mean as much as a space there.
fn write_event<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, data: &T) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let start = out.len();
    write_json(out, data);
    for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    out.extend_from_slice(b"\n\n");
}

/// Writes JSON behind what is there.
fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("structs with text keys serialise, and memory takes every byte");
}

#[cfg(test)]
mod tests;
