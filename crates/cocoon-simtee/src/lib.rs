//! A simulated TEE platform: **for development and tests only; its evidence proves nothing about any machine.**
//!
//! A [`Platform`] issues evidence that is true to the formats of Intel, AMD and NVIDIA, under roots of its own. The
//! verifier is the real one and has no branch for it: a policy names the simulated root, or refuses it as any stranger's.
//! Every certificate says `O=SIMULATED TEE`, the FMSPC is one that no processor has, and verdicts say `simulated`.
//!
//! ```text
//! Platform ── seed ─┬─ intel: root, PCK, quoting enclave ── SimTd: quotes, TD reports, event log
//!                   ├─ amd: ARK, ASK, VCEK ─────────────── SimSnp: reports
//!                   ├─ nvidia: device root, GPUs ───────── SPDM reports, reference values
//!                   └─ faults: switches ────────────────── collateral: in process, or over HTTP (`pccs`)
//! ```
//!
//! A root is made for each deployment and never checked in: it is derived from a random seed, kept in a directory of the
//! operator's ([`Platform::open`]) or in memory ([`Platform::generate`]). Processes that share the directory share the
//! platform. Nothing here is in a release build of a node: `cocoon` links it only with its feature `dev`.

mod amd;
mod clock;
mod event_log;
mod faults;
mod gpu;
mod image;
mod intel;
mod issuing;
pub mod limits;
mod pccs;
mod pki;
mod platform;
mod sealing;
mod seed;
mod state;
mod td;
mod td_report;

pub use amd::{ReportVersion, SimSnp};
pub use clock::SimClock;
pub use event_log::{EventKind, Rtmr};
pub use faults::{FaultSwitches, Faults, TCB_EVALUATION_NUMBER};
pub use gpu::SimRims;
pub use image::SimImage;
pub use intel::FMSPC;
pub use intel::quote::QuoteVersion;
pub use pki::ORGANIZATION;
pub use platform::{Platform, SimCollateral};
pub use sealing::SealingKeys;
pub use state::StateError;
pub use td::{LogFull, SimTd, TdOptions};
pub use td_report::TD_REPORT_BYTES;
