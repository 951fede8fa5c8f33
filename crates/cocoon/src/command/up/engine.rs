//! Which engine `up` puts behind its workers.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cocoon_receipt::ModelHashes;
use cocoon_worker::engine::openai_http::OpenAiHttp;
use cocoon_worker::{Engine, OpenAiHttpConfig};

use super::Args;
#[cfg(feature = "engine-embedded")]
use crate::{
    command::model::open_cache,
    embedded::{self, EmbeddedConfig, Loaded},
    model::{self, cache::Cache, catalogue},
};

/// The engine and what to say about it.
pub(super) struct Chosen {
    /// The engine, shared by all workers.
    pub(super) engine: Arc<dyn Engine>,
    /// What receipts say of its model.
    pub(super) hashes: ModelHashes,
    /// Embeddings beside it, from a worker of their own.
    pub(super) embeddings: Option<Beside>,
    shown: String,
    remark: Option<&'static str>,
}

/// An engine that is there at once, and ready when its model has come.
pub(super) struct Beside {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) hashes: ModelHashes,
    /// As the root lists it.
    pub(super) model: &'static str,
}

impl Chosen {
    /// Where it is, for the table.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// What a user should know before judging its answers.
    pub(super) fn remark(&self) -> Option<&'static str> {
        self.remark
    }
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chosen").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// An engine over HTTP if one is named, the embedded one otherwise.
pub(super) fn choose(args: &Args) -> Result<Chosen> {
    match &args.engine {
        Some(url) => over_http(url),
        None => embedded(args),
    }
}

fn over_http(url: &str) -> Result<Chosen> {
    let config = OpenAiHttpConfig { url: url.to_owned(), ..OpenAiHttpConfig::default() };
    let engine = OpenAiHttp::new(&config).with_context(|| format!("--engine {url}"))?;
    let hashes = ModelHashes::default();
    Ok(Chosen { engine: Arc::new(engine), hashes, embeddings: None, shown: url.to_owned(), remark: None })
}

/// The embedded engine: a file of the user's, or a known model from the cache or its sources.
#[cfg(feature = "engine-embedded")]
fn embedded(args: &Args) -> Result<Chosen> {
    let cache = open_cache(args.data_dir.clone())?;
    let (model_file, known) = match &args.model_file {
        Some(file) => (file.clone(), catalogue::recognise(file)?),
        None => {
            let model = catalogue::find(&args.model)?;
            (model::obtain(&cache, model, &args.sources.sources())?, Some(model))
        }
    };
    let embeddings = embeddings(args, cache)?;
    let model_name = known.map(|model| model.name.to_owned());
    let config = EmbeddedConfig { model_file, model_name, threads: compute_threads(), ..EmbeddedConfig::default() };
    let Loaded { engine, hashes } = embedded::load(&config)?;
    let remark = known.map(|model| model.remark);
    Ok(Chosen { engine, hashes, embeddings, shown: "in this process".to_owned(), remark })
}

/// Embeddings come with the default model only: tests, and people with a model of their own, must not start a download.
#[cfg(feature = "engine-embedded")]
fn embeddings(args: &Args, cache: Cache) -> Result<Option<Beside>> {
    let model = catalogue::DEFAULT_EMBEDDING;
    if args.model_file.is_some() || args.model != catalogue::DEFAULT.name {
        return Ok(None);
    }
    let Loaded { engine, hashes } = embedded::later::later(model, cache, args.sources.sources(), 1)?;
    Ok(Some(Beside { engine, hashes, model: model.name }))
}

/// Half of the machine: the rest is for whoever uses it meanwhile.
#[cfg(feature = "engine-embedded")]
fn compute_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

#[cfg(not(feature = "engine-embedded"))]
fn embedded(_args: &Args) -> Result<Chosen> {
    anyhow::bail!("this binary was built without the embedded engine: name one with --engine URL")
}
