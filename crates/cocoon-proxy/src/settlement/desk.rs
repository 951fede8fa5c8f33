//! The desk: what contracts on the chain say, for sessions and for settlement alike.
//!
//! 1. An account is read, checked to be one of this proxy's own ([`super::instance`]), and remembered, at most
//!    [`ACCOUNTS_MAX`] of them. Whoever asks within [`READ_FRESH`] gets what was read.
//! 2. Settlement reads accounts again when a note names them; sessions need not know.
//! 3. Clients without a secret register with a nonce: a session waits for the note ([`Desk::registered`]).
//!
//! "The chain does not answer" and "the contract is not there" are different errors: only the second one is a reason
//! to turn a peer away for good.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_ton::Address;
use cocoon_ton::chain::{Account, Chain, ChainError, ChainPolicy};
use cocoon_ton::contract::{ClientState, ProxyState, WorkerState};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use super::instance::{Instance, NotOurs, read_client, read_worker};
use super::limits::{
    ACCOUNTS_MAX, READ_FRESH, READS_MAX, READS_WAITING_MAX, REGISTRATION_TIMEOUT, REGISTRATIONS_EARLY_MAX,
    REGISTRATIONS_MAX,
};
use crate::books::Side;

/// What contracts on the chain say. Clones share what is remembered.
#[derive(Clone)]
pub(crate) struct Desk {
    shared: Arc<Shared>,
}

struct Shared {
    chain: Arc<dyn Chain>,
    policy: ChainPolicy,
    payment_key: [u8; 32],
    reads: Semaphore,
    reads_waiting: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one that new sessions are of; none while the proxy closes.
    current: Option<Address>,
    instances: Vec<Instance>,
    accounts: BTreeMap<Address, Entry>,
    /// The newest chain time that was read.
    chain_unix_s: u32,
    waiting: HashMap<(Address, u64), oneshot::Sender<()>>,
    early: VecDeque<(Address, u64)>,
}

/// What an account was when it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) holding: Holding,
    /// The instance it belongs to.
    pub(crate) proxy: Address,
    pub(crate) read_at: Instant,
}

/// The state of an account's contract.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Holding {
    Client(Box<ClientState>),
    /// `None`: not deployed yet.
    Worker(Option<Box<WorkerState>>),
}

impl Entry {
    pub(super) const fn side(&self) -> Side {
        match self.holding {
            Holding::Client(_) => Side::Client,
            Holding::Worker(_) => Side::Worker,
        }
    }
}

/// Why the desk has no answer, grouped by whose fault it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeskError {
    /// The peer has to deploy or fund its contract first.
    #[error("the contract {} is not deployed: deploy and fund it first", .0.raw())]
    PeerMissing(Address),
    /// It is another program, another proxy's, or frozen.
    #[error("the contract {} cannot be used here: {}", .0.raw(), .1)]
    PeerNotOurs(Address, NotOurs),
    /// The owner did not register in time.
    #[error("no registration of {} came in time", .0.raw())]
    PeerDidNotRegister(Address),
    /// No contract of the moment: the proxy closes.
    #[error("the proxy closes and takes nobody new")]
    ProxyCloses,
    /// More reads wait than are ever useful.
    #[error("too many peers ask at once: try again in a moment")]
    ProxyBusy,
    /// The chain gave no answer that may be used.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl Desk {
    pub(super) fn new(chain: Arc<dyn Chain>, policy: ChainPolicy, payment_key: [u8; 32]) -> Self {
        let shared = Shared {
            chain,
            policy,
            payment_key,
            reads: Semaphore::new(READS_MAX),
            reads_waiting: AtomicUsize::new(0),
            kept: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A client's contract of the present instance.
    ///
    /// # Errors
    ///
    /// [`DeskError`]; of it only [`DeskError::PeerMissing`] and [`DeskError::PeerNotOurs`] say anything of the client.
    pub(crate) async fn client(&self, contract: Address) -> Result<ClientState, DeskError> {
        let entry = self.present(contract, Side::Client).await?;
        match entry.holding {
            Holding::Client(state) => Ok(*state),
            Holding::Worker(_) => Err(DeskError::PeerNotOurs(contract, NotOurs::Other)),
        }
    }

    /// A worker's contract of the present instance; `None` where it is not deployed yet, which does not matter before
    /// it is paid.
    ///
    /// # Errors
    ///
    /// [`DeskError`].
    pub(crate) async fn worker(&self, contract: Address) -> Result<Option<WorkerState>, DeskError> {
        let entry = self.present(contract, Side::Worker).await?;
        match entry.holding {
            Holding::Worker(state) => Ok(state.map(|state| *state)),
            Holding::Client(_) => Err(DeskError::PeerNotOurs(contract, NotOurs::Other)),
        }
    }

    /// Waits until the owner of this client contract has registered with this nonce on the chain.
    ///
    /// # Errors
    ///
    /// [`DeskError::PeerDidNotRegister`] after [`REGISTRATION_TIMEOUT`], [`DeskError::ProxyBusy`].
    pub(crate) async fn registered(&self, contract: Address, nonce: u64) -> Result<(), DeskError> {
        let heard = {
            let mut kept = self.kept();
            if let Some(at) = kept.early.iter().position(|early| *early == (contract, nonce)) {
                kept.early.remove(at);
                return Ok(());
            }
            kept.waiting.retain(|_, waiter| !waiter.is_closed());
            if kept.waiting.len() >= REGISTRATIONS_MAX {
                return Err(DeskError::ProxyBusy);
            }
            let (waiter, heard) = oneshot::channel();
            kept.waiting.insert((contract, nonce), waiter);
            heard
        };
        match timeout(REGISTRATION_TIMEOUT, heard).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(DeskError::PeerDidNotRegister(contract)),
        }
    }

    /// A note of a registration came.
    pub(super) fn hear_registration(&self, contract: Address, nonce: u64) {
        let mut kept = self.kept();
        match kept.waiting.remove(&(contract, nonce)) {
            // Who stopped waiting does not listen.
            Some(waiter) => drop(waiter.send(())),
            None => {
                if kept.early.len() == REGISTRATIONS_EARLY_MAX {
                    kept.early.pop_front();
                }
                kept.early.push_back((contract, nonce));
            }
        }
    }

    /// From now on these are the instances, the newest first, and new sessions are of `current` if any.
    pub(super) fn set_instances(&self, current: Option<Address>, instances: Vec<Instance>) {
        let mut kept = self.kept();
        kept.current = current;
        kept.instances = instances;
    }

    /// What is remembered of an account.
    pub(super) fn remembered(&self, contract: Address) -> Option<Entry> {
        self.kept().accounts.get(&contract).cloned()
    }

    pub(super) fn forget(&self, contract: Address) {
        self.kept().accounts.remove(&contract);
    }

    /// The newest chain time that was read.
    pub(super) fn chain_unix_s(&self) -> u32 {
        self.kept().chain_unix_s
    }

    /// Asks the chain for an account of one of the instances, old ones included.
    pub(super) async fn read(&self, contract: Address, side: Side) -> Result<Entry, DeskError> {
        let account = self.account(contract).await?;
        let mut kept = self.kept();
        let not_ours = |reason| match reason {
            NotOurs::Missing => DeskError::PeerMissing(contract),
            NotOurs::Frozen | NotOurs::Unreadable(_) | NotOurs::Other => DeskError::PeerNotOurs(contract, reason),
        };
        let (holding, proxy) = match side {
            Side::Client => {
                let (state, proxy) = read_client(&account, &kept.instances).map_err(not_ours)?;
                (Holding::Client(Box::new(state)), proxy)
            }
            Side::Worker => match read_worker(&account, &kept.instances) {
                Ok((state, proxy)) => (Holding::Worker(Some(Box::new(state))), proxy),
                Err(NotOurs::Missing) => (Holding::Worker(None), kept.proxy_of(contract)?),
                Err(reason) => return Err(not_ours(reason)),
            },
        };
        let entry = Entry { holding, proxy, read_at: Instant::now() };
        kept.remember(contract, entry.clone());
        Ok(entry)
    }

    /// The proxy's own contract; `None` where it is not deployed.
    pub(super) async fn proxy(&self, contract: Address) -> Result<Option<(Instance, ProxyState)>, DeskError> {
        let account = self.account(contract).await?;
        match Instance::read(&account, self.shared.payment_key) {
            Ok(found) => Ok(Some(found)),
            Err(NotOurs::Missing) => Ok(None),
            Err(reason) => Err(DeskError::PeerNotOurs(contract, reason)),
        }
    }

    /// The chain's time moves without accounts being read, too.
    pub(super) async fn read_time(&self) -> Result<(), ChainError> {
        let head = self.shared.chain.head().await?.for_money(self.shared.policy)?;
        let mut kept = self.kept();
        kept.chain_unix_s = kept.chain_unix_s.max(head.unix_s);
        Ok(())
    }

    async fn present(&self, contract: Address, side: Side) -> Result<Entry, DeskError> {
        let current = self.kept().current.ok_or(DeskError::ProxyCloses)?;
        let fresh = self.remembered(contract).filter(|entry| entry.read_at.elapsed() < READ_FRESH);
        let entry = match fresh {
            Some(entry) => entry,
            None => self.read(contract, side).await?,
        };
        if entry.proxy != current {
            return Err(DeskError::PeerNotOurs(contract, NotOurs::Other));
        }
        Ok(entry)
    }

    /// One account, for a decision about money.
    async fn account(&self, address: Address) -> Result<Account, DeskError> {
        let shared = &*self.shared;
        let _waiting = Waiting::enter(&shared.reads_waiting)?;
        // The semaphore is never closed; if it were, reads would go on unbounded rather than stop.
        let _permit = shared.reads.acquire().await.ok();
        let account = shared.chain.account(&address).await?.for_money(shared.policy)?;
        let mut kept = self.kept();
        kept.chain_unix_s = kept.chain_unix_s.max(account.at.unix_s);
        Ok(account)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// What an account without a contract belongs to: what it was before, or the newest instance, also when that closes.
    fn proxy_of(&self, contract: Address) -> Result<Address, DeskError> {
        let known = self.accounts.get(&contract).map(|entry| entry.proxy);
        let newest = self.instances.first().map(|instance| instance.contract);
        known.or(newest).ok_or(DeskError::ProxyCloses)
    }

    fn remember(&mut self, contract: Address, entry: Entry) {
        if self.accounts.len() >= ACCOUNTS_MAX && !self.accounts.contains_key(&contract) {
            let oldest = self.accounts.iter().min_by_key(|(_, entry)| entry.read_at).map(|(contract, _)| *contract);
            if let Some(oldest) = oldest {
                self.accounts.remove(&oldest);
            }
        }
        self.accounts.insert(contract, entry);
    }
}

/// A place in the line for reads.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, DeskError> {
        let place = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= READS_WAITING_MAX {
            return Err(DeskError::ProxyBusy);
        }
        Ok(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}
