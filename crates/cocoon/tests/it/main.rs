//! The binary as a user meets it: started, asked, stopped. Real processes, real loopback TCP, free ports.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod cocoon;

mod attest;
mod chain;
mod chat;
mod command_line;
mod money;
mod operator;
mod roles;
mod up;
