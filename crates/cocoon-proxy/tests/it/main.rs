//! The proxy as its peers see it: scripted clients and workers over an in-memory network, on a
//! virtual clock.
#![cfg(test)]
#![expect(clippy::wildcard_enum_match_arm, reason = "a script expects one message and fails on any other")]

mod attested;
mod flow;
mod ground;
mod hostile;
mod money;
mod peers;
mod recorded;
mod recovery;
mod rollback;
mod terms;
