//! The client role: OpenAI HTTP in, Cocoon proxy sessions out.
//!
//! An app points its OpenAI SDK at this client, which runs on the app's own host; the client sends
//! each request to a proxy of the network and passes the answer back as it comes.
//! It is not a gateway to other APIs: bodies travel byte for byte, except for what is named in
//! `request` (fields that are this network's own, a missing token limit, usage).
//!
//! 1. `http` accepts connections, refuses strangers (`gate`), reads the body once.
//! 2. `dialect` makes a chat body of other APIs' requests, and their answers of chat answers.
//! 3. `request` reads what the network must know, and makes the envelope.
//! 4. `pool` chooses a proxy; `session` keeps a connection to each.
//! 5. `session::link` sends the request and hands answer messages to `session::answer`, out of
//!    which `http::stream` feeds the app, with credit and cancellation.
//! 6. `error` is the only place that knows HTTP statuses.
//!
//! Prompts and answers appear in no log, error or status.

mod attestations;
mod budget;
mod chunks;
mod config;
mod dialect;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod keys;
pub mod limits;
mod models;
mod pool;
mod receipts;
mod request;
mod session;
mod status;
mod terms;

use std::{collections::HashMap, fmt, io, net::SocketAddr, sync::Arc};

use cocoon_attest::Policy;
use cocoon_net::Directory;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_units::{Clock, Pricing};
use tokio::{
    sync::{Semaphore, watch},
    time::{interval, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    attestations::Attestations,
    budget::{
        Budget,
        desk::{By, Desk},
    },
    pool::Pool,
    receipts::Receipts,
    session::Keeper,
    status::Metrics,
    terms::Terms,
};
pub use crate::{
    budget::{
        BudgetError, BudgetStatus,
        desk::{ContractReport, DeskError, DeskRow, ExitStep, Money, MoneyError, Teller, contracts},
    },
    config::{AuthSecret, BudgetConfig, ClientConfig, ConfigError, LimitsConfig},
    http::Accept,
    keys::{ApiKey, ApiKeyConfig, ApiKeyHash, KeyError},
    pool::{BreakerState, ProxyStatus},
    receipts::ReceiptsStatus,
    status::Status,
};

/// A client that has not begun to serve.
pub struct Client {
    shared: Arc<Shared>,
    directory: Directory,
}

/// What all tasks of one client share.
pub(crate) struct Shared {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pool: Pool,
    /// What the root contract says; none where there is no chain.
    pub(crate) terms: Option<Terms>,
    pub(crate) attestations: Arc<Attestations>,
    pub(crate) metrics: Metrics,
    /// What is owed and what may be spent; in memory where there is no money.
    pub(crate) budget: Arc<Budget>,
    /// What proves it.
    pub(crate) receipts: Arc<Receipts>,
    /// What is done on chain; none without money.
    pub(crate) desk: Option<Desk>,
    /// Room for request bodies, a permit a byte.
    pub(crate) bodies: Arc<Semaphore>,
}

impl Client {
    /// Makes a client of one owner for these proxies: a list of dialers, or a directory that changes.
    ///
    /// # Errors
    ///
    /// When the configuration could not be served safely; see [`ConfigError`].
    pub fn new(
        config: ClientConfig,
        clock: Arc<dyn Clock>,
        proxies: impl Into<Directory>,
    ) -> Result<Self, ConfigError> {
        Self::build(config, clock, proxies.into(), None)
    }

    /// The same, by what the root contract says: it gives the price, how new a proxy's view of it must be, and the
    /// contracts that proxies must name.
    ///
    /// # Errors
    ///
    /// As [`Client::new`], and when `owner_address` is no wallet.
    pub fn by_root(
        config: ClientConfig,
        clock: Arc<dyn Clock>,
        proxies: impl Into<Directory>,
        root: watch::Receiver<Arc<RootConfig>>,
    ) -> Result<Self, ConfigError> {
        let owner = config.owner_address.parse().map_err(|_| ConfigError::NoWallet)?;
        Self::build(config, clock, proxies.into(), Some(Terms::new(owner, root)))
    }

    fn build(
        config: ClientConfig,
        clock: Arc<dyn Clock>,
        directory: Directory,
        terms: Option<Terms>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let pool = Pool::new(&directory.clone().look(), rand::random());
        let bodies = Arc::new(Semaphore::new(config.limits.bodies_bytes));
        let budget = Arc::new(Budget::in_memory(&config, Arc::clone(&clock)));
        let receipts = Arc::new(Receipts::new(Arc::clone(&clock)));
        if let Some(terms) = &terms {
            receipts.follow(terms.root());
        }
        let shared = Shared {
            config: Arc::new(config),
            clock,
            pool,
            terms,
            attestations: Arc::default(),
            metrics: Metrics::default(),
            budget,
            receipts,
            desk: None,
            bodies,
        };
        Ok(Self { shared: Arc::new(shared), directory })
    }

    /// The same, paying for what it uses: each funded proxy has a contract that this client deploys, tops up and closes,
    /// and books and receipts are kept in the folder of `money`. Call it first.
    ///
    /// # Errors
    ///
    /// When there is no root to go by, the wallet is not `owner_address`, or what is kept cannot be read.
    pub fn with_money(mut self, money: Money) -> Result<Self, MoneyError> {
        let shared = Arc::get_mut(&mut self.shared).ok_or(MoneyError::TooLate)?;
        let configured = shared.terms.as_ref().ok_or(MoneyError::NoRoot)?.owner();
        let wallet = money.sender.address();
        if configured != wallet {
            return Err(MoneyError::OtherOwner { configured, wallet });
        }
        shared.budget = Arc::new(Budget::open(&money.folder, &shared.config, Arc::clone(&shared.clock))?);
        shared.receipts.open(&money.folder)?;
        shared.desk = Some(Desk::open(money, &shared.config.budget)?);
        Ok(self)
    }

    /// Chooses among equal proxies by this seed, so that a test or a simulation can be run again. Call it before serving.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.pool = Pool::new(&self.directory.clone().look(), seed);
        }
        self
    }

    /// Judges the evidence behind receipt keys by this policy for workers, as it is at each moment. Without it, evidence is
    /// checked under the policy that it brings along, which says only that it is consistent.
    #[must_use]
    pub fn with_worker_policy(self, policy: watch::Receiver<Arc<Policy>>) -> Self {
        self.shared.receipts.set_policy(policy);
        self
    }

    /// A view of the client that outlives [`Client::serve`]'s taking it.
    #[must_use]
    pub fn handle(&self) -> ClientHandle {
        ClientHandle { shared: Arc::clone(&self.shared) }
    }

    /// Serves until `shutdown`, then drains: answers that have begun are finished, within
    /// [`LimitsConfig::drain_timeout_ms`], before the sessions with the proxies are closed.
    ///
    /// # Errors
    ///
    /// When the listener is bound off loopback and no API key is configured.
    pub async fn serve<A: Accept>(self, listener: A, shutdown: CancellationToken) -> Result<(), ServeError> {
        let bound = listener.local_addr()?;
        if let Some(address) = bound {
            self.shared.config.check_address(address)?;
        }
        let sessions = TaskTracker::new();
        let sessions_stop = CancellationToken::new();
        // Were this future dropped, its sessions would end too.
        let _stop_on_drop = sessions_stop.clone().drop_guard();
        sessions.spawn(keep_sessions(
            Arc::clone(&self.shared),
            self.directory,
            sessions.clone(),
            sessions_stop.clone(),
        ));
        sessions.spawn(keep_books(Arc::clone(&self.shared), sessions_stop.clone()));
        sessions.spawn(Arc::clone(&self.shared.receipts).run(sessions_stop.clone()));
        sessions.spawn(keep_desk(Arc::clone(&self.shared), sessions_stop.clone()));
        sessions.close();
        http::serve(listener, bound, Arc::clone(&self.shared), shutdown).await;
        sessions_stop.cancel();
        sessions.wait().await;
        Ok(())
    }
}

/// Writes what ended, soon and together, and brings the budget's file to the disk, now and then and at the end.
async fn keep_books(shared: Arc<Shared>, stop: CancellationToken) {
    let Shared { budget, receipts, .. } = &*shared;
    let mut sync = interval(limits::BUDGET_SYNC_INTERVAL);
    while !stop.is_cancelled() {
        tokio::select! {
            () = budget.news() => {
                sleep(limits::ENDS_FLUSH_AFTER).await;
                budget.flush();
                receipts.flush();
                continue;
            }
            () = stop.cancelled() => {}
            _ = sync.tick() => {}
        }
        if budget.is_kept() {
            let budget = Arc::clone(budget);
            // It ends otherwise only when the runtime does, and then what was written is still in the file.
            let _ = tokio::task::spawn_blocking(move || budget.maintain()).await;
        }
    }
    receipts.flush();
}

/// Tends the contracts, until it is stopped. What is under way then, the next process sees through.
async fn keep_desk(shared: Arc<Shared>, stop: CancellationToken) {
    let (Some(desk), Some(terms)) = (&shared.desk, &shared.terms) else { return };
    tokio::select! {
        () = stop.cancelled() => {}
        () = desk.run(By { budget: &shared.budget, terms }) => {}
    }
}

/// A session with each proxy of the directory, until it is stopped.
async fn keep_sessions(shared: Arc<Shared>, mut directory: Directory, sessions: TaskTracker, stop: CancellationToken) {
    let mut running: HashMap<u32, CancellationToken> = HashMap::new();
    loop {
        let listed = directory.look();
        running.retain(|number, retired| {
            let stays = listed.contains(number);
            if !stays {
                tracing::info!(proxy = number, "the proxy is no longer registered");
                shared.pool.remove(*number);
                retired.cancel();
            }
            stays
        });
        for number in listed {
            running.entry(number).or_insert_with(|| {
                let retired = CancellationToken::new();
                let proxy = shared.pool.open(number);
                let keeper = Keeper { directory: directory.clone(), proxy, shared: Arc::clone(&shared) };
                sessions.spawn(keeper.keep(retired.clone(), stop.clone()));
                retired
            });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = directory.changed() => {}
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("proxies", &self.directory).finish_non_exhaustive()
    }
}

/// Reads a running client's state.
#[derive(Clone)]
pub struct ClientHandle {
    shared: Arc<Shared>,
}

impl ClientHandle {
    /// A snapshot of everything that is counted.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// The text of `/metrics`.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.shared.metrics.render(&self.status())
    }
}

impl fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandle").finish_non_exhaustive()
    }
}

impl Shared {
    /// What a token costs: as the root says, where there is one.
    pub(crate) fn pricing(&self) -> Pricing {
        self.terms.as_ref().map_or(self.config.pricing, Terms::pricing)
    }

    /// The oldest root that a proxy may work by.
    pub(crate) fn min_config_version(&self) -> i32 {
        self.terms.as_ref().map_or(self.config.min_config_version, Terms::min_config_version)
    }

    pub(crate) fn status(&self) -> Status {
        self.metrics.status(self.pool.status(), self.pool.models().len(), self.receipts.status(), self.budget.status())
    }
}

/// Why a client did not begin to serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The listener's address needs API keys.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The listener does not know its own address.
    #[error("the listening socket has no address")]
    Listener(#[from] io::Error),
}

/// Where a listener is bound, when it is a socket.
type Bound = Option<SocketAddr>;
