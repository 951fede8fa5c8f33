//! Bytes of an answer that wait: a queue of chunks whose memory is bounded by its bytes.
//!
//! A chunk is a slice of the connection's read buffer and keeps all of that in memory. A proxy that sends one byte
//! a part would so make a few hundred kilobytes of credit hold gigabytes. Therefore small chunks that find others
//! waiting are copied together; a chunk that is large, or leaves before the next one comes, is not copied.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::limits::{CHUNK_COPIED_BELOW, CHUNK_JOINED_BYTES};

/// Chunks in order.
#[derive(Default)]
pub(crate) struct Chunks {
    ready: VecDeque<Bytes>,
    /// Small chunks, copied; they come after `ready`.
    joined: BytesMut,
    bytes: usize,
}

impl Chunks {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.bytes = self.bytes.saturating_add(chunk.len());
        if chunk.len() >= CHUNK_COPIED_BELOW || self.is_drained() {
            self.seal();
            self.ready.push_back(chunk);
            return;
        }
        self.joined.extend_from_slice(&chunk);
        if self.joined.len() >= CHUNK_JOINED_BYTES {
            self.seal();
        }
    }

    /// Puts a chunk before all others.
    pub(crate) fn push_first(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes = self.bytes.saturating_add(chunk.len());
            self.ready.push_front(chunk);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.seal();
        }
        let chunk = self.ready.pop_front()?;
        self.bytes = self.bytes.saturating_sub(chunk.len());
        Some(chunk)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All of them.
    pub(crate) fn into_pieces(mut self) -> VecDeque<Bytes> {
        self.seal();
        self.ready
    }

    fn is_drained(&self) -> bool {
        self.ready.is_empty() && self.joined.is_empty()
    }

    fn seal(&mut self) {
        if !self.joined.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.joined).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_parts_pin_no_read_buffers() {
        let buffer = Bytes::from(vec![7; 72 << 10]);
        let mut chunks = Chunks::default();
        for at in 0..buffer.len() {
            chunks.push(buffer.slice(at..=at));
        }
        assert_eq!(chunks.bytes(), buffer.len());
        let pieces = chunks.into_pieces();
        let pinning = pieces.iter().filter(|piece| buffer.as_ptr_range().contains(&piece.as_ptr()));
        assert_eq!((pinning.count(), pieces.len()), (1, 3));
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), buffer.len());
    }

    #[test]
    fn order_is_kept_and_large_chunks_are_not_copied() {
        let large = Bytes::from(vec![b'L'; CHUNK_COPIED_BELOW]);
        let mut chunks = Chunks::default();
        for small in ["a", "", "b", "c"] {
            chunks.push(Bytes::from_static(small.as_bytes()));
        }
        chunks.push(large.clone());
        chunks.push(Bytes::from_static(b"d"));
        chunks.push_first(Bytes::from_static(b"0"));
        assert_eq!(chunks.bytes(), 5 + large.len());
        let expected: [&[u8]; 5] = [b"0", b"a", b"bc", &large, b"d"];
        for expected in expected {
            assert_eq!(chunks.pop().unwrap(), expected);
        }
        assert_eq!((chunks.pop(), chunks.bytes()), (None, 0));
        chunks.push(large.clone());
        assert_eq!(chunks.pop().unwrap().as_ptr(), large.as_ptr());
    }
}
