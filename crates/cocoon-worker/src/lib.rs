//! The worker role: takes inference requests from proxies, runs them on an engine, counts tokens.
//!
//! From the outside in:
//!
//! 1. [`Worker`] (`worker.rs`) keeps one uplink a proxy and watches the engine's health.
//! 2. `session.rs` is one connection to one proxy: handshake (`session/handshake.rs`), then requests,
//!    cancellations and credit in, answers and load reports out.
//! 3. `request.rs` is one request: what may reach the engine (`request/prepare.rs`), the answer as it
//!    flows (`request/relay.rs`), what it is billed at (`request/meter.rs`), how it is told to the
//!    proxy (`request/reply.rs`).
//! 4. [`engine`] is what runs it.
//!
//! The path of an answer's byte: the engine's buffer, one queue of the connection, the socket. It is
//! looked at for usage and never changed or copied on the way, and one task handles the whole request.
//!
//! Proxies differ in protocol version, which ends in `cocoon-wire`; the one rule that remains here is
//! how a failure is put ([`Version::Extended`](cocoon_wire::Version::Extended) has typed failures,
//! original nodes crash on theirs).

mod config;
mod earnings;
pub mod engine;
mod error;
mod limits;
mod receipts;
mod request;
mod session;
mod status;
mod terms;
mod worker;

pub use config::{EarningsConfig, OpenAiHttpConfig, WorkerConfig};
pub use earnings::{
    Cashed, Earned, Earnings, EarningsError, Errand, Money, PaymentError, cash, close, earnings, leave_errand,
};
pub use engine::Engine;
pub use error::{ConfigError, EngineError, SessionError};
pub use receipts::ReceiptSigner;
pub use status::{EngineState, ProxyState, Status};
pub use terms::ContractError;
pub use worker::{Worker, WorkerHandle};
