//! When to dial again: at once, then later and later, never all at the same moment.
//!
//! Pure: time and the seed come in. One `Backoff` belongs to one dialer and lives as long as it.

use std::time::{Duration, Instant};

use crate::limits::{BACKOFF_FIRST, BACKOFF_HEALTHY, BACKOFF_MAX};

/// The schedule of one dialer.
///
/// The first attempt is made at once, so that a proxy's restart costs no pause. Then the pause doubles from
/// 250 ms to 30 s; each is drawn from its upper half, so that a thousand workers do not return together.
/// A connection that was lost within a minute goes on with the schedule where it stood.
///
/// ```
/// use std::time::{Duration, Instant};
/// use cocoon_net::Backoff;
///
/// let (mut backoff, now) = (Backoff::new(7), Instant::now());
/// assert_eq!(backoff.delay(now), Duration::ZERO);
/// let second = backoff.delay(now);
/// assert!(second > Duration::from_millis(120) && second <= Duration::from_millis(250));
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
    connected_at: Option<Instant>,
    random: u64,
}

impl Backoff {
    /// A schedule whose jitter follows from `seed`; give every process another one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, connected_at: None, random: seed }
    }

    /// Call when a connection is ready.
    pub fn handle_connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
    }

    /// How long to wait before the next attempt; call once per attempt.
    pub fn delay(&mut self, now: Instant) -> Duration {
        if let Some(since) = self.connected_at.take()
            && now.saturating_duration_since(since) >= BACKOFF_HEALTHY
        {
            self.failures = 0;
        }
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => self.jittered(ceiling(doublings)),
        }
    }

    /// A duration from the upper half of `0..=ceiling`.
    fn jittered(&mut self, ceiling: Duration) -> Duration {
        let half = ceiling / 2;
        let thousandths = u32::try_from(self.next_random() % 1001).unwrap_or(1000);
        half + half * thousandths / 1000
    }

    /// SplitMix64: enough for jitter, and no dependency.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn ceiling(doublings: u32) -> Duration {
    2u32.checked_pow(doublings)
        .and_then(|factor| BACKOFF_FIRST.checked_mul(factor))
        .map_or(BACKOFF_MAX, |pause| pause.min(BACKOFF_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_doubling_with_jitter_up_to_the_cap() {
        let now = Instant::now();
        for seed in 0..50 {
            let mut backoff = Backoff::new(seed);
            assert_eq!(backoff.delay(now), Duration::ZERO);
            for ceiling_ms in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
                let pause = backoff.delay(now);
                let ceiling = Duration::from_millis(ceiling_ms);
                assert!(pause >= ceiling / 2 && pause <= ceiling, "seed {seed}: {pause:?} of {ceiling:?}");
            }
        }
    }

    #[test]
    fn same_seed_same_schedule_and_other_seed_another() {
        let now = Instant::now();
        let schedule = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..8).map(|_| backoff.delay(now)).collect::<Vec<_>>()
        };
        assert_eq!(schedule(1), schedule(1));
        assert_ne!(schedule(1), schedule(2));
    }

    #[test]
    fn a_healthy_minute_starts_over_and_a_flapping_peer_does_not() {
        let now = Instant::now();
        let mut backoff = Backoff::new(1);
        for _ in 0..5 {
            backoff.delay(now);
        }
        backoff.handle_connected(now);
        assert!(backoff.delay(now + Duration::from_secs(59)) > Duration::ZERO);
        backoff.handle_connected(now);
        assert_eq!(backoff.delay(now + Duration::from_secs(60)), Duration::ZERO);
    }

    #[test]
    fn never_overflows() {
        let now = Instant::now();
        let mut backoff = Backoff::new(1);
        backoff.failures = u32::MAX - 1;
        for _ in 0..4 {
            assert!(backoff.delay(now) <= BACKOFF_MAX);
        }
    }
}
