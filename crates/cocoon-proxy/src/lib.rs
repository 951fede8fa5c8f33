//! The proxy: admission, routing, metering and settlement between clients and workers.
//!
//! - [`core`] decides: synchronous, total, no I/O.
//! - `driver` and `hub` do: sockets, tasks, timers.
//! - `session` keeps each connection's protocol in order; `stream` is the data plane of one answer,
//!   which passes the core by.
//! - `terms` is what the network says: price, weights, contracts. It changes while the proxy runs.
//! - `request` reads what must be known of a request; the body itself passes untouched.
//!
//! - `settlement` makes money of what was counted: commits, charges, payouts; `books` is where it meets the hub.
//! - `payments` signs, `tag` seals whose request a worker has, `journal_task` writes the books to disk.
//!
//! Without [`Money`] a proxy keeps its ledger in memory and signs no payments: nothing that it counts is owed.
//! It fails closed: a client without a configured secret is refused, a worker that claims more than
//! was reserved is cut to the reservation, and a peer that breaks the protocol loses its connection.

mod books;
mod config;
pub mod core;
mod driver;
mod evidence;
mod hub;
mod journal_task;
pub mod limits;
mod money;
mod payments;
mod refused_peers;
mod request;
mod session;
mod settlement;
mod status;
mod stream;
mod tag;
mod terms;

pub use config::{Hex32, ProxyConfig, SettlementConfig};
pub use driver::{Proxy, ProxyHandle};
pub use money::{Money, ProxyError};
pub use settlement::{NextAction, Phase, SettlementError, SettlementKind, SettlementStatus};
pub use status::Status;
pub use terms::{Contracts, ProxyTerms};
