//! The element-wise parts of BERT, compiled for the processor they run on: see [`crate::model::kernel`].

use std::f32::consts::FRAC_1_SQRT_2;

use pulp::{Arch, Simd, WithSimd};

use crate::model::kernel::{exp, sum, sum_of_squares};

/// Scales a row to mean 0 and variance 1, then by `weight`, then adds `bias`.
pub(super) fn layer_norm(simd: Arch, row: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    simd.dispatch(LayerNorm { row, weight, bias, epsilon });
}

/// `row = gelu(row + bias)`, the exact one (with the error function).
pub(super) fn biased_gelu(simd: Arch, row: &mut [f32], bias: &[f32]) {
    simd.dispatch(BiasedGelu { row, bias });
}

struct LayerNorm<'a> {
    row: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
}

impl WithSimd for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { row, weight, bias, epsilon } = self;
        let len = row.len() as f32;
        let mean = sum(row) / len;
        for value in row.iter_mut() {
            *value -= mean;
        }
        let scale = 1.0 / (sum_of_squares(row) / len + epsilon).sqrt();
        for ((value, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
            *value = *value * scale * weight + bias;
        }
    }
}

struct BiasedGelu<'a> {
    row: &'a mut [f32],
    bias: &'a [f32],
}

impl WithSimd for BiasedGelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (value, bias) in self.row.iter_mut().zip(self.bias) {
            let x = *value + bias;
            *value = 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2));
        }
    }
}

/// The error function to 2e-7, without a call or a branch: Abramowitz and Stegun, 7.1.26.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let mut p = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p * t + coefficient;
    }
    (1.0 - p * t * exp(-size * size)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_close() {
        // Values of a table.
        for (x, expected) in
            [(0.0, 0.0), (0.1, 0.112_462_9), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3)]
        {
            assert!((erf(x) - expected).abs() < 4e-7, "{x}");
            assert!((erf(-x) + expected).abs() < 4e-7, "-{x}");
        }
        assert!((erf(30.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_normed_row_has_mean_zero_and_variance_one() {
        let mut row: Vec<f32> = (0..40).map(|i| i as f32 * 3.0 - 11.0).collect();
        layer_norm(Arch::new(), &mut row, &[1.0; 40], &[0.0; 40], 1e-12);
        let mean: f32 = row.iter().sum::<f32>() / 40.0;
        let variance: f32 = row.iter().map(|value| value * value).sum::<f32>() / 40.0;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5);
    }
}
