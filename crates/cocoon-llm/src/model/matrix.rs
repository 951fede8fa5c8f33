//! A weight matrix in blocks of 32 weights, and the product with a few rows of input.
//!
//! Q4_0, Q4_1 and Q8_0 keep the numbers of the file: nothing is requantised, and the arithmetic is
//! llama.cpp's (8-bit inputs, whole-number sums per block), so greedy answers agree with it. Every
//! other format is dequantised by `candle` and requantised to 8 bits on loading.
//!
//! candle's own products are not used for weights. Its Q4_1 dot product is scalar on x86, its Q8_0
//! one a third as fast as [`super::dot`] for several rows (measured), and `QMatMul` spins on a
//! process-wide pool of threads. A row's result does not depend on which other rows share the
//! call, so neither does a sequence's text.

use candle_core::quantized::{GgmlDType, QuantizedType};
use half::f16;
use rayon::prelude::*;

use crate::error::LoadError;
use crate::gguf::TensorInfo;
use crate::limits::{DOT_SLAB_ROWS, INPUT_TILE_ROWS};
use crate::model::dot::{self, BLOCK, Simd};

/// `rows × columns` weights; tensors of the same width may be stacked.
pub(crate) struct Matrix {
    columns: usize,
    parts: Vec<Part>,
}

/// One tensor. Weight `i` of a block is `scale × quant[i] + minimum`.
pub(crate) struct Part {
    pub(crate) quants: Quants,
    pub(crate) scales: Vec<f32>,
    pub(crate) minima: Vec<f32>,
}

pub(crate) enum Quants {
    /// Two unsigned 4-bit numbers a byte: weights 0 to 15 in the low halves, 16 to 31 in the high.
    Nibbles(Vec<[u8; BLOCK / 2]>),
    Bytes(Vec<[i8; BLOCK]>),
}

/// Rows of input, quantised to 8 bits in blocks.
pub(crate) struct Input {
    pub(crate) row_blocks: usize,
    pub(crate) quants: Vec<[i8; BLOCK]>,
    pub(crate) scales: Vec<f32>,
    /// The sum of every block's values, for the minima of the weights.
    pub(crate) sums: Vec<f32>,
}

impl Matrix {
    /// A matrix without rows; `columns` is a multiple of [`BLOCK`].
    pub(crate) fn empty(columns: usize) -> Self {
        Self { columns, parts: Vec::new() }
    }

    /// Puts a tensor below the others. `bytes` is what the file holds for it.
    pub(crate) fn push(&mut self, bytes: &[u8], info: &TensorInfo) -> Result<(), LoadError> {
        let part = match info.dtype {
            GgmlDType::Q4_0 => Part::q4_0(bytes),
            GgmlDType::Q4_1 => Part::q4_1(bytes),
            GgmlDType::Q8_0 => Part::q8_0(bytes),
            GgmlDType::F32
            | GgmlDType::F16
            | GgmlDType::BF16
            | GgmlDType::Q5_0
            | GgmlDType::Q5_1
            | GgmlDType::Q8_1
            | GgmlDType::Q2K
            | GgmlDType::Q3K
            | GgmlDType::Q4K
            | GgmlDType::Q5K
            | GgmlDType::Q6K
            | GgmlDType::Q8K => Part::requantised(&dequantised(bytes, info)?),
        };
        finite(&part.scales)?;
        finite(&part.minima)?;
        self.parts.push(part);
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// Writes row `index` of a matrix of one tensor to `out`.
    pub(crate) fn row(&self, index: usize, out: &mut [f32]) {
        let blocks = self.columns / BLOCK;
        if let Some(part) = self.parts.first() {
            for (block, out) in (index * blocks..).zip(out.as_chunks_mut::<BLOCK>().0) {
                part.dequantise(block, out);
            }
        }
    }

    /// `out = input × selfᵀ`, with `input` of `n × columns` and `out` of `n × rows`.
    pub(crate) fn multiply(&self, simd: Simd, input: &[f32], out: &mut [f32]) {
        let input = Input::new(simd, input, self.columns);
        let blocks = self.columns / BLOCK;
        let (n, rows) = (input.rows(), self.rows());
        if let ([part], 1) = (self.parts.as_slice(), n) {
            part.multiply(simd, &input, out);
            return;
        }
        let mut first = 0;
        let mut transposed = Vec::new();
        for part in &self.parts {
            // Weight rows outermost, so that each is read once for a tile of inputs.
            let part_rows = part.scales.len() / blocks;
            transposed.resize(part_rows * n, 0.0);
            part.multiply(simd, &input, &mut transposed);
            for (index, values) in transposed.chunks_exact(n).enumerate() {
                for (row, value) in values.iter().enumerate() {
                    out[row * rows + first + index] = *value;
                }
            }
            first += part_rows;
        }
    }

    fn rows(&self) -> usize {
        let blocks = self.columns / BLOCK;
        self.parts.iter().map(|part| part.scales.len() / blocks).sum()
    }
}

impl Part {
    fn q4_0(bytes: &[u8]) -> Self {
        let blocks = bytes.as_chunks::<18>().0;
        let scale = |block: &[u8; 18]| half_at(block, 0);
        Self {
            quants: Quants::Nibbles(blocks.iter().map(|block| tail(block)).collect()),
            scales: blocks.iter().map(scale).collect(),
            // Q4_0 stores w / scale + 8.
            minima: blocks.iter().map(|block| -8.0 * scale(block)).collect(),
        }
    }

    fn q4_1(bytes: &[u8]) -> Self {
        let blocks = bytes.as_chunks::<20>().0;
        Self {
            quants: Quants::Nibbles(blocks.iter().map(|block| tail(block)).collect()),
            scales: blocks.iter().map(|block| half_at(block, 0)).collect(),
            minima: blocks.iter().map(|block| half_at(block, 2)).collect(),
        }
    }

    fn q8_0(bytes: &[u8]) -> Self {
        let blocks = bytes.as_chunks::<34>().0;
        let quants = |block: &[u8; 34]| tail::<BLOCK>(block).map(u8::cast_signed);
        Self {
            quants: Quants::Bytes(blocks.iter().map(quants).collect()),
            scales: blocks.iter().map(|block| half_at(block, 0)).collect(),
            minima: Vec::new(),
        }
    }

    fn requantised(values: &[f32]) -> Self {
        let (quants, scales): (Vec<_>, Vec<_>) = values
            .as_chunks::<BLOCK>()
            .0
            .iter()
            .map(|values| {
                let (mut quants, mut scale) = ([0; BLOCK], 0.0);
                dot::quantise_block(values, &mut quants, &mut scale);
                (quants, scale)
            })
            .unzip();
        Self { quants: Quants::Bytes(quants), scales, minima: Vec::new() }
    }

    fn dequantise(&self, block: usize, out: &mut [f32; BLOCK]) {
        let scale = self.scales[block];
        match &self.quants {
            Quants::Bytes(quants) => {
                for (out, quant) in out.iter_mut().zip(&quants[block]) {
                    *out = scale * f32::from(*quant);
                }
            }
            Quants::Nibbles(quants) => {
                let (low, high) = out.split_at_mut(BLOCK / 2);
                for ((low, high), pair) in low.iter_mut().zip(high).zip(&quants[block]) {
                    *low = scale * f32::from(pair & 15) + self.minima[block];
                    *high = scale * f32::from(pair >> 4) + self.minima[block];
                }
            }
        }
    }

    /// `out[w][i] = weights[w] · input[i]`.
    fn multiply(&self, simd: Simd, input: &Input, out: &mut [f32]) {
        let n = input.rows();
        out.par_chunks_mut(DOT_SLAB_ROWS * n).enumerate().for_each(|(slab, out)| {
            let first = slab * DOT_SLAB_ROWS * input.row_blocks;
            for tile in (0..n).step_by(INPUT_TILE_ROWS) {
                let rows = tile..n.min(tile + INPUT_TILE_ROWS);
                dot::product(simd, self, first, input, rows, out);
            }
        });
    }

    fn bytes(&self) -> u64 {
        let quants = match &self.quants {
            Quants::Nibbles(blocks) => size_of_val(blocks.as_slice()),
            Quants::Bytes(blocks) => size_of_val(blocks.as_slice()),
        };
        (quants + size_of_val(self.scales.as_slice()) + size_of_val(self.minima.as_slice())) as u64
    }
}

impl Input {
    /// Quantises rows of `columns` values.
    pub(crate) fn new(simd: Simd, values: &[f32], columns: usize) -> Self {
        let blocks = values.len() / BLOCK;
        let mut input = Self {
            row_blocks: columns / BLOCK,
            quants: vec![[0; BLOCK]; blocks],
            scales: vec![0.0; blocks],
            sums: vec![0.0; blocks],
        };
        dot::quantise(simd, values, &mut input);
        for value in input.scales.iter_mut().chain(&mut input.sums) {
            // llama.cpp keeps both as half floats.
            *value = f16::from_f32(*value).to_f32();
        }
        input
    }

    pub(crate) fn rows(&self) -> usize {
        self.scales.len() / self.row_blocks
    }
}

/// The half float at byte `at`.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The last `N` bytes.
fn tail<const N: usize>(block: &[u8]) -> [u8; N] {
    *block.last_chunk().expect("every block is longer than its quants")
}

/// Decodes the blocks; their number was checked against the shape when the header was read.
pub(crate) fn dequantised(bytes: &[u8], info: &TensorInfo) -> Result<Vec<f32>, LoadError> {
    let values = if info.dtype == GgmlDType::F32 {
        let fours = bytes.as_chunks().0.iter();
        fours.map(|four| f32::from_le_bytes(*four)).collect()
    } else {
        let elements = usize::try_from(info.shape.iter().product::<u64>())
            .map_err(|_| LoadError::Unsupported("a tensor above the address space".to_owned()))?;
        let blocks: Box<dyn QuantizedType> = info.dtype.from_data(bytes.into());
        let storage = blocks.dequantize(elements).map_err(internal)?;
        storage.as_slice::<f32>().map_err(internal)?.to_vec()
    };
    finite(&values)?;
    Ok(values)
}

/// One weight that is not a number would make every answer nonsense.
fn finite(values: &[f32]) -> Result<(), LoadError> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(LoadError::Malformed("a weight is not finite".to_owned()))
}

fn internal(error: candle_core::Error) -> LoadError {
    LoadError::Internal(error.to_string())
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "test data is small")]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
    }

    /// Bytes as a file would hold them; any bytes are valid quants.
    fn blocks(block_bytes: usize, n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for block in 0..n {
            for at in 0..block_bytes {
                bytes.push(((block * 31 + at * 17) % 251) as u8);
            }
            let start = block * block_bytes;
            bytes[start..start + 2].copy_from_slice(&f16::from_f32(0.01).to_le_bytes());
            if block_bytes == 20 {
                bytes[start + 2..start + 4].copy_from_slice(&f16::from_f32(-0.07).to_le_bytes());
            }
        }
        bytes
    }

    fn matrix(dtype: GgmlDType, rows: usize, columns: usize) -> (Matrix, Vec<f32>) {
        let bytes = if dtype == GgmlDType::F32 {
            values(rows * columns, 1).iter().flat_map(|value| value.to_le_bytes()).collect()
        } else {
            blocks(dtype.type_size(), rows * columns / BLOCK)
        };
        let shape = vec![rows as u64, columns as u64];
        let info = TensorInfo { shape, dtype, offset: 0, bytes: bytes.len() as u64 };
        let mut matrix = Matrix::empty(columns);
        matrix.push(&bytes, &info).expect("valid");
        (matrix, dequantised(&bytes, &info).expect("valid"))
    }

    const TYPES: [GgmlDType; 4] = [GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q8_0, GgmlDType::F32];

    #[test]
    fn rows_are_those_of_the_file() {
        for dtype in TYPES {
            let (matrix, expected) = matrix(dtype, 5, 64);
            let mut row = vec![0.0; 64];
            matrix.row(3, &mut row);
            for (a, b) in row.iter().zip(&expected[3 * 64..]) {
                assert!((a - b).abs() < 0.005, "{dtype:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn products_agree_with_the_definition_on_every_path() {
        let (n, columns, rows) = (11, 64, 300);
        let input = values(n * columns, 2);
        for dtype in TYPES {
            let (matrix, weights) = matrix(dtype, rows, columns);
            for simd in [Simd::detect(), Simd::portable()] {
                let mut out = vec![0.0; n * rows];
                matrix.multiply(simd, &input, &mut out);
                for (index, out) in out.iter().enumerate() {
                    let x = &input[index / rows * columns..][..columns];
                    let w = &weights[index % rows * columns..][..columns];
                    let exact: f32 = x.iter().zip(w).map(|(a, b)| a * b).sum();
                    assert!((out - exact).abs() < 0.2, "{dtype:?}: {out} {exact}");
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        let (columns, rows) = (64, 300);
        for dtype in TYPES {
            let (matrix, _) = matrix(dtype, rows, columns);
            let input = values(9 * columns, 2);
            let mut together = vec![0.0; 9 * rows];
            matrix.multiply(Simd::detect(), &input, &mut together);
            for (x, expected) in input.chunks_exact(columns).zip(together.chunks_exact(rows)) {
                let mut alone = vec![0.0; rows];
                matrix.multiply(Simd::detect(), x, &mut alone);
                assert_eq!(alone, expected);
            }
        }
    }
}
