//! Following the root: who belongs to the network and on which terms, as a snapshot that only ever gets newer.
//!
//! 1. The root's account is read when it may have changed, and every `poll` anyway.
//! 2. `judge` decides, without IO, whether what was read replaces what is known: its version must be higher, its
//!    mode and network the same, its layout known to the bit. Everything else keeps the last good one and is a
//!    [`RootWatch::problem`].
//! 3. How old the last good reading is counts by the chain's own time in it. A server that freezes the chain, or is
//!    cut off, so makes the root stale, after which a role stops ([`RootWatch::is_stale`]).
//! 4. With a cache file, a restart neither waits for the chain nor accepts an older root than the last process knew.
//!
//! It does not decide what a change means; roles do, each for itself. Nor does it compare the chain's time with this
//! machine's: a development network's time may be set. Under [`ChainPolicy::InsecureReported`], a server that tells a
//! time far ahead once can so keep a root from ever becoming stale in this process; with proved answers it cannot, since
//! the time is the block's.

mod cache;
mod judge;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cocoon_units::UnixTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::cache::Cache;
use self::judge::{Judged, judge};
use super::{Chain, ChainError, ChainPolicy, Head, TxId};
use crate::address::Address;
use crate::contract::{RootState, StateError};
use crate::limits::{ROOT_PAUSE, ROOT_STALE_S, ROOT_START_ATTEMPTS};

/// A root as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootConfig {
    /// Where it is.
    pub address: Address,
    /// What it says.
    pub state: RootState,
    /// The block in which this version was first read.
    pub at: Head,
}

/// Follows a root. Clones share the work, which stops with the last of them.
#[derive(Clone)]
pub struct RootWatch {
    shared: Arc<Shared>,
}

struct Shared {
    configs: watch::Receiver<Arc<RootConfig>>,
    health: watch::Receiver<Health>,
    /// Held: dropping it stops the polling.
    _poller: JoinSet<()>,
}

/// How the last readings went.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Health {
    /// Chain time of the newest reading that agreed with what is known, or replaced it.
    seen_unix_s: u32,
    problem: Option<String>,
}

/// Why a root was not read, or not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The chain gave no answer that may be used.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// There is no contract.
    #[error("there is no root contract at {0}: check the address and the network")]
    NotThere(Address),
    /// Its data is not a root's, or of a generation that this program does not know.
    #[error("the contract at {address} cannot be read as a root: {error}")]
    Unreadable {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        error: StateError,
    },
    /// A network of play money where real money was meant, or the other way round.
    #[error("the root {address} is of a {} network, and this node is configured for a {} one", mode(*found), mode(!found))]
    TestMode {
        /// Where.
        address: Address,
        /// What it says.
        found: bool,
    },
    /// The same address, and another network.
    #[error("the root {address} says that it is network {found}, and was network {known} before")]
    AnotherNetwork {
        /// Where.
        address: Address,
        /// What it was.
        known: u32,
        /// What it says.
        found: u32,
    },
    /// An older version than is known: a server lags, or somebody replays.
    #[error("the chain shows version {found} of the root {address}, and version {known} was there already")]
    Older {
        /// Where.
        address: Address,
        /// What is known.
        known: u32,
        /// What was read.
        found: u32,
    },
    /// The same version with other content: no chain does that.
    #[error("the chain shows two roots of version {version} at {address}")]
    Conflicting {
        /// Where.
        address: Address,
        /// Which version.
        version: u32,
    },
    /// The cache cannot be used.
    #[error("the cached root in {} cannot be used ({why}): remove it to read the root anew", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl RootWatch {
    /// Reads the root at `address` and goes on reading it, every `poll` and whenever it may have changed. It must be
    /// called within a runtime.
    ///
    /// # Errors
    ///
    /// [`RootError`] when there is no good root to begin with.
    pub async fn start(
        chain: Arc<dyn Chain>,
        address: Address,
        is_test: bool,
        poll: Duration,
        policy: ChainPolicy,
    ) -> Result<Self, RootError> {
        Self::begin(Follower { chain, address, is_test, poll, policy, cache: None }).await
    }

    /// The same with a cache: when the chain does not answer, it begins with what the last process knew, and it never
    /// takes an older one.
    ///
    /// # Errors
    ///
    /// As [`Self::start`]; and [`RootError::Cache`] when the file is there and cannot be read.
    pub async fn start_cached(
        chain: Arc<dyn Chain>,
        address: Address,
        is_test: bool,
        poll: Duration,
        policy: ChainPolicy,
        cache: PathBuf,
    ) -> Result<Self, RootError> {
        Self::begin(Follower { chain, address, is_test, poll, policy, cache: Some(Cache::new(cache)) }).await
    }

    async fn begin(follower: Follower) -> Result<Self, RootError> {
        let (config, health) = follower.first().await?;
        let (config_sender, configs) = watch::channel(Arc::new(config));
        let (health_sender, health) = watch::channel(health);
        let mut poller = JoinSet::new();
        poller.spawn(follower.follow(config_sender, health_sender));
        Ok(Self { shared: Arc::new(Shared { configs, health, _poller: poller }) })
    }

    /// Snapshots: the newest, and word of every later one.
    #[must_use]
    pub fn receiver(&self) -> watch::Receiver<Arc<RootConfig>> {
        self.shared.configs.clone()
    }

    /// The newest snapshot.
    #[must_use]
    pub fn config(&self) -> Arc<RootConfig> {
        Arc::clone(&self.shared.configs.borrow())
    }

    /// Chain time of the newest reading that confirmed or replaced what is known.
    #[must_use]
    pub fn seen_unix_s(&self) -> u32 {
        self.shared.health.borrow().seen_unix_s
    }

    /// Whether that is so long ago that nothing may be decided by it: more than [`ROOT_STALE_S`], as in the original.
    #[must_use]
    pub fn is_stale(&self, now: UnixTime) -> bool {
        now.as_secs_f64() - f64::from(self.seen_unix_s()) > f64::from(ROOT_STALE_S)
    }

    /// What was wrong with the last reading; `None` when nothing was.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.shared.health.borrow().problem.clone()
    }
}

/// What the polling needs.
struct Follower {
    chain: Arc<dyn Chain>,
    address: Address,
    is_test: bool,
    poll: Duration,
    policy: ChainPolicy,
    cache: Option<Cache>,
}

impl Follower {
    /// What to begin with: the chain's root, or the cached one when the chain does not answer.
    async fn first(&self) -> Result<(RootConfig, Health), RootError> {
        let cached = match &self.cache {
            Some(cache) => cache.read(self.address, self.is_test).await?,
            None => None,
        };
        match (self.read_patiently(cached.as_ref()).await, cached) {
            (Ok((Judged::Newer(config), at)), _) => {
                self.keep(&config).await;
                Ok((*config, Health { seen_unix_s: at.unix_s, problem: None }))
            }
            (Ok((Judged::Same, at)), Some(config)) => Ok((config, Health { seen_unix_s: at.unix_s, problem: None })),
            (Ok((Judged::Same, _)), None) => Err(RootError::NotThere(self.address)),
            (Err(RootError::Chain(error)), Some(config)) if is_transient(&error) => {
                let health = Health { seen_unix_s: config.at.unix_s, problem: Some(error.to_string()) };
                Ok((config, health))
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn follow(self, configs: watch::Sender<Arc<RootConfig>>, health: watch::Sender<Health>) {
        let mut changes = self.chain.subscribe(&self.address).await.ok();
        loop {
            // Strangers can make an account change as often as they pay for it.
            sleep(ROOT_PAUSE).await;
            // Whichever comes first; a poll that passed is not an error.
            drop(timeout(self.poll, changed(&mut changes)).await);
            let known = Arc::clone(&configs.borrow());
            let problem = match self.read(Some(&known)).await {
                Ok((Judged::Newer(config), at)) => {
                    tracing::info!(version = config.state.version, root = %self.address, "the root changed");
                    self.keep(&config).await;
                    configs.send_replace(Arc::from(config));
                    see(&health, at);
                    None
                }
                Ok((Judged::Same, at)) => {
                    see(&health, at);
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            tell(&health, problem);
            if changes.is_none() {
                changes = self.chain.subscribe(&self.address).await.ok();
            }
        }
    }

    async fn read_patiently(&self, known: Option<&RootConfig>) -> Result<(Judged, Head), RootError> {
        let mut attempt = 1;
        loop {
            match self.read(known).await {
                Err(RootError::Chain(error)) if is_transient(&error) && attempt < ROOT_START_ATTEMPTS => {}
                result => return result,
            }
            attempt += 1;
            sleep(ROOT_PAUSE).await;
        }
    }

    async fn read(&self, known: Option<&RootConfig>) -> Result<(Judged, Head), RootError> {
        let account = self.chain.account(&self.address).await?.for_money(self.policy)?;
        let at = account.at;
        Ok((judge(known, account, self.is_test)?, at))
    }

    async fn keep(&self, config: &RootConfig) {
        if let Some(cache) = &self.cache
            && let Err(error) = cache.write(config).await
        {
            tracing::warn!(%error, "the root could not be cached");
        }
    }
}

/// Never back: an old answer that still agrees confirms nothing about now.
fn see(health: &watch::Sender<Health>, at: Head) {
    health.send_modify(|health| health.seen_unix_s = health.seen_unix_s.max(at.unix_s));
}

/// Logged when it is news, not at every poll.
fn tell(health: &watch::Sender<Health>, problem: Option<String>) {
    health.send_if_modified(|health| {
        let is_news = health.problem != problem;
        if let Some(problem) = problem.as_ref().filter(|_| is_news) {
            tracing::warn!(%problem, "the root could not be read; the last good one stays");
        }
        health.problem = problem;
        is_news
    });
}

const fn is_transient(error: &ChainError) -> bool {
    match error {
        ChainError::Unreachable { .. }
        | ChainError::RateLimited { .. }
        | ChainError::BadAnswer(_)
        | ChainError::Gap { .. }
        | ChainError::Stopped(_) => true,
        ChainError::Refused { .. } | ChainError::BadMessage(_) | ChainError::Unproved => false,
    }
}

async fn changed(changes: &mut Option<watch::Receiver<Option<TxId>>>) {
    if let Some(receiver) = changes {
        if receiver.changed().await.is_ok() {
            return;
        }
        *changes = None;
    }
    std::future::pending().await
}

const fn mode(is_test: bool) -> &'static str {
    if is_test { "test" } else { "production" }
}

impl fmt::Debug for RootWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config();
        let version = config.state.version;
        f.debug_struct("RootWatch").field("address", &config.address).field("version", &version).finish_non_exhaustive()
    }
}
