//! Bounds of a file of records.

/// Longest record: a receipt with its tag has about 1 KiB.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Longest file that is opened: it is read as a whole, and its owner rewrites it long before.
pub const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes of records that wait in memory to be written together: some dozens of receipts, and what a crash may lose.
pub const PUSHED_BYTES_MAX: usize = 32 * 1024;
