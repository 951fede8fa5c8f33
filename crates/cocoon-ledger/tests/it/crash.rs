//! The power goes at every write, resize and sync, and any part of what was not synced survives.
//!
//! The world outside keeps what the proxy told it: workers their receipts, everybody the payments that were signed, the
//! chain its commits. After each crash, whatever the disk gives back:
//!
//! - nothing that was said to be durable is lost, and nothing is there that never was;
//! - no payment was signed above what the chain's commits cover, and the chain agrees with the database;
//! - with the workers' receipts, every token is counted again, exactly once;
//! - no payer was let use more than its contract pays for.

use std::collections::BTreeMap;

use cocoon_ledger::{Commit, Journal, JournalError, Ledger, LostRefusal, Spent};

use crate::disk::{Disk, Survives};
use crate::{Random, credit, id, open_with, spent_in, tokens};

const PAYERS: [&str; 2] = ["client 0", "client 1"];
const PAYEES: [&str; 2] = ["worker 0", "worker 1"];
const SECURED: u64 = 5_000;

/// What the world knows.
#[derive(Clone, Debug, Default)]
struct Facts {
    receipts: Vec<Receipt>,
    /// Ids that were given up, and whether that was durable.
    voids: Vec<(Spent, bool)>,
    /// What each account was told is durable, and may have been signed.
    durable: BTreeMap<&'static str, u64>,
    signed: BTreeMap<&'static str, u64>,
    /// Commits on chain with what each account knew then.
    chain: Vec<(Commit, BTreeMap<&'static str, u64>)>,
    /// What was known when the commit under way was begun.
    begun: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug)]
struct Receipt {
    payer: &'static str,
    payee: &'static str,
    tokens: u64,
    spent: Spent,
}

impl Facts {
    fn total(&self, name: &str) -> u64 {
        let of = |receipt: &&Receipt| receipt.payer == name || receipt.payee == name;
        self.receipts.iter().filter(of).map(|receipt| receipt.tokens).sum()
    }

    fn signed(&self, name: &str) -> u64 {
        self.signed.get(name).copied().unwrap_or(0)
    }
}

/// One life of the proxy.
struct Proxy {
    journal: Journal,
    ledger: Ledger,
}

impl Proxy {
    fn start(disk: &Disk) -> Result<Self, JournalError> {
        let (journal, state) = open_with(disk, &crate::KEY)?;
        Ok(Self { journal: journal.compact_at(1_500), ledger: Ledger::restore(state) })
    }

    /// What every payer's contract holds: all that was signed has been charged.
    fn set_credits(&mut self, facts: &Facts) {
        for name in PAYERS {
            self.ledger.open_payer(name, credit(facts.signed(name), SECURED)).unwrap();
        }
        for name in PAYEES {
            self.ledger.open_payee(name).unwrap();
        }
    }

    fn marks(&self, name: &str) -> (u64, u64, u64) {
        let marks = match (self.ledger.find_payer(name), self.ledger.find_payee(name)) {
            (Some(payer), _) => self.ledger.payer(payer).marks,
            (None, Some(payee)) => self.ledger.payee(payee),
            (None, None) => return (0, 0, 0),
        };
        (marks.known.get(), marks.durable.get(), marks.committed.get())
    }

    fn known(&self) -> BTreeMap<&'static str, u64> {
        names().map(|name| (name, self.marks(name).0)).collect()
    }

    /// Some requests, some settlement, perhaps a write.
    fn live(&mut self, random: &mut Random, facts: &mut Facts) -> Result<(), JournalError> {
        self.set_credits(facts);
        for _ in 0..random.below(6) {
            self.request(random, facts);
        }
        if random.below(3) == 0 && self.ledger.begin_commit().is_some() {
            facts.begun = self.known();
        }
        if random.below(3) > 0 {
            self.write(facts)?;
        }
        if random.below(2) == 0 {
            self.see_chain(facts);
        }
        Ok(())
    }

    fn request(&mut self, random: &mut Random, facts: &mut Facts) {
        let number = (facts.receipts.len() + facts.voids.len()) as u64;
        let [payer, payee] = [PAYERS, PAYEES].map(|names| names[random.index(names.len())]);
        let payer_id = self.ledger.find_payer(payer).unwrap();
        let payee_id = self.ledger.find_payee(payee).unwrap();
        let (reserved, used) = (random.below(400), random.below(500));
        let opened_at = self.ledger.seq();
        let Ok(reservation) = self.ledger.reserve(payer_id, tokens(reserved)) else { return };
        let spent = spent_in(self.ledger.run(), number, opened_at);
        if random.below(5) == 0 {
            self.ledger.release(reservation, Some((spent.id, opened_at)));
            facts.voids.push((spent, false));
            return;
        }
        let settled = self.ledger.settle(reservation, payee_id, tokens(used), Some(spent.clone()));
        facts.receipts.push(Receipt { payer, payee, tokens: settled.charged.get(), spent });
        let view = self.ledger.payer(payer_id);
        assert!(view.marks.known.get() + view.reserved.get() <= facts.signed(payer) + SECURED);
    }

    fn write(&mut self, facts: &mut Facts) -> Result<(), JournalError> {
        while let Some(batch) = self.ledger.take_batch() {
            self.ledger.written(self.journal.append(batch)?);
        }
        facts.voids.iter_mut().for_each(|(_, is_durable)| *is_durable = true);
        for name in names() {
            facts.durable.insert(name, self.marks(name).1);
        }
        Ok(())
    }

    /// The commit arrives on chain, is seen, and what it covers is signed.
    fn see_chain(&mut self, facts: &mut Facts) {
        if let Some(commit) = self.ledger.commit_to_send()
            && facts.chain.last().is_none_or(|(newest, _)| newest.number < commit.number)
        {
            facts.chain.push((commit, facts.begun.clone()));
        }
        let newest = facts.chain.last().map(|(commit, _)| *commit);
        self.ledger.check_chain(newest).unwrap();
        if let Some(commit) = newest {
            self.ledger.committed(commit.number);
        }
        for name in names() {
            let signed = self.marks(name).2;
            let covered = facts.chain.last().map_or(0, |(_, covered)| covered[name]);
            assert!(signed <= covered, "{name}: {signed} signed, {covered} committed");
            facts.signed.insert(name, signed);
        }
    }

    /// What the first minutes after a crash do.
    fn recover(&mut self, facts: &mut Facts) {
        self.ledger.assert_conserved();
        for name in names() {
            let (known, durable, committed) = self.marks(name);
            let acknowledged = facts.durable.get(name).copied().unwrap_or(0);
            assert_eq!(known, durable);
            assert!(acknowledged <= known, "{name}: {acknowledged} were durable, {known} are left");
            assert!(known <= facts.total(name), "{name}: {known} of {}", facts.total(name));
            assert!(facts.signed(name) <= known && committed <= known);
        }
        self.see_chain(facts);
        self.set_credits(facts);
        self.hand_over(facts);
        for name in names() {
            assert_eq!(self.marks(name).0, facts.total(name), "{name}");
        }
        self.ledger.assert_conserved();
    }

    /// Every worker hands over all receipts that it ever had, twice.
    fn hand_over(&mut self, facts: &mut Facts) {
        for receipt in facts.receipts.iter().chain(&facts.receipts) {
            let payer = self.ledger.find_payer(receipt.payer).unwrap();
            let payee = self.ledger.find_payee(receipt.payee).unwrap();
            match self.ledger.settle_lost(payer, payee, tokens(receipt.tokens), receipt.spent.clone()) {
                Ok(settled) => assert_eq!(settled.charged.get(), receipt.tokens),
                Err(refusal) => assert_eq!(refusal, LostRefusal::AlreadySpent),
            }
        }
        facts.voids.retain(|(_, is_durable)| *is_durable);
        let (payer, payee) = (self.ledger.find_payer(PAYERS[0]).unwrap(), self.ledger.find_payee(PAYEES[0]).unwrap());
        for (spent, _) in &facts.voids {
            let refused = self.ledger.settle_lost(payer, payee, tokens(1), spent.clone());
            assert_eq!(refused, Err(LostRefusal::AlreadySpent));
        }
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    PAYERS.into_iter().chain(PAYEES)
}

/// Lives until the power goes, or for as many rounds.
fn live(disk: &Disk, seed: u64, rounds: usize, facts: &mut Facts) {
    let mut random = Random(seed);
    let Ok(mut proxy) = Proxy::start(disk) else { return assert!(disk.is_dead()) };
    proxy.recover(facts);
    for _ in 0..rounds {
        if let Err(error) = proxy.live(&mut random, facts) {
            return assert!(disk.is_dead(), "{error}");
        }
    }
}

/// What is known here is lost with the process; receipts are not, since workers have them.
fn check(disk: &Disk, survives: Survives, facts: &Facts) {
    let (disk, mut facts) = (disk.after_crash(survives), facts.clone());
    let mut proxy = Proxy::start(&disk).unwrap_or_else(|error| panic!("{survives:?}: {error:?}"));
    proxy.recover(&mut facts);
    proxy.write(&mut facts).expect("the power is back");
    drop(proxy);
    let mut proxy = Proxy::start(&disk).expect("the power is back");
    assert_eq!(proxy.known(), names().map(|name| (name, facts.total(name))).collect());
    proxy.recover(&mut facts);
}

#[test]
fn power_goes_at_every_step() {
    const ROUNDS: usize = 30;
    let whole = Disk::default();
    let mut facts = Facts::default();
    live(&whole, 1, ROUNDS, &mut facts);
    assert!(facts.chain.len() > 2 && facts.receipts.len() > 20, "the script does too little");
    for step in 1..=whole.steps() {
        let disk = Disk::default().dies_at(step);
        let mut facts = Facts::default();
        live(&disk, 1, ROUNDS, &mut facts);
        assert!(disk.is_dead(), "the script is not the same twice");
        check(&disk, Survives::Everything, &facts);
        check(&disk, Survives::Nothing, &facts);
        for seed in 0..3 {
            check(&disk, Survives::Some(step * 3 + seed), &facts);
        }
    }
}

#[test]
fn power_goes_again_and_again() {
    let mut random = Random(2);
    let mut disk = Disk::default();
    let mut facts = Facts::default();
    for crash in 0..120 {
        disk = disk.dies_at(1 + random.below(120));
        live(&disk, crash, 1_000, &mut facts);
        disk = disk.after_crash(Survives::Some(crash));
    }
    assert!(facts.chain.len() > 10 && facts.receipts.len() > 100, "{} commits", facts.chain.len());
    let mut proxy = Proxy::start(&disk).expect("the power is back");
    proxy.recover(&mut facts);
    assert_eq!(proxy.ledger.spent(&id(u64::MAX)), None);
}
