//! The inner loop: 8-bit inputs against 4-bit or 8-bit weights.
//!
//! Twice: with AVX2 where the processor has it, and portable. Both compute a block's sum in whole
//! numbers; they differ in the order in which blocks are added. There is no `unsafe`: `pulp` hands
//! out a token that proves the processor's features and makes the instructions safe to call.

use std::ops::Range;

use pulp::Arch;

use crate::model::matrix::{Input, Part, Quants};

/// Weights that share a scale.
pub(crate) const BLOCK: usize = 32;

/// What this processor can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Simd {
    /// For loops that the compiler vectorises.
    pub(crate) arch: Arch,
    #[cfg(target_arch = "x86_64")]
    avx2: Option<pulp::x86::V3>,
}

impl Simd {
    pub(crate) fn detect() -> Self {
        Self {
            arch: Arch::new(),
            #[cfg(target_arch = "x86_64")]
            avx2: pulp::x86::V3::try_new(),
        }
    }

    /// What a processor without AVX2 does, to test that too.
    #[cfg(test)]
    pub(crate) fn portable() -> Self {
        Self {
            arch: Arch::Scalar,
            #[cfg(target_arch = "x86_64")]
            avx2: None,
        }
    }
}

/// Products of consecutive weight rows of `part`, the first of which starts at block `first`, with
/// the input `rows`: `out[w × input.rows() + row]`, as many weight rows as `out` has room for.
pub(crate) fn product(simd: Simd, part: &Part, first: usize, input: &Input, rows: Range<usize>, out: &mut [f32]) {
    let product = Product { part, first, input, rows, out };
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = simd.avx2 {
        avx2.vectorize(avx2::Op { avx2, product });
        return;
    }
    simd.arch.dispatch(product);
}

struct Product<'a> {
    part: &'a Part,
    first: usize,
    input: &'a Input,
    rows: Range<usize>,
    out: &'a mut [f32],
}

/// One row of weights or input, as its blocks.
#[derive(Clone, Copy)]
struct InputRow<'a> {
    quants: &'a [[i8; BLOCK]],
    scales: &'a [f32],
    sums: &'a [f32],
}

impl Input {
    #[inline(always)]
    fn row(&self, index: usize) -> InputRow<'_> {
        let blocks = index * self.row_blocks..(index + 1) * self.row_blocks;
        InputRow {
            quants: &self.quants[blocks.clone()],
            scales: &self.scales[blocks.clone()],
            sums: &self.sums[blocks],
        }
    }
}

impl pulp::WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _simd: S) {
        let Self { part, first, input, rows, out } = self;
        let blocks = input.row_blocks;
        for (index, out) in out.chunks_exact_mut(input.rows()).enumerate() {
            let weights = first + index * blocks..first + (index + 1) * blocks;
            for row in rows.clone() {
                out[row] = portable(part, weights.clone(), input.row(row));
            }
        }
    }
}

#[inline(always)]
fn portable(part: &Part, weights: Range<usize>, input: InputRow<'_>) -> f32 {
    let scales = &part.scales[weights.clone()];
    let mut sum = 0.0;
    match &part.quants {
        Quants::Bytes(quants) => {
            let blocks = quants[weights].iter().zip(scales);
            for (((w, scale), x), x_scale) in blocks.zip(input.quants).zip(input.scales) {
                let products = w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x));
                sum += products.sum::<i32>() as f32 * (scale * x_scale);
            }
        }
        Quants::Nibbles(quants) => {
            let blocks = quants[weights.clone()].iter().zip(scales);
            for (((w, scale), x), x_scale) in blocks.zip(input.quants).zip(input.scales) {
                let (low, high) = x.split_at(BLOCK / 2);
                let products =
                    w.iter().zip(low).zip(high).map(|((w, low), high)| {
                        i32::from(w & 15) * i32::from(*low) + i32::from(w >> 4) * i32::from(*high)
                    });
                sum += products.sum::<i32>() as f32 * (scale * x_scale);
            }
            sum += minima(&part.minima[weights], input.sums);
        }
    }
    sum
}

/// What the minima of a row of weights add.
#[inline(always)]
fn minima(minima: &[f32], sums: &[f32]) -> f32 {
    minima.iter().zip(sums).fold(0.0, |total, (minimum, sum)| total + minimum * sum)
}

/// Quantises every block of `values` and adds it up.
pub(crate) fn quantise(simd: Simd, values: &[f32], input: &mut Input) {
    simd.arch.dispatch(Quantise { values, input });
}

struct Quantise<'a> {
    values: &'a [f32],
    input: &'a mut Input,
}

impl pulp::WithSimd for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _simd: S) {
        let Input { quants, scales, sums, .. } = self.input;
        let blocks = self.values.as_chunks::<BLOCK>().0.iter().zip(quants).zip(scales).zip(sums);
        for (((values, quants), scale), sum) in blocks {
            let total = quantise_block(values, quants, scale);
            *sum = total as f32 * *scale;
        }
    }
}

/// Symmetric 8-bit quantisation; returns the sum of the quants.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "rounded and within -127..=127")]
pub(crate) fn quantise_block(values: &[f32; BLOCK], quants: &mut [i8; BLOCK], scale: &mut f32) -> i32 {
    let mut largest = 0.0f32;
    for value in values {
        let value = value.abs();
        largest = if value > largest { value } else { largest };
    }
    *scale = largest / 127.0;
    // Below this the quotient would not be finite; such a block is zero for every purpose.
    let inverse = if largest > 1e-30 { 127.0 / largest } else { 0.0 };
    let mut sum = 0;
    for (quant, value) in quants.iter_mut().zip(values) {
        let rounded = (value * inverse).round_ties_even() as i32;
        *quant = rounded as i8;
        sum += rounded;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_blocks_are_quantised_without_overflow() {
        for value in [0.0, 1e-45, 1e-38, 1e-31, 1.0, 3e38, f32::INFINITY, f32::NAN] {
            let (mut quants, mut scale) = ([0; BLOCK], 0.0);
            let mut values = [value; BLOCK];
            values[3] = -value;
            let sum = quantise_block(&values, &mut quants, &mut scale);
            let expected = if (1e-30..=f32::MAX).contains(&value) { 127 } else { 0 };
            assert_eq!((quants[0], quants[3], sum), (expected, -expected, 30 * i32::from(expected)));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! The same with AVX2. `maddubs` multiplies unsigned by signed bytes: 4-bit weights are
    //! unsigned as they are, 8-bit ones give their sign to the input.

    use core::arch::x86_64::{__m128i, __m256, __m256i};
    use std::ops::Range;

    use pulp::x86::V3;

    use super::{BLOCK, InputRow, Product};
    use crate::model::matrix::{Part, Quants};

    /// Input rows that share one pass over a row of weights.
    const TOGETHER: usize = 4;

    pub(super) struct Op<'a> {
        pub(super) avx2: V3,
        pub(super) product: Product<'a>,
    }

    impl pulp::NullaryFnOnce for Op<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Product { part, first, input, rows, out } = self.product;
            let blocks = input.row_blocks;
            for (index, out) in out.chunks_exact_mut(input.rows()).enumerate() {
                let weights = first + index * blocks..first + (index + 1) * blocks;
                let mut row = rows.start;
                while row + TOGETHER <= rows.end {
                    let inputs = [input.row(row), input.row(row + 1), input.row(row + 2), input.row(row + 3)];
                    let sums = several(self.avx2, part, weights.clone(), inputs);
                    out[row..row + TOGETHER].copy_from_slice(&sums);
                    row += TOGETHER;
                }
                while row < rows.end {
                    [out[row]] = several(self.avx2, part, weights.clone(), [input.row(row)]);
                    row += 1;
                }
            }
        }
    }

    // Plain loops over arrays below: `array::map` leaves functions of their own, without AVX2.

    #[inline(always)]
    fn several<const N: usize>(avx2: V3, part: &Part, weights: Range<usize>, inputs: [InputRow<'_>; N]) -> [f32; N] {
        let scales = &part.scales[weights.clone()];
        match &part.quants {
            Quants::Nibbles(quants) => {
                let minima = &part.minima[weights.clone()];
                nibbles(avx2, &quants[weights], scales, minima, inputs)
            }
            Quants::Bytes(quants) => bytes(avx2, &quants[weights], scales, inputs),
        }
    }

    #[inline(always)]
    fn nibbles<const N: usize>(
        avx2: V3,
        weights: &[[u8; BLOCK / 2]],
        scales: &[f32],
        minima: &[f32],
        inputs: [InputRow<'_>; N],
    ) -> [f32; N] {
        let n = weights.len();
        let (scales, minima, inputs) = (&scales[..n], &minima[..n], cut(inputs, n));
        let mask = avx2.avx._mm256_set1_epi8(15);
        let mut sums = [avx2.avx._mm256_setzero_ps(); N];
        let mut offsets = [0.0; N];
        for block in 0..n {
            let pairs: __m128i = pulp::cast(weights[block]);
            let both = avx2.avx._mm256_set_m128i(avx2.sse2._mm_srli_epi16::<4>(pairs), pairs);
            let weights = avx2.avx2._mm256_and_si256(both, mask);
            for i in 0..N {
                let x: __m256i = pulp::cast(inputs[i].quants[block]);
                let scale = scales[block] * inputs[i].scales[block];
                sums[i] = accumulate(avx2, sums[i], weights, x, scale);
                offsets[i] += minima[block] * inputs[i].sums[block];
            }
        }
        totals(sums, offsets)
    }

    #[inline(always)]
    fn bytes<const N: usize>(avx2: V3, weights: &[[i8; BLOCK]], scales: &[f32], inputs: [InputRow<'_>; N]) -> [f32; N] {
        let n = weights.len();
        let (scales, inputs) = (&scales[..n], cut(inputs, n));
        let mut sums = [avx2.avx._mm256_setzero_ps(); N];
        for block in 0..n {
            let signed: __m256i = pulp::cast(weights[block]);
            let magnitude = avx2.avx2._mm256_abs_epi8(signed);
            for i in 0..N {
                let x = pulp::cast(inputs[i].quants[block]);
                let x = avx2.avx2._mm256_sign_epi8(x, signed);
                let scale = scales[block] * inputs[i].scales[block];
                sums[i] = accumulate(avx2, sums[i], magnitude, x, scale);
            }
        }
        totals(sums, [0.0; N])
    }

    /// Tells the compiler that every slice has `n` elements, so that it checks that once.
    #[inline(always)]
    fn cut<const N: usize>(mut inputs: [InputRow<'_>; N], n: usize) -> [InputRow<'_>; N] {
        for input in &mut inputs {
            input.quants = &input.quants[..n];
            input.scales = &input.scales[..n];
            input.sums = &input.sums[..n];
        }
        inputs
    }

    /// `sum + scale × (weights · x)`. No 16-bit sum overflows: 2 × 128 × 127 < 2^15.
    #[inline(always)]
    fn accumulate(avx2: V3, sum: __m256, weights: __m256i, x: __m256i, scale: f32) -> __m256 {
        let pairs = avx2.avx2._mm256_maddubs_epi16(weights, x);
        let fours = avx2.avx2._mm256_madd_epi16(pairs, avx2.avx._mm256_set1_epi16(1));
        let floats = avx2.avx._mm256_cvtepi32_ps(fours);
        avx2.fma._mm256_fmadd_ps(floats, avx2.avx._mm256_set1_ps(scale), sum)
    }

    #[inline(always)]
    fn totals<const N: usize>(sums: [__m256; N], mut totals: [f32; N]) -> [f32; N] {
        for i in 0..N {
            let [a, b, c, d, e, f, g, h]: [f32; 8] = pulp::cast(sums[i]);
            totals[i] += ((a + e) + (c + g)) + ((b + f) + (d + h));
        }
        totals
    }
}
