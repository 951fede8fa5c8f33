//! What the journal's entries add up to: the same whether they are applied as they happen or read back.
//!
//! The ledger and the journal each have one. The ledger checks a change before it makes it an [`Entry`]; here an entry
//! that cannot be is an error, so that a journal never holds what it could not give back.

mod snapshot;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use cocoon_units::AdjustedTokens;

use crate::account::{Account, Accounts, HasAccount, PayeeId, Payer, PayerId};
use crate::commit::Commits;
use crate::entry::Entry;
use crate::limits::{NOTE_BYTES_MAX, NOTE_KEY_BYTES_MAX, NOTES_MAX};
use crate::reservation::{Run, Spent, SpentRequest};
use crate::spent::SpentIds;

/// A ledger without its reservations, as a journal gives it back.
#[derive(Clone, Default)]
pub struct State {
    /// Entries so far.
    pub(crate) seq: u64,
    pub(crate) payers: Accounts<Payer>,
    pub(crate) payees: Accounts<Account>,
    /// Tokens that were ever settled: what all payers were charged, and equally what all payees earned.
    pub(crate) settled: u128,
    pub(crate) spent: SpentIds,
    pub(crate) notes: BTreeMap<Box<str>, Bytes>,
    pub(crate) commits: Commits,
    /// The run that this state was read for. Not part of what is kept.
    pub(crate) run: Run,
}

/// An entry that contradicts those before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Impossible;

impl State {
    /// Makes the change that the entry says. After an error the state is not to be used.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<(), Impossible> {
        self.seq = self.seq.checked_add(1).ok_or(Impossible)?;
        match entry {
            Entry::PayerOpened { payer, name, credit } => {
                ensure(self.payers.insert(payer.0, Payer::new(name, *credit)))
            }
            Entry::CreditSet { payer, credit } => {
                self.payers.get_mut(payer.0).ok_or(Impossible)?.credit = *credit;
                Ok(())
            }
            Entry::PayerClosed { payer } => self.payers.remove(payer.0).map(drop).ok_or(Impossible),
            Entry::PayerShut { payer } => self.shut(*payer),
            Entry::PayeeOpened { payee, name } => ensure(self.payees.insert(payee.0, Account::new(name))),
            Entry::PayeeClosed { payee } => self.payees.remove(payee.0).map(drop).ok_or(Impossible),
            Entry::Settled { payer, payee, tokens, spent } => self.settle(*payer, *payee, *tokens, spent.as_ref()),
            Entry::Voided { payer, id, run, opened_at } => {
                let spent = Spent { id: *id, run: *run, opened_at: *opened_at, receipt: Bytes::new() };
                self.spend(*payer, AdjustedTokens::ZERO, spent)
            }
            Entry::NoteSet { key, value } => self.set_note(key, value.as_ref()),
            Entry::CommitBegun { number } => self.begin_commit(*number),
            Entry::CommitSeen { number } => self.see_commit(*number),
        }
    }

    /// What was charged is what was earned.
    pub(crate) fn assert_conserved(&self) {
        assert!(self.payers.known() == self.settled, "payers were charged what was settled");
        assert!(self.payees.known() == self.settled, "payees earned what was settled");
    }

    fn settle(
        &mut self,
        payer: PayerId,
        payee: PayeeId,
        tokens: AdjustedTokens,
        spent: Option<&Spent>,
    ) -> Result<(), Impossible> {
        let charged = self.payers.get_mut(payer.0).ok_or(Impossible)?.account_mut();
        charged.known = charged.known.checked_add(tokens).ok_or(Impossible)?;
        let earned = self.payees.get_mut(payee.0).ok_or(Impossible)?;
        earned.known = earned.known.checked_add(tokens).ok_or(Impossible)?;
        self.settled = self.settled.checked_add(u128::from(tokens.get())).ok_or(Impossible)?;
        if tokens > AdjustedTokens::ZERO {
            self.commits.news();
        }
        match spent {
            Some(spent) => self.spend(payer, tokens, spent.clone()),
            None => Ok(()),
        }
    }

    fn shut(&mut self, payer: PayerId) -> Result<(), Impossible> {
        let by = self.commits.covering().ok_or(Impossible)?;
        let payer = self.payers.get_mut(payer.0).ok_or(Impossible)?;
        ensure(payer.shut_by.replace(by).is_none())?;
        self.commits.news();
        Ok(())
    }

    fn spend(&mut self, payer: PayerId, tokens: AdjustedTokens, spent: Spent) -> Result<(), Impossible> {
        let request = SpentRequest { payer, tokens, receipt: spent.receipt.clone() };
        ensure(self.spent.insert(spent, request))
    }

    /// Whether a note of this key and value may be set.
    pub(crate) fn has_room_for_note(&self, key: &str, value: Option<&Bytes>) -> bool {
        let Some(value) = value else { return true };
        let is_short = key.len() <= NOTE_KEY_BYTES_MAX && value.len() <= NOTE_BYTES_MAX;
        is_short && (self.notes.len() < NOTES_MAX || self.notes.contains_key(key))
    }

    fn set_note(&mut self, key: &str, value: Option<&Bytes>) -> Result<(), Impossible> {
        ensure(self.has_room_for_note(key, value))?;
        match value {
            Some(value) => self.notes.insert(key.into(), value.clone()),
            None => self.notes.remove(key),
        };
        Ok(())
    }

    fn begin_commit(&mut self, number: u32) -> Result<(), Impossible> {
        ensure(self.commits.begin(number))?;
        self.each_account(|account| account.committing = account.known);
        Ok(())
    }

    fn see_commit(&mut self, number: u32) -> Result<(), Impossible> {
        ensure(self.commits.see(number))?;
        self.each_account(|account| account.committed = account.committing);
        Ok(())
    }

    /// What is here is on disk: it comes from there.
    pub(crate) fn all_durable(&mut self) {
        self.each_account(|account| account.durable = account.known);
    }

    fn each_account(&mut self, mut change: impl FnMut(&mut Account)) {
        self.payers.iter_mut().for_each(|payer| change(payer.account_mut()));
        self.payees.iter_mut().for_each(change);
    }
}

/// Without names: addresses are nobody's business in a log.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("seq", &self.seq)
            .field("payers", &self.payers.len())
            .field("payees", &self.payees.len())
            .field("spent", &self.spent.len())
            .field("commits", &self.commits)
            .finish_non_exhaustive()
    }
}

fn ensure(holds: bool) -> Result<(), Impossible> {
    if holds { Ok(()) } else { Err(Impossible) }
}
