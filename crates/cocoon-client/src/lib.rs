//! The client role: OpenAI HTTP in, Cocoon proxy sessions out.
//!
//! An app points its OpenAI SDK at this client, which runs on the app's own host; the client sends
//! each request to a proxy of the network and passes the answer back as it comes.
//! It is not a gateway to other APIs: bodies travel byte for byte, except for what is named in
//! `request` (fields that are this network's own, a missing token limit, usage).
//!
//! 1. `http` accepts connections, refuses strangers (`gate`), reads the body once.
//! 2. `request` reads what the network must know, and makes the envelope.
//! 3. `pool` chooses a proxy; `session` keeps a connection to each.
//! 4. `session::link` sends the request and hands answer messages to `session::answer`, out of
//!    which `http::stream` feeds the app, with credit and cancellation.
//! 5. `error` is the only place that knows HTTP statuses.
//!
//! Prompts and answers appear in no log, error or status.

mod attestations;
mod chunks;
mod config;
mod error;
mod http;
mod keys;
pub mod limits;
mod models;
mod pool;
mod request;
mod session;
mod status;
mod terms;

use std::{collections::HashMap, fmt, io, net::SocketAddr, sync::Arc};

use cocoon_net::Directory;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_units::{Clock, Pricing};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{attestations::Attestations, pool::Pool, session::Keeper, status::Metrics, terms::Terms};
pub use crate::{
    config::{AuthSecret, ClientConfig, ConfigError, LimitsConfig},
    http::Accept,
    keys::{ApiKey, ApiKeyHash, KeyError},
    pool::ProxyStatus,
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
        let pool = Pool::new(&directory.clone().look());
        let bodies = Arc::new(Semaphore::new(config.limits.bodies_bytes));
        let shared = Shared {
            config: Arc::new(config),
            clock,
            pool,
            terms,
            attestations: Arc::default(),
            metrics: Metrics::default(),
            bodies,
        };
        Ok(Self { shared: Arc::new(shared), directory })
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
        sessions.close();
        http::serve(listener, bound, Arc::clone(&self.shared), shutdown).await;
        sessions_stop.cancel();
        sessions.wait().await;
        Ok(())
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
        self.metrics.status(self.pool.status(), self.pool.models().len())
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
