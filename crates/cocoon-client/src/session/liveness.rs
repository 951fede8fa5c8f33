//! Whether a proxy that owes answers is there at all.
//!
//! An engine may think for minutes before the first byte of an answer, so that silence about a request says nothing. What
//! tells is the link: after a moment without a byte the proxy is asked for a sign of life, which its connection gives
//! whatever its workers do. One that gives none in time is *silent*: requests that have not begun may leave it for another
//! proxy. Nothing is cut off: the next byte makes it a proxy like any other, and what has begun goes on until the
//! connection itself gives up (`cocoon_net`, 20 s).
//!
//! Time is counted in looks, so that a pause of this process, or of this machine, is not held against the proxy.
//! Pure: what was heard and sent comes in.

use std::time::{Duration, Instant};

use crate::limits;

/// What a look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing new.
    Wait,
    /// It should be asked for a sign of life.
    Ask,
    /// It gave none.
    Silent,
    /// It gave one after all.
    Alive,
}

/// What is known of one link.
#[derive(Debug)]
pub(super) struct Liveness {
    heard_at: Instant,
    /// Bytes of requests that had been sent when it was last heard.
    sent: u64,
    quiet_looks: u32,
    /// Looks since it was asked.
    asked_looks: Option<u32>,
    is_silent: bool,
}

impl Liveness {
    pub(super) const fn new(heard_at: Instant) -> Self {
        Self { heard_at, sent: 0, quiet_looks: 0, asked_looks: None, is_silent: false }
    }

    /// Looks, once every [`limits::LIVENESS_LOOK`] while requests wait. `round_trip` is what questions take, `sent` the
    /// bytes of all requests so far.
    pub(super) fn look(&mut self, heard_at: Instant, round_trip: Duration, sent: u64) -> Step {
        if heard_at != self.heard_at {
            let was_silent = self.is_silent;
            *self = Self { sent, ..Self::new(heard_at) };
            return if was_silent { Step::Alive } else { Step::Wait };
        }
        self.quiet_looks = self.quiet_looks.saturating_add(1);
        match &mut self.asked_looks {
            None if self.quiet_looks >= limits::LIVENESS_QUIET_LOOKS => {
                self.asked_looks = Some(0);
                Step::Ask
            }
            None => Step::Wait,
            Some(looks) => {
                *looks = looks.saturating_add(1);
                let waited = limits::LIVENESS_LOOK.saturating_mul(*looks);
                let is_over = waited >= patience(round_trip, sent.saturating_sub(self.sent));
                if !is_over || self.is_silent {
                    return Step::Wait;
                }
                self.is_silent = true;
                Step::Silent
            }
        }
    }
}

/// How long a sign of life may take, with so many bytes ahead of the question.
fn patience(round_trip: Duration, ahead: u64) -> Duration {
    let link = round_trip.saturating_mul(4).clamp(limits::LIVENESS_PATIENCE, limits::LIVENESS_PATIENCE_MAX);
    link.saturating_add(Duration::from_millis(ahead.saturating_mul(1_000) / limits::LIVENESS_UPLINK_BYTES_PER_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    /// Looks until something is said other than to wait; how many looks it took.
    fn until_said(liveness: &mut Liveness, heard_at: Instant, round_trip: Duration, sent: u64) -> (Step, u32) {
        for looks in 1..10_000 {
            let step = liveness.look(heard_at, round_trip, sent);
            if step != Step::Wait {
                return (step, looks);
            }
        }
        (Step::Wait, 10_000)
    }

    #[test]
    fn a_stopped_proxy_is_silent_within_a_second() {
        let at = Instant::now();
        let mut liveness = Liveness::new(at);
        let (first, asked) = until_said(&mut liveness, at, SOON, 1_000);
        let (second, silent) = until_said(&mut liveness, at, SOON, 1_000);
        assert_eq!((first, second), (Step::Ask, Step::Silent));
        assert!(limits::LIVENESS_LOOK * (asked + silent) < Duration::from_secs(1));
        assert_eq!(until_said(&mut liveness, at, SOON, 1_000).0, Step::Wait, "it is said once");
        assert_eq!(liveness.look(at + SOON, SOON, 1_000), Step::Alive);
        assert_eq!(until_said(&mut liveness, at + SOON, SOON, 1_000), (Step::Ask, asked));
    }

    #[test]
    fn a_slow_engine_behind_a_live_proxy_is_never_silence() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        let mut heard_at = start;
        for _ in 0..1_000 {
            match liveness.look(heard_at, SOON, 0) {
                Step::Ask => heard_at += limits::LIVENESS_LOOK,
                Step::Silent | Step::Alive => unreachable!("it answers each time"),
                Step::Wait => {}
            }
        }
    }

    #[test]
    fn long_links_and_large_requests_get_their_time() {
        let looks = |round_trip, sent| {
            let at = Instant::now();
            let mut liveness = Liveness::new(at);
            until_said(&mut liveness, at, round_trip, sent);
            limits::LIVENESS_LOOK * until_said(&mut liveness, at, round_trip, sent).1
        };
        assert_eq!(looks(SOON, 0), limits::LIVENESS_PATIENCE);
        assert_eq!(looks(Duration::from_millis(600), 0), Duration::from_millis(2_400), "a satellite");
        assert_eq!(looks(Duration::from_secs(100), 0), limits::LIVENESS_PATIENCE_MAX);
        assert!(looks(SOON, 8 << 20) > Duration::from_secs(60), "8 MiB on a slow uplink");
    }
}
