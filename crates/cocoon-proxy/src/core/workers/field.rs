//! The workers of one model, each at its place: in the order in which requests take them, or among the full.
//!
//! Those that sign receipts stand apart from those that do not, so that a request that wants one looks at no others.
//! Under a price cap a look skips the rest of a step of expected time once its workers are too dear: there are at most 256
//! steps, and mostly two or three.

use std::collections::BTreeSet;
use std::time::Duration;

use cocoon_units::Coefficient;

use super::{Choice, Wanted};
use crate::core::event::WorkerId;
use crate::limits::SERVICE_TIME_DEFAULT;

/// Steps of expected time: half powers of two of 64 bits.
const STEPS: usize = 128;

/// The order of preference, as one number: whether the worker failed lately, the step of its expected time, its price, how
/// many requests it has, and its id, which is the order in which they connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u128);

impl Rank {
    const FIRST: Self = Self(0);
    const STEP_BITS: u32 = 120;
    const PRICE_BITS: u32 = 88;
    const ACTIVE_BITS: u32 = 64;
    /// More than a worker can have.
    const ACTIVE_MAX: u32 = (1 << (Self::PRICE_BITS - Self::ACTIVE_BITS)) - 1;

    pub(super) fn new(cooling: bool, step: u32, price: Coefficient, active: u32, WorkerId(id): WorkerId) -> Self {
        let step = u128::from(cooling) << 7 | u128::from(step & 0x7f);
        let price = u128::from(price.thousandths());
        let active = u128::from(active.min(Self::ACTIVE_MAX));
        Self(step << Self::STEP_BITS | price << Self::PRICE_BITS | active << Self::ACTIVE_BITS | u128::from(id))
    }

    #[expect(clippy::cast_possible_truncation, reason = "a part of the number is taken out")]
    const fn price(self) -> Coefficient {
        Coefficient::from_thousandths(self.bits(Self::PRICE_BITS) as u32)
    }

    const fn id(self) -> WorkerId {
        WorkerId(self.bits(0))
    }

    /// Before all workers of the next step.
    const fn next_step(self) -> Option<Self> {
        match self.0 >> Self::STEP_BITS {
            0xff => None,
            step => Some(Self((step + 1) << Self::STEP_BITS)),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a part of the number is taken out")]
    const fn bits(self, from: u32) -> u64 {
        (self.0 >> from) as u64
    }
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: it takes no requests, and none wait for it.
    Out,
    /// It can take one now.
    Open(Rank),
    /// It has no room; a request may wait for it.
    Full(Coefficient),
}

/// The workers of one model.
#[derive(Debug)]
pub(super) struct Field {
    ids: BTreeSet<WorkerId>,
    slots: u64,
    signing: Side,
    plain: Side,
    unmeasured: BTreeSet<WorkerId>,
    /// How many were measured at each step of service time.
    measured: Box<[u32; STEPS]>,
    best_step: Option<u32>,
}

/// Those of one kind.
#[derive(Debug, Default)]
struct Side {
    open: BTreeSet<Rank>,
    full: BTreeSet<(Coefficient, WorkerId)>,
}

impl Default for Field {
    fn default() -> Self {
        let (signing, plain) = (Side::default(), Side::default());
        let (ids, unmeasured) = (BTreeSet::new(), BTreeSet::new());
        Self { ids, slots: 0, signing, plain, unmeasured, measured: Box::new([0; STEPS]), best_step: None }
    }
}

impl Field {
    /// A worker that was not measured yet and stands nowhere.
    pub(super) fn insert(&mut self, id: WorkerId, slots: u32) {
        self.ids.insert(id);
        self.unmeasured.insert(id);
        self.slots = self.slots.saturating_add(slots.into());
    }

    /// Takes out one that stands nowhere any more; whether that changes what the best needs.
    pub(super) fn remove(&mut self, id: WorkerId, slots: u32, step: Option<u32>) -> bool {
        self.ids.remove(&id);
        self.slots = self.slots.saturating_sub(slots.into());
        let is_best_new = step.is_some() && self.measure(id, step, None);
        self.unmeasured.remove(&id);
        is_best_new
    }

    /// Moves a worker from one place to another.
    pub(super) fn shift(&mut self, id: WorkerId, signs: bool, from: Place, to: Place) {
        if from == to {
            return;
        }
        let side = if signs { &mut self.signing } else { &mut self.plain };
        match from {
            Place::Out => true,
            Place::Open(rank) => side.open.remove(&rank),
            Place::Full(price) => side.full.remove(&(price, id)),
        };
        match to {
            Place::Out => true,
            Place::Open(rank) => side.open.insert(rank),
            Place::Full(price) => side.full.insert((price, id)),
        };
    }

    /// Notes the step of a worker's service time; whether that changes what the best needs.
    pub(super) fn measure(&mut self, id: WorkerId, from: Option<u32>, to: Option<u32>) -> bool {
        match from.and_then(|step| self.measured.get_mut(step as usize)) {
            Some(count) => *count -= 1,
            None => _ = self.unmeasured.remove(&id),
        }
        match to.and_then(|step| self.measured.get_mut(step as usize)) {
            Some(count) => *count += 1,
            None => _ = self.unmeasured.insert(id),
        }
        let best = (0..).zip(self.measured.iter()).find(|(_, count)| **count > 0).map(|(step, _)| step);
        std::mem::replace(&mut self.best_step, best) != best
    }

    /// What the best worker needs for a request, to a step.
    pub(super) fn best_service(&self) -> Duration {
        self.best_step.map_or(SERVICE_TIME_DEFAULT, |step| Duration::from_micros(least_of(step)))
    }

    pub(super) fn unmeasured(&self) -> Vec<WorkerId> {
        self.unmeasured.iter().copied().collect()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = WorkerId> {
        self.ids.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The slots of all of them.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.slots).unwrap_or(u32::MAX)
    }

    pub(super) fn cheapest_room(&self) -> Option<Coefficient> {
        [&self.signing, &self.plain].into_iter().filter_map(Side::cheapest_room).min()
    }

    pub(super) fn choose(&self, Wanted { cap, receipt, excluded }: Wanted<'_>) -> Choice {
        let plain = (!receipt).then_some(&self.plain);
        let sides = || std::iter::once(&self.signing).chain(plain);
        if let Some(rank) = sides().filter_map(|side| side.best(cap, excluded)).min() {
            return Choice::Now(rank.id());
        }
        if sides().any(|side| side.cheapest_full(excluded).is_some_and(|price| price <= cap)) {
            Choice::Later
        } else if sides().any(|side| side.has_any(excluded)) {
            Choice::AbovePrice
        } else if receipt && self.plain.has_any(excluded) {
            Choice::Unsigned
        } else {
            Choice::Nobody
        }
    }
}

impl Side {
    /// The first in the order that costs no more than that. Few are excluded: those that a request was tried on.
    fn best(&self, cap: Coefficient, excluded: &[WorkerId]) -> Option<Rank> {
        let mut from = Rank::FIRST;
        loop {
            let rank = *self.open.range(from..).find(|rank| !excluded.contains(&rank.id()))?;
            if rank.price() <= cap {
                return Some(rank);
            }
            from = rank.next_step()?;
        }
    }

    fn cheapest_room(&self) -> Option<Coefficient> {
        let mut cheapest = None;
        let mut next = Some(Rank::FIRST);
        while let Some(rank) = next.and_then(|from| self.open.range(from..).next()) {
            let price = rank.price();
            cheapest = Some(cheapest.map_or(price, |least: Coefficient| least.min(price)));
            next = rank.next_step();
        }
        cheapest
    }

    fn cheapest_full(&self, excluded: &[WorkerId]) -> Option<Coefficient> {
        self.full.iter().find(|(_, id)| !excluded.contains(id)).map(|(price, _)| *price)
    }

    fn has_any(&self, excluded: &[WorkerId]) -> bool {
        self.cheapest_full(excluded).is_some() || self.open.iter().any(|rank| !excluded.contains(&rank.id()))
    }
}

/// The step of a number: twice its binary logarithm, rounded down. Numbers within a factor of 1.5 or less are mostly equal.
pub(super) const fn step_of(value: u64) -> u32 {
    let value = if value < 2 { 2 } else { value };
    let log = value.ilog2();
    let upper_half = (value >> (log - 1)) & 1 == 1;
    2 * log + upper_half as u32
}

/// The least number of a step.
const fn least_of(step: u32) -> u64 {
    let log = step / 2;
    let whole = 1 << log;
    if step % 2 == 1 { whole | whole >> 1 } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_with_their_value() {
        let mut last = 0;
        for value in 0..10_000 {
            let step = step_of(value);
            assert!(step >= last);
            last = step;
        }
        assert_eq!(step_of(100_000), step_of(105_000));
        assert_ne!(step_of(100_000), step_of(200_000));
        assert_eq!(step_of(u64::MAX), 127);
        for step in 2..128 {
            assert_eq!(step_of(least_of(step)), step);
            assert!(step_of(least_of(step) - 1) < step || step == 2);
        }
    }

    #[test]
    fn a_rank_keeps_its_parts_and_their_order() {
        let rank = |cooling, step, price, active, id| {
            Rank::new(cooling, step, Coefficient::from_thousandths(price), active, WorkerId(id))
        };
        let ordered = [
            rank(false, 3, 7, 1, 1),
            rank(false, 3, 7, 1, u64::MAX),
            rank(false, 3, 7, u32::MAX, 0),
            rank(false, 3, u32::MAX, 0, 0),
            rank(false, 127, 0, 0, 0),
            rank(true, 2, 0, 0, 0),
        ];
        assert!(ordered.is_sorted_by(|one, next| one < next));
        assert_eq!(ordered[1].id(), WorkerId(u64::MAX));
        assert_eq!(
            (ordered[0].price(), ordered[3].price().thousandths()),
            (Coefficient::from_thousandths(7), u32::MAX)
        );
        assert_eq!(rank(true, 127, 1, 1, 1).next_step(), None);
        assert!(ordered[4].next_step().unwrap() <= ordered[5]);
    }
}
