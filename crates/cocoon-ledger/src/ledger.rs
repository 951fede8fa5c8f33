//! The ledger itself: the only place where a balance changes.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use cocoon_units::AdjustedTokens;

use crate::account::{Account, Credit, HasAccount, Marks, PayeeId, Payer, PayerId, PayerView, Standing};
use crate::batch::{Batch, Written};
use crate::commit::{Commit, RolledBack};
use crate::entry::Entry;
use crate::limits::{BATCH_ENTRIES_MAX, RECEIPT_BYTES_MAX, UNWRITTEN_MAX};
use crate::reservation::{
    LostRefusal, NoteRefused, Overcharge, Rejection, Reservation, Run, Settled, Spent, SpentRequest,
};
use crate::state::State;

/// Accounts of payers and payees, the open reservations between them, and what of it is on disk and on chain.
#[derive(Debug, Default)]
pub struct Ledger {
    state: State,
    totals: Totals,
    /// Without it everything is in memory.
    journaled: Option<Tail>,
}

/// Entries that are not on disk yet.
struct Tail {
    /// Those that no batch has taken.
    pending: VecDeque<Entry>,
    /// The number of the entry after the last that is on disk.
    written: u64,
}

/// Sums since this ledger was made or restored. Invariant: `reserved = charged + released + open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Every reservation that was made, and every lost request that was settled.
    pub reserved: u128,
    /// What was charged, and equally what was earned.
    pub charged: u128,
    /// What was given back: unused parts of settled reservations, and released ones.
    pub released: u128,
    /// What is reserved now.
    pub open: u128,
    /// How many reservations are open now.
    pub reservations: u64,
}

/// Accounts.
impl Ledger {
    /// A ledger without accounts that lives in memory: what is known is durable, and nothing is ever committed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The ledger that a journal gave back. From here on its entries must be written there.
    #[must_use]
    pub fn restore(mut state: State) -> Self {
        state.all_durable();
        let tail = Tail { pending: VecDeque::new(), written: state.seq };
        let ledger = Self { state, totals: Totals::default(), journaled: Some(tail) };
        ledger.assert_conserved();
        ledger
    }

    /// Finds the payer of this name or opens an account, and sets its credit.
    ///
    /// # Errors
    ///
    /// [`Rejection::AccountsFull`].
    pub fn open_payer(&mut self, name: &str, credit: Credit) -> Result<PayerId, Rejection> {
        if let Some(payer) = self.find_payer(name) {
            self.set_credit(payer, credit);
            return Ok(payer);
        }
        if !self.state.payers.has_room_for(name) {
            return Err(Rejection::AccountsFull);
        }
        let payer = PayerId(self.state.payers.next());
        self.record(Entry::PayerOpened { payer, name: name.into(), credit });
        Ok(payer)
    }

    /// Says what the payer's contract holds now. Less than before does not touch reservations that are open.
    /// Nothing happens to an account that was closed.
    pub fn set_credit(&mut self, payer: PayerId, credit: Credit) {
        if self.state.payers.get(payer.0).is_some_and(|account| account.credit != credit) {
            self.record(Entry::CreditSet { payer, credit });
        }
    }

    /// Finds the payee of this name or opens an account.
    ///
    /// # Errors
    ///
    /// [`Rejection::AccountsFull`].
    pub fn open_payee(&mut self, name: &str) -> Result<PayeeId, Rejection> {
        if let Some(payee) = self.find_payee(name) {
            return Ok(payee);
        }
        if !self.state.payees.has_room_for(name) {
            return Err(Rejection::AccountsFull);
        }
        let payee = PayeeId(self.state.payees.next());
        self.record(Entry::PayeeOpened { payee, name: name.into() });
        Ok(payee)
    }

    /// The payer of this name, if it has an account.
    #[must_use]
    pub fn find_payer(&self, name: &str) -> Option<PayerId> {
        self.state.payers.find(name).map(PayerId)
    }

    /// The payee of this name, if it has an account.
    #[must_use]
    pub fn find_payee(&self, name: &str) -> Option<PayeeId> {
        self.state.payees.find(name).map(PayeeId)
    }

    /// A payer leaves: it reserves nothing more, for good. Once the chain vouches for that ([`Standing::Left`]), nothing is
    /// charged to it any more but what is reserved, and its last charge may be signed. The next commit covers it, and is
    /// begun for it if for nothing else.
    pub fn shut_payer(&mut self, payer: PayerId) {
        if self.state.payers.get(payer.0).is_some_and(|account| account.shut_by.is_none())
            && self.state.commits.covering().is_some()
        {
            self.record(Entry::PayerShut { payer });
        }
    }

    /// Forgets a payer whose contract is closed; its name is free again. Says `false`, and does nothing, while
    /// reservations of it are open.
    pub fn close_payer(&mut self, payer: PayerId) -> bool {
        match self.state.payers.get(payer.0) {
            Some(account) if account.open > 0 => return false,
            Some(_) => self.record(Entry::PayerClosed { payer }),
            None => {}
        }
        true
    }

    /// Forgets a payee whose contract is closed; its name is free again. What is settled on it later is charged to
    /// nobody.
    pub fn close_payee(&mut self, payee: PayeeId) {
        if self.state.payees.get(payee.0).is_some() {
            self.record(Entry::PayeeClosed { payee });
        }
    }

    /// The payer's account now; an empty one if it was closed.
    #[must_use]
    pub fn payer(&self, payer: PayerId) -> PayerView {
        let Some(account) = self.state.payers.get(payer.0) else { return PayerView::default() };
        let Payer { credit, reserved, open, shut_by, .. } = *account;
        let standing = match shut_by {
            None => Standing::Open,
            Some(by) if self.state.commits.has_seen(by) => Standing::Left,
            Some(_) => Standing::Leaving,
        };
        PayerView { marks: self.marks(account), credit, reserved, open, standing }
    }

    /// What the payee has earned; nothing if its account was closed.
    #[must_use]
    pub fn payee(&self, payee: PayeeId) -> Marks {
        self.state.payees.get(payee.0).map(|account| self.marks(account)).unwrap_or_default()
    }

    /// All payers, in the order in which they were opened.
    pub fn payers(&self) -> impl Iterator<Item = (PayerId, &str)> {
        self.state.payers.iter().map(|(number, payer)| (PayerId(number), &*payer.account.name))
    }

    /// All payees, in the order in which they were opened.
    pub fn payees(&self) -> impl Iterator<Item = (PayeeId, &str)> {
        self.state.payees.iter().map(|(number, account)| (PayeeId(number), &*account.name))
    }

    /// The name of an account that is open.
    #[must_use]
    pub fn name_of_payer(&self, payer: PayerId) -> Option<&str> {
        self.state.payers.get(payer.0).map(|payer| &*payer.account.name)
    }

    /// The name of an account that is open.
    #[must_use]
    pub fn name_of_payee(&self, payee: PayeeId) -> Option<&str> {
        self.state.payees.get(payee.0).map(|account| &*account.name)
    }
}

/// Requests.
impl Ledger {
    /// Sets tokens aside: what is used and reserved stays within what the payer's contract was charged and secures.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] that says whether waiting, paying or nothing would help.
    pub fn reserve(&mut self, payer: PayerId, tokens: AdjustedTokens) -> Result<Reservation, Rejection> {
        if self.unwritten() >= UNWRITTEN_MAX {
            return Err(Rejection::JournalBehind);
        }
        let account = self.state.payers.get_mut(payer.0).filter(|account| account.shut_by.is_none());
        let account = account.ok_or(Rejection::PayerClosed)?;
        account.assert_sound();
        if tokens > account.free() {
            return Err(reject(account, tokens));
        }
        account.reserved = account.reserved.checked_add(tokens).expect("within the limit, which fits");
        account.open += 1;
        account.assert_sound();
        self.totals.open(tokens);
        Ok(Reservation { payer, tokens })
    }

    /// Charges the payer what was used, never above the reservation, credits the payee with exactly that, and marks the
    /// request's id as spent.
    ///
    /// Nothing is charged if the id is spent already in the same run, or the payee's account was closed. A client that
    /// uses an id for two requests at a time would so get one of them for nothing: refuse an id that is in flight or
    /// [spent](Self::spent) before it goes to a worker.
    pub fn settle(
        &mut self,
        reservation: Reservation,
        payee: PayeeId,
        used: AdjustedTokens,
        spent: Option<Spent>,
    ) -> Settled {
        let (payer, reserved) = (reservation.payer, reservation.tokens);
        let is_repeat = spent.as_ref().is_some_and(|spent| self.state.spent.contains(&spent.id, spent.run));
        let Some(room) = self.state.payees.get(payee.0).map(Account::room) else {
            self.release(reservation, spent.map(|spent| (spent.id, spent.opened_at)));
            return Settled { charged: AdjustedTokens::ZERO, clamped: None, is_repeat };
        };
        let charged = if is_repeat { AdjustedTokens::ZERO } else { used.min(reserved).min(room) };
        self.give_back(reservation, charged);
        self.charge(payer, payee, charged, spent.filter(|_| !is_repeat));
        let clamped = (used > reserved).then_some(Overcharge { reported: used, reserved });
        Settled { charged, clamped, is_repeat }
    }

    /// Gives the whole reservation back: nothing is charged. The id of a request that a worker had in this run, with the
    /// [`seq`](Self::seq) at which it went there, is spent for nothing: its receipt cannot be handed over later.
    pub fn release(&mut self, reservation: Reservation, dispatched: Option<([u8; 32], u64)>) {
        let payer = reservation.payer;
        self.give_back(reservation, AdjustedTokens::ZERO);
        let run = self.run();
        if let Some((id, opened_at)) = dispatched
            && !self.state.spent.contains(&id, run)
        {
            self.record(Entry::Voided { payer, id, run, opened_at });
        }
    }

    /// Settles a request that a crash lost, from its receipt: charges what was used as far as the payer has free credit;
    /// the rest is lost to the payee. The caller has verified the receipt and the tag, and has cut `used` to what the tag
    /// says was reserved. `spent` names the run that lost it, so that a request which its client made under the same id
    /// since then is another one.
    ///
    /// # Errors
    ///
    /// [`LostRefusal`], when the request was or may have been paid for before, or an account is closed.
    pub fn settle_lost(
        &mut self,
        payer: PayerId,
        payee: PayeeId,
        used: AdjustedTokens,
        spent: Spent,
    ) -> Result<Settled, LostRefusal> {
        if self.state.spent.contains(&spent.id, spent.run) {
            return Err(LostRefusal::AlreadySpent);
        }
        let opened_at = spent.opened_at;
        if let Some(forgotten) = self.state.spent.forgotten().filter(|forgotten| opened_at <= *forgotten) {
            return Err(LostRefusal::TooOld { opened_at, forgotten });
        }
        let Some(account) = self.state.payers.get(payer.0) else { return Err(LostRefusal::AccountClosed) };
        if account.shut_by.is_some_and(|by| self.state.commits.has_seen(by)) {
            return Err(LostRefusal::AccountClosed);
        }
        let free = account.free();
        let room = self.state.payees.get(payee.0).ok_or(LostRefusal::AccountClosed)?.room();
        let charged = used.min(free).min(room);
        self.totals.open(charged);
        self.totals.close(charged, charged);
        self.charge(payer, payee, charged, Some(spent));
        let clamped = (used > free).then_some(Overcharge { reported: used, reserved: free });
        Ok(Settled { charged, clamped, is_repeat: false })
    }

    /// What is remembered of a request that was paid for or given up, in whatever run.
    #[must_use]
    pub fn spent(&self, id: &[u8; 32]) -> Option<SpentRequest> {
        self.state.spent.of(id).next().cloned()
    }

    /// The same of this payer's request, whoever else used its id; the dearest, if it used the id again after a crash.
    #[must_use]
    pub fn spent_by(&self, payer: PayerId, id: &[u8; 32]) -> Option<SpentRequest> {
        self.state.spent.of(id).filter(|request| request.payer == payer).max_by_key(|request| request.tokens).cloned()
    }

    /// The present run.
    #[must_use]
    pub fn run(&self) -> Run {
        self.state.run
    }

    /// The number of the next entry. It stands in the tag of a request when that goes to a worker.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.state.seq
    }

    /// Sums over all accounts.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Checks every account against the totals: the expensive form of what each change asserts.
    pub fn assert_conserved(&self) {
        let mut reserved = 0u128;
        for (_, payer) in self.state.payers.iter() {
            payer.assert_sound();
            let _ = self.marks(payer);
            reserved += u128::from(payer.reserved.get());
        }
        assert!(reserved == self.totals.open, "open reservations are what the totals say");
        self.state.assert_conserved();
        self.totals.assert_conserved();
    }

    fn give_back(&mut self, reservation: Reservation, charged: AdjustedTokens) {
        let Reservation { payer, tokens } = reservation;
        let account = self.state.payers.get_mut(payer.0).expect("an account with a reservation is not closed");
        account.assert_sound();
        account.reserved = account.reserved.checked_sub(tokens).expect("the reservation was made here");
        account.open -= 1;
        account.assert_sound();
        self.totals.close(tokens, charged);
    }

    fn charge(&mut self, payer: PayerId, payee: PayeeId, tokens: AdjustedTokens, mut spent: Option<Spent>) {
        if let Some(spent) = &mut spent
            && spent.receipt.len() > RECEIPT_BYTES_MAX
        {
            spent.receipt = Bytes::new();
        }
        if tokens > AdjustedTokens::ZERO || spent.is_some() {
            self.record(Entry::Settled { payer, payee, tokens, spent });
        }
    }
}

/// Notes: small facts that settlement wants to find again.
impl Ledger {
    /// Sets or removes a note.
    ///
    /// # Errors
    ///
    /// [`NoteRefused`], beyond the bounds in [`limits`](crate::limits).
    pub fn set_note(&mut self, key: &str, value: Option<Bytes>) -> Result<(), NoteRefused> {
        if !self.state.has_room_for_note(key, value.as_ref()) {
            return Err(NoteRefused);
        }
        if self.note(key) != value.as_ref() {
            self.record(Entry::NoteSet { key: key.into(), value });
        }
        Ok(())
    }

    /// The note of this key.
    #[must_use]
    pub fn note(&self, key: &str) -> Option<&Bytes> {
        self.state.notes.get(key)
    }

    /// All notes, by key.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.state.notes.iter().map(|(key, value)| (&**key, value))
    }
}

/// The disk.
impl Ledger {
    /// The entries to write next, if there are any. Any number of batches may be under way, if they are written in
    /// order.
    pub fn take_batch(&mut self) -> Option<Batch> {
        let seq = self.state.seq;
        let tail = self.journaled.as_mut().filter(|tail| !tail.pending.is_empty())?;
        let seq = seq.checked_sub(count(tail.pending.len())).expect("pending entries were applied");
        let taken = tail.pending.len().min(BATCH_ENTRIES_MAX);
        Some(Batch { seq, entries: tail.pending.drain(..taken).collect() })
    }

    /// A batch is on disk.
    pub fn written(&mut self, written: Written) {
        let Written { next, payers, payees, commit } = written;
        let tail = self.journaled.as_mut().expect("only a restored ledger gives batches");
        assert!(tail.written < next && next <= self.state.seq, "batches are written in order, once each");
        tail.written = next;
        for (payer, known) in payers {
            if let Some(payer) = self.state.payers.get_mut(payer.0) {
                payer.account.durable = known;
            }
        }
        for (payee, known) in payees {
            if let Some(account) = self.state.payees.get_mut(payee.0) {
                account.durable = known;
            }
        }
        if let Some(commit) = commit {
            self.state.commits.keep(commit);
        }
    }

    /// Entries that are not on disk.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        let written = self.journaled.as_ref().map_or(self.state.seq, |tail| tail.written);
        self.state.seq.checked_sub(written).expect("what is written was applied")
    }

    /// Applies an entry and keeps it for the disk.
    fn record(&mut self, entry: Entry) {
        self.state.apply(&entry).expect("an entry is checked before it is recorded");
        if let Some(tail) = &mut self.journaled {
            tail.pending.push_back(entry);
        }
    }

    fn marks(&self, account: &impl HasAccount) -> Marks {
        let account = account.account();
        if self.journaled.is_none() {
            let (known, committed) = (account.known, account.committed);
            return Marks { known, durable: known, committed };
        }
        account.marks()
    }
}

/// The chain.
impl Ledger {
    /// Begins a commit that covers all that was counted so far, and gives its number. `None` if since the last one nothing
    /// was counted and no payer left, that one has not been seen on chain yet, or the ledger lives in memory.
    pub fn begin_commit(&mut self) -> Option<u32> {
        self.journaled.as_ref()?;
        let number = self.state.commits.next()?;
        self.record(Entry::CommitBegun { number });
        Some(number)
    }

    /// The commit to send to the chain: it is on disk and has not been seen there. It stays the same over crashes.
    #[must_use]
    pub fn commit_to_send(&self) -> Option<Commit> {
        self.state.commits.to_send()
    }

    /// A commit was seen on chain, and [`check_chain`](Self::check_chain) agreed. Nothing happens for one that was seen
    /// before.
    pub fn committed(&mut self, number: u32) {
        if self.state.commits.to_send().is_some_and(|commit| commit.number == number) {
            self.record(Entry::CommitSeen { number });
        }
    }

    /// Compares the ledger with the chain: at the start with the newest commit there (of this proxy's wallet, to any
    /// instance of its contract), later with every one that is seen.
    ///
    /// # Errors
    ///
    /// [`RolledBack`]: the ledger must not serve.
    pub fn check_chain(&self, on_chain: Option<Commit>) -> Result<(), RolledBack> {
        self.state.commits.check(on_chain)
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("pending", &self.pending.len()).field("written", &self.written).finish()
    }
}

impl Totals {
    fn open(&mut self, tokens: AdjustedTokens) {
        self.reserved += u128::from(tokens.get());
        self.open += u128::from(tokens.get());
        self.reservations += 1;
        self.assert_conserved();
    }

    fn close(&mut self, tokens: AdjustedTokens, charged: AdjustedTokens) {
        assert!(charged <= tokens, "a charge above its reservation");
        self.open -= u128::from(tokens.get());
        self.charged += u128::from(charged.get());
        self.released += u128::from(tokens.get()) - u128::from(charged.get());
        self.reservations -= 1;
        self.assert_conserved();
    }

    fn assert_conserved(&self) {
        assert!(self.reserved == self.charged + self.released + self.open, "tokens appeared or vanished in the ledger");
    }
}

fn reject(account: &Payer, needed: AdjustedTokens) -> Rejection {
    let (stake, free) = (account.credit.secured, account.free());
    if needed > stake {
        Rejection::PayerStakeTooSmall { needed, stake }
    } else if needed > account.unused() {
        Rejection::PayerStakeUsed { needed, free }
    } else {
        Rejection::PayerStakeReserved { needed, free }
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).expect("what is in memory is counted in 64 bits")
}
