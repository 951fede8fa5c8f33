//! What a worker asks of an inference engine, and the engines there are.
//!
//! - [`openai_http`]: any server with the OpenAI API: vLLM, SGLang, llama.cpp, Ollama.
//! - `embedded`: the engine in this process (feature `engine-embedded`).
//!
//! An engine gets a [`Route`] from a closed list, two media types and a body, and gives back a
//! status, a media type and a body. Nothing else crosses this line in either direction, so no header
//! or path of an app can reach an engine.

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

/// The only things an engine can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `GET /v1/models`
    Models,
}

impl Route {
    /// The route that a method and a URL name, compared byte for byte.
    ///
    /// Queries, fragments, absolute URLs, dots and percent signs name nothing: there is no
    /// normalisation that could differ from the engine's.
    #[must_use]
    pub fn parse(method: &str, url: &str) -> Option<Self> {
        match (method, url) {
            ("POST", "/v1/chat/completions") => Some(Self::ChatCompletions),
            ("POST", "/v1/completions") => Some(Self::Completions),
            ("GET", "/v1/models") => Some(Self::Models),
            _ => None,
        }
    }

    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Models => "/v1/models",
        }
    }
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
    /// Most tokens of one choice.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_traversal_and_engine_internals_name_no_route() {
        for url in [
            "/metrics",
            "/slots",
            "/props",
            "/tokenize",
            "/health",
            "/v1/chat/completions/",
            "//v1/chat/completions",
            "/v1/../metrics",
            "/v1/chat/completions/../../../metrics",
            "/v1/%2e%2e/metrics",
            "/v1/chat%2fcompletions",
            "/v1/chat/completions?x=1",
            "/v1/chat/completions#x",
            "http://127.0.0.1/v1/chat/completions",
            "/V1/chat/completions",
            "/v1/chat/completions\r\nX: y",
            " /v1/chat/completions",
            "*",
            "",
            "/v1/chat/completions\0",
            "\\v1\\chat\\completions",
            "/v1/models/../../metrics",
        ] {
            for method in ["POST", "GET", "CONNECT", "DELETE"] {
                assert_eq!(Route::parse(method, url), None, "{method} {url:?}");
            }
        }
        assert_eq!(Route::parse("GET", "/v1/chat/completions"), None);
        assert_eq!(Route::parse("POST", "/v1/models"), None);
        assert_eq!(Route::parse("post", "/v1/completions"), None);
    }

    #[test]
    fn routes_name_their_own_paths() {
        for (method, route) in [("POST", Route::ChatCompletions), ("POST", Route::Completions), ("GET", Route::Models)]
        {
            assert_eq!(Route::parse(method, route.path()), Some(route));
        }
    }
}
