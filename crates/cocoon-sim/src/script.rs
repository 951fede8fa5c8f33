//! What a scripted engine does with one request, as data.
//!
//! A [`Behaviour`] is what tests write, in Rust or as JSON over `POST /__script`; a [`Script`] is
//! the bytes, boundaries and delays that come out of it.

mod media;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::limits::{GENERATED_BYTES_MAX, GENERATED_TOKENS_MAX, SLOW_EVENT_DELAY};

/// What to do with one request.
///
/// As JSON it is an object with `kind`, for example
/// `{"kind":"json","status":200,"body":{"id":"x"}}` or
/// `{"kind":"sse","events":[{"data":"{}","delay_ms":30}]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Behaviour {
    /// The built-in answer that fits the request: a completion (plain, or streamed when it asks for that), embeddings,
    /// scores, a transcript, images.
    Complete,
    /// One JSON answer with a `Content-Length`. A string `body` is sent as it is.
    Json {
        /// HTTP status.
        #[serde(default = "ok")]
        status: u16,
        /// The body: any JSON value, or a string taken verbatim.
        body: Value,
        /// Wait before the head.
        #[serde(default)]
        delay_ms: u64,
    },
    /// Server-sent events, each its own chunk, then `[DONE]`.
    Sse {
        /// The events' `data`.
        events: Vec<Event>,
        /// Whether `data: [DONE]` follows.
        #[serde(default = "yes")]
        done: bool,
        /// What follows the last byte.
        #[serde(default)]
        ending: Ending,
    },
    /// Newline-delimited JSON, each line its own chunk.
    Ndjson {
        /// The lines.
        events: Vec<Event>,
        /// What follows the last byte.
        #[serde(default)]
        ending: Ending,
    },
    /// Any body in pieces as given; nothing is added.
    Raw {
        /// HTTP status.
        #[serde(default = "ok")]
        status: u16,
        /// `Content-Type` of the answer.
        #[serde(default = "event_stream")]
        content_type: String,
        /// More header lines of the answer, to see that they do not come back.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The pieces: each is one write and one HTTP chunk.
        events: Vec<Event>,
        /// What follows the last byte.
        #[serde(default)]
        ending: Ending,
    },
    /// Bytes of every value, which look like events with usage at first.
    Binary {
        /// `Content-Type` of the answer.
        content_type: String,
        /// How many.
        length: u32,
    },
    /// A generated stream of `count` tokens in the request's shape, with usage when asked for.
    Tokens {
        /// Content events.
        count: u32,
        /// Wait before each.
        #[serde(default)]
        delay_ms: u64,
        /// Whether usage is sent even when the request did not ask.
        #[serde(default)]
        force_usage: bool,
        /// What follows the last byte.
        #[serde(default)]
        ending: Ending,
    },
    /// Reads the request and never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
    /// 503 as llama.cpp's server says it while it loads its model.
    Loading,
    /// A completion whose text is the SHA-256 of the request's body in hexadecimal.
    Echo,
}

/// One piece of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What is sent.
    pub data: String,
    /// Wait before it.
    #[serde(default)]
    pub delay_ms: u64,
}

impl Event {
    /// An event without delay.
    pub fn now(data: impl Into<String>) -> Self {
        Self { data: data.into(), delay_ms: 0 }
    }

    /// An event after `delay_ms`.
    pub fn after(delay_ms: u64, data: impl Into<String>) -> Self {
        Self { data: data.into(), delay_ms }
    }
}

/// What follows the last byte of a scripted body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// The body ends properly.
    #[default]
    Finish,
    /// The connection is closed in the middle of the body.
    Cut,
    /// Nothing: the connection stays open and silent.
    Stall,
}

/// Bytes, boundaries and delays of one answer.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) framing: Framing,
    pub(crate) head_delay: Duration,
    pub(crate) steps: Vec<Step>,
    pub(crate) ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) delay: Duration,
    pub(crate) bytes: Bytes,
}

/// What a behaviour comes to for one request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Answer(Script),
    Hang,
    Close,
}

impl Behaviour {
    /// The behaviour that a request's `user` field asks for: `sim:NAME`, `sim:tokens=N` or `sim:{…}`.
    pub(crate) fn from_user_field(user: &str) -> Option<Self> {
        let name = user.strip_prefix("sim:")?;
        if name.starts_with('{') {
            return serde_json::from_str(name).ok();
        }
        if let Some(count) = name.strip_prefix("tokens=") {
            return Some(Self::tokens(count.parse().ok()?));
        }
        Some(match name {
            "hang" => Self::Hang,
            "close" => Self::Close,
            "loading" => Self::Loading,
            "echo" => Self::Echo,
            "cut" => Self::Tokens { count: 3, delay_ms: 0, force_usage: false, ending: Ending::Cut },
            "stall" => Self::Tokens { count: 3, delay_ms: 0, force_usage: false, ending: Ending::Stall },
            "slow" => Self::Tokens {
                count: 1000,
                delay_ms: millis(SLOW_EVENT_DELAY),
                force_usage: false,
                ending: Ending::Finish,
            },
            "error400" => Self::error(400, "the scripted engine refuses this request"),
            "error500" => Self::error(500, "the scripted engine failed"),
            "ndjson" => Self::Ndjson {
                events: vec![
                    Event::now(delta("chat.completion.chunk", "m", "Hi", None).to_string()),
                    Event::now(usage_chunk("m", 3, 1).to_string()),
                ],
                ending: Ending::Finish,
            },
            _ => return None,
        })
    }

    /// A generated stream of `count` tokens without delay.
    #[must_use]
    pub fn tokens(count: u32) -> Self {
        Self::Tokens { count, delay_ms: 0, force_usage: false, ending: Ending::Finish }
    }

    /// An error answer in OpenAI's shape.
    #[must_use]
    pub fn error(status: u16, message: &str) -> Self {
        Self::json(
            status,
            json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}}),
        )
    }

    /// A JSON answer without delay.
    #[must_use]
    pub fn json(status: u16, body: Value) -> Self {
        Self::Json { status, body, delay_ms: 0 }
    }

    pub(crate) fn act(self, request: &Asked) -> Act {
        match self {
            Self::Complete => Act::Answer(complete(request)),
            Self::Json { status, body, delay_ms } => Act::Answer(json_script(status, &body, delay_ms)),
            Self::Sse { events, done, ending } => Act::Answer(sse(events, done, ending)),
            Self::Ndjson { events, ending } => {
                let lines = events.into_iter().map(|e| step(e.delay_ms, format!("{}\n", e.data))).collect();
                Act::Answer(stream("application/json", lines, ending))
            }
            Self::Raw { status, content_type, headers, events, ending } => {
                let steps = events.into_iter().map(|e| step(e.delay_ms, e.data)).collect();
                Act::Answer(Script { status, headers, ..stream(&content_type, steps, ending) })
            }
            Self::Binary { content_type, length } => {
                let length = usize::try_from(length).unwrap_or(0).min(GENERATED_BYTES_MAX);
                Act::Answer(media::binary(&content_type, length))
            }
            Self::Tokens { count, delay_ms, force_usage, ending } => {
                Act::Answer(tokens(request, count.min(GENERATED_TOKENS_MAX), delay_ms, force_usage, ending))
            }
            Self::Hang => Act::Hang,
            Self::Close => Act::Close,
            Self::Loading => Act::Answer(json_script(
                503,
                &json!({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}),
                0,
            )),
            Self::Echo => Act::Answer(echo(request)),
        }
    }
}

/// What of a request decides the built-in answers.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) chat: bool,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) model: String,
    pub(crate) user: Option<String>,
    pub(crate) body_sha256: String,
    path: String,
    content_type: String,
    body: Bytes,
}

impl Asked {
    pub(crate) fn read(path: &str, content_type: &str, body: &Bytes) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            chat: !path.ends_with("/v1/completions"),
            stream: value.get("stream").and_then(Value::as_bool).unwrap_or(false),
            include_usage: value.pointer("/stream_options/include_usage").and_then(Value::as_bool).unwrap_or(false),
            model: text("model").unwrap_or_default(),
            user: text("user"),
            body_sha256: hex(&Sha256::digest(body)),
            path: path.to_owned(),
            content_type: content_type.to_owned(),
            body: body.clone(),
        }
    }

    fn object(&self, streamed: bool) -> &'static str {
        match (self.chat, streamed) {
            (true, true) => "chat.completion.chunk",
            (true, false) => "chat.completion",
            (false, _) => "text_completion",
        }
    }
}

const WORDS: [&str; 8] = ["Hello", " from", " the", " scripted", " engine", ":", " all", " well"];
const PROMPT_TOKENS: u32 = 9;

fn complete(request: &Asked) -> Script {
    if let Some(script) = media::answer(&request.path, &request.content_type, &request.body) {
        return script;
    }
    if request.stream {
        return stream_of(request, &WORDS.map(str::to_owned), 0, request.include_usage, Ending::Finish);
    }
    json_script(200, &completion(request, &WORDS.concat(), 8), 0)
}

fn echo(request: &Asked) -> Script {
    if request.stream {
        return stream_of(
            request,
            std::slice::from_ref(&request.body_sha256),
            0,
            request.include_usage,
            Ending::Finish,
        );
    }
    json_script(200, &completion(request, &request.body_sha256, 1), 0)
}

fn tokens(request: &Asked, count: u32, delay_ms: u64, force_usage: bool, ending: Ending) -> Script {
    let words: Vec<String> = (0..count).map(|i| format!(" t{i}")).collect();
    if request.stream {
        return stream_of(request, &words, delay_ms, force_usage || request.include_usage, ending);
    }
    let mut script = json_script(200, &completion(request, &words.concat(), count), delay_ms);
    script.ending = ending;
    script
}

fn completion(request: &Asked, text: &str, tokens: u32) -> Value {
    let choice = if request.chat {
        json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"})
    } else {
        json!({"index": 0, "text": text, "finish_reason": "stop"})
    };
    json!({"id": "cmpl-sim", "object": request.object(false), "created": 1_700_000_000, "model": request.model,
           "choices": [choice], "usage": usage(PROMPT_TOKENS, tokens)})
}

fn stream_of(request: &Asked, words: &[String], delay_ms: u64, usage: bool, ending: Ending) -> Script {
    let object = request.object(true);
    let mut events = Vec::with_capacity(words.len() + 3);
    if request.chat {
        events.push(Event::now(role_chunk(object, &request.model).to_string()));
    }
    for word in words {
        let chunk = if request.chat {
            delta(object, &request.model, word, None)
        } else {
            text_chunk(object, &request.model, word, None)
        };
        events.push(Event::after(delay_ms, chunk.to_string()));
    }
    if ending == Ending::Finish {
        let last = if request.chat {
            delta(object, &request.model, "", Some("stop"))
        } else {
            text_chunk(object, &request.model, "", Some("stop"))
        };
        events.push(Event::now(last.to_string()));
        if usage {
            let count = u32::try_from(words.len()).unwrap_or(u32::MAX);
            events.push(Event::now(usage_chunk_of(object, &request.model, PROMPT_TOKENS, count).to_string()));
        }
    }
    sse(events, ending == Ending::Finish, ending)
}

fn role_chunk(object: &str, model: &str) -> Value {
    json!({"id": "cmpl-sim", "object": object, "created": 1_700_000_000, "model": model,
           "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]})
}

fn delta(object: &str, model: &str, text: &str, finish: Option<&str>) -> Value {
    let delta = if finish.is_some() { json!({}) } else { json!({"content": text}) };
    json!({"id": "cmpl-sim", "object": object, "created": 1_700_000_000, "model": model,
           "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn text_chunk(object: &str, model: &str, text: &str, finish: Option<&str>) -> Value {
    json!({"id": "cmpl-sim", "object": object, "created": 1_700_000_000, "model": model,
           "choices": [{"index": 0, "text": text, "finish_reason": finish}]})
}

fn usage_chunk(model: &str, prompt: u32, completion: u32) -> Value {
    usage_chunk_of("chat.completion.chunk", model, prompt, completion)
}

fn usage_chunk_of(object: &str, model: &str, prompt: u32, completion: u32) -> Value {
    json!({"id": "cmpl-sim", "object": object, "created": 1_700_000_000, "model": model,
           "choices": [], "usage": usage(prompt, completion)})
}

fn usage(prompt: u32, completion: u32) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt.saturating_add(completion)})
}

fn json_script(status: u16, body: &Value, delay_ms: u64) -> Script {
    let bytes = match body {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => body.to_string(),
    };
    Script {
        status,
        content_type: "application/json".to_owned(),
        headers: Vec::new(),
        framing: Framing::Length,
        head_delay: Duration::from_millis(delay_ms),
        steps: vec![step(0, bytes)],
        ending: Ending::Finish,
    }
}

fn sse(events: Vec<Event>, done: bool, ending: Ending) -> Script {
    let mut steps: Vec<Step> = events.into_iter().map(|e| step(e.delay_ms, format!("data: {}\n\n", e.data))).collect();
    if done {
        steps.push(step(0, "data: [DONE]\n\n".to_owned()));
    }
    stream("text/event-stream", steps, ending)
}

fn stream(content_type: &str, steps: Vec<Step>, ending: Ending) -> Script {
    Script {
        status: 200,
        content_type: content_type.to_owned(),
        headers: Vec::new(),
        framing: Framing::Chunked,
        head_delay: Duration::ZERO,
        steps,
        ending,
    }
}

fn step(delay_ms: u64, bytes: String) -> Step {
    Step { delay: Duration::from_millis(delay_ms), bytes: Bytes::from(bytes) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn ok() -> u16 {
    200
}

fn yes() -> bool {
    true
}

fn event_stream() -> String {
    "text/event-stream".to_owned()
}
