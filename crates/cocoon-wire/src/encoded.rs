//! One encoded TL message, in up to three segments so that a large body is never copied.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// One TL message ready for a packet: the bytes before its body, the body, the bytes after it.
///
/// Small messages are one segment.
/// Cloning is cheap.
#[derive(Clone, Default)]
pub struct Encoded {
    head: Bytes,
    body: Bytes,
    tail: Bytes,
}

impl Encoded {
    /// Joins three segments; `body` is shared, not copied.
    #[must_use]
    pub const fn from_segments(head: Bytes, body: Bytes, tail: Bytes) -> Self {
        Self { head, body, tail }
    }

    /// How many bytes the message has.
    #[must_use]
    pub const fn len(&self) -> usize {
        // Three live allocations cannot together exceed the address space.
        self.head.len().saturating_add(self.body.len()).saturating_add(self.tail.len())
    }

    /// Whether the message has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The three segments in order; any may be empty.
    #[must_use]
    pub const fn segments(&self) -> [&Bytes; 3] {
        [&self.head, &self.body, &self.tail]
    }

    /// The message as one buffer; free when it has one segment, a copy otherwise.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if self.body.is_empty() && self.tail.is_empty() {
            return self.head.clone();
        }
        let mut out = BytesMut::with_capacity(self.len());
        self.write_to(&mut out);
        out.freeze()
    }

    /// Appends the message to a buffer.
    pub fn write_to(&self, out: &mut BytesMut) {
        for segment in self.segments() {
            out.put_slice(segment);
        }
    }

    /// The bytes from `start` (clamped) and at most `len` of them, shared where they lie in one
    /// segment and copied where they cross two; used to cut fragments.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Bytes {
        let start = start.min(self.len());
        let end = start.saturating_add(len).min(self.len());
        let mut out = BytesMut::new();
        let mut offset = 0_usize;
        for segment in self.segments() {
            let segment_end = offset.saturating_add(segment.len());
            let from = start.clamp(offset, segment_end).saturating_sub(offset);
            let to = end.clamp(offset, segment_end).saturating_sub(offset);
            offset = segment_end;
            if from >= to {
                continue;
            }
            if to.saturating_sub(from) == end.saturating_sub(start) {
                return segment.slice(from..to);
            }
            out.put_slice(&segment.slice(from..to));
        }
        out.freeze()
    }
}

impl From<Bytes> for Encoded {
    fn from(head: Bytes) -> Self {
        Self { head, ..Self::default() }
    }
}

impl PartialEq for Encoded {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

/// Shows the length only: the body may be a prompt.
impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cross_segments() {
        let message =
            Encoded::from_segments(Bytes::from_static(b"abc"), Bytes::from_static(b"defg"), Bytes::from_static(b"hi"));
        assert_eq!(message.len(), 9);
        for start in 0..11 {
            for len in 0..11 {
                let all = b"abcdefghi";
                let from = start.min(9);
                let to = (start + len).min(9);
                assert_eq!(message.slice(start, len), &all[from..to]);
            }
        }
    }
}
