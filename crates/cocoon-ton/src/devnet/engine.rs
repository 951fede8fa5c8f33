//! A TON network as a value: accounts, messages between them, and blocks that move both on. Pure and deterministic.
//!
//! 1. [`Engine::submit`] takes an external message when the contract would accept it now, and says the exit code when not.
//! 2. [`Engine::tick`] makes one block at a given time: messages that waited, then externals, then what those caused,
//!    up to a bound. Transactions are run by `tycho-executor` with mainnet's configuration.
//! 3. The [`Block`] says everything that changed; a store or a test applies it.
//!
//! What it is not: a clock, a disk, or a consensus. There is one shard, and every block is final.
//! Money is conserved to the unit: [`Engine::total_nano`] counts accounts, messages and burnt fees, and never changes.
//!
//! Order: TON promises that messages of one sender to one destination arrive in order of their logical time. Here all
//! messages do (`spec/ton.md` 2.2); [`Faults`] rearrange accounts among each other, which the public network does too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use cocoon_units::Nano;
use sha2::{Digest, Sha256};
use tycho_executor::{Executor, ExecutorOutput, ExecutorParams, TxError};
use tycho_types::cell::{Cell, HashBytes};
use tycho_types::models::{BlockchainConfig, ShardAccount, StdAddr};

use crate::address::Address;
use crate::chain::{Head, TxId};
use crate::limits::{BLOCK_LT_STEP, BLOCK_TRANSACTIONS_MAX, EXTERNALS_PENDING_MAX, SETTLE_BLOCKS_MAX};

mod account;
mod block;
mod external;
mod faults;
mod genesis;
mod network;
pub mod puppet;
mod queue;

pub use block::{Block, Executed};
pub use external::Refused;
pub use faults::Faults;
pub use genesis::Genesis;
pub use puppet::{Bounce, Order};

pub(crate) use account::{Entry, view};
pub(crate) use external::Waiting;
pub(crate) use network::Network;
pub(crate) use queue::{InFlight, Position};

use queue::Queue;

/// The network. A clone goes its own way from there, and shares all cells.
#[derive(Debug, Clone)]
pub struct Engine {
    network: Network,
    seed: [u8; 32],
    head: Head,
    accounts: BTreeMap<Address, Entry>,
    queue: Queue,
    externals: VecDeque<Waiting>,
    pending: BTreeSet<[u8; 32]>,
    next_external: u64,
    issued: u128,
    burnt: u128,
    faults: Faults,
    history: Option<BTreeMap<Address, Vec<Executed>>>,
    nonce: u64,
}

/// Everything of an engine that outlives it.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) seed: [u8; 32],
    pub(crate) head: Head,
    pub(crate) accounts: BTreeMap<Address, Entry>,
    pub(crate) queue: Vec<(Position, InFlight)>,
    pub(crate) externals: Vec<Waiting>,
    pub(crate) next_external: u64,
    pub(crate) issued: u128,
    pub(crate) burnt: u128,
}

/// Money appeared or vanished: a defect of the engine or of the executor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{issued} nano were issued, and {found} are there")]
pub struct NotConserved {
    /// How much there was at the beginning.
    pub issued: u128,
    /// How much there is now, in accounts, messages and burnt fees.
    pub found: u128,
}

impl Engine {
    /// A network whose first block holds what `genesis` says. It keeps the history of every account.
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        let mut engine = Self::restore(genesis.build());
        engine.history = Some(BTreeMap::new());
        engine
    }

    /// A network that goes on where `saved` stands. It keeps no history: whoever saved it does.
    pub(crate) fn restore(saved: Saved) -> Self {
        let mut queue = Queue::default();
        for (at, message) in saved.queue {
            queue.push(at, message);
        }
        Self {
            network: Network::mainnet(),
            seed: saved.seed,
            head: saved.head,
            accounts: saved.accounts,
            queue,
            pending: saved.externals.iter().map(|waiting| waiting.hash).collect(),
            externals: saved.externals.into(),
            next_external: saved.next_external,
            issued: saved.issued,
            burnt: saved.burnt,
            faults: Faults::default(),
            history: None,
            nonce: 0,
        }
    }

    // Readers.

    /// The newest block.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// An account as of the newest block.
    #[must_use]
    pub fn account(&self, address: &Address) -> crate::chain::Account {
        view(*address, self.accounts.get(address).map(|entry| &entry.state), self.head)
    }

    /// An account as the executor reads it; `None` for one that was never used.
    #[must_use]
    pub fn shard_account(&self, address: &Address) -> Option<&ShardAccount> {
        self.accounts.get(address).map(|entry| &entry.state)
    }

    /// Money of an account.
    #[must_use]
    pub fn balance(&self, address: &Address) -> Nano {
        let nano = self.accounts.get(address).map_or(0, |entry| entry.balance);
        Nano::new(u64::try_from(nano).expect("all that was ever issued fits, and money is conserved"))
    }

    /// The transactions of an account, oldest first. Empty in an engine that keeps no history.
    #[must_use]
    pub fn transactions(&self, address: &Address) -> &[Executed] {
        self.history.as_ref().and_then(|history| history.get(address)).map_or(&[], Vec::as_slice)
    }

    /// Messages between accounts that have not arrived.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// External messages that wait for a block.
    #[must_use]
    pub fn externals_len(&self) -> usize {
        self.externals.len()
    }

    /// Whether a block now would have something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let next = self.head.seqno.saturating_add(1);
        !self.faults.stalled
            && (self.externals.iter().any(|waiting| !self.faults.holds(&waiting.to, next))
                || self.queue.next_after(None, Bound::Unbounded, |to| !self.faults.holds(to, next)).is_some())
    }

    /// The network's configuration.
    #[must_use]
    pub fn config(&self) -> Arc<BlockchainConfig> {
        self.network.config.clone()
    }

    /// All money: in accounts, in messages on their way, and burnt as fees.
    #[must_use]
    pub fn total_nano(&self) -> u128 {
        let accounts: u128 = self.accounts.values().map(|entry| entry.balance).sum();
        accounts + self.in_flight_nano() + self.burnt
    }

    /// Money in messages on their way, with the forwarding fees that they carry.
    #[must_use]
    pub const fn in_flight_nano(&self) -> u128 {
        self.queue.nano()
    }

    /// Money burnt as fees.
    #[must_use]
    pub const fn burnt_nano(&self) -> u128 {
        self.burnt
    }

    /// Counts all money again, from the states themselves.
    ///
    /// # Errors
    ///
    /// [`NotConserved`] when that is not what was issued.
    pub fn check_conservation(&self) -> Result<(), NotConserved> {
        let accounts: u128 = self.accounts.values().map(|entry| account::balance(&entry.state)).sum();
        let flying: u128 = self.queue.iter().map(|(_, message)| queue::money_in(&message.cell)).sum();
        let found = accounts + flying + self.burnt;
        if found == self.issued { Ok(()) } else { Err(NotConserved { issued: self.issued, found }) }
    }

    /// What goes wrong on purpose.
    #[must_use]
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Changes what goes wrong on purpose.
    pub const fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    // Inputs.

    /// Takes an external message for the next block, if its destination accepts it now.
    ///
    /// A message that is waiting already is taken once. Acceptance is no promise: the state may change before the block.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the contract's exit code where its code ran.
    pub fn submit(&mut self, message: &Cell) -> Result<[u8; 32], Refused> {
        self.admit(message, self.head.unix_s).map(|(hash, _)| hash)
    }

    /// The same at a given time; also the message as it now waits, unless it waited already or a fault took it.
    pub(crate) fn admit(&mut self, message: &Cell, unix_s: u32) -> Result<([u8; 32], Option<Waiting>), Refused> {
        let (hash, to) = external::parse(message, &self.network.parsed)?;
        if self.pending.contains(&hash) {
            return Ok((hash, None));
        }
        if self.externals.len() >= EXTERNALS_PENDING_MAX {
            return Err(Refused::Full);
        }
        self.check_accepted(message, &to, unix_s)?;
        if self.faults.takes_external(&to) {
            return Ok((hash, None));
        }
        let waiting = Waiting { number: self.next_external, hash, to, cell: message.clone() };
        self.next_external += 1;
        self.pending.insert(hash);
        self.externals.push_back(waiting.clone());
        Ok((hash, Some(waiting)))
    }

    /// Makes a puppet ([`puppet`]) send a message in the next block.
    ///
    /// # Errors
    ///
    /// [`Refused`] when there is no such puppet, or it has no money for the fees.
    pub fn order(&mut self, from: Address, order: &Order) -> Result<[u8; 32], Refused> {
        self.nonce += 1;
        let nonce = self.next_external ^ (self.nonce << 32);
        let message = puppet::command(from, order, nonce).map_err(|e| Refused::Malformed(e.to_string()))?;
        self.submit(&message)
    }

    /// Makes one block at `unix_s`, or at the time of the last one when that is later.
    pub fn tick(&mut self, unix_s: u32) -> Block {
        self.tick_up_to(unix_s, BLOCK_TRANSACTIONS_MAX)
    }

    /// The same with fewer transactions, so that a test decides what happens between two of them.
    pub fn tick_up_to(&mut self, unix_s: u32, transactions_max: usize) -> Block {
        if self.faults.stalled {
            return Block::empty(self.head);
        }
        let start_lt = next_block_lt(self.head.lt);
        let head = Head { seqno: self.head.seqno + 1, unix_s: unix_s.max(self.head.unix_s), lt: start_lt };
        let mut making = Making {
            params: self.params(head),
            block: Block::empty(head),
            start_lt,
            left: transactions_max.min(BLOCK_TRANSACTIONS_MAX),
        };
        self.deliver(&mut making, None, Bound::Excluded(Position::first_at(start_lt)));
        self.run_externals(&mut making);
        self.deliver(&mut making, Some(Position::first_at(start_lt)), Bound::Unbounded);
        self.finish(making)
    }

    /// Makes blocks until there is nothing left to do, at most [`SETTLE_BLOCKS_MAX`], and returns them.
    pub fn settle(&mut self, unix_s: u32) -> Vec<Block> {
        let mut blocks = Vec::new();
        while self.has_work() && blocks.len() < SETTLE_BLOCKS_MAX {
            blocks.push(self.tick(unix_s));
        }
        blocks
    }

    // Making a block.

    fn params(&self, head: Head) -> ExecutorParams {
        let mut digest = Sha256::new();
        digest.update(self.seed);
        digest.update(head.seqno.to_be_bytes());
        ExecutorParams {
            rand_seed: HashBytes(digest.finalize().into()),
            block_unixtime: head.unix_s,
            block_lt: head.lt,
            strict_extra_currency: true,
            ..ExecutorParams::default()
        }
    }

    /// Delivers messages that lie after `cursor` and before `end`, in order, while the block has room.
    fn deliver(&mut self, making: &mut Making, mut cursor: Option<Position>, end: Bound<Position>) {
        let seqno = making.block.head.seqno;
        while making.left > 0 {
            let next = self.queue.next_after(cursor, end, |to| !self.faults.holds(to, seqno));
            let Some(at) = next else { return };
            let Some(message) = self.queue.remove(&at) else { return };
            cursor = Some(at);
            // The rest of the forwarding fee is whoever's carried the message; nobody does here.
            self.burnt += message.forward_fee;
            making.block.delivered.push(at);
            if self.execute(making, message.to, false, &message.cell).is_err() {
                tracing::error!(to = %message.to, "a message that no executor can run is lost");
                self.burnt += message.value;
            }
        }
    }

    fn run_externals(&mut self, making: &mut Making) {
        let seqno = making.block.head.seqno;
        let mut held = VecDeque::new();
        while making.left > 0 {
            let Some(waiting) = self.externals.pop_front() else { break };
            if self.faults.holds(&waiting.to, seqno) {
                held.push_back(waiting);
                continue;
            }
            self.pending.remove(&waiting.hash);
            if self.execute(making, waiting.to, true, &waiting.cell).is_err() {
                // The state changed since the message was taken. As on the public network, it leaves no trace.
                tracing::debug!(to = %waiting.to, "an external message is not accepted any more");
                making.block.expired.push(waiting.hash);
            }
            making.block.externals_done.push(waiting.number);
        }
        held.append(&mut self.externals);
        self.externals = held;
    }

    /// Runs one transaction, or changes nothing.
    fn execute(&mut self, making: &mut Making, to: Address, external: bool, message: &Cell) -> Result<(), TxError> {
        let missing = Entry::missing();
        let before = self.accounts.get(&to).unwrap_or(&missing);
        let output = Executor::new(&making.params, &self.network.parsed)
            .with_min_lt(making.start_lt)
            .begin_ordinary(&StdAddr::from(to), external, message.clone(), &before.state)?
            .commit()?;
        let executed = Executed {
            account: to,
            id: TxId { lt: output.new_state.last_trans_lt, hash: output.new_state.last_trans_hash.0 },
            cell: output.transaction.inner().clone(),
        };
        self.apply(making, executed, output);
        Ok(())
    }

    fn apply(&mut self, making: &mut Making, executed: Executed, output: ExecutorOutput) {
        let meta = output.transaction_meta;
        self.burnt += u128::from(meta.total_fees) + u128::from(output.burned);
        making.block.head.lt = making.block.head.lt.max(meta.next_lt);
        making.left -= 1;
        for message in &meta.out_msgs {
            if let Some((at, flying)) = InFlight::read(message.inner().clone()) {
                making.block.queued.insert(at, flying.clone());
                self.queue.push(at, flying);
            }
        }
        let entry = Entry { state: output.new_state, balance: output.new_state_meta.balance.tokens.into() };
        making.block.accounts.insert(executed.account, entry.clone());
        self.accounts.insert(executed.account, entry);
        if let Some(history) = &mut self.history {
            history.entry(executed.account).or_default().push(executed.clone());
        }
        making.block.transactions.push(executed);
    }

    fn finish(&mut self, making: Making) -> Block {
        let mut block = making.block;
        for at in &block.delivered {
            // What was sent and delivered within the block never has to be stored.
            block.queued.remove(at);
        }
        block.burnt = self.burnt;
        self.head = block.head;
        let seqno = self.head.seqno.saturating_add(1);
        self.faults.held_until.retain(|_, until| seqno < *until);
        block
    }
}

/// A block while it is made.
struct Making {
    params: ExecutorParams,
    block: Block,
    start_lt: u64,
    left: usize,
}

/// The start of the block after one that ended at `lt`.
const fn next_block_lt(lt: u64) -> u64 {
    (lt / BLOCK_LT_STEP + 1) * BLOCK_LT_STEP
}
