//! Accounts: who pays, who is paid, and how far what they count has got.
//!
//! Handles are small and `Copy`, so that the hot path never compares an address. They are never given twice: one whose
//! account was closed leads nowhere.

use std::collections::BTreeMap;

use cocoon_units::AdjustedTokens;

use crate::limits::{ACCOUNTS_MAX, NAME_BYTES_MAX};

/// Who pays: a handle to an account opened by [`Ledger::open_payer`](crate::Ledger::open_payer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayerId(pub(crate) u64);

/// Who is paid: a handle to an account opened by [`Ledger::open_payee`](crate::Ledger::open_payee).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayeeId(pub(crate) u64);

/// What a payer's contract holds, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// What the contract has been charged so far.
    pub charged: AdjustedTokens,
    /// What the contract still pays for, whatever its owner does.
    pub secured: AdjustedTokens,
}

impl Credit {
    /// The most that may be counted: what is charged and what is secured. A sum that does not fit is the largest number.
    #[must_use]
    pub fn limit(self) -> AdjustedTokens {
        self.charged.checked_add(self.secured).unwrap_or(AdjustedTokens::MAX)
    }
}

/// How far an account's tokens have got. Invariant: `known ≥ durable ≥ committed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Counted.
    pub known: AdjustedTokens,
    /// On the proxy's disk: a crash does not lose it, but who owns the disk can.
    pub durable: AdjustedTokens,
    /// Covered by a commit that was seen on chain. A payment is signed up to here and never further.
    pub committed: AdjustedTokens,
}

/// Whether a payer stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It may use what its contract secures.
    #[default]
    Open,
    /// It uses nothing more, and the chain does not vouch for that yet: a disk that is set back may forget it.
    Leaving,
    /// The chain does: a last charge may be signed.
    Left,
}

/// A payer's account at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayerView {
    /// How far its tokens have got.
    pub marks: Marks,
    /// What its contract holds.
    pub credit: Credit,
    /// Set aside for requests in flight.
    pub reserved: AdjustedTokens,
    /// Reservations that are open.
    pub open: u64,
    /// Whether it stays.
    pub standing: Standing,
}

/// What both kinds of accounts have.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: Box<str>,
    pub(crate) known: AdjustedTokens,
    /// What the newest commit covers, be it seen on chain or not.
    pub(crate) committing: AdjustedTokens,
    pub(crate) committed: AdjustedTokens,
    /// In memory only: the journal's own state is durable as a whole.
    pub(crate) durable: AdjustedTokens,
}

/// One payer.
#[derive(Clone, Debug)]
pub(crate) struct Payer {
    pub(crate) account: Account,
    pub(crate) credit: Credit,
    /// The first commit that covers that this payer leaves; none while it stays.
    pub(crate) shut_by: Option<u32>,
    /// In memory only: reservations end with the process.
    pub(crate) reserved: AdjustedTokens,
    /// In memory only.
    pub(crate) open: u64,
}

impl Account {
    pub(crate) fn new(name: &str) -> Self {
        let zero = AdjustedTokens::ZERO;
        Self { name: name.into(), known: zero, committing: zero, committed: zero, durable: zero }
    }

    /// What can still be counted before the count does not fit 64 bits.
    pub(crate) fn room(&self) -> AdjustedTokens {
        AdjustedTokens::MAX.checked_sub(self.known).unwrap_or_default()
    }

    pub(crate) fn marks(&self) -> Marks {
        let Self { known, durable, committed, .. } = *self;
        assert!(committed <= durable && durable <= known, "a mark overtook the one before it");
        Marks { known, durable, committed }
    }
}

impl Payer {
    pub(crate) fn new(name: &str, credit: Credit) -> Self {
        Self { account: Account::new(name), credit, shut_by: None, reserved: AdjustedTokens::ZERO, open: 0 }
    }

    /// What has been used of the limit. Tokens that the chain has charged are used even if they are not known here.
    pub(crate) fn used(&self) -> AdjustedTokens {
        self.account.known.max(self.credit.charged)
    }

    /// What of the limit is not used, reserved or not.
    pub(crate) fn unused(&self) -> AdjustedTokens {
        self.credit.limit().checked_sub(self.used()).unwrap_or_default()
    }

    /// What is neither used nor reserved. Nothing, when the credit has become less than what it had been given for.
    pub(crate) fn free(&self) -> AdjustedTokens {
        self.unused().checked_sub(self.reserved).unwrap_or_default()
    }

    pub(crate) fn assert_sound(&self) {
        assert!(self.account.known.checked_add(self.reserved).is_some(), "use and reservations beyond any limit");
        assert!(self.open > 0 || self.reserved == AdjustedTokens::ZERO, "reserved tokens without a reservation");
    }
}

/// What has an [`Account`].
pub(crate) trait HasAccount {
    fn account(&self) -> &Account;
    fn account_mut(&mut self) -> &mut Account;
}

impl HasAccount for Account {
    fn account(&self) -> &Account {
        self
    }

    fn account_mut(&mut self) -> &mut Account {
        self
    }
}

impl HasAccount for Payer {
    fn account(&self) -> &Account {
        &self.account
    }

    fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }
}

/// Accounts of one kind, bounded, by name and by number.
#[derive(Clone, Debug)]
pub(crate) struct Accounts<A> {
    by_name: BTreeMap<Box<str>, u64>,
    by_number: BTreeMap<u64, A>,
    next: u64,
    /// Tokens known to accounts that were closed.
    closed: u128,
}

impl<A> Default for Accounts<A> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), by_number: BTreeMap::new(), next: 0, closed: 0 }
    }
}

impl<A: HasAccount> Accounts<A> {
    /// Whether an account of this name can be opened.
    pub(crate) fn has_room_for(&self, name: &str) -> bool {
        self.by_number.len() < ACCOUNTS_MAX && name.len() <= NAME_BYTES_MAX && !self.by_name.contains_key(name)
    }

    /// The number of the next account.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Adds an account under a number that is not below [`Self::next`]; `false` if it cannot be.
    pub(crate) fn insert(&mut self, number: u64, account: A) -> bool {
        let name = &account.account().name;
        if number < self.next || !self.has_room_for(name) {
            return false;
        }
        let Some(next) = number.checked_add(1) else { return false };
        self.next = next;
        self.by_name.insert(name.clone(), number);
        self.by_number.insert(number, account);
        true
    }

    /// Forgets an account but for its sum.
    pub(crate) fn remove(&mut self, number: u64) -> Option<A> {
        let account = self.by_number.remove(&number)?;
        self.by_name.remove(&account.account().name);
        self.closed += u128::from(account.account().known.get());
        Some(account)
    }

    pub(crate) fn find(&self, name: &str) -> Option<u64> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, number: u64) -> Option<&A> {
        self.by_number.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut A> {
        self.by_number.get_mut(&number)
    }

    /// In the order in which they were opened.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &A)> {
        self.by_number.iter().map(|(number, account)| (*number, account))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut A> {
        self.by_number.values_mut()
    }

    /// Tokens known to all accounts there ever were.
    pub(crate) fn known(&self) -> u128 {
        self.closed + self.by_number.values().map(|account| u128::from(account.account().known.get())).sum::<u128>()
    }

    pub(crate) fn closed(&self) -> u128 {
        self.closed
    }

    /// Puts back what [`Self::next`] and [`Self::closed`] were; `false` if accounts lie beyond it.
    pub(crate) fn restore(&mut self, next: u64, closed: u128) -> bool {
        let is_beyond = next < self.next;
        (self.next, self.closed) = (next, closed);
        !is_beyond
    }

    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }
}
