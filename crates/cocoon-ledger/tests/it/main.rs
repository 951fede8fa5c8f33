//! The ledger and its journal from outside: against a naive model, against crashes, against attacks.
#![cfg(test)]

mod attack;
mod crash;
mod disk;
mod journal;
mod model;

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cocoon_ledger::{Credit, Journal, JournalError, Ledger, Run, Salts, Spent, State};
use cocoon_units::AdjustedTokens;

use crate::disk::Disk;

const KEY: [u8; 32] = [7; 32];

fn tokens(count: u64) -> AdjustedTokens {
    AdjustedTokens::new(count)
}

fn credit(charged: u64, secured: u64) -> Credit {
    Credit { charged: tokens(charged), secured: tokens(secured) }
}

fn id(number: u64) -> [u8; 32] {
    let mut id = [0xAA; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

/// Of a ledger in memory.
fn spent(number: u64, opened_at: u64) -> Spent {
    spent_in(Run::default(), number, opened_at)
}

fn spent_in(run: Run, number: u64, opened_at: u64) -> Spent {
    Spent { id: id(number), run, opened_at, receipt: Bytes::from(format!("receipt {number}")) }
}

/// Salts that differ, from a seed.
fn salts(seed: u64) -> Salts {
    let mut random = Random(seed);
    Box::new(move || std::array::from_fn(|_| random.next().to_le_bytes()[0]))
}

fn open_with(disk: &Disk, key: &[u8; 32]) -> Result<(Journal, State), JournalError> {
    // Every run has another number, though it begins with the same disk.
    static OPENED: AtomicU64 = AtomicU64::new(0);
    Journal::open(disk.clone(), key, salts(OPENED.fetch_add(1, Ordering::Relaxed)))
}

fn open(disk: &Disk) -> (Journal, Ledger) {
    let (journal, state) = open_with(disk, &KEY).expect("this journal opens");
    (journal, Ledger::restore(state))
}

/// Writes all there is to write.
fn write(journal: &mut Journal, ledger: &mut Ledger) {
    while let Some(batch) = ledger.take_batch() {
        ledger.written(journal.append(batch).expect("this disk works"));
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below a usize")
    }
}
