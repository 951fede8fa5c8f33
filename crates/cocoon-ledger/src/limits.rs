//! Bounds of the ledger, each with its reason.

/// Accounts of either kind. An account is about 100 bytes, so a flood of new names costs 10 MiB at
/// most before it is refused.
pub const ACCOUNTS_MAX: usize = 100_000;

/// Bytes of an account's name: a TON address is 48 or 67 characters.
pub const NAME_BYTES_MAX: usize = 128;
