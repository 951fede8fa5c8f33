//! Generated text in the OpenAI API's words: one document, or server-sent events.

mod calls;
mod logprobs;

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cocoon_llm::{Finish, Generated, Llm, Piece, PieceToken};
use futures_core::Stream;
use serde_json::{Map, Value, json};

pub(super) use self::calls::Reading;
use self::calls::{CallReader, Part};
use super::{Generation, Message};
use crate::engine::Route;
use crate::error::EngineError;

/// What all messages of one answer have in common.
pub(super) struct Shape {
    pub(super) route: Route,
    pub(super) id: String,
    /// Unix seconds.
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) reading: Reading,
    pub(super) llm: Llm,
}

/// One choice while it comes.
#[derive(Clone)]
struct Choice {
    reader: CallReader,
    /// Characters of its text before the next token.
    offset: usize,
    finished: Option<&'static str>,
}

impl Choice {
    fn new(reading: &Reading) -> Self {
        Self { reader: CallReader::new(reading.clone()), offset: 0, finished: None }
    }

    /// The last parts, and the reason of the end.
    fn finish(&mut self, finish: &Finish) -> Result<(Vec<Part>, &'static str), EngineError> {
        let reason = reason(finish)?;
        let parts = self.reader.finish(reason == "stop");
        let called = reason == "stop" && self.reader.calls() > 0;
        let reason = if called { "tool_calls" } else { reason };
        self.finished = Some(reason);
        Ok((parts, reason))
    }
}

/// An id that says nothing and does not repeat.
pub(super) fn fresh_id(route: Route) -> String {
    let random = || RandomState::new().build_hasher().finish();
    let prefix = if route == Route::ChatCompletions { "chatcmpl" } else { "cmpl" };
    format!("{prefix}-{:016x}{:016x}", random(), random())
}

/// What was used, over all choices: the prompt counts once.
#[derive(Default)]
struct Used {
    prompt: u32,
    completion: u32,
}

impl Used {
    fn add(&mut self, end: &Generated) {
        self.prompt = self.prompt.max(end.prompt_tokens);
        self.completion = self.completion.saturating_add(end.completion_tokens);
    }

    fn json(&self) -> Value {
        let Self { prompt, completion } = self;
        // Nothing is ever taken from a cache that another request filled.
        json!({"prompt_tokens": prompt, "completion_tokens": completion,
               "total_tokens": prompt.saturating_add(*completion), "prompt_tokens_details": {"cached_tokens": 0}})
    }
}

/// An answer in one piece.
pub(super) struct Document;

impl Document {
    /// Waits for every choice to end.
    pub(super) async fn gather(
        shape: &Shape,
        mut generation: Generation,
        choices: usize,
    ) -> Result<Bytes, EngineError> {
        let mut answers: Vec<(Choice, Whole)> = vec![(Choice::new(&shape.reading), Whole::default()); choices];
        let mut used = Used::default();
        while answers.iter().any(|(choice, _)| choice.finished.is_none()) {
            match generation.messages.recv().await.ok_or_else(gone)? {
                Message::Text { index, piece } => {
                    if let Some((choice, whole)) = answers.get_mut(index) {
                        whole.add(choice.reader.push(&piece.text));
                        whole.tokens.extend(piece.tokens);
                    }
                }
                Message::End { index, end } => {
                    used.add(&end);
                    if let Some((choice, whole)) = answers.get_mut(index) {
                        whole.add(choice.finish(&end.finish)?.0);
                    }
                }
            }
        }
        let choices = answers.into_iter().enumerate();
        let choices = choices.map(|(index, (choice, whole))| shape.choice(index, choice, whole)).collect();
        let mut document = shape.envelope(shape.object(false), choices);
        document.insert("usage".to_owned(), used.json());
        Ok(Value::Object(document).to_string().into())
    }
}

/// All of one choice.
#[derive(Clone, Default)]
struct Whole {
    text: String,
    /// Names and arguments.
    calls: Vec<(String, String)>,
    tokens: Vec<PieceToken>,
}

impl Whole {
    fn add(&mut self, parts: Vec<Part>) {
        for part in parts {
            match (part, self.calls.last_mut()) {
                (Part::Content(text), _) => self.text.push_str(&text),
                (Part::Call { name }, _) => self.calls.push((name, String::new())),
                (Part::Arguments(text), Some((_, arguments))) => arguments.push_str(&text),
                (Part::Arguments(_), None) => {}
            }
        }
    }
}

/// An answer as events: role, text and calls, finish reason, usage if asked for, `[DONE]`.
pub(super) struct Events {
    shape: Shape,
    choices: Vec<Choice>,
    generation: Generation,
    ready: VecDeque<Bytes>,
    running: usize,
    used: Used,
    include_usage: bool,
}

impl Events {
    pub(super) fn new(shape: Shape, generation: Generation, choices: usize, include_usage: bool) -> Self {
        let mut events = Self {
            choices: vec![Choice::new(&shape.reading); choices],
            shape,
            generation,
            ready: VecDeque::new(),
            running: choices,
            used: Used::default(),
            include_usage,
        };
        if events.shape.is_chat() {
            let content = if events.shape.reading == Reading::Call { Value::Null } else { "".into() };
            for index in 0..choices {
                let delta = json!({"role": "assistant", "content": content});
                events.push(json!({"index": index, "delta": delta, "finish_reason": null}));
            }
        }
        events
    }

    fn handle(&mut self, message: Message) -> Result<(), EngineError> {
        match message {
            Message::Text { index, piece } => self.handle_text(index, &piece),
            Message::End { index, end } => {
                self.used.add(&end);
                let Some(choice) = self.choices.get_mut(index) else { return Ok(()) };
                let (parts, reason) = choice.finish(&end.finish)?;
                self.push_parts(index, parts, Value::Null);
                let last = match self.shape.is_chat() {
                    true => json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": reason}),
                    false => json!({"index": index, "text": "", "logprobs": null, "finish_reason": reason}),
                };
                self.push(last);
                self.running = self.running.saturating_sub(1);
                if self.running == 0 {
                    self.finish();
                }
            }
        }
        Ok(())
    }

    fn handle_text(&mut self, index: usize, piece: &Piece) {
        let Some(choice) = self.choices.get_mut(index) else { return };
        let logprobs = self.shape.logprobs(&piece.tokens, &mut choice.offset);
        let parts = choice.reader.push(&piece.text);
        self.push_parts(index, parts, logprobs);
    }

    /// Probabilities go with the first part, or alone if there is none.
    fn push_parts(&mut self, index: usize, mut parts: Vec<Part>, mut logprobs: Value) {
        if parts.is_empty() && !logprobs.is_null() {
            parts.push(Part::Content(String::new()));
        }
        let mut calls = self.choices.get(index).map_or(0, |choice| choice.reader.calls());
        // The reader has counted the calls that begin in these parts.
        calls = calls.saturating_sub(parts.iter().filter(|part| matches!(part, Part::Call { .. })).count());
        for part in parts {
            let delta = match part {
                Part::Content(text) if !self.shape.is_chat() => {
                    self.push(
                        json!({"index": index, "text": text, "logprobs": logprobs.take(), "finish_reason": null}),
                    );
                    continue;
                }
                Part::Content(text) => json!({"content": text}),
                Part::Call { name } => {
                    calls = calls.saturating_add(1);
                    let function = json!({"name": name, "arguments": ""});
                    let call = json!({"index": calls - 1, "id": call_id(), "type": "function", "function": function});
                    json!({"tool_calls": [call]})
                }
                Part::Arguments(text) => {
                    let call = json!({"index": calls.saturating_sub(1), "function": {"arguments": text}});
                    json!({"tool_calls": [call]})
                }
            };
            self.push(json!({"index": index, "delta": delta, "logprobs": logprobs.take(), "finish_reason": null}));
        }
    }

    fn finish(&mut self) {
        if self.include_usage {
            let mut chunk = self.shape.envelope(self.shape.object(true), Vec::new());
            chunk.insert("usage".to_owned(), self.used.json());
            self.ready.push_back(event(&Value::Object(chunk)));
        }
        self.ready.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
    }

    fn push(&mut self, choice: Value) {
        let chunk = self.shape.envelope(self.shape.object(true), vec![choice]);
        self.ready.push_back(event(&Value::Object(chunk)));
    }
}

impl Stream for Events {
    type Item = Result<Bytes, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.running == 0 {
                return Poll::Ready(None);
            }
            let handled = match ready!(self.generation.messages.poll_recv(cx)) {
                Some(message) => self.handle(message),
                None => Err(gone()),
            };
            if let Err(error) = handled {
                self.running = 0;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl Shape {
    fn is_chat(&self) -> bool {
        self.route == Route::ChatCompletions
    }

    fn object(&self, streamed: bool) -> &'static str {
        match (self.is_chat(), streamed) {
            (true, true) => "chat.completion.chunk",
            (true, false) => "chat.completion",
            (false, _) => "text_completion",
        }
    }

    fn envelope(&self, object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".to_owned(), self.id.clone().into());
        map.insert("object".to_owned(), object.into());
        map.insert("created".to_owned(), self.created.into());
        map.insert("model".to_owned(), self.model.clone().into());
        map.insert("choices".to_owned(), choices.into());
        map
    }

    fn choice(&self, index: usize, mut choice: Choice, whole: Whole) -> Value {
        let Whole { text, calls, tokens } = whole;
        let logprobs = self.logprobs(&tokens, &mut choice.offset);
        let reason = choice.finished;
        if !self.is_chat() {
            return json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason});
        }
        let mut message = json!({"role": "assistant", "content": text});
        if self.reading == Reading::Call || (text.is_empty() && !calls.is_empty()) {
            message["content"] = Value::Null;
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into_iter().map(call).collect();
        }
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason})
    }

    /// The probabilities of the tokens that report them; null when none does.
    fn logprobs(&self, tokens: &[PieceToken], offset: &mut usize) -> Value {
        match self.is_chat() {
            true => logprobs::of_chat(&self.llm, tokens),
            false => logprobs::of_completion(&self.llm, tokens, offset),
        }
    }
}

fn call((name, arguments): (String, String)) -> Value {
    json!({"id": call_id(), "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn call_id() -> String {
    format!("call_{:016x}", RandomState::new().build_hasher().finish())
}

fn event(chunk: &Value) -> Bytes {
    format!("data: {chunk}\n\n").into()
}

fn reason(finish: &Finish) -> Result<&'static str, EngineError> {
    match finish {
        Finish::Stop => Ok("stop"),
        Finish::Length => Ok("length"),
        Finish::Cancelled => Err(EngineError::Internal("the model was stopped")),
        Finish::Failed(why) => Err(EngineError::EngineBroke(why.clone().into())),
    }
}

fn gone() -> EngineError {
    EngineError::Internal("the model's thread is gone")
}
