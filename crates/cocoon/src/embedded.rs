//! Loads a model for the engine inside this process.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cocoon_llm::{Llm, LlmOptions};
use cocoon_receipt::{Hash, How, ModelHashes};
use cocoon_worker::Engine;
use cocoon_worker::engine::embedded::Embedded;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::model::{self, catalogue};
use crate::wiring;

/// What to load and how much of the machine it may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EmbeddedConfig {
    /// A GGUF file of the llama architecture.
    pub(crate) model_file: PathBuf,
    /// The model's name in the API; left out, that of the known model which the file is, or else the file's own name
    /// without its extension.
    pub(crate) model_name: Option<String>,
    /// Threads that compute.
    pub(crate) threads: usize,
    /// Answers that are computed together.
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

/// Reads the model; takes about a second per 100 million weights.
pub(crate) fn load(config: &EmbeddedConfig) -> Result<Loaded> {
    let file = &config.model_file;
    let stem = file.file_stem().context("`model_file` is empty: give the path of a .gguf file")?;
    let name = match (&config.model_name, catalogue::recognise(file)?) {
        (Some(name), _) => name.clone(),
        (None, Some(model)) => model.name.to_owned(),
        (None, None) => stem.to_string_lossy().into_owned(),
    };
    let options = LlmOptions {
        sequences_max: config.sequences_max,
        context_tokens_max: config.context_tokens_max,
        threads: config.threads,
        ..LlmOptions::default()
    };
    let llm = Llm::load(file, &options).with_context(|| format!("cannot run the model {}", file.display()))?;
    let slots = u32::try_from(config.sequences_max).context("`sequences_max` is too large")?;
    let engine = Arc::new(Embedded::new(llm, name, slots, wiring::clock()));
    Ok(Loaded { engine, hashes: hashes(config)? })
}

/// What this process measured: a GGUF file holds weights, tokenizer and chat template in one.
fn hashes(config: &EmbeddedConfig) -> Result<ModelHashes> {
    let measured = |sha256| Some(Hash { sha256, how: How::Measured });
    let file = measured(model::digest::sha256_bytes(&config.model_file)?);
    let EmbeddedConfig { model_file: _, model_name: _, threads, sequences_max, context_tokens_max } = config;
    let arguments = format!(
        "cocoon {} embedded threads={threads} sequences_max={sequences_max} context_tokens_max={context_tokens_max:?}",
        env!("CARGO_PKG_VERSION")
    );
    let engine = measured(Sha256::digest(arguments).into());
    Ok(ModelHashes { weights: file, engine, tokenizer: file, chat_template: file })
}
