//! The desk on a devnet: the real contracts decide what it did.

mod exit;
mod fund;
mod stage;
