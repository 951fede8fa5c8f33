//! The element-wise parts of the model, compiled for the processor they run on.
//!
//! Each is a plain loop over slices; `pulp` compiles it once more with AVX2 and FMA and chooses at
//! run time, so no build flags are needed. Sums are kept in [`LANES`] independent parts, the form
//! the compiler can vectorise, always in the same order.

use pulp::{Arch, Simd, WithSimd};

const LANES: usize = 16;

/// `out = input / rms(input) × weight`.
pub(crate) fn rms_norm(simd: Arch, input: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    simd.dispatch(RmsNorm { input, weight, epsilon, out });
}

/// `accumulator += values`.
pub(crate) fn add(accumulator: &mut [f32], values: &[f32]) {
    for (accumulator, value) in accumulator.iter_mut().zip(values) {
        *accumulator += value;
    }
}

/// `out = silu(gate) × up`, where `gate_up` is the one followed by the other.
pub(crate) fn gated(simd: Arch, gate_up: &[f32], out: &mut [f32]) {
    let (gate, up) = gate_up.split_at(gate_up.len() / 2);
    simd.dispatch(Gated { gate, up, out });
}

/// Turns scores into weights that sum to one.
pub(crate) fn softmax(simd: Arch, scores: &mut [f32]) {
    simd.dispatch(Softmax { scores });
}

/// Attention of the query heads that share one key head, for one token.
///
/// `queries` and `out` are `heads × width`, `keys` and `values` are `positions × width`; `scores`
/// is scratch.
pub(crate) fn attend(
    simd: Arch,
    queries: &[f32],
    (keys, values): (&[f32], &[f32]),
    width: usize,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    scores.resize(keys.len() / width, 0.0);
    simd.dispatch(Attend { queries, keys, values, width, scores, out });
}

// A closure would do for `dispatch`, but its body may stay a function of its own, compiled without
// AVX2 (measured): methods marked `inline(always)` cannot.

struct RmsNorm<'a> {
    input: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl WithSimd for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let mean = sum_of_squares(self.input) / self.input.len() as f32;
        let scale = 1.0 / (mean + self.epsilon).sqrt();
        for ((out, value), weight) in self.out.iter_mut().zip(self.input).zip(self.weight) {
            *out = value * scale * weight;
        }
    }
}

struct Gated<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Gated<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for ((out, gate), up) in self.out.iter_mut().zip(self.gate).zip(self.up) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    }
}

struct Softmax<'a> {
    scores: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        softmax_inline(self.scores);
    }
}

struct Attend<'a> {
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    width: usize,
    scores: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { queries, keys, values, width, scores, out } = self;
        for (query, out) in queries.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(width)) {
                *score = dot(query, key);
            }
            softmax_inline(scores);
            out.fill(0.0);
            for (score, value) in scores.iter().zip(values.chunks_exact(width)) {
                for (out, value) in out.iter_mut().zip(value) {
                    *out += score * value;
                }
            }
        }
    }
}

#[inline(always)]
fn softmax_inline(scores: &mut [f32]) {
    let max = maximum(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - max);
    }
    let scale = 1.0 / sum(scores);
    for score in scores.iter_mut() {
        *score *= scale;
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    total(lanes)
}

#[inline(always)]
pub(crate) fn sum_of_squares(values: &[f32]) -> f32 {
    dot(values, values)
}

#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    total(lanes)
}

#[inline(always)]
fn maximum(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, *value);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// Adds halves to halves, which stays in vectors.
#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `e^x` to about two units in the last place, without a call or a branch, so that loops over it
/// are vectorised: `x = n ln 2 + r`, a polynomial in `r`, and `2^n` by the exponent bits.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "n is clamped to -126..=127, so n + 127 is a valid exponent"
)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        p = p * r + coefficient;
    }
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close() {
        for step in -8700..=8800 {
            let x = step as f32 / 100.0;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / exact - 1.0).abs() < 5e-7, "{x}: {ours} {exact}");
        }
        assert!(exp(-1e30) < 1e-37);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_order() {
        let mut scores: Vec<f32> = (0..37).map(|i| (i as f32 * 0.7).sin() * 20.0).collect();
        let before = scores.clone();
        softmax(Arch::new(), &mut scores);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(before[3] > before[20], scores[3] > scores[20]);
    }

    #[test]
    fn attention_of_one_position_is_its_value() {
        let (queries, keys, values) = ([1.0; 8], [0.5; 4], [1.0, 2.0, 3.0, 4.0]);
        let mut out = [0.0; 8];
        attend(Arch::new(), &queries, (&keys, &values), 4, &mut Vec::new(), &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn norm_has_unit_mean_square() {
        let input: Vec<f32> = (0..40).map(|i| i as f32 - 11.0).collect();
        let mut out = vec![0.0; 40];
        rms_norm(Arch::new(), &input, &[1.0; 40], 1e-9, &mut out);
        let mean: f32 = out.iter().map(|v| v * v).sum::<f32>() / 40.0;
        assert!((mean - 1.0).abs() < 1e-5);
    }
}
