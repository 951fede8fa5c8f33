//! The bounded TL reader: the door through which bytes of peers come in.
//!
//! Every read checks what is left before it believes a length, and no allocation is larger than
//! what has already arrived.
//! It accepts exactly one encoding of each value: lengths in their shortest form, zero padding, no
//! unknown flags, nothing after the end. The original is laxer about padding; nodes of it that were
//! recorded write zeros.
//! See wire.md, section 2.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;
use thiserror::Error;

use crate::bare::Bare;
use crate::limits::{VECTOR_ITEMS_MAX, VECTOR_PREALLOCATED_MAX};

/// Bytes that are not what they should be. The peer that sent them is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("truncated")]
    Truncated,
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    TrailingBytes(usize),
    /// A constructor that does not belong here, or that nobody knows.
    #[error("constructor {0:#010x} does not belong here")]
    UnknownConstructor(u32),
    /// A Bool that is neither true nor false.
    #[error("constructor {0:#010x} is no Bool")]
    BadBool(u32),
    /// A length that could have been written shorter.
    #[error("length is not in its shortest form")]
    NonCanonicalLength,
    /// Padding that is not zero.
    #[error("padding is not zero")]
    NonZeroPadding,
    /// A vector that cannot fit what arrived, or is beyond any sensible size.
    #[error("vector of {0} items is too long")]
    VectorTooLong(u32),
    /// A string that is not UTF-8.
    #[error("string is not UTF-8")]
    NotUtf8,
    /// Flags that would announce fields of an unknown scheme.
    #[error("unknown flags {0:#x}")]
    UnknownFlags(u32),
    /// A field that must be there is absent.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A number out of its range: negative, not finite, too large.
    #[error("field `{0}` is out of range")]
    OutOfRange(&'static str),
    /// A field longer than its limit.
    #[error("field `{0}` is too long")]
    TooLong(&'static str),
}

const BOOL_TRUE: u32 = 0x9972_75b5;
const BOOL_FALSE: u32 = 0xbc79_9737;

/// Reads TL values from one buffer, front to back.
pub(crate) struct Reader {
    buffer: Bytes,
    position: usize,
}

impl Reader {
    pub(crate) const fn new(buffer: Bytes) -> Self {
        Self { buffer, position: 0 }
    }

    /// The bytes that are left.
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.position..).unwrap_or_default()
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.rest().len()
    }

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, _) = self.rest().split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        let bytes = *bytes;
        self.position = self.position.saturating_add(N);
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn int(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn long(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn double(&mut self) -> Result<f64, DecodeError> {
        self.array().map(f64::from_le_bytes)
    }

    pub(crate) fn int256(&mut self) -> Result<[u8; 32], DecodeError> {
        self.array()
    }

    /// Raw bytes of fixed length.
    pub(crate) fn raw<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.array()
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u32()? {
            BOOL_TRUE => Ok(true),
            BOOL_FALSE => Ok(false),
            other => Err(DecodeError::BadBool(other)),
        }
    }

    /// Flags, of which only the `known` bits may be set.
    pub(crate) fn flags(&mut self, known: u32) -> Result<u32, DecodeError> {
        let flags = self.u32()?;
        if flags & !known != 0 {
            return Err(DecodeError::UnknownFlags(flags));
        }
        Ok(flags)
    }

    /// A byte string, as a slice of the buffer.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let (header_len, len) = self.length()?;
        let start = self.position.checked_add(header_len).ok_or(DecodeError::Truncated)?;
        let end = start.checked_add(len).ok_or(DecodeError::Truncated)?;
        let padding_len = padding_after(header_len, len);
        let padded_end = end.checked_add(padding_len).ok_or(DecodeError::Truncated)?;
        let padding = self.buffer.get(end..padded_end).ok_or(DecodeError::Truncated)?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(DecodeError::NonZeroPadding);
        }
        self.position = padded_end;
        Ok(self.buffer.slice(start..end))
    }

    /// The length of a byte string and how many bytes it was written in.
    fn length(&self) -> Result<(usize, usize), DecodeError> {
        let rest = self.rest();
        let (header_len, len, shortest) = match rest.first() {
            None => return Err(DecodeError::Truncated),
            Some(0xff) => {
                let header = rest.first_chunk::<8>().ok_or(DecodeError::Truncated)?;
                (8, u64::from_le_bytes(*header) >> 8, 1 << 24)
            }
            Some(0xfe) => {
                let header = rest.first_chunk::<4>().ok_or(DecodeError::Truncated)?;
                (4, u64::from(u32::from_le_bytes(*header) >> 8), 254)
            }
            Some(&short) => (1, u64::from(short), 0),
        };
        if len < shortest {
            return Err(DecodeError::NonCanonicalLength);
        }
        let len = usize::try_from(len).map_err(|_| DecodeError::Truncated)?;
        Ok((header_len, len))
    }

    pub(crate) fn string(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| DecodeError::NotUtf8)?;
        Ok(text.to_owned())
    }

    /// A vector of bare items.
    pub(crate) fn vector<T: Bare>(&mut self) -> Result<Vec<T>, DecodeError> {
        let count = self.u32()?;
        let too_long = DecodeError::VectorTooLong(count);
        let items = usize::try_from(count).map_err(|_| too_long)?;
        let bytes_min = items.checked_mul(T::SIZE_MIN).ok_or(too_long)?;
        if items > VECTOR_ITEMS_MAX || bytes_min > self.remaining() {
            return Err(too_long);
        }
        let mut vector = Vec::with_capacity(items.min(VECTOR_PREALLOCATED_MAX));
        for _ in 0..items {
            vector.push(T::read(self)?);
        }
        Ok(vector)
    }

    /// Ends the reading: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }
}

/// Zero bytes after a byte string, up to a multiple of four.
fn padding_after(header_len: usize, len: usize) -> usize {
    header_len.wrapping_add(len).wrapping_neg() & 3
}
