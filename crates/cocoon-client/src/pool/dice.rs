//! Random numbers that follow from a seed: `SplitMix64`, without a lock. Good enough to spread requests, and no secret.

use std::sync::atomic::{AtomicU64, Ordering};

/// What each number is apart from the one before.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of them.
#[derive(Debug)]
pub(super) struct Dice(AtomicU64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(super) fn roll(&self) -> u64 {
        mix(self.0.fetch_add(STEP, Ordering::Relaxed))
    }
}

/// The number that follows a state.
pub(super) const fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(STEP);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
