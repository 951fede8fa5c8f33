//! The scripted and the fake engine over their own HTTP, and behind the three roles.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside test functions, fail as tests do")]

mod chain;
mod fake;
mod scripted;
