//! Bounds of the ledger, each with its reason.

/// Accounts of either kind. An account is about 100 bytes, so a flood of new names costs 10 MiB at
/// most before it is refused.
pub const ACCOUNTS_MAX: usize = 100_000;

/// The largest stake: as many payers as there can be may then use all of it with one payee, and its
/// earnings still fit 64 bits. It is 184 trillion tokens.
pub const STAKE_MAX: u64 = u64::MAX / (ACCOUNTS_MAX as u64);

/// Bytes of an account's name: a TON address is 48 or 67 characters.
pub const NAME_BYTES_MAX: usize = 128;
