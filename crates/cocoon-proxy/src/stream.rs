//! The data plane of one answer: from the worker's session straight into the client's outbox.
//!
//! A [`Stream`] is shared by the client's session (credit), the worker's session (parts) and the
//! hub (failures). Its lock belongs to this one request and is held for the time it takes to encode
//! a head and queue it; no other request ever waits for it. Bodies are not copied on the way.
//!
//! Flow control, by the legs' dialects (wire.md, section 6):
//!
//! | client | worker | rule |
//! |---|---|---|
//! | extended | extended | the client's credit is passed on; more than was given is a violation |
//! | extended | original | what exceeds the credit is held here, at most 4 MiB, then the stream ends |
//! | original | any | the stream may lag by 4 MiB in the client's outbox, then it ends |

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cocoon_net::{Outbox, SendError, Ticket, Withdrawal};
use cocoon_units::AdjustedTokens;
use cocoon_wire::failure::{Failure, openai_error_body};
use cocoon_wire::http::HttpResponse;
use cocoon_wire::message::{Answer, FinalInfo, ProxyToClient, ProxyToWorker};
use cocoon_wire::{RequestId, Sealed, Version};

use crate::core::total;
use crate::limits::{
    CREDIT_AHEAD_MAX, CREDIT_SLACK, HELD_ANSWER_OVERHEAD, HELD_ANSWERS_MAX, HELD_PER_CLIENT_MAX, LAG_BYTES_MAX,
};
use crate::session::Violation;

/// One client connection, as answers see it.
#[derive(Debug)]
pub(crate) struct ClientLink {
    pub(crate) outbox: Outbox,
    pub(crate) version: Version,
    /// Bytes held for want of credit, all streams of this client together.
    held: AtomicUsize,
    /// The same, all clients together.
    held_of_all: Arc<AtomicUsize>,
}

/// One answer on its way. See the module.
#[derive(Debug)]
pub(crate) struct Stream {
    client: Arc<ClientLink>,
    /// The client's name for the request.
    request_id: RequestId,
    /// When the proxy read the request, in unix seconds.
    started_at: f64,
    flow: Mutex<Flow>,
}

/// The worker's end.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) outbox: Outbox,
    pub(crate) version: Version,
    /// The worker's name for the request.
    pub(crate) request_id: RequestId,
}

#[derive(Debug, Default)]
struct Flow {
    leg: Option<Leg>,
    /// The request in the worker's outbox, to take it back as long as it is there.
    ticket: Option<Ticket>,
    phase: Phase,
    /// Nothing more of the answer goes to the client, though it may still be told why.
    muted: bool,
    /// Bytes the client has given credit for; none on an original leg.
    granted: Option<u64>,
    /// Bytes of it that the present worker was told of.
    offered: u64,
    /// Bytes that the present worker has sent.
    received: u64,
    /// Bytes that went to the client.
    sent: u64,
    /// At most this many bytes of this stream are in the client's outbox.
    lag: usize,
    held: VecDeque<Answer>,
    held_bytes: usize,
    /// What the last message to the client said that the request costs.
    billed: AdjustedTokens,
    /// Whether the body is a stream of server-sent events.
    events: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The client has received nothing.
    #[default]
    Untouched,
    /// The client has the head.
    Begun,
    /// The client has the end.
    Over,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Queued for the client, or held for its credit.
    Passed,
    /// Nobody wants it: the stream is over.
    Dropped,
    /// The client is too slow for it.
    Stalled,
}

/// Where a cancellation found the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// Still in the outbox, from which it was taken: the worker never hears of it.
    Withdrawn,
    /// With its worker, which was told if it understands; or with none.
    Elsewhere,
}

/// What the worker's session knows about a message that it delivers.
pub(crate) struct Passage<'a> {
    /// The message; what its end says is what the request costs.
    pub(crate) answer: Answer,
    /// The response in a head, as it was read.
    pub(crate) head: Option<HttpResponse>,
    pub(crate) unix_now: &'a dyn Fn() -> f64,
}

impl ClientLink {
    pub(crate) fn new(outbox: Outbox, version: Version, held_of_all: Arc<AtomicUsize>) -> Self {
        Self { outbox, version, held: AtomicUsize::new(0), held_of_all }
    }

    /// Takes room for an answer that is held, if there is any.
    fn take_held(&self, cost: usize) -> bool {
        let exceeds = |held: &AtomicUsize, most| held.load(Ordering::Relaxed).saturating_add(cost) > most;
        if exceeds(&self.held, HELD_PER_CLIENT_MAX) || exceeds(&self.held_of_all, HELD_ANSWERS_MAX) {
            return false;
        }
        self.held.fetch_add(cost, Ordering::Relaxed);
        self.held_of_all.fetch_add(cost, Ordering::Relaxed);
        true
    }

    fn give_held(&self, cost: usize) {
        self.held.fetch_sub(cost, Ordering::Relaxed);
        self.held_of_all.fetch_sub(cost, Ordering::Relaxed);
    }

    fn send(&self, answer: Answer) -> Result<(), SendError> {
        self.outbox.send(ProxyToClient::Answer(answer).encode(self.version))
    }
}

impl Stream {
    pub(crate) fn new(client: Arc<ClientLink>, request_id: RequestId, credit: Option<u32>, started_at: f64) -> Self {
        let granted = credit.filter(|_| client.version == Version::Extended).map(u64::from);
        Self { client, request_id, started_at, flow: Mutex::new(Flow { granted, ..Flow::default() }) }
    }

    /// Binds the stream to a worker. Gives the credit to offer it, or nothing when the stream is over.
    pub(crate) fn attach(&self, leg: Leg) -> Option<Option<u32>> {
        let mut flow = self.flow();
        if !flow.is_open() {
            return None;
        }
        let granted = flow.granted.filter(|_| leg.version == Version::Extended);
        let credit = granted.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX).min(CREDIT_AHEAD_MAX));
        flow.leg = Some(leg);
        flow.ticket = None;
        flow.received = 0;
        flow.offered = credit.map_or(0, u64::from);
        Some(credit)
    }

    /// The client's name for the request.
    pub(crate) fn request_id(&self) -> RequestId {
        self.request_id
    }

    pub(crate) fn leg(&self) -> Option<Leg> {
        self.flow().leg.clone()
    }

    /// Whether nothing more will go to the client.
    pub(crate) fn is_over(&self) -> bool {
        let flow = self.flow();
        flow.phase == Phase::Over || (flow.muted && flow.held.is_empty())
    }

    /// Whether the client gave up on it, or was given up.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.flow().muted
    }

    /// What the client was told that the request costs: nothing, as long as it was told nothing.
    pub(crate) fn billed(&self) -> AdjustedTokens {
        self.flow().billed
    }

    /// Notes that the request waits in the worker's outbox. When it was cancelled just before, it is
    /// taken back.
    pub(crate) fn queued(&self, ticket: Ticket) -> Result<(), Cancelled> {
        let mut flow = self.flow();
        flow.ticket = Some(ticket);
        if flow.muted { Err(flow.stop_worker()) } else { Ok(()) }
    }

    /// Passes a head or a part on to the client.
    pub(crate) fn deliver(&self, passage: Passage<'_>) -> Result<Delivery, Violation> {
        let mut flow = self.flow();
        flow.count(passage.answer.body_len())?;
        if !flow.is_open() {
            return Ok(Delivery::Dropped);
        }
        flow.pass_credit();
        if says_nothing(&passage.answer) {
            return Ok(Delivery::Passed);
        }
        let answer = self.for_client(passage, &mut flow)?;
        Ok(self.pass(&mut flow, answer))
    }

    /// Adds credit, sends what was held for want of it, and passes it on to the worker.
    pub(crate) fn add_credit(&self, bytes: u32) {
        let mut flow = self.flow();
        let Some(granted) = flow.granted else { return };
        flow.granted = Some(granted.saturating_add(u64::from(bytes)));
        while let Some(answer) = flow.next_held() {
            self.client.give_held(held_cost(&answer));
            // An outbox that is full or closed is found out by the next part or by the session's end.
            let _ = self.send(&mut flow, answer);
        }
        flow.pass_credit();
    }

    /// Ends the answer with a failure, in a form that this client understands.
    pub(crate) fn fail(&self, failure: Failure, end: FinalInfo, unix_now: f64) {
        let mut flow = self.flow();
        if flow.phase == Phase::Over {
            return;
        }
        let end = self.timed_end(end, unix_now);
        let billed = total(&end.tokens);
        let answer = self.failure(&flow, failure, end);
        self.drop_held(&mut flow);
        flow.phase = Phase::Over;
        flow.billed = billed;
        if self.client.send(answer) == Err(SendError::Full) {
            // The client would wait for ever for an end that cannot be sent.
            self.client.outbox.close();
        }
    }

    /// Takes the request back, or tells the worker to stop where it understands that; nothing more
    /// of the answer goes to the client. Why is told by [`Stream::fail`], before or after.
    pub(crate) fn cancel(&self) -> Cancelled {
        let mut flow = self.flow();
        if std::mem::replace(&mut flow.muted, true) {
            return Cancelled::Elsewhere;
        }
        self.drop_held(&mut flow);
        flow.stop_worker()
    }

    /// The message as the client gets it: its own id, and our times.
    fn for_client(&self, passage: Passage<'_>, flow: &mut Flow) -> Result<Answer, Violation> {
        let Passage { answer, head, unix_now } = passage;
        let request_id = self.request_id;
        Ok(match (answer, head) {
            (Answer::Head { end, .. }, Some(head)) => {
                let now = unix_now();
                let response = self.timed(head, end.is_some().then_some(now), flow)?;
                let end = end.map(|end| self.timed_end(end, now));
                Answer::Head { request_id, response, end }
            }
            (Answer::Part { body, end, .. }, _) => {
                let end = end.map(|end| self.timed_end(end, unix_now()));
                Answer::Part { request_id, body, end }
            }
            (other, _) => other.with_request_id(request_id),
        })
    }

    /// The head with this proxy's timing headers; its end is known only when the answer is whole.
    fn timed(&self, mut head: HttpResponse, ended_at: Option<f64>, flow: &mut Flow) -> Result<Sealed, Violation> {
        // These are this proxy's to write, whatever a worker says.
        head.headers.retain(|(name, _)| !is_proxy_header(name));
        flow.events = head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let mut add = |name: &str, time: f64| head.headers.push((name.to_owned(), format!("{time:.6}")));
        add("X-Cocoon-Proxy-Start", self.started_at);
        if let Some(ended_at) = ended_at {
            add("X-Cocoon-Proxy-End", ended_at);
        }
        head.encode().map_err(Violation::BadHead)
    }

    fn timed_end(&self, end: FinalInfo, now: f64) -> FinalInfo {
        FinalInfo { proxy_start: Some(self.started_at), proxy_end: Some(now), ..end }
    }

    fn pass(&self, flow: &mut Flow, answer: Answer) -> Delivery {
        let len = answer.body_len();
        let bill = answer.end().map(|end| total(&end.tokens));
        let delivery = match !flow.held.is_empty() || !flow.may_send(len) {
            true => self.hold(flow, answer),
            false => self.send_now(flow, answer),
        };
        if let (Some(bill), Delivery::Passed) = (bill, delivery) {
            flow.billed = bill;
        }
        delivery
    }

    fn send_now(&self, flow: &mut Flow, answer: Answer) -> Delivery {
        match self.send(flow, answer) {
            Ok(()) => Delivery::Passed,
            Err(SendError::Closed) => Delivery::Dropped,
            Err(_) => Delivery::Stalled,
        }
    }

    fn send(&self, flow: &mut Flow, answer: Answer) -> Result<(), SendError> {
        let len = answer.body_len();
        if flow.granted.is_none() {
            // Of what this stream sent before, no more can be queued than is queued of all streams.
            let lag = flow.lag.min(self.client.outbox.queued_bytes());
            flow.lag = lag.saturating_add(len);
            if lag > 0 && flow.lag > LAG_BYTES_MAX {
                return Err(SendError::Full);
            }
        }
        let last = answer.is_last();
        self.client.send(answer)?;
        flow.sent = flow.sent.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        flow.phase = if last { Phase::Over } else { Phase::Begun };
        Ok(())
    }

    /// Keeps a part until the client gives credit for it.
    fn hold(&self, flow: &mut Flow, answer: Answer) -> Delivery {
        let cost = held_cost(&answer);
        if flow.held_bytes.saturating_add(cost) > LAG_BYTES_MAX || !self.client.take_held(cost) {
            return Delivery::Stalled;
        }
        flow.held_bytes = flow.held_bytes.saturating_add(cost);
        flow.held.push_back(detached(answer));
        Delivery::Passed
    }

    fn failure(&self, flow: &Flow, failure: Failure, end: FinalInfo) -> Answer {
        let request_id = self.request_id;
        match (self.client.version, flow.phase) {
            (Version::Extended, _) => Answer::Failed { request_id, failure, end: Some(end) },
            (_, Phase::Untouched) => Answer::failure_as_http(request_id, &failure, end),
            // The head is gone, so an original client can only be told inside the body.
            (_, Phase::Begun | Phase::Over) if flow.events => {
                Answer::Part { request_id, body: error_event(&failure), end: Some(end) }
            }
            (_, Phase::Begun | Phase::Over) => Answer::end_of_stream(request_id, end),
        }
    }

    fn drop_held(&self, flow: &mut Flow) {
        self.client.give_held(flow.held_bytes);
        flow.held.clear();
        flow.held_bytes = 0;
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        // Every method leaves the flow consistent at each point where it could panic.
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let held = self.flow.get_mut().map_or(0, |flow| flow.held_bytes);
        self.client.give_held(held);
    }
}

impl Flow {
    /// Counts what the worker sent; an extended worker must stay within its credit.
    fn count(&mut self, len: usize) -> Result<(), Violation> {
        self.received = self.received.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        match self.granted {
            Some(granted) if self.comes_from_extended() && self.received > granted.saturating_add(CREDIT_SLACK) => {
                Err(Violation::CreditExceeded)
            }
            _ => Ok(()),
        }
    }

    /// Tells the worker of the client's credit once that at least doubles what it may still send: at
    /// half a window, or at once when it has run out. A flood of credits is a handful of messages.
    fn pass_credit(&mut self) {
        let (Some(granted), Some(leg)) = (self.granted, &self.leg) else { return };
        if leg.version != Version::Extended || !self.is_open() {
            return;
        }
        let left = self.offered.saturating_sub(self.received);
        let overrun = self.received.saturating_sub(self.offered);
        let more = granted.saturating_sub(self.offered).min(u64::from(CREDIT_AHEAD_MAX).saturating_sub(left));
        if more <= overrun || more < left {
            return;
        }
        let bytes = u32::try_from(more).unwrap_or(CREDIT_AHEAD_MAX);
        let credit = ProxyToWorker::Credit { request_id: leg.request_id, bytes };
        // One that finds no room is told with the next part.
        if leg.outbox.send_control(credit.encode(leg.version)).is_ok() {
            self.offered = self.offered.saturating_add(more);
        }
    }

    fn is_open(&self) -> bool {
        !self.muted && self.phase != Phase::Over
    }

    /// A cancellation is control and overtakes data, so a request that waits must be taken back: the
    /// worker would not know what is cancelled.
    fn stop_worker(&mut self) -> Cancelled {
        let (Some(leg), Some(ticket)) = (&self.leg, self.ticket.take()) else { return Cancelled::Elsewhere };
        if leg.outbox.withdraw(ticket) == Withdrawal::NeverDelivered {
            return Cancelled::Withdrawn;
        }
        if leg.version == Version::Extended {
            let cancel = ProxyToWorker::Cancel { request_id: leg.request_id };
            let _ = leg.outbox.send_control(cancel.encode(leg.version));
        }
        Cancelled::Elsewhere
    }

    fn comes_from_extended(&self) -> bool {
        self.leg.as_ref().is_some_and(|leg| leg.version == Version::Extended)
    }

    /// Whether the client has room. What an extended worker sends was within the client's credit
    /// when it was counted; our timing headers come on top and are not worth a delay.
    fn may_send(&self, len: usize) -> bool {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        self.comes_from_extended() || self.granted.is_none_or(|granted| self.sent.saturating_add(len) <= granted)
    }

    fn next_held(&mut self) -> Option<Answer> {
        let next = self.held.front()?;
        if !self.may_send(next.body_len()) {
            return None;
        }
        self.held_bytes = self.held_bytes.saturating_sub(held_cost(next));
        self.held.pop_front()
    }
}

fn held_cost(answer: &Answer) -> usize {
    let debug = answer.end().and_then(|end| end.worker_debug.as_ref()).map_or(0, String::len);
    answer.body_len().saturating_add(debug).saturating_add(HELD_ANSWER_OVERHEAD)
}

/// A part that costs no credit and carries nothing: passed on, a flood of them would fill the outbox
/// that the client's other streams share.
fn says_nothing(answer: &Answer) -> bool {
    matches!(answer, Answer::Part { body, end: None, .. } if body.is_empty())
}

/// What is held must not keep the read buffer that it lies in.
fn detached(answer: Answer) -> Answer {
    match answer {
        Answer::Part { request_id, body, end } => Answer::Part { request_id, body: body.detached(), end },
        // Both were made here, in memory of their own.
        head_or_failure @ (Answer::Head { .. } | Answer::Failed { .. }) => head_or_failure,
    }
}

fn is_proxy_header(name: &str) -> bool {
    name.get(..PROXY_HEADERS.len()).is_some_and(|start| start.eq_ignore_ascii_case(PROXY_HEADERS))
}

/// How the names of the headers begin that a proxy writes.
const PROXY_HEADERS: &str = "X-Cocoon-Proxy-";

/// `data: {"error":…}` and nothing after it: what OpenAI's own SDKs raise as an error.
fn error_event(failure: &Failure) -> Sealed {
    let mut event = b"data: ".to_vec();
    event.extend_from_slice(&openai_error_body(failure));
    event.extend_from_slice(b"\n\n");
    Sealed::new(Bytes::from(event))
}
