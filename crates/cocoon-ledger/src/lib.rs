//! Who owes how much to whom: nobody is charged more than was reserved, nor more than is paid for, and what was settled
//! survives a crash.
//!
//! A request takes three steps, and the types allow no other:
//!
//! 1. [`Ledger::reserve`] sets aside the most that the request can cost, or says why not.
//! 2. The worker answers.
//! 3. The [`Reservation`] is consumed by [`Ledger::settle`], which charges the payer what was used
//!    (never above the reservation) and credits the payee with exactly that, or by
//!    [`Ledger::release`], which charges nothing.
//!
//! What was settled then gets further, and an account's [`Marks`] say how far:
//!
//! 1. `known`: counted here. A crash loses it, and the workers' receipts bring it back ([`Ledger::settle_lost`]), each
//!    of them once: an id names one request in one [`Run`].
//! 2. `durable`: [`Ledger::take_batch`] → [`Journal::append`] → [`Ledger::written`]. A crash does not lose it. While one
//!    batch is written, the next comes together, so one sync of the disk serves as many settlements as came meanwhile.
//! 3. `committed`: [`Ledger::begin_commit`] → [`Ledger::commit_to_send`] → the chain → [`Ledger::committed`]. The disk's
//!    owner cannot undo it any more: a database that is older than the chain's newest commit is noticed
//!    ([`Ledger::check_chain`]), and payments are signed no further than this.
//!
//! The disk is the host's, who is no friend: what the journal writes is sealed and chained, and a file that was changed,
//! cut in the middle, or made on another machine does not open ([`JournalError`] says what to do then). An error while
//! writing poisons the journal, which is better than guessing what the disk holds.
//!
//! The ledger knows accounts and tokens; it knows no prompts, no TL, no cells, no clock, no files. Its storage is
//! `redb`, in whatever [`redb::StorageBackend`] it is given: a database in Rust alone, whose commit is one sync, that is
//! tested against crashes in the same way as this crate, and that can be given a disk which fails at any write.
//! Randomness comes in as [`Salts`].
//!
//! Invariants are asserted in release builds, before and after each change, because a stopped proxy is better than a
//! wrong balance. No peer can cause one to fail.
//!
//! ```
//! use cocoon_ledger::{Credit, Journal, Ledger};
//! use cocoon_units::AdjustedTokens;
//!
//! let mut salt = [0; 32];
//! let salts = move || { salt[0] += 1; salt }; // 32 random bytes each, where it matters
//! let disk = redb::backends::InMemoryBackend::new();
//! let (mut journal, state) = Journal::open(disk, &[7; 32], Box::new(salts))?;
//! let mut ledger = Ledger::restore(state);
//!
//! let secured = AdjustedTokens::new(1_000);
//! let client = ledger.open_payer("client", Credit { charged: AdjustedTokens::ZERO, secured })?;
//! let worker = ledger.open_payee("worker")?;
//! let reservation = ledger.reserve(client, AdjustedTokens::new(300))?;
//! let settled = ledger.settle(reservation, worker, AdjustedTokens::new(120), None);
//! assert_eq!(settled.charged.get(), 120);
//!
//! while let Some(batch) = ledger.take_batch() {
//!     ledger.written(journal.append(batch)?);
//! }
//! assert_eq!(ledger.payee(worker).durable.get(), 120);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account;
mod batch;
mod codec;
mod commit;
mod entry;
mod journal;
mod ledger;
pub mod limits;
mod reservation;
mod spent;
mod state;

pub use account::{Credit, Marks, PayeeId, PayerId, PayerView, Standing};
pub use batch::{Batch, Written};
pub use commit::{Commit, RolledBack};
pub use journal::{Journal, JournalError, Salts};
pub use ledger::{Ledger, Totals};
pub use reservation::{
    LostRefusal, NoteRefused, Overcharge, Rejection, Reservation, Run, Settled, Spent, SpentRequest,
};
pub use state::State;
