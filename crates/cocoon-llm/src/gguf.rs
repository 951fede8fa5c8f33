//! The header of a GGUF file: metadata and the place of every tensor.
//!
//! This is a trust boundary: the file was downloaded. It is not the tensor library's own reader,
//! which divides by an alignment read from the file and keeps no bound on strings. Steps:
//!
//! 1. magic, version 2 or 3, the two counts, each below its limit;
//! 2. metadata entries, no nested arrays;
//! 3. tensor entries: known type, size computed without overflow, inside the file, none over another:
//!    otherwise a small file could name the same bytes as every weight of a huge model.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use candle_core::quantized::GgmlDType;

use crate::error::LoadError;
use crate::limits::{
    GGUF_ARRAY_LEN_MAX, GGUF_DIMENSIONS_MAX, GGUF_ENTRIES_MAX, GGUF_STRING_BYTES_MAX, GGUF_TENSORS_MAX,
};

const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");
const ALIGNMENT_DEFAULT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 16;

/// A metadata value; integers of every width are widened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
}

/// Where a tensor lies and how it is stored.
#[derive(Debug, Clone)]
pub(crate) struct TensorInfo {
    /// Row-major, outermost first: `[rows, columns]` for a matrix.
    pub(crate) shape: Vec<u64>,
    pub(crate) dtype: GgmlDType,
    /// From the start of the file.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A parsed header.
#[derive(Debug)]
pub(crate) struct Gguf {
    pub(crate) metadata: BTreeMap<String, Value>,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf {
    /// Reads and checks the header of `file`, which must start at its first byte.
    pub(crate) fn read<R: Read + Seek>(mut file: R) -> Result<Self, LoadError> {
        let file_bytes = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let mut header = Header { inner: std::io::BufReader::new(file), position: 0, file_bytes };

        if header.u32()? != MAGIC {
            return Err(malformed("not a GGUF file"));
        }
        let version = header.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(LoadError::Unsupported(format!("GGUF version {version}")));
        }
        let tensors_len = bounded(header.u64()?, GGUF_TENSORS_MAX, "tensor count")?;
        let entries_len = bounded(header.u64()?, GGUF_ENTRIES_MAX, "metadata count")?;

        let mut metadata = BTreeMap::new();
        for _ in 0..entries_len {
            let key = header.text()?;
            let value = header.value()?;
            if metadata.insert(key, value).is_some() {
                return Err(malformed("a metadata key appears twice"));
            }
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensors_len {
            let name = header.text()?;
            let info = header.tensor()?;
            if tensors.insert(name, info).is_some() {
                return Err(malformed("a tensor name appears twice"));
            }
        }
        let data_start = data_start(&metadata, header.position)?;
        for info in tensors.values_mut() {
            info.offset =
                place(info, data_start, file_bytes).ok_or_else(|| malformed("a tensor lies outside the file"))?;
        }
        refuse_overlap(&tensors)?;
        Ok(Self { metadata, tensors })
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let Value::Text(value) = self.metadata.get(key)? else { return None };
        Some(value)
    }

    pub(crate) fn int(&self, key: &str) -> Option<u64> {
        let Value::Int(value) = self.metadata.get(key)? else { return None };
        u64::try_from(*value).ok()
    }

    pub(crate) fn float(&self, key: &str) -> Option<f64> {
        let Value::Float(value) = self.metadata.get(key)? else { return None };
        Some(*value)
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        let Value::Bool(value) = self.metadata.get(key)? else { return None };
        Some(*value)
    }

    pub(crate) fn texts(&self, key: &str) -> Option<&[String]> {
        let Value::Texts(value) = self.metadata.get(key)? else { return None };
        Some(value)
    }

    pub(crate) fn ints(&self, key: &str) -> Option<&[i64]> {
        let Value::Ints(value) = self.metadata.get(key)? else { return None };
        Some(value)
    }
}

fn malformed(what: impl Into<String>) -> LoadError {
    LoadError::Malformed(what.into())
}

fn bounded(value: u64, max: u64, what: &str) -> Result<u64, LoadError> {
    if value > max {
        return Err(malformed(format!("{what} {value} is above the limit of {max}")));
    }
    Ok(value)
}

fn data_start(metadata: &BTreeMap<String, Value>, header_end: u64) -> Result<u64, LoadError> {
    let alignment = match metadata.get("general.alignment") {
        None => Some(ALIGNMENT_DEFAULT),
        Some(Value::Int(value)) => u64::try_from(*value).ok(),
        Some(_) => None,
    };
    let alignment = alignment
        .filter(|value| value.is_power_of_two() && *value <= ALIGNMENT_MAX)
        .ok_or_else(|| malformed("alignment is not a small power of two"))?;
    header_end.checked_next_multiple_of(alignment).ok_or_else(|| malformed("the header is too long"))
}

fn place(info: &TensorInfo, data_start: u64, file_bytes: u64) -> Option<u64> {
    let offset = data_start.checked_add(info.offset)?;
    (offset.checked_add(info.bytes)? <= file_bytes).then_some(offset)
}

/// Every byte of the file belongs to one tensor at most, so the weights take no more memory than the file justifies.
fn refuse_overlap(tensors: &BTreeMap<String, TensorInfo>) -> Result<(), LoadError> {
    let mut places: Vec<(u64, u64)> = tensors.values().map(|info| (info.offset, info.bytes)).collect();
    places.sort_unstable();
    let mut free = 0;
    for (offset, bytes) in places {
        if offset < free {
            return Err(malformed("tensors overlap"));
        }
        free = offset.saturating_add(bytes);
    }
    Ok(())
}

/// The header as a stream that knows how much of the file is left.
struct Header<R> {
    inner: std::io::BufReader<R>,
    position: u64,
    file_bytes: u64,
}

impl<R: Read> Header<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LoadError> {
        self.inner.read_exact(bytes).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                return malformed("the header is cut off");
            }
            LoadError::Io(error)
        })?;
        self.position = self.position.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, LoadError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, LoadError> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, LoadError> {
        let len = bounded(self.u64()?, GGUF_STRING_BYTES_MAX, "string length")?;
        if len > self.file_bytes.saturating_sub(self.position) {
            return Err(malformed("a string runs past the end of the file"));
        }
        let len = usize::try_from(len).map_err(|_| malformed("string length"))?;
        let mut bytes = vec![0; len];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| malformed("a string is not UTF-8"))
    }

    fn value(&mut self) -> Result<Value, LoadError> {
        let kind = self.u32()?;
        match kind {
            ARRAY => self.array(),
            _ => self.scalar(kind),
        }
    }

    fn scalar(&mut self, kind: u32) -> Result<Value, LoadError> {
        Ok(match kind {
            0 => Value::Int(u8::from_le_bytes(self.take()?).into()),
            1 => Value::Int(i8::from_le_bytes(self.take()?).into()),
            2 => Value::Int(u16::from_le_bytes(self.take()?).into()),
            3 => Value::Int(i16::from_le_bytes(self.take()?).into()),
            4 => Value::Int(self.u32()?.into()),
            5 => Value::Int(i32::from_le_bytes(self.take()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.take()?).into()),
            7 => match self.take::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(malformed("a boolean is neither 0 nor 1")),
            },
            TEXT => Value::Text(self.text()?),
            10 => Value::Int(self.u64()?.into()),
            11 => Value::Int(i64::from_le_bytes(self.take()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.take()?)),
            ARRAY => return Err(malformed("nested array")),
            _ => return Err(malformed(format!("unknown value type {kind}"))),
        })
    }

    fn array(&mut self) -> Result<Value, LoadError> {
        let kind = self.u32()?;
        let len = bounded(self.u64()?, GGUF_ARRAY_LEN_MAX, "array length")?;
        // Grown as elements arrive, so a false length costs nothing.
        let (mut ints, mut floats, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..len {
            match self.scalar(kind)? {
                Value::Int(value) => {
                    ints.push(i64::try_from(value).map_err(|_| malformed("an integer is above 2^63"))?)
                }
                Value::Bool(value) => ints.push(value.into()),
                Value::Float(value) => floats.push(narrow(value)),
                Value::Text(value) => texts.push(value),
                Value::Ints(_) | Value::Floats(_) | Value::Texts(_) => {
                    return Err(malformed("nested array"));
                }
            }
        }
        Ok(match kind {
            6 | 12 => Value::Floats(floats),
            TEXT => Value::Texts(texts),
            _ => Value::Ints(ints),
        })
    }

    fn tensor(&mut self) -> Result<TensorInfo, LoadError> {
        let dimensions = self.u32()?;
        if dimensions == 0 || dimensions > GGUF_DIMENSIONS_MAX {
            return Err(malformed(format!("a tensor has {dimensions} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64()?);
        }
        shape.reverse();
        let dtype = dtype(self.u32()?)?;
        let bytes = tensor_bytes(&shape, dtype).ok_or_else(|| malformed("a tensor's shape does not fit its type"))?;
        Ok(TensorInfo { shape, dtype, offset: self.u64()?, bytes })
    }
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

#[expect(clippy::cast_possible_truncation, reason = "nearest f32 is what is wanted")]
fn narrow(value: f64) -> f32 {
    value as f32
}

fn dtype(code: u32) -> Result<GgmlDType, LoadError> {
    Ok(match code {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return Err(LoadError::Unsupported(format!("tensor type {code}"))),
    })
}

fn tensor_bytes(shape: &[u64], dtype: GgmlDType) -> Option<u64> {
    let block = dtype.block_size() as u64;
    if !shape.last()?.is_multiple_of(block) {
        return None;
    }
    let elements = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))?;
    (elements > 0).then_some(())?;
    (elements / block).checked_mul(dtype.type_size() as u64)
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "test data is small")]
mod tests {
    use std::io::Cursor;

    use super::*;

    struct Bytes(Vec<u8>);

    impl Bytes {
        fn header(tensors: u64, entries: u64) -> Self {
            let mut bytes = Self(b"GGUF".to_vec());
            bytes.u32(3).u64(tensors).u64(entries);
            bytes
        }
        fn u32(&mut self, value: u32) -> &mut Self {
            self.0.extend(value.to_le_bytes());
            self
        }
        fn u64(&mut self, value: u64) -> &mut Self {
            self.0.extend(value.to_le_bytes());
            self
        }
        fn text(&mut self, value: &str) -> &mut Self {
            self.u64(value.len() as u64);
            self.0.extend(value.as_bytes());
            self
        }
        fn tensor(&mut self, dims: &[u64], dtype: u32, offset: u64) -> &mut Self {
            self.text("t").u32(dims.len() as u32);
            for dim in dims {
                self.u64(*dim);
            }
            self.u32(dtype).u64(offset)
        }
    }

    #[track_caller]
    fn refused(bytes: &Bytes, expected: &str) {
        let error = Gguf::read(Cursor::new(&bytes.0)).expect_err("accepted").to_string();
        assert!(error.contains(expected), "{error:?} does not mention {expected:?}");
    }

    #[test]
    fn reads_values_and_tensors() {
        let mut bytes = Bytes::header(1, 3);
        bytes.text("a").u32(4).u32(7);
        bytes.text("b").u32(9).u32(8).u64(2).text("x").text("yz");
        bytes.text("c").u32(8).text("text");
        bytes.tensor(&[32, 2], 8, 0);
        let aligned = bytes.0.len().next_multiple_of(32);
        bytes.0.resize(aligned + 2 * 34, 0);
        let gguf = Gguf::read(Cursor::new(&bytes.0)).expect("valid");
        assert_eq!(gguf.int("a"), Some(7));
        assert_eq!(gguf.texts("b"), Some(&["x".to_owned(), "yz".to_owned()][..]));
        assert_eq!(gguf.text("c"), Some("text"));
        let tensor = &gguf.tensors["t"];
        assert_eq!((tensor.shape.as_slice(), tensor.bytes), (&[2, 32][..], 68));
    }

    #[test]
    fn every_truncation_is_refused() {
        let mut bytes = Bytes::header(1, 1);
        bytes.text("b").u32(9).u32(8).u64(2).text("x").text("yz");
        bytes.tensor(&[32], 8, 0);
        let aligned = bytes.0.len().next_multiple_of(32);
        bytes.0.resize(aligned + 34, 0);
        for len in 0..bytes.0.len() {
            assert!(Gguf::read(Cursor::new(&bytes.0[..len])).is_err(), "{len}");
        }
    }

    #[test]
    fn absurd_counts_are_refused() {
        refused(&Bytes::header(u64::MAX, 0), "tensor count");
        refused(&Bytes::header(0, u64::MAX), "metadata count");
        let mut bytes = Bytes::header(0, 1);
        bytes.u64(u64::MAX);
        refused(&bytes, "string length");
        let mut bytes = Bytes::header(0, 1);
        bytes.text("k").u32(9).u32(4).u64(u64::MAX);
        refused(&bytes, "array length");
        let mut bytes = Bytes::header(0, 1);
        bytes.text("k").u32(9).u32(9).u64(1);
        refused(&bytes, "nested array");
    }

    #[test]
    fn string_past_the_end_is_refused_before_it_is_allocated() {
        let mut bytes = Bytes::header(0, 1);
        bytes.u64(1 << 20);
        refused(&bytes, "past the end");
    }

    #[test]
    fn overlapping_tensors_are_refused() {
        let file = |second: u64| {
            let mut bytes = Bytes::header(2, 0);
            bytes.tensor(&[32], 8, 0);
            bytes.text("u").u32(1).u64(32).u32(8).u64(second);
            let aligned = bytes.0.len().next_multiple_of(32);
            bytes.0.resize(aligned + 96 + 34, 0);
            bytes
        };
        refused(&file(0), "overlap");
        refused(&file(32), "overlap");
        assert!(Gguf::read(Cursor::new(&file(64).0)).is_ok());
    }

    #[test]
    fn absurd_tensors_are_refused() {
        for dims in [&[u64::MAX, u64::MAX][..], &[33], &[0], &[], &[1, 1, 1, 1, 1]] {
            let mut bytes = Bytes::header(1, 0);
            bytes.tensor(dims, 8, 0);
            assert!(Gguf::read(Cursor::new(&bytes.0)).is_err(), "{dims:?}");
        }
        let mut bytes = Bytes::header(1, 0);
        bytes.tensor(&[32], 8, u64::MAX);
        refused(&bytes, "outside the file");
        let mut bytes = Bytes::header(1, 0);
        bytes.tensor(&[32], 99, 0);
        refused(&bytes, "tensor type 99");
    }

    #[test]
    fn alignment_zero_is_refused() {
        for alignment in [0, 3, 1 << 20] {
            let mut bytes = Bytes::header(0, 1);
            bytes.text("general.alignment").u32(4).u32(alignment);
            refused(&bytes, "alignment");
        }
    }
}
