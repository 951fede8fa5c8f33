//! The hub: the one task that owns the core, feeds it, and does what it says.
//!
//! It owns the core, and with it the books; what they need of disk, chain and signatures is in [`money`].
//! It holds no decision. Sessions send it [`Input`]s over one bounded queue, which it drains in
//! batches; it carries out the core's actions with calls that never wait (an outbox or a command
//! queue that is full ends the peer that does not drain it).

mod leaving;
mod money;
mod recovery;
mod refund;
mod settled;
mod tell;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cocoon_ledger::{Credit, Marks, Rejection};
use cocoon_net::Outbox;
use cocoon_ton::Address;
use cocoon_units::{AdjustedTokens, Clock, Multipliers};
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::message::{FinalInfo, SignedPayment};
use cocoon_wire::{RequestId, Sealed, Version};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub(crate) use self::money::HubMoney;
pub(crate) use self::recovery::{Handovers, Recovery};

use self::leaving::{Leaver, Leaving};
use self::settled::SettledQuestions;
use crate::books::BooksInput;
use crate::core::{
    Action, ClientId, Core, Dispatch, Event, Lost, LostOutcome, RequestKey, RunQuery, Word, WorkerChange, WorkerId,
    WorkerProfile,
};
use crate::evidence::Evidence;
use crate::limits::{EVENTS_BATCH_MAX, LEAVING_TIMEOUT};
use crate::money::ProxyError;
use crate::session::proof::Asked;
use crate::session::worker_loop::never_sent;
use crate::status::Board;
use crate::stream::{Cancelled, ClientLink, Stream};

/// What sessions send to the hub.
pub(crate) enum Input {
    /// Something the core must hear, and nothing else.
    Event(Event),
    /// A client finished its handshake.
    ClientJoined { client: ClientId, account: String, contract: Option<Address>, link: Arc<ClientLink> },
    /// A worker finished its handshake.
    WorkerJoined { worker: WorkerId, profile: WorkerProfile, contract: Option<Address>, link: WorkerLink },
    /// A client asks for an answer. The body stays with the hub until a worker has begun to answer.
    Run { query: RunQuery, stream: Arc<Stream>, body: Body },
    /// A client's poll.
    ClientAsks { client: ClientId, query_id: i64, question: Question },
    /// A worker's poll.
    WorkerAsks { worker: WorkerId, query_id: i64 },
    /// What the network says from now on. Sessions that were told of another contract end once nothing of them runs.
    Moved { contract: Option<Address>, multipliers: Multipliers, unsigned_max: AdjustedTokens },
    /// A client is in its handshake: its account is opened with what its contract holds.
    OpenClient { account: String, owner: String, credit: Credit, reply: oneshot::Sender<Result<Opened, Rejection>> },
    /// A worker is in its handshake: its account is opened.
    OpenWorker { account: String, owner: String, reply: oneshot::Sender<Result<Opened, Rejection>> },
    /// A worker hands over what a crash lost.
    HandedOver { payee: String, lost: Vec<Lost>, reply: oneshot::Sender<Vec<LostOutcome>> },
    /// Settlement speaks.
    Books(BooksInput),
}

/// What an account stands at, for the peer in its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) signed: SignedPayment,
    pub(crate) marks: Marks,
}

/// What a request carries to its worker.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) query: Sealed,
    pub(crate) enable_debug: bool,
    /// Passed on to a worker that can answer it; gone with the body.
    pub(crate) receipt: Option<Asked>,
}

/// What a client can ask.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Refund,
    PaymentStatus,
    WorkerTypes,
    WorkerTypesV2,
    Settled(Vec<[u8; 32]>, Evidence),
}

/// One worker connection, as the hub sees it.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) outbox: Outbox,
    pub(crate) version: Version,
}

/// What the hub tells a worker's session.
pub(crate) enum Command {
    /// Send a request.
    Run(Box<Assignment>),
    /// Tolerate late answers to a request from now on.
    Abandon { request_id: RequestId },
}

/// A request for a worker.
pub(crate) struct Assignment {
    pub(crate) dispatch: Dispatch,
    pub(crate) stream: Arc<Stream>,
    pub(crate) body: Body,
    /// The latest payment.
    pub(crate) signed: SignedPayment,
    /// Our seal on whose request it is, where a receipt is asked for.
    pub(crate) tag: Option<Bytes>,
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
    settled: SettledQuestions,
    money: Option<HubMoney>,
    board: Arc<Board>,
    drained: CancellationToken,
}

impl Hub {
    pub(crate) fn new(
        core: Core,
        contract: Option<Address>,
        money: Option<HubMoney>,
        clock: Arc<dyn Clock>,
        board: Arc<Board>,
        drained: CancellationToken,
    ) -> Self {
        // The first look finds everything, not only what changes from then on.
        board.registry_changed();
        Self {
            settled: SettledQuestions::default(),
            money,
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

    /// Runs until every session is gone, or the drain is over and the books are on disk.
    ///
    /// # Errors
    ///
    /// When the books cannot be kept or contradict the chain. Every connection is closed then: what cannot be counted
    /// is not sold.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        stop: CancellationToken,
        drain: Duration,
    ) -> Result<(), ProxyError> {
        let served = self.serve(&mut inputs, stop, drain).await;
        if served.is_err() || self.drained.is_cancelled() {
            self.close_all();
            // Sessions still say goodbye; nobody waits for an answer any more.
            inputs.close();
        }
        served?;
        self.end_run();
        self.flush().await
    }

    async fn serve(
        &mut self,
        inputs: &mut mpsc::Receiver<Input>,
        stop: CancellationToken,
        drain: Duration,
    ) -> Result<(), ProxyError> {
        let mut batch = Vec::with_capacity(EVENTS_BATCH_MAX);
        let mut stopping = false;
        self.core.restored(Instant::now().into_std());
        self.begin_recovery().await?;
        loop {
            let late = [self.leaving.until(), self.recovery_look()].into_iter().flatten().min();
            let timeout = [self.core.next_timeout(), late.map(Instant::into_std)].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    let until = Instant::now() + drain;
                    self.feed(Event::Drain { until: until.into_std() });
                }
                taken = inputs.recv_many(&mut batch, EVENTS_BATCH_MAX) => {
                    if taken == 0 {
                        return Ok(());
                    }
                    for input in batch.drain(..) {
                        self.take(input)?;
                    }
                }
                written = money::written(self.money.as_mut()) => self.core.ledger_mut().written(written?),
                () = sleep_until(timeout), if timeout.is_some() => {}
            }
            // Looked at in every round: inputs that never cease must not keep time from passing.
            if self.core.next_timeout().is_some_and(|at| at <= Instant::now().into_std()) {
                self.feed(Event::Tick);
            }
            self.end_leavers();
            self.look_at_recovery();
            self.answer_settled();
            self.write_down()?;
            self.board.publish(Instant::now().into_std(), &self.core);
            if self.drained.is_cancelled() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, input: Input) -> Result<(), ProxyError> {
        match input {
            Input::Books(books) => return self.hear_books(books),
            Input::Event(event) => self.hear(event),
            Input::ClientJoined { client, account, contract, link } => {
                self.clients.insert(client, link);
                self.feed(Event::ClientJoined { client, account });
                if contract != self.contract {
                    // It was told the contract of a moment ago.
                    self.leave_clients(vec![client]);
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
            Input::Run { query, stream, body } => {
                self.requests.insert(query.key, Held { stream, body: Some(body) });
                self.feed(Event::Run(query));
            }
            Input::ClientAsks { client, query_id, question } => self.answer_client(client, query_id, question),
            Input::WorkerAsks { worker, query_id } => self.answer_worker(worker, query_id),
            Input::Moved { contract, multipliers, unsigned_max } => {
                // First the contract: a request of an old session must not be weighed in the new way.
                self.moved(contract);
                self.core.set_exposure(unsigned_max);
                self.feed(Event::Weighed { multipliers });
            }
            // A session that ended meanwhile does not listen to any of these.
            Input::OpenClient { account, owner, credit, reply } => {
                let _ = reply.send(self.open_client(&account, owner, credit));
            }
            Input::OpenWorker { account, owner, reply } => {
                let _ = reply.send(self.open_worker(&account, owner));
            }
            Input::HandedOver { payee, lost, reply } => {
                let _ = reply.send(self.settle_lost(&payee, lost));
            }
        }
        Ok(())
    }

    fn moved(&mut self, contract: Option<Address>) {
        if self.contract == contract {
            return;
        }
        self.contract = contract;
        let clients: Vec<_> = self.clients.keys().copied().collect();
        let workers: Vec<_> = self.workers.keys().copied().collect();
        info!(clients = clients.len(), workers = workers.len(), "the proxy's contract is another; sessions begin anew");
        self.leave([].into_iter(), workers.into_iter());
        self.leave_clients(clients);
    }

    fn leave(&mut self, clients: impl Iterator<Item = ClientId>, workers: impl Iterator<Item = WorkerId>) {
        let workers: Vec<_> = workers.collect();
        self.leaving.begin(clients, workers.iter().copied(), Instant::now() + LEAVING_TIMEOUT);
        for worker in workers {
            self.feed(Event::WorkerChanged { worker, change: WorkerChange::Disabled });
        }
    }

    /// Without money a client may go on asking. With it, its account is of the old contract, and no worker of the new
    /// one may earn from it.
    fn leave_clients(&mut self, clients: Vec<ClientId>) {
        self.leave(clients.iter().copied(), [].into_iter());
        if self.money.is_some() {
            for client in clients {
                self.feed(Event::ClientOutdated { client });
            }
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
                self.forget_told(Some(*client), None);
            }
            Event::WorkerLeft { worker } => {
                self.leaving.forget(Leaver::Worker(*worker));
                self.workers.remove(worker);
                self.forget_told(None, Some(*worker));
                self.board.registry_changed();
            }
            // One that leaves for another contract is not to be chosen, whatever it says of itself.
            Event::WorkerChanged { worker, change: WorkerChange::Enabled } if self.leaving.has_worker(*worker) => {
                return;
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
            | Event::ClientOutdated { .. }
            | Event::Settling
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
            Action::Fail { key, failure, tokens, proof } => {
                self.fail(key, failure, FinalInfo { tokens, proof, ..FinalInfo::default() });
            }
            Action::Settled(settlement) => self.tell_settled(settlement),
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
        let tag = dispatch.receipt.as_ref().and_then(|_| self.seal_tag(key));
        let signed = self.latest_payout(worker);
        let (Some(held), Some(link)) = (self.requests.get(&key), self.workers.get(&worker)) else { return };
        let Some(body) = held.body.clone() else { return };
        let assignment = Assignment { dispatch, stream: Arc::clone(&held.stream), body, signed, tag };
        if let Err(error) = link.commands.try_send(Command::Run(Box::new(assignment))) {
            if matches!(error, TrySendError::Full(_)) {
                warn!("a worker's session is stuck, its connection is closed");
                link.outbox.close();
            }
            let message = "the worker's connection ended before it had the request";
            let failure = Failure::new(Blame::Worker, FailureCode::WorkerLost, message);
            self.aftermath.push_back(Event::Failed { key, worker, failure, word: Word::Nothing });
        }
    }

    fn cancel(&mut self, key: RequestKey, worker: WorkerId) {
        let Some(held) = self.requests.get(&key) else { return };
        if held.stream.cancel() == Cancelled::Withdrawn {
            self.abandon(key, worker);
            let failure = never_sent();
            self.aftermath.push_back(Event::Failed { key, worker, failure, word: Word::Nothing });
        }
    }

    fn abandon(&self, key: RequestKey, worker: WorkerId) {
        let Some(held) = self.requests.get(&key) else { return };
        let _ = held.stream.cancel();
        let (Some(leg), Some(link)) = (held.stream.leg(), self.workers.get(&worker)) else { return };
        // A queue that is full belongs to a session that is stuck, and that its next request closes.
        let _ = link.commands.try_send(Command::Abandon { request_id: leg.request_id });
    }

    fn fail(&self, key: RequestKey, failure: Failure, end: FinalInfo) {
        // The message may be a worker's, and quote the prompt.
        debug!(code = failure.code.as_str(), blame = failure.blame.as_str(), "request failed");
        if let Some(held) = self.requests.get(&key) {
            held.stream.fail(failure, end, self.clock.unix_now().as_secs_f64());
        }
    }

    fn close_all(&self) {
        self.clients.values().for_each(|link| link.outbox.close());
        self.workers.values().for_each(|link| link.outbox.close());
    }
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
    use cocoon_units::{Coefficient, FixedClock, UnixTime};
    use cocoon_wire::message::{Answer, ProxyToClient};

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
            prompt_tokens_max: 1,
            choices: 1,
            token_limit: 1,
            timeout: Duration::ZERO,
            receipt: None,
        }
    }

    #[tokio::test]
    async fn flood_of_inputs_does_not_stop_the_clock() {
        let (ours, mut theirs) = memory_pair("client");
        let (_worker, worker_end) = memory_pair("worker");
        let link = Arc::new(ClientLink::new(ours.outbox(), Version::Extended, Arc::new(AtomicUsize::new(0))));
        let (commands, _commands) = mpsc::channel(8);
        let profile = WorkerProfile {
            account: "worker".into(),
            model: "m".into(),
            coefficient: Coefficient::ONE,
            slots: 1,
            enabled: true,
            cancel: CancelSupport::Yes,
        };
        let worker = WorkerLink { commands, outbox: worker_end.outbox(), version: Version::Extended };
        let asks = |key, model: &str| Input::Run {
            query: run(key, model),
            stream: Arc::new(Stream::new(Arc::clone(&link), run(key, model).request_id, None, 0.0)),
            body: Body { query: Sealed::default(), enable_debug: false, receipt: None },
        };
        let (inputs, received) = mpsc::channel(4 * EVENTS_BATCH_MAX);
        let client = ClientId(1);
        let joined = Input::ClientJoined { client, account: "client".into(), contract: None, link: Arc::clone(&link) };
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
        let core = Core::new(ProxyConfig::default().core(Multipliers::default(), None));
        let hub = Hub::new(core, None, None, clock, Arc::default(), CancellationToken::new());
        drop(inputs);
        hub.run(received, CancellationToken::new(), Duration::ZERO).await.unwrap();
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
