//! The engine in this process: `cocoon-llm` behind the OpenAI API's chat and plain completions, and behind its
//! embeddings ([`EmbeddedEmbeddings`]).
//!
//! 1. `request`: the body becomes a generation, or an OpenAI-shaped 400 that names what is not supported
//!    (images, several prompts), so that nothing is silently ignored that would change an answer.
//!    Unknown fields are ignored.
//! 2. A schema that the answer must keep, of `response_format` or of a call that is demanded, is compiled
//!    off the event loop; one that cannot be is a 400 with the reason.
//! 3. The model's thread hands pieces of text to a channel that has room for every token. Several answers
//!    (`n`) share the work on their prompt, which counts once.
//! 4. `answer`: pieces become events of a stream, or one document at the end; calls of tools are told
//!    from text.
//!
//! Dropping the answer drops the tickets, which ends the generations before their next token.
//! Sequences never share a cache, so nobody can measure what others asked.

mod answer;
mod embeddings;
mod request;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_llm::{ConstraintError, Generated, Llm, Piece, SubmitError, Ticket, TokenSink};
use cocoon_units::Clock;
use futures_util::stream;
use tokio::sync::mpsc;

use self::answer::{Document, Events, Shape};
pub use self::embeddings::EmbeddedEmbeddings;
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
        let mut asked = match self.read(request).await? {
            Ok(asked) => asked,
            Err(refusal) => return Ok(refusal.into()),
        };
        if let Err(refusal) = self.constrain(&mut asked).await? {
            return Ok(refusal.into());
        }
        let shape = Shape {
            route: asked.route,
            id: answer::fresh_id(asked.route),
            created: self.clock.unix_now().as_secs(),
            model: asked.model.clone().unwrap_or_else(|| self.model.clone()),
            reading: asked.reading.clone(),
            llm: self.llm.clone(),
        };
        let (choices, streamed, include_usage) = (asked.choices, asked.stream, asked.include_usage);
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

    /// Binds the generation to its schema, if it has one.
    async fn constrain(&self, asked: &mut Asked) -> Result<Result<(), Refusal>, EngineError> {
        let Some(mut schema) = asked.schema.take() else { return Ok(Ok(())) };
        let (llm, value, unknown) = (self.llm.clone(), schema.value.take(), schema.unknown);
        let compiled = tokio::task::spawn_blocking(move || llm.compile_schema(value, unknown))
            .await
            .map_err(|_| EngineError::Internal("compiling a schema panicked"))?;
        match compiled {
            Ok(constraint) => asked.generation.constraint = Some(constraint),
            Err(ConstraintError::Busy) => return Err(EngineError::EngineOverloaded),
            Err(error) => return Ok(Err(schema.refusal(&error))),
        }
        Ok(Ok(()))
    }

    fn submit(&self, asked: Asked) -> Result<Generation, SubmitError> {
        let context = self.llm.info().context_tokens;
        let room = (asked.generation.max_tokens.min(context) as usize).saturating_add(SPARE_MESSAGES);
        let (sender, messages) = mpsc::channel(room.saturating_mul(asked.choices));
        let sink = |index| Box::new(Sink { index, messages: sender.clone() }) as Box<dyn TokenSink>;
        let ticket = self.llm.submit_choices(asked.generation, (0..asked.choices).map(sink).collect())?;
        Ok(Generation { messages, _ticket: ticket })
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
    Ok(u64::try_from(asked.generation.prompt_tokens.len()).unwrap_or(u64::MAX))
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
            Route::Models => Ok(listed(&self.model)),
            Route::Embeddings
            | Route::Rerank
            | Route::Transcriptions
            | Route::Translations
            | Route::ImageGenerations
            | Route::ImageEdits => {
                Ok(Refusal::wrong_model(&self.model, "a chat model", "/v1/chat/completions", request.route).into())
            }
        }
    }

    fn load(&self) -> EngineLoad {
        EngineLoad { queued: u32::try_from(self.llm.stats().queued).unwrap_or(u32::MAX), slots: Some(self.slots) }
    }
}

/// The answer to a question for models.
fn listed(model: &str) -> EngineAnswer {
    let model = serde_json::json!({"id": model, "object": "model", "created": 0, "owned_by": "cocoon"});
    let list = Bytes::from(serde_json::json!({"object": "list", "data": [model]}).to_string());
    answered("application/json", Box::pin(stream::once(async move { Ok(list) })))
}

fn answered(content_type: &str, body: super::EngineBody) -> EngineAnswer {
    EngineAnswer { status: 200, content_type: Some(content_type.to_owned()), body }
}

/// Messages of one generation beside its tokens: the end, and text that was held back.
const SPARE_MESSAGES: usize = 4;

/// The running choices of one request. Dropping it cancels them.
struct Generation {
    messages: mpsc::Receiver<Message>,
    _ticket: Ticket,
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
