//! What a block changed.

use std::collections::BTreeMap;

use tycho_types::cell::Cell;

use super::{Entry, InFlight, Position};
use crate::address::Address;
use crate::chain::{Head, TxId};

/// A transaction as it came out of the executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Whose.
    pub account: Address,
    /// Its logical time and hash.
    pub id: TxId,
    /// Its cell.
    pub cell: Cell,
}

/// A block, and everything that it changed.
#[derive(Debug)]
pub struct Block {
    /// Its number, time and last logical time.
    pub head: Head,
    /// Its transactions, in the order in which they ran.
    pub transactions: Vec<Executed>,
    /// External messages that were accepted when they came, and not any more; they left no transaction.
    pub expired: Vec<[u8; 32]>,
    /// States after the block of the accounts that it touched.
    pub(crate) accounts: BTreeMap<Address, Entry>,
    /// Messages that left the queue.
    pub(crate) delivered: Vec<Position>,
    /// Messages that entered the queue and are still there.
    pub(crate) queued: BTreeMap<Position, InFlight>,
    /// Numbers of the externals that were tried.
    pub(crate) externals_done: Vec<u64>,
    /// All fees burnt since the beginning.
    pub(crate) burnt: u128,
}

impl Block {
    pub(crate) const fn empty(head: Head) -> Self {
        Self {
            head,
            transactions: Vec::new(),
            expired: Vec::new(),
            accounts: BTreeMap::new(),
            delivered: Vec::new(),
            queued: BTreeMap::new(),
            externals_done: Vec::new(),
            burnt: 0,
        }
    }
}
