//! The engine in this process: `cocoon-llm` behind the OpenAI API's chat and plain completions.
//!
//! 1. `request`: the body becomes one generation per choice, or an OpenAI-shaped 400 that names what
//!    is not supported (tools, JSON schemas, images), so that nothing is silently ignored that would
//!    change an answer. Unknown fields are ignored.
//! 2. The model's thread hands pieces of text to a channel that has room for every token.
//! 3. `answer`: pieces become events of a stream, or one document at the end.
//!
//! Dropping the answer drops the tickets, which ends the generations before their next token.
//! Sequences never share a cache, so nobody can measure what others asked.

mod answer;
mod request;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_llm::{Generated, Llm, Piece, SubmitError, Ticket, TokenSink};
use cocoon_units::Clock;
use futures_util::stream;
use tokio::sync::mpsc;

use self::answer::{Document, Events, Shape};
use self::request::{Asked, Refusal};
use super::{Engine, EngineAnswer, EngineLoad, EngineModel, EngineRequest, Health, Route};
use crate::error::EngineError;
use crate::limits::EMBEDDED_INLINE_BYTES_MAX;

/// A model that runs in this process.
pub struct Embedded {
    llm: Llm,
    model: String,
    slots: u32,
    clock: Arc<dyn Clock>,
}

impl Embedded {
    /// Serves a loaded model under a name; `slots` is how many sequences it decodes together.
    #[must_use]
    pub fn new(llm: Llm, model: String, slots: u32, clock: Arc<dyn Clock>) -> Self {
        Self { llm, model, slots, clock }
    }

    async fn generate(&self, request: EngineRequest) -> Result<EngineAnswer, EngineError> {
        let asked = match self.read(request).await? {
            Ok(asked) => asked,
            Err(refusal) => return Ok(refusal.into()),
        };
        let shape = Shape {
            route: asked.route,
            id: answer::fresh_id(asked.route),
            created: self.clock.unix_now().as_secs(),
            model: asked.model.clone().unwrap_or_else(|| self.model.clone()),
            llm: self.llm.clone(),
        };
        let choices = asked.generations.len();
        let (streamed, include_usage) = (asked.stream, asked.include_usage);
        let generation = match self.submit(asked) {
            Ok(generation) => generation,
            Err(SubmitError::Busy) => return Err(EngineError::EngineOverloaded),
            Err(SubmitError::ShuttingDown) => return Err(EngineError::Internal("the model is shutting down")),
            Err(error) => return Ok(Refusal::from(error).into()),
        };
        if streamed {
            let events = Events::new(shape, generation, choices, include_usage);
            return Ok(answered("text/event-stream", Box::pin(events)));
        }
        let document = Document::gather(&shape, generation, choices).await?;
        Ok(answered("application/json", Box::pin(stream::once(async move { Ok(document) }))))
    }

    /// Reads the body; a long prompt is tokenised off the event loop.
    async fn read(&self, request: EngineRequest) -> Result<Result<Asked, Refusal>, EngineError> {
        if request.body.len() <= EMBEDDED_INLINE_BYTES_MAX {
            return Ok(Asked::read(&self.llm, &request));
        }
        let llm = self.llm.clone();
        tokio::task::spawn_blocking(move || Asked::read(&llm, &request))
            .await
            .map_err(|_| EngineError::Internal("reading a prompt panicked"))
    }

    fn submit(&self, asked: Asked) -> Result<Generation, SubmitError> {
        let room: usize = asked.generations.iter().map(|one| one.max_tokens as usize + SPARE_MESSAGES).sum();
        let context = self.llm.info().context_tokens as usize + SPARE_MESSAGES;
        let (sender, messages) = mpsc::channel(room.min(context.saturating_mul(asked.generations.len())));
        let submit = |(index, one)| self.llm.submit(one, Sink { index, messages: sender.clone() });
        let tickets = asked.generations.into_iter().enumerate().map(submit).collect::<Result<_, _>>()?;
        Ok(Generation { messages, _tickets: tickets })
    }

    fn list(&self) -> Bytes {
        let model = serde_json::json!({"id": self.model, "object": "model", "created": 0, "owned_by": "cocoon"});
        serde_json::json!({"object": "list", "data": [model]}).to_string().into()
    }
}

/// How many tokens the prompt of a request has, as this engine counts and reports them: for whoever checks a receipt.
///
/// # Errors
/// Why the engine would refuse the request.
pub fn count_prompt(llm: &Llm, route: Route, body: Bytes) -> Result<u64, String> {
    let request = EngineRequest { route, content_type: None, accept: None, body: body.into(), token_limit: None };
    let asked = Asked::read(llm, &request).map_err(|refusal| refusal.message().to_owned())?;
    // Every choice has the same prompt, and it counts once.
    let prompt = asked.generations.first().map_or(0, |one| one.prompt_tokens.len());
    Ok(u64::try_from(prompt).unwrap_or(u64::MAX))
}

#[async_trait]
impl Engine for Embedded {
    fn models(&self) -> Vec<EngineModel> {
        vec![EngineModel { id: self.model.clone() }]
    }

    async fn health(&self) -> Health {
        Health::Ready
    }

    async fn run(&self, request: EngineRequest) -> Result<EngineAnswer, EngineError> {
        match request.route {
            Route::ChatCompletions | Route::Completions => self.generate(request).await,
            Route::Models => {
                let list = self.list();
                Ok(answered("application/json", Box::pin(stream::once(async move { Ok(list) }))))
            }
        }
    }

    fn load(&self) -> EngineLoad {
        EngineLoad { queued: u32::try_from(self.llm.stats().queued).unwrap_or(u32::MAX), slots: Some(self.slots) }
    }
}

fn answered(content_type: &str, body: super::EngineBody) -> EngineAnswer {
    EngineAnswer { status: 200, content_type: Some(content_type.to_owned()), body }
}

/// Messages of one generation beside its tokens: the end, and text that was held back.
const SPARE_MESSAGES: usize = 4;

/// The running generations of one request. Dropping it cancels them.
struct Generation {
    messages: mpsc::Receiver<Message>,
    _tickets: Vec<Ticket>,
}

/// What the model's thread says of one choice.
enum Message {
    Text { index: usize, piece: Piece },
    End { index: usize, end: Generated },
}

struct Sink {
    index: usize,
    messages: mpsc::Sender<Message>,
}

impl TokenSink for Sink {
    fn on_text(&mut self, piece: Piece) -> ControlFlow<()> {
        // There is room for every token, so this fails only when nobody listens any more.
        match self.messages.try_send(Message::Text { index: self.index, piece }) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn on_end(self: Box<Self>, end: Generated) {
        // As above.
        let _ = self.messages.try_send(Message::End { index: self.index, end });
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("model", &self.model).field("slots", &self.slots).finish_non_exhaustive()
    }
}
