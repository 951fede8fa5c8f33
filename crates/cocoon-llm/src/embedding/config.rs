//! The sizes of a BERT model, from the small JSON files beside its weights, each checked.
//!
//! - `config.json`: the sizes, and that the mathematics is the one [`super::forward`] does;
//! - `sentence_bert_config.json`, if there: how many tokens of a text the model was tuned for;
//! - `1_Pooling/config.json`, if there: that the vectors are averaged, as here, and not taken from the first token.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::EmbedderLoadError;
use super::files::{read, read_if_there};
use crate::limits::{
    EMBED_JSON_BYTES_MAX, EMBED_TOKENS_DEFAULT, EMBED_TOKENS_MAX, LAYERS_MAX, VOCABULARY_MAX, WIDTH_MAX,
};

const CONFIG: &str = "config.json";
const SENTENCES: &str = "sentence_bert_config.json";
const POOLING: &str = "1_Pooling/config.json";

/// A BERT model's hyper-parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    pub(super) layers: usize,
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) feed_forward_width: usize,
    pub(super) vocabulary: usize,
    /// Rows of the table of positions.
    pub(super) positions: usize,
    /// Rows of the table of segments; only the first is used.
    pub(super) segments: usize,
    pub(super) norm_epsilon: f32,
    /// Most tokens of one text, those included that mark its ends.
    pub(super) tokens_max: usize,
}

#[derive(Deserialize)]
struct ConfigFile {
    model_type: String,
    hidden_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    intermediate_size: u64,
    max_position_embeddings: u64,
    type_vocab_size: u64,
    vocab_size: u64,
    layer_norm_eps: f64,
    hidden_act: String,
    position_embedding_type: Option<String>,
}

#[derive(Deserialize)]
struct SentencesFile {
    max_seq_length: u64,
}

/// Of the other kinds of pooling only that they are off is of interest.
#[derive(Deserialize)]
struct PoolingFile {
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

impl Config {
    /// Reads what `folder` says of the model in it.
    pub(super) fn read(folder: &Path) -> Result<Self, EmbedderLoadError> {
        let file: ConfigFile = parse(CONFIG, &read(folder, CONFIG, EMBED_JSON_BYTES_MAX)?)?;
        let sentences = optional::<SentencesFile>(folder, SENTENCES)?;
        if let Some(pooling) = optional::<PoolingFile>(folder, POOLING)? {
            pooling.check()?;
        }
        file.check(sentences.map_or(EMBED_TOKENS_DEFAULT, |file| file.max_seq_length))
    }

    /// Width of one head.
    pub(super) fn head_width(&self) -> usize {
        self.width / self.heads
    }
}

impl ConfigFile {
    fn check(&self, tokens_max: u64) -> Result<Config, EmbedderLoadError> {
        self.refuse_variants()?;
        let positions = size("max_position_embeddings", self.max_position_embeddings, WIDTH_MAX)?;
        let tokens_max = size("max_seq_length", tokens_max, WIDTH_MAX)?.min(EMBED_TOKENS_MAX).min(positions);
        let config = Config {
            layers: size("num_hidden_layers", self.num_hidden_layers, LAYERS_MAX)?,
            width: size("hidden_size", self.hidden_size, WIDTH_MAX)?,
            heads: size("num_attention_heads", self.num_attention_heads, WIDTH_MAX)?,
            feed_forward_width: size("intermediate_size", self.intermediate_size, WIDTH_MAX)?,
            vocabulary: size("vocab_size", self.vocab_size, VOCABULARY_MAX)?,
            positions,
            segments: size("type_vocab_size", self.type_vocab_size, WIDTH_MAX)?,
            norm_epsilon: epsilon(self.layer_norm_eps)?,
            tokens_max,
        };
        if !config.width.is_multiple_of(config.heads) {
            return Err(EmbedderLoadError::malformed(CONFIG, "the width is no multiple of the heads"));
        }
        Ok(config)
    }

    fn refuse_variants(&self) -> Result<(), EmbedderLoadError> {
        let unsupported = |what: &str| Err(EmbedderLoadError::Unsupported(what.to_owned()));
        if self.model_type != "bert" {
            return unsupported("its `model_type` is not \"bert\"");
        }
        if self.hidden_act != "gelu" {
            return unsupported("its `hidden_act` is not \"gelu\"");
        }
        if self.position_embedding_type.as_ref().is_some_and(|kind| kind != "absolute") {
            return unsupported("its `position_embedding_type` is not \"absolute\"");
        }
        Ok(())
    }
}

impl PoolingFile {
    fn check(&self) -> Result<(), EmbedderLoadError> {
        let others =
            [self.pooling_mode_cls_token, self.pooling_mode_max_tokens, self.pooling_mode_mean_sqrt_len_tokens];
        if self.pooling_mode_mean_tokens && !others.contains(&true) {
            return Ok(());
        }
        Err(EmbedderLoadError::Unsupported("its pooling is not the mean over the tokens".to_owned()))
    }
}

fn optional<T: DeserializeOwned>(folder: &Path, file: &'static str) -> Result<Option<T>, EmbedderLoadError> {
    read_if_there(folder, file, EMBED_JSON_BYTES_MAX)?.map(|bytes| parse(file, &bytes)).transpose()
}

fn parse<T: DeserializeOwned>(file: &'static str, bytes: &[u8]) -> Result<T, EmbedderLoadError> {
    serde_json::from_slice(bytes).map_err(|error| EmbedderLoadError::malformed(file, error.to_string()))
}

fn size(key: &str, value: u64, max: u64) -> Result<usize, EmbedderLoadError> {
    let malformed = || EmbedderLoadError::malformed(CONFIG, format!("`{key}` = {value} is not in 1..={max}"));
    if value == 0 || value > max {
        return Err(malformed());
    }
    usize::try_from(value).map_err(|_| malformed())
}

#[expect(clippy::cast_possible_truncation, reason = "nearest f32 is what is wanted")]
fn epsilon(value: f64) -> Result<f32, EmbedderLoadError> {
    if value > 0.0 && value < 1.0 {
        return Ok(value as f32);
    }
    Err(EmbedderLoadError::malformed(CONFIG, "absurd `layer_norm_eps`"))
}
