//! The engine with its file, its clock and its readers.
//!
//! 1. One writer at a time holds the engine: it makes a block or takes messages, keeps that in the file, and then lets
//!    readers see it. When the file fails, the engine is ahead of it, so everything stops.
//! 2. Messages that come together are made durable together: the first sender takes all that wait, for everybody.
//! 3. Readers share a view that changes only between blocks.
//!
//! Everything here blocks; [`super::Devnet`] calls it from blocking threads.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use cocoon_units::{Clock, FixedClock, Nano, UnixTime};
use tokio::sync::{oneshot, watch};
use tycho_types::cell::Cell;
use tycho_types::models::{BlockchainConfig, ShardAccount};

use super::clock::{Timeline, whole_seconds};
use super::engine::{Block, Engine, Faults, Order, Refused, puppet, view};
use super::store::{HistoryError, OpenError, Store, StoreError};
use super::{Genesis, Options};
use crate::address::Address;
use crate::chain::{Account, ChainError, Head, Transaction, TxId};
use crate::limits::{
    ADVANCE_MAX_SECONDS, FAUCET_BLOCKS_MAX, IDLE_BLOCK_SECONDS, SENDS_BATCH_MAX, SENDS_WAITING_MAX, SUBSCRIPTIONS_MAX,
    TRANSACTIONS_ANSWER_MAX,
};

mod ticker;

pub(super) use ticker::Ticker;

#[derive(Debug)]
pub(super) struct Service {
    folder: Option<PathBuf>,
    store: Store,
    engine: Mutex<Engine>,
    view: RwLock<View>,
    sends: Mutex<Sends>,
    watchers: Mutex<HashMap<Address, watch::Sender<Option<TxId>>>>,
    timeline: Arc<Timeline>,
    config: Arc<BlockchainConfig>,
    /// Messages that wait, as of the last time the engine was held.
    queue_len: AtomicUsize,
    stopped: OnceLock<String>,
}

/// What readers see.
#[derive(Debug)]
struct View {
    head: Head,
    accounts: HashMap<Address, ShardAccount>,
}

/// Messages in line, and whether somebody is taking them.
#[derive(Debug, Default)]
struct Sends {
    line: VecDeque<Send>,
    taken_by_someone: bool,
}

/// A sender's place in the line.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) answer: oneshot::Receiver<Result<[u8; 32], ChainError>>,
    /// Whether this sender must call [`Service::take_sends`], for itself and all who come meanwhile.
    pub(super) leads: bool,
}

/// A message whose sender waits.
#[derive(Debug)]
struct Send {
    message: Cell,
    reply: oneshot::Sender<Result<[u8; 32], ChainError>>,
}

impl Service {
    pub(super) fn open(folder: Option<&Path>, options: &Options) -> Result<Self, OpenError> {
        let genesis = first_state(options);
        let (store, saved, offset_ms) = match folder {
            Some(folder) => Store::open(folder, &genesis)?,
            None => Store::memory(&genesis)?,
        };
        // Without a clock the devnet stands at its first second, from which `advance` counts.
        let first = UnixTime::from_secs_f64(f64::from(genesis.unix_s));
        let machine = options.clock.clone().unwrap_or_else(|| Arc::new(FixedClock::at(first)));
        let accounts = saved.accounts.iter().map(|(address, entry)| (*address, entry.state.clone())).collect();
        let head = saved.head;
        let engine = Engine::restore(saved);
        Ok(Self {
            folder: folder.map(Path::to_owned),
            store,
            config: engine.config(),
            queue_len: AtomicUsize::new(engine.queue_len() + engine.externals_len()),
            engine: Mutex::new(engine),
            view: RwLock::new(View { head, accounts }),
            sends: Mutex::default(),
            watchers: Mutex::default(),
            timeline: Arc::new(Timeline::new(machine, offset_ms, head.unix_s)),
            stopped: OnceLock::new(),
        })
    }

    // Readers.

    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.timeline.clone()
    }

    pub(super) fn config(&self) -> Arc<BlockchainConfig> {
        self.config.clone()
    }

    pub(super) fn queue_len(&self) -> usize {
        self.queue_len.load(Ordering::Acquire)
    }

    pub(super) fn head(&self) -> Result<Head, ChainError> {
        self.check_running()?;
        Ok(self.view.read().unwrap_or_else(PoisonError::into_inner).head)
    }

    pub(super) fn account(&self, address: &Address) -> Result<Account, ChainError> {
        self.check_running()?;
        let (state, head) = {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            (view.accounts.get(address).cloned(), view.head)
        };
        Ok(view(*address, state.as_ref(), head))
    }

    /// Transactions after `after`, each of which names the one before.
    pub(super) fn after(
        &self,
        address: &Address,
        after: Option<TxId>,
        limit: usize,
    ) -> Result<Vec<Transaction>, ChainError> {
        self.check_running()?;
        let found = self.store.after(address, after, limit.min(TRANSACTIONS_ANSWER_MAX));
        let mut previous = after;
        let mut transactions = Vec::new();
        for (id, cell) in found.map_err(|error| history_error(address, error))? {
            let transaction = Transaction::parse(*address, cell)?;
            if transaction.previous != previous || transaction.id != id {
                return Err(ChainError::Gap { address: *address, before_lt: id.lt });
            }
            previous = Some(id);
            transactions.push(transaction);
        }
        Ok(transactions)
    }

    pub(super) fn before(
        &self,
        address: &Address,
        from: Option<TxId>,
        limit: usize,
    ) -> Result<Vec<(TxId, Cell)>, ChainError> {
        self.check_running()?;
        let found = self.store.before(address, from, limit.min(TRANSACTIONS_ANSWER_MAX));
        found.map_err(|error| history_error(address, error))
    }

    pub(super) fn subscribe(&self, address: &Address) -> Result<watch::Receiver<Option<TxId>>, ChainError> {
        // The account is read while the watchers are held: a block between the two would be missed.
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.account(address)?.last;
        if let Some(sender) = watchers.get(address) {
            return Ok(sender.subscribe());
        }
        if watchers.len() >= SUBSCRIPTIONS_MAX {
            watchers.retain(|_, sender| sender.receiver_count() > 0);
        }
        if watchers.len() >= SUBSCRIPTIONS_MAX {
            return Err(busy());
        }
        let (sender, receiver) = watch::channel(last);
        watchers.insert(*address, sender);
        Ok(receiver)
    }

    pub(super) fn snapshot(&self, path: &Path) -> Result<(), ChainError> {
        self.check_running()?;
        self.store.snapshot(path).map_err(|error| ChainError::BadMessage(error.to_string()))
    }

    // Writers.

    /// Puts a message in line.
    pub(super) fn enqueue(&self, message: Cell) -> Result<Place, ChainError> {
        let (reply, answer) = oneshot::channel();
        let mut sends = self.sends();
        if sends.line.len() >= SENDS_WAITING_MAX {
            return Err(busy());
        }
        sends.line.push_back(Send { message, reply });
        let leads = !std::mem::replace(&mut sends.taken_by_someone, true);
        Ok(Place { answer, leads })
    }

    /// Takes messages until none is in line. Nobody else does meanwhile, so whoever stops early sends the others away.
    pub(super) fn take_sends(&self) -> Result<(), ChainError> {
        let mut lead = Lead { service: self, done: false };
        let mut engine = self.writer()?;
        loop {
            let batch = self.next_batch();
            if batch.is_empty() {
                lead.done = true;
                return Ok(());
            }
            self.take_batch(&mut engine, batch)?;
        }
    }

    /// The next messages in line; with the last of them gone, somebody else takes those that come.
    fn next_batch(&self) -> Vec<Send> {
        let mut sends = self.sends();
        let count = sends.line.len().min(SENDS_BATCH_MAX);
        sends.taken_by_someone = count > 0;
        sends.line.drain(..count).collect()
    }

    fn sends(&self) -> MutexGuard<'_, Sends> {
        self.sends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_batch(&self, engine: &mut Engine, batch: Vec<Send>) -> Result<(), ChainError> {
        let now = self.timeline.now_s();
        let mut kept = Vec::new();
        let mut answers = Vec::new();
        for send in batch {
            let answer = engine.admit(&send.message, now).map(|(hash, waiting)| {
                kept.extend(waiting);
                hash
            });
            answers.push((send.reply, answer.map_err(refusal)));
        }
        if !kept.is_empty() {
            self.keep(self.store.keep_externals(&kept))?;
        }
        self.count(engine);
        for (reply, answer) in answers {
            // A sender that went away does not want to know.
            let _ = reply.send(answer);
        }
        Ok(())
    }

    pub(super) fn tick(&self) -> Result<Block, ChainError> {
        self.make_block(&mut *self.writer()?)
    }

    /// Makes a block when there is something to do, or when the last one is old.
    pub(super) fn tick_if_due(&self) -> Result<(), ChainError> {
        let mut engine = self.writer()?;
        let age_s = u64::from(self.timeline.now_s().saturating_sub(engine.head().unix_s));
        if engine.has_work() || age_s >= IDLE_BLOCK_SECONDS {
            self.make_block(&mut engine)?;
        }
        Ok(())
    }

    pub(super) fn advance(&self, by: Duration) -> Result<Head, ChainError> {
        let mut engine = self.writer()?;
        let too_far = || ChainError::BadMessage("time moves on by ten years at most, and not beyond 2100".to_owned());
        let by_ms = u64::try_from(by.as_millis()).map_err(|_| too_far())?;
        let reached_s = u64::from(self.timeline.now_s()).saturating_add(by.as_secs());
        if by.as_secs() > ADVANCE_MAX_SECONDS || reached_s > crate::limits::UNIX_SECONDS_MAX {
            return Err(too_far());
        }
        let offset_ms = self.timeline.offset_ms().checked_add(by_ms).ok_or_else(too_far)?;
        self.keep(self.store.keep_offset(offset_ms))?;
        self.timeline.set_offset_ms(offset_ms);
        Ok(self.make_block(&mut engine)?.head)
    }

    pub(super) fn faucet(&self, to: Address, value: Nano) -> Result<Transaction, ChainError> {
        let mut engine = self.writer()?;
        let faucet = puppet::address(0);
        let command = engine.order(faucet, &Order::transfer(to, value)).map_err(refusal)?;
        let mut gift = None;
        for _ in 0..FAUCET_BLOCKS_MAX {
            let block = self.make_block(&mut engine)?;
            for executed in &block.transactions {
                if gift.is_none() && executed.account == faucet {
                    gift = sent_for(command, Transaction::parse(faucet, executed.cell.clone())?);
                } else if gift.is_some() && executed.account == to {
                    let transaction = Transaction::parse(to, executed.cell.clone())?;
                    if transaction.in_message.as_ref().map(|message| message.hash) == gift {
                        return Ok(transaction);
                    }
                }
            }
        }
        Err(ChainError::Stopped("the faucet's money has not arrived: is there a fault, or is the faucet empty?".into()))
    }

    pub(super) fn faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> Result<T, ChainError> {
        Ok(change(self.writer()?.faults_mut()))
    }

    pub(super) fn check_conservation(&self) -> Result<(), ChainError> {
        self.writer()?.check_conservation().map_err(|error| ChainError::Stopped(error.to_string()))
    }

    fn make_block(&self, engine: &mut Engine) -> Result<Block, ChainError> {
        let before = engine.head();
        let block = engine.tick(self.timeline.now_s());
        if block.head != before {
            self.keep(self.store.keep_block(&block))?;
            self.show(&block);
        }
        self.count(engine);
        Ok(block)
    }

    /// Lets readers see a block that is kept.
    fn show(&self, block: &Block) {
        {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            view.head = block.head;
            view.accounts.extend(block.accounts.iter().map(|(address, entry)| (*address, entry.state.clone())));
        }
        self.timeline.reached(block.head.unix_s);
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        for (address, entry) in &block.accounts {
            if let Some(sender) = watchers.get(address) {
                let last = TxId { lt: entry.state.last_trans_lt, hash: entry.state.last_trans_hash.0 };
                sender.send_replace(Some(last));
            }
        }
    }

    fn count(&self, engine: &Engine) {
        self.queue_len.store(engine.queue_len() + engine.externals_len(), Ordering::Release);
    }

    /// The engine, for whoever changes it. A writer that panicked left it in an unknown state.
    fn writer(&self) -> Result<MutexGuard<'_, Engine>, ChainError> {
        let engine = self.engine.lock().map_err(|_| self.stop("a block could not be finished".to_owned()))?;
        self.check_running()?;
        Ok(engine)
    }

    fn keep(&self, kept: Result<(), StoreError>) -> Result<(), ChainError> {
        kept.map_err(|error| self.stop(error.to_string()))
    }

    fn stop(&self, reason: String) -> ChainError {
        tracing::error!(reason, "the devnet stops");
        ChainError::Stopped(self.stopped.get_or_init(|| reason).clone())
    }

    fn check_running(&self) -> Result<(), ChainError> {
        self.stopped.get().map_or(Ok(()), |reason| Err(ChainError::Stopped(reason.clone())))
    }
}

/// Whoever takes messages. If it ends before the line does, by an error or a panic, those who wait are sent away.
struct Lead<'a> {
    service: &'a Service,
    done: bool,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.done {
            let mut sends = self.service.sends();
            sends.taken_by_someone = false;
            sends.line.clear();
        }
    }
}

fn first_state(options: &Options) -> Genesis {
    let mut genesis = options.genesis.clone();
    if let Some(clock) = &options.clock {
        genesis.unix_s = whole_seconds(clock.unix_now());
    }
    genesis
}

/// The hash of what the faucet sent on this command, if this is the transaction of the command.
fn sent_for(command: [u8; 32], transaction: Transaction) -> Option<[u8; 32]> {
    let caused = transaction.in_message.is_some_and(|message| message.hash == command);
    transaction.out_messages.first().filter(|_| caused).map(|message| message.hash)
}

fn busy() -> ChainError {
    ChainError::RateLimited { endpoint: "the devnet".to_owned() }
}

fn refusal(refused: Refused) -> ChainError {
    match refused {
        Refused::NotAccepted { address, exit_code } => ChainError::Refused { address, exit_code },
        Refused::Full => busy(),
        Refused::TooLarge { .. } | Refused::Malformed(_) => ChainError::BadMessage(refused.to_string()),
    }
}

fn history_error(address: &Address, error: HistoryError) -> ChainError {
    match error {
        HistoryError::Gap { before_lt } => ChainError::Gap { address: *address, before_lt },
        HistoryError::Store(error) => ChainError::BadAnswer(error.to_string()),
    }
}
