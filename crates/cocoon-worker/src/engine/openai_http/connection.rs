//! One HTTP/1.1 connection to the engine, and the body of the answer that travels on it.
//!
//! Whoever waits for the answer reads the socket: one task a request, no wake-ups between two, and dropping the body drops
//! the socket in the same instant, which is the cancellation.
//!
//! A connection that waits holds no buffer: what has come is read into the stack and copied once, to its own size. Streams
//! wait for most of their time, and a worker has thousands.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::codec::{Framing, Head, Malformed, read_head};
use super::connector::EngineStream;
use super::pool::Pool;
use crate::error::EngineError;
use crate::limits::{ENGINE_HEAD_BYTES_MAX, ENGINE_READ_BYTES};

/// Why an exchange failed.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// A connection to the engine.
pub(super) struct EngineConnection {
    stream: Box<dyn EngineStream>,
    /// What is left to be written of a request. An engine may answer before it has read all of it.
    unsent: Unsent,
    /// What was read and not taken yet.
    rest: Bytes,
    /// Whether the last answer allows another request.
    is_lasting: bool,
    idle_since: Instant,
}

/// A request on its way: the head, with the body if that is small, and the body otherwise.
pub(super) type Unsent = bytes::buf::Chain<Bytes, Bytes>;

impl EngineConnection {
    pub(super) fn new(stream: Box<dyn EngineStream>) -> Self {
        let nothing = Bytes::new().chain(Bytes::new());
        Self { stream, unsent: nothing, rest: Bytes::new(), is_lasting: true, idle_since: Instant::now() }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Unsent) -> Result<Head, Broken> {
        self.unsent = request;
        let mut read = BytesMut::new();
        loop {
            let piece = poll_fn(|cx| {
                // An engine that stops reading may still say why.
                let unsent = self.poll_send(cx);
                match (self.poll_fill(cx), unsent) {
                    (Poll::Ready(Ok(piece)), Poll::Ready(Err(error))) if piece.is_empty() => Poll::Ready(Err(error)),
                    (filled, _) => filled,
                }
            });
            let piece = piece.await?;
            if piece.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            read.extend_from_slice(&piece);
            while let Some((length, head)) = read_head(&read)? {
                read.advance(length);
                if !head.status.is_informational() {
                    self.is_lasting = head.is_lasting;
                    self.rest = read.freeze();
                    return Ok(head);
                }
            }
            if read.len() > ENGINE_HEAD_BYTES_MAX {
                return Err(Malformed("a head without an end").into());
            }
        }
    }

    /// Whether another request can be sent. Looks at the socket without waiting.
    pub(super) fn is_usable(&mut self) -> bool {
        let is_at_rest = self.is_lasting && self.rest.is_empty() && !self.unsent.has_remaining();
        // Whatever could be read now is a close, or an answer that nobody asked for.
        is_at_rest && self.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Notes the time from which the connection is idle.
    pub(super) fn rest(&mut self) {
        self.idle_since = Instant::now();
    }

    pub(super) fn idle_for(&self) -> Duration {
        self.idle_since.elapsed()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.unsent.chunk()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// The next bytes, as many as there are up to a bound; none at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut room = [MaybeUninit::uninit(); ENGINE_READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(room.filled())))
    }
}

/// The body of one answer, together with the connection it arrives on.
pub(super) struct AnswerBody {
    /// `None` when the body has ended and the connection went back to the pool.
    connection: Option<EngineConnection>,
    framing: Framing,
    pool: Arc<Pool>,
    stall: Stall,
}

impl AnswerBody {
    pub(super) fn new(
        framing: Framing,
        connection: EngineConnection,
        pool: Arc<Pool>,
        stall_timeout: Duration,
    ) -> Self {
        Self { connection: Some(connection), framing, pool, stall: Stall::new(stall_timeout) }
    }

    /// The whole body, if it has no more than `max` bytes.
    pub(super) async fn collect(mut self, max: usize) -> Result<Bytes, EngineError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await {
            whole.extend_from_slice(&chunk?);
            if whole.len() > max {
                return Err(EngineError::EngineAnswer("too many bytes"));
            }
        }
        Ok(whole.freeze())
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            let taken = self.framing.take(&mut connection.rest);
            if self.framing.is_over() {
                self.give_back();
            }
            match taken {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            if connection.unsent.has_remaining() && connection.poll_send(cx).is_ready() {
                // Whether that went well, the answer tells.
                connection.unsent.advance(connection.unsent.remaining());
            }
            let more = ready!(connection.poll_fill(cx));
            match more {
                Ok(more) if !more.is_empty() => connection.rest = more,
                Ok(_) if self.framing.ends_by_close() => self.connection = None,
                Ok(_) => return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.give(connection);
        }
    }
}

impl Stream for AnswerBody {
    type Item = Result<Bytes, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match this.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                this.stall.handle_data();
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.connection = None;
                Poll::Ready(Some(Err(EngineError::EngineBroke(error))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(this.stall.poll_stalled(cx));
                this.connection = None;
                Poll::Ready(Some(Err(this.stall.error())))
            }
        }
    }
}

/// Notices that nothing has come for too long. Data costs a look at the clock, not a timer.
struct Stall {
    limit: Duration,
    last_data: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn new(limit: Duration) -> Self {
        Self { limit, last_data: Instant::now(), timer: None }
    }

    fn handle_data(&mut self) {
        self.last_data = Instant::now();
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.last_data + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn error(&self) -> EngineError {
        EngineError::EngineStalled { waiting_for: "the rest of its answer", limit: self.limit }
    }
}
