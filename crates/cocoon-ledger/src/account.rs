//! Accounts: who pays, who is paid.
//!
//! Handles are small and `Copy`, so that the hot path never hashes an address.

use std::collections::BTreeMap;

use cocoon_units::AdjustedTokens;

use crate::limits::{ACCOUNTS_MAX, NAME_BYTES_MAX};

/// Who pays: a handle to an account opened by [`Ledger::open_payer`](crate::Ledger::open_payer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayerId(pub(crate) usize);

/// Who is paid: a handle to an account opened by [`Ledger::open_payee`](crate::Ledger::open_payee).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayeeId(pub(crate) usize);

/// One payer. Invariant: `used + reserved ≤ stake`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Payer {
    pub(crate) stake: AdjustedTokens,
    pub(crate) used: AdjustedTokens,
    pub(crate) reserved: AdjustedTokens,
    pub(crate) open: u64,
}

impl Payer {
    /// What is neither used nor reserved.
    pub(crate) fn free(&self) -> AdjustedTokens {
        let taken = self.used.checked_add(self.reserved).expect("used + reserved never exceed the stake");
        self.stake.checked_sub(taken).expect("used + reserved never exceed the stake")
    }

    pub(crate) fn assert_sound(&self) {
        let taken = self.used.get().checked_add(self.reserved.get());
        assert!(taken.is_some_and(|taken| taken <= self.stake.get()), "unsettled use above the stake");
        assert!(self.open > 0 || self.reserved == AdjustedTokens::ZERO, "reserved tokens without a reservation");
    }
}

/// Names and their accounts, bounded, in the order they were opened.
#[derive(Debug)]
pub(crate) struct Accounts<A> {
    by_name: BTreeMap<Box<str>, usize>,
    accounts: Vec<A>,
}

impl<A> Default for Accounts<A> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), accounts: Vec::new() }
    }
}

impl<A> Accounts<A> {
    /// Finds the account of this name or opens it; `None` when there is no room for it.
    pub(crate) fn open(&mut self, name: &str, new: impl FnOnce() -> A) -> Option<usize> {
        if let Some(index) = self.by_name.get(name) {
            return Some(*index);
        }
        if self.accounts.len() >= ACCOUNTS_MAX || name.len() > NAME_BYTES_MAX {
            return None;
        }
        let index = self.accounts.len();
        self.accounts.push(new());
        self.by_name.insert(name.into(), index);
        Some(index)
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, index: usize) -> &A {
        self.accounts.get(index).expect("handles come from this ledger and accounts are never removed")
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> &mut A {
        self.accounts.get_mut(index).expect("handles come from this ledger and accounts are never removed")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &A> {
        self.accounts.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }
}
