//! Every bound of this crate, each with its reason.

use std::time::Duration;

use cocoon_attest::limits::{CERTIFICATES_BYTES_MAX, EVENT_LOG_BYTES_MAX, QUOTE_BYTES_MAX};

/// What is read of a quote or report file at most: one byte more than a verifier takes tells "too long" from "full".
pub const OUTBLOB_BYTES_MAX: usize = QUOTE_BYTES_MAX + 1;

/// The certificate table of an SNP host: five certificates and a revocation list fit into four pages.
pub const CERTIFICATE_TABLE_BYTES_MAX: usize = CERTIFICATES_BYTES_MAX;

/// Entries of that table: VCEK, VLEK, ASK, ARK, CRL, and as many that we do not know.
pub const CERTIFICATE_TABLE_ENTRIES_MAX: usize = 16;

/// What is read of the CCEL area, which firmware reserves generously (64 KiB to 16 MiB) and fills with 0xff or zeros.
pub const EVENT_LOG_AREA_BYTES_MAX: usize = 16 << 20;

/// What is left of it without the unused tail.
pub const EVENT_LOG_USED_BYTES_MAX: usize = EVENT_LOG_BYTES_MAX;

/// Attempts at one quote while another process of this VM asks through the same entry or the service is busy.
/// Each takes as long as a quote does, about a second at worst.
pub const QUOTE_ATTEMPTS_MAX: u32 = 3;

/// Graphics processors asked for evidence: as many as a verifier takes.
pub const GPUS_MAX: usize = cocoon_attest::limits::GPUS_MAX;

/// From dialling a collateral service to the last byte of one answer. Intel's answers in under a second; a PCCS that
/// has to ask Intel first takes a few.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// One answer's body. TCB info has about 20 KiB today, Intel's largest revocation list less than 200 KiB.
pub const FETCH_BODY_BYTES_MAX: usize = 1 << 20;

/// One answer's headers. The issuer chains travel there, percent-encoded: about 6 KiB.
pub const FETCH_HEADERS_BYTES_MAX: usize = 64 << 10;

/// Fetches at the same time: needs come from strangers' evidence, so strangers must not choose the load.
pub const FETCHES_MAX: usize = 4;

/// Fetches under way or waiting for their turn; whoever comes later is refused. One is a few hundred bytes.
pub const FETCHES_QUEUED_MAX: usize = 64;

/// Needs that a cache remembers, successes and failures together. There are some two hundred FMSPCs in the world, and
/// a client meets a handful of them; for AMD there is one need for each chip.
pub const CACHE_ENTRIES_MAX: usize = 256;

/// After a failed fetch the same need is not fetched again for this long, so that a peer cannot make us hammer.
pub const RETRY_AFTER_FAILURE_S: u64 = 30;

/// After a background refresh that failed or brought nothing newer. A PCCS renews daily; every ten minutes is plenty.
pub const REFRESH_RETRY_S: u64 = 600;

/// Collateral is refreshed after this long even where its half-life is later: AMD's lists hold for a year.
pub const REFRESH_AFTER_MAX_S: u64 = 7 * 24 * 3600;

/// One file of a cache or an offline folder: hex and PEM of the above.
pub const COLLATERAL_FILE_BYTES_MAX: u64 = 4 << 20;

/// How far the host's clock may be from the chain's, or behind a time seen before (attestation.md, section 9).
pub const CLOCK_SKEW_MAX_S: u64 = 300;

/// How often the last time seen is written: a restart can be shown a clock set back by at most this much.
pub const CLOCK_PERSIST_EVERY: Duration = Duration::from_secs(600);

/// A key's name: the longest of ours has 8 bytes; applications prefix theirs.
pub const KEY_NAME_BYTES_MAX: usize = 64;
