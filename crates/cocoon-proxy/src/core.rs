//! The proxy's core: synchronous and total. It decides; the driver does.
//!
//! `handle(now, event, actions)` takes one event of a closed enum and appends what must be done.
//! It owns admission, routing, the queue and the reservations; it knows no socket, no clock, no TL,
//! and no byte of a prompt. It is not on the data path: of an answer it hears the start, the end
//! and the failure, never the parts.
//!
//! One request:
//!
//! 1. [`Event::Run`] → `admit`: drain, cancelled before it came, duplicate id, limits, model, price,
//!    reservation. A refusal is [`Action::Fail`] and [`Action::Forget`].
//! 2. A worker with room is chosen (`workers`) → [`Action::Dispatch`]; else it queues, bounded in
//!    number and time.
//! 3. The worker fails before anything was sent → another worker, up to three, within the deadline.
//! 4. [`Event::Ended`] → the ledger settles, never above the reservation, and on the worker's receipt where one was asked
//!    for → [`Action::Settled`].
//! 5. A request that is cancelled, or whose time runs out midway, waits a short while for its worker's word on what it
//!    used; its client is told of the end and of the cost together.
//!
//! Invariants, held by a property test over random histories: each accepted request is settled or
//! released exactly once, [`Action::Forget`] is the last action of every key, no action names a
//! peer that has left, and nobody waits in a queue while a worker it may use has room.
//! Events that name what is gone are late, not wrong, and are ignored.
//!
//! Where there is money, accounts are named by contract and opened in the handshake (`accounts`), and a worker whose
//! unsigned earnings cross a bound gets nothing new (`exposure`).

mod accounts;
mod admission;
mod ends;
mod event;
mod exposure;
mod path;
mod refusal;
mod requests;
mod tally;
mod workers;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use cocoon_ledger::{Credit, Ledger, PayeeId, PayerId, PayerView, Totals};
use cocoon_units::{AdjustedTokens, Multipliers};
use cocoon_wire::RequestId;
use cocoon_wire::failure::Failure;
use cocoon_wire::message::{WorkerInstance, WorkerType};

pub(crate) use accounts::{Admits, Lost, LostOutcome};
pub(crate) use admission::{clamp, total};
pub use event::{
    Action, Agreed, CancelSupport, ClientId, Dispatch, Event, RequestKey, RunQuery, Settlement, Word, WorkerChange,
    WorkerId, WorkerProfile,
};
pub use exposure::ExposureRules;
pub use tally::{ModelStatus, MoneyTally, Tally};

use crate::limits::{MODELS_MAX, WORKER_SLOTS_MAX};
use exposure::Exposure;
use requests::{Bill, Requests, State};
use workers::{Choice, ModelId, Worker, Workers};

/// What the operator decides.
#[derive(Clone, Copy, Debug)]
pub struct CoreConfig {
    /// The network's weights of the kinds of tokens.
    pub multipliers: Multipliers,
    /// What each client may use before it pays, where there is no chain.
    pub stake: AdjustedTokens,
    /// How much workers may earn before it is signed. None where there is no chain, and so nothing to sign.
    pub exposure: Option<ExposureRules>,
    /// Requests that wait for a worker, all models together.
    pub queue_max: usize,
    /// How long one waits.
    pub queue_timeout: Duration,
    /// Requests of one client connection at once, waiting ones included.
    pub client_in_flight_max: usize,
}

/// The core. See the module.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    ledger: Ledger,
    clients: BTreeMap<ClientId, Client>,
    workers: Workers,
    requests: Requests,
    models: Models,
    /// Accounts that admit nothing new.
    closed_payers: BTreeSet<PayerId>,
    exposure: Exposure,
    /// What the last run lost comes first.
    is_recovering: bool,
    drain: Option<Drain>,
    tally: Tally,
}

/// One connected client.
#[derive(Debug)]
struct Client {
    payer: PayerId,
    /// It was told of a contract that is no longer the proxy's.
    is_outdated: bool,
    in_flight: HashMap<RequestId, RequestKey>,
    early_cancels: VecDeque<RequestId>,
}

/// Names of models, in the order they were first served.
#[derive(Debug, Default)]
struct Models {
    ids: BTreeMap<String, ModelId>,
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    until: Instant,
    announced: bool,
}

impl Core {
    /// A core without peers, whose books are kept in memory.
    #[must_use]
    pub fn new(config: CoreConfig) -> Self {
        Self::with_ledger(config, Ledger::new())
    }

    /// A core without peers, over books that there are.
    #[must_use]
    pub fn with_ledger(config: CoreConfig, ledger: Ledger) -> Self {
        Self {
            exposure: Exposure::new(config.exposure),
            config,
            ledger,
            clients: BTreeMap::new(),
            workers: Workers::default(),
            requests: Requests::default(),
            models: Models::default(),
            closed_payers: BTreeSet::new(),
            is_recovering: false,
            drain: None,
            tally: Tally::default(),
        }
    }

    /// Takes one event and appends what must be done to `actions`.
    pub fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        self.workers.thaw(now);
        match event {
            Event::ClientJoined { client, account } => self.client_joined(client, &account, actions),
            Event::ClientLeft { client } => self.client_left(now, client, actions),
            Event::WorkerJoined { worker, profile } => self.worker_joined(now, worker, profile, actions),
            Event::WorkerLeft { worker } => self.worker_left(now, worker, actions),
            Event::WorkerChanged { worker, change } => self.worker_changed(now, worker, change, actions),
            Event::WorkerLoad { worker, load } => {
                self.workers.update(worker, |worker| worker.report(load));
            }
            Event::Run(query) => self.run(now, query, actions),
            Event::AnswerStarted { key, worker } => self.answer_started(key, worker),
            Event::Ended { key, worker, word } => self.ended(now, key, worker, word, actions),
            Event::Failed { key, worker, failure, word } => self.failed(now, key, worker, failure, word, actions),
            Event::ClientStalled { key, worker } => self.client_stalled(now, key, worker, actions),
            Event::Cancelled { client, request_id } => self.cancelled(now, client, request_id, actions),
            Event::Weighed { multipliers } => self.config.multipliers = multipliers,
            Event::ClientOutdated { client } => self.client_outdated(client, actions),
            Event::Settling => self.settling(now, actions),
            Event::Tick => self.tick(now, actions),
            Event::Drain { until } => self.drain(until),
        }
        self.announce_drained(actions);
    }

    /// When the next [`Event::Tick`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let drain = self.drain.filter(|drain| !drain.announced).map(|drain| drain.until);
        [self.requests.next_timer(), self.exposure.next(), drain].into_iter().flatten().min()
    }

    /// The served models, worker by worker, for clients that ask.
    #[must_use]
    pub fn worker_types(&self) -> Vec<WorkerType> {
        let instance = |worker: &Worker| WorkerInstance {
            coefficient: worker.coefficient,
            active_requests: worker.active,
            max_active_requests: worker.slots,
        };
        let of_model = |model| WorkerType {
            name: self.models.name(model).to_owned(),
            workers: self.workers.of_model(model).filter(|(_, w)| w.enabled).map(|(_, w)| instance(w)).collect(),
        };
        self.workers.models().map(of_model).filter(|model| !model.workers.is_empty()).collect()
    }

    /// The account of a client, while it is connected.
    #[must_use]
    pub fn client_account(&self, client: ClientId) -> Option<(PayerId, PayerView)> {
        self.clients.get(&client).map(|client| (client.payer, self.ledger.payer(client.payer)))
    }

    /// How many requests of a client are in flight.
    #[must_use]
    pub fn client_in_flight(&self, client: ClientId) -> usize {
        self.clients.get(&client).map_or(0, |client| client.in_flight.len())
    }

    /// How many requests a worker has.
    #[must_use]
    pub fn worker_active(&self, worker: WorkerId) -> u32 {
        self.workers.get(worker).map_or(0, |worker| worker.active)
    }

    /// The account of a worker, while it is connected.
    #[must_use]
    pub fn worker_account(&self, worker: WorkerId) -> Option<PayeeId> {
        self.workers.get(worker).map(|worker| worker.payee)
    }

    /// What happened so far, and what is here now.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            clients: self.clients.len(),
            workers: self.workers.len(),
            requests: self.requests.len(),
            queued: self.requests.queued(),
            held_bytes: self.requests.prompt_bytes(),
            draining: self.drain.is_some(),
            held_back: self.workers.held_back(),
            ..self.tally
        }
    }

    /// Sums of the ledger.
    #[must_use]
    pub fn ledger_totals(&self) -> Totals {
        self.ledger.totals()
    }

    /// One row a served model; aggregates only.
    #[must_use]
    pub fn model_status(&self) -> Vec<ModelStatus> {
        let of_model = |model| ModelStatus {
            name: self.models.name(model).to_owned(),
            workers: self.workers.of_model(model).count(),
            slots: self.workers.of_model(model).map(|(_, worker)| u64::from(worker.slots)).sum(),
            active: self.workers.of_model(model).map(|(_, worker)| u64::from(worker.active)).sum(),
            queued: self.requests.queue_len(model),
        };
        self.workers.models().map(of_model).collect()
    }
}

/// Peers that come and go.
impl Core {
    fn client_joined(&mut self, client: ClientId, account: &str, actions: &mut Vec<Action>) {
        let payer = match self.config.exposure {
            // The handshake opened it, with what the contract holds.
            Some(_) => self.ledger.find_payer(account),
            None => {
                let credit = Credit { charged: AdjustedTokens::ZERO, secured: self.config.stake };
                self.ledger.open_payer(account, credit).ok()
            }
        };
        let Some(payer) = payer else {
            return actions.push(Action::CloseClient { client, failure: refusal::accounts_full() });
        };
        let (in_flight, early_cancels) = (HashMap::new(), VecDeque::new());
        self.clients.insert(client, Client { payer, is_outdated: false, in_flight, early_cancels });
    }

    /// Its running requests may finish. Those that wait would have to go to a worker of another contract.
    fn client_outdated(&mut self, client: ClientId, actions: &mut Vec<Action>) {
        let Some(outdated) = self.clients.get_mut(&client) else { return };
        outdated.is_outdated = true;
        for key in self.requests.queued_of_client(client) {
            self.finish_unrouted(key, Some(refusal::outdated()), actions);
        }
    }

    fn client_left(&mut self, now: Instant, client: ClientId, actions: &mut Vec<Action>) {
        let Some(gone) = self.clients.remove(&client) else { return };
        let mut keys: Vec<_> = gone.in_flight.into_values().collect();
        keys.sort_unstable();
        for key in keys {
            self.give_up(now, key, Bill::Usage, None, actions);
        }
    }

    fn worker_joined(&mut self, now: Instant, id: WorkerId, profile: WorkerProfile, actions: &mut Vec<Action>) {
        let Ok(payee) = self.ledger.open_payee(&profile.account) else {
            let failure = refusal::accounts_full();
            return actions.push(Action::CloseWorker { worker: id, failure });
        };
        let in_use = |model| self.workers.of_model(model).next().is_some() || self.requests.queue_len(model) > 0;
        let Some(model) = self.models.open(profile.model, in_use) else {
            let failure = refusal::models_full();
            return actions.push(Action::CloseWorker { worker: id, failure });
        };
        let slots = profile.slots.min(WORKER_SLOTS_MAX);
        let worker = Worker::new(payee, model, profile.coefficient, slots, profile.enabled, profile.cancel);
        self.workers.insert(id, worker);
        self.hold_back(now, payee);
        self.pump(now, model, actions);
    }

    fn worker_left(&mut self, now: Instant, id: WorkerId, actions: &mut Vec<Action>) {
        let Some(gone) = self.workers.remove(id) else { return };
        // Requests in the queue wait on: a worker that lost its connection is usually back at once.
        for key in self.requests.at_worker(id) {
            self.failed(now, key, id, refusal::worker_lost(), Word::Nothing, actions);
        }
        self.close_idle(gone.payee);
    }

    fn worker_changed(&mut self, now: Instant, id: WorkerId, change: WorkerChange, actions: &mut Vec<Action>) {
        let changed = self.workers.update(id, |worker| {
            worker.change(change);
            worker.model
        });
        let Some(model) = changed else { return };
        self.pump(now, model, actions);
    }
}

/// Helpers.
impl Core {
    /// The state of a request, if this worker has it.
    fn state_at(&self, key: RequestKey, id: WorkerId) -> Option<&State> {
        let state = &self.requests.get(key)?.state;
        (state.worker() == Some(id)).then_some(state)
    }

    fn note_failure(&mut self, now: Instant, id: WorkerId, failure: &Failure) {
        if path::is_retryable(failure) {
            self.workers.update(id, |worker| worker.misbehaved(now));
        }
    }

    /// A worker has one request less: the next in the queue may have its place.
    fn free_slot(&mut self, now: Instant, id: WorkerId, actions: &mut Vec<Action>) {
        let freed = self.workers.update(id, |worker| {
            debug_assert!(worker.active > 0, "a slot was freed twice");
            worker.active = worker.active.saturating_sub(1);
            worker.model
        });
        let Some(model) = freed else { return };
        self.pump(now, model, actions);
    }

    /// Sends on whoever waits and now has a worker with room, in order.
    fn pump(&mut self, now: Instant, model: ModelId, actions: &mut Vec<Action>) {
        if self.requests.queue_len(model) == 0 {
            return;
        }
        let mut place = 0;
        let mut cheapest = self.workers.cheapest_room(model);
        while let Some(price) = cheapest {
            let Some(key) = self.requests.queued_at(model, place) else { break };
            let Some(request) = self.requests.get(key) else { break };
            // Most of those that wait on are passed over here, without a look at every worker for each.
            if request.max_coefficient >= price
                && let Choice::Now(worker) = self.workers.choose(model, self.wanted(request))
            {
                self.dispatch(now, key, worker, actions);
                cheapest = self.workers.cheapest_room(model);
            } else {
                place += 1;
            }
        }
    }

    fn expected_wait(&self, model: ModelId) -> Duration {
        self.workers.expected_wait(model, self.requests.queue_len(model))
    }
}

impl Models {
    /// Finds the model of this name or makes room for it, in the place of one that is not in use where
    /// there is no other: workers that come and go must not fill the registry for good.
    fn open(&mut self, name: String, in_use: impl Fn(ModelId) -> bool) -> Option<ModelId> {
        if let Some(id) = self.ids.get(&name) {
            return Some(*id);
        }
        let place = match self.names.len() {
            len if len < MODELS_MAX => {
                self.names.push(String::new());
                len
            }
            len => (0..len).find(|place| !in_use(ModelId(*place)))?,
        };
        let forgotten = self.names.get_mut(place).map(|old| std::mem::replace(old, name.clone()));
        if let Some(forgotten) = forgotten {
            self.ids.remove(&forgotten);
        }
        self.ids.insert(name, ModelId(place));
        Some(ModelId(place))
    }

    fn find(&self, name: &str) -> Option<ModelId> {
        self.ids.get(name).copied()
    }

    fn name(&self, id: ModelId) -> &str {
        self.names.get(id.0).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests;
