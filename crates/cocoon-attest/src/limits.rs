//! Every bound of this crate, each with its reason. Evidence is the largest thing that a stranger may send.

/// A quote or report. Real TDX quotes have 5 to 8 KiB, padding of configfs-tsm included.
pub const QUOTE_BYTES_MAX: usize = 16 << 10;

/// An event log without its unused tail. A boot of the measured image writes about 30 KiB.
pub const EVENT_LOG_BYTES_MAX: usize = 256 << 10;

/// Claims: keys, names and digests as JSON.
pub const CLAIMS_BYTES_MAX: usize = 8 << 10;

/// An image manifest: some digests, and one RTMR0 for each shape of machine.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// Graphics processors of one machine: the largest confidential ones have eight.
pub const GPUS_MAX: usize = 16;

/// One GPU report: 64 measurements of 48 bytes and its opaque data make 4 KiB.
pub const GPU_REPORT_BYTES_MAX: usize = 16 << 10;

/// A certificate chain: five certificates as PEM make 5 KiB.
pub const CERTIFICATES_BYTES_MAX: usize = 32 << 10;

/// Stapled collateral: Intel's TCB info and two revocation lists make 25 KiB today.
pub const COLLATERAL_BYTES_MAX: usize = 256 << 10;

/// A policy file.
pub const POLICY_BYTES_MAX: usize = 256 << 10;

/// A saved appraisal: all of the above as hex inside JSON.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Entries of one list of a policy: more machines than one operator has.
pub const POLICY_LIST_MAX: usize = 4096;

/// A name in a policy: of the policy, a model, a contract, an advisory.
pub const POLICY_TEXT_MAX: usize = 256;

/// How far the clock of an attester may be from ours, and the most that a policy may allow: attestation.md, section 9.
pub const CLAIMS_SKEW_S_MAX: u64 = 300;

/// The shortest time that a verdict may be kept for: below it, the cache would only cost memory.
pub const VERDICT_CACHE_S_MIN: u64 = 60;

/// The longest time that a verdict may be kept for: a revocation must be felt within the hour.
pub const VERDICT_CACHE_S_MAX: u64 = 3600;

/// The longest time that a session key stands for a quote: attestation.md, section 4.4(5).
pub const SESSION_AGE_S_MAX: u64 = 300;

/// The longest time between two attestations of an open connection: collateral is refreshed daily at the latest.
pub const REATTEST_S_MAX: u64 = 86_400;

/// The shortest such time: a quoting enclave answers about once a second, for all connections of its host.
pub const REATTEST_S_MIN: u64 = 60;

/// The longest grace for a platform that lacks a patch: Intel's recoveries come twice a year.
pub const GRACE_DAYS_MAX: u64 = 365;

/// How much of a peer's text a refusal shows.
pub const SHOWN_CHARS_MAX: usize = 128;

/// A part of a refusal, before escapes: the longest honest one names three registers of 48 bytes and some words.
pub const REFUSAL_CHARS_MAX: usize = 1024;

/// The lowest privilege level of an SNP guest. A report that the host itself asked for states 4294967295.
pub const VMPL_MAX: u64 = 3;
