//! The protocol of one connection as a pure state machine: bytes and `Instant`s in, events and bytes out.
//!
//! It opens no socket and reads no clock; `connection.rs` is its driver.
//!
//! 1. The handshake: a dialer sends `tcp.connect id`, a listener answers `tcp.connected id`. Nothing else is allowed.
//! 2. Then packets: messages and queries become [`Event`]s, answers go to their callers, pings are answered.
//! 3. Meanwhile: silence, a peer that does not read, and a closing connection have deadlines.
//!
//! Whatever breaks a rule ends the connection with an error that names the rule (wire.md, section 1).

mod keep_alive;
mod reassembly;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::task::Waker;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use cocoon_wire::limits::{FRAME_HEADER_LEN, FRAME_LEN_MAX, MESSAGE_MAX};
use cocoon_wire::packet::{FrameDecoder, Packet};

use crate::error::{ConnectionError, QueryError, SendError};
use crate::limits::{
    CLOSE_LINGER_MAX, HANDSHAKE_FRAME_MAX, PACKET_HEAD_MAX, READ_BUFFER_BYTES, READ_ROOM_MIN, WRITE_BATCH_BYTES,
    WRITE_STALL_MAX,
};
use crate::outbox::Outbox;
use crate::outbox::queues::{Outgoing, Queues};
pub(crate) use crate::session::keep_alive::Side;
use crate::session::keep_alive::{Due, KeepAlive};
use crate::session::reassembly::Reassembly;
use crate::session::writer::FrameWriter;

/// What a peer sent that the role has to handle. Bytes are slices of the read buffer (72 KiB): copy a small piece that
/// is to be kept for long.
#[non_exhaustive]
pub enum Event {
    /// A one-way message.
    Message(Bytes),
    /// A query; answer it with [`Outbox::answer`] or [`Outbox::refuse`].
    Query(IncomingQuery),
}

/// A query of the peer.
pub struct IncomingQuery {
    /// Pass it to [`Outbox::answer`].
    pub id: i64,
    /// What is asked.
    pub data: Bytes,
}

/// Shows lengths only: a message may be a prompt.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(data) => write!(f, "Message({} bytes)", data.len()),
            Self::Query(query) => query.fmt(f),
        }
    }
}

impl fmt::Debug for IncomingQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query {}({} bytes)", self.id, self.data.len())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Listener: `tcp.connect` is due.
    ExpectConnect,
    /// Dialer: `tcp.connected` with this id is due.
    ExpectConnected {
        id: i64,
    },
    Open,
}

/// One end of one connection.
pub(crate) struct Session {
    phase: Phase,
    outbox: Outbox,
    input: BytesMut,
    decoder: FrameDecoder,
    reassembly: Reassembly,
    pub(crate) writer: FrameWriter,
    keep_alive: KeepAlive,
    next_ping_id: i64,
    /// Since when the staged bytes have not become fewer.
    stalled_since: Option<Instant>,
    closing_since: Option<Instant>,
}

impl Session {
    /// A dialer's end: `tcp.connect` with this id is the first packet to leave. The id is random, and the ids of our
    /// queries and pings count up from it.
    pub(crate) fn dialer(id: i64, now: Instant) -> Self {
        let mut session = Self::new(Side::Dialer, Phase::ExpectConnected { id }, id, now);
        session.decoder.set_len_max(HANDSHAKE_FRAME_MAX);
        session.reply(Outgoing::Connect { id }).expect("an empty queue takes one packet");
        session
    }

    /// A listener's end: it waits for `tcp.connect`.
    pub(crate) fn listener(first_query_id: i64, now: Instant) -> Self {
        let mut session = Self::new(Side::Listener, Phase::ExpectConnect, first_query_id, now);
        session.decoder.set_len_max(HANDSHAKE_FRAME_MAX);
        session
    }

    /// An end that needs no handshake: for pairs in memory.
    pub(crate) fn open(side: Side, first_query_id: i64, now: Instant) -> Self {
        Self::new(side, Phase::Open, first_query_id, now)
    }

    fn new(side: Side, phase: Phase, first_query_id: i64, now: Instant) -> Self {
        Self {
            phase,
            outbox: Outbox::new(Queues::new(first_query_id)),
            input: BytesMut::new(),
            decoder: FrameDecoder::new(),
            reassembly: Reassembly::default(),
            writer: FrameWriter::default(),
            keep_alive: KeepAlive::new(side, now),
            next_ping_id: first_query_id,
            stalled_since: None,
            closing_since: None,
        }
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The longest message or query that is taken from now on.
    pub(crate) fn set_message_max(&mut self, bytes: usize) {
        self.decoder.set_len_max(bytes.saturating_add(PACKET_HEAD_MAX));
        self.reassembly.set_message_max(bytes);
    }

    // Inputs.

    /// The buffer to read into, with room for the rest of the frame that has begun, as far as its arrived part
    /// justifies the allocation.
    pub(crate) fn read_buffer(&mut self) -> &mut BytesMut {
        let frame = self.input.len().saturating_add(frame_rest(&self.input));
        if self.input.capacity() > READ_BUFFER_BYTES.saturating_mul(2) && frame <= READ_BUFFER_BYTES {
            // The rest of a buffer that grew for a large frame: as long as we keep it, the frame's memory stays.
            let mut fresh = BytesMut::with_capacity(READ_BUFFER_BYTES);
            fresh.extend_from_slice(&self.input);
            self.input = fresh;
        }
        let room = self.input.capacity().saturating_sub(self.input.len());
        if room < READ_ROOM_MIN {
            let arrived = self.input.len();
            let justified = frame_rest(&self.input).min(arrived);
            self.input.reserve(justified.max(READ_BUFFER_BYTES.saturating_sub(arrived)).max(READ_ROOM_MIN));
        }
        &mut self.input
    }

    /// How much the next read may take. A large frame is read to its end and no further: what follows would share its
    /// memory, and whoever keeps a small message would keep all of it.
    pub(crate) fn read_limit(&self) -> usize {
        let rest = frame_rest(&self.input);
        if self.input.len().saturating_add(rest) > READ_BUFFER_BYTES { rest } else { usize::MAX }
    }

    /// Bytes were read into the buffer.
    ///
    /// The deadlines of the writing side are looked at here too: a peer that floods keeps the driver from ever
    /// sleeping, and would otherwise never have to read.
    pub(crate) fn handle_read(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.keep_alive.handle_heard(now);
        // The driver runs: it looks at the queues before it sleeps, so nobody has to wake it until then.
        drop(self.outbox.lock().take_waker());
        self.check_writing(now)
    }

    /// The peer will send no more bytes.
    pub(crate) fn handle_end_of_stream(&self) -> ConnectionError {
        if self.input.is_empty() && self.reassembly.is_empty() {
            ConnectionError::PeerClosed
        } else {
            ConnectionError::PeerTruncated
        }
    }

    /// The transport took `written` staged bytes.
    pub(crate) fn handle_written(&mut self, now: Instant, written: usize) {
        self.writer.handle_written(written);
        self.stalled_since = (!self.writer.is_empty()).then_some(now);
    }

    /// A deadline may have passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.check_writing(now)?;
        match self.keep_alive.handle_timeout(now) {
            Due::Nothing => Ok(()),
            Due::GiveUp(silence) => Err(ConnectionError::PeerSilent(silence)),
            Due::Ping => self.ping(),
        }
    }

    /// Asks for a sign of life.
    pub(crate) fn ping(&mut self) -> Result<(), ConnectionError> {
        let id = self.next_ping_id;
        self.next_ping_id = id.wrapping_add(1);
        self.reply(Outgoing::Ping { id })
    }

    /// When the peer's last byte came.
    pub(crate) fn heard_at(&self) -> Instant {
        self.keep_alive.heard_at()
    }

    // Outputs.

    /// Whether the handshake is done; reads at most the one packet that does it.
    pub(crate) fn poll_open(&mut self) -> Result<Option<()>, ConnectionError> {
        if self.phase != Phase::Open {
            let Some(packet) = self.decoder.read_from(&mut self.input)? else { return Ok(None) };
            self.handle_handshake(&packet)?;
            self.phase = Phase::Open;
            self.set_message_max(MESSAGE_MAX);
        }
        Ok(Some(()))
    }

    /// The next event among the bytes that were read.
    pub(crate) fn poll_event(&mut self) -> Result<Option<Event>, ConnectionError> {
        while frame_is_due(&self.input) {
            let is_large = self.input.len() > READ_BUFFER_BYTES;
            let Some(packet) = self.decoder.read_from(&mut self.input)? else { break };
            if is_large && self.input.is_empty() {
                // The room behind a large frame would keep its memory alive.
                self.input = BytesMut::new();
            }
            if let Some(event) = self.handle_packet(packet)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Stages queued packets for one write, unless some are staged already. When nothing is left to write, `waker`
    /// is registered with the queues.
    pub(crate) fn poll_transmit(&mut self, now: Instant, waker: &Waker) {
        if !self.writer.is_empty() {
            return;
        }
        let mut queues = self.outbox.lock();
        while self.writer.len() < WRITE_BATCH_BYTES
            && let Some(packet) = queues.pop()
        {
            self.writer.push(&packet).expect("the queues refuse what fits no frame");
        }
        queues.set_staged_bytes(self.writer.len());
        if queues.is_closing() && self.closing_since.is_none() {
            self.closing_since = Some(now);
        }
        if self.writer.is_empty() {
            queues.register_waker(waker);
            self.stalled_since = None;
        } else {
            self.stalled_since = Some(now);
        }
    }

    /// Whether the outbox was closed and everything is written.
    pub(crate) fn is_finished(&self) -> bool {
        self.closing_since.is_some() && self.writer.is_empty() && self.outbox.lock().is_empty()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let stall = self.stalled_since.map(|since| since + WRITE_STALL_MAX);
        let linger = self.closing_since.map(|since| since + CLOSE_LINGER_MAX);
        [stall, linger].into_iter().flatten().fold(self.keep_alive.deadline(), Instant::min)
    }

    /// The connection is over: queued messages are dropped and callers hear of it.
    pub(crate) fn end(&mut self) {
        let ended = self.outbox.lock().end();
        drop(ended);
    }

    // Packets.

    fn handle_handshake(&mut self, packet: &Packet) -> Result<(), ConnectionError> {
        match (self.phase, packet) {
            (Phase::ExpectConnect, Packet::Connect { id }) => self.reply(Outgoing::Connected { id: *id }),
            (Phase::ExpectConnected { id: ours }, Packet::Connected { id }) if ours == *id => Ok(()),
            (Phase::ExpectConnected { .. }, Packet::Connected { .. }) => {
                Err(unexpected(packet, "with an id other than that of tcp.connect"))
            }
            _ => Err(unexpected(packet, "before the handshake was done")),
        }
    }

    fn handle_packet(&mut self, packet: Packet) -> Result<Option<Event>, ConnectionError> {
        match packet {
            Packet::Message { data } => Ok(Some(Event::Message(data))),
            Packet::Fragment { message_id, last, data } => {
                Ok(self.reassembly.handle_fragment(message_id, last, &data)?.map(Event::Message))
            }
            Packet::Query { id, data } => {
                self.outbox.lock().handle_query(id)?;
                Ok(Some(Event::Query(IncomingQuery { id, data })))
            }
            Packet::QueryAnswer { id, data } => self.outbox.lock().handle_answer(id, Ok(data)).map(|()| None),
            Packet::QueryError { id, code, message } => {
                let refusal = QueryError::PeerRefused { code, message };
                self.outbox.lock().handle_answer(id, Err(refusal)).map(|()| None)
            }
            Packet::Ping { id } => self.reply(Outgoing::Pong { id }).map(|()| None),
            // That it arrived is all that a pong says; the original does not match ids either.
            Packet::Pong { .. } => Ok(None),
            Packet::Connect { .. } | Packet::Connected { .. } => Err(unexpected(&packet, "after the handshake")),
        }
    }

    /// Whether the peer still takes what we have for it.
    fn check_writing(&self, now: Instant) -> Result<(), ConnectionError> {
        let passed = |since: Option<Instant>, limit| since.is_some_and(|since| now >= since + limit);
        if passed(self.stalled_since, WRITE_STALL_MAX) {
            return Err(ConnectionError::PeerNotReading(WRITE_STALL_MAX));
        }
        if passed(self.closing_since, CLOSE_LINGER_MAX) {
            return Err(ConnectionError::ClosedLocally);
        }
        Ok(())
    }

    /// Queues a packet that the peer or the clock caused.
    fn reply(&mut self, packet: Outgoing) -> Result<(), ConnectionError> {
        match self.outbox.lock().push_control(packet) {
            Ok(()) => Ok(()),
            Err(SendError::Full | SendError::TooLarge) => Err(ConnectionError::PeerFloodedControl),
            // A closing connection owes no pong.
            Err(SendError::Closed | SendError::UnknownQuery) => Ok(()),
        }
    }
}

/// Whether the decoder should look at `input`: a whole frame, or a length that it will refuse. It is not shown less,
/// since it would make room for what the peer has only announced.
fn frame_is_due(input: &[u8]) -> bool {
    frame_rest(input) == 0 && !input.is_empty()
}

/// Missing bytes of the frame at the front of `input`; 0 when its length is unknown or refused.
fn frame_rest(input: &[u8]) -> usize {
    let Some(len) = input.first_chunk::<4>() else { return 0 };
    match usize::try_from(u32::from_le_bytes(*len)) {
        Ok(len) if len <= FRAME_LEN_MAX => len.saturating_add(FRAME_HEADER_LEN).saturating_sub(input.len()),
        _ => 0,
    }
}

fn unexpected(packet: &Packet, place: &'static str) -> ConnectionError {
    let packet = match packet {
        Packet::Ping { .. } => "tcp.ping",
        Packet::Pong { .. } => "tcp.pong",
        Packet::Message { .. } => "tcp.packet",
        Packet::Query { .. } => "tcp.query",
        Packet::QueryAnswer { .. } => "tcp.queryAnswer",
        Packet::QueryError { .. } => "tcp.queryError",
        Packet::Connect { .. } => "tcp.connect",
        Packet::Connected { .. } => "tcp.connected",
        Packet::Fragment { .. } => "tcp.fragment",
    };
    ConnectionError::PeerUnexpectedPacket { packet, place }
}
