//! TON: the contracts of the network, wallets, and the chain behind one trait.
//!
//! - [`contract`]: state and messages of the six contracts, typed; the only place that knows opcodes.
//! - [`chain`]: what a role may ask of a blockchain, and how far each answer can be trusted.
//! - [`get_method`]: get-methods, always run here on fetched state, never asked of a server.
//! - [`wallet`] and [`keys`]: who signs, and how a message reaches the chain exactly once.
//! - [`explain`]: state and history of any Cocoon contract in words.
//! - [`devnet`]: a whole TON network in this process, for development and tests (feature `devnet`).
//!
//! What it is not: a ledger or a decision about money; those are made by roles.

pub mod address;
pub mod chain;
pub mod contract;
#[cfg(feature = "devnet")]
pub mod devnet;
pub mod explain;
pub mod get_method;
pub mod keys;
pub mod limits;
pub mod wallet;

pub use address::Address;
pub use chain::{Chain, ChainError};
/// A cell of TON: up to 1023 bits and four references.
pub use tycho_types::cell::Cell;
