//! The whole worker: one uplink a proxy, one watch on the engine, and the operator's handle.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cocoon_net::ratls::Prover;
use cocoon_net::{Backoff, Directory};
use cocoon_ton::chain::watch::RootConfig;
use cocoon_units::{Clock, Coefficient, Multipliers};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::earnings::books::Books;
use crate::earnings::desk::Desk;
use crate::earnings::{self, Earnings, EarningsError, Money};
use crate::engine::{Engine, Health};
use crate::error::SessionError;
use crate::limits::{HEALTH_FAILURES_MAX, HEALTH_INTERVAL_READY, HEALTH_INTERVAL_UNREADY};
use crate::receipts::{ReceiptSigner, Receipts};
use crate::session::{Session, Watermark, shake_hands};
use crate::status::{EngineState, Metrics, ProxyState, Status};
use crate::terms::{News, Terms};

/// What the worker offers to proxies; the one thing that sessions watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Absent until the engine has listed its models.
    pub(crate) model: Option<Arc<str>>,
    pub(crate) coefficient: Coefficient,
    /// The operator's switch.
    pub(crate) enabled: bool,
    pub(crate) engine: EngineState,
}

impl Offer {
    /// Whether requests are taken.
    pub(crate) fn is_open(&self) -> bool {
        self.enabled && self.engine == EngineState::Ready
    }
}

/// What all parts of a worker share.
pub(crate) struct Shared {
    pub(crate) config: WorkerConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) offer: watch::Sender<Offer>,
    pub(crate) metrics: Metrics,
    /// What the root contract says; none where there is no chain.
    pub(crate) terms: Option<Terms>,
    /// What is earned; none where there is no chain.
    pub(crate) books: OnceLock<Arc<Books>>,
    /// What signs receipts, where anything does.
    pub(crate) receipts: OnceLock<Receipts>,
    proxies: Mutex<BTreeMap<u32, ProxyState>>,
}

/// A worker that has not been started.
pub struct Worker {
    shared: Arc<Shared>,
    directory: Directory,
    prover: Option<Arc<Prover>>,
    desk: Option<Desk>,
}

/// Changes and watches a running worker. Clones are handles to the same one.
#[derive(Clone)]
pub struct WorkerHandle {
    shared: Arc<Shared>,
}

impl Worker {
    /// A worker for these proxies: a list of dialers, or a directory that changes.
    ///
    /// # Errors
    /// When the configuration does not fit the protocol.
    pub fn new(
        config: WorkerConfig,
        clock: Arc<dyn Clock>,
        engine: Arc<dyn Engine>,
        proxies: impl Into<Directory>,
    ) -> Result<Self, crate::ConfigError> {
        Self::build(config, clock, engine, proxies.into(), None)
    }

    /// The same, by what the root contract says: it gives the weights of tokens, and the contracts that proxies must
    /// name.
    ///
    /// # Errors
    /// When the configuration does not fit the protocol, or names no wallet that could be paid.
    pub fn by_root(
        config: WorkerConfig,
        clock: Arc<dyn Clock>,
        engine: Arc<dyn Engine>,
        proxies: impl Into<Directory>,
        root: watch::Receiver<Arc<RootConfig>>,
    ) -> Result<Self, crate::ConfigError> {
        let owner = config.owner_address.parse().map_err(|_| crate::ConfigError::Field {
            field: "owner_address",
            problem: "must be the address of the wallet that is paid",
        })?;
        Self::build(config, clock, engine, proxies.into(), Some(Terms::new(owner, root)))
    }

    fn build(
        config: WorkerConfig,
        clock: Arc<dyn Clock>,
        engine: Arc<dyn Engine>,
        directory: Directory,
        terms: Option<Terms>,
    ) -> Result<Self, crate::ConfigError> {
        config.check()?;
        let offer = Offer {
            model: config.model.as_deref().map(Arc::from),
            coefficient: config.coefficient,
            enabled: config.enabled,
            engine: EngineState::Loading,
        };
        let known = directory.clone().look().into_iter().map(|number| (number, ProxyState::unconnected(number)));
        let proxies = Mutex::new(known.collect());
        let (offer, metrics) = (watch::Sender::new(offer), Metrics::default());
        let (books, receipts) = (OnceLock::new(), OnceLock::new());
        let shared = Arc::new(Shared { config, clock, engine, offer, metrics, terms, books, receipts, proxies });
        Ok(Self { shared, directory, prover: None, desk: None })
    }

    /// Lets the evidence that this worker shows its proxies name its model, as soon as the engine has said which it is.
    /// Proxies refuse a worker whose evidence names another model than it offers.
    #[must_use]
    pub fn with_prover(mut self, prover: Arc<Prover>) -> Self {
        self.prover = Some(prover);
        self
    }

    /// Signs receipts for clients that ask for them. The evidence that this worker shows must name the key.
    #[must_use]
    pub fn with_receipts(self, signer: ReceiptSigner) -> Self {
        // A second call changes nothing: receipts under two keys would make one of them worthless.
        let _ = self.shared.receipts.set(Receipts::new(signer));
        self
    }

    /// Keeps what proxies sign, and cashes it by the rules of [`EarningsConfig`](crate::EarningsConfig).
    ///
    /// # Errors
    /// When the worker follows no root ([`Self::by_root`]), or the folder cannot be used.
    pub fn with_money(mut self, money: Money) -> Result<Self, EarningsError> {
        if self.shared.terms.is_none() {
            return Err(EarningsError::NoRoot);
        }
        let config = self.shared.config.earnings.clone();
        let books = Arc::new(earnings::open(&money.folder, config, Arc::clone(&self.shared.clock))?);
        let books = self.shared.books.get_or_init(|| books);
        self.desk = Some(Desk::new(Arc::clone(books), money));
        Ok(self)
    }

    /// The operator's handle.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle { shared: Arc::clone(&self.shared) }
    }

    /// Serves until shutdown is asked for, then lets running requests finish.
    pub async fn run(self, shutdown: CancellationToken) {
        let uplinks = keep_uplinks(Arc::clone(&self.shared), self.directory, self.prover, shutdown);
        let desk = async {
            match self.desk {
                Some(desk) => desk.run().await,
                None => std::future::pending().await,
            }
        };
        // Sessions end by themselves on shutdown; engine and earnings are looked after for as long as they live.
        tokio::select! {
            () = watch_engine(&self.shared) => {}
            () = desk => {}
            () = uplinks => {}
        }
        if let Some(books) = self.shared.books.get() {
            books.sync().await;
        }
    }
}

/// One uplink for each proxy of the directory, until shutdown. A proxy that leaves it gets no connection any more; what
/// it has running may finish.
async fn keep_uplinks(
    shared: Arc<Shared>,
    mut directory: Directory,
    prover: Option<Arc<Prover>>,
    shutdown: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    let mut running: HashMap<u32, CancellationToken> = HashMap::new();
    loop {
        let listed = directory.look();
        running.retain(|number, stop| {
            let stays = listed.contains(number);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for number in listed {
            running.entry(number).or_insert_with(|| {
                let stop = shutdown.child_token();
                let (shared, prover) = (Arc::clone(&shared), prover.clone());
                let uplink = Uplink { shared, directory: directory.clone(), prover, number };
                let stopped = stop.clone();
                tasks.spawn(async move { uplink.run(&stopped).await });
                stop
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = directory.changed() => {}
            // Collected as they end; the next one is waited for while there is one.
            Some(_) = tasks.join_next() => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

impl WorkerHandle {
    /// Takes requests, or takes no more; what runs goes on.
    pub fn set_enabled(&self, enabled: bool) {
        self.shared.change(|offer| offer.enabled = enabled);
    }

    /// Changes the price of requests that come from now on.
    pub fn set_coefficient(&self, coefficient: Coefficient) {
        self.shared.change(|offer| offer.coefficient = coefficient);
    }

    /// How the worker is.
    #[must_use]
    pub fn status(&self) -> Status {
        let offer = self.shared.offer.borrow().clone();
        let proxies = self.shared.proxies.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect();
        self.shared.metrics.status(&offer, proxies)
    }

    /// The same in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        crate::status::prometheus(&self.status(), self.earnings().as_ref())
    }

    /// What was earned, proxy by proxy; none without [`Worker::with_money`]. It names addresses: for the owner only.
    #[must_use]
    pub fn earnings(&self) -> Option<Earnings> {
        self.shared.books.get().map(|books| Earnings::of_books(books))
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Offer)) {
        self.offer.send_if_modified(|offer| {
            let before = offer.clone();
            change(offer);
            *offer != before
        });
    }

    fn set_proxy(&self, state: ProxyState) {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).insert(state.number, state);
    }

    fn forget_proxy(&self, number: u32) {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// The weights of tokens at this moment: the root's, where there is one.
    pub(crate) fn multipliers(&self) -> Multipliers {
        self.terms.as_ref().map_or(self.config.multipliers, Terms::multipliers)
    }

    /// Requests one proxy may send at once.
    fn slots(&self, proxy_count: u32) -> u32 {
        self.config.max_active_requests.div_ceil(proxy_count.max(1))
    }
}

/// The connection to one proxy, made again whenever it is lost.
struct Uplink {
    shared: Arc<Shared>,
    directory: Directory,
    prover: Option<Arc<Prover>>,
    number: u32,
}

impl Uplink {
    async fn run(self, shutdown: &CancellationToken) {
        let mut backoff = Backoff::new(random_seed());
        let mut news = News::of(&self.directory, self.shared.terms.as_ref());
        let mut watermark = Watermark::default();
        let Some(model) = shutdown.run_until_cancelled(self.model()).await else {
            return;
        };
        if let Some(prover) = &self.prover {
            // Before the first dial: what is dialled is shown evidence at once.
            prover.set_model(Some(model.to_string()));
        }
        self.shared.set_proxy(ProxyState::unconnected(self.number));
        while !shutdown.is_cancelled() {
            let delay = backoff.delay(Instant::now().into_std());
            if shutdown.run_until_cancelled(news.pause(delay)).await.is_none() {
                break;
            }
            let error = self.connect(&mut backoff, &mut watermark, &model, shutdown).await;
            self.shared.set_proxy(ProxyState::unconnected(self.number));
            if let Err(error) = error {
                tracing::warn!(proxy = self.number, error = error.as_ref(), "connection to the proxy ended");
            }
        }
        if self.directory.dialer(self.number).is_none() {
            self.shared.forget_proxy(self.number);
        }
    }

    /// Among how many proxies the slots are shared.
    fn proxy_count(&self) -> u32 {
        u32::try_from(self.directory.len()).unwrap_or(u32::MAX).max(1)
    }

    /// The model's name, as soon as it is known.
    async fn model(&self) -> Arc<str> {
        let mut offer = self.shared.offer.subscribe();
        loop {
            let model = offer.borrow_and_update().model.clone();
            match model {
                Some(model) => return model,
                // The sender lives in `shared`, so a change will come.
                None => drop(offer.changed().await),
            }
        }
    }

    /// One connection, to its end. An end by shutdown is no error.
    async fn connect(
        &self,
        backoff: &mut Backoff,
        watermark: &mut Watermark,
        model: &str,
        shutdown: &CancellationToken,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // One that has just left the directory is not dialled; its token ends the loop.
        let Some(dialer) = self.directory.dialer(self.number) else { return Ok(()) };
        let proxy_count = self.proxy_count();
        let opening = async {
            let mut connection = dialer.dial().await?;
            let agreed = shake_hands(&self.shared, &mut connection, watermark, model, proxy_count).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((connection, agreed))
        };
        let Some(opened) = shutdown.run_until_cancelled(opening).await else {
            return Ok(());
        };
        let (connection, (agreed, early)) = opened?;
        backoff.handle_connected(Instant::now().into_std());
        let version = agreed.version.number();
        tracing::info!(proxy = self.number, version, "connected to the proxy");
        let slots = self.shared.slots(proxy_count);
        let state = ProxyState { number: self.number, connected: true, proto_version: Some(version), slots };
        self.shared.set_proxy(state);
        let session = Session::new(Arc::clone(&self.shared), connection, agreed, watermark, slots);
        let ended = session.run(early, shutdown).await;
        if let SessionError::Shutdown = ended { Ok(()) } else { Err(ended.into()) }
    }
}

/// Asks the engine how it is, for ever.
///
/// An engine that was ready is given up only after several failed checks: it may be busy with a prompt.
async fn watch_engine(shared: &Shared) {
    let mut failures = 0_u32;
    loop {
        let health = shared.engine.health().await;
        let state = match &health {
            Health::Ready => EngineState::Ready,
            Health::Loading => EngineState::Loading,
            Health::Failed(_) => EngineState::Failed,
        };
        failures = if state == EngineState::Failed { failures.saturating_add(1) } else { 0 };
        let before = shared.offer.borrow().engine;
        let patience = before == EngineState::Ready && failures > 0 && failures < HEALTH_FAILURES_MAX;
        if !patience {
            if before != state {
                log_change(before, &health);
            }
            let found = shared.engine.models().into_iter().next();
            shared.change(|offer| {
                offer.engine = state;
                if offer.model.is_none() {
                    offer.model = found.map(|model| model.id.into());
                }
            });
        }
        let settled = state == EngineState::Ready;
        sleep(if settled { HEALTH_INTERVAL_READY } else { HEALTH_INTERVAL_UNREADY }).await;
    }
}

/// One line for every change: an operator whose worker gets no requests finds the reason here.
fn log_change(before: EngineState, health: &Health) {
    match health {
        Health::Ready => tracing::info!("the engine is ready; requests are taken"),
        Health::Loading if before == EngineState::Ready => {
            tracing::warn!("the engine is loading its model; no requests are taken");
        }
        Health::Loading => tracing::info!("the engine is loading its model; no requests are taken"),
        Health::Failed(why) => tracing::warn!(why, "the engine does not work; no requests are taken"),
    }
}

/// Differs between processes and uplinks, which is all that jitter needs.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("config", &self.shared.config).field("proxies", &self.directory).finish()
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle").field("status", &self.status()).finish()
    }
}
