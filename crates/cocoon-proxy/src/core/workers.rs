//! The workers that are connected, and the choice among them.
//!
//! The balancer takes the worker with the shortest expected time to an answer, under the client's
//! price cap; equals go to the cheaper, then to the least busy, then to the one connected first.
//! The estimate is the measured service time, stretched by how far the worker is over its slots.
//! Estimates are compared in steps of a half power of two, so that noise in a measurement does not
//! outweigh a price.
//!
//! A worker that failed is a last resort for a while: it fails fast, and would otherwise draw in
//! every request. A worker that was not measured yet is taken to be as fast as the best of its kind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cocoon_ledger::PayeeId;
use cocoon_units::Coefficient;
use cocoon_wire::message::LoadReport;

use super::event::{CancelSupport, WorkerChange, WorkerId};
use crate::limits::{COOLDOWN_FIRST, COOLDOWN_MAX, SERVICE_TIME_DEFAULT};

/// A model's place in the registry of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModelId(pub(crate) usize);

/// One connected worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) payee: PayeeId,
    pub(crate) model: ModelId,
    pub(crate) coefficient: Coefficient,
    pub(crate) slots: u32,
    pub(crate) enabled: bool,
    pub(crate) cancel: CancelSupport,
    /// Whether it may earn more before what it has earned is signed.
    pub(crate) may_earn: bool,
    /// Requests of ours that it has.
    pub(crate) active: u32,
    /// Requests of other proxies, running or waiting, when it last said so.
    foreign: u32,
    /// Smoothed time from dispatch to end.
    service: Option<Duration>,
    failures_in_a_row: u32,
    cooling_until: Option<Instant>,
}

impl Worker {
    pub(crate) fn new(
        payee: PayeeId,
        model: ModelId,
        coefficient: Coefficient,
        slots: u32,
        enabled: bool,
        cancel: CancelSupport,
    ) -> Self {
        Self {
            payee,
            model,
            coefficient,
            slots,
            enabled,
            cancel,
            may_earn: true,
            active: 0,
            foreign: 0,
            service: None,
            failures_in_a_row: 0,
            cooling_until: None,
        }
    }

    pub(crate) fn change(&mut self, change: WorkerChange) {
        match change {
            WorkerChange::Enabled => self.enabled = true,
            WorkerChange::Disabled => self.enabled = false,
            WorkerChange::Coefficient(coefficient) => self.coefficient = coefficient,
        }
    }

    pub(crate) fn report(&mut self, load: LoadReport) {
        self.foreign = load.active.saturating_add(load.queued).saturating_sub(self.active);
    }

    /// An answer came in full.
    pub(crate) fn succeeded(&mut self, took: Duration) {
        self.failures_in_a_row = 0;
        self.cooling_until = None;
        self.service = Some(match self.service {
            // An eighth of the newest: about the last ten requests count.
            Some(mean) => (mean * 7 + took) / 8,
            None => took,
        });
    }

    /// A request ran out of time here before its answer began. It counts where it took longer than was
    /// expected: a client's short deadline says nothing about a worker.
    pub(crate) fn timed_out(&mut self, now: Instant, took: Duration) {
        let mean = self.service.unwrap_or(SERVICE_TIME_DEFAULT);
        if took > mean {
            self.service = Some((mean * 7 + took) / 8);
            self.misbehaved(now);
        }
    }

    /// It failed, or overcharged: it is the last choice for a while.
    pub(crate) fn misbehaved(&mut self, now: Instant) {
        let doubled = COOLDOWN_FIRST.saturating_mul(1u32 << self.failures_in_a_row.min(10));
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.cooling_until = now.checked_add(doubled.min(COOLDOWN_MAX));
    }

    /// Whether its answers can come with receipts: an original worker signs none.
    pub(crate) fn signs_receipts(&self) -> bool {
        self.cancel == CancelSupport::Yes
    }

    fn has_room(&self) -> bool {
        self.active < self.slots && self.may_earn
    }

    fn rank(&self, id: WorkerId, now: Instant, service_default: Duration) -> Rank {
        let waiting = u64::from(self.active) + u64::from(self.foreign) + 1;
        let slots = u64::from(self.slots.max(1));
        let service = u64::try_from(self.service.unwrap_or(service_default).as_micros()).unwrap_or(u64::MAX);
        let expected = service.saturating_mul(waiting.max(slots)) / slots;
        Rank {
            cooling: self.cooling_until.is_some_and(|until| now < until),
            expected: half_octave(expected),
            coefficient: self.coefficient,
            active: self.active,
            id,
        }
    }
}

/// The order of preference; the fields' order is the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    cooling: bool,
    expected: u32,
    coefficient: Coefficient,
    active: u32,
    id: WorkerId,
}

/// Twice the binary logarithm, rounded down: numbers within a factor of 1.5 or less are mostly equal.
fn half_octave(value: u64) -> u32 {
    let value = value.max(2);
    let log = value.ilog2();
    let upper_half = (value >> (log - 1)) & 1 == 1;
    2 * log + u32::from(upper_half)
}

/// What the balancer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This worker can take it now.
    Now(WorkerId),
    /// Workers under the price cap exist, all of them are full.
    Later,
    /// Workers exist, all of them are above the price cap.
    AbovePrice,
    /// Workers exist, and none of them signs the receipt that is asked for.
    Unsigned,
    /// No worker takes requests for this model, those already tried aside.
    Nobody,
}

/// What a request wants of its worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The client's price cap.
    pub(crate) cap: Coefficient,
    /// Whether only a worker that signs receipts will do.
    pub(crate) receipt: bool,
    /// Those that were tried and failed.
    pub(crate) excluded: &'a [WorkerId],
}

/// All connected workers.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    all: BTreeMap<WorkerId, Worker>,
    by_model: BTreeMap<ModelId, Vec<WorkerId>>,
}

impl Workers {
    pub(crate) fn insert(&mut self, id: WorkerId, worker: Worker) {
        self.by_model.entry(worker.model).or_default().push(id);
        self.all.insert(id, worker);
    }

    pub(crate) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.all.remove(&id)?;
        if let Some(ids) = self.by_model.get_mut(&worker.model) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_model.remove(&worker.model);
            }
        }
        Some(worker)
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.all.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.all.iter().map(|(id, worker)| (*id, worker))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.all.values_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The workers of one model, in the order they connected.
    pub(crate) fn of_model(&self, model: ModelId) -> impl Iterator<Item = (WorkerId, &Worker)> {
        let ids = self.by_model.get(&model).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.all.get(id).map(|worker| (*id, worker)))
    }

    /// Models that some worker serves.
    pub(crate) fn models(&self) -> impl Iterator<Item = ModelId> {
        self.by_model.keys().copied()
    }

    /// The lowest price at which a worker of the model has room.
    pub(crate) fn cheapest_room(&self, model: ModelId) -> Option<Coefficient> {
        let with_room = self.of_model(model).filter(|(_, worker)| worker.enabled && worker.has_room());
        with_room.map(|(_, worker)| worker.coefficient).min()
    }

    /// Chooses a worker.
    pub(crate) fn choose(&self, now: Instant, model: ModelId, wanted: Wanted<'_>) -> Choice {
        let service_default = self.best_service(model);
        let mut best: Option<Rank> = None;
        let mut none = Choice::Nobody;
        for (id, worker) in self.of_model(model) {
            // One without slots never has room: waiting for it would be in vain.
            if !worker.enabled || worker.slots == 0 || wanted.excluded.contains(&id) {
                continue;
            }
            if wanted.receipt && !worker.signs_receipts() {
                none = if none == Choice::Nobody { Choice::Unsigned } else { none };
            } else if worker.coefficient > wanted.cap {
                none = if none == Choice::Later { none } else { Choice::AbovePrice };
            } else if worker.has_room() {
                let rank = worker.rank(id, now, service_default);
                best = Some(best.map_or(rank, |best| best.min(rank)));
            } else {
                none = Choice::Later;
            }
        }
        best.map_or(none, |rank| Choice::Now(rank.id))
    }

    /// How long `ahead` more requests of the model will take, as a guess for retry advice.
    pub(crate) fn expected_wait(&self, model: ModelId, ahead: usize) -> Duration {
        let slots: u32 = self.of_model(model).fold(0u32, |sum, (_, worker)| sum.saturating_add(worker.slots));
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        self.best_service(model).saturating_mul(ahead.saturating_add(1)) / slots.max(1)
    }

    fn best_service(&self, model: ModelId) -> Duration {
        self.of_model(model).filter_map(|(_, worker)| worker.service).min().unwrap_or(SERVICE_TIME_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ledger::Ledger;

    use super::*;

    const MODEL: ModelId = ModelId(0);

    /// A worker as one row: coefficient, active of slots, measured milliseconds.
    struct Row(u32, u32, u32, Option<u64>);

    fn workers(rows: &[Row]) -> Workers {
        let payee = Ledger::new().open_payee("payee").unwrap();
        let mut workers = Workers::default();
        for (index, Row(coefficient, active, slots, service_ms)) in rows.iter().enumerate() {
            let price = Coefficient::from_thousandths(*coefficient);
            let mut worker = Worker::new(payee, MODEL, price, *slots, true, CancelSupport::Yes);
            worker.active = *active;
            worker.service = service_ms.map(Duration::from_millis);
            workers.insert(WorkerId(index as u64), worker);
        }
        workers
    }

    fn wanted(cap: u32, excluded: &[WorkerId]) -> Wanted<'_> {
        Wanted { cap: Coefficient::from_thousandths(cap), receipt: false, excluded }
    }

    fn check(rows: &[Row], cap: u32, expected: Choice) {
        let now = Instant::now();
        let choice = workers(rows).choose(now, MODEL, wanted(cap, &[]));
        assert_eq!(choice, expected);
    }

    #[test]
    fn the_shortest_expected_wait_wins_then_price_then_load_then_order() {
        let now = |id| Choice::Now(WorkerId(id));
        check(&[Row(1_000, 0, 4, Some(900)), Row(2_000, 0, 4, Some(100))], 4_000, now(1));
        check(&[Row(2_000, 0, 4, Some(100)), Row(1_000, 3, 4, Some(105))], 4_000, now(1));
        check(&[Row(1_000, 2, 4, Some(100)), Row(1_000, 1, 4, Some(105))], 4_000, now(1));
        check(&[Row(1_000, 1, 4, Some(100)), Row(1_000, 1, 4, Some(100))], 4_000, now(0));
    }

    #[test]
    fn full_dear_and_absent_are_told_apart() {
        check(&[Row(1_000, 4, 4, None)], 4_000, Choice::Later);
        check(&[Row(5_000, 0, 4, None)], 4_000, Choice::AbovePrice);
        check(&[Row(5_000, 0, 4, None), Row(1_000, 4, 4, None)], 4_000, Choice::Later);
        check(&[Row(1_000, 4, 4, None), Row(5_000, 0, 4, None)], 4_000, Choice::Later);
        check(&[], 4_000, Choice::Nobody);
    }

    #[test]
    fn a_receipt_is_had_from_those_that_sign_only() {
        let mut workers = workers(&[Row(1_000, 0, 4, None), Row(5_000, 0, 4, None), Row(1_500, 0, 4, None)]);
        workers.get_mut(WorkerId(0)).unwrap().cancel = CancelSupport::No;
        let asking = |excluded| Wanted { receipt: true, ..wanted(4_000, excluded) };
        let choose = |wanted| workers.choose(Instant::now(), MODEL, wanted);
        assert_eq!(choose(wanted(4_000, &[])), Choice::Now(WorkerId(0)));
        assert_eq!(choose(asking(&[])), Choice::Now(WorkerId(2)));
        assert_eq!(choose(asking(&[WorkerId(2)])), Choice::AbovePrice);
        assert_eq!(choose(asking(&[WorkerId(1), WorkerId(2)])), Choice::Unsigned);
    }

    #[test]
    fn a_new_worker_is_taken_to_be_as_fast_as_the_best() {
        check(&[Row(1_000, 1, 4, Some(100)), Row(1_000, 0, 4, None)], 4_000, Choice::Now(WorkerId(1)));
    }

    #[test]
    fn a_worker_that_failed_is_the_last_resort_for_a_while() {
        let mut workers = workers(&[Row(1_000, 0, 4, Some(1)), Row(3_000, 3, 4, Some(500))]);
        let now = Instant::now();
        workers.get_mut(WorkerId(0)).unwrap().misbehaved(now);
        assert_eq!(workers.choose(now, MODEL, wanted(4_000, &[])), Choice::Now(WorkerId(1)));
        assert_eq!(workers.choose(now, MODEL, wanted(4_000, &[WorkerId(1)])), Choice::Now(WorkerId(0)));
        assert_eq!(workers.choose(now + COOLDOWN_FIRST, MODEL, wanted(4_000, &[])), Choice::Now(WorkerId(0)));
    }

    #[test]
    fn load_of_other_proxies_counts() {
        let mut workers = workers(&[Row(1_000, 0, 4, Some(100)), Row(2_000, 0, 4, Some(100))]);
        let load = LoadReport { active: 4, queued: 8, slots: 4, tokens_per_s: 0 };
        workers.get_mut(WorkerId(0)).unwrap().report(load);
        assert_eq!(workers.choose(Instant::now(), MODEL, wanted(4_000, &[])), Choice::Now(WorkerId(1)));
    }

    #[test]
    fn half_octaves_grow_with_their_value() {
        let mut last = 0;
        for value in 0..10_000 {
            let step = half_octave(value);
            assert!(step >= last);
            last = step;
        }
        assert_eq!(half_octave(100_000), half_octave(105_000));
        assert_ne!(half_octave(100_000), half_octave(200_000));
    }
}
