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

use std::{fmt, io, net::SocketAddr, sync::Arc};

use cocoon_net::Dialer;
use cocoon_units::Clock;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{attestations::Attestations, pool::Pool, session::Keeper, status::Metrics};
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
    dialers: Vec<Arc<dyn Dialer>>,
}

/// What all tasks of one client share.
pub(crate) struct Shared {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pool: Pool,
    pub(crate) attestations: Arc<Attestations>,
    pub(crate) metrics: Metrics,
    /// Room for request bodies, a permit a byte.
    pub(crate) bodies: Arc<Semaphore>,
}

impl Client {
    /// Makes a client of one owner for the proxies that the dialers reach.
    ///
    /// # Errors
    ///
    /// When the configuration could not be served safely; see [`ConfigError`].
    pub fn new(
        config: ClientConfig,
        clock: Arc<dyn Clock>,
        dialers: Vec<Arc<dyn Dialer>>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let pool = Pool::new(dialers.len());
        let bodies = Arc::new(Semaphore::new(config.limits.bodies_bytes));
        let shared = Shared {
            config: Arc::new(config),
            clock,
            pool,
            attestations: Arc::default(),
            metrics: Metrics::default(),
            bodies,
        };
        Ok(Self { shared: Arc::new(shared), dialers })
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
        for (dialer, proxy) in self.dialers.into_iter().zip(self.shared.pool.proxies()) {
            let session = Keeper {
                dialer,
                proxy: Arc::clone(proxy),
                config: Arc::clone(&self.shared.config),
                attestations: Arc::clone(&self.shared.attestations),
            };
            sessions.spawn(session.keep(sessions_stop.clone()));
        }
        sessions.close();
        http::serve(listener, bound, Arc::clone(&self.shared), shutdown).await;
        sessions_stop.cancel();
        sessions.wait().await;
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("proxies", &self.dialers.len()).finish_non_exhaustive()
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
