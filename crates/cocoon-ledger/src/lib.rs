//! Accounts and reservations: nobody is charged more than was reserved, nor owes more than staked.
//!
//! A request takes three steps, and the types allow no other:
//!
//! 1. [`Ledger::reserve`] sets aside the most that the request can cost, or says why not.
//! 2. The worker answers.
//! 3. The [`Reservation`] is consumed by [`Ledger::settle`], which charges the payer what was used
//!    (never above the reservation) and credits the payee with exactly that, or by
//!    [`Ledger::release`], which charges nothing.
//!
//! The ledger knows accounts and tokens; it knows no prompts, no TL, no cells, no clock.
//! It lives in memory: a proxy that restarts starts from nothing and says so to its workers.
//! Its invariants are asserted in release builds, before and after each change, because a stopped
//! proxy is better than a wrong balance. No peer can cause one to fail.

mod account;
mod ledger;
pub mod limits;
mod reservation;

pub use account::{PayeeId, PayerId};
pub use ledger::{Balance, Ledger, Rejection, Totals};
pub use reservation::{Overcharge, Reservation, Settled};
