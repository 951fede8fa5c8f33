//! The forward pass over one or several sequences.
//!
//! A step is a list of [`Run`]s: each is a stretch of new tokens of one sequence, with that
//! sequence's cache. Decoding is many runs of one token, prefill is one run of many. All rows of a
//! step go through a weight matrix together; attention is computed for each row against its own
//! cache only.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::limits::MATRIX_ATTENTION_ROWS_MIN;
use crate::model::kernel;
use crate::model::kv::KvCache;
use crate::model::{Layer, Model};

/// New tokens of one sequence.
pub(crate) struct Run<'a> {
    /// At least one; every id is below the vocabulary size; they fit the cache.
    pub(crate) tokens: &'a [u32],
    pub(crate) cache: &'a mut KvCache,
}

/// Why a step has no result.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The caller asked to give up.
    Cancelled,
    /// The tensor library refused.
    Failed(candle_core::Error),
}

impl From<candle_core::Error> for Stopped {
    fn from(error: candle_core::Error) -> Self {
        Self::Failed(error)
    }
}

/// Where a row of the step belongs.
struct Row {
    run: usize,
    position: usize,
}

/// How attention is computed; both give the same up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attention {
    /// Row by row.
    Rows,
    /// As matrix products, for a step of one long run.
    Matrices,
}

/// A step in progress.
struct Step {
    rows: Vec<Row>,
    attention: Attention,
    /// The residual stream, `rows × width`.
    stream: Vec<f32>,
    /// Sines and cosines of every row, interleaved.
    rotations: Vec<(f32, f32)>,
}

impl Model {
    /// Adds the tokens of every run to its cache and returns the logits after the last token of
    /// each, one after the other.
    ///
    /// `cancelled` is asked once per layer. A step that was stopped has changed no cache's length.
    pub(crate) fn forward(
        &self,
        runs: &mut [Run<'_>],
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<f32>, Stopped> {
        let mut step = self.embed(runs);
        for (index, layer) in self.layers.iter().enumerate() {
            if cancelled() {
                return Err(Stopped::Cancelled);
            }
            self.attention(index, layer, &mut step, runs)?;
            self.feed_forward(layer, &mut step);
        }
        for run in runs.iter_mut() {
            run.cache.advance(run.tokens.len());
        }
        Ok(self.logits(&step, runs))
    }

    fn embed(&self, runs: &[Run<'_>]) -> Step {
        let width = self.config.width;
        let mut rows = Vec::new();
        let mut tokens = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            rows.extend((0..run.tokens.len()).map(|i| Row { run: index, position: run.cache.len() + i }));
            tokens.extend_from_slice(run.tokens);
        }
        let mut stream = vec![0.0; rows.len() * width];
        for (token, out) in tokens.iter().zip(stream.chunks_exact_mut(width)) {
            self.embedding.row(*token as usize, out);
        }
        // The choice depends on the run alone, never on what else is being decoded.
        let attention = match runs {
            [only] if only.tokens.len() >= MATRIX_ATTENTION_ROWS_MIN => Attention::Matrices,
            _ => Attention::Rows,
        };
        let rotations = rows.iter().flat_map(|row| self.rotation(row.position)).collect();
        Step { rows, attention, stream, rotations }
    }

    fn rotation(&self, position: usize) -> impl Iterator<Item = (f32, f32)> {
        self.rope_frequencies.iter().map(move |frequency| {
            let (sine, cosine) = (position as f64 * frequency).sin_cos();
            (narrow(sine), narrow(cosine))
        })
    }

    fn attention(&self, index: usize, layer: &Layer, step: &mut Step, runs: &mut [Run<'_>]) -> Result<(), Stopped> {
        let (queries, keys) = (self.config.query_width(), self.config.kv_width());
        let normed = self.normed(step, &layer.attention_norm);
        let mut qkv = vec![0.0; step.rows.len() * (queries + 2 * keys)];
        layer.qkv.multiply(self.simd, &normed, &mut qkv);
        self.rotate(step, &mut qkv);
        for (row, qkv) in step.rows.iter().zip(qkv.chunks_exact(queries + 2 * keys)) {
            let (key, value) = qkv[queries..].split_at(keys);
            runs[row.run].cache.write(index, row.position, key, value);
        }
        let attended = match (step.attention, &*runs) {
            (Attention::Matrices, [only]) => self.attend_run(index, only, &qkv)?,
            _ => self.attend_rows(index, step, runs, &qkv),
        };
        let mut out = vec![0.0; step.stream.len()];
        layer.attention_output.multiply(self.simd, &attended, &mut out);
        kernel::add(&mut step.stream, &out);
        Ok(())
    }

    fn feed_forward(&self, layer: &Layer, step: &mut Step) {
        let hidden = self.config.feed_forward_width;
        let normed = self.normed(step, &layer.feed_forward_norm);
        let mut gate_up = vec![0.0; step.rows.len() * 2 * hidden];
        layer.gate_up.multiply(self.simd, &normed, &mut gate_up);
        let mut gated = vec![0.0; step.rows.len() * hidden];
        for (gate_up, out) in gate_up.chunks_exact(2 * hidden).zip(gated.chunks_exact_mut(hidden)) {
            kernel::gated(self.simd.arch, gate_up, out);
        }
        let mut out = vec![0.0; step.stream.len()];
        layer.down.multiply(self.simd, &gated, &mut out);
        kernel::add(&mut step.stream, &out);
    }

    fn normed(&self, step: &Step, weight: &[f32]) -> Vec<f32> {
        let (width, epsilon) = (self.config.width, self.config.norm_epsilon);
        let mut out = vec![0.0; step.stream.len()];
        for (row, out) in step.stream.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            kernel::rms_norm(self.simd.arch, row, weight, epsilon, out);
        }
        out
    }

    /// Rotates the pairs of queries and keys (elements `2i` and `2i + 1`, as GGUF stores llama)
    /// and scales the queries.
    fn rotate(&self, step: &Step, qkv: &mut [f32]) {
        let config = &self.config;
        let (queries, keys) = (config.query_width(), config.kv_width());
        let scale = 1.0 / (config.head_width as f32).sqrt();
        let rows = qkv.chunks_exact_mut(queries + 2 * keys);
        for (row, rotation) in rows.zip(step.rotations.chunks_exact(config.rope_width / 2)) {
            for head in row[..queries + keys].chunks_exact_mut(config.head_width) {
                for (pair, (sine, cosine)) in head.as_chunks_mut::<2>().0.iter_mut().zip(rotation) {
                    let [a, b] = *pair;
                    *pair = [a * cosine - b * sine, a * sine + b * cosine];
                }
            }
            row[..queries].iter_mut().for_each(|query| *query *= scale);
        }
    }

    /// Attention of every row on its own: decoding, and short runs.
    fn attend_rows(&self, layer: usize, step: &Step, runs: &[Run<'_>], qkv: &[f32]) -> Vec<f32> {
        let config = &self.config;
        let (queries, keys) = (config.query_width(), config.kv_width());
        let group = config.group() * config.head_width;
        let mut out = vec![0.0; step.rows.len() * queries];
        out.par_chunks_mut(group).enumerate().for_each_init(Vec::new, |scores, (index, out)| {
            let (row, head) = (index / config.kv_heads, index % config.kv_heads);
            let start = row * (queries + 2 * keys) + head * group;
            let Row { run, position } = step.rows[row];
            let cached = runs[run].cache.head(layer, head, position + 1);
            let queries = &qkv[start..start + group];
            kernel::attend(self.simd.arch, queries, cached, config.head_width, scores, out);
        });
        out
    }

    /// Attention of a long run as matrix products, head by head.
    fn attend_run(&self, layer: usize, run: &Run<'_>, qkv: &[f32]) -> Result<Vec<f32>, Stopped> {
        let config = &self.config;
        let (n, width, queries) = (run.tokens.len(), config.head_width, config.query_width());
        let held = run.cache.len();
        let heads = (0..config.heads)
            .into_par_iter()
            .map(|head| {
                let (keys, values) = run.cache.head(layer, head / config.group(), held + n);
                let query: Vec<f32> = qkv
                    .chunks_exact(queries + 2 * config.kv_width())
                    .flat_map(|row| &row[head * width..(head + 1) * width])
                    .copied()
                    .collect();
                let query = Tensor::from_vec(query, (n, width), &Device::Cpu)?;
                let keys = Tensor::from_slice(keys, (held + n, width), &Device::Cpu)?;
                let values = Tensor::from_slice(values, (held + n, width), &Device::Cpu)?;
                let mut scores = query.matmul(&keys.t()?)?.flatten_all()?.to_vec1::<f32>()?;
                for (index, row) in scores.chunks_exact_mut(held + n).enumerate() {
                    let (seen, future) = row.split_at_mut(held + index + 1);
                    kernel::softmax(self.simd.arch, seen);
                    future.fill(0.0);
                }
                let scores = Tensor::from_vec(scores, (n, held + n), &Device::Cpu)?;
                scores.matmul(&values)?.flatten_all()?.to_vec1::<f32>()
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let mut out = vec![0.0; n * queries];
        for (head, values) in heads.iter().enumerate() {
            for (out, value) in out.chunks_exact_mut(queries).zip(values.chunks_exact(width)) {
                out[head * width..(head + 1) * width].copy_from_slice(value);
            }
        }
        Ok(out)
    }

    /// Logits after the last row of every run.
    fn logits(&self, step: &Step, runs: &[Run<'_>]) -> Vec<f32> {
        let (width, epsilon) = (self.config.width, self.config.norm_epsilon);
        let mut normed = vec![0.0; runs.len() * width];
        let mut end = 0;
        for (run, out) in runs.iter().zip(normed.chunks_exact_mut(width)) {
            end += run.tokens.len();
            let row = &step.stream[(end - 1) * width..end * width];
            kernel::rms_norm(self.simd.arch, row, &self.output_norm, epsilon, out);
        }
        let output = self.output.as_ref().unwrap_or(&self.embedding);
        let mut logits = vec![0.0; runs.len() * self.config.vocabulary];
        output.multiply(self.simd, &normed, &mut logits);
        logits
    }
}

#[expect(clippy::cast_possible_truncation, reason = "nearest f32 is what is wanted")]
fn narrow(value: f64) -> f32 {
    value as f32
}
