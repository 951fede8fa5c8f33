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
//!
//! Over TLS, a write may leave ciphertext behind, so each round ends with a flush; a stream that ends without TLS's own
//! close was cut off by somebody; and the peer is attested again from time to time ([`Attestation`]), beside the data.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BufMut;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

use crate::admission::door::Seat;
use crate::error::ConnectionError;
use crate::limits::{ATTESTATION_EVENTS, WRITE_SEGMENTS_MAX};
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::ratls::Attestation;
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
    /// Whether the stream may hold back bytes that it took.
    unflushed: bool,
    /// Keeps the peer attested; on attested links only.
    attestation: Option<Box<Attestation>>,
    /// Events since attestation was moved on.
    events: usize,
    /// The place among the listener's connections, given back when this is dropped.
    _seat: Option<Seat>,
}

impl Connection {
    pub(crate) fn new(stream: Stream, session: Session, peer: Peer) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(session.poll_timeout().into()));
        Self { stream, session, timer, peer, ended: false, unflushed: false, attestation: None, events: 0, _seat: None }
    }

    /// Keeps the place among the listener's connections for as long as this lives.
    pub(crate) fn set_seat(&mut self, seat: Seat) {
        self._seat = Some(seat);
    }

    /// Keeps the peer attested for as long as this lives.
    pub(crate) fn set_attestation(&mut self, attestation: Attestation) {
        self.attestation = Some(Box::new(attestation));
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

    /// Who is at the other end. A peer that was attested again is another value with the same key.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// When the last byte of the peer was read.
    #[must_use]
    pub fn heard_at(&self) -> std::time::Instant {
        self.session.heard_at()
    }

    /// Asks the peer for a sign of life, sooner than the connection would by itself. It leaves with the next
    /// [`next`](Self::next), ahead of all data; that the answer came, [`heard_at`](Self::heard_at) tells.
    ///
    /// # Errors
    /// When the control queue is full: the peer reads nothing. The connection should not be used further.
    pub fn ping(&mut self) -> Result<(), ConnectionError> {
        self.session.ping()
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
        let result = ready!(self.poll_foreign_event(cx));
        if result.is_err() {
            self.ended = true;
            self.session.end();
        }
        Poll::Ready(result)
    }

    /// The next event that is the role's business.
    fn poll_foreign_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ConnectionError>> {
        loop {
            // Also while events never end: a peer cannot talk its way out of being asked.
            self.events = self.events.saturating_add(1);
            if self.events >= ATTESTATION_EVENTS {
                self.poll_attestation(cx)?;
            }
            let Poll::Ready(event) = self.poll_drive(cx, Session::poll_event)? else {
                self.poll_attestation(cx)?;
                return Poll::Pending;
            };
            match (event, &mut self.attestation) {
                (Event::Query(query), Some(attestation)) => {
                    if let Some(query) = attestation.handle_query(query, &self.stream, self.session.outbox())? {
                        return Poll::Ready(Ok(Event::Query(query)));
                    }
                }
                (event, _) => return Poll::Ready(Ok(event)),
            }
        }
    }

    fn poll_attestation(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        self.events = 0;
        let Some(attestation) = &mut self.attestation else { return Ok(()) };
        if let Some(peer) = attestation.poll(cx, &self.stream, self.session.outbox())? {
            self.peer = peer;
        }
        Ok(())
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
                // The peer learns that no more comes; whether it still listens changes nothing, and lingering has an end.
                if Pin::new(&mut self.stream).poll_shutdown(cx).is_pending() {
                    ready!(self.poll_timer(cx))?;
                    continue;
                }
                return Poll::Ready(Err(ConnectionError::ClosedLocally));
            }
            let limit = self.session.read_limit();
            let mut buffer = self.session.read_buffer().limit(limit);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.session.handle_end_of_stream())),
                // A peer that closed takes no more, but what it said before is still heard out.
                Poll::Ready(Ok(_)) => self.session.handle_read(Instant::now().into_std())?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(lost(error))),
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
                return self.poll_flush_stream(cx);
            }
            match self.poll_write(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(ConnectionError::Transport(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.unflushed = true;
                    self.session.handle_written(now, written);
                }
                Poll::Ready(Err(error)) => return Err(ConnectionError::Transport(error)),
            }
        }
    }

    fn poll_flush_stream(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        if !self.unflushed {
            return Ok(());
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            // Woken when the transport takes more.
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Ready(Err(error)) => return Err(ConnectionError::Transport(error)),
        }
        Ok(())
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
        if self.stream.tls().is_some() {
            // So that the peer can tell our leaving from somebody who cuts the line; if it cannot be said now, it is not.
            let _ = Pin::new(&mut self.stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// What a failed read means. TLS calls an end without its own close an unexpected one.
fn lost(error: io::Error) -> ConnectionError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return ConnectionError::PeerTruncated;
    }
    ConnectionError::Transport(error)
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).field("ended", &self.ended).finish_non_exhaustive()
    }
}
