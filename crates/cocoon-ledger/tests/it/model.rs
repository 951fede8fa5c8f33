//! The ledger against a naive model: a list of what happened, summed anew for every question.
//!
//! The journaled ledger and its journal run beside it, and now and then the ledger is thrown away and restored.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_ledger::{Commit, Journal, Ledger, LostRefusal, Rejection, Reservation, Run, Standing};
use proptest::prelude::*;

use crate::disk::Disk;
use crate::{credit, id, open, spent_in, tokens};

const PAYERS: usize = 3;
const PAYEES: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Credit { payer: usize, secured: u64 },
    Reserve { payer: usize, tokens: u64 },
    Settle { open: prop::sample::Index, payee: usize, used: u64, id: Option<u64> },
    Release { open: prop::sample::Index, id: Option<u64> },
    HandOver { payer: usize, payee: usize, used: u64, id: u64, run: prop::sample::Index },
    Shut { payer: usize },
    BeginCommit,
    SeeCommit,
    Write,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let tokens = || prop_oneof![0..200u64, 0..60_000u64, Just(u64::MAX)];
    let open = || any::<prop::sample::Index>();
    // Few ids, so that they are used twice.
    let id = || 0..40u64;
    let maybe_id = || prop::option::of(id());
    prop_oneof![
        1 => (0..PAYERS, tokens()).prop_map(|(payer, secured)| Step::Credit { payer, secured }),
        6 => (0..PAYERS, tokens()).prop_map(|(payer, tokens)| Step::Reserve { payer, tokens }),
        4 => (open(), 0..PAYEES, tokens(), maybe_id())
            .prop_map(|(open, payee, used, id)| Step::Settle { open, payee, used, id }),
        2 => (open(), maybe_id()).prop_map(|(open, id)| Step::Release { open, id }),
        2 => (0..PAYERS, 0..PAYEES, tokens(), id(), any::<prop::sample::Index>())
            .prop_map(|(payer, payee, used, id, run)| Step::HandOver { payer, payee, used, id, run }),
        1 => (0..10 * PAYERS).prop_map(|payer| Step::Shut { payer }),
        1 => Just(Step::BeginCommit),
        1 => Just(Step::SeeCommit),
        2 => Just(Step::Write),
        1 => Just(Step::Restart),
    ]
}

/// What happened, in order: the model never keeps a balance.
#[derive(Clone, Debug, Default)]
struct Model {
    secured: [u64; PAYERS],
    open: Vec<(usize, u64)>,
    /// Payer, payee, tokens.
    charges: Vec<(usize, usize, u64)>,
    /// Ids that are spent, each in one run: of how many there were before.
    spent: BTreeSet<(u64, usize)>,
    /// Payers that left, and how many commits had been begun by then.
    shut: BTreeMap<usize, usize>,
    commits_begun: usize,
    commits_seen: usize,
    /// How many charges are on disk, covered by the commit under way, and by those seen on chain.
    durable: usize,
    begun: Option<usize>,
    committed: usize,
}

impl Model {
    fn known(&self, payer: usize, charges: usize) -> u64 {
        self.charges[..charges].iter().filter(|(of, ..)| *of == payer).map(|(.., tokens)| tokens).sum()
    }

    fn earned(&self, payee: usize, charges: usize) -> u64 {
        self.charges[..charges].iter().filter(|(_, of, _)| *of == payee).map(|(.., tokens)| tokens).sum()
    }

    fn reserved(&self, payer: usize) -> u64 {
        self.open.iter().filter(|(of, _)| *of == payer).map(|(_, tokens)| tokens).sum()
    }

    fn free(&self, payer: usize) -> u64 {
        let taken = self.known(payer, self.charges.len()) + self.reserved(payer);
        self.secured[payer].saturating_sub(taken)
    }

    /// Whether a commit that was begun after the payer left was seen.
    fn has_left(&self, payer: usize) -> bool {
        self.shut.get(&payer).is_some_and(|begun| self.commits_seen > *begun)
    }

    /// What the payee can still earn.
    fn room(&self, payee: usize) -> u64 {
        u64::MAX - self.earned(payee, self.charges.len())
    }
}

struct Pair {
    disk: Disk,
    journal: Journal,
    ledger: Ledger,
    reservations: Vec<Reservation>,
    chain: Option<Commit>,
    runs: Vec<Run>,
    model: Model,
    /// The model when the last batch was written.
    on_disk: Model,
}

impl Pair {
    fn new() -> Self {
        let disk = Disk::default();
        let (journal, ledger) = open(&disk);
        let (model, runs) = (Model::default(), vec![ledger.run()]);
        let (reservations, on_disk) = (Vec::new(), model.clone());
        let mut pair = Self { disk, journal, ledger, reservations, chain: None, runs, on_disk, model };
        for payer in 0..PAYERS {
            pair.set_credit(payer, 20_000);
        }
        for payee in 0..PAYEES {
            pair.ledger.open_payee(&format!("payee {payee}")).expect("room for two");
        }
        pair.write();
        pair
    }

    fn payer(&self, payer: usize) -> cocoon_ledger::PayerId {
        self.ledger.find_payer(&format!("payer {payer}")).expect("opened at the start")
    }

    fn payee(&self, payee: usize) -> cocoon_ledger::PayeeId {
        self.ledger.find_payee(&format!("payee {payee}")).expect("opened at the start")
    }

    fn set_credit(&mut self, payer: usize, secured: u64) {
        self.ledger.open_payer(&format!("payer {payer}"), credit(0, secured)).expect("room for three");
        self.model.secured[payer] = secured;
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Credit { payer, secured } => self.set_credit(payer, secured),
            Step::Reserve { payer, tokens } => self.reserve(payer, tokens),
            Step::Settle { open, payee, used, id } if !self.reservations.is_empty() => {
                self.settle(open.index(self.reservations.len()), payee, used, id);
            }
            Step::Release { open, id: of } if !self.reservations.is_empty() => {
                let open = open.index(self.reservations.len());
                self.model.open.remove(open);
                self.ledger.release(self.reservations.remove(open), of.map(|number| (id(number), 0)));
                self.model.spent.extend(of.map(|number| (number, self.runs.len() - 1)));
            }
            Step::Settle { .. } | Step::Release { .. } => {}
            Step::HandOver { payer, payee, used, id, run } => {
                self.hand_over(payer, payee, used, (id, run.index(self.runs.len())));
            }
            Step::Shut { payer } if payer < PAYERS => {
                self.ledger.shut_payer(self.payer(payer));
                self.model.shut.entry(payer).or_insert(self.model.commits_begun);
            }
            Step::Shut { .. } => {}
            Step::BeginCommit => self.begin_commit(),
            Step::SeeCommit => self.see_commit(),
            Step::Write => self.write(),
            Step::Restart => self.restart(),
        }
    }

    fn reserve(&mut self, payer: usize, wanted: u64) {
        match self.ledger.reserve(self.payer(payer), tokens(wanted)) {
            Ok(reservation) => {
                assert!(wanted <= self.model.free(payer) && !self.model.shut.contains_key(&payer));
                self.model.open.push((payer, wanted));
                self.reservations.push(reservation);
            }
            Err(rejection) => {
                let is_shut = self.model.shut.contains_key(&payer);
                assert!(is_shut || wanted > self.model.free(payer), "{rejection}");
                assert!(!matches!(rejection, Rejection::AccountsFull | Rejection::JournalBehind));
            }
        }
    }

    fn settle(&mut self, open: usize, payee: usize, used: u64, of: Option<u64>) {
        let (payer, reserved) = self.model.open.remove(open);
        let (reservation, payee_id) = (self.reservations.remove(open), self.payee(payee));
        let spent = of.map(|number| spent_in(self.ledger.run(), number, 0));
        let settled = self.ledger.settle(reservation, payee_id, tokens(used), spent);
        let is_repeat = of.is_some_and(|number| !self.model.spent.insert((number, self.runs.len() - 1)));
        let expected = if is_repeat { 0 } else { used.min(reserved).min(self.model.room(payee)) };
        assert_eq!((settled.charged.get(), settled.is_repeat), (expected, is_repeat));
        assert_eq!(settled.clamped.is_some(), used > reserved);
        self.model.charges.push((payer, payee, expected));
    }

    fn hand_over(&mut self, payer: usize, payee: usize, used: u64, of: (u64, usize)) {
        let (payer_id, payee_id) = (self.payer(payer), self.payee(payee));
        let expected = used.min(self.model.free(payer)).min(self.model.room(payee));
        let lost = spent_in(self.runs[of.1], of.0, 0);
        match self.ledger.settle_lost(payer_id, payee_id, tokens(used), lost) {
            Ok(settled) => {
                assert!(!self.model.has_left(payer));
                assert!(self.model.spent.insert(of));
                assert_eq!(settled.charged.get(), expected);
                self.model.charges.push((payer, payee, expected));
            }
            Err(LostRefusal::AlreadySpent) => assert!(self.model.spent.contains(&of)),
            Err(refusal) => assert!(refusal == LostRefusal::AccountClosed && self.model.has_left(payer), "{refusal}"),
        }
    }

    fn begin_commit(&mut self) {
        let begun = self.ledger.begin_commit();
        let has_news = self.model.charges[self.model.committed..].iter().any(|(.., tokens)| *tokens > 0)
            || self.model.shut.values().any(|begun| *begun == self.model.commits_begun);
        assert_eq!(begun.is_some(), has_news && self.model.begun.is_none());
        if begun.is_some() {
            self.model.begun = Some(self.model.charges.len());
            self.model.commits_begun += 1;
        }
    }

    fn see_commit(&mut self) {
        let Some(commit) = self.ledger.commit_to_send() else { return };
        self.ledger.check_chain(self.chain).expect("the chain has what was sent");
        self.ledger.check_chain(Some(commit)).expect("it is ours");
        self.ledger.committed(commit.number);
        self.chain = Some(commit);
        self.model.committed = self.model.begun.take().expect("it was begun");
        self.model.commits_seen = self.model.commits_begun;
        assert!(self.model.committed <= self.model.durable, "a commit above what is on disk");
    }

    fn write(&mut self) {
        while let Some(batch) = self.ledger.take_batch() {
            self.ledger.written(self.journal.append(batch).expect("this disk works"));
        }
        self.model.durable = self.model.charges.len();
        self.on_disk = self.model.clone();
    }

    /// The process ends: reservations, and what is not on disk, are gone.
    fn restart(&mut self) {
        let before = self.model.commits_seen;
        self.model = Model { open: Vec::new(), ..self.on_disk.clone() };
        self.reservations.clear();
        self.disk = Disk::with(self.disk.copy());
        (self.journal, self.ledger) = open(&self.disk);
        self.runs.push(self.ledger.run());
        self.ledger.check_chain(self.chain).expect("the chain has what was sent");
        if before > self.model.commits_seen {
            // The chain's word was not written down, but the commit was.
            self.see_commit();
            assert_eq!(self.model.commits_seen, before);
        }
    }

    fn compare(&self) {
        self.ledger.assert_conserved();
        let Model { durable, committed, ref charges, ref open, .. } = self.model;
        for payer in 0..PAYERS {
            let view = self.ledger.payer(self.payer(payer));
            let expected = [charges.len(), durable, committed].map(|charges| self.model.known(payer, charges));
            let marks = [view.marks.known, view.marks.durable, view.marks.committed].map(|mark| mark.get());
            assert_eq!(marks, expected);
            assert_eq!(view.reserved.get(), self.model.reserved(payer));
            let is_shut = self.model.shut.contains_key(&payer);
            let expected = match (is_shut, self.model.has_left(payer)) {
                (false, _) => Standing::Open,
                (true, false) => Standing::Leaving,
                (true, true) => Standing::Left,
            };
            assert_eq!(view.standing, expected);
        }
        for payee in 0..PAYEES {
            let marks = self.ledger.payee(self.payee(payee));
            let expected = [charges.len(), durable, committed].map(|charges| self.model.earned(payee, charges));
            assert_eq!([marks.known, marks.durable, marks.committed].map(|mark| mark.get()), expected);
        }
        for number in 0..40 {
            let is_spent = self.model.spent.iter().any(|(spent, _)| *spent == number);
            assert_eq!(self.ledger.spent(&id(number)).is_some(), is_spent);
        }
        assert_eq!(self.ledger.totals().reservations, open.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_the_model(steps in prop::collection::vec(step(), 0..150)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.apply(step);
            pair.compare();
        }
    }
}
