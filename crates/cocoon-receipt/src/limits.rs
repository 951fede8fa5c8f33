//! Bounds of what a receipt may say.

/// Most receipts under one signature: their way to the root is six hashes then, 192 bytes of a receipt.
pub const BATCH_MAX: usize = 64;

/// Signatures that a reader remembers as verified, 128 bytes each: some batches of each of several workers.
pub const ROOTS_KEPT_MAX: usize = 64;

/// Longest encoding of a signed receipt, in bytes; ours have about 1 KiB.
/// The wire's own bound is the same: `cocoon_wire::limits::RECEIPT_MAX`.
pub const RECEIPT_BYTES_MAX: usize = 4096;

/// Most tokens of any kind: the wire and the contracts carry counts as signed 64-bit numbers.
pub const TOKENS_MAX: u64 = i64::MAX.unsigned_abs();

/// Longest model name, as on the wire: `cocoon_wire::limits::MODEL_NAME_MAX`.
pub const MODEL_NAME_MAX: usize = 512;

/// Longest name of a proxy: a raw address has 66 characters; without a chain it is named by its owner.
pub const PROXY_NAME_MAX: usize = 128;

/// Longest receipt file, in bytes: a receipt, and a document of evidence with its escapes.
/// A document of evidence travels with up to 1 MiB (`cocoon_wire::limits::EVIDENCE_MAX`), mostly hex digits, and its
/// quotes and line feeds are escaped here; the largest that `cocoon-attest` reads, 4 MiB, fits as well.
pub const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most characters of a peer's text that an error repeats.
pub const SHOWN_CHARS_MAX: usize = 200;
