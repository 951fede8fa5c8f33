//! The hub: the one task that owns the core, feeds it, and does what it says.
//!
//! It holds no decision. Sessions send it [`Input`]s over one bounded queue, which it drains in
//! batches; it carries out the core's actions with calls that never wait (an outbox or a command
//! queue that is full ends the peer that does not drain it).

mod leaving;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cocoon_net::Outbox;
use cocoon_ton::Address;
use cocoon_units::{AdjustedTokens, Clock};
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::message::{
    ClientAnswer, PaymentStatus, ProxyToClient, ProxyToWorker, RequestPayment, SignedPayment, TokensUsed, WorkerAnswer,
    WorkerType, WorkerTypeSummary,
};
use cocoon_wire::{RequestId, Sealed, Version};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::leaving::{Leaver, Leaving};
use crate::core::{
    Action, ClientId, Core, Dispatch, Event, RequestKey, RunQuery, Settlement, WorkerChange, WorkerId, WorkerProfile,
};
use crate::limits::{EVENTS_BATCH_MAX, LEAVING_TIMEOUT};
use crate::session::worker_loop::never_sent;
use crate::status::Board;
use crate::stream::{Cancelled, ClientLink, Stream};

/// What sessions send to the hub.
pub(crate) enum Input {
    /// Something the core must hear, and nothing else.
    Event(Event),
    /// A client finished its handshake.
    ClientJoined { client: ClientId, owner: String, contract: Option<Address>, link: Arc<ClientLink> },
    /// A worker finished its handshake.
    WorkerJoined { worker: WorkerId, profile: WorkerProfile, contract: Option<Address>, link: WorkerLink },
    /// A client asks for an answer. The body stays with the hub until a worker has begun to answer.
    Run { query: RunQuery, stream: Arc<Stream>, body: Body },
    /// A client's poll.
    ClientAsks { client: ClientId, query_id: i64, question: Question },
    /// A worker's poll.
    WorkerAsks { worker: WorkerId, query_id: i64 },
    /// The proxy has this contract from now on. Sessions that were told of another end once nothing of them runs.
    Moved { contract: Option<Address> },
    /// What a payee has earned, asked during a worker's handshake.
    Earned { owner: String, reply: oneshot::Sender<AdjustedTokens> },
}

/// What a request carries to its worker.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) query: Sealed,
    pub(crate) enable_debug: bool,
}

/// What a client can ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    Refund,
    PaymentStatus,
    WorkerTypes,
    WorkerTypesV2,
}

/// One worker connection, as the hub sees it.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) outbox: Outbox,
}

/// What the hub tells a worker's session.
pub(crate) enum Command {
    /// Send a request.
    Run { dispatch: Dispatch, stream: Arc<Stream>, body: Body },
    /// Tolerate late answers to a request from now on.
    Abandon { request_id: RequestId },
}

/// One request, as the hub sees it.
struct Held {
    stream: Arc<Stream>,
    body: Option<Body>,
}

/// The hub. See the module.
pub(crate) struct Hub {
    core: Core,
    clock: Arc<dyn Clock>,
    clients: HashMap<ClientId, Arc<ClientLink>>,
    workers: HashMap<WorkerId, WorkerLink>,
    requests: HashMap<RequestKey, Held>,
    actions: Vec<Action>,
    /// What carrying out an action made happen.
    aftermath: VecDeque<Event>,
    contract: Option<Address>,
    leaving: Leaving,
    board: Arc<Board>,
    drained: CancellationToken,
}

impl Hub {
    pub(crate) fn new(
        core: Core,
        contract: Option<Address>,
        clock: Arc<dyn Clock>,
        board: Arc<Board>,
        drained: CancellationToken,
    ) -> Self {
        Self {
            core,
            clock,
            clients: HashMap::new(),
            workers: HashMap::new(),
            requests: HashMap::new(),
            actions: Vec::new(),
            aftermath: VecDeque::new(),
            contract,
            leaving: Leaving::default(),
            board,
            drained,
        }
    }

    /// Runs until every session is gone, or the drain is over.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, stop: CancellationToken, drain: Duration) {
        let mut batch = Vec::with_capacity(EVENTS_BATCH_MAX);
        let mut stopping = false;
        loop {
            let late = self.leaving.until().map(Instant::into_std);
            let timeout = [self.core.next_timeout(), late].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    let until = Instant::now() + drain;
                    self.feed(Event::Drain { until: until.into_std() });
                }
                taken = inputs.recv_many(&mut batch, EVENTS_BATCH_MAX) => {
                    if taken == 0 {
                        break;
                    }
                    for input in batch.drain(..) {
                        self.take(input);
                    }
                }
                () = sleep_until(timeout), if timeout.is_some() => {}
            }
            // Looked at in every round: inputs that never cease must not keep time from passing.
            if self.core.next_timeout().is_some_and(|at| at <= Instant::now().into_std()) {
                self.feed(Event::Tick);
            }
            self.end_leavers();
            self.board.publish(&self.core);
            if self.drained.is_cancelled() {
                self.close_all();
                // Sessions still say goodbye; nobody waits for an answer any more.
                inputs.close();
                break;
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.hear(event),
            Input::ClientJoined { client, owner, contract, link } => {
                self.clients.insert(client, link);
                self.feed(Event::ClientJoined { client, owner });
                if contract != self.contract {
                    // It was told the contract of a moment ago.
                    self.leave([client].into_iter(), [].into_iter());
                }
            }
            Input::WorkerJoined { worker, profile, contract, link } => {
                self.workers.insert(worker, link);
                self.board.registry_changed();
                self.feed(Event::WorkerJoined { worker, profile });
                if contract != self.contract {
                    self.leave([].into_iter(), [worker].into_iter());
                }
            }
            Input::Moved { contract } => self.moved(contract),
            Input::Run { query, stream, body } => {
                self.requests.insert(query.key, Held { stream, body: Some(body) });
                self.feed(Event::Run(query));
            }
            Input::ClientAsks { client, query_id, question } => self.answer_client(client, query_id, question),
            Input::WorkerAsks { worker, query_id } => self.answer_worker(worker, query_id),
            Input::Earned { owner, reply } => {
                // A session that ended meanwhile does not listen.
                let _ = reply.send(self.core.earned_by(&owner));
            }
        }
    }

    fn moved(&mut self, contract: Option<Address>) {
        if self.contract == contract {
            return;
        }
        self.contract = contract;
        let clients: Vec<_> = self.clients.keys().copied().collect();
        let workers: Vec<_> = self.workers.keys().copied().collect();
        info!(clients = clients.len(), workers = workers.len(), "the proxy's contract is another; sessions begin anew");
        self.leave(clients.into_iter(), workers.into_iter());
    }

    fn leave(&mut self, clients: impl Iterator<Item = ClientId>, workers: impl Iterator<Item = WorkerId>) {
        let workers: Vec<_> = workers.collect();
        self.leaving.begin(clients, workers.iter().copied(), Instant::now() + LEAVING_TIMEOUT);
        for worker in workers {
            self.feed(Event::WorkerChanged { worker, change: WorkerChange::Disabled });
        }
    }

    fn end_leavers(&mut self) {
        for leaver in self.leaving.take_ready(&self.core, Instant::now()) {
            let outbox = match leaver {
                Leaver::Client(client) => self.clients.get(&client).map(|link| &link.outbox),
                Leaver::Worker(worker) => self.workers.get(&worker).map(|link| &link.outbox),
            };
            if let Some(outbox) = outbox {
                outbox.close();
            }
        }
    }

    /// Bookkeeping around an event of a session.
    fn hear(&mut self, event: Event) {
        match &event {
            Event::ClientLeft { client } => {
                self.leaving.forget(Leaver::Client(*client));
                self.clients.remove(client);
            }
            Event::WorkerLeft { worker } => {
                self.leaving.forget(Leaver::Worker(*worker));
                self.workers.remove(worker);
                self.board.registry_changed();
            }
            Event::AnswerStarted { key, .. } => {
                // No other worker will be tried, so the body is not needed any more.
                if let Some(held) = self.requests.get_mut(key) {
                    held.body = None;
                }
            }
            Event::ClientJoined { .. }
            | Event::WorkerJoined { .. }
            | Event::WorkerChanged { .. }
            | Event::WorkerLoad { .. }
            | Event::Run(_)
            | Event::Ended { .. }
            | Event::Failed { .. }
            | Event::ClientStalled { .. }
            | Event::Cancelled { .. }
            | Event::Weighed { .. }
            | Event::Tick
            | Event::Drain { .. } => {}
        }
        self.feed(event);
    }

    fn feed(&mut self, event: Event) {
        self.aftermath.push_back(event);
        while let Some(event) = self.aftermath.pop_front() {
            let now = Instant::now().into_std();
            let mut actions = std::mem::take(&mut self.actions);
            self.core.handle(now, event, &mut actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
            self.actions = actions;
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Dispatch(dispatch) => self.dispatch(dispatch),
            Action::CancelAtWorker { key, worker } => self.cancel(key, worker),
            Action::AbandonAtWorker { key, worker } => self.abandon(key, worker),
            Action::Fail { key, failure, tokens } => self.fail(key, failure, tokens),
            Action::Settled(settlement) => self.tell_payment(&settlement),
            Action::Forget { key } => {
                self.requests.remove(&key);
            }
            Action::CloseClient { client, failure } => {
                warn!(%failure, "client refused");
                if let Some(link) = self.clients.get(&client) {
                    link.outbox.close();
                }
            }
            Action::CloseWorker { worker, failure } => {
                warn!(%failure, "worker refused");
                if let Some(link) = self.workers.get(&worker) {
                    link.outbox.close();
                }
            }
            Action::Drained => {
                info!("drained");
                self.drained.cancel();
            }
        }
    }

    fn dispatch(&mut self, dispatch: Dispatch) {
        let (key, worker) = (dispatch.key, dispatch.worker);
        let (Some(held), Some(link)) = (self.requests.get(&key), self.workers.get(&worker)) else { return };
        let Some(body) = held.body.clone() else { return };
        let command = Command::Run { dispatch, stream: Arc::clone(&held.stream), body };
        if let Err(error) = link.commands.try_send(command) {
            if matches!(error, TrySendError::Full(_)) {
                warn!("a worker's session is stuck, its connection is closed");
                link.outbox.close();
            }
            let message = "the worker's connection ended before it had the request";
            let failure = Failure::new(Blame::Worker, FailureCode::WorkerLost, message);
            self.aftermath.push_back(Event::Failed { key, worker, failure, tokens: TokensUsed::default() });
        }
    }

    fn cancel(&mut self, key: RequestKey, worker: WorkerId) {
        let Some(held) = self.requests.get(&key) else { return };
        if held.stream.cancel() == Cancelled::Withdrawn {
            self.abandon(key, worker);
            let (failure, tokens) = (never_sent(), TokensUsed::default());
            self.aftermath.push_back(Event::Failed { key, worker, failure, tokens });
        }
    }

    fn abandon(&self, key: RequestKey, worker: WorkerId) {
        let Some(held) = self.requests.get(&key) else { return };
        let _ = held.stream.cancel();
        let (Some(leg), Some(link)) = (held.stream.leg(), self.workers.get(&worker)) else { return };
        // A queue that is full belongs to a session that is stuck, and that its next request closes.
        let _ = link.commands.try_send(Command::Abandon { request_id: leg.request_id });
    }

    fn fail(&self, key: RequestKey, failure: Failure, tokens: TokensUsed) {
        // The message may be a worker's, and quote the prompt.
        debug!(code = failure.code.as_str(), blame = failure.blame.as_str(), "request failed");
        if let Some(held) = self.requests.get(&key) {
            held.stream.fail(failure, tokens, self.clock.unix_now().as_secs_f64());
        }
    }

    /// As the original does after each request, to peers of the original profile. Extended peers
    /// have the amount in the end frame, and nothing can be paid yet.
    fn tell_payment(&self, settlement: &Settlement) {
        if let Some(overcharge) = settlement.clamped {
            let (reported, reserved) = (overcharge.reported.get(), overcharge.reserved.get());
            warn!(reported, reserved, "a worker claimed more than was reserved; blame: worker");
        }
        let Some(held) = self.requests.get(&settlement.key) else { return };
        let Some(leg) = held.stream.leg() else { return };
        let payment = |request_id, max_tokens| RequestPayment {
            request_id,
            signed_payment: SignedPayment::Empty,
            db_tokens: AdjustedTokens::ZERO,
            max_tokens,
            request_tokens: settlement.charged,
        };
        // A full outbox ends with its connection; a payment told late is told by the next one.
        if leg.version != Version::Extended {
            let payment = payment(leg.request_id, settlement.payee_earned);
            let message = ProxyToWorker::Payment { payment, request_client_owner: String::new() };
            let _ = leg.outbox.send(message.encode(leg.version));
        }
        if let Some(link) = self.clients.get(&settlement.client)
            && link.version != Version::Extended
        {
            let message = ProxyToClient::Payment(payment(held.stream.request_id(), settlement.payer_used));
            let _ = link.outbox.send(message.encode(link.version));
        }
    }

    fn answer_client(&self, client: ClientId, query_id: i64, question: Question) {
        let Some(link) = self.clients.get(&client) else { return };
        let answer = match question {
            Question::WorkerTypesV2 => ClientAnswer::WorkerTypesV2(self.core.worker_types()),
            Question::WorkerTypes => {
                ClientAnswer::WorkerTypes(self.core.worker_types().iter().filter_map(summary).collect())
            }
            Question::PaymentStatus => {
                let used = self.core.client_balance(client).map(|balance| balance.used);
                ClientAnswer::PaymentStatus(payment_status(used))
            }
            Question::Refund => match self.core.client_in_flight(client) {
                0 => {
                    let message = "nothing can be refunded: this proxy holds no stake on chain";
                    let _ = link.outbox.refuse(query_id, 501, message);
                    return;
                }
                active => ClientAnswer::RefundRejected { active_queries: active as u64 },
            },
        };
        if link.outbox.answer(query_id, answer.encode()).is_err() {
            // It asks and does not read, or it is gone already.
            link.outbox.close();
        }
    }

    fn answer_worker(&self, worker: WorkerId, query_id: i64) {
        let Some(link) = self.workers.get(&worker) else { return };
        let status = payment_status(self.core.worker_earned(worker));
        if link.outbox.answer(query_id, WorkerAnswer::PaymentStatus(status).encode()).is_err() {
            link.outbox.close();
        }
    }

    fn close_all(&self) {
        self.clients.values().for_each(|link| link.outbox.close());
        self.workers.values().for_each(|link| link.outbox.close());
    }
}

fn payment_status(max_tokens: Option<AdjustedTokens>) -> PaymentStatus {
    PaymentStatus {
        signed_payment: SignedPayment::Empty,
        db_tokens: AdjustedTokens::ZERO,
        max_tokens: max_tokens.unwrap_or_default(),
    }
}

/// The older form: one row a model.
fn summary(model: &WorkerType) -> Option<WorkerTypeSummary> {
    let mut coefficients: Vec<_> = model.workers.iter().map(|worker| worker.coefficient).collect();
    coefficients.sort_unstable();
    Some(WorkerTypeSummary {
        name: model.name.clone(),
        active_workers: u32::try_from(coefficients.len()).unwrap_or(u32::MAX),
        coefficient_min: *coefficients.first()?,
        coefficient_bucket50: *coefficients.get(coefficients.len() / 2)?,
        coefficient_max: *coefficients.last()?,
    })
}

async fn sleep_until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use cocoon_net::Event as NetEvent;
    use cocoon_net::memory_pair;
    use cocoon_units::{Coefficient, FixedClock, Multipliers, UnixTime};
    use cocoon_wire::message::Answer;

    use super::*;
    use crate::config::ProxyConfig;
    use crate::core::CancelSupport;

    fn run(key: u64, model: &str) -> RunQuery {
        RunQuery {
            key: RequestKey(key),
            client: ClientId(1),
            request_id: RequestId::new([u8::try_from(key).unwrap(); 32]),
            model: model.into(),
            max_coefficient: Coefficient::ONE,
            prompt_bytes: 1,
            choices: 1,
            token_limit: 1,
            timeout: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn flood_of_inputs_does_not_stop_the_clock() {
        let (ours, mut theirs) = memory_pair("client");
        let (_worker, worker_end) = memory_pair("worker");
        let link = Arc::new(ClientLink::new(ours.outbox(), Version::Extended, Arc::new(AtomicUsize::new(0))));
        let (commands, _commands) = mpsc::channel(8);
        let profile = WorkerProfile {
            owner: "worker".into(),
            model: "m".into(),
            coefficient: Coefficient::ONE,
            slots: 1,
            enabled: true,
            cancel: CancelSupport::Yes,
        };
        let worker = WorkerLink { commands, outbox: worker_end.outbox() };
        let asks = |key, model: &str| Input::Run {
            query: run(key, model),
            stream: Arc::new(Stream::new(Arc::clone(&link), run(key, model).request_id, None, 0.0)),
            body: Body { query: Sealed::default(), enable_debug: false },
        };
        let (inputs, received) = mpsc::channel(4 * EVENTS_BATCH_MAX);
        let client = ClientId(1);
        let joined = Input::ClientJoined { client, owner: "client".into(), contract: None, link: Arc::clone(&link) };
        inputs.try_send(joined).ok().unwrap();
        inputs
            .try_send(Input::WorkerJoined { worker: WorkerId(1), profile, contract: None, link: worker })
            .ok()
            .unwrap();
        // The first runs out of time at once; the flood behind it never leaves the queue empty.
        inputs.try_send(asks(1, "m")).ok().unwrap();
        for _ in 0..2 * EVENTS_BATCH_MAX {
            let cancelled = Event::Cancelled { client, request_id: RequestId::new([9; 32]) };
            inputs.try_send(Input::Event(cancelled)).ok().unwrap();
        }
        inputs.try_send(asks(2, "unknown")).ok().unwrap();
        let clock = Arc::new(FixedClock::at(UnixTime::from_secs_f64(1.0)));
        let core = Core::new(ProxyConfig::default().core(Multipliers::default()));
        let hub = Hub::new(core, None, clock, Arc::default(), CancellationToken::new());
        drop(inputs);
        hub.run(received, CancellationToken::new(), Duration::ZERO).await;
        let driver = async move {
            let mut ours = ours;
            while ours.next().await.is_ok() {}
        };
        let first = async {
            let Ok(NetEvent::Message(data)) = theirs.next().await else { panic!("no message") };
            let Ok(ProxyToClient::Answer(answer)) = ProxyToClient::decode(Version::Extended, data) else {
                panic!("no answer")
            };
            answer
        };
        let answer = tokio::select! { answer = first => answer, () = driver => panic!("ended") };
        assert!(matches!(answer, Answer::Failed { .. }));
        assert_eq!(answer.request_id(), RequestId::new([1; 32]), "the one whose time was over comes first");
    }
}
