//! Puts fragmented messages together, within bounds (wire.md, section 6).
//!
//! A message is the pieces of one id in order; the last one is marked. A last piece without bytes withdraws the
//! message. Each piece is copied once, into its message: keeping slices of the read buffer would let a peer that sends
//! one byte a piece hold a thousand times what it sent.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use cocoon_wire::limits::MESSAGE_MAX;

use crate::error::FragmentError;
use crate::limits::{LARGE_MESSAGES_MAX, REASSEMBLY_BYTES_MAX};

/// The unfinished messages of one connection.
#[derive(Debug)]
pub(super) struct Reassembly {
    message_max: usize,
    messages: HashMap<u64, BytesMut>,
    bytes: usize,
}

impl Default for Reassembly {
    fn default() -> Self {
        Self { message_max: MESSAGE_MAX, messages: HashMap::new(), bytes: 0 }
    }
}

impl Reassembly {
    /// Refuses longer messages from now on, and more bytes of unfinished ones than two such messages have.
    pub(super) fn set_message_max(&mut self, bytes: usize) {
        self.message_max = bytes.min(MESSAGE_MAX);
    }

    /// Takes one piece; returns the message that it completes.
    pub(super) fn handle_fragment(
        &mut self,
        message_id: u64,
        last: bool,
        data: &Bytes,
    ) -> Result<Option<Bytes>, FragmentError> {
        if data.is_empty() {
            return self.handle_withdrawal(message_id, last);
        }
        let begun = self.messages.get(&message_id).map(BytesMut::len);
        if begun.is_none() && self.messages.len() >= LARGE_MESSAGES_MAX {
            return Err(FragmentError::TooManyMessages);
        }
        if begun.unwrap_or(0).saturating_add(data.len()) > self.message_max {
            return Err(FragmentError::MessageTooLarge);
        }
        let bytes = self.bytes.saturating_add(data.len());
        if bytes > REASSEMBLY_BYTES_MAX.min(self.message_max.saturating_mul(2)) {
            return Err(FragmentError::TooManyBytes);
        }
        self.bytes = bytes;
        self.messages.entry(message_id).or_default().extend_from_slice(data);
        Ok(if last { self.take(message_id) } else { None })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn handle_withdrawal(&mut self, message_id: u64, last: bool) -> Result<Option<Bytes>, FragmentError> {
        if !last || self.take(message_id).is_none() {
            return Err(FragmentError::EmptyPiece);
        }
        Ok(None)
    }

    fn take(&mut self, message_id: u64) -> Option<Bytes> {
        let message = self.messages.remove(&message_id)?;
        self.bytes = self.bytes.saturating_sub(message.len());
        Some(message.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn pieces_of_two_messages_interleave() {
        let mut all = Reassembly::default();
        assert_eq!(all.handle_fragment(1, false, &Bytes::from_static(b"ab")), Ok(None));
        assert_eq!(all.handle_fragment(2, false, &Bytes::from_static(b"xy")), Ok(None));
        assert_eq!(all.handle_fragment(1, true, &Bytes::from_static(b"c")), Ok(Some(Bytes::from_static(b"abc"))));
        assert!(!all.is_empty());
        assert_eq!(all.handle_fragment(2, true, &Bytes::from_static(b"z")), Ok(Some(Bytes::from_static(b"xyz"))));
        assert!(all.is_empty() && all.bytes == 0);
    }

    #[test]
    fn an_empty_last_piece_withdraws_and_frees() {
        let mut all = Reassembly::default();
        assert_eq!(all.handle_fragment(1, false, &piece(10)), Ok(None));
        assert_eq!(all.handle_fragment(1, true, &Bytes::new()), Ok(None));
        assert!(all.is_empty() && all.bytes == 0);
    }

    #[test]
    fn empty_pieces_that_withdraw_nothing_are_refused() {
        let mut all = Reassembly::default();
        assert_eq!(all.handle_fragment(1, true, &Bytes::new()), Err(FragmentError::EmptyPiece));
        assert_eq!(all.handle_fragment(1, false, &Bytes::new()), Err(FragmentError::EmptyPiece));
    }

    #[test]
    fn fragment_flood_is_bounded_in_count() {
        let mut all = Reassembly::default();
        for id in 0..LARGE_MESSAGES_MAX as u64 {
            assert_eq!(all.handle_fragment(id, false, &piece(1)), Ok(None));
        }
        assert_eq!(all.handle_fragment(999, false, &piece(1)), Err(FragmentError::TooManyMessages));
        // Messages begun before still finish.
        assert!(all.handle_fragment(0, true, &piece(1)).unwrap().is_some());
    }

    #[test]
    fn fragment_flood_is_bounded_in_bytes() {
        let mut all = Reassembly::default();
        let chunk = piece(1 << 20);
        let refused = (0..100).find_map(|n| all.handle_fragment(n % 2, false, &chunk).err());
        assert_eq!(refused, Some(FragmentError::TooManyBytes));
        assert!(all.bytes <= REASSEMBLY_BYTES_MAX);
    }

    #[test]
    fn one_endless_message_is_refused() {
        let mut all = Reassembly::default();
        let chunk = piece(1 << 20);
        let refused = (0..100).find_map(|_| all.handle_fragment(5, false, &chunk).err());
        assert_eq!(refused, Some(FragmentError::MessageTooLarge));
    }
}
