//! Connections end to end: over memory with a virtual clock, and over loopback TCP.

// `cfg(test)` tells clippy that helpers, too, may unwrap and panic.
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod attested;
#[cfg(test)]
mod collateral;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod exhaustion;
#[cfg(test)]
mod handshake;
#[cfg(test)]
mod random;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod slow_loris;
#[cfg(test)]
mod support;
