//! The driver of one connection: reads, writes and timers for the pure session, all in the task that owns it.
//!
//! One round of [`Connection::next`]:
//!
//! 1. hand out the next event among the bytes read before, without a system call;
//! 2. when there is none, write everything that is queued, in one write;
//! 3. read; when that would block, sleep until bytes, queued messages or a deadline come.
//!
//! So answers to several requests that came in one read leave in one write, and nothing waits while the task is idle.
//! All state is in the connection, so a dropped `next()` loses nothing.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::AsyncWrite;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

use crate::error::ConnectionError;
use crate::limits::WRITE_SEGMENTS_MAX;
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::session::{Event, Session};
use crate::stream::Stream;

/// A connection after its handshake. It lives as long as this value, and moves only while [`next`](Self::next) is
/// polled: one task should own it and call `next` in a loop.
pub struct Connection {
    stream: Stream,
    session: Session,
    timer: Pin<Box<Sleep>>,
    peer: Peer,
    ended: bool,
    /// The place among the listener's connections, given back when this is dropped.
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    pub(crate) fn new(stream: Stream, session: Session, peer: Peer, place: Option<OwnedSemaphorePermit>) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(session.poll_timeout().into()));
        Self { stream, session, timer, peer, ended: false, _place: place }
    }

    /// The next message or query of the peer.
    ///
    /// Cancel-safe: when the future is dropped, nothing is lost. What is queued in the outbox is written, pings are
    /// answered and our queries get their answers only while this is polled.
    ///
    /// # Errors
    /// The reason why the connection ended; whose fault it is says [`ConnectionError::fault`]. Afterwards always
    /// [`ConnectionError::ClosedLocally`].
    pub async fn next(&mut self) -> Result<Event, ConnectionError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// A handle to send with.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        self.session.outbox().clone()
    }

    /// The longest message or query that is taken from now on; `MESSAGE_MAX` of `cocoon_wire` until this is called.
    /// A role that does not know its peer yet takes short ones only, so that strangers cannot make it hold much.
    pub fn set_message_max(&mut self, bytes: usize) {
        self.session.set_message_max(bytes);
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Runs the packet handshake. A listener's answer is handed to the transport, if that takes it, before this
    /// returns.
    pub(crate) async fn open(&mut self) -> Result<(), ConnectionError> {
        poll_fn(|cx| self.poll_drive(cx, Session::poll_open)).await?;
        poll_fn(|cx| Poll::Ready(self.poll_flush(cx))).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ConnectionError>> {
        if self.ended {
            return Poll::Ready(Err(ConnectionError::ClosedLocally));
        }
        let result = ready!(self.poll_drive(cx, Session::poll_event));
        if result.is_err() {
            self.ended = true;
            self.session.end();
        }
        Poll::Ready(result)
    }

    fn poll_drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll_output: fn(&mut Session) -> Result<Option<T>, ConnectionError>,
    ) -> Poll<Result<T, ConnectionError>> {
        loop {
            if let Some(output) = poll_output(&mut self.session)? {
                return Poll::Ready(Ok(output));
            }
            let flushed = self.poll_flush(cx);
            if self.session.is_finished() {
                // The peer learns that no more comes; whether it still listens changes nothing.
                let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
                return Poll::Ready(Err(ConnectionError::ClosedLocally));
            }
            let limit = self.session.read_limit();
            let mut buffer = self.session.read_buffer().limit(limit);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.session.handle_end_of_stream())),
                // A peer that closed takes no more, but what it said before is still heard out.
                Poll::Ready(Ok(_)) => self.session.handle_read(Instant::now().into_std())?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(ConnectionError::Transport(error))),
                Poll::Pending => {
                    flushed?;
                    ready!(self.poll_timer(cx))?;
                }
            }
        }
    }

    /// Writes until nothing is left or the transport takes no more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        loop {
            let now = Instant::now().into_std();
            self.session.poll_transmit(now, cx.waker());
            if self.session.writer.is_empty() {
                return Ok(());
            }
            match self.poll_write(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(ConnectionError::Transport(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.session.handle_written(now, written),
                Poll::Ready(Err(error)) => return Err(ConnectionError::Transport(error)),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); WRITE_SEGMENTS_MAX];
        let used = self.session.writer.slices(&mut slices);
        let stream = Pin::new(&mut self.stream);
        match slices.get(..used) {
            Some([one]) => stream.poll_write(cx, one),
            Some(many) => stream.poll_write_vectored(cx, many),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// Ready when a deadline passed and was handled.
    ///
    /// Deadlines move with every read; the timer is left where it is unless it would ring too late, so that traffic
    /// does not touch the timer wheel.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        loop {
            let deadline = Instant::from_std(self.session.poll_timeout());
            if deadline < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= deadline {
                return Poll::Ready(self.session.handle_timeout(now.into_std()));
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.session.end();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).field("ended", &self.ended).finish_non_exhaustive()
    }
}
