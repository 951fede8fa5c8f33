//! Any engine with the OpenAI HTTP API, reached over plain HTTP on this host or a private network.
//!
//! It is a transport and nothing more: bodies go in and out as they are. What it adds:
//!
//! 1. Health: `GET /health` (llama.cpp, vLLM, SGLang), else `GET /v1/models` (Ollama). 503 means the
//!    model is being loaded, which is not a failure.
//! 2. Connections are kept and used again; a kept one that the engine closed meanwhile is replaced once,
//!    silently.
//! 3. Cancellation: each request owns its connection, so dropping an answer closes the socket at once,
//!    which is what engines stop computing for.
//! 4. Three timeouts: to connect, to the head, and between two pieces of the body.
//!
//! Only `content-type` and `accept` travel to the engine, and only `content-type` back.

mod codec;
mod connection;
mod connector;
mod pool;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use cocoon_wire::openai::BodyKind;
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;

use self::codec::Head;
use self::connection::{AnswerBody, EngineConnection, Unsent};
use self::pool::Pool;
use super::{Engine, EngineAnswer, EngineModel, EngineRequest, Health, Route};
use crate::config::OpenAiHttpConfig;
use crate::error::{ConfigError, EngineError};
use crate::limits::{DISCOVERY_BYTES_MAX, ENGINE_JOINED_BYTES_MAX, HEALTH_TIMEOUT, MEDIA_TYPE_MAX, MODELS_MAX};

pub use self::connector::{Connect, EngineStream, TcpConnector};

/// The engine behind one base URL.
#[derive(Debug)]
pub struct OpenAiHttp {
    connector: Arc<dyn Connect>,
    host: HeaderValue,
    pool: Arc<Pool>,
    models: Mutex<Vec<EngineModel>>,
    connect_timeout: Duration,
    first_byte_timeout: Duration,
    stall_timeout: Duration,
}

impl OpenAiHttp {
    /// An engine at the configured URL. Nothing is connected yet.
    ///
    /// # Errors
    /// When the URL is not plain `http` to a host, or names a public address.
    pub fn new(config: &OpenAiHttpConfig) -> Result<Self, ConfigError> {
        let connector = TcpConnector::parse(&config.url)?;
        let host =
            HeaderValue::from_str(connector.authority()).map_err(|_| ConfigError::EngineUrl("has no valid host"))?;
        Ok(Self::assemble(config, host, Arc::new(connector)))
    }

    /// An engine reached through a connector of the caller's, such as an in-memory one in tests.
    #[must_use]
    pub fn over(config: &OpenAiHttpConfig, connector: Arc<dyn Connect>) -> Self {
        Self::assemble(config, HeaderValue::from_static("engine"), connector)
    }

    fn assemble(config: &OpenAiHttpConfig, host: HeaderValue, connector: Arc<dyn Connect>) -> Self {
        Self {
            connector,
            host,
            pool: Arc::new(Pool::default()),
            models: Mutex::new(Vec::new()),
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
            first_byte_timeout: Duration::from_millis(config.first_byte_timeout_ms),
            stall_timeout: Duration::from_millis(config.stall_timeout_ms),
        }
    }

    /// Sends one request and waits for the head of its answer.
    async fn exchange(&self, request: Outgoing) -> Result<(Head, EngineConnection), EngineError> {
        let limit = self.first_byte_timeout;
        timeout(limit, self.exchange_unbounded(request))
            .await
            .unwrap_or(Err(EngineError::EngineStalled { waiting_for: "its answer", limit }))
    }

    async fn exchange_unbounded(&self, request: Outgoing) -> Result<(Head, EngineConnection), EngineError> {
        if let Some(mut kept) = self.pool.take() {
            match kept.send(self.build(&request)).await {
                Ok(head) => return Ok((head, kept)),
                // The engine closed the kept connection while the request was on its way. An
                // engine that broke on this very request breaks again below, and is reported.
                Err(error) => tracing::debug!(%error, "kept engine connection was stale"),
            }
        }
        let mut fresh = self.connect().await?;
        let head = fresh.send(self.build(&request)).await.map_err(EngineError::EngineBroke)?;
        Ok((head, fresh))
    }

    async fn connect(&self) -> Result<EngineConnection, EngineError> {
        let stream = timeout(self.connect_timeout, self.connector.connect())
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(EngineError::EngineUnreachable)?;
        Ok(EngineConnection::new(stream))
    }

    /// The bytes of a request: a small body right behind its head, for one write.
    fn build(&self, outgoing: &Outgoing) -> Unsent {
        let Outgoing { method, path, content_type, accept, body } = outgoing;
        let joined = if body.len() <= ENGINE_JOINED_BYTES_MAX { body.clone() } else { Bytes::new() };
        let mut head = Vec::with_capacity(256 + joined.len());
        head.extend_from_slice(format!("{method} {path} HTTP/1.1\r\nhost: ").as_bytes());
        head.extend_from_slice(self.host.as_bytes());
        for (name, value) in [("content-type", content_type), ("accept", accept)] {
            let Some(value) = value else { continue };
            head.extend_from_slice(format!("\r\n{name}: ").as_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        if method == Method::POST {
            head.extend_from_slice(format!("\r\ncontent-length: {}", body.len()).as_bytes());
        }
        head.extend_from_slice(b"\r\n\r\n");
        head.extend_from_slice(&joined);
        let rest = if joined.len() == body.len() { Bytes::new() } else { body.clone() };
        Bytes::from(head).chain(rest)
    }

    fn body(&self, head: Head, connection: EngineConnection) -> AnswerBody {
        AnswerBody::new(head.framing, connection, Arc::clone(&self.pool), self.stall_timeout)
    }

    /// The status of a small `GET`, and its body when asked for.
    async fn look(&self, path: &'static str) -> Result<(StatusCode, Bytes), EngineError> {
        let (head, connection) = self.exchange(Outgoing::get(path)).await?;
        let status = head.status;
        let body = self.body(head, connection).collect(DISCOVERY_BYTES_MAX).await?;
        Ok((status, body))
    }

    async fn discover(&self) -> Result<StatusCode, EngineError> {
        let (status, body) = self.look(Route::Models.path()).await?;
        if status.is_success() {
            let list: ModelList =
                serde_json::from_slice(&body).map_err(|_| EngineError::EngineAnswer("no model list"))?;
            let models = list.data.into_iter().take(MODELS_MAX).map(|model| EngineModel { id: model.id }).collect();
            *self.models.lock().unwrap_or_else(PoisonError::into_inner) = models;
        }
        Ok(status)
    }

    async fn check_health(&self) -> Result<StatusCode, EngineError> {
        let (status, _) = self.look("/health").await?;
        let unknown = status == StatusCode::NOT_FOUND;
        if unknown || (status.is_success() && self.models().is_empty()) {
            return self.discover().await;
        }
        Ok(status)
    }
}

#[async_trait]
impl Engine for OpenAiHttp {
    fn models(&self) -> Vec<EngineModel> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn health(&self) -> Health {
        match timeout(HEALTH_TIMEOUT, self.check_health()).await {
            Ok(Ok(status)) if status.is_success() => Health::Ready,
            Ok(Ok(StatusCode::SERVICE_UNAVAILABLE)) => Health::Loading,
            Ok(Ok(status)) => Health::Failed(format!("health check answered {}", status.as_u16())),
            Ok(Err(error)) => Health::Failed(error.to_string()),
            Err(_) => Health::Failed("health check took too long".to_owned()),
        }
    }

    async fn run(&self, request: EngineRequest) -> Result<EngineAnswer, EngineError> {
        let (head, connection) = self.exchange(Outgoing::inference(request)?).await?;
        let status = passable(head.status)?;
        let content_type = media_type(&head)?;
        let body = Box::pin(self.body(head, connection));
        Ok(EngineAnswer { status, content_type, body })
    }
}

/// One request before it is bound to a connection, so that it can be sent twice.
struct Outgoing {
    method: Method,
    path: &'static str,
    content_type: Option<HeaderValue>,
    accept: Option<HeaderValue>,
    body: Bytes,
}

impl Outgoing {
    fn get(path: &'static str) -> Self {
        Self { method: Method::GET, path, content_type: None, accept: None, body: Bytes::new() }
    }

    fn inference(request: EngineRequest) -> Result<Self, EngineError> {
        let method = match request.route.body() {
            BodyKind::Json | BodyKind::Multipart => Method::POST,
            BodyKind::None => Method::GET,
        };
        let header = |value: Option<String>| {
            value.map(HeaderValue::try_from).transpose().map_err(|_| EngineError::Internal("unchecked media type"))
        };
        Ok(Self {
            method,
            path: request.route.path(),
            content_type: header(request.content_type)?,
            accept: header(request.accept)?,
            body: request.body.into_bytes(),
        })
    }
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
}

/// Which statuses are answers that the app may see.
///
/// The engine's own 4xx says what is wrong with the request and passes. 401, 403, 407 and 408 are about
/// the worker's standing with its engine, redirects are never followed, and 429 and 503 let the proxy
/// try another worker.
fn passable(status: StatusCode) -> Result<u16, EngineError> {
    match status.as_u16() {
        code @ (401 | 403 | 407 | 408) => Err(EngineError::EngineStatus(code)),
        429 => Err(EngineError::EngineOverloaded),
        503 => Err(EngineError::EngineLoading),
        code @ (200..=299 | 400..=499) => Ok(code),
        code => Err(EngineError::EngineStatus(code)),
    }
}

fn media_type(head: &Head) -> Result<Option<String>, EngineError> {
    if head.content_encoding.as_ref().is_some_and(|coding| coding != "identity") {
        // No `accept-encoding` is sent, and the header that names it does not travel on.
        return Err(EngineError::EngineAnswer("a content encoding that was not asked for"));
    }
    match head.content_type.as_ref().map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(value)) if value.len() <= MEDIA_TYPE_MAX => Ok(Some(value.to_owned())),
        Some(_) => Err(EngineError::EngineAnswer("a content type that cannot be passed on")),
    }
}
