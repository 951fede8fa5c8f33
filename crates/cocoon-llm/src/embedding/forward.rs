//! BERT's forward pass over several texts, to one vector each.
//!
//! Texts are put one below the other as rows of one matrix, so nothing is padded and no mask is needed: all rows go
//! through a weight matrix together, attention sees the rows of its own text only. In the end the rows of a text are
//! averaged and the mean is scaled to length 1, which is what sentence-transformers does with this model.
//!
//! `candle` multiplies the matrices, in whatever thread pool calls.

use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use super::config::Config;
use super::error::EmbedderLoadError;
use super::files::Weights;
use super::kernel;
use crate::limits::EMBED_SLAB_ROWS;
use crate::model::kernel::{add, softmax};

/// The weights, ready to run.
pub(super) struct Bert {
    pub(super) config: Config,
    words: Vec<f32>,
    /// With the vector of the first segment added: there is no second.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    simd: Arch,
}

struct Layer {
    /// Queries, keys and values, side by side: they read the same input.
    qkv: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

struct Linear {
    /// `inputs × outputs`: the transpose of what the file holds, which is read in the order of the product.
    weight: Tensor,
    bias: Vec<f32>,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Why a pass has no result.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The caller asked to give up.
    Cancelled,
    /// The tensor library refused.
    Failed(candle_core::Error),
    /// The weights are such that a number left its range.
    NotFinite,
}

impl From<candle_core::Error> for Stopped {
    fn from(error: candle_core::Error) -> Self {
        Self::Failed(error)
    }
}

impl Bert {
    /// Reads the weights in `folder`.
    pub(super) fn load(folder: &Path) -> Result<Self, EmbedderLoadError> {
        let config = Config::read(folder)?;
        let mut source = Source { weights: Weights::read(folder)?, config };
        let width = source.config.width;
        let words = source.weights.take("embeddings.word_embeddings.weight", &[source.config.vocabulary, width])?;
        let positions = source.positions()?;
        let norm = source.norm("embeddings.LayerNorm")?;
        let layers = (0..source.config.layers).map(|index| source.layer(index)).collect::<Result<_, _>>()?;
        source.weights.refuse_rest()?;
        Ok(Self { config: source.config, words, positions, norm, layers, simd: Arch::new() })
    }

    /// Memory that the weights take.
    pub(super) fn weight_bytes(&self) -> u64 {
        let linear = |linear: &Linear| linear.weight.elem_count() + linear.bias.len();
        let norm = |norm: &Norm| norm.weight.len() + norm.bias.len();
        let layer = |layer: &Layer| {
            let Layer { qkv, attention_output, attention_norm, intermediate, output, output_norm } = layer;
            let linears: usize = [qkv, attention_output, intermediate, output].into_iter().map(linear).sum();
            linears + norm(attention_norm) + norm(output_norm)
        };
        let layers: usize = self.layers.iter().map(layer).sum();
        let numbers = self.words.len() + self.positions.len() + norm(&self.norm) + layers;
        (numbers * size_of::<f32>()) as u64
    }

    /// One vector of length 1 for each of `texts`, none of which is empty or longer than the model takes.
    ///
    /// `cancelled` is asked once per layer.
    pub(super) fn forward(
        &self,
        texts: &[&[u32]],
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, Stopped> {
        let mut end = 0;
        let rows: Vec<Range<usize>> = texts
            .iter()
            .map(|text| {
                let start = end;
                end += text.len();
                start..end
            })
            .collect();
        let mut stream = self.embed(texts, end);
        for layer in &self.layers {
            if cancelled() {
                return Err(Stopped::Cancelled);
            }
            self.attention(layer, &rows, &mut stream)?;
            self.feed_forward(layer, &mut stream)?;
        }
        let width = self.config.width;
        rows.into_iter().map(|rows| pooled(&stream[rows.start * width..rows.end * width], width)).collect()
    }

    fn embed(&self, texts: &[&[u32]], rows: usize) -> Vec<f32> {
        let width = self.config.width;
        let mut stream = Vec::with_capacity(rows * width);
        for text in texts {
            for (token, position) in text.iter().zip(self.positions.chunks_exact(width)) {
                let word = &self.words[*token as usize * width..][..width];
                stream.extend(word.iter().zip(position).map(|(word, position)| word + position));
            }
        }
        self.normalise(&self.norm, &mut stream);
        stream
    }

    /// `stream = norm(stream + output(attention(stream)))`.
    fn attention(&self, layer: &Layer, texts: &[Range<usize>], stream: &mut [f32]) -> Result<(), Stopped> {
        let (width, heads, head_width) = (self.config.width, self.config.heads, self.config.head_width());
        let mut qkv = layer.qkv.multiply(stream)?;
        self.for_rows(&mut qkv, 3 * width, |row| add(row, &layer.qkv.bias));
        let attended = texts
            .par_iter()
            .flat_map(|text| (0..heads).into_par_iter().map(move |head| (text, head)))
            .map(|(text, head)| {
                let rows = &qkv[text.start * 3 * width..text.end * 3 * width];
                attend(self.simd, rows, width, head * head_width..(head + 1) * head_width)
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let mut joined = vec![0.0; stream.len()];
        let places = texts.iter().flat_map(|text| (0..heads).map(move |head| (text, head)));
        for ((text, head), values) in places.zip(&attended) {
            let rows = &mut joined[text.start * width..text.end * width];
            for (row, values) in rows.chunks_exact_mut(width).zip(values.chunks_exact(head_width)) {
                row[head * head_width..(head + 1) * head_width].copy_from_slice(values);
            }
        }
        let update = layer.attention_output.multiply(&joined)?;
        self.join(stream, &update, &layer.attention_output.bias, &layer.attention_norm);
        Ok(())
    }

    /// `stream = norm(stream + output(gelu(intermediate(stream))))`.
    fn feed_forward(&self, layer: &Layer, stream: &mut [f32]) -> Result<(), Stopped> {
        let mut hidden = layer.intermediate.multiply(stream)?;
        let bias = &layer.intermediate.bias;
        self.for_rows(&mut hidden, bias.len(), |row| kernel::biased_gelu(self.simd, row, bias));
        let update = layer.output.multiply(&hidden)?;
        self.join(stream, &update, &layer.output.bias, &layer.output_norm);
        Ok(())
    }

    /// `stream = norm(stream + update + bias)`.
    fn join(&self, stream: &mut [f32], update: &[f32], bias: &[f32], norm: &Norm) {
        add(stream, update);
        self.for_rows(stream, self.config.width, |row| {
            add(row, bias);
            self.normalise(norm, row);
        });
    }

    fn normalise(&self, norm: &Norm, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.config.width) {
            kernel::layer_norm(self.simd, row, &norm.weight, &norm.bias, self.config.norm_epsilon);
        }
    }

    /// Does something to every row of `width` values, several at a time on each thread.
    fn for_rows(&self, values: &mut [f32], width: usize, work: impl Fn(&mut [f32]) + Sync) {
        values.par_chunks_mut(width * EMBED_SLAB_ROWS).for_each(|rows| rows.chunks_exact_mut(width).for_each(&work));
    }
}

/// The attention of one head over one text: `rows` hold queries, keys and values of `width` each, of which `head` is a part.
fn attend(simd: Arch, rows: &[f32], width: usize, head: Range<usize>) -> candle_core::Result<Vec<f32>> {
    let len = rows.len() / (3 * width);
    let part = |which: usize, scale: f32| {
        let start = which * width + head.start;
        let values: Vec<f32> = rows
            .chunks_exact(3 * width)
            .flat_map(|row| &row[start..start + head.len()])
            .map(|value| value * scale)
            .collect();
        Tensor::from_vec(values, (len, head.len()), &Device::Cpu)
    };
    let query = part(0, 1.0 / (head.len() as f32).sqrt())?;
    let (keys, values) = (part(1, 1.0)?, part(2, 1.0)?);
    let mut scores = query.matmul(&keys.t()?)?.flatten_all()?.to_vec1::<f32>()?;
    scores.chunks_exact_mut(len).for_each(|row| softmax(simd, row));
    Tensor::from_vec(scores, (len, len), &Device::Cpu)?.matmul(&values)?.flatten_all()?.to_vec1::<f32>()
}

/// The mean of the rows, scaled to length 1.
fn pooled(rows: &[f32], width: usize) -> Result<Vec<f32>, Stopped> {
    // The mean itself is not needed: it has the direction of the sum.
    let mut sum = vec![0.0; width];
    rows.chunks_exact(width).for_each(|row| add(&mut sum, row));
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    if !length.is_finite() {
        return Err(Stopped::NotFinite);
    }
    // A vector of zeros has no direction, and stays.
    let scale = 1.0 / length.max(f32::MIN_POSITIVE);
    sum.iter_mut().for_each(|value| *value *= scale);
    Ok(sum)
}

impl Linear {
    /// `input × weight`, without the bias.
    fn multiply(&self, input: &[f32]) -> candle_core::Result<Vec<f32>> {
        let inputs = self.weight.dim(0)?;
        let input = Tensor::from_slice(input, (input.len() / inputs, inputs), &Device::Cpu)?;
        input.matmul(&self.weight)?.flatten_all()?.to_vec1()
    }
}

/// The tensors of one model.
struct Source {
    weights: Weights,
    config: Config,
}

impl Source {
    fn positions(&mut self) -> Result<Vec<f32>, EmbedderLoadError> {
        let Config { width, positions, segments, .. } = self.config;
        let mut table = self.weights.take("embeddings.position_embeddings.weight", &[positions, width])?;
        let segment = self.weights.take("embeddings.token_type_embeddings.weight", &[segments, width])?;
        table.chunks_exact_mut(width).for_each(|row| add(row, &segment[..width]));
        Ok(table)
    }

    fn layer(&mut self, index: usize) -> Result<Layer, EmbedderLoadError> {
        let (width, hidden) = (self.config.width, self.config.feed_forward_width);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Layer {
            qkv: self.linear(&qkv, width, width)?,
            attention_output: self.linear(&[name("attention.output.dense")], width, width)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"))?,
            intermediate: self.linear(&[name("intermediate.dense")], width, hidden)?,
            output: self.linear(&[name("output.dense")], hidden, width)?,
            output_norm: self.norm(&name("output.LayerNorm"))?,
        })
    }

    /// Several of `inputs` to `outputs` side by side.
    fn linear(&mut self, names: &[String], inputs: usize, outputs: usize) -> Result<Linear, EmbedderLoadError> {
        let (mut stacked, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            stacked.append(&mut self.weights.take(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.append(&mut self.weights.take(&format!("{name}.bias"), &[outputs])?);
        }
        let transposed = || Tensor::from_vec(stacked, (bias.len(), inputs), &Device::Cpu)?.t()?.contiguous();
        Ok(Linear { weight: transposed().map_err(EmbedderLoadError::internal)?, bias })
    }

    fn norm(&mut self, name: &str) -> Result<Norm, EmbedderLoadError> {
        let width = self.config.width;
        let mut vector = |part: &str| self.weights.take(&format!("{name}.{part}"), &[width]);
        Ok(Norm { weight: vector("weight")?, bias: vector("bias")? })
    }
}
