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
//!
//! Nothing here looks at every worker for one request. Each worker stands in its model's [`Field`] at the place that its
//! state gives it, and moves when that changes: [`Workers::update`] is the only way to change one. So a choice among
//! thousands costs as much as one among ten.

mod field;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use cocoon_ledger::PayeeId;
use cocoon_units::Coefficient;
use cocoon_wire::message::LoadReport;

use self::field::{Field, Place, Rank, step_of};
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

    /// Where it stands among those of its model, one that was not measured yet taken to need `service_default`.
    fn place(&self, id: WorkerId, service_default: Duration) -> Place {
        // One without slots never has room: waiting for it would be in vain.
        if !self.enabled || self.slots == 0 {
            Place::Out
        } else if self.has_room() {
            Place::Open(self.rank(id, service_default))
        } else {
            Place::Full(self.coefficient)
        }
    }

    fn rank(&self, id: WorkerId, service_default: Duration) -> Rank {
        let waiting = u64::from(self.active) + u64::from(self.foreign) + 1;
        let slots = u64::from(self.slots.max(1));
        let expected = micros(self.service.unwrap_or(service_default)).saturating_mul(waiting.max(slots)) / slots;
        Rank::new(self.cooling_until.is_some(), step_of(expected), self.coefficient, self.active, id)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
    all: HashMap<WorkerId, Standing>,
    fields: BTreeMap<ModelId, Field>,
    earners: BTreeMap<PayeeId, Earner>,
    /// Those that failed, by when that is forgotten.
    cooling: BTreeSet<(Instant, WorkerId)>,
    held_back: usize,
}

/// A worker, and where the tables have it.
#[derive(Debug)]
struct Standing {
    worker: Worker,
    place: Place,
    step: Option<u32>,
    cooling: Option<Instant>,
}

/// Who earns what workers do.
#[derive(Debug)]
struct Earner {
    workers: BTreeSet<WorkerId>,
    may_earn: bool,
}

impl Workers {
    pub(crate) fn insert(&mut self, id: WorkerId, mut worker: Worker) {
        let earner = self.earners.entry(worker.payee).or_insert(Earner { workers: BTreeSet::new(), may_earn: true });
        earner.workers.insert(id);
        worker.may_earn = earner.may_earn;
        self.held_back += usize::from(!worker.may_earn);
        self.fields.entry(worker.model).or_default().insert(id, worker.slots);
        self.all.insert(id, Standing { worker, place: Place::Out, step: None, cooling: None });
        self.stand(id);
    }

    pub(crate) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let Standing { worker, place, step, cooling } = self.all.remove(&id)?;
        self.held_back -= usize::from(!worker.may_earn);
        if let Some(earner) = self.earners.get_mut(&worker.payee) {
            earner.workers.remove(&id);
            if earner.workers.is_empty() {
                self.earners.remove(&worker.payee);
            }
        }
        if let Some(until) = cooling {
            self.cooling.remove(&(until, id));
        }
        if let Some(field) = self.fields.get_mut(&worker.model) {
            field.shift(id, worker.signs_receipts(), place, Place::Out);
            let is_best_gone = field.remove(id, worker.slots, step);
            if field.is_empty() {
                self.fields.remove(&worker.model);
            } else if is_best_gone {
                self.stand_unmeasured(worker.model);
            }
        }
        Some(worker)
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.all.get(&id).map(|standing| &standing.worker)
    }

    /// Changes a worker, which then stands where it belongs. None if it is not here.
    pub(crate) fn update<T>(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let done = change(&mut self.all.get_mut(&id)?.worker);
        self.stand(id);
        Some(done)
    }

    /// Lets those be chosen again whose last failure is long enough ago.
    pub(crate) fn thaw(&mut self, now: Instant) {
        while let Some(&(until, id)) = self.cooling.first()
            && until <= now
        {
            self.update(id, |worker| worker.cooling_until = None);
        }
    }

    /// Whether an account's workers may earn more before what they have earned is signed.
    pub(crate) fn hold(&mut self, payee: PayeeId, may_earn: bool) {
        let Some(earner) = self.earners.get_mut(&payee).filter(|earner| earner.may_earn != may_earn) else { return };
        earner.may_earn = may_earn;
        let ids: Vec<_> = earner.workers.iter().copied().collect();
        self.held_back = if may_earn { self.held_back - ids.len() } else { self.held_back + ids.len() };
        for id in ids {
            self.update(id, |worker| worker.may_earn = may_earn);
        }
    }

    /// How many workers may not.
    pub(crate) const fn held_back(&self) -> usize {
        self.held_back
    }

    /// The accounts that workers here earn for.
    pub(crate) fn payees(&self) -> impl Iterator<Item = PayeeId> {
        self.earners.keys().copied()
    }

    /// Whether a worker here earns for this account.
    pub(crate) fn earns(&self, payee: PayeeId) -> bool {
        self.earners.contains_key(&payee)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The workers of one model, in the order they connected.
    pub(crate) fn of_model(&self, model: ModelId) -> impl Iterator<Item = (WorkerId, &Worker)> {
        let ids = self.fields.get(&model).into_iter().flat_map(Field::ids);
        ids.filter_map(|id| Some((id, self.get(id)?)))
    }

    /// Models that some worker serves.
    pub(crate) fn models(&self) -> impl Iterator<Item = ModelId> {
        self.fields.keys().copied()
    }

    /// The lowest price at which a worker of the model has room.
    pub(crate) fn cheapest_room(&self, model: ModelId) -> Option<Coefficient> {
        self.fields.get(&model)?.cheapest_room()
    }

    /// Chooses a worker.
    pub(crate) fn choose(&self, model: ModelId, wanted: Wanted<'_>) -> Choice {
        self.fields.get(&model).map_or(Choice::Nobody, |field| field.choose(wanted))
    }

    /// How long `ahead` more requests of the model will take, as a guess for retry advice.
    pub(crate) fn expected_wait(&self, model: ModelId, ahead: usize) -> Duration {
        let (service, slots) =
            self.fields.get(&model).map_or((SERVICE_TIME_DEFAULT, 0), |field| (field.best_service(), field.slots()));
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        service.saturating_mul(ahead.saturating_add(1)) / slots.max(1)
    }

    /// Puts a worker where its state belongs.
    fn stand(&mut self, id: WorkerId) {
        let Some(Standing { worker, place, step, cooling }) = self.all.get_mut(&id) else { return };
        let Some(field) = self.fields.get_mut(&worker.model) else { return };
        if *cooling != worker.cooling_until {
            cooling.map(|until| self.cooling.remove(&(until, id)));
            worker.cooling_until.map(|until| self.cooling.insert((until, id)));
            *cooling = worker.cooling_until;
        }
        let measured = worker.service.map(|service| step_of(micros(service)));
        let is_best_new = *step != measured && field.measure(id, *step, measured);
        *step = measured;
        let right = worker.place(id, field.best_service());
        field.shift(id, worker.signs_receipts(), *place, right);
        *place = right;
        if is_best_new {
            let model = worker.model;
            self.stand_unmeasured(model);
        }
    }

    /// What the best worker needs has changed by a step: those that were not measured are taken to need as much.
    fn stand_unmeasured(&mut self, model: ModelId) {
        let Some(field) = self.fields.get_mut(&model) else { return };
        let service = field.best_service();
        for id in field.unmeasured() {
            let Some(Standing { worker, place, .. }) = self.all.get_mut(&id) else { continue };
            let right = worker.place(id, service);
            field.shift(id, worker.signs_receipts(), *place, right);
            *place = right;
        }
    }
}

#[cfg(test)]
mod tests;
