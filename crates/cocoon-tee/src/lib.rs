//! What touches the machine: evidence of it, the vendors' endorsements, trusted time, keys.
//!
//! 1. [`attester`]: evidence from configfs-tsm, `/dev/sev-guest` and NVML, put together as
//!    [`cocoon_attest::Attester`].
//! 2. [`collateral`]: endorsements from a PCCS, from AMD's key distribution service, from a cache, from a folder.
//! 3. [`clock`]: the time that a TEE may believe, whose clock is its host's.
//! 4. [`keys`]: one key for each purpose, derived from a secret that the platform keeps.
//!
//! Not here: judging evidence (`cocoon-attest`), the connection that it travels on (`cocoon-net`), simulated platforms
//! (`cocoon-simtee`). Paths and addresses are parameters: only the binary chooses them.
//!
//! This is the only crate of the workspace with `unsafe`, and all of it is in the private module `foreign`: two ioctls
//! and one shared library. Specification: attestation.md, sections 4.4, 5, 6.3 and 9.

pub mod attester;
pub mod clock;
pub mod collateral;
mod files;
mod foreign;
pub mod keys;
pub mod limits;

pub use attester::{Machine, MachineAttester, TeeChoice, detect};
pub use clock::{ClockError, TrustedClock};
pub use collateral::{CollateralCache, Fallback, Kds, OfflineCollateral, Pccs, Vendors};
pub use keys::{KeyError, KeyOrigin, KeyProvider, NodeKeys, Protection};
