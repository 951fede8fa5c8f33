//! The proxy: admission, routing, metering and settlement between clients and workers.
//!
//! - [`core`] decides: synchronous, total, no I/O.
//! - `driver` and `hub` do: sockets, tasks, timers.
//! - `session` keeps each connection's protocol in order; `stream` is the data plane of one answer,
//!   which passes the core by.
//! - `terms` is what the network says: price, weights, contracts. It changes while the proxy runs.
//! - `request` reads what must be known of a request; the body itself passes untouched.
//!
//! A proxy keeps its ledger in memory and signs no payments: nothing that it counts is owed yet.
//! It fails closed: a client without a configured secret is refused, a worker that claims more than
//! was reserved is cut to the reservation, and a peer that breaks the protocol loses its connection.

mod config;
pub mod core;
mod driver;
mod hub;
pub mod limits;
mod refused_peers;
mod request;
mod session;
mod status;
mod stream;
mod terms;

pub use config::{Hex32, ProxyConfig};
pub use driver::{Proxy, ProxyHandle};
pub use status::Status;
pub use terms::{Contracts, ProxyTerms};
