//! The requests that are here, their timers, and the queues in which they wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use cocoon_ledger::{PayerId, Reservation};
use cocoon_units::{Coefficient, Multipliers};
use cocoon_wire::RequestId;
use cocoon_wire::failure::Failure;

use super::event::{ClientId, RequestKey, WorkerId};
use super::workers::ModelId;

/// One request, from its admission to its end.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) client: ClientId,
    pub(crate) request_id: RequestId,
    pub(crate) model: ModelId,
    pub(crate) max_coefficient: Coefficient,
    pub(crate) token_limit: u32,
    pub(crate) prompt_bytes: u64,
    pub(crate) reservation: Reservation,
    /// The network's weights when it was admitted.
    pub(crate) multipliers: Multipliers,
    /// The id of the receipt that is asked for.
    pub(crate) receipt: Option<[u8; 32]>,
    /// The ledger's next entry when it was last sent to a worker. None while it was sent to nobody.
    pub(crate) opened_at: Option<u64>,
    pub(crate) deadline: Instant,
    /// Workers that were tried and failed.
    pub(crate) excluded: Vec<WorkerId>,
    /// What the last of them said.
    pub(crate) last_failure: Option<Failure>,
    pub(crate) state: State,
    /// How many of its payer's requests waited when it began to wait: its place in the queue.
    round: usize,
    /// This request's entry in the table of timers.
    timer: Instant,
}

/// Where a request is.
#[derive(Debug)]
pub(crate) enum State {
    /// In its model's queue.
    Queued,
    /// At a worker; nothing of the answer was sent, so another can be tried.
    Running { worker: WorkerId, since: Instant },
    /// At a worker; the client has read some of the answer.
    Answering { worker: WorkerId, since: Instant },
    /// It ended early; the worker's word on what it used is awaited, at most until then. `tell` is for a client that was
    /// not told of the end yet: it hears of it together with the cost.
    Ending { worker: WorkerId, bill: Bill, tell: Option<Failure>, until: Instant },
}

/// What is charged for a request that ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bill {
    /// What the worker says it used.
    Usage,
    /// The same if the answer is whole and has its receipt; else nothing.
    Whole,
    /// Nothing, whatever is said: the client was told so.
    Nothing,
}

impl State {
    /// The worker that has the request.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Queued => None,
            Self::Running { worker, .. } | Self::Answering { worker, .. } | Self::Ending { worker, .. } => {
                Some(*worker)
            }
        }
    }
}

/// What a new request brings; the table adds state and timer.
#[derive(Debug)]
pub(crate) struct NewRequest {
    pub(crate) client: ClientId,
    pub(crate) request_id: RequestId,
    pub(crate) model: ModelId,
    pub(crate) max_coefficient: Coefficient,
    pub(crate) token_limit: u32,
    pub(crate) prompt_bytes: u64,
    pub(crate) reservation: Reservation,
    pub(crate) multipliers: Multipliers,
    pub(crate) receipt: Option<[u8; 32]>,
    pub(crate) deadline: Instant,
}

/// All requests. Invariants: each has exactly one timer, and a queued one is in exactly one queue.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    all: BTreeMap<RequestKey, Request>,
    timers: BTreeSet<(Instant, RequestKey)>,
    queues: BTreeMap<ModelId, VecDeque<RequestKey>>,
    queued: usize,
    queued_of: BTreeMap<PayerId, usize>,
    /// Ids of receipts that are asked for.
    receipts: BTreeSet<[u8; 32]>,
    prompt_bytes: u64,
}

impl Requests {
    pub(crate) fn insert(&mut self, key: RequestKey, new: NewRequest) {
        self.prompt_bytes = self.prompt_bytes.saturating_add(new.prompt_bytes);
        self.timers.insert((new.deadline, key));
        self.receipts.extend(new.receipt);
        let request = Request {
            client: new.client,
            request_id: new.request_id,
            model: new.model,
            max_coefficient: new.max_coefficient,
            token_limit: new.token_limit,
            prompt_bytes: new.prompt_bytes,
            reservation: new.reservation,
            multipliers: new.multipliers,
            receipt: new.receipt,
            opened_at: None,
            deadline: new.deadline,
            excluded: Vec::new(),
            last_failure: None,
            state: State::Queued,
            round: 0,
            timer: new.deadline,
        };
        let replaced = self.all.insert(key, request);
        debug_assert!(replaced.is_none(), "the driver reused a key");
    }

    pub(crate) fn get(&self, key: RequestKey) -> Option<&Request> {
        self.all.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: RequestKey) -> Option<&mut Request> {
        self.all.get_mut(&key)
    }

    /// Takes a request out, with its timer and its place in the queue.
    pub(crate) fn remove(&mut self, key: RequestKey) -> Option<Request> {
        let request = self.all.remove(&key)?;
        self.timers.remove(&(request.timer, key));
        if let Some(id) = &request.receipt {
            self.receipts.remove(id);
        }
        self.prompt_bytes = self.prompt_bytes.saturating_sub(request.prompt_bytes);
        if matches!(request.state, State::Queued) {
            self.unqueue(request.model, request.reservation.payer(), key);
        }
        Some(request)
    }

    /// Puts a request into its model's queue: before the others when it waited already, or else behind
    /// those that have as many or fewer of their payer's before them. So payers take turns, and one that
    /// sends a flood waits behind everybody else's first.
    pub(crate) fn queue(&mut self, key: RequestKey, at: QueueEnd) {
        let Some(request) = self.all.get_mut(&key) else { return };
        request.state = State::Queued;
        let of_payer = self.queued_of.entry(request.reservation.payer()).or_default();
        request.round = if at == QueueEnd::Back { *of_payer } else { 0 };
        *of_payer += 1;
        let round = request.round;
        let queue = self.queues.entry(request.model).or_default();
        let place = match at {
            QueueEnd::Back => queue.partition_point(|other| self.all.get(other).is_some_and(|r| r.round <= round)),
            QueueEnd::Front => 0,
        };
        queue.insert(place, key);
        self.queued += 1;
    }

    /// Gives a request to a worker.
    pub(crate) fn start(&mut self, key: RequestKey, worker: WorkerId, now: Instant) {
        let Some(request) = self.all.get_mut(&key) else { return };
        let (model, payer) = (request.model, request.reservation.payer());
        request.state = State::Running { worker, since: now };
        let deadline = request.deadline;
        self.unqueue(model, payer, key);
        self.set_timer(key, deadline);
    }

    /// Sets the moment at which [`Requests::expired`] gives this request.
    pub(crate) fn set_timer(&mut self, key: RequestKey, at: Instant) {
        let Some(request) = self.all.get_mut(&key) else { return };
        if request.timer != at {
            self.timers.remove(&(request.timer, key));
            request.timer = at;
            self.timers.insert((at, key));
        }
    }

    /// The next moment at which something expires.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A request whose moment has come, if any.
    pub(crate) fn expired(&self, now: Instant) -> Option<RequestKey> {
        self.timers.first().filter(|(at, _)| *at <= now).map(|(_, key)| *key)
    }

    /// The place in a model's queue, counted from 0.
    pub(crate) fn queued_at(&self, model: ModelId, place: usize) -> Option<RequestKey> {
        self.queues.get(&model)?.get(place).copied()
    }

    /// The last request of the payer that has most of the queue, if that is more than this payer will
    /// have with one more.
    pub(crate) fn hog(&self, payer: PayerId) -> Option<RequestKey> {
        let mine = self.queued_of.get(&payer).copied().unwrap_or(0);
        let (hog, theirs) = self.queued_of.iter().max_by_key(|(_, count)| **count)?;
        if *theirs <= mine + 1 {
            return None;
        }
        let is_theirs = |key: &&RequestKey| self.all.get(key).is_some_and(|r| r.reservation.payer() == *hog);
        self.queues.values().flatten().filter(is_theirs).max().copied()
    }

    /// Whether a request here asks for the receipt of this id.
    pub(crate) fn has_receipt(&self, id: &[u8; 32]) -> bool {
        self.receipts.contains(id)
    }

    /// The queued requests of one client.
    pub(crate) fn queued_of_client(&self, client: ClientId) -> Vec<RequestKey> {
        let waits = |request: &Request| request.client == client && matches!(request.state, State::Queued);
        self.all.iter().filter(|(_, request)| waits(request)).map(|(key, _)| *key).collect()
    }

    pub(crate) fn queue_len(&self, model: ModelId) -> usize {
        self.queues.get(&model).map_or(0, VecDeque::len)
    }

    /// All requests that a worker has.
    pub(crate) fn at_worker(&self, worker: WorkerId) -> Vec<RequestKey> {
        self.all.iter().filter(|(_, request)| request.state.worker() == Some(worker)).map(|(key, _)| *key).collect()
    }

    /// All requests.
    pub(crate) fn keys(&self) -> Vec<RequestKey> {
        self.all.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes of bodies that the driver holds for these requests.
    pub(crate) fn prompt_bytes(&self) -> u64 {
        self.prompt_bytes
    }

    fn unqueue(&mut self, model: ModelId, payer: PayerId, key: RequestKey) {
        let Some(queue) = self.queues.get_mut(&model) else { return };
        if let Some(place) = queue.iter().position(|other| *other == key) {
            queue.remove(place);
            self.queued -= 1;
            if let Some(of_payer) = self.queued_of.get_mut(&payer) {
                *of_payer -= 1;
                if *of_payer == 0 {
                    self.queued_of.remove(&payer);
                }
            }
        }
        if queue.is_empty() {
            self.queues.remove(&model);
        }
    }

    #[cfg(test)]
    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.timers.len(), self.all.len());
        assert_eq!(self.queued, self.queues.values().map(VecDeque::len).sum::<usize>());
        assert_eq!(self.queued, self.queued_of.values().sum::<usize>());
        let mut queued: Vec<_> = self.queues.values().flatten().copied().collect();
        queued.sort_unstable();
        let waiting = |request: &Request| matches!(request.state, State::Queued);
        let expected: Vec<_> = self.all.iter().filter(|(_, r)| waiting(r)).map(|(key, _)| *key).collect();
        assert_eq!(queued, expected);
        assert_eq!(self.prompt_bytes, self.all.values().map(|r| r.prompt_bytes).sum::<u64>());
        assert_eq!(self.receipts.len(), self.all.values().filter(|r| r.receipt.is_some()).count());
        for (key, request) in &self.all {
            assert!(self.timers.contains(&(request.timer, *key)));
        }
    }
}

/// Which end of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueEnd {
    /// For one that waited before: its first worker failed.
    Front,
    /// For a new one.
    Back,
}
