//! Ids of requests that are paid for, or given up for good: none of them is paid again.
//!
//! The memory is bounded, so ids are forgotten: always the one that was opened first. From then on whatever was opened
//! no later than the newest forgotten one counts as spent, because it may be. So an id is never paid twice, and what a
//! worker can lose by it is a receipt that it kept for longer than [`SPENT_MAX`] requests took to end.
//!
//! An id is opened when its request goes to a worker, and that moment stands in the tag which only the proxy can seal:
//! a worker cannot make it newer.

use std::collections::{BTreeSet, HashMap};

use crate::limits::{RECEIPTS_BYTES_MAX, SPENT_MAX};
use crate::reservation::{Spent, SpentRequest};

type Id = [u8; 32];

/// The newest spent ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpentIds {
    /// Never iterated: its order is random.
    by_id: HashMap<Id, Item>,
    by_age: BTreeSet<(u64, Id)>,
    /// Those of which the receipt is kept.
    receipts: BTreeSet<(u64, Id)>,
    receipt_bytes: usize,
    /// The latest opening among those forgotten.
    forgotten: Option<u64>,
}

#[derive(Clone, Debug)]
struct Item {
    opened_at: u64,
    request: SpentRequest,
}

impl SpentIds {
    pub(crate) fn get(&self, id: &Id) -> Option<&SpentRequest> {
        self.by_id.get(id).map(|item| &item.request)
    }

    /// Ids opened up to here may have been spent and forgotten.
    pub(crate) fn forgotten(&self) -> Option<u64> {
        self.forgotten
    }

    /// Remembers a spent id; `false` if it is spent already.
    pub(crate) fn insert(&mut self, spent: Spent, request: SpentRequest) -> bool {
        let Spent { id, opened_at, receipt } = spent;
        if self.by_id.contains_key(&id) {
            return false;
        }
        if !receipt.is_empty() {
            self.receipts.insert((opened_at, id));
            self.receipt_bytes += receipt.len();
        }
        self.by_age.insert((opened_at, id));
        self.by_id.insert(id, Item { opened_at, request: SpentRequest { receipt, ..request } });
        self.forget();
        true
    }

    /// From the one that was opened first, without those forgotten.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Spent, &SpentRequest)> {
        self.by_age.iter().filter_map(|(opened_at, id)| {
            let request = self.get(id)?;
            Some((Spent { id: *id, opened_at: *opened_at, receipt: request.receipt.clone() }, request))
        })
    }

    /// Puts back what [`Self::forgotten`] was.
    pub(crate) fn restore(&mut self, forgotten: Option<u64>) {
        self.forgotten = self.forgotten.max(forgotten);
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn forget(&mut self) {
        while self.receipt_bytes > RECEIPTS_BYTES_MAX {
            let Some((_, id)) = self.receipts.pop_first() else { break };
            let Some(item) = self.by_id.get_mut(&id) else { continue };
            let receipt = std::mem::take(&mut item.request.receipt);
            self.receipt_bytes = self.receipt_bytes.saturating_sub(receipt.len());
        }
        while self.by_id.len() > SPENT_MAX {
            let Some((opened_at, id)) = self.by_age.pop_first() else { break };
            self.forgotten = self.forgotten.max(Some(opened_at));
            let Some(item) = self.by_id.remove(&id) else { continue };
            if self.receipts.remove(&(item.opened_at, id)) {
                self.receipt_bytes = self.receipt_bytes.saturating_sub(item.request.receipt.len());
            }
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
        let spent = Spent { id: id(number), opened_at: number as u64, receipt: receipt.clone() };
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
        assert!(ids.get(&id(1)).is_none());
        assert!(ids.get(&id(2)).is_some());
    }

    #[test]
    fn receipts_are_forgotten_before_their_ids() {
        let mut ids = SpentIds::default();
        let receipt = Bytes::from(vec![1; RECEIPT_BYTES_MAX]);
        let fit = RECEIPTS_BYTES_MAX / RECEIPT_BYTES_MAX;
        for number in 0..=fit {
            assert!(insert(&mut ids, number, &receipt));
        }
        let kept = |number| ids.get(&id(number)).map(|request| request.receipt.len());
        assert_eq!(kept(0), Some(0));
        assert_eq!((kept(1), kept(fit)), (Some(RECEIPT_BYTES_MAX), Some(RECEIPT_BYTES_MAX)));
        assert_eq!((ids.receipt_bytes, ids.forgotten()), (fit * RECEIPT_BYTES_MAX, None));
    }
}
