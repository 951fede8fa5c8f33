//! Receipts as a reader gets them: sound ones, and attacks by name.

// `cfg(test)` tells clippy that helpers, too, may unwrap and panic.
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod batch;
#[cfg(test)]
mod file;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod round_trip;
