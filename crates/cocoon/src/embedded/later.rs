//! An engine whose model is still being fetched or read.
//!
//! `cocoon up` offers embeddings beside its chat model, and a first answer must not wait for a model that nobody asked
//! for. So the engine is there at once and says that it is loading; a thread brings the model, and from then on the engine
//! is the loaded one. What the model is, its pins say in advance: nothing else is ever run under its name.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use cocoon_receipt::ModelHashes;
use cocoon_worker::engine::{EngineAnswer, EngineLoad, EngineModel, EngineRequest, Health};
use cocoon_worker::{Engine, EngineError};

use super::{CONFIG, EmbeddedConfig, Loaded, TOKENIZER, WEIGHTS, embedding_hashes, load};
use crate::model::cache::Cache;
use crate::model::catalogue::Model;
use crate::model::progress::Progress;
use crate::model::{self, Sources};
use crate::terminal;

/// A known embedding model as an engine that is ready once it was fetched and read.
///
/// The thread that does so is not waited for at the end of the process: a fetch cannot be interrupted, and resumes.
pub(crate) fn later(model: &'static Model, cache: Cache, sources: Sources, threads: usize) -> Result<Loaded> {
    let config = EmbeddedConfig { model_name: Some(model.name.to_owned()), threads, ..EmbeddedConfig::default() };
    let sources = Sources { progress: Progress::Hidden, ..sources };
    let hashes = pinned(model, &config)?;
    let slots = u32::try_from(config.sequences_max).context("`sequences_max` is too large")?;
    let engine = Arc::new(Later { model: model.name, slots, loaded: OnceLock::new() });
    let filled = Arc::clone(&engine);
    let bring = move || {
        let loaded = model::obtain(&cache, model, &sources).and_then(|place| load_pinned(place, config, hashes));
        filled.fill(loaded);
    };
    std::thread::Builder::new().name("model".to_owned()).spawn(bring).context("cannot start a thread")?;
    Ok(Loaded { engine, hashes })
}

/// What receipts will say of the model once it is loaded.
fn pinned(model: &Model, config: &EmbeddedConfig) -> Result<ModelHashes> {
    let pin = |name: &str| -> Result<[u8; 32]> {
        let file = model.files.iter().find(|file| file.name == name);
        let file = file.with_context(|| format!("{} has no {name}", model.name))?;
        let mut sha256 = [0; 32];
        hex::decode_to_slice(file.sha256, &mut sha256)?;
        Ok(sha256)
    };
    Ok(embedding_hashes(config, pin(WEIGHTS)?, pin(TOKENIZER)?, pin(CONFIG)?))
}

fn load_pinned(place: PathBuf, config: EmbeddedConfig, hashes: ModelHashes) -> Result<Arc<dyn Engine>> {
    let loaded = load(&EmbeddedConfig { model_file: place, ..config })?;
    // The files were checked when they were fetched; receipts must not differ from what was read since.
    if loaded.hashes != hashes {
        bail!("the model's files changed while they were read");
    }
    Ok(loaded.engine)
}

struct Later {
    model: &'static str,
    slots: u32,
    loaded: OnceLock<Result<Arc<dyn Engine>, String>>,
}

impl Later {
    fn fill(&self, loaded: Result<Arc<dyn Engine>>) {
        let loaded = loaded.map_err(|error| format!("{error:#}"));
        if let Err(why) = &loaded {
            terminal::note(&format!("{} is not served: {why}", self.model));
        }
        // It is filled only here, and this runs once.
        let _ = self.loaded.set(loaded);
    }
}

#[async_trait]
impl Engine for Later {
    fn models(&self) -> Vec<EngineModel> {
        vec![EngineModel { id: self.model.to_owned() }]
    }

    async fn health(&self) -> Health {
        match self.loaded.get() {
            None => Health::Loading,
            Some(Ok(engine)) => engine.health().await,
            Some(Err(why)) => Health::Failed(why.clone()),
        }
    }

    async fn run(&self, request: EngineRequest) -> Result<EngineAnswer, EngineError> {
        match self.loaded.get() {
            None => Err(EngineError::EngineLoading),
            Some(Ok(engine)) => engine.run(request).await,
            Some(Err(_)) => Err(EngineError::Internal("the model could not be loaded")),
        }
    }

    fn load(&self) -> EngineLoad {
        match self.loaded.get() {
            Some(Ok(engine)) => engine.load(),
            Some(Err(_)) | None => EngineLoad { queued: 0, slots: Some(self.slots) },
        }
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later").field("model", &self.model).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use cocoon_worker::engine::Route;

    use super::*;
    use crate::model::catalogue::DEFAULT_EMBEDDING;

    fn empty() -> Later {
        Later { model: "later", slots: 4, loaded: OnceLock::new() }
    }

    fn request() -> EngineRequest {
        let body = Vec::new().into();
        EngineRequest { route: Route::Embeddings, content_type: None, accept: None, body, token_limit: None }
    }

    #[tokio::test]
    async fn an_engine_without_its_model_says_so() {
        let engine = empty();
        assert_eq!(engine.models(), [EngineModel { id: "later".to_owned() }]);
        assert_eq!(engine.health().await, Health::Loading);
        assert_eq!(engine.load().slots, Some(4));
        assert!(matches!(engine.run(request()).await, Err(EngineError::EngineLoading)));
        engine.fill(Err(anyhow::anyhow!("no network")));
        assert_eq!(engine.health().await, Health::Failed("no network".to_owned()));
        assert!(matches!(engine.run(request()).await, Err(EngineError::Internal(_))));
    }

    #[tokio::test]
    async fn a_model_that_cannot_be_fetched_fails_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources { hub: String::new(), use_hub: false, use_wheel: false, progress: Progress::Shown };
        let cache = Cache::open(folder.path()).unwrap();
        let loaded = later(DEFAULT_EMBEDDING, cache, sources, 1).unwrap();
        while loaded.engine.health().await == Health::Loading {
            tokio::task::yield_now().await;
        }
        let Health::Failed(why) = loaded.engine.health().await else { panic!("it was fetched from nowhere") };
        assert!(why.contains("all-MiniLM-L6-v2"), "{why}");
    }

    #[tokio::test]
    async fn a_real_model_is_ready_with_the_hashes_that_were_promised() {
        let Some(model) = std::env::var_os("COCOON_TEST_EMBEDDING_MODEL") else {
            eprintln!("skipped: COCOON_TEST_EMBEDDING_MODEL names no folder of all-MiniLM-L6-v2");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        cache.import(DEFAULT_EMBEDDING, model.as_ref()).unwrap();
        let sources = Sources { hub: String::new(), use_hub: false, use_wheel: false, progress: Progress::Shown };
        let loaded = later(DEFAULT_EMBEDDING, cache.clone(), sources, 1).unwrap();
        let given = EmbeddedConfig { model_file: cache.path(DEFAULT_EMBEDDING), ..EmbeddedConfig::default() };
        let read = load(&given).unwrap();
        assert_eq!(read.hashes, loaded.hashes);
        assert_eq!(read.engine.models()[0].id, DEFAULT_EMBEDDING.name);
        while loaded.engine.health().await == Health::Loading {
            tokio::task::yield_now().await;
        }
        assert_eq!(loaded.engine.health().await, Health::Ready);
    }
}
