//! The TL writer. Large byte strings are shared, not copied: see [`Encoded`].
//!
//! It writes our own values, whose sizes are bounded where they are made, and never fails.
//! See wire.md, section 2.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Encoded;
use crate::bare::Bare;
use crate::limits::SEGMENT_MIN;

/// Writes TL values, front to back.
#[derive(Default)]
pub(crate) struct Writer {
    head: BytesMut,
    body: Option<Bytes>,
    tail: BytesMut,
}

impl Writer {
    /// With room for a message of about that many bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { head: BytesMut::with_capacity(capacity), ..Self::default() }
    }

    /// Goes on after what a buffer already holds.
    pub(crate) fn onto(head: BytesMut) -> Self {
        Self { head, ..Self::default() }
    }

    /// The buffer back, where no large byte string was written.
    pub(crate) fn into_head(self) -> BytesMut {
        self.head
    }

    /// Where the next bytes go.
    fn out(&mut self) -> &mut BytesMut {
        match self.body {
            None => &mut self.head,
            Some(_) => &mut self.tail,
        }
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out().put_u32_le(value);
    }

    pub(crate) fn int(&mut self, value: i32) {
        self.out().put_i32_le(value);
    }

    pub(crate) fn long(&mut self, value: i64) {
        self.out().put_i64_le(value);
    }

    pub(crate) fn double(&mut self, value: f64) {
        self.out().put_f64_le(value);
    }

    pub(crate) fn int256(&mut self, value: &[u8; 32]) {
        self.out().put_slice(value);
    }

    /// Raw bytes without a length.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.out().put_slice(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u32(if value { 0x9972_75b5 } else { 0xbc79_9737 });
    }

    pub(crate) fn string(&mut self, value: &str) {
        put_byte_string(self.out(), value.as_bytes());
    }

    /// A byte string; the first large one becomes the message's body segment.
    pub(crate) fn bytes(&mut self, value: &Bytes) {
        if self.body.is_some() || value.len() < SEGMENT_MIN {
            put_byte_string(self.out(), value);
            return;
        }
        let header_len = put_length(&mut self.head, value.len());
        self.tail.put_slice(padding(header_len, value.len()));
        self.body = Some(value.clone());
    }

    /// A byte string in the current segment whatever its size, where one buffer is wanted.
    pub(crate) fn bytes_inline(&mut self, value: &[u8]) {
        put_byte_string(self.out(), value);
    }

    /// A vector of bare items.
    pub(crate) fn vector<T: Bare>(&mut self, items: &[T]) {
        // A vector beyond 32 bits does not fit in memory, let alone in a message.
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items {
            item.write(self);
        }
    }

    pub(crate) fn finish(self) -> Encoded {
        let body = self.body.unwrap_or_default();
        Encoded::from_segments(self.head.freeze(), body, self.tail.freeze())
    }
}

fn put_byte_string(out: &mut BytesMut, value: &[u8]) {
    out.reserve(value.len().saturating_add(12));
    let header_len = put_length(out, value.len());
    out.put_slice(value);
    out.put_slice(padding(header_len, value.len()));
}

/// Writes a length in its shortest form and says how many bytes that took.
pub(crate) fn put_length(out: &mut BytesMut, len: usize) -> usize {
    let wide = u64::try_from(len).unwrap_or(u64::MAX);
    match u8::try_from(len) {
        Ok(short) if short < 0xfe => {
            out.put_u8(short);
            1
        }
        _ if wide < 1 << 24 => {
            out.put_u8(0xfe);
            out.put_uint_le(wide, 3);
            4
        }
        _ => {
            out.put_u8(0xff);
            out.put_uint_le(wide, 7);
            8
        }
    }
}

/// The zeros after a byte string, up to a multiple of four.
pub(crate) fn padding(header_len: usize, len: usize) -> &'static [u8] {
    match header_len.wrapping_add(len) & 3 {
        0 => &[],
        1 => &[0, 0, 0],
        2 => &[0, 0],
        _ => &[0],
    }
}
