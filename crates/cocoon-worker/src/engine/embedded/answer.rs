//! Generated text in the OpenAI API's words: one document, or server-sent events.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cocoon_llm::{Finish, Generated, Llm, Piece, PieceToken};
use futures_core::Stream;
use serde_json::{Map, Value, json};

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
    pub(super) llm: Llm,
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
        let mut texts: Vec<(String, Vec<PieceToken>)> = vec![Default::default(); choices];
        let mut finished: Vec<Option<&'static str>> = vec![None; choices];
        let mut used = Used::default();
        while finished.iter().any(Option::is_none) {
            match generation.messages.recv().await.ok_or_else(gone)? {
                Message::Text { index, piece } => {
                    if let Some((text, tokens)) = texts.get_mut(index) {
                        text.push_str(&piece.text);
                        tokens.extend(piece.tokens);
                    }
                }
                Message::End { index, end } => {
                    used.add(&end);
                    if let Some(place) = finished.get_mut(index) {
                        *place = Some(reason(&end.finish)?);
                    }
                }
            }
        }
        let choices = texts.iter().zip(finished).enumerate();
        let choices =
            choices.map(|(index, ((text, tokens), reason))| shape.choice(index, text, tokens, reason)).collect();
        let mut document = shape.envelope(shape.object(false), choices);
        document.insert("usage".to_owned(), used.json());
        Ok(Value::Object(document).to_string().into())
    }
}

/// An answer as events: role, text, finish reason, usage if asked for, `[DONE]`.
pub(super) struct Events {
    shape: Shape,
    generation: Generation,
    ready: VecDeque<Bytes>,
    running: usize,
    used: Used,
    include_usage: bool,
}

impl Events {
    pub(super) fn new(shape: Shape, generation: Generation, choices: usize, include_usage: bool) -> Self {
        let mut events =
            Self { shape, generation, ready: VecDeque::new(), running: choices, used: Used::default(), include_usage };
        if events.shape.is_chat() {
            for index in 0..choices {
                events.push(
                    json!({"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}),
                );
            }
        }
        events
    }

    fn handle(&mut self, message: Message) -> Result<(), EngineError> {
        match message {
            Message::Text { index, piece } => self.handle_text(index, &piece),
            Message::End { index, end } => {
                let reason = reason(&end.finish)?;
                self.used.add(&end);
                self.push(self.shape.chunk(index, "", &[], Some(reason)));
                self.running = self.running.saturating_sub(1);
                if self.running == 0 {
                    self.finish();
                }
            }
        }
        Ok(())
    }

    fn handle_text(&mut self, index: usize, piece: &Piece) {
        let reported = piece.tokens.iter().any(|token| token.logprobs.is_some());
        if !piece.text.is_empty() || reported {
            self.push(self.shape.chunk(index, &piece.text, &piece.tokens, None));
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

    fn choice(&self, index: usize, text: &str, tokens: &[PieceToken], reason: Option<&str>) -> Value {
        let logprobs = self.logprobs(tokens);
        if self.is_chat() {
            let message = json!({"role": "assistant", "content": text});
            return json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason});
        }
        json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
    }

    fn chunk(&self, index: usize, text: &str, tokens: &[PieceToken], reason: Option<&str>) -> Value {
        let logprobs = self.logprobs(tokens);
        if self.is_chat() {
            let delta = if reason.is_some() { json!({}) } else { json!({"content": text}) };
            return json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason});
        }
        json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
    }

    /// The probabilities of the tokens that report them; null when none does.
    fn logprobs(&self, tokens: &[PieceToken]) -> Value {
        let reported: Vec<_> = tokens.iter().filter_map(|token| Some((token.id, token.logprobs.as_ref()?))).collect();
        if reported.is_empty() {
            return Value::Null;
        }
        if self.is_chat() {
            let content = reported.iter().map(|(id, one)| {
                let top: Vec<Value> = one.top.iter().map(|&(id, logprob)| self.token(id, logprob)).collect();
                let mut token = self.token(*id, one.logprob);
                token["top_logprobs"] = top.into();
                token
            });
            return json!({"content": content.collect::<Vec<_>>()});
        }
        let texts: Vec<_> = reported.iter().map(|(id, _)| self.text(*id)).collect();
        let logprobs: Vec<_> = reported.iter().map(|(_, one)| finite(one.logprob)).collect();
        let top = reported.iter().map(|(_, one)| {
            one.top.iter().map(|&(id, logprob)| (self.text(id), Value::from(finite(logprob)))).collect::<Map<_, _>>()
        });
        json!({"tokens": texts, "token_logprobs": logprobs, "top_logprobs": top.collect::<Vec<_>>()})
    }

    fn token(&self, id: u32, logprob: f32) -> Value {
        json!({"token": self.text(id), "logprob": finite(logprob), "bytes": self.llm.token_bytes(id)})
    }

    fn text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.llm.token_bytes(id)).into_owned()
    }
}

/// JSON has no infinity; the API's word for "practically impossible" is -9999.
fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
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
