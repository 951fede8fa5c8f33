//! An embedding model in this process behind `/v1/embeddings`.
//!
//! 1. `request::embeddings`: the body becomes tokens, or an OpenAI-shaped 400 that names what is wrong: a text above the
//!    model's tokens (nothing is cut off), `dimensions`, an unknown encoding.
//! 2. The model's thread computes the vectors, in turns with other requests. Dropping the request drops its ticket,
//!    which ends the work before the next layer.
//! 3. The answer's body is written as it is read: the text of two thousand vectors is never in memory as a whole.

use std::fmt;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cocoon_llm::{EmbedError, EmbedFailure, Embedder};
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::request::{Encoding, Refusal, Wanted};
use super::{answered, listed};
use crate::engine::{Engine, EngineAnswer, EngineBody, EngineLoad, EngineModel, EngineRequest, Health, Route};
use crate::error::EngineError;
use crate::limits::{EMBEDDED_INLINE_BYTES_MAX, EMBEDDED_VECTORS_PER_PIECE};

/// An embedding model that runs in this process.
pub struct EmbeddedEmbeddings {
    embedder: Embedder,
    model: String,
    slots: u32,
}

impl EmbeddedEmbeddings {
    /// Serves a loaded model under a name; `slots` is how many requests it is offered at once, which take turns.
    #[must_use]
    pub fn new(embedder: Embedder, model: String, slots: u32) -> Self {
        Self { embedder, model, slots }
    }

    async fn embed(&self, request: EngineRequest) -> Result<EngineAnswer, EngineError> {
        let Wanted { model, encoding, texts } = match self.read(request).await? {
            Ok(wanted) => wanted,
            Err(refusal) => return Ok(refusal.into()),
        };
        let (count, tokens) = (texts.len(), texts.iter().map(Vec::len).sum());
        let (sender, vectors) = oneshot::channel();
        // Nobody listens any more once the request was given up.
        let submitted = self.embedder.submit(texts, move |outcome| drop(sender.send(outcome)));
        let ticket = match submitted {
            Ok(ticket) => ticket,
            Err(EmbedError::Busy) => return Err(EngineError::EngineOverloaded),
            Err(EmbedError::ShuttingDown) => return Err(EngineError::Internal("the model is shutting down")),
            Err(error) => return Ok(Refusal::of_embedding(error, count).into()),
        };
        let vectors = vectors.await.map_err(|_| EngineError::Internal("the model's thread is gone"))?;
        drop(ticket);
        let vectors = vectors.map_err(failed)?;
        let document = Document { model: model.unwrap_or_else(|| self.model.clone()), encoding, vectors, tokens };
        Ok(answered("application/json", document.body()))
    }

    /// Reads the body; a long one is tokenised off the event loop.
    async fn read(&self, request: EngineRequest) -> Result<Result<Wanted, Refusal>, EngineError> {
        if request.body.len() <= EMBEDDED_INLINE_BYTES_MAX {
            return Ok(Wanted::read(&self.embedder, request.body.expose()));
        }
        let embedder = self.embedder.clone();
        tokio::task::spawn_blocking(move || Wanted::read(&embedder, request.body.expose()))
            .await
            .map_err(|_| EngineError::Internal("reading a request panicked"))
    }
}

fn failed(failure: EmbedFailure) -> EngineError {
    match failure {
        EmbedFailure::Cancelled => EngineError::Internal("the model was stopped"),
        EmbedFailure::Failed(_) | _ => EngineError::EngineBroke(failure.into()),
    }
}

#[async_trait]
impl Engine for EmbeddedEmbeddings {
    fn models(&self) -> Vec<EngineModel> {
        vec![EngineModel { id: self.model.clone() }]
    }

    async fn health(&self) -> Health {
        Health::Ready
    }

    async fn run(&self, request: EngineRequest) -> Result<EngineAnswer, EngineError> {
        match request.route {
            Route::Embeddings => self.embed(request).await,
            Route::Models => Ok(listed(&self.model)),
            Route::ChatCompletions
            | Route::Completions
            | Route::Rerank
            | Route::Transcriptions
            | Route::Translations
            | Route::ImageGenerations
            | Route::ImageEdits => {
                Ok(Refusal::wrong_model(&self.model, "an embedding model", "/v1/embeddings", request.route).into())
            }
        }
    }

    fn load(&self) -> EngineLoad {
        EngineLoad { queued: u32::try_from(self.embedder.stats().queued).unwrap_or(u32::MAX), slots: Some(self.slots) }
    }
}

impl fmt::Debug for EmbeddedEmbeddings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedEmbeddings").field("model", &self.model).finish_non_exhaustive()
    }
}

/// An answer that is yet to be written.
struct Document {
    model: String,
    encoding: Encoding,
    vectors: Vec<Vec<f32>>,
    tokens: usize,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Written<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    Numbers(&'a [f32]),
    Text(String),
}

impl Document {
    fn body(self) -> EngineBody {
        let pieces =
            std::iter::successors(Some(0), |start: &usize| Some(start.saturating_add(EMBEDDED_VECTORS_PER_PIECE)))
                .map_while(move |start| self.piece(start));
        Box::pin(stream::iter(pieces))
    }

    /// Some vectors from `start` on, and what stands before the first and after the last of all.
    fn piece(&self, start: usize) -> Option<Result<Bytes, EngineError>> {
        let rest = self.vectors.get(start..).filter(|rest| !rest.is_empty())?;
        let mut text = Vec::new();
        if start == 0 {
            text.extend_from_slice(br#"{"object":"list","data":["#);
        }
        for (index, vector) in (start..).zip(rest.iter().take(EMBEDDED_VECTORS_PER_PIECE)) {
            if index > 0 {
                text.push(b',');
            }
            let item = Item { object: "embedding", index, embedding: written(vector, self.encoding) };
            if serde_json::to_writer(&mut text, &item).is_err() {
                return Some(Err(EngineError::Internal("a vector cannot be written")));
            }
        }
        if rest.len() <= EMBEDDED_VECTORS_PER_PIECE {
            let usage = json!({"prompt_tokens": self.tokens, "total_tokens": self.tokens});
            let end = format!(r#"],"model":{},"usage":{usage}}}"#, json!(self.model));
            text.extend_from_slice(end.as_bytes());
        }
        Some(Ok(text.into()))
    }
}

fn written(vector: &[f32], encoding: Encoding) -> Written<'_> {
    match encoding {
        Encoding::Float => Written::Numbers(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            Written::Text(STANDARD.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use serde_json::Value;

    use super::*;

    async fn written(vectors: usize, encoding: Encoding) -> (usize, Value) {
        let vectors = (0..vectors).map(|index| vec![index as f32, -0.5]).collect();
        let document = Document { model: "a \"model\"".to_owned(), encoding, vectors, tokens: 7 };
        let pieces: Vec<Bytes> = document.body().map(|piece| piece.unwrap()).collect().await;
        (pieces.len(), serde_json::from_slice(&pieces.concat()).unwrap())
    }

    #[tokio::test]
    async fn documents_are_the_apis_whatever_their_length() {
        for count in [1, 2, EMBEDDED_VECTORS_PER_PIECE, EMBEDDED_VECTORS_PER_PIECE + 1, 100] {
            let (pieces, document) = written(count, Encoding::Float).await;
            assert_eq!(pieces, count.div_ceil(EMBEDDED_VECTORS_PER_PIECE));
            assert_eq!((&document["object"], &document["model"]), (&json!("list"), &json!("a \"model\"")));
            assert_eq!(document["usage"], json!({"prompt_tokens": 7, "total_tokens": 7}));
            let data = document["data"].as_array().unwrap();
            assert_eq!(data.len(), count);
            for (index, item) in data.iter().enumerate() {
                assert_eq!(*item, json!({"object": "embedding", "index": index, "embedding": [index as f32, -0.5]}));
            }
        }
    }

    #[tokio::test]
    async fn base64_holds_little_endian_floats() {
        let (_, document) = written(2, Encoding::Base64).await;
        let bytes = STANDARD.decode(document["data"][1]["embedding"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, [1.0_f32.to_le_bytes(), (-0.5_f32).to_le_bytes()].concat());
    }
}
