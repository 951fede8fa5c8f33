//! What waits to be sent, and the queries in flight: a pure data structure behind the outbox's lock.
//!
//! Three kinds of traffic, in this order of urgency:
//!
//! 1. *control* (pings, pongs, credits, cancellations): always first;
//! 2. *small* data (messages up to one fragment, queries, answers): first in, first out;
//! 3. *large* messages, cut into fragments once the extended profile is on: after every 64 KiB of small data, one
//!    fragment of the large messages in turn. Without the extended profile they are small data, whatever their size.
//!
//! Every queue is bounded by bytes; a queue over its bound refuses.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::task::Waker;

use bytes::Bytes;
use cocoon_wire::Encoded;
use cocoon_wire::limits::{FRAGMENT_MAX, MESSAGE_MAX};
use cocoon_wire::packet::PacketOut;
use tokio::sync::oneshot;

use crate::error::{ConnectionError, QueryError, SendError};
use crate::limits::{
    CONTROL_MESSAGE_BYTES_MAX, CONTROL_QUEUE_BYTES_MAX, DATA_QUEUE_BYTES_MAX, LARGE_MESSAGES_MAX, PACKET_OVERHEAD,
    QUERIES_IN_MAX, QUERIES_OUT_MAX, SMALL_TURN_BYTES, UNFRAGMENTED_BYTES_MAX,
};

/// What the caller of a query waits for.
pub(crate) type AnswerSender = oneshot::Sender<Result<Bytes, QueryError>>;

/// One packet that waits to be written.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Connect { id: i64 },
    Connected { id: i64 },
    Ping { id: i64 },
    Pong { id: i64 },
    Message { data: Encoded },
    Query { id: i64, data: Encoded },
    Answer { id: i64, data: Encoded },
    Error { id: i64, code: i32, message: String },
    Fragment { message_id: u64, last: bool, data: Encoded },
}

impl Outgoing {
    /// The packet as the codec takes it.
    pub(crate) fn packet(&self) -> PacketOut<'_> {
        match self {
            Self::Connect { id } => PacketOut::Connect { id: *id },
            Self::Connected { id } => PacketOut::Connected { id: *id },
            Self::Ping { id } => PacketOut::Ping { id: *id },
            Self::Pong { id } => PacketOut::Pong { id: *id },
            Self::Message { data } => PacketOut::Message { data },
            Self::Query { id, data } => PacketOut::Query { id: *id, data },
            Self::Answer { id, data } => PacketOut::QueryAnswer { id: *id, data },
            Self::Error { id, code, message } => PacketOut::QueryError { id: *id, code: *code, message },
            Self::Fragment { message_id, last, data } => {
                PacketOut::Fragment { message_id: *message_id, last: *last, data }
            }
        }
    }

    /// The data that may be written in place, if the packet has any.
    pub(crate) fn data(&self) -> Option<&Encoded> {
        match self {
            Self::Message { data }
            | Self::Query { data, .. }
            | Self::Answer { data, .. }
            | Self::Fragment { data, .. } => Some(data),
            Self::Connect { .. }
            | Self::Connected { .. }
            | Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Error { .. } => None,
        }
    }

    fn data_len(&self) -> usize {
        self.data().map_or(0, Encoded::len)
    }

    /// What the packet counts for in its queue.
    fn cost(&self) -> usize {
        let bytes = if let Self::Error { message, .. } = self { message.len() } else { self.data_len() };
        bytes.saturating_add(PACKET_OVERHEAD)
    }
}

/// A message that leaves in fragments.
#[derive(Debug)]
struct Large {
    message_id: u64,
    message: Encoded,
    sent: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// Written out, then closed.
    Closing,
    Closed,
}

/// The queues of one connection and its tables of queries.
pub(crate) struct Queues {
    life: Life,
    extended: bool,
    control: VecDeque<Outgoing>,
    control_bytes: usize,
    /// Small data, with the ticket of each. Tickets only grow, so the queue is sorted.
    small: VecDeque<(u64, Outgoing)>,
    /// Large messages that take turns.
    large: VecDeque<Large>,
    /// Large messages that wait for a place among those.
    large_waiting: VecDeque<Large>,
    /// Bytes of small data sent since the last fragment.
    small_turn: usize,
    /// Cost of all data above.
    data_bytes: usize,
    /// Bytes that the writer took and has not written yet.
    staged_bytes: usize,
    next_ticket: u64,
    /// `None`: the caller stopped waiting, an answer may still come.
    queries_out: HashMap<i64, Option<AnswerSender>>,
    next_query_id: i64,
    queries_in: HashSet<i64>,
    waker: Option<Waker>,
}

impl Queues {
    /// Empty queues; our query ids count up from `first_query_id`.
    pub(crate) fn new(first_query_id: i64) -> Self {
        Self {
            life: Life::Open,
            extended: false,
            control: VecDeque::new(),
            control_bytes: 0,
            small: VecDeque::new(),
            large: VecDeque::new(),
            large_waiting: VecDeque::new(),
            small_turn: 0,
            data_bytes: 0,
            staged_bytes: 0,
            next_ticket: 0,
            queries_out: HashMap::new(),
            next_query_id: first_query_id,
            queries_in: HashSet::new(),
            waker: None,
        }
    }

    // Producers.

    pub(crate) fn push_message(&mut self, data: Encoded) -> Result<u64, SendError> {
        if !self.extended || data.len() <= FRAGMENT_MAX {
            return self.push_small(Outgoing::Message { data });
        }
        if data.len() > MESSAGE_MAX {
            return Err(SendError::TooLarge);
        }
        self.take_room(data.len().saturating_add(PACKET_OVERHEAD))?;
        let message_id = self.draw_ticket();
        self.large_waiting.push_back(Large { message_id, message: data, sent: 0 });
        Ok(message_id)
    }

    pub(crate) fn push_control_message(&mut self, data: Encoded) -> Result<(), SendError> {
        if data.len() > CONTROL_MESSAGE_BYTES_MAX {
            return Err(SendError::TooLarge);
        }
        self.push_control(Outgoing::Message { data })
    }

    pub(crate) fn push_control(&mut self, packet: Outgoing) -> Result<(), SendError> {
        self.refuse_unless_open()?;
        let bytes = self.control_bytes.saturating_add(packet.cost());
        if bytes > CONTROL_QUEUE_BYTES_MAX {
            return Err(SendError::Full);
        }
        self.control_bytes = bytes;
        self.control.push_back(packet);
        Ok(())
    }

    /// Queues a query; the answer goes to `answer`.
    pub(crate) fn push_query(&mut self, data: Encoded, answer: AnswerSender) -> Result<i64, QueryError> {
        self.refuse_unless_open()?;
        if self.queries_out.len() >= QUERIES_OUT_MAX {
            return Err(QueryError::TooManyInFlight);
        }
        let id = self.next_query_id;
        self.push_small(Outgoing::Query { id, data })?;
        self.next_query_id = id.wrapping_add(1);
        self.queries_out.insert(id, Some(answer));
        Ok(id)
    }

    pub(crate) fn push_answer(&mut self, id: i64, data: Encoded) -> Result<(), SendError> {
        self.push_to_query(id, Outgoing::Answer { id, data })
    }

    pub(crate) fn push_refusal(&mut self, id: i64, code: i32, message: String) -> Result<(), SendError> {
        self.push_to_query(id, Outgoing::Error { id, code, message })
    }

    /// Takes back the message with this ticket; whether the peer will never see it.
    pub(crate) fn withdraw(&mut self, ticket: u64) -> bool {
        if let Ok(at) = self.small.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            if let Some((_, packet)) = self.small.remove(at) {
                self.give_room(packet.cost());
            }
            return true;
        }
        if let Some(at) = self.large_waiting.iter().position(|large| large.message_id == ticket) {
            if let Some(large) = self.large_waiting.remove(at) {
                self.give_room(large.message.len().saturating_add(PACKET_OVERHEAD));
            }
            return true;
        }
        let Some(large) = self.large.iter_mut().find(|large| large.message_id == ticket) else { return false };
        // Begun already: an empty last fragment tells the receiver to forget it.
        let unsent = large.message.len().saturating_sub(large.sent);
        large.message = Encoded::default();
        large.sent = 0;
        self.give_room(unsent);
        true
    }

    /// The caller of a query stopped waiting.
    pub(crate) fn abandon_query(&mut self, id: i64) {
        if let Some(slot) = self.queries_out.get_mut(&id) {
            *slot = None;
        }
    }

    pub(crate) fn enable_extended(&mut self) {
        self.extended = true;
    }

    pub(crate) fn begin_close(&mut self) {
        if self.life == Life::Open {
            self.life = Life::Closing;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.life == Life::Open
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.life == Life::Closing
    }

    /// Data not yet written.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.data_bytes.saturating_add(self.staged_bytes)
    }

    // The driver.

    /// The next packet to write.
    pub(crate) fn pop(&mut self) -> Option<Outgoing> {
        if let Some(packet) = self.control.pop_front() {
            self.control_bytes = self.control_bytes.saturating_sub(packet.cost());
            return Some(packet);
        }
        while self.large.len() < LARGE_MESSAGES_MAX
            && let Some(large) = self.large_waiting.pop_front()
        {
            self.large.push_back(large);
        }
        if self.large.is_empty() {
            self.small_turn = 0;
            return self.pop_small();
        }
        if self.small_turn < SMALL_TURN_BYTES
            && let Some(packet) = self.pop_small()
        {
            self.small_turn = self.small_turn.saturating_add(packet.cost());
            return Some(packet);
        }
        self.small_turn = 0;
        self.pop_fragment()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.small.is_empty() && self.large.is_empty() && self.large_waiting.is_empty()
    }

    /// Tells how many bytes the writer holds.
    pub(crate) fn set_staged_bytes(&mut self, bytes: usize) {
        self.staged_bytes = bytes;
    }

    /// Wake this when something is queued. Registered by the driver before it sleeps.
    pub(crate) fn register_waker(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(registered) => registered.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }

    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// The peer answered one of our queries.
    pub(crate) fn handle_answer(&mut self, id: i64, answer: Result<Bytes, QueryError>) -> Result<(), ConnectionError> {
        match self.queries_out.remove(&id) {
            Some(Some(caller)) => {
                // The caller may have stopped waiting this very moment; then nobody needs the answer.
                let _ = caller.send(answer);
                Ok(())
            }
            Some(None) => Ok(()),
            None => Err(ConnectionError::PeerAnsweredUnknownQuery { id }),
        }
    }

    /// The peer sent a query.
    pub(crate) fn handle_query(&mut self, id: i64) -> Result<(), ConnectionError> {
        if self.queries_in.len() >= QUERIES_IN_MAX {
            return Err(ConnectionError::PeerFloodedQueries);
        }
        if !self.queries_in.insert(id) {
            return Err(ConnectionError::PeerReusedQueryId { id });
        }
        Ok(())
    }

    /// The connection ended. Dropping what is returned fails the queries in flight; do it without the lock, since
    /// it runs the code of others.
    #[must_use]
    pub(crate) fn end(&mut self) -> Self {
        let first_query_id = self.next_query_id;
        std::mem::replace(self, Self { life: Life::Closed, ..Self::new(first_query_id) })
    }

    // Helpers.

    fn push_to_query(&mut self, id: i64, packet: Outgoing) -> Result<(), SendError> {
        self.refuse_unless_open()?;
        if !self.queries_in.contains(&id) {
            return Err(SendError::UnknownQuery);
        }
        self.push_small(packet)?;
        self.queries_in.remove(&id);
        Ok(())
    }

    fn push_small(&mut self, packet: Outgoing) -> Result<u64, SendError> {
        if packet.cost() > UNFRAGMENTED_BYTES_MAX.saturating_add(PACKET_OVERHEAD) {
            return Err(SendError::TooLarge);
        }
        self.take_room(packet.cost())?;
        let ticket = self.draw_ticket();
        self.small.push_back((ticket, packet));
        Ok(ticket)
    }

    fn pop_small(&mut self) -> Option<Outgoing> {
        let (_, packet) = self.small.pop_front()?;
        self.give_room(packet.cost());
        Some(packet)
    }

    /// The next fragment of the large message whose turn it is; then it is another's turn.
    fn pop_fragment(&mut self) -> Option<Outgoing> {
        let mut large = self.large.pop_front()?;
        let data = large.message.slice(large.sent, FRAGMENT_MAX);
        large.sent = large.sent.saturating_add(data.len());
        let last = large.sent >= large.message.len();
        let message_id = large.message_id;
        self.give_room(data.len());
        if last {
            self.give_room(PACKET_OVERHEAD);
        } else {
            self.large.push_back(large);
        }
        Some(Outgoing::Fragment { message_id, last, data: data.into() })
    }

    fn refuse_unless_open(&self) -> Result<(), SendError> {
        if self.is_open() { Ok(()) } else { Err(SendError::Closed) }
    }

    fn take_room(&mut self, cost: usize) -> Result<(), SendError> {
        self.refuse_unless_open()?;
        if self.unsent_bytes().saturating_add(cost) > DATA_QUEUE_BYTES_MAX {
            return Err(SendError::Full);
        }
        self.data_bytes = self.data_bytes.saturating_add(cost);
        Ok(())
    }

    fn give_room(&mut self, cost: usize) {
        self.data_bytes = self.data_bytes.saturating_sub(cost);
    }

    fn draw_ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        ticket
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("life", &self.life)
            .field("control_bytes", &self.control_bytes)
            .field("unsent_bytes", &self.unsent_bytes())
            .field("queries_out", &self.queries_out.len())
            .field("queries_in", &self.queries_in.len())
            .finish_non_exhaustive()
    }
}
