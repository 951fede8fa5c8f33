//! What went wrong in settlement and has not been put right, by what it concerns: a payout that succeeds says nothing of
//! a commit that fails.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_ton::Address;
use tracing::{debug, warn};

/// What a problem concerns, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// Commits do not get to the chain: nothing new is signed.
    Commit,
    /// The contract of the moment does not come to be.
    Deploy,
    /// A transaction that this contract should get.
    Action(Address),
}

/// See the module. At most one for each contract of the ledger.
#[derive(Debug, Default)]
pub(super) struct Problems {
    lasting: BTreeMap<Trouble, String>,
    /// Of this round; the next one begins anew.
    here: Option<String>,
}

impl Problems {
    /// It lasts until it is [`Problems::solved`].
    pub(super) fn keep(&mut self, trouble: Trouble, problem: String) {
        warn!(problem, "settlement");
        self.lasting.insert(trouble, problem);
    }

    pub(super) fn solved(&mut self, trouble: Trouble) {
        self.lasting.remove(&trouble);
    }

    /// Contracts that nothing is wanted of any more are no problem.
    pub(super) fn retain_actions(&mut self, wanted: &BTreeSet<Address>) {
        self.lasting.retain(|trouble, _| match trouble {
            Trouble::Commit | Trouble::Deploy => true,
            Trouble::Action(contract) => wanted.contains(contract),
        });
    }

    /// A round begins.
    pub(super) fn begin_round(&mut self) {
        self.here = None;
    }

    /// Something that the next round tries again.
    pub(super) fn in_round(&mut self, problem: String) {
        debug!(problem, "a round of settlement is incomplete");
        self.here = Some(problem);
    }

    /// The gravest, and how many more there are.
    pub(super) fn shown(&self) -> Option<String> {
        let mut all = self.lasting.values().chain(&self.here);
        let first = all.next()?;
        match all.count() {
            0 => Some(first.clone()),
            more => Some(format!("{first} (and {more} more)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_commit_stays_shown_after_an_unrelated_payout() {
        let (paid, unpaid) = (Address::basechain([1; 32]), Address::basechain([2; 32]));
        let mut problems = Problems::default();
        problems.keep(Trouble::Action(paid), "a payout".to_owned());
        problems.keep(Trouble::Action(unpaid), "another payout".to_owned());
        problems.keep(Trouble::Commit, "commit 7 was not sent".to_owned());
        assert_eq!(problems.shown().unwrap(), "commit 7 was not sent (and 2 more)");
        problems.solved(Trouble::Action(paid));
        problems.solved(Trouble::Deploy);
        assert_eq!(problems.shown().unwrap(), "commit 7 was not sent (and 1 more)");
        problems.solved(Trouble::Commit);
        assert_eq!(problems.shown().unwrap(), "another payout");
        problems.retain_actions(&BTreeSet::from([paid]));
        assert_eq!(problems.shown(), None, "nobody wants it any more");
        problems.in_round("the log cannot be read".to_owned());
        assert_eq!(problems.shown().unwrap(), "the log cannot be read");
        problems.begin_round();
        assert_eq!(problems.shown(), None);
    }
}
