//! One answer between the proxy's connection and the app: a bounded queue of chunks.
//!
//! The connection's task puts chunks in ([`Slot::handle_answer`]), the app's HTTP task takes them
//! out ([`AnswerStream`]); neither parses the body, and only small chunks that wait are copied ([`Chunks`]).
//! Bounds: on extended connections the credit that was granted, and it is granted as the app reads;
//! on original ones, which know no credit, a fixed lag.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use cocoon_net::Ticket;
use cocoon_wire::{
    RequestId, Sealed, Version,
    http::HttpResponse,
    message::{Answer, FinalInfo},
};
use tokio::time::{Instant, timeout_at};

use super::{link::Link, violation::Violation};
use crate::{chunks::Chunks, error::RequestError, limits};

/// The shared half of one answer.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    head: HeadState,
    chunks: Chunks,
    /// Bytes that came, as credit counts them.
    received: usize,
    /// Bytes that may come; meaningless on original connections.
    granted: usize,
    end: Option<End>,
    info: Option<FinalInfo>,
    waker: Option<Waker>,
}

#[derive(Default)]
enum HeadState {
    #[default]
    Awaited,
    Here(Sealed),
    Taken,
}

/// How an answer ended.
#[derive(Clone)]
enum End {
    Complete,
    Broken(RequestError),
}

/// What the connection has to do after an answer message was put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// It is queued.
    Queued,
    /// The app lags too far behind: the request is over for it, whatever still comes.
    Overrun,
}

impl Slot {
    pub(super) fn new() -> Self {
        let state = State { granted: limits::ANSWER_CREDIT as usize, ..State::default() };
        Self { state: Mutex::new(state) }
    }

    /// Puts one message of the proxy in.
    pub(super) fn handle_answer(&self, answer: Answer, version: Version) -> Result<Intake, Violation> {
        let mut state = self.lock();
        state.received = state.received.saturating_add(answer.body_len());
        let is_last = answer.is_last();
        match answer {
            Answer::Head { response, end, .. } => {
                if !matches!(state.head, HeadState::Awaited) {
                    return Err(Violation::SecondHead);
                }
                state.head = HeadState::Here(response);
                state.info = end;
            }
            Answer::Part { body, end, .. } => {
                if matches!(state.head, HeadState::Awaited) {
                    return Err(Violation::PartBeforeAnswer);
                }
                state.chunks.push(body.into_bytes());
                state.info = end;
            }
            Answer::Failed { failure, end, .. } => {
                state.end = Some(End::Broken(RequestError::Failed(failure)));
                state.info = end;
            }
        }
        if is_last && state.end.is_none() {
            state.end = Some(End::Complete);
        }
        let intake = state.check_bounds(version)?;
        state.wake();
        Ok(intake)
    }

    /// Ends the answer from this side, unless it is complete.
    pub(super) fn break_off(&self, error: RequestError) {
        let mut state = self.lock();
        state.end.get_or_insert(End::Broken(error));
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every update leaves the state usable at each point where it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Bytes that wait for the app.
    fn queued(&self) -> usize {
        let head = if let HeadState::Here(head) = &self.head { head.len() } else { 0 };
        self.chunks.bytes().saturating_add(head)
    }

    fn check_bounds(&mut self, version: Version) -> Result<Intake, Violation> {
        if version == Version::Extended {
            let allowed = self.granted.saturating_add(limits::ANSWER_CREDIT_SLACK);
            return if self.received > allowed { Err(Violation::CreditOverrun) } else { Ok(Intake::Queued) };
        }
        if self.queued() <= limits::ORIGINAL_LAG_BYTES {
            return Ok(Intake::Queued);
        }
        self.chunks.clear();
        self.end = Some(End::Broken(RequestError::AppTooSlow));
        self.wake();
        Ok(Intake::Overrun)
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Slot")
            .field("queued", &state.queued())
            .field("ended", &state.end.is_some())
            .finish_non_exhaustive()
    }
}

/// The app's half of one answer. Dropping it before the end cancels the request.
#[derive(Debug)]
pub(crate) struct AnswerStream {
    id: RequestId,
    slot: Arc<Slot>,
    link: Arc<Link>,
    ticket: Ticket,
    /// Bytes taken out that were not granted again yet.
    ungranted: usize,
    over: bool,
}

impl AnswerStream {
    pub(super) fn new(id: RequestId, slot: Arc<Slot>, link: Arc<Link>, ticket: Ticket) -> Self {
        Self { id, slot, link, ticket, ungranted: 0, over: false }
    }

    /// The first message: status, headers, maybe the first bytes of the body.
    pub(crate) async fn head(&mut self, deadline: Instant) -> Result<HttpResponse, RequestError> {
        let head = timeout_at(deadline, poll_fn(|cx| self.poll_head(cx))).await;
        match head {
            Ok(head) => head,
            Err(_) => Err(RequestError::Late),
        }
    }

    /// The next bytes of the body; `None` at its end.
    pub(crate) fn poll_chunk(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, RequestError>> {
        let mut state = self.slot.lock();
        if let Some(chunk) = state.chunks.pop() {
            let ended = state.end.is_some();
            drop(state);
            self.taken(chunk.len(), ended);
            return Poll::Ready(Ok(Some(chunk)));
        }
        match &state.end {
            Some(End::Complete) => {
                self.over = true;
                Poll::Ready(Ok(None))
            }
            Some(End::Broken(error)) => {
                self.over = true;
                Poll::Ready(Err(error.clone()))
            }
            None => {
                state.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Whether nothing more is to come but what waits here.
    pub(crate) fn has_ended(&self) -> bool {
        self.slot.lock().end.is_some()
    }

    /// What the proxy said at the end, if it came to one.
    pub(crate) fn final_info(&self) -> Option<FinalInfo> {
        self.slot.lock().info.clone()
    }

    /// Cancels what is still to come.
    pub(crate) fn give_up(&mut self) {
        if !self.over {
            self.over = true;
            self.link.cancel(self.id, self.ticket);
        }
    }

    fn poll_head(&mut self, cx: &Context<'_>) -> Poll<Result<HttpResponse, RequestError>> {
        let mut state = self.slot.lock();
        if let HeadState::Here(envelope) = std::mem::replace(&mut state.head, HeadState::Taken) {
            // A worker can cause this, so it ends this request and not the proxy's connection.
            let Ok(response) = HttpResponse::decode(&envelope) else {
                return Poll::Ready(Err(RequestError::BadAnswer));
            };
            let ended = state.end.is_some();
            let payload = response.payload.clone();
            state.chunks.push_first(payload.clone());
            drop(state);
            self.taken(envelope.len().saturating_sub(payload.len()), ended);
            return Poll::Ready(Ok(response));
        }
        state.head = HeadState::Awaited;
        if let Some(End::Broken(error)) = &state.end {
            self.over = true;
            return Poll::Ready(Err(error.clone()));
        }
        state.wait(cx);
        Poll::Pending
    }

    /// Counts what the app took, and grants it again once it is worth a message.
    fn taken(&mut self, bytes: usize, ended: bool) {
        self.ungranted = self.ungranted.saturating_add(bytes);
        if ended || self.ungranted < limits::ANSWER_GRANT as usize || self.link.version() != Version::Extended {
            return;
        }
        let Ok(bytes) = u32::try_from(std::mem::take(&mut self.ungranted)) else {
            return; // Cannot be: what was taken had been granted, in 32 bits.
        };
        let mut state = self.slot.lock();
        state.granted = state.granted.saturating_add(bytes as usize);
        drop(state);
        self.link.grant(self.id, bytes);
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        self.give_up();
    }
}
