//! Entries on their way to the disk, and the answer that they are there.

use std::fmt;

use cocoon_units::AdjustedTokens;

use crate::account::{PayeeId, PayerId};
use crate::commit::Commit;
use crate::entry::Entry;

/// Entries to be written as one: all that came since the last batch was taken.
#[must_use = "what is not written is lost in a crash"]
pub struct Batch {
    /// The number of the first.
    pub(crate) seq: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Batch {
    /// How many entries it holds.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("seq", &self.seq).field("entries", &self.entries.len()).finish()
    }
}

/// A batch is on disk. Only [`Journal::append`](crate::Journal::append) makes one.
#[derive(Debug)]
#[must_use = "the ledger has to be told"]
pub struct Written {
    /// The number of the entry after it.
    pub(crate) next: u64,
    /// What those accounts that moved know, on disk.
    pub(crate) payers: Vec<(PayerId, AdjustedTokens)>,
    pub(crate) payees: Vec<(PayeeId, AdjustedTokens)>,
    /// The commit that was in it.
    pub(crate) commit: Option<Commit>,
}
