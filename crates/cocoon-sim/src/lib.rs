//! Development only: engines that behave as tests and benchmarks want.
//!
//! [`ScriptedEngine`] answers each request as a test says, records what arrived byte for byte and
//! notices when the caller hangs up. [`FakeEngine`] answers the same thing as cheaply as it can, and
//! [`load`] asks as cheaply as it can, [`hold()`] many at once; [`workers()`] connects thousands to
//! one proxy. [`attest()`] measures what attested links cost, [`chain()`] what the embedded
//! devnet does, [`ledger()`] what counting money costs. [`storm()`] kills processes of a
//! whole network and then checks its books.
//! Neither infers anything, and no role depends on this crate outside its tests.

mod attested;
mod base64;
mod chain;
mod fake;
mod hold;
mod http;
mod ledger;
mod limits;
mod load;
mod script;
mod scripted;
mod storm;
mod workers;

pub use attested::{AttestConfig, AttestReport, attest};
pub use chain::{ChainConfig, ChainReport, chain};
pub use fake::{FakeConfig, FakeEngine};
pub use hold::{HoldConfig, HoldReport, Opened, hold};
pub use ledger::{LedgerConfig, LedgerReport, ledger};
pub use load::{LoadConfig, LoadReport, load};
pub use script::{Behaviour, Ending, Event};
pub use scripted::{Outcome, RequestRecord, ScriptedEngine};
pub use storm::{
    Books, Counts, FailoverReport, Failure as StormFailure, PaidConfig, PaidNetwork, StormConfig, StormReport,
    failover, paid, storm,
};
pub use workers::{WorkersConfig, WorkersReport, workers};
