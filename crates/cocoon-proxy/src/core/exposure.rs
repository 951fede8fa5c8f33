//! What workers have earned and no signature covers yet: bounded in amount and in time.
//!
//! A payment is signed up to what is committed on the chain, which takes up to a minute. Until then a worker trusts the
//! proxy's host not to roll its disk back. One that has more at stake than the owner allows, or waits for longer, gets
//! no new request until a commit was seen; what it has it finishes. So what is at stake is at most the bound and what it
//! was running when it crossed it: requests count when they have ended, since most come to a small part of what is
//! reserved for them, and counting that would leave a worker idle in an honest network.
//!
//! Only one commit is under way at a time, so two moments say all: since when something waits that the commit under way
//! covers, and since when something waits that it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cocoon_ledger::{Marks, PayeeId};
use cocoon_units::AdjustedTokens;

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExposureRules {
    /// Most that a worker may have earned and not have signed.
    pub tokens_max: AdjustedTokens,
    /// For how long.
    pub age_max: Duration,
}

/// The unsigned earnings of all workers.
#[derive(Debug)]
pub(super) struct Exposure {
    rules: Option<ExposureRules>,
    unsigned: BTreeMap<PayeeId, Unsigned>,
    /// Accounts whose contract is closed: they can never be paid.
    closed: BTreeSet<PayeeId>,
    /// When the next of them has waited too long; at or before the truth.
    next: Option<Instant>,
}

/// Since when earnings of an account wait.
#[derive(Clone, Copy, Debug, Default)]
struct Unsigned {
    /// Those that the commit under way covers.
    covered: Option<Instant>,
    /// Those that came after it was begun.
    after: Option<Instant>,
}

impl Unsigned {
    fn since(&self) -> Option<Instant> {
        self.covered.or(self.after)
    }
}

impl Exposure {
    pub(super) fn new(rules: Option<ExposureRules>) -> Self {
        Self { rules, unsigned: BTreeMap::new(), closed: BTreeSet::new(), next: None }
    }

    pub(super) fn set_tokens_max(&mut self, tokens_max: AdjustedTokens) {
        if let Some(rules) = &mut self.rules {
            rules.tokens_max = tokens_max;
        }
    }

    pub(super) fn tokens_max(&self) -> Option<AdjustedTokens> {
        self.rules.map(|rules| rules.tokens_max)
    }

    /// The account earned something just now.
    pub(super) fn earned(&mut self, now: Instant, payee: PayeeId) {
        let Some(rules) = self.rules else { return };
        let unsigned = self.unsigned.entry(payee).or_default();
        if unsigned.after.is_none() {
            unsigned.after = Some(now);
            let due = now.checked_add(rules.age_max);
            self.next = [self.next, due].into_iter().flatten().min();
        }
    }

    /// A commit was begun: it covers all that was earned before.
    pub(super) fn begun(&mut self) {
        for unsigned in self.unsigned.values_mut() {
            unsigned.covered = unsigned.since();
            unsigned.after = None;
        }
    }

    /// The commit was seen.
    pub(super) fn committed(&mut self) {
        self.unsigned.retain(|_, unsigned| {
            unsigned.covered = None;
            unsigned.after.is_some()
        });
    }

    pub(super) fn close(&mut self, payee: PayeeId) {
        self.closed.insert(payee);
    }

    /// Whether the account can never be paid.
    pub(super) fn is_closed(&self, payee: PayeeId) -> bool {
        self.closed.contains(&payee)
    }

    /// Whether the account may be given more to earn.
    pub(super) fn allows(&self, now: Instant, payee: PayeeId, marks: Marks) -> bool {
        if self.closed.contains(&payee) {
            return false;
        }
        let Some(rules) = self.rules else { return true };
        let unsigned = marks.known.checked_sub(marks.committed).unwrap_or_default();
        let is_old = || self.age(now, payee).is_some_and(|age| age >= rules.age_max);
        unsigned == AdjustedTokens::ZERO || (unsigned <= rules.tokens_max && !is_old())
    }

    /// When an account may cross its bound in time.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Looks anew for the next moment after `now`.
    pub(super) fn schedule(&mut self, now: Instant) {
        let Some(rules) = self.rules else { return };
        let due = self.unsigned.values().filter_map(|unsigned| unsigned.since()?.checked_add(rules.age_max));
        self.next = due.filter(|due| *due > now).min();
    }

    /// For how long the oldest earnings wait.
    pub(super) fn oldest(&self, now: Instant) -> Duration {
        let oldest = self.unsigned.values().filter_map(Unsigned::since).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn age(&self, now: Instant, payee: PayeeId) -> Option<Duration> {
        Some(now.saturating_duration_since(self.unsigned.get(&payee)?.since()?))
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ledger::Ledger;

    use super::*;

    const AGE: Duration = Duration::from_secs(180);

    fn marks(known: u64, committed: u64) -> Marks {
        let [known, committed] = [known, committed].map(AdjustedTokens::new);
        Marks { known, durable: known, committed }
    }

    fn exposure() -> (Exposure, PayeeId, Instant) {
        let payee = Ledger::new().open_payee("payee").unwrap();
        let rules = ExposureRules { tokens_max: AdjustedTokens::new(100), age_max: AGE };
        (Exposure::new(Some(rules)), payee, Instant::now())
    }

    #[test]
    fn the_amount_is_bounded() {
        let (mut exposure, payee, now) = exposure();
        exposure.earned(now, payee);
        assert!(exposure.allows(now, payee, marks(100, 0)));
        assert!(!exposure.allows(now, payee, marks(101, 0)));
        assert!(exposure.allows(now, payee, marks(101, 1)));
    }

    #[test]
    fn the_age_is_that_of_what_no_commit_covers() {
        let (mut exposure, payee, start) = exposure();
        exposure.earned(start, payee);
        exposure.begun();
        exposure.earned(start + AGE / 2, payee);
        assert_eq!(exposure.next(), Some(start + AGE));
        assert!(!exposure.allows(start + AGE, payee, marks(2, 0)), "the commit does not come");
        exposure.committed();
        assert!(exposure.allows(start + AGE, payee, marks(2, 1)));
        exposure.schedule(start + AGE);
        assert_eq!(exposure.next(), Some(start + AGE / 2 + AGE));
        assert!(!exposure.allows(start + AGE / 2 + AGE, payee, marks(2, 1)));
        exposure.begun();
        exposure.committed();
        assert!(exposure.allows(start + AGE * 9, payee, marks(2, 2)));
        assert_eq!(exposure.oldest(start + AGE * 9), Duration::ZERO);
    }

    #[test]
    fn without_money_nobody_is_held_back_and_a_closed_account_always() {
        let (bounded, payee, now) = exposure();
        let mut exposure = Exposure::new(None);
        exposure.earned(now, payee);
        assert!(exposure.allows(now + AGE, payee, marks(u64::MAX, 0)));
        exposure.close(payee);
        assert!(!exposure.allows(now, payee, marks(0, 0)));
        assert!(bounded.allows(now, payee, marks(0, 0)));
    }
}
