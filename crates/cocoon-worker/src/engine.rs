//! What a worker asks of an inference engine, and the engines there are.
//!
//! - [`openai_http`]: any server with the OpenAI API: vLLM, SGLang, llama.cpp, Ollama.
//! - `embedded`: the engine in this process (feature `engine-embedded`).
//!
//! An engine gets a [`Route`] from a closed list (`cocoon_wire::openai::Endpoint`), two media types and a body, and gives
//! back a status, a media type and a body. Nothing else crosses this line in either direction, so no header or path of an
//! app can reach an engine.

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_wire::Sealed;
use futures_core::Stream;

use crate::error::EngineError;

#[cfg(feature = "engine-embedded")]
pub mod embedded;
pub mod openai_http;

pub use cocoon_wire::openai::Endpoint as Route;

/// An inference engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The models it serves, as far as it is known; empty before it was ever ready.
    fn models(&self) -> Vec<EngineModel>;

    /// Whether it can take requests now. May be asked often.
    async fn health(&self) -> Health;

    /// Runs one request until the answer's head is there.
    ///
    /// Dropping the future, or the answer's body later, cancels the work in the engine.
    ///
    /// # Errors
    /// When there is no answer that an app could be shown; an engine's own 4xx is an answer.
    async fn run(&self, request: EngineRequest) -> Result<EngineAnswer, EngineError>;

    /// How busy it is, as far as it knows.
    fn load(&self) -> EngineLoad {
        EngineLoad::default()
    }
}

/// One model of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineModel {
    /// The name that requests use.
    pub id: String,
}

/// Whether an engine can take requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Ready,
    /// Not yet: it loads its model. Not a fault.
    Loading,
    /// It cannot; the sentence is for the operator's log.
    Failed(String),
}

/// How busy an engine is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineLoad {
    /// Requests that wait inside the engine.
    pub queued: u32,
    /// Requests it can run at once, where it knows.
    pub slots: Option<u32>,
}

/// One request for an engine.
#[derive(Debug, Clone)]
pub struct EngineRequest {
    /// What to do.
    pub route: Route,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// Media types the app takes.
    pub accept: Option<String>,
    /// The body, which already holds the token limit.
    pub body: Sealed,
    /// Most tokens of one choice; none where the route has no token limit.
    pub token_limit: Option<u32>,
}

/// The body of an answer as it comes; dropping it cancels the engine's work.
pub type EngineBody = Pin<Box<dyn Stream<Item = Result<Bytes, EngineError>> + Send>>;

/// One answer of an engine.
pub struct EngineAnswer {
    /// HTTP status.
    pub status: u16,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// The body.
    pub body: EngineBody,
}

/// Shows the status; a body is never shown.
impl fmt::Debug for EngineAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}
