//! Accounts as handshakes and settlement see them: opened by contract, credited by the chain, moved by commits.
//!
//! Everything here is the ledger's business, passed on with what else the core has to know of it: who is held back,
//! whose contract is closed, and whose request a receipt was that a crash lost.

use std::time::Instant;

use cocoon_ledger::{Credit, Ledger, LostRefusal, Marks, PayeeId, PayerView, Rejection, Spent};
use cocoon_units::AdjustedTokens;

use super::event::{Action, RequestKey};
use super::{Core, MoneyTally};
use crate::tag::AccountTag;

/// A request that a crash lost and its worker proved.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// Who pays.
    pub(crate) payer: String,
    /// What its contract holds, where it had to be looked up because the books have forgotten it too.
    pub(crate) credit: Option<Credit>,
    pub(crate) used: AdjustedTokens,
    pub(crate) spent: Spent,
}

/// What may be begun for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Whatever it can pay for.
    New,
    /// Nothing: its contract is closed or closing. What runs is finished.
    Nothing,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LostOutcome {
    /// The payer was charged and the worker credited with this much.
    Settled(AdjustedTokens),
    /// The books do not know the payer: look up its contract.
    UnknownPayer,
    /// Nothing is owed.
    Refused(LostRefusal),
}

impl Core {
    /// The books.
    pub(crate) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The books, for settlement's own business.
    pub(crate) const fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Opens a client's account, or finds it, with what its contract holds.
    pub(crate) fn open_payer(&mut self, account: &str, credit: Credit) -> Result<PayerView, Rejection> {
        let payer = self.ledger.open_payer(account, credit)?;
        self.closed_payers.remove(&payer);
        Ok(self.ledger.payer(payer))
    }

    /// What a worker's account stands at. One that there is not yet is opened when its session begins: whoever names
    /// owners in handshakes must not fill the books.
    pub(crate) fn open_payee(&mut self, account: &str) -> Result<Marks, Rejection> {
        Ok(self.ledger.find_payee(account).map(|payee| self.ledger.payee(payee)).unwrap_or_default())
    }

    /// Forgets a worker's account that never earned anything, once its last session is over.
    pub(super) fn close_idle(&mut self, payee: PayeeId) {
        let is_here = self.workers.earns(payee);
        let has_earned = self.ledger.payee(payee).known > AdjustedTokens::ZERO;
        // That a contract is closed is remembered by its account.
        if !is_here && !has_earned && !self.exposure.is_closed(payee) {
            self.ledger.close_payee(payee);
        }
    }

    /// What a client's contract holds now, and what may be begun on it.
    pub(crate) fn credit_changed(&mut self, account: &str, credit: Credit, admits: Admits) {
        let Some(payer) = self.ledger.find_payer(account) else { return };
        self.ledger.set_credit(payer, credit);
        match admits {
            Admits::New => self.closed_payers.remove(&payer),
            Admits::Nothing => self.closed_payers.insert(payer),
        };
    }

    /// Whether workers are given time to bring back what the last run lost, and nothing new begins.
    pub(crate) const fn set_recovering(&mut self, is_recovering: bool) {
        self.is_recovering = is_recovering;
    }

    /// A worker's contract was closed: it can never be paid for more.
    pub(crate) fn payee_closed(&mut self, now: Instant, account: &str) {
        if let Some(payee) = self.ledger.find_payee(account) {
            self.exposure.close(payee);
            self.hold_back(now, payee);
        }
    }

    /// Forgets the accounts of a contract that is closed to the end.
    pub(crate) fn close_account(&mut self, account: &str) {
        if let Some(payer) = self.ledger.find_payer(account) {
            self.closed_payers.insert(payer);
            self.ledger.close_payer(payer);
        }
        if let Some(payee) = self.ledger.find_payee(account) {
            self.exposure.close(payee);
            self.ledger.close_payee(payee);
        }
    }

    /// Begins a commit, if there is anything new and none is under way.
    pub(crate) fn begin_commit(&mut self) {
        if self.ledger.begin_commit().is_some() {
            self.exposure.begun();
        }
    }

    /// A commit was seen on the chain. [`Event::Settling`](super::Event::Settling) must follow.
    pub(crate) fn committed(&mut self, number: u32) {
        if self.ledger.commit_to_send().is_some_and(|commit| commit.number == number) {
            self.ledger.committed(number);
            self.exposure.committed();
        }
    }

    /// The books were read back: what is unsigned in them waits from now on.
    pub(crate) fn restored(&mut self, now: Instant) {
        let unsigned = |payee: &PayeeId| {
            let Marks { known, committed, .. } = self.ledger.payee(*payee);
            known > committed
        };
        let payees: Vec<_> = self.ledger.payees().map(|(payee, _)| payee).filter(unsigned).collect();
        for payee in payees {
            self.exposure.earned(now, payee);
        }
    }

    /// How many tokens a worker may have earned and not have signed.
    pub(crate) fn set_exposure(&mut self, tokens_max: AdjustedTokens) {
        self.exposure.set_tokens_max(tokens_max);
    }

    /// Whether a request that is here asks for the receipt of this id.
    pub(crate) fn has_receipt(&self, id: &[u8; 32]) -> bool {
        self.requests.has_receipt(id)
    }

    /// Whose request this is, to be sealed for its worker. None without a receipt to keep it with.
    pub(crate) fn account_tag(&self, key: RequestKey) -> Option<AccountTag> {
        let request = self.requests.get(key)?;
        let worker = self.workers.get(request.state.worker()?)?;
        Some(AccountTag {
            payer: self.ledger.name_of_payer(request.reservation.payer())?.to_owned(),
            payee: self.ledger.name_of_payee(worker.payee)?.to_owned(),
            id: request.receipt?,
            run: self.ledger.run(),
            model: AccountTag::model_digest(self.models.name(request.model)),
            reserved: request.reservation.tokens(),
            coefficient: worker.coefficient,
            multipliers: request.multipliers,
            opened_at: request.opened_at?,
        })
    }

    /// Settles what a crash lost.
    pub(crate) fn settle_lost(&mut self, now: Instant, payee: &str, lost: Lost) -> LostOutcome {
        let known = self.ledger.find_payer(&lost.payer);
        let opened = known.or_else(|| self.ledger.open_payer(&lost.payer, lost.credit?).ok());
        let Some(payer) = opened else { return LostOutcome::UnknownPayer };
        // The books may have lost the worker with what it earned; its session, and so its account, has not begun yet.
        let Ok(payee) = self.ledger.open_payee(payee) else {
            return LostOutcome::Refused(LostRefusal::AccountClosed);
        };
        match self.ledger.settle_lost(payer, payee, lost.used, lost.spent) {
            Ok(settled) => {
                self.exposure.earned(now, payee);
                self.tally.recovered += 1;
                self.tally.tokens_recovered = self.tally.tokens_recovered.saturating_add(settled.charged.get());
                LostOutcome::Settled(settled.charged)
            }
            Err(refusal) => LostOutcome::Refused(refusal),
        }
    }

    /// The books, all accounts together. None where there is no chain.
    pub(crate) fn money_tally(&self, now: Instant) -> Option<MoneyTally> {
        let sum = |sum: u64, tokens: AdjustedTokens| sum.saturating_add(tokens.get());
        let mut tally = MoneyTally {
            unsigned_max: self.exposure.tokens_max()?.get(),
            unsigned_age_s: self.exposure.oldest(now).as_secs(),
            unwritten: self.ledger.unwritten(),
            ..MoneyTally::default()
        };
        for (payer, _) in self.ledger.payers() {
            let Marks { known, durable, committed } = self.ledger.payer(payer).marks;
            tally.used = sum(tally.used, known);
            tally.used_durable = sum(tally.used_durable, durable);
            tally.used_committed = sum(tally.used_committed, committed);
        }
        for (payee, _) in self.ledger.payees() {
            let Marks { known, committed, .. } = self.ledger.payee(payee);
            let unsigned = known.checked_sub(committed).unwrap_or_default();
            tally.unsigned = sum(tally.unsigned, unsigned);
            tally.unsigned_most = tally.unsigned_most.max(unsigned.get());
        }
        Some(tally)
    }

    /// Looks anew at who may earn more, and gives work to those that may again.
    pub(super) fn settling(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for payee in self.workers.payees().collect::<Vec<_>>() {
            self.hold_back(now, payee);
        }
        self.exposure.schedule(now);
        let models: Vec<_> = self.workers.models().collect();
        for model in models {
            self.pump(now, model, actions);
        }
    }

    /// Looks anew at one account's workers after it earned something.
    pub(super) fn hold_back(&mut self, now: Instant, payee: PayeeId) {
        let may_earn = self.exposure.allows(now, payee, self.ledger.payee(payee));
        self.workers.hold(payee, may_earn);
    }
}
