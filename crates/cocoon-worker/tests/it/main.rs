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
#[path = "../../../cocoon-llm/tests/it/bert.rs"]
#[expect(dead_code, reason = "shared with cocoon-llm's tests, which use all of it")]
mod bert;
#[cfg(feature = "engine-embedded")]
mod embedded;
#[cfg(feature = "engine-embedded")]
mod embeddings;
mod engine_http;
mod flow;
mod ground;
mod harness;
mod money;
mod receipts;
mod recorded;
mod session;
mod streams;
#[cfg(feature = "engine-embedded")]
mod structured;
#[cfg(feature = "engine-embedded")]
#[path = "../../../cocoon-llm/tests/it/fixture.rs"]
#[expect(dead_code, reason = "shared with cocoon-llm's tests, which use all of it")]
mod tiny;
