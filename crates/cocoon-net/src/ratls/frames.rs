//! Frames of the attested handshake on their way over TLS: `u32 length | body`, both ways at once.
//!
//! Both ends speak at the same time in every step, and evidence can be larger than what a link holds in flight; so one
//! future writes ours, as soon as there is something to write, and reads the peer's. It reads its frame to the last
//! byte and no further: what follows belongs to the next step.
//!
//! The length is refused before anything is read behind it, and room is made only as bytes arrive.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cocoon_wire::attestation::{AttestMessage, AttestRefusal};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use super::failure::LinkError;
use crate::limits::ATTEST_READ_BYTES;

const LENGTH_BYTES: usize = 4;

/// Sends one frame, once `outgoing` has it, and receives one of at most `max` bytes. A refusal of the peer ends it at
/// once, whatever was to be sent.
pub(super) async fn exchange<S, F>(stream: &mut S, outgoing: F, max: usize) -> Result<AttestMessage, LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<AttestMessage, LinkError>>,
{
    let mut outgoing = pin!(outgoing);
    let mut sending = Sending::Waiting;
    let mut receiving = Receiving { input: BytesMut::new(), max };
    let mut received = None;
    poll_fn(|cx| {
        if received.is_none() {
            match receiving.poll(cx, stream) {
                Ok(Poll::Ready(AttestMessage::Refused(AttestRefusal { check, text }))) => {
                    return Poll::Ready(Err(LinkError::PeerRefusedUs { check, text }));
                }
                Ok(Poll::Ready(message)) => received = Some(message),
                Ok(Poll::Pending) => {}
                // A peer that refused has closed behind its reason, so a failed write is told only after that.
                Err(error) => return Poll::Ready(Err(sending.take_error().unwrap_or(error))),
            }
        }
        if matches!(sending, Sending::Waiting)
            && let Poll::Ready(message) = outgoing.as_mut().poll(cx)
        {
            sending = Sending::Writing(framed(&message?.encode()));
        }
        if !sending.poll(cx, stream) {
            return Poll::Pending;
        }
        match (received.take(), sending.take_error()) {
            (Some(_), Some(error)) => Poll::Ready(Err(error)),
            (Some(message), None) => Poll::Ready(Ok(message)),
            (None, Some(error)) => {
                sending = Sending::Failed(error);
                Poll::Pending
            }
            (None, None) => Poll::Pending,
        }
    })
    .await
}

/// Sends one frame and waits for nothing.
pub(super) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &AttestMessage) {
    let mut sending = Sending::Writing(framed(&message.encode()));
    poll_fn(|cx| if sending.poll(cx, stream) { Poll::Ready(()) } else { Poll::Pending }).await;
}

fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(body.len().saturating_add(LENGTH_BYTES));
    // Our own frames are far below four gigabytes; the peer would refuse this one.
    frame.put_u32_le(u32::try_from(body.len()).unwrap_or(u32::MAX));
    frame.put_slice(body);
    frame.freeze()
}

enum Sending {
    Waiting,
    Writing(Bytes),
    Sent,
    Failed(LinkError),
}

impl Sending {
    /// Whether nothing is left to do.
    fn poll<S: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> bool {
        let bytes = match self {
            Self::Waiting => return false,
            Self::Sent | Self::Failed(_) => return true,
            Self::Writing(bytes) => bytes,
        };
        match write_out(cx, stream, bytes) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => *self = Self::Sent,
            Poll::Ready(Err(error)) => *self = Self::Failed(error.into()),
        }
        true
    }

    fn take_error(&mut self) -> Option<LinkError> {
        match std::mem::replace(self, Self::Sent) {
            Self::Failed(error) => Some(error),
            sending @ (Self::Waiting | Self::Writing(_) | Self::Sent) => {
                *self = sending;
                None
            }
        }
    }
}

fn write_out<S: AsyncWrite + Unpin>(cx: &mut Context<'_>, stream: &mut S, bytes: &mut Bytes) -> Poll<io::Result<()>> {
    while !bytes.is_empty() {
        match ready!(Pin::new(&mut *stream).poll_write(cx, bytes))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => bytes.advance(written.min(bytes.len())),
        }
    }
    // TLS may still hold ciphertext back.
    Pin::new(stream).poll_flush(cx)
}

struct Receiving {
    input: BytesMut,
    max: usize,
}

impl Receiving {
    fn poll<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Result<Poll<AttestMessage>, LinkError> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                let mut frame = std::mem::take(&mut self.input);
                frame.advance(LENGTH_BYTES.min(frame.len()));
                return AttestMessage::decode(frame.freeze()).map(Poll::Ready).map_err(LinkError::PeerFrame);
            }
            // Room doubles with what arrived: an announced length costs its sender as much as us.
            self.input.reserve(missing.min(self.input.len().max(ATTEST_READ_BYTES)));
            let mut buffer = (&mut self.input).limit(missing);
            match poll_read_buf(Pin::new(&mut *stream), cx, &mut buffer) {
                Poll::Ready(Ok(0)) => return Err(LinkError::PeerClosed),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
    }

    /// Bytes that the frame still lacks.
    fn missing(&self) -> Result<usize, LinkError> {
        let Some(length) = self.input.first_chunk::<LENGTH_BYTES>() else {
            return Ok(LENGTH_BYTES.saturating_sub(self.input.len()));
        };
        let len = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if len > self.max {
            return Err(LinkError::PeerFrameTooLong { len, max: self.max });
        }
        Ok(len.saturating_add(LENGTH_BYTES).saturating_sub(self.input.len()))
    }
}
