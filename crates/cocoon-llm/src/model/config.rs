//! The sizes of a model, read from the header and checked against each other and the limits.

use crate::error::LoadError;
use crate::gguf::Gguf;
use crate::limits::{CONTEXT_TOKENS_MAX, LAYERS_MAX, VOCABULARY_MAX, WIDTH_MAX};
use crate::model::dot::BLOCK;

/// A llama model's hyper-parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_width: usize,
    pub(crate) feed_forward_width: usize,
    pub(crate) vocabulary: usize,
    pub(crate) context_tokens: usize,
    pub(crate) norm_epsilon: f32,
    /// How many leading elements of a head are rotated; even.
    pub(crate) rope_width: usize,
    pub(crate) rope_base: f64,
}

impl Config {
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self, LoadError> {
        match gguf.text("general.architecture") {
            Some("llama") => {}
            Some(other) => return Err(unsupported(&format!("architecture {other:?}"))),
            None => return Err(malformed("no architecture")),
        }
        refuse_variants(gguf)?;

        let width = size(gguf, "embedding_length", WIDTH_MAX)?;
        let heads = size(gguf, "attention.head_count", WIDTH_MAX)?;
        let kv_heads = size_or(gguf, "attention.head_count_kv", WIDTH_MAX, heads)?;
        let head_width = size_or(gguf, "attention.key_length", WIDTH_MAX, width / heads)?;
        let config = Self {
            layers: size(gguf, "block_count", LAYERS_MAX)?,
            width,
            heads,
            kv_heads,
            head_width,
            feed_forward_width: size(gguf, "feed_forward_length", WIDTH_MAX)?,
            vocabulary: vocabulary(gguf)?,
            context_tokens: size(gguf, "context_length", CONTEXT_TOKENS_MAX)?,
            norm_epsilon: epsilon(gguf)?,
            rope_width: size_or(gguf, "rope.dimension_count", WIDTH_MAX, head_width)?,
            rope_base: rope_base(gguf)?,
        };
        config.check()
    }

    /// Width of all query heads together.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Width of all key (or value) heads together.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Query heads that share a key head.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Angle per position for every rotated pair.
    pub(crate) fn rope_frequencies(&self) -> Vec<f64> {
        let width = self.rope_width as f64;
        (0..self.rope_width).step_by(2).map(|index| self.rope_base.powf(-(index as f64) / width)).collect()
    }

    fn check(self) -> Result<Self, LoadError> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(malformed("the query heads are not a multiple of the key heads"));
        }
        if self.rope_width > self.head_width || !self.rope_width.is_multiple_of(2) {
            return Err(malformed("the rotated part does not fit a head"));
        }
        if self.heads.saturating_mul(self.head_width) as u64 > WIDTH_MAX {
            return Err(malformed("the heads are absurdly wide"));
        }
        for width in [self.width, self.query_width(), self.feed_forward_width] {
            if !width.is_multiple_of(BLOCK) {
                return Err(unsupported(&format!("width {width} is not a multiple of {BLOCK}")));
            }
        }
        Ok(self)
    }
}

/// Variants of the architecture whose mathematics differs from what [`super::forward`] computes.
fn refuse_variants(gguf: &Gguf) -> Result<(), LoadError> {
    if gguf.int("llama.expert_count").is_some_and(|experts| experts > 0) {
        return Err(unsupported("mixture of experts"));
    }
    if gguf.text("llama.rope.scaling.type").is_some_and(|kind| kind != "none") {
        return Err(unsupported("rope scaling"));
    }
    let key = gguf.int("llama.attention.key_length");
    let value = gguf.int("llama.attention.value_length");
    if value.is_some() && value != key {
        return Err(unsupported("values that differ from keys in width"));
    }
    Ok(())
}

fn size(gguf: &Gguf, key: &str, max: u64) -> Result<usize, LoadError> {
    let key = format!("llama.{key}");
    let value = gguf.int(&key).ok_or_else(|| malformed(&format!("no integer {key}")))?;
    if value == 0 || value > max {
        return Err(malformed(&format!("{key} = {value} is not in 1..={max}")));
    }
    usize::try_from(value).map_err(|_| malformed(&key))
}

fn size_or(gguf: &Gguf, key: &str, max: u64, default: usize) -> Result<usize, LoadError> {
    if gguf.metadata.contains_key(&format!("llama.{key}")) {
        return size(gguf, key, max);
    }
    (default > 0).then_some(default).ok_or_else(|| malformed("more heads than elements"))
}

/// The rows of the embedding; `llama.vocab_size` is missing in older files.
fn vocabulary(gguf: &Gguf) -> Result<usize, LoadError> {
    let rows = gguf.tensors.get("token_embd.weight").and_then(|info| info.shape.first().copied());
    match rows {
        Some(rows) if rows <= VOCABULARY_MAX => usize::try_from(rows).map_err(|_| malformed("vocabulary")),
        Some(_) => Err(malformed("absurd vocabulary size")),
        None => Err(malformed("no tensor \"token_embd.weight\"")),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "nearest f32 is what is wanted")]
fn epsilon(gguf: &Gguf) -> Result<f32, LoadError> {
    match gguf.float("llama.attention.layer_norm_rms_epsilon") {
        Some(epsilon) if epsilon > 0.0 && epsilon < 1.0 => Ok(epsilon as f32),
        Some(_) => Err(malformed("absurd norm epsilon")),
        None => Err(malformed("no norm epsilon")),
    }
}

fn rope_base(gguf: &Gguf) -> Result<f64, LoadError> {
    match gguf.float("llama.rope.freq_base") {
        None => Ok(10_000.0),
        Some(base) if base.is_finite() && base > 1.0 => Ok(base),
        Some(_) => Err(malformed("absurd rope base")),
    }
}

fn malformed(what: &str) -> LoadError {
    LoadError::Malformed(what.to_owned())
}

fn unsupported(what: &str) -> LoadError {
    LoadError::Unsupported(what.to_owned())
}
