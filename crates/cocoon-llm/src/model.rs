//! A llama-architecture transformer: weights from a GGUF file, and the forward pass.
//!
//! `candle` decodes the block formats and multiplies the matrices of prefill's attention; what is
//! here replaces its stock model file, which grows its KV cache by copying, cannot decode several
//! sequences together and multiplies Q4_1 in scalar code.
//!
//! - [`config`]: sizes from the header, each checked;
//! - [`matrix`]: a weight matrix, and [`dot`], its inner loop;
//! - [`kernel`]: the element-wise parts;
//! - [`kv`]: the keys and values of one sequence;
//! - [`forward`]: the pass itself.

mod config;
mod dot;
mod forward;
pub(crate) mod kernel;
mod kv;
mod matrix;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use rayon::prelude::*;

use crate::error::LoadError;
use crate::gguf::{Gguf, TensorInfo};

pub(crate) use config::Config;
pub(crate) use forward::{Run, Stopped};
pub(crate) use kv::KvCache;

use dot::Simd;
use matrix::Matrix;

/// The weights, ready to run.
pub(crate) struct Model {
    pub(crate) config: Config,
    embedding: Matrix,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    /// `None` when the embedding is used for the output too.
    output: Option<Matrix>,
    /// Angle per position of every rotated pair.
    rope_frequencies: Vec<f64>,
    simd: Simd,
}

struct Layer {
    attention_norm: Vec<f32>,
    /// Queries, keys and values, stacked: they read the same input.
    qkv: Matrix,
    attention_output: Matrix,
    feed_forward_norm: Vec<f32>,
    /// Gate and up projections, stacked.
    gate_up: Matrix,
    down: Matrix,
}

impl Model {
    /// Reads every tensor of `path`, whose header is `gguf`, on the current rayon pool.
    pub(crate) fn load(path: &Path, gguf: &Gguf) -> Result<Self, LoadError> {
        let config = Config::from_gguf(gguf)?;
        let source = Source { path, gguf };
        source.refuse_unknown(&config)?;
        let (width, vocabulary) = (config.width, config.vocabulary);
        let embedding = source.matrix(&["token_embd.weight"], &[vocabulary], width)?;
        let output = match gguf.tensors.contains_key("output.weight") {
            true => Some(source.matrix(&["output.weight"], &[vocabulary], width)?),
            false => None,
        };
        let layers = (0..config.layers)
            .into_par_iter()
            .map(|index| source.layer(&config, index))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            output_norm: source.vector("output_norm.weight", width)?,
            rope_frequencies: source.rope_frequencies(&config)?,
            simd: Simd::detect(),
            config,
            embedding,
            layers,
            output,
        })
    }

    /// Memory that the weights take.
    pub(crate) fn weight_bytes(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(Layer::bytes).sum();
        layers + self.embedding.bytes() + self.output.as_ref().map_or(0, Matrix::bytes)
    }
}

impl Layer {
    fn bytes(&self) -> u64 {
        [&self.qkv, &self.attention_output, &self.gate_up, &self.down].into_iter().map(Matrix::bytes).sum()
    }
}

/// The tensors of one file.
#[derive(Clone, Copy)]
struct Source<'a> {
    path: &'a Path,
    gguf: &'a Gguf,
}

/// Tensors of one layer, without their `blk.N.` prefix.
const LAYER_TENSORS: [&str; 9] = [
    "attn_norm.weight",
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "ffn_norm.weight",
    "ffn_gate.weight",
    "ffn_up.weight",
    "ffn_down.weight",
];
const MODEL_TENSORS: [&str; 4] = ["token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"];

impl Source<'_> {
    /// A tensor that this code does not use (a bias, an adapter, an expert) would be left out of
    /// the sum in silence and the model would answer nonsense.
    fn refuse_unknown(self, config: &Config) -> Result<(), LoadError> {
        for name in self.gguf.tensors.keys() {
            let in_layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
            let known = match in_layer {
                Some((index, part)) => {
                    LAYER_TENSORS.contains(&part) && index.parse::<usize>().is_ok_and(|index| index < config.layers)
                }
                None => MODEL_TENSORS.contains(&name.as_str()),
            };
            if !known {
                return Err(LoadError::Unsupported(format!("tensor {name:?}")));
            }
        }
        Ok(())
    }

    fn layer(self, config: &Config, index: usize) -> Result<Layer, LoadError> {
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        let (width, queries, keys) = (config.width, config.query_width(), config.kv_width());
        let hidden = config.feed_forward_width;
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm"), width)?,
            qkv: self.matrix(&[&name("attn_q"), &name("attn_k"), &name("attn_v")], &[queries, keys, keys], width)?,
            attention_output: self.matrix(&[&name("attn_output")], &[width], queries)?,
            feed_forward_norm: self.vector(&name("ffn_norm"), width)?,
            gate_up: self.matrix(&[&name("ffn_gate"), &name("ffn_up")], &[hidden, hidden], width)?,
            down: self.matrix(&[&name("ffn_down")], &[width], hidden)?,
        })
    }

    /// One matrix from tensors of the same width, one above the other.
    fn matrix(self, names: &[&str], rows: &[usize], columns: usize) -> Result<Matrix, LoadError> {
        let mut matrix = Matrix::empty(columns);
        for (name, rows) in names.iter().zip(rows) {
            let info = self.info(name, &[*rows as u64, columns as u64])?;
            matrix.push(&read(self.path, info)?, info)?;
        }
        Ok(matrix)
    }

    fn vector(self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let info = self.info(name, &[len as u64])?;
        matrix::dequantised(&read(self.path, info)?, info)
    }

    fn rope_frequencies(self, config: &Config) -> Result<Vec<f64>, LoadError> {
        let mut frequencies = config.rope_frequencies();
        if self.gguf.tensors.contains_key("rope_freqs.weight") {
            let factors = self.vector("rope_freqs.weight", frequencies.len())?;
            if factors.iter().any(|factor| *factor <= 0.0) {
                return Err(LoadError::Malformed("a rope factor is not positive".to_owned()));
            }
            for (frequency, factor) in frequencies.iter_mut().zip(factors) {
                *frequency /= f64::from(factor);
            }
        }
        Ok(frequencies)
    }

    /// A tensor that must have exactly `shape`.
    fn info(&self, name: &str, shape: &[u64]) -> Result<&TensorInfo, LoadError> {
        let info = self.gguf.tensors.get(name).ok_or_else(|| LoadError::Malformed(format!("no tensor {name:?}")))?;
        if info.shape != shape {
            let found = &info.shape;
            return Err(LoadError::Malformed(format!("tensor {name:?} has shape {found:?}, not {shape:?}")));
        }
        Ok(info)
    }
}

fn read(path: &Path, info: &TensorInfo) -> Result<Vec<u8>, LoadError> {
    let len = usize::try_from(info.bytes)
        .map_err(|_| LoadError::Unsupported("a tensor above the address space".to_owned()))?;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(info.offset))?;
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
