//! Reads little-endian fields off the front of untrusted bytes. Never panics, never allocates.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::FormatError;

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `len` bytes.
    pub(crate) fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], FormatError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(FormatError::Truncated {
            field,
            needed: len,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FormatError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(FormatError::Truncated {
            field,
            needed: N,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, FormatError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, FormatError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, FormatError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// As many bytes as the little-endian `u32` before them says.
    pub(crate) fn sized(&mut self, field: &'static str) -> Result<&'a [u8], FormatError> {
        let len = self.u32(field)?;
        // A length that does not fit in memory is longer than anything that is left.
        self.bytes(field, usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Skips a field that must be zero.
    pub(crate) fn zeros(&mut self, field: &'static str, len: usize) -> Result<(), FormatError> {
        let bytes = self.bytes(field, len)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(FormatError::Field { field, expected: "zero", found: hex::encode(bytes) });
        }
        Ok(())
    }

    /// What was not read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may follow.
    pub(crate) const fn end(&self, field: &'static str) -> Result<(), FormatError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FormatError::Trailing { field, left: self.rest.len() }) }
    }

    /// Nothing but zeros may follow: configfs-tsm hands quotes out in a buffer that is larger than they are.
    pub(crate) fn padding(&self, field: &'static str) -> Result<(), FormatError> {
        if self.rest.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        Err(FormatError::Trailing { field, left: self.rest.len() })
    }
}
