//! The driver: listeners, session tasks, and the order in which they start and stop.
//!
//! 1. Where there is money: the books are compared with the chain, before anything is served.
//! 2. The hub is a task of its own, and so are the journal and settlement.
//! 3. Two acceptors, one for clients and one for workers; each connection is a task.
//! 4. What the network says is followed: weights go to the core, a new contract ends the sessions of the old one.
//! 5. Shutdown: accept nothing more, drain, close the connections, write the books, join the tasks.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cocoon_ledger::Ledger;
use cocoon_net::{Acceptor, Connection, Fault, Pending};
use cocoon_units::Clock;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::books::{Books, Report};
use crate::config::ProxyConfig;
use crate::core::{Core, CoreConfig};
use crate::evidence::Evidence;
use crate::hub::{Handovers, Hub, HubMoney, Input, Recovery};
use crate::journal_task;
use crate::limits::{CLOSE_TIMEOUT, EVENTS_MAX};
use crate::money::{Money, ProxyError};
use crate::payments::Payments;
use crate::refused_peers::RefusedPeers;
use crate::session::worker_loop::RequestIds;
use crate::session::{SessionEnd, Terms, client_loop, worker_loop};
use crate::settlement::{Control, Desk, Means, Settlement};
use crate::status::{Board, Status};
use crate::tag::{TagOpener, Tags};
use crate::terms::ProxyTerms;

/// A proxy that has not started. See the crate.
pub struct Proxy {
    config: ProxyConfig,
    clock: Arc<dyn Clock>,
    clients: Arc<dyn Acceptor>,
    workers: Arc<dyn Acceptor>,
    board: Arc<Board>,
    drain: CancellationToken,
    terms: watch::Receiver<Arc<ProxyTerms>>,
    money: Option<Money>,
    control: Control,
}

/// Watches and stops a running proxy. Clones are the same proxy.
#[derive(Clone)]
pub struct ProxyHandle {
    board: Arc<Board>,
    drain: CancellationToken,
    control: Control,
}

impl Proxy {
    /// A proxy for these two listeners.
    #[must_use]
    pub fn new(
        config: ProxyConfig,
        clock: Arc<dyn Clock>,
        client_acceptor: Arc<dyn Acceptor>,
        worker_acceptor: Arc<dyn Acceptor>,
    ) -> Self {
        let (_, terms) = watch::channel(Arc::new(ProxyTerms::by_config(&config)));
        Self {
            terms,
            config,
            clock,
            clients: client_acceptor,
            workers: worker_acceptor,
            board: Arc::default(),
            drain: CancellationToken::new(),
            money: None,
            control: Control::default(),
        }
    }

    /// Follows what the network says, in the place of what the configuration says of it.
    #[must_use]
    pub fn with_terms(mut self, terms: watch::Receiver<Arc<ProxyTerms>>) -> Self {
        self.terms = terms;
        self
    }

    /// Charges clients and pays workers on a chain. It needs terms that name contracts ([`Proxy::with_terms`]).
    #[must_use]
    pub fn with_money(mut self, money: Money) -> Self {
        self.money = Some(money);
        self
    }

    /// A handle that outlives the start.
    #[must_use]
    pub fn handle(&self) -> ProxyHandle {
        let (board, drain) = (Arc::clone(&self.board), self.drain.clone());
        ProxyHandle { board, drain, control: self.control.clone() }
    }

    /// Runs until `shutdown` is cancelled (or [`ProxyHandle::drain`] called) and the drain is over.
    ///
    /// # Errors
    ///
    /// [`ProxyError`], when it must not serve, or not any more; it says what to do. Every connection is closed then.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ProxyError> {
        let drain_timeout = Duration::from_millis(self.config.drain_timeout_ms);
        let (inputs, received) = mpsc::channel(EVENTS_MAX);
        let (stop, drained) = (self.drain, CancellationToken::new());
        // When this future is dropped, no task outlives it for long.
        let _ends_acceptors = stop.clone().drop_guard();
        let _ends_sessions = drained.clone().drop_guard();
        let tasks = TaskTracker::new();
        let now = Arc::clone(&*self.terms.borrow());
        let opened = match self.money {
            None => Opened::without_money(self.config.core(now.pricing.multipliers, None)),
            Some(money) => {
                let opening = open(money, &self.config, self.terms.clone(), self.control, &inputs, &tasks, &drained);
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = stop.cancelled() => return Ok(()),
                    opened = opening => opened?,
                }
            }
        };
        let Opened { core, money, desk, tag_opener, handovers } = opened;
        let hub = Hub::new(core, now.contract(), money, Arc::clone(&self.clock), self.board, drained.clone());
        let shared = Arc::new(Shared {
            config: Arc::new(self.config),
            terms: self.terms.clone(),
            clock: self.clock,
            inputs,
            ids: AtomicU64::new(0),
            drained: drained.clone(),
            held_answers: Arc::default(),
            evidence: Evidence::default(),
            desk,
            tag_opener,
            handovers,
        });
        let mut hub = tasks.spawn(hub.run(received, stop.clone(), drain_timeout));
        tasks.spawn(follow(self.terms, Arc::clone(&shared), stop.clone()));
        tasks.spawn(accept(Role::Client, self.clients, Arc::clone(&shared), tasks.clone(), stop.clone()));
        tasks.spawn(accept(Role::Worker, self.workers, shared, tasks.clone(), stop.clone()));
        let ended_early = tokio::select! {
            () = shutdown.cancelled() => None,
            () = stop.cancelled() => None,
            ended = &mut hub => Some(ended),
        };
        info!("draining");
        stop.cancel();
        // A hub that panics is reported by its panic; the order below holds for it too.
        let ended = match ended_early {
            Some(ended) => ended,
            None => hub.await,
        };
        drained.cancel();
        tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, tasks.wait()).await.is_err() {
            warn!(tasks = tasks.len(), "some connections did not close in time");
        }
        ended.unwrap_or(Err(ProxyError::Core))
    }
}

/// What a proxy begins with.
struct Opened {
    core: Core,
    money: Option<HubMoney>,
    desk: Option<Desk>,
    tag_opener: Option<TagOpener>,
    handovers: Handovers,
}

impl Opened {
    fn without_money(config: CoreConfig) -> Self {
        let handovers = Handovers::default();
        Self { core: Core::new(config), money: None, desk: None, tag_opener: None, handovers }
    }
}

/// Opens the books: nothing may be served before the chain has agreed with them.
async fn open(
    money: Money,
    config: &ProxyConfig,
    terms: watch::Receiver<Arc<ProxyTerms>>,
    control: Control,
    inputs: &mpsc::Sender<Input>,
    tasks: &TaskTracker,
    drained: &CancellationToken,
) -> Result<Opened, ProxyError> {
    let Money { chain, policy, wallet, payment_key, journal: (journal, state), tag_key } = money;
    let ledger = Ledger::restore(state);
    let means = Means { chain, policy, wallet, payment_key: payment_key.clone() };
    let now = Arc::clone(&*terms.borrow());
    let settlement = Settlement::start(means, config.settlement.clone(), terms, control, &ledger).await?;
    let desk = settlement.desk();
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|_| ProxyError::Randomness)?;
    let tags = Tags::new(tag_key, salt);
    let tag_opener = tags.opener();
    let (line, writing) = journal_task::open(journal);
    tasks.spawn(writing);
    let (reports, shown) = watch::channel(Report::default());
    let books = Books { inputs: inputs.clone(), reports: shown };
    tasks.spawn(settlement.run(books, drained.clone()));
    let exposure = now.exposure(&config.settlement);
    let recovery = Recovery::new(&ledger, Duration::from_secs(config.settlement.recovery_s), Instant::now());
    let handovers = recovery.handovers();
    let money = HubMoney::new(Payments::new(payment_key), line, tags, reports, recovery);
    let core = Core::with_ledger(config.core(now.pricing.multipliers, Some(exposure)), ledger);
    Ok(Opened { core, money: Some(money), desk: Some(desk), tag_opener: Some(tag_opener), handovers })
}

impl ProxyHandle {
    /// The proxy at this moment; aggregates only.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = self.board.read();
        status.settlement = status.books.is_some().then(|| self.control.status());
        status
    }

    /// The same as Prometheus text.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.status().metrics()
    }

    /// Closes the proxy's contract: takes nobody new, settles all there is for the last time, and gives the owner what is
    /// left. The proxy goes on until [`ProxyHandle::drain`]; that should wait for [`ProxyHandle::closed`].
    pub fn close(&self) {
        self.control.close();
    }

    /// Once charges, pays and withdraws all there is, also what is not worth its fee.
    pub fn collect(&self) {
        self.control.collect();
    }

    /// Ends once all is done that can be done after [`ProxyHandle::close`].
    pub async fn closed(&self) {
        self.control.closed().await;
    }

    /// Refuses new requests, finishes those that run, and ends [`Proxy::run`].
    pub fn drain(&self) {
        self.drain.cancel();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("clients", &self.clients).field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl fmt::Debug for ProxyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyHandle").finish_non_exhaustive()
    }
}

/// What all sessions share.
pub(crate) struct Shared {
    config: Arc<ProxyConfig>,
    terms: watch::Receiver<Arc<ProxyTerms>>,
    clock: Arc<dyn Clock>,
    inputs: mpsc::Sender<Input>,
    ids: AtomicU64,
    drained: CancellationToken,
    held_answers: Arc<AtomicUsize>,
    evidence: Evidence,
    /// Both are there where there is money.
    desk: Option<Desk>,
    tag_opener: Option<TagOpener>,
    handovers: Handovers,
}

impl Shared {
    /// What a peer is offered at this moment.
    pub(crate) fn terms(&self) -> Terms {
        Terms { config: Arc::clone(&self.config), network: Arc::clone(&*self.terms.borrow()) }
    }

    /// A number that was never used for a peer or a request.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn unix_now(&self) -> f64 {
        self.clock.unix_now().as_secs_f64()
    }

    /// The same in milliseconds, as receipts count it.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.clock.unix_now().as_millis()
    }

    /// Bytes of answers held for want of credit, all clients together.
    pub(crate) fn held_answers(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.held_answers)
    }

    /// What was verified of workers.
    pub(crate) const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// What contracts on the chain hold; none without money.
    pub(crate) const fn desk(&self) -> Option<&Desk> {
        self.desk.as_ref()
    }

    /// Opens account tags of earlier runs; none without money.
    pub(crate) const fn tag_opener(&self) -> Option<&TagOpener> {
        self.tag_opener.as_ref()
    }

    /// Counts workers that hand over what was lost.
    pub(crate) const fn handovers(&self) -> &Handovers {
        &self.handovers
    }

    /// A number for a client to register with: nobody can know it before.
    pub(crate) fn nonce(&self) -> Option<u64> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).ok()?;
        Some(u64::from_le_bytes(nonce))
    }

    pub(crate) async fn tell(&self, input: Input) -> Result<(), SendError<Input>> {
        self.inputs.send(input).await
    }

    pub(crate) async fn room(&self) -> Result<mpsc::Permit<'_, Input>, SendError<()>> {
        self.inputs.reserve().await
    }

    /// Request ids of one connection.
    pub(crate) fn request_ids(&self) -> RequestIds {
        let mut prefix = [0; 24];
        if getrandom::fill(&mut prefix).is_err() {
            // Ids must be fresh, not secret: without randomness the connection's number will do.
            prefix = [0; 24];
            let (number, _) = prefix.split_at_mut(8);
            number.copy_from_slice(&self.next_id().to_le_bytes());
        }
        RequestIds::new(prefix)
    }
}

/// Tells the hub what changes. It looks at the terms as the hub did when it was made, so that nothing is missed.
async fn follow(mut terms: watch::Receiver<Arc<ProxyTerms>>, shared: Arc<Shared>, stop: CancellationToken) {
    terms.mark_changed();
    while let Some(Ok(())) = stop.run_until_cancelled(terms.changed()).await {
        let now = Arc::clone(&*terms.borrow_and_update());
        let moved = Input::Moved {
            contract: now.contract(),
            multipliers: now.pricing.multipliers,
            unsigned_max: now.exposure(&shared.config.settlement).tokens_max,
        };
        if shared.tell(moved).await.is_err() {
            return;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Client,
    Worker,
}

async fn accept(
    role: Role,
    acceptor: Arc<dyn Acceptor>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let refused = Arc::<RefusedPeers>::default();
    loop {
        let pending = tokio::select! {
            () = stop.cancelled() => return,
            pending = acceptor.accept() => pending,
        };
        match pending {
            Ok(pending) => {
                tasks.spawn(session(role, pending, Arc::clone(&shared), Arc::clone(&refused)));
            }
            Err(error) => {
                warn!(?role, %error, "a listener failed, the proxy drains");
                return stop.cancel();
            }
        }
    }
}

async fn session(role: Role, pending: Pending, shared: Arc<Shared>, refused: Arc<RefusedPeers>) {
    let connection = tokio::select! {
        () = shared.drained.cancelled() => return,
        connection = pending.handshake() => connection,
    };
    let mut connection = match connection {
        Ok(connection) => connection,
        Err(error) => return refused.log(role, &error),
    };
    let end = match role {
        Role::Client => until_drained(&shared, client_loop::serve(&mut connection, &shared)).await,
        Role::Worker => until_drained(&shared, worker_loop::serve(&mut connection, &shared)).await,
    };
    log_end(role, &end);
    say_goodbye(&mut connection).await;
}

/// After the drain no session reads on: what is queued for its peer is written by the goodbye.
async fn until_drained(shared: &Shared, session: impl Future<Output = SessionEnd>) -> SessionEnd {
    tokio::select! {
        () = shared.drained.cancelled() => SessionEnd::Shutdown,
        end = session => end,
    }
}

/// Writes out what is queued, such as the refusal, within the bound that the connection has for it.
async fn say_goodbye(connection: &mut Connection) {
    connection.outbox().close();
    while connection.next().await.is_ok() {}
}

fn log_end(role: Role, end: &SessionEnd) {
    match end {
        SessionEnd::PeerViolation(violation) => warn!(?role, %violation, "connection ended; blame: peer"),
        SessionEnd::PeerRefused(refusal) => warn!(?role, %refusal, "handshake refused"),
        SessionEnd::PeerNotAuthorized | SessionEnd::PeerTooSlow(_) => warn!(?role, reason = %end, "connection ended"),
        SessionEnd::Connection(error) if error.fault() == Fault::Peer => {
            debug!(?role, %error, "connection ended; blame: peer");
        }
        SessionEnd::Connection(_) | SessionEnd::Shutdown => debug!(?role, reason = %end, "connection ended"),
    }
}
