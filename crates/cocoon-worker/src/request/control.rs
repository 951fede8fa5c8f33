//! What reaches a running request from outside: cancellation, credit, its deadline.
//!
//! The session's task writes, the request's task waits. No lock and no channel: two atomics and a waker.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Sleep, sleep};

use super::Stop;
use crate::limits::{CREDIT_MAX, REQUEST_TIMEOUT_MAX};

/// The session's hand on one running request.
#[derive(Debug)]
pub(crate) struct Control {
    cancelled: AtomicBool,
    /// Bytes that may be sent; negative after a head that was larger than the first credit.
    credit: AtomicI64,
    limited: bool,
    waker: AtomicWaker,
}

impl Control {
    /// `credit` is absent where there is no flow control.
    pub(crate) fn new(credit: Option<u32>) -> Self {
        Self {
            cancelled: AtomicBool::new(false),
            credit: AtomicI64::new(credit.map_or(0, i64::from)),
            limited: credit.is_some(),
            waker: AtomicWaker::new(),
        }
    }

    /// Stops the request; it still reports what it used.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Lets `bytes` more be sent.
    pub(crate) fn add_credit(&self, bytes: u32) {
        // The only other writer subtracts, so the sum cannot pass the bound in between.
        let bytes = i64::from(bytes).min(CREDIT_MAX.saturating_sub(self.credit.load(Ordering::Relaxed)));
        self.credit.fetch_add(bytes.max(0), Ordering::Release);
        self.waker.wake();
    }

    fn room(&self) -> i64 {
        if self.limited { self.credit.load(Ordering::Acquire) } else { i64::MAX }
    }

    fn spend(&self, bytes: usize) {
        if self.limited {
            self.credit.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}

/// The request's side: waits for something, unless it is stopped first.
pub(super) struct Watch<'a> {
    control: &'a Control,
    deadline: Pin<Box<Sleep>>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(control: &'a Control, timeout_ms: u64) -> Self {
        let timeout = Duration::from_millis(timeout_ms).min(REQUEST_TIMEOUT_MAX);
        Self { control, deadline: Box::pin(sleep(timeout)) }
    }

    /// The future's output, or the reason not to wait for it any longer.
    pub(super) async fn wait<F: Future>(&mut self, future: F) -> Result<F::Output, Stop> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.poll_stopped(cx) {
            Poll::Ready(stop) => Poll::Ready(Err(stop)),
            Poll::Pending => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// Waits for credit; gives how many bytes may be sent, at least 1.
    pub(super) async fn room(&mut self) -> Result<usize, Stop> {
        poll_fn(|cx| match self.poll_stopped(cx) {
            Poll::Ready(stop) => Poll::Ready(Err(stop)),
            Poll::Pending => match usize::try_from(self.control.room()) {
                Ok(room @ 1..) => Poll::Ready(Ok(room)),
                Ok(0) | Err(_) => Poll::Pending,
            },
        })
        .await
    }

    /// Whether that many bytes may be sent now.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        i64::try_from(bytes).is_ok_and(|bytes| self.control.room() >= bytes)
    }

    pub(super) fn spend(&self, bytes: usize) {
        self.control.spend(bytes);
    }

    /// Whether credit replaces the rule for lagging readers.
    pub(super) fn is_limited(&self) -> bool {
        self.control.limited
    }

    /// Looks at both reasons to stop, and is woken by either; also by new credit.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        self.control.waker.register(cx.waker());
        if self.control.cancelled.load(Ordering::Acquire) {
            return Poll::Ready(Stop::Cancelled);
        }
        self.deadline.as_mut().poll(cx).map(|()| Stop::TimedOut)
    }
}
