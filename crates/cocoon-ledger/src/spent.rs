//! Ids of requests that are paid for, or given up for good: none of them is paid again.
//!
//! The memory is bounded, so ids are forgotten: always the one that was opened first. From then on whatever was opened
//! no later than the newest forgotten one counts as spent, because it may be. So an id is never paid twice, and what a
//! worker can lose by it is a receipt that it kept for longer than [`SPENT_MAX`] requests took to end.
//!
//! An id is opened when its request goes to a worker, and that moment stands in the tag which only the proxy can seal:
//! a worker cannot make it newer.
//!
//! What is spent is an id in one [`Run`]. A client that uses an id again after a crash lost it has made another request,
//! and each of the two is paid once: neither takes the place of the other.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::limits::{RECEIPTS_BYTES_MAX, SPENT_MAX};
use crate::reservation::{Run, Spent, SpentRequest};

type Id = [u8; 32];

/// The newest spent ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpentIds {
    /// The first request of each id. Never iterated: its order is random.
    by_id: HashMap<Id, Item>,
    /// Requests of other runs under the same id. Honest clients make none.
    reused: BTreeMap<(Id, Run), Item>,
    by_age: BTreeSet<(u64, Id, Run)>,
    /// Those of which the receipt is kept.
    receipts: BTreeSet<(u64, Id, Run)>,
    receipt_bytes: usize,
    /// The latest opening among those forgotten.
    forgotten: Option<u64>,
}

#[derive(Clone, Debug)]
struct Item {
    run: Run,
    opened_at: u64,
    request: SpentRequest,
}

impl SpentIds {
    /// What is remembered of an id, one for each run.
    pub(crate) fn of(&self, id: &Id) -> impl Iterator<Item = &SpentRequest> {
        let reused = self.reused.range((*id, Run(0))..=(*id, Run(u64::MAX))).map(|(_, item)| item);
        self.by_id.get(id).into_iter().chain(reused).map(|item| &item.request)
    }

    /// Whether the request that this id named in that run is spent.
    pub(crate) fn contains(&self, id: &Id, run: Run) -> bool {
        self.by_id.get(id).is_some_and(|item| item.run == run) || self.reused.contains_key(&(*id, run))
    }

    /// Ids opened up to here may have been spent and forgotten.
    pub(crate) fn forgotten(&self) -> Option<u64> {
        self.forgotten
    }

    /// Remembers a spent id; `false` if it is spent already.
    pub(crate) fn insert(&mut self, spent: Spent, request: SpentRequest) -> bool {
        let Spent { id, run, opened_at, receipt } = spent;
        if self.contains(&id, run) {
            return false;
        }
        if !receipt.is_empty() {
            self.receipts.insert((opened_at, id, run));
            self.receipt_bytes += receipt.len();
        }
        self.by_age.insert((opened_at, id, run));
        let item = Item { run, opened_at, request: SpentRequest { receipt, ..request } };
        match self.by_id.entry(id) {
            Entry::Vacant(free) => {
                free.insert(item);
            }
            Entry::Occupied(_) => {
                self.reused.insert((id, run), item);
            }
        }
        self.forget();
        true
    }

    /// From the one that was opened first, without those forgotten.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Spent, &SpentRequest)> {
        self.by_age.iter().filter_map(|(opened_at, id, run)| {
            let first = self.by_id.get(id).filter(|item| item.run == *run);
            let request = &first.or_else(|| self.reused.get(&(*id, *run)))?.request;
            Some((Spent { id: *id, run: *run, opened_at: *opened_at, receipt: request.receipt.clone() }, request))
        })
    }

    /// Puts back what [`Self::forgotten`] was.
    pub(crate) fn restore(&mut self, forgotten: Option<u64>) {
        self.forgotten = self.forgotten.max(forgotten);
    }

    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    fn forget(&mut self) {
        while self.receipt_bytes > RECEIPTS_BYTES_MAX {
            let Some((_, id, run)) = self.receipts.pop_first() else { break };
            let first = self.by_id.get_mut(&id).filter(|item| item.run == run);
            let Some(item) = first.or_else(|| self.reused.get_mut(&(id, run))) else { continue };
            let receipt = std::mem::take(&mut item.request.receipt);
            self.receipt_bytes = self.receipt_bytes.saturating_sub(receipt.len());
        }
        while self.by_age.len() > SPENT_MAX {
            let Some((opened_at, id, run)) = self.by_age.pop_first() else { break };
            self.forgotten = self.forgotten.max(Some(opened_at));
            let Some(item) = self.remove(&id, run) else { continue };
            if self.receipts.remove(&(item.opened_at, id, run)) {
                self.receipt_bytes = self.receipt_bytes.saturating_sub(item.request.receipt.len());
            }
        }
    }

    fn remove(&mut self, id: &Id, run: Run) -> Option<Item> {
        match self.by_id.get(id) {
            Some(item) if item.run == run => self.by_id.remove(id),
            Some(_) | None => self.reused.remove(&(*id, run)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cocoon_units::AdjustedTokens;

    use super::*;
    use crate::account::PayerId;
    use crate::limits::RECEIPT_BYTES_MAX;

    fn id(number: usize) -> Id {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64).to_le_bytes());
        id
    }

    fn insert(ids: &mut SpentIds, number: usize, receipt: &Bytes) -> bool {
        insert_of(ids, number, Run(1), receipt)
    }

    fn insert_of(ids: &mut SpentIds, number: usize, run: Run, receipt: &Bytes) -> bool {
        let spent = Spent { id: id(number), run, opened_at: number as u64, receipt: receipt.clone() };
        ids.insert(spent, SpentRequest { payer: PayerId(0), tokens: AdjustedTokens::ZERO, receipt: receipt.clone() })
    }

    #[test]
    fn the_oldest_are_forgotten_and_said_to_be() {
        let mut ids = SpentIds::default();
        // The one that was opened first comes last.
        for number in (0..SPENT_MAX).rev() {
            assert!(insert(&mut ids, number, &Bytes::new()));
        }
        assert!(!insert(&mut ids, 7, &Bytes::new()));
        assert_eq!(ids.forgotten(), None);
        assert!(insert(&mut ids, SPENT_MAX, &Bytes::new()));
        assert!(insert(&mut ids, SPENT_MAX + 1, &Bytes::new()));
        assert_eq!((ids.len(), ids.forgotten()), (SPENT_MAX, Some(1)));
        assert_eq!(ids.of(&id(1)).count(), 0);
        assert_eq!(ids.of(&id(2)).count(), 1);
    }

    #[test]
    fn an_id_of_several_runs_is_spent_and_forgotten_for_each() {
        let mut ids = SpentIds::default();
        let (receipt, runs) = (Bytes::from_static(b"receipt"), [Run(2), Run(1), Run(u64::MAX)]);
        for run in runs {
            assert!(insert_of(&mut ids, 0, run, &receipt) && !insert_of(&mut ids, 0, run, &receipt));
        }
        assert!(runs.iter().all(|run| ids.contains(&id(0), *run)) && !ids.contains(&id(0), Run(3)));
        assert_eq!((ids.len(), ids.iter().count(), ids.receipt_bytes), (3, 3, 3 * receipt.len()));
        for number in 1..SPENT_MAX {
            assert!(insert(&mut ids, number, &Bytes::new()));
        }
        // Run 1's went first, then that of run 2, which had the first place.
        assert!(ids.of(&id(0)).count() == 1 && ids.contains(&id(0), Run(u64::MAX)));
        assert!(!ids.contains(&id(0), Run(1)) && !ids.contains(&id(0), Run(2)));
        assert!(insert(&mut ids, SPENT_MAX, &Bytes::new()));
        assert_eq!((ids.of(&id(0)).count(), ids.len(), ids.receipt_bytes, ids.reused.len()), (0, SPENT_MAX, 0, 0));
    }

    #[test]
    fn receipts_are_forgotten_before_their_ids() {
        let mut ids = SpentIds::default();
        let receipt = Bytes::from(vec![1; RECEIPT_BYTES_MAX]);
        let fit = RECEIPTS_BYTES_MAX / RECEIPT_BYTES_MAX;
        for number in 0..=fit {
            assert!(insert(&mut ids, number, &receipt));
        }
        let kept = |number| ids.of(&id(number)).next().map(|request| request.receipt.len());
        assert_eq!(kept(0), Some(0));
        assert_eq!((kept(1), kept(fit)), (Some(RECEIPT_BYTES_MAX), Some(RECEIPT_BYTES_MAX)));
        assert_eq!((ids.receipt_bytes, ids.forgotten()), (fit * RECEIPT_BYTES_MAX, None));
    }
}
