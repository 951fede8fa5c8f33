//! Every bound of this crate, each with its reason.

use std::time::Duration;

/// How long collateral holds: Intel issues TCB information for 30 days.
pub const COLLATERAL_VALIDITY_S: u64 = 30 * 86_400;

/// Collateral is dated back to the start of such a period, as a service that signs once in a while does. Verifiers whose
/// clocks are some seconds behind then accept it, and caches see the same bytes for as long.
pub const COLLATERAL_PERIOD_S: u64 = 3_600;

/// How long certificates hold. Roots of real platforms hold for 30 years; a simulated one is not meant to be that old.
pub const CERTIFICATE_VALIDITY_S: u64 = 10 * 365 * 86_400;

/// Certificates are dated back so much, for verifiers whose clock is behind, and for tests that look back a little.
pub const CERTIFICATE_BACKDATE_S: u64 = 30 * 86_400;

/// GPUs of one simulated machine: the largest confidential machines have eight.
pub const GPUS_MAX: usize = 8;

/// Events that one simulated TD may add to its boot log: a boot writes about ten, and nobody extends in a loop.
pub const EVENTS_MAX: usize = 1_024;

/// Bits of the simulated AMD root keys. The real ones have 4096, but making such a key takes half a minute without
/// optimisation, and no format depends on the size.
pub const RSA_BITS: usize = 2_048;

/// A file of a platform's directory: the larger one holds two RSA keys.
pub const STATE_FILE_BYTES_MAX: u64 = 64 << 10;

/// Connections to the collateral service at once: every node of a laptop, each with one or two.
pub const CONNECTIONS_MAX: usize = 64;

/// How long a connection may stay without a whole request. Nodes fetch once an hour and may hold a connection open.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted, so that a full file table is no busy loop.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
