//! Bounds of the ledger, each with its reason.

/// Accounts of either kind that are open at once. An account is about 300 bytes, so a flood of new names costs 30 MiB
/// at most before it is refused.
pub const ACCOUNTS_MAX: usize = 100_000;

/// Bytes of an account's name: a TON address is 48 or 67 characters.
pub const NAME_BYTES_MAX: usize = 128;

/// Request ids that are remembered as spent, the newest. At 1,000 requests a second they reach four minutes back, four
/// times the longest wait for a commit; what is older cannot be handed over any more. About 200 bytes each.
pub const SPENT_MAX: usize = 1 << 18;

/// Bytes of receipts that are kept with spent ids, the newest: some 50,000 receipts, for clients that did not hear the
/// end of a request and ask for it.
pub const RECEIPTS_BYTES_MAX: usize = 64 << 20;

/// Bytes of one receipt; a longer one is not kept. A signed receipt is about 1.2 KiB, and never longer than this.
pub const RECEIPT_BYTES_MAX: usize = 4 << 10;

/// Notes of settlement: a cursor, and one for each instance of the proxy's contract.
pub const NOTES_MAX: usize = 1_000;

/// Bytes of a note's key.
pub const NOTE_KEY_BYTES_MAX: usize = 128;

/// Bytes of a note: a contract's state is below 1 KiB, a list of old instances below 64.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

/// Entries of one batch. With usual receipts it is just below 4 MiB, which matters since the database gives a value a
/// power of two of bytes; with the longest, 12 MiB.
pub const BATCH_ENTRIES_MAX: usize = 3_000;

/// Entries that wait for the disk before new reservations are refused: two seconds of 50,000 a second. Reservations
/// that are open by then add one entry each, at most.
pub const UNWRITTEN_MAX: u64 = 100_000;

/// Commits whose digest is kept, the newest: at one in 30 seconds, an hour in which the chain can be compared.
pub const COMMITS_KEPT: usize = 120;

/// The journal is folded into a snapshot when its batches hold this many bytes, or twice as many as the last snapshot
/// if that is more: the file stays a few times as large as the state, and a byte is written one and a half times.
pub const COMPACT_BYTES_MIN: u64 = 16 << 20;

/// Bytes of one part of a snapshot. The database gives a value a power of two of bytes: with what sealing adds, a part
/// stays just below 1 MiB.
pub const SNAPSHOT_PART_BYTES: usize = 1_000_000;

/// Bytes that the database may keep of its file in memory. The journal is written once and read at the start.
pub const CACHE_BYTES: usize = 16 << 20;
