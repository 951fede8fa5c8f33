//! The crate from outside: hostile collateral services on loopback, a cache on a clock of ours, a fake GPU library.

// `cfg(test)` tells clippy that helpers, too, may unwrap and panic.
#[cfg(test)]
mod cache;
#[cfg(test)]
mod detect;
#[cfg(test)]
mod kds;
#[cfg(test)]
mod nvml;
#[cfg(test)]
mod offline;
#[cfg(test)]
mod pccs;
#[cfg(test)]
mod server;
#[cfg(test)]
mod vectors;
