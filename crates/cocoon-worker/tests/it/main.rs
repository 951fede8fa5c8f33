//! The worker against a scripted engine and a proxy played by the test, all in memory on a virtual clock.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "helpers of tests, outside test functions, fail as tests do"
)]

mod attacks;
#[cfg(feature = "engine-embedded")]
mod embedded;
mod engine_http;
mod flow;
mod ground;
mod harness;
mod money;
mod receipts;
mod recorded;
mod session;
mod streams;
