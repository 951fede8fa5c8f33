//! The tables of the database, and what the sealed header says.

use redb::TableDefinition;

/// One sealed [`Header`].
pub(super) const HEADER: TableDefinition<'_, (), &[u8]> = TableDefinition::new("header");

/// The parts of the newest snapshot, sealed, by number.
pub(super) const SNAPSHOT: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("snapshot");

/// The batches since that snapshot, sealed, by the number of their first entry.
pub(super) const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");

/// Which snapshot the batches go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Entries in the snapshot.
    pub(super) seq: u64,
    /// The head after them.
    pub(super) head: [u8; 32],
    /// Parts of the snapshot.
    pub(super) parts: u32,
}
