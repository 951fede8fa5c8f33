//! A whole TON network in this process, for development and tests: real contracts, real prices, no consensus.
//!
//! - [`Engine`]: the network as a pure value; tests of contracts use it alone.
//! - [`Devnet`]: the engine with a file, a clock and readers; roles use it as a [`Chain`](crate::chain::Chain).
//! - [`http`]: the same for other programs.
//!
//! Flow: a message is checked by the engine, kept in the file, and only then acknowledged; a block is made by the
//! engine, kept in the file, and only then shown to readers. Nobody is told what a crash could take back.
//!
//! Work for the processor runs on the runtime's blocking threads, one writer at a time. Readers of accounts see a map
//! that changes between blocks, readers of transactions the file; neither waits for a block that is being made.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cocoon_units::{Clock, Nano};
use tycho_types::cell::Cell;

use crate::address::Address;
use crate::chain::{ChainError, Head, Transaction, TxId};

mod backend;
mod clock;
pub mod engine;
pub mod http;
mod service;
mod store;

pub use engine::{Block, Bounce, Engine, Executed, Faults, Genesis, NotConserved, Order, Refused, puppet};
pub use store::OpenError;

use service::{Service, Ticker};

/// How a devnet runs.
#[derive(Clone, Default)]
pub struct Options {
    /// What the devnet's time follows. `None`: it stands still but for [`Devnet::advance`].
    pub clock: Option<Arc<dyn Clock>>,
    /// How often there is a block when there is something to do. `None`: only by [`Devnet::tick`].
    pub auto_tick: Option<Duration>,
    /// The first state of a new devnet. With a clock, its time is the clock's.
    pub genesis: Genesis,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("auto_tick", &self.auto_tick).field("genesis", &self.genesis).finish()
    }
}

/// A running devnet. Clones are the same one; it stops with the last of them.
#[derive(Debug, Clone)]
pub struct Devnet {
    service: Arc<Service>,
    /// Ends with the last clone, and holds the service only weakly.
    _ticker: Arc<Ticker>,
}

impl Devnet {
    /// Opens the devnet that lives in `folder`, or begins a new one there.
    ///
    /// With [`Options::auto_tick`] it must be called within a tokio runtime; everything asynchronous needs one anyway.
    ///
    /// # Errors
    ///
    /// When the folder cannot be used, holds something else, or is open in another process.
    pub fn open(folder: &Path, options: &Options) -> Result<Self, OpenError> {
        Ok(Self::start(Service::open(Some(folder), options)?, options))
    }

    /// A devnet that is gone with the process.
    ///
    /// # Errors
    ///
    /// Never in practice: there is no file to fail.
    pub fn memory(options: &Options) -> Result<Self, OpenError> {
        Ok(Self::start(Service::open(None, options)?, options))
    }

    /// Puts a snapshot ([`Self::snapshot`]) where [`Self::open`] finds it.
    ///
    /// # Errors
    ///
    /// When the folder holds a devnet already, or a file cannot be copied.
    pub fn restore(snapshot: &Path, folder: &Path) -> Result<(), OpenError> {
        store::Store::restore(snapshot, folder)
    }

    fn start(service: Service, options: &Options) -> Self {
        let service = Arc::new(service);
        // Messages live for two minutes by the newest block, so one that slept must wake with a block of now.
        if options.auto_tick.is_some()
            && let Err(error) = service.tick_if_due()
        {
            tracing::error!(%error, "the devnet made no block as it began; every further call says the same");
        }
        let ticker = Ticker::start(&service, options.auto_tick);
        Self { service, _ticker: Arc::new(ticker) }
    }

    // Readers.

    /// The folder it lives in, if any.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        self.service.folder().map(Path::to_owned)
    }

    /// The devnet's time: never before its newest block, and ahead of the machine's by all that was advanced.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.service.clock()
    }

    /// Messages that have not arrived, between accounts and from outside, as of the newest block.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.service.queue_len()
    }

    /// At most `limit` transactions of an account, newest first, from `from` (itself among them) or from the last.
    /// They are cells: [`Transaction::parse`] reads them.
    ///
    /// # Errors
    ///
    /// [`ChainError::Gap`] when there is no transaction `from`.
    pub async fn history(
        &self,
        address: &Address,
        from: Option<TxId>,
        limit: usize,
    ) -> Result<Vec<(TxId, Cell)>, ChainError> {
        let address = *address;
        self.blocking(move |service| service.before(&address, from, limit)).await
    }

    // Controls that no real network has.

    /// Makes a block now.
    ///
    /// # Errors
    ///
    /// [`ChainError::Stopped`] when the file cannot be written.
    pub async fn tick(&self) -> Result<Block, ChainError> {
        self.blocking(Service::tick).await
    }

    /// Moves time on and makes a block at the new time. Survives restarts.
    ///
    /// # Errors
    ///
    /// [`ChainError::BadMessage`] when that is more than ten years or beyond what 32 bits of seconds hold.
    pub async fn advance(&self, by: Duration) -> Result<Head, ChainError> {
        self.blocking(move |service| service.advance(by)).await
    }

    /// Gives money away, and makes blocks until it has arrived.
    ///
    /// # Errors
    ///
    /// [`ChainError::Stopped`] when a fault keeps it from arriving.
    pub async fn faucet(&self, to: Address, value: Nano) -> Result<Transaction, ChainError> {
        self.blocking(move |service| service.faucet(to, value)).await
    }

    /// What goes wrong on purpose.
    ///
    /// # Errors
    ///
    /// [`ChainError::Stopped`] when the devnet has stopped.
    pub async fn faults(&self) -> Result<Faults, ChainError> {
        self.blocking(|service| service.faults(|faults| faults.clone())).await
    }

    /// Changes what goes wrong on purpose, between two blocks. Faults do not survive a restart.
    ///
    /// # Errors
    ///
    /// [`ChainError::Stopped`] when the devnet has stopped.
    pub async fn set_faults(&self, change: impl FnOnce(&mut Faults) + Send + 'static) -> Result<(), ChainError> {
        self.blocking(move |service| service.faults(change)).await
    }

    /// Counts all money again.
    ///
    /// # Errors
    ///
    /// [`ChainError::Stopped`] with the two sums when some appeared or vanished.
    pub async fn check_conservation(&self) -> Result<(), ChainError> {
        self.blocking(Service::check_conservation).await
    }

    /// Copies everything, as of the newest block, to a new file.
    ///
    /// # Errors
    ///
    /// When the file is there already or cannot be written; the devnet goes on.
    pub async fn snapshot(&self, path: &Path) -> Result<(), ChainError> {
        let path = path.to_owned();
        self.blocking(move |service| service.snapshot(&path)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Service) -> Result<T, ChainError> + Send + 'static,
    ) -> Result<T, ChainError> {
        let service = self.service.clone();
        let done = tokio::task::spawn_blocking(move || work(&service)).await;
        done.map_err(|error| ChainError::Stopped(error.to_string()))?
    }
}
