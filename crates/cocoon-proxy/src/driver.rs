//! The driver: listeners, session tasks, and the order in which they start and stop.
//!
//! 1. Two acceptors, one for clients and one for workers; each connection is a task.
//! 2. The hub is a task of its own.
//! 3. What the network says is followed: weights go to the core, a new contract ends the sessions of the old one.
//! 4. Shutdown: accept nothing more, drain, close the connections, join the tasks.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cocoon_net::{Acceptor, Connection, Fault, Pending};
use cocoon_units::Clock;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::config::ProxyConfig;
use crate::core::{Core, Event};
use crate::hub::{Hub, Input};
use crate::limits::{CLOSE_TIMEOUT, EVENTS_MAX};
use crate::refused_peers::RefusedPeers;
use crate::session::worker_loop::RequestIds;
use crate::session::{SessionEnd, Terms, client_loop, worker_loop};
use crate::status::{Board, Status};
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
}

/// Watches and stops a running proxy. Clones are the same proxy.
#[derive(Clone)]
pub struct ProxyHandle {
    board: Arc<Board>,
    drain: CancellationToken,
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
        }
    }

    /// Follows what the network says, in the place of what the configuration says of it.
    #[must_use]
    pub fn with_terms(mut self, terms: watch::Receiver<Arc<ProxyTerms>>) -> Self {
        self.terms = terms;
        self
    }

    /// A handle that outlives the start.
    #[must_use]
    pub fn handle(&self) -> ProxyHandle {
        ProxyHandle { board: Arc::clone(&self.board), drain: self.drain.clone() }
    }

    /// Runs until `shutdown` is cancelled (or [`ProxyHandle::drain`] called) and the drain is over.
    pub async fn run(self, shutdown: CancellationToken) {
        let drain_timeout = Duration::from_millis(self.config.drain_timeout_ms);
        let (inputs, received) = mpsc::channel(EVENTS_MAX);
        let (stop, drained) = (self.drain, CancellationToken::new());
        // When this future is dropped, no task outlives it for long.
        let _ends_acceptors = stop.clone().drop_guard();
        let _ends_sessions = drained.clone().drop_guard();
        let now = Arc::clone(&*self.terms.borrow());
        let core = Core::new(self.config.core(now.pricing.multipliers));
        let hub = Hub::new(core, now.contract(), Arc::clone(&self.clock), self.board, drained.clone());
        let shared = Arc::new(Shared {
            config: Arc::new(self.config),
            terms: self.terms.clone(),
            clock: self.clock,
            inputs,
            ids: AtomicU64::new(0),
            drained: drained.clone(),
            held_answers: Arc::default(),
        });
        let tasks = TaskTracker::new();
        let mut hub = tasks.spawn(hub.run(received, stop.clone(), drain_timeout));
        tasks.spawn(follow(self.terms, Arc::clone(&shared), stop.clone()));
        tasks.spawn(accept(Role::Client, self.clients, Arc::clone(&shared), tasks.clone(), stop.clone()));
        tasks.spawn(accept(Role::Worker, self.workers, shared, tasks.clone(), stop.clone()));
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = stop.cancelled() => {}
            _ = &mut hub => error!("the core stopped: a balance could not be trusted any more"),
        }
        info!("draining");
        stop.cancel();
        if !hub.is_finished() {
            // A hub that panics while it drains is reported by its panic; the order below holds for it too.
            let _ = hub.await;
        }
        drained.cancel();
        tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, tasks.wait()).await.is_err() {
            warn!(tasks = tasks.len(), "some connections did not close in time");
        }
    }
}

impl ProxyHandle {
    /// The proxy at this moment; aggregates only.
    #[must_use]
    pub fn status(&self) -> Status {
        self.board.read()
    }

    /// The same as Prometheus text.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.status().metrics()
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

    /// Bytes of answers held for want of credit, all clients together.
    pub(crate) fn held_answers(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.held_answers)
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
        let weighed = Event::Weighed { multipliers: now.pricing.multipliers };
        let told = async {
            shared.tell(Input::Event(weighed)).await?;
            shared.tell(Input::Moved { contract: now.contract() }).await
        };
        if told.await.is_err() {
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
        SessionEnd::PeerNotAuthorized | SessionEnd::PeerTooSlow => warn!(?role, reason = %end, "connection ended"),
        SessionEnd::Connection(error) if error.fault() == Fault::Peer => {
            debug!(?role, %error, "connection ended; blame: peer");
        }
        SessionEnd::Connection(_) | SessionEnd::Shutdown => debug!(?role, reason = %end, "connection ended"),
    }
}
