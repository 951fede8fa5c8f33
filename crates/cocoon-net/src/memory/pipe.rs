//! One in-memory stream: two pipes, and a switch that breaks them.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::memory::{Chunking, LinkOptions};

/// One end of an in-memory stream.
pub struct MemoryStream {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    options: LinkOptions,
    draw: Draw,
    arrival: Pin<Box<Sleep>>,
}

/// Breaks a link while connections use it.
#[derive(Debug, Clone)]
pub struct MemoryLink {
    pipes: [Weak<Pipe>; 2],
}

impl MemoryLink {
    /// Both ends get a connection reset; bytes in flight are lost.
    pub fn cut(&self) {
        self.change(|state| {
            state.end = Some(End::Reset);
            state.chunks.clear();
        });
    }

    /// Nothing moves any more and nobody is told: a half-open connection.
    pub fn freeze(&self) {
        self.change(|state| state.frozen = true);
    }

    /// Whether an end of the link is still held.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.pipes.iter().any(|pipe| pipe.strong_count() > 0)
    }

    fn change(&self, change: impl Fn(&mut PipeState)) {
        for pipe in self.pipes.iter().filter_map(Weak::upgrade) {
            let mut state = pipe.lock();
            change(&mut state);
            state.wake();
        }
    }
}

pub(super) fn link(options: LinkOptions) -> (MemoryStream, MemoryStream, MemoryLink) {
    let (there, back) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
    let link = MemoryLink { pipes: [Arc::downgrade(&there), Arc::downgrade(&back)] };
    let near = MemoryStream::new(Arc::clone(&back), Arc::clone(&there), options, 1);
    let far = MemoryStream::new(there, back, options, 2);
    (near, far, link)
}

#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<PipeState>,
}

#[derive(Debug, Default)]
struct PipeState {
    chunks: VecDeque<(Instant, Bytes)>,
    len: usize,
    end: Option<End>,
    frozen: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut state = self.lock();
        state.end.get_or_insert(End::Closed);
        state.wake();
    }
}

impl PipeState {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl MemoryStream {
    fn new(incoming: Arc<Pipe>, outgoing: Arc<Pipe>, options: LinkOptions, salt: u64) -> Self {
        let arrival = Box::pin(tokio::time::sleep_until(Instant::now()));
        Self { incoming, outgoing, options, draw: Draw::new(options.chunking, salt), arrival }
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let mut state = this.incoming.lock();
            if state.frozen {
                return Poll::Pending;
            }
            if state.end == Some(End::Reset) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let Some((due, chunk)) = state.chunks.front_mut() else {
                if state.end.is_some() {
                    return Poll::Ready(Ok(()));
                }
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if *due <= Instant::now() {
                let taken = this.draw.at_most(chunk.len().min(buffer.remaining()));
                buffer.put_slice(&chunk.split_to(taken));
                if chunk.is_empty() {
                    state.chunks.pop_front();
                }
                state.len = state.len.saturating_sub(taken);
                if let Some(writer) = state.writer.take() {
                    writer.wake();
                }
                return Poll::Ready(Ok(()));
            }
            let due = *due;
            // Also woken when the link is cut meanwhile.
            state.reader = Some(cx.waker().clone());
            drop(state);
            this.arrival.as_mut().reset(due);
            ready!(this.arrival.as_mut().poll(cx));
        }
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut state = this.outgoing.lock();
        match state.end {
            Some(End::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(End::Closed) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None => {}
        }
        let room = this.options.capacity.saturating_sub(state.len);
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (taken, _) = bytes.split_at(this.draw.at_most(room.min(bytes.len())));
        state.len = state.len.saturating_add(taken.len());
        state.chunks.push_back((Instant::now() + this.options.latency, Bytes::copy_from_slice(taken)));
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.incoming.end();
        self.outgoing.end();
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStream").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Draws the size of each read and write.
#[derive(Debug)]
struct Draw {
    chunking: Chunking,
    state: u64,
}

impl Draw {
    fn new(chunking: Chunking, salt: u64) -> Self {
        let seed = match chunking {
            Chunking::Whole => 0,
            Chunking::Random { seed, .. } => seed,
        };
        Self { chunking, state: seed.wrapping_mul(2).wrapping_add(salt) | 1 }
    }

    /// A number from 1 to `most`; `most` itself when chunks are whole, 0 when `most` is.
    fn at_most(&mut self, most: usize) -> usize {
        let Chunking::Random { max, .. } = self.chunking else { return most };
        // xorshift64: any spread will do.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let drawn = usize::try_from(self.state % u64::try_from(max.max(1)).unwrap_or(u64::MAX)).unwrap_or(0);
        drawn.saturating_add(1).min(most)
    }
}
