//! Frames on their way out: numbered, encoded and kept until the transport took them.
//!
//! Small frames are coalesced into one buffer. The data of a large one stays where it is and goes out as a segment of
//! its own. Sequence numbers are given here, as late as possible, so that a control frame can still pass data that
//! waits in the queue.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use cocoon_wire::packet::{FrameError, encode_frame, frame_parts};

use crate::limits::COALESCE_BYTES_MAX;
use crate::outbox::queues::Outgoing;

/// The staged bytes of one connection, in order: `segments`, then `tail`.
#[derive(Default)]
pub(crate) struct FrameWriter {
    next_seqno: u32,
    segments: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl FrameWriter {
    /// Encodes one packet behind what is staged already.
    pub(super) fn push(&mut self, packet: &Outgoing) -> Result<(), FrameError> {
        let tail_before = self.tail.len();
        match packet.data() {
            Some(data) if data.len() > COALESCE_BYTES_MAX => {
                let parts = frame_parts(self.next_seqno, &packet.packet())?;
                self.tail.extend_from_slice(&parts.head);
                self.len = self.len.saturating_add(self.tail.len().saturating_sub(tail_before));
                for segment in data.segments() {
                    self.push_segment(segment);
                }
                self.tail.extend_from_slice(parts.padding);
                self.len = self.len.saturating_add(parts.padding.len());
            }
            _ => {
                encode_frame(self.next_seqno, &packet.packet(), &mut self.tail)?;
                self.len = self.len.saturating_add(self.tail.len().saturating_sub(tail_before));
            }
        }
        self.next_seqno = self.next_seqno.wrapping_add(1);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Staged bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Fills `out` with the next bytes to write; returns how many of its places are used.
    pub(crate) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let all = self.segments.iter().map(|segment| &segment[..]).chain(tail);
        let mut used = 0;
        for (place, bytes) in out.iter_mut().zip(all) {
            *place = IoSlice::new(bytes);
            used += 1;
        }
        used
    }

    /// The transport took the first `written` bytes.
    pub(super) fn handle_written(&mut self, written: usize) {
        self.len = self.len.saturating_sub(written);
        let mut left = written;
        while let Some(first) = self.segments.front_mut() {
            if left < first.len() {
                first.advance(left);
                return;
            }
            left = left.saturating_sub(first.len());
            self.segments.pop_front();
        }
        self.tail.advance(left.min(self.tail.len()));
    }

    fn push_segment(&mut self, segment: &Bytes) {
        if segment.len() <= COALESCE_BYTES_MAX {
            self.tail.extend_from_slice(segment);
        } else {
            if !self.tail.is_empty() {
                self.segments.push_back(self.tail.split().freeze());
            }
            self.segments.push_back(segment.clone());
        }
        self.len = self.len.saturating_add(segment.len());
    }
}
