//! Frames on a connection: `u32 len | u32 seqno | boxed tcp.Packet`.
//!
//! This is not a connection: it opens nothing and waits for nothing.
//! [`FrameDecoder`] cuts incoming bytes into [`Packet`]s whose data are slices of the read buffer;
//! [`frame_parts`] gives the bytes around outgoing data, so that data are written where they lie.
//! A wrong sequence number, a length out of range, an unknown constructor or trailing bytes end the
//! connection.
//! See wire.md, section 1; fragments are described in `docs/protocol.md`.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::bare::Bare;
use crate::limits::{
    FAILURE_MESSAGE_MAX, FRAGMENT_MAX, FRAME_HEADER_LEN, FRAME_LEN_MAX, FRAME_LEN_MIN, FRAME_RESERVE_MIN,
};
use crate::reader::Reader;
use crate::writer::{Writer, padding, put_length};
use crate::{DecodeError, Encoded, tl};

/// One packet as it arrived; data are slices of the read buffer.
#[derive(Clone, PartialEq, Eq)]
pub enum Packet {
    /// Are you there?
    Ping {
        /// Comes back in the pong.
        id: i64,
    },
    /// I am.
    Pong {
        /// Of the ping.
        id: i64,
    },
    /// A one-way message.
    Message {
        /// The message.
        data: Bytes,
    },
    /// A question.
    Query {
        /// Comes back in the answer.
        id: i64,
        /// The question.
        data: Bytes,
    },
    /// The answer to a question.
    QueryAnswer {
        /// Of the question.
        id: i64,
        /// The answer.
        data: Bytes,
    },
    /// A question refused.
    QueryError {
        /// Of the question.
        id: i64,
        /// A number of the peer's choice.
        code: i32,
        /// A sentence of the peer's choice, cut to its limit.
        message: String,
    },
    /// The dialer's first packet.
    Connect {
        /// Comes back in `Connected`.
        id: i64,
    },
    /// The listener's first packet.
    Connected {
        /// Of the `Connect`.
        id: i64,
    },
    /// A piece of a message. Extended profile only: elsewhere it is a violation.
    Fragment {
        /// Which message; fresh for each.
        message_id: u64,
        /// Whether the message is complete.
        last: bool,
        /// At most [`FRAGMENT_MAX`] bytes.
        data: Bytes,
    },
}

/// Shows kinds, ids and sizes; data may be prompts.
impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping { id } => write!(f, "Ping({id})"),
            Self::Pong { id } => write!(f, "Pong({id})"),
            Self::Message { data } => write!(f, "Message({} bytes)", data.len()),
            Self::Query { id, data } => write!(f, "Query({id}, {} bytes)", data.len()),
            Self::QueryAnswer { id, data } => write!(f, "QueryAnswer({id}, {} bytes)", data.len()),
            Self::QueryError { id, code, .. } => write!(f, "QueryError({id}, {code})"),
            Self::Connect { id } => write!(f, "Connect({id})"),
            Self::Connected { id } => write!(f, "Connected({id})"),
            Self::Fragment { message_id, last, data } => {
                write!(f, "Fragment({message_id}, last: {last}, {} bytes)", data.len())
            }
        }
    }
}

/// One packet to send.
#[derive(Clone, Copy, Debug)]
pub enum PacketOut<'a> {
    /// Are you there?
    Ping {
        /// Comes back in the pong.
        id: i64,
    },
    /// I am.
    Pong {
        /// Of the ping.
        id: i64,
    },
    /// A one-way message.
    Message {
        /// The message.
        data: &'a Encoded,
    },
    /// A question.
    Query {
        /// Comes back in the answer.
        id: i64,
        /// The question.
        data: &'a Encoded,
    },
    /// The answer to a question.
    QueryAnswer {
        /// Of the question.
        id: i64,
        /// The answer.
        data: &'a Encoded,
    },
    /// A question refused.
    QueryError {
        /// Of the question.
        id: i64,
        /// A number of our choice.
        code: i32,
        /// A sentence of ours.
        message: &'a str,
    },
    /// The dialer's first packet.
    Connect {
        /// Comes back in `Connected`.
        id: i64,
    },
    /// The listener's first packet.
    Connected {
        /// Of the `Connect`.
        id: i64,
    },
    /// A piece of a message; extended profile only.
    Fragment {
        /// Which message; fresh for each.
        message_id: u64,
        /// Whether the message is complete.
        last: bool,
        /// At most [`FRAGMENT_MAX`] bytes: see [`Encoded::slice`].
        data: &'a Encoded,
    },
}

/// A frame that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// `len` is out of range; the peer is to blame.
    #[error("frame length {len} is out of range")]
    BadLength {
        /// What the peer announced.
        len: u32,
    },
    /// The sequence number is not the next one; the peer is to blame.
    #[error("frame has sequence number {actual}, expected {expected}")]
    BadSeqno {
        /// The next number.
        expected: u32,
        /// What the peer sent.
        actual: u32,
    },
    /// The body is not one packet; the peer is to blame.
    #[error("frame does not hold one packet: {0}")]
    BadPacket(#[from] DecodeError),
    /// A packet of ours does not fit one frame.
    #[error("{len} bytes do not fit one packet")]
    TooLarge {
        /// The length the frame would need.
        len: usize,
    },
}

/// Cuts a byte stream into packets.
#[derive(Debug)]
pub struct FrameDecoder {
    next_seqno: u32,
    len_max: usize,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameDecoder {
    /// Starts at sequence number 0 with the original's length limit.
    #[must_use]
    pub const fn new() -> Self {
        Self { next_seqno: 0, len_max: FRAME_LEN_MAX }
    }

    /// Refuses longer frames from now on; before the handshake nothing long is due.
    pub fn set_len_max(&mut self, len_max: usize) {
        self.len_max = len_max.min(FRAME_LEN_MAX);
    }

    /// Takes one packet off the front of `buffer`, if it is all there.
    ///
    /// Length and sequence number are checked as soon as they are there, before room is made.
    ///
    /// # Errors
    ///
    /// See [`FrameError`]; the connection must end.
    pub fn read_from(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, FrameError> {
        let Some(len) = self.frame_len(buffer)? else {
            return Ok(None);
        };
        let frame_len = len.saturating_add(FRAME_HEADER_LEN);
        if buffer.len() < frame_len {
            let missing = frame_len.saturating_sub(buffer.len());
            buffer.reserve(missing.min(buffer.len().max(FRAME_RESERVE_MIN)));
            return Ok(None);
        }
        let body = buffer.split_to(frame_len).freeze().slice(FRAME_HEADER_LEN..);
        // Wraps: a busy connection sees 2^32 packets within days.
        self.next_seqno = self.next_seqno.wrapping_add(1);
        Ok(Some(Packet::decode(body)?))
    }

    /// The checked length of the frame at the front.
    fn frame_len(&self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some((len, rest)) = buffer.split_first_chunk() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*len);
        let bad_length = FrameError::BadLength { len };
        let frame_len = usize::try_from(len).map_err(|_| bad_length)?;
        if frame_len < FRAME_LEN_MIN || frame_len > self.len_max {
            return Err(bad_length);
        }
        let Some(seqno) = rest.first_chunk() else {
            return Ok(None);
        };
        let actual = u32::from_le_bytes(*seqno);
        if actual != self.next_seqno {
            return Err(FrameError::BadSeqno { expected: self.next_seqno, actual });
        }
        Ok(Some(frame_len))
    }
}

impl Packet {
    /// Reads a frame's body.
    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        match reader.u32()? {
            tl::TcpPacket::ID => tl::TcpPacket::read_last(reader).map(|packet| Self::Message { data: packet.data }),
            tl::TcpFragment::ID => Self::fragment(reader),
            tl::TcpPing::ID => tl::TcpPing::read_last(reader).map(|ping| Self::Ping { id: ping.id }),
            tl::TcpPong::ID => tl::TcpPong::read_last(reader).map(|pong| Self::Pong { id: pong.id }),
            tl::TcpQuery::ID => {
                let query = tl::TcpQuery::read_last(reader)?;
                Ok(Self::Query { id: query.id, data: query.data })
            }
            tl::TcpQueryAnswer::ID => {
                let answer = tl::TcpQueryAnswer::read_last(reader)?;
                Ok(Self::QueryAnswer { id: answer.id, data: answer.data })
            }
            tl::TcpQueryError::ID => {
                let error = tl::TcpQueryError::read_last(reader)?;
                let message = cut(&error.message).to_owned();
                Ok(Self::QueryError { id: error.id, code: error.code, message })
            }
            tl::TcpConnect::ID => tl::TcpConnect::read_last(reader).map(|connect| Self::Connect { id: connect.id }),
            tl::TcpConnected::ID => tl::TcpConnected::read_last(reader).map(|done| Self::Connected { id: done.id }),
            other => Err(DecodeError::UnknownConstructor(other)),
        }
    }

    fn fragment(reader: Reader) -> Result<Self, DecodeError> {
        let fragment = tl::TcpFragment::read_last(reader)?;
        if fragment.data.len() > FRAGMENT_MAX {
            return Err(DecodeError::TooLong("data"));
        }
        Ok(Self::Fragment {
            message_id: u64::from_le_bytes(fragment.message_id.to_le_bytes()),
            last: fragment.last,
            data: fragment.data,
        })
    }
}

/// The bytes around a packet's data: `head`, then the data's segments, then `padding`.
#[derive(Clone, Debug)]
pub struct FrameParts {
    /// Length, sequence number, constructor, fields, length of the data.
    pub head: Bytes,
    /// Zeros up to a multiple of four.
    pub padding: &'static [u8],
}

/// The bytes that go before and after a packet's data, so that the data are not copied.
///
/// # Errors
///
/// [`FrameError::TooLarge`] only.
pub fn frame_parts(seqno: u32, packet: &PacketOut<'_>) -> Result<FrameParts, FrameError> {
    let mut head = BytesMut::with_capacity(FRAME_HEAD_LEN);
    let padding = put_frame_head(&mut head, seqno, packet)?;
    Ok(FrameParts { head: head.freeze(), padding })
}

/// Appends a whole frame to a buffer.
///
/// # Errors
///
/// [`FrameError::TooLarge`] only; nothing is appended then.
pub fn encode_frame(seqno: u32, packet: &PacketOut<'_>, out: &mut BytesMut) -> Result<(), FrameError> {
    let padding = put_frame_head(out, seqno, packet)?;
    if let Some(data) = packet.data() {
        data.write_to(out);
    }
    out.put_slice(padding);
    Ok(())
}

/// The longest head: header, id, message id, Bool, length of the data.
const FRAME_HEAD_LEN: usize = FRAME_HEADER_LEN + 4 + 8 + 4 + 8;

impl<'a> PacketOut<'a> {
    /// What comes last in the packet, if it carries data.
    const fn data(&self) -> Option<&'a Encoded> {
        match self {
            Self::Message { data }
            | Self::Query { data, .. }
            | Self::QueryAnswer { data, .. }
            | Self::Fragment { data, .. } => Some(data),
            Self::Ping { .. }
            | Self::Pong { .. }
            | Self::QueryError { .. }
            | Self::Connect { .. }
            | Self::Connected { .. } => None,
        }
    }

    /// Constructor and fields up to the data.
    fn write_fields(&self, writer: &mut Writer) {
        match *self {
            Self::Ping { id } => tl::TcpPing { id }.write_boxed(writer),
            Self::Pong { id } => tl::TcpPong { id }.write_boxed(writer),
            Self::Connect { id } => tl::TcpConnect { id }.write_boxed(writer),
            Self::Connected { id } => tl::TcpConnected { id }.write_boxed(writer),
            Self::QueryError { id, code, message } => {
                let message = cut(message).to_owned();
                tl::TcpQueryError { id, code, message }.write_boxed(writer);
            }
            Self::Message { .. } => writer.u32(tl::TcpPacket::ID),
            Self::Query { id, .. } => {
                writer.u32(tl::TcpQuery::ID);
                writer.long(id);
            }
            Self::QueryAnswer { id, .. } => {
                writer.u32(tl::TcpQueryAnswer::ID);
                writer.long(id);
            }
            Self::Fragment { message_id, last, .. } => {
                writer.u32(tl::TcpFragment::ID);
                writer.long(i64::from_le_bytes(message_id.to_le_bytes()));
                writer.bool(last);
            }
        }
    }
}

/// Appends everything before the data; gives what comes after them.
fn put_frame_head(out: &mut BytesMut, seqno: u32, packet: &PacketOut<'_>) -> Result<&'static [u8], FrameError> {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u32_le(seqno);
    let mut writer = Writer::onto(std::mem::take(out));
    packet.write_fields(&mut writer);
    *out = writer.into_head();
    let data_len = packet.data().map_or(0, Encoded::len);
    let padding = match packet.data() {
        Some(_) => padding(put_length(out, data_len), data_len),
        None => &[],
    };
    let written = out.len().saturating_sub(start).saturating_sub(FRAME_HEADER_LEN);
    let len = written.saturating_add(data_len).saturating_add(padding.len());
    let wire_len = u32::try_from(len).ok().filter(|_| len <= FRAME_LEN_MAX);
    let (Some(wire_len), Some(len_field)) = (wire_len, out.get_mut(start..).and_then(first_four)) else {
        out.truncate(start);
        return Err(FrameError::TooLarge { len });
    };
    *len_field = wire_len.to_le_bytes();
    Ok(padding)
}

fn first_four(bytes: &mut [u8]) -> Option<&mut [u8; 4]> {
    bytes.first_chunk_mut()
}

/// Cuts a sentence to the limit, at a character.
fn cut(message: &str) -> &str {
    let end = message.floor_char_boundary(FAILURE_MESSAGE_MAX);
    message.get(..end).unwrap_or_default()
}
