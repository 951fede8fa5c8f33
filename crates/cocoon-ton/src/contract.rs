//! State and messages of the six contracts, typed. The only place that knows opcodes and layouts.
//!
//! ```text
//!            changes                 changes at once, or after the delay
//!   owner ────────────▶ steward ────────────────────────────────────────▶ root
//!                          │ events, to everybody                           │ nodes read its state:
//!                          ▼                                                ▼ images, models, prices, codes
//!
//!   who      ┌────────┐  charge_paid (money), notes (1 nano)  ┌───────┐  worker note with a claim  ┌────────┐
//!   pays ───▶│ client │──────────────────────────────────────▶│ proxy │◀───────────────────────────│ worker │
//!            └────────┘                                       └───────┘  payout_remainder ────────▶└────────┘
//!               │ refunds                                      │     │
//!               ▼                                              ▼     ▼
//!             owner                              commission, stake   payouts
//!                                                 to the owner       to the worker's owner
//!
//!   wallet: a key inside a node sends through it; its owner can block and empty it.
//! ```
//!
//! 1. Deposits stay in the client contract. A [`signed::charge`] moves what was used to the proxy contract; a
//!    [`signed::payout`] draws on that. What cannot be paid yet stays a claim.
//! 2. Addresses of proxies, clients and workers derive from owner, key and [`Params`]: [`proxy_address`],
//!    [`client_address`], [`worker_address`]. So a change of parameters moves everybody to new contracts.
//! 3. Initial states equal v3's bit for bit; ours append one `Maybe ^ext` where they must. The root is v3's always.
//! 4. Reading is total: any cell gives a value or a [`StateError`], in work bounded by [`crate::limits`].
//!
//! Files: states are [`root`], [`proxy`], [`client`], [`worker`], [`wallet`], [`steward`]; what contracts are told is in
//! [`message`] and [`signed`], what they send in [`note`]; [`op`] and [`exit`] name numbers. The contracts themselves
//! are in `contracts/` of the repository. Spec: `ton.md` 1; what differs from v3: `contracts/DIFFERENCES.md`.

pub mod client;
mod codec;
mod codes;
mod derive;
pub mod exit;
mod lifecycle;
pub mod message;
mod net_addr;
pub mod note;
pub mod op;
mod params;
pub mod proxy;
pub mod root;
pub mod signed;
pub mod steward;
pub mod wallet;
pub mod worker;

pub use client::ClientState;
pub use codec::StateError;
pub(crate) use codec::{Field, Reader, rest};
pub use codes::{Codes, codes};
pub use derive::{
    StateInit, client_address, client_state_init, proxy_address, proxy_state_init, worker_address, worker_state_init,
};
pub use lifecycle::Lifecycle;
pub use net_addr::{Pin, ProxyRecord};
pub use params::{ContractCodes, Params, STRUCT_VERSION};
pub use proxy::ProxyState;
pub use root::RootState;
pub use steward::StewardState;
pub use wallet::WalletState;
pub use worker::{Unpaid, WorkerState};
