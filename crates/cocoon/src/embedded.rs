//! Loads a model for the engine inside this process: one that chats, or one that embeds.
//!
//! Which it is, its files say: a chat model is one GGUF file, an embedding model a folder as the hub has it
//! (`config.json`, `tokenizer.json`, `model.safetensors`).

#[cfg(feature = "dev")]
pub(crate) mod later;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cocoon_llm::{Embedder, EmbedderOptions, Llm, LlmOptions};
use cocoon_receipt::{Hash, How, ModelHashes};
use cocoon_worker::Engine;
use cocoon_worker::engine::embedded::{Embedded, EmbeddedEmbeddings};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::model::{self, catalogue};
use crate::wiring;

/// What to load and how much of the machine it may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EmbeddedConfig {
    /// A GGUF file of the llama architecture, or the folder of an embedding model. Left out, the known model of the
    /// name below, from the cache.
    pub(crate) model_file: PathBuf,
    /// The model's name in the API; left out, that of the known model which the file is, or else the file's own name
    /// without its extension.
    pub(crate) model_name: Option<String>,
    /// Threads that compute.
    pub(crate) threads: usize,
    /// Answers that are computed together; of an embedding model, in turns.
    pub(crate) sequences_max: usize,
    /// Tokens of one conversation; left out, what the model allows.
    pub(crate) context_tokens_max: Option<u32>,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        let LlmOptions { sequences_max, context_tokens_max, threads, .. } = LlmOptions::default();
        Self { model_file: PathBuf::new(), model_name: None, threads, sequences_max, context_tokens_max }
    }
}

/// A loaded model, and what receipts say of it.
pub(crate) struct Loaded {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) hashes: ModelHashes,
}

/// Where a model is, and what kind of.
enum Place {
    /// One file with everything in it.
    Chat(PathBuf),
    /// A folder.
    Embedding(PathBuf),
}

/// The files of an embedding model that decide what it computes.
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "config.json";

/// Reads the model; takes about a second per 100 million weights.
pub(crate) fn load(config: &EmbeddedConfig) -> Result<Loaded> {
    let slots = u32::try_from(config.sequences_max).context("`sequences_max` is too large")?;
    match Place::of(config)? {
        Place::Chat(file) => {
            let name = name(config, &file)?;
            let options = LlmOptions {
                sequences_max: config.sequences_max,
                context_tokens_max: config.context_tokens_max,
                threads: config.threads,
                ..LlmOptions::default()
            };
            let llm = Llm::load(&file, &options).with_context(|| cannot_run(&file))?;
            let engine = Arc::new(Embedded::new(llm, name, slots, wiring::clock()));
            let hash = model::digest::sha256_bytes(&file)?;
            // A GGUF file holds weights, tokenizer and chat template in one.
            Ok(Loaded { engine, hashes: hashes(config, hash, hash, Some(hash), "") })
        }
        Place::Embedding(folder) => {
            if config.context_tokens_max.is_some() {
                bail!("`context_tokens_max` is for models that chat: an embedding model's own limit counts");
            }
            let name = name(config, &folder)?;
            let options = EmbedderOptions { threads: config.threads, ..EmbedderOptions::default() };
            let embedder = Embedder::load(&folder, &options).with_context(|| cannot_run(&folder))?;
            let engine = Arc::new(EmbeddedEmbeddings::new(embedder, name, slots));
            let hash = |file: &str| model::digest::sha256_bytes(&folder.join(file));
            let (weights, tokenizer, sizes) = (hash(WEIGHTS)?, hash(TOKENIZER)?, hash(CONFIG)?);
            Ok(Loaded { engine, hashes: embedding_hashes(config, weights, tokenizer, sizes) })
        }
    }
}

fn cannot_run(place: &Path) -> String {
    format!("cannot run the model {}", place.display())
}

impl Place {
    fn of(config: &EmbeddedConfig) -> Result<Self> {
        let given = &config.model_file;
        let place = if given.as_os_str().is_empty() { cached(config)? } else { given.clone() };
        if place.is_dir() {
            return Ok(Self::Embedding(place));
        }
        // Whoever names the weights means the model.
        Ok(match (place.file_name(), place.parent()) {
            (Some(name), Some(folder)) if name == WEIGHTS => Self::Embedding(folder.to_owned()),
            _ => Self::Chat(place),
        })
    }
}

const NO_FILE: &str = "`model_file` is empty: give the path of a .gguf file, or of the folder of an embedding model";

/// The known model of the configured name, where `cocoon model pull` put it.
#[cfg(feature = "dev")]
fn cached(config: &EmbeddedConfig) -> Result<PathBuf> {
    let name = config.model_name.as_deref().context(NO_FILE)?;
    let model = catalogue::find(name).context(NO_FILE)?;
    let cache = model::cache::Cache::open(&crate::environment::data_dir()?)?;
    let cached = cache.verified(model)?;
    cached.with_context(|| {
        format!("{} is not in the cache: bring it with `cocoon model pull {}`", model.name, model.name)
    })
}

#[cfg(not(feature = "dev"))]
fn cached(_: &EmbeddedConfig) -> Result<PathBuf> {
    bail!(NO_FILE)
}

/// The model's name in the API.
fn name(config: &EmbeddedConfig, place: &Path) -> Result<String> {
    if let Some(name) = &config.model_name {
        return Ok(name.clone());
    }
    if let Some(model) = catalogue::recognise(place)? {
        return Ok(model.name.to_owned());
    }
    let last = if place.is_dir() { place.file_name() } else { place.file_stem() };
    Ok(last
        .with_context(|| format!("{} has no name of its own: set `model_name`", place.display()))?
        .to_string_lossy()
        .into_owned())
}

/// The sizes are no part of the weights' file, and change what is computed: they count to the engine.
fn embedding_hashes(config: &EmbeddedConfig, weights: [u8; 32], tokenizer: [u8; 32], sizes: [u8; 32]) -> ModelHashes {
    hashes(config, weights, tokenizer, None, &format!(" config={}", hex::encode(sizes)))
}

/// What this process measured.
fn hashes(
    config: &EmbeddedConfig,
    weights: [u8; 32],
    tokenizer: [u8; 32],
    chat_template: Option<[u8; 32]>,
    more: &str,
) -> ModelHashes {
    let measured = |sha256| Some(Hash { sha256, how: How::Measured });
    let EmbeddedConfig { model_file: _, model_name: _, threads, sequences_max, context_tokens_max } = config;
    let arguments = format!(
        "cocoon {} embedded threads={threads} sequences_max={sequences_max} context_tokens_max={context_tokens_max:?}{more}",
        env!("CARGO_PKG_VERSION")
    );
    ModelHashes {
        weights: measured(weights),
        engine: measured(Sha256::digest(arguments).into()),
        tokenizer: measured(tokenizer),
        chat_template: chat_template.and_then(measured),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: EmbeddedConfig) -> String {
        load(&config).err().map(|error| format!("{error:#}")).unwrap()
    }

    #[test]
    fn a_folder_and_its_weights_are_an_embedding_model_and_other_files_chat() {
        let folder = tempfile::tempdir().unwrap();
        for file in [folder.path().to_owned(), folder.path().join(WEIGHTS)] {
            let said = refused(EmbeddedConfig {
                model_file: file,
                model_name: Some("x".to_owned()),
                ..EmbeddedConfig::default()
            });
            assert!(said.contains("config.json"), "{said}");
        }
        let file = folder.path().join("chat.gguf");
        std::fs::write(&file, b"no model").unwrap();
        let said = refused(EmbeddedConfig { model_file: file, ..EmbeddedConfig::default() });
        assert!(said.contains("chat.gguf") && said.contains("GGUF"), "{said}");
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert!(refused(EmbeddedConfig::default()).contains("`model_file`"));
        let folder = tempfile::tempdir().unwrap();
        let model_file = folder.path().to_owned();
        let said = refused(EmbeddedConfig { model_file, context_tokens_max: Some(8), ..EmbeddedConfig::default() });
        assert!(said.contains("`context_tokens_max`"), "{said}");
    }
}
