//! The sending side of a connection: many producers, one driver.
//!
//! An [`Outbox`] is a cheap clone of a handle to the connection's queues. Producers never wait: a queue over its
//! bound refuses. The task that owns the [`Connection`](crate::Connection) writes the queues out inside `next()`;
//! nothing is sent while nobody drives it.
//!
//! The queues themselves, and the tables of queries in flight, are the pure [`Queues`]; this file adds the lock,
//! the wake-up of the driver, and the wait for a query's answer.

pub(crate) mod queues;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cocoon_wire::Encoded;
use cocoon_wire::limits::FAILURE_MESSAGE_MAX;
use tokio::sync::oneshot;

use crate::error::{QueryError, SendError};
use crate::outbox::queues::Queues;

/// Sends messages and queries over one connection. Clones share the connection's queues.
#[derive(Clone)]
pub struct Outbox {
    queues: Arc<Mutex<Queues>>,
}

/// Names one message of [`Outbox::send_tracked`], so that it can be withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// What became of a withdrawn message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawal {
    /// The peer will not receive the message, and its bytes no longer take room in the queue.
    NeverDelivered,
    /// All of the message is on its way; only a message of its own can undo it.
    TooLate,
}

impl Outbox {
    pub(crate) fn new(queues: Queues) -> Self {
        Self { queues: Arc::new(Mutex::new(queues)) }
    }

    /// Queues a message. Messages leave in order, except that one larger than 64 KiB may be overtaken by later
    /// ones once [`enable_extended`](Self::enable_extended) was called.
    ///
    /// # Errors
    /// [`SendError::Full`] when the peer reads too slowly, [`SendError::TooLarge`], [`SendError::Closed`].
    pub fn send(&self, message: Encoded) -> Result<(), SendError> {
        self.push(|queues| queues.push_message(message)).map(|_| ())
    }

    /// As [`send`](Self::send), for a message that may have to be withdrawn: a request whose caller hangs up while
    /// it waits in the queue. (A cancellation sent as control would overtake it and name a request that the peer
    /// does not know yet.)
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_tracked(&self, message: Encoded) -> Result<Ticket, SendError> {
        self.push(|queues| queues.push_message(message)).map(Ticket)
    }

    /// Takes a message back if its last byte has not been staged for writing.
    #[must_use = "a message that is too late to withdraw has to be cancelled"]
    pub fn withdraw(&self, ticket: Ticket) -> Withdrawal {
        match self.push(|queues| queues.withdraw(ticket.0)) {
            true => Withdrawal::NeverDelivered,
            false => Withdrawal::TooLate,
        }
    }

    /// Queues a small message ahead of all data: credits and cancellations.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_control(&self, message: Encoded) -> Result<(), SendError> {
        self.push(|queues| queues.push_control_message(message))
    }

    /// Sends a query and waits for its answer. Another task must be driving the connection.
    ///
    /// When the returned future is dropped or times out, a late answer is ignored.
    ///
    /// # Errors
    /// The peer's refusal, a timeout, or the end of the connection.
    pub async fn query(&self, data: Encoded, timeout: Duration) -> Result<Bytes, QueryError> {
        let (answer_in, answer) = oneshot::channel();
        let id = self.push(|queues| queues.push_query(data, answer_in))?;
        let _abandon_on_drop = InFlight { outbox: self, id };
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(SendError::Closed.into()),
            Err(_) => Err(QueryError::PeerTimeout(timeout)),
        }
    }

    /// Answers a query of the peer.
    ///
    /// # Errors
    /// [`SendError::UnknownQuery`] when it was answered before; otherwise as [`send`](Self::send).
    pub fn answer(&self, query_id: i64, data: Encoded) -> Result<(), SendError> {
        self.push(|queues| queues.push_answer(query_id, data))
    }

    /// Refuses a query of the peer with `tcp.queryError`. A long text is cut.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn refuse(&self, query_id: i64, code: i32, message: &str) -> Result<(), SendError> {
        // The codec cuts there; what it would cut is not kept until then.
        let message = message.get(..message.floor_char_boundary(FAILURE_MESSAGE_MAX)).unwrap_or_default().to_owned();
        self.push(|queues| queues.push_refusal(query_id, code, message))
    }

    /// Data bytes that wait here for the peer to read, those handed to the writer included.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lock().unsent_bytes()
    }

    /// From now on messages larger than 64 KiB leave in fragments. Call when both sides speak the extended
    /// profile; fragments of the peer are understood in any case.
    pub fn enable_extended(&self) {
        self.lock().enable_extended();
    }

    /// Refuses further messages. What is queued is still written out, for a few seconds at most; then the
    /// driver's `next()` returns [`ClosedLocally`](crate::ConnectionError::ClosedLocally).
    pub fn close(&self) {
        self.push(Queues::begin_close);
    }

    /// Whether messages are refused: after [`close`](Self::close), or because the connection ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.lock().is_open()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Queues> {
        // Every method of `Queues` leaves it consistent at each point where it could panic.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queues, then wakes the driver if it sleeps.
    fn push<T>(&self, change: impl FnOnce(&mut Queues) -> T) -> T {
        let mut queues = self.lock();
        let result = change(&mut queues);
        let waker = queues.take_waker();
        drop(queues);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

/// Marks a query as abandoned when its caller stops waiting.
struct InFlight<'a> {
    outbox: &'a Outbox,
    id: i64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.outbox.lock().abandon_query(self.id);
    }
}
