//! One HTTP/1.1 connection to the engine, and the body of the answer that travels on it.
//!
//! hyper splits a connection into a sender and a driver, and the driver usually gets a task of its
//! own. Here whoever waits for the answer drives it: one task a request, no wake-ups between two,
//! and dropping the body drops the socket in the same instant, which is the cancellation.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connector::EngineStream;
use super::pool::Pool;
use crate::error::EngineError;
use crate::limits::ENGINE_BUFFER_BYTES;

type Driver = http1::Connection<TokioIo<Box<dyn EngineStream>>, Full<Bytes>>;

/// A connection that is driven by whoever uses it.
pub(super) struct EngineConnection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<Pin<Box<Driver>>>,
    idle_since: Instant,
}

impl EngineConnection {
    pub(super) async fn open(stream: Box<dyn EngineStream>) -> Result<Self, hyper::Error> {
        let (sender, driver) =
            http1::Builder::new().max_buf_size(ENGINE_BUFFER_BYTES).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), idle_since: Instant::now() })
    }

    /// Sends a request and drives the connection until the answer's head is there.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        let mut response = pin!(self.sender.send_request(request));
        let driver = &mut self.driver;
        poll_fn(|cx| {
            drive(driver, cx);
            response.as_mut().poll(cx)
        })
        .await
    }

    /// Whether another request can be sent. Looks at the socket without waiting.
    pub(super) fn is_usable(&mut self) -> bool {
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Notes the time from which the connection is idle.
    pub(super) fn rest(&mut self) {
        self.idle_since = Instant::now();
    }

    pub(super) fn idle_for(&self) -> Duration {
        self.idle_since.elapsed()
    }
}

/// Lets the connection read and write what it can. Its errors reach the request through hyper.
fn drive(driver: &mut Option<Pin<Box<Driver>>>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
        *driver = None;
    }
}

/// The body of one answer, together with the connection it arrives on.
pub(super) struct AnswerBody {
    incoming: Incoming,
    /// `None` when the body has ended and the connection went back to the pool.
    connection: Option<EngineConnection>,
    pool: Arc<Pool>,
    stall: Stall,
}

impl AnswerBody {
    pub(super) fn new(
        incoming: Incoming,
        connection: EngineConnection,
        pool: Arc<Pool>,
        stall_timeout: Duration,
    ) -> Self {
        Self { incoming, connection: Some(connection), pool, stall: Stall::new(stall_timeout) }
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

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, EngineError>>> {
        while let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            match frame {
                Some(Ok(frame)) => {
                    // Trailers are headers, which do not travel on.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(EngineError::EngineBroke(error.into()))));
                }
                None => return Poll::Ready(None),
            }
        }
        Poll::Pending
    }
}

impl Stream for AnswerBody {
    type Item = Result<Bytes, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut polled = this.poll_data(cx);
        if polled.is_pending() {
            let Some(connection) = &mut this.connection else {
                return Poll::Ready(None);
            };
            // Asking for data has told the driver that there is room; now it reads.
            drive(&mut connection.driver, cx);
            polled = this.poll_data(cx);
        }
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                this.stall.handle_data();
                if this.incoming.is_end_stream() {
                    give_back(&mut this.connection, &this.pool);
                }
            }
            Poll::Ready(Some(Err(_))) => {}
            Poll::Ready(None) => give_back(&mut this.connection, &this.pool),
            Poll::Pending => {
                if this.stall.poll_stalled(cx).is_ready() {
                    this.connection = None;
                    return Poll::Ready(Some(Err(this.stall.error())));
                }
            }
        }
        polled
    }
}

fn give_back(connection: &mut Option<EngineConnection>, pool: &Pool) {
    if let Some(connection) = connection.take() {
        pool.give(connection);
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
