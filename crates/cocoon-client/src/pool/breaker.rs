//! The circuit breaker of one proxy: keeps requests away from one that keeps failing, and lets it prove itself again.
//!
//! Closed: requests go there. After several failures in a row, or when half of the last many failed, it opens for a pause;
//! a proxy that says that it shuts down opens it at once. After the pause it is half open: one request at a time is its
//! probe. A probe that gets an answer closes it, one that fails opens it for twice as long, up to a bound; each pause is
//! drawn from its upper half, so that many clients do not come back together.
//!
//! Only what is the proxy's or its link's fault is told to it: never what an app or an engine did. It refuses nothing: a
//! request that has no other proxy is sent to a paused one all the same, as its app would do by trying again.
//! Pure: time and random numbers come in.

use std::{fmt, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use crate::limits;

/// What a proxy or its link did wrong; also the word for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The connection ended under requests.
    Lost,
    /// It gave no sign of life.
    Silent,
    /// It said that it shuts down.
    Draining,
    /// It said that it failed inside.
    Failed,
    /// It does not take requests of this client.
    Refused,
    /// It broke the protocol.
    Violation,
}

/// How requests should think of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Like of any other.
    Closed,
    /// The next request is its probe.
    Probe,
    /// It is left alone where there is another.
    Paused,
}

/// The state, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BreakerState {
    /// Requests go there.
    Closed,
    /// It is left alone for a while.
    Open,
    /// One request at a time tries it.
    HalfOpen,
}

/// The breaker of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: State,
    /// Failures without an answer between them.
    in_a_row: u32,
    recent: Recent,
    /// How often it was opened since the last answer.
    openings: u32,
    /// By which fault it was opened last, and how often in all.
    counted: [u64; Fault::ALL.len()],
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Closed,
    /// Until then; afterwards half open, with the moment of the probe that is under way.
    Open { until: Instant, why: Fault, failures: u32, probe: Option<Instant> },
}

impl Fault {
    pub(crate) const ALL: [Self; 6] =
        [Self::Lost, Self::Silent, Self::Draining, Self::Failed, Self::Refused, Self::Violation];

    /// The word for metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Draining => "draining",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Violation => "violation",
        }
    }

    /// For people.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Lost => "the connection was lost under requests",
            Self::Silent => "it gave no sign of life",
            Self::Draining => "it is shutting down",
            Self::Failed => "it failed inside",
            Self::Refused => "it refused this client",
            Self::Violation => "it broke the protocol",
        }
    }

    /// Whether one is enough: the proxy itself says that the next request will end the same way.
    const fn is_certain(self) -> bool {
        match self {
            Self::Draining => true,
            Self::Lost | Self::Silent | Self::Failed | Self::Refused | Self::Violation => false,
        }
    }
}

impl Breaker {
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        match self.state {
            State::Closed => Standing::Closed,
            State::Open { until, .. } if now < until => Standing::Paused,
            // A probe whose app hung up says nothing; after a while the next one may.
            State::Open { probe: Some(at), .. } if now < at + limits::BREAKER_PROBE_PATIENCE => Standing::Paused,
            State::Open { .. } => Standing::Probe,
        }
    }

    /// A request was sent there.
    pub(crate) fn chosen(&mut self, now: Instant) {
        if self.standing(now) == Standing::Probe
            && let State::Open { probe, .. } = &mut self.state
        {
            *probe = Some(now);
        }
    }

    /// An answer began.
    pub(crate) fn answered(&mut self) {
        self.recent.push(true);
        self.in_a_row = 0;
        self.openings = 0;
        if let State::Open { .. } = self.state {
            self.recent = Recent::default();
            self.state = State::Closed;
        }
    }

    /// It failed, by its own or its link's fault; true when that opened the breaker.
    pub(crate) fn failed(&mut self, fault: Fault, now: Instant, random: u64) -> bool {
        match self.standing(now) {
            // Requests that were on their way when it opened: known already. A probe's own word counts.
            Standing::Paused if !self.is_probed(now) => return false,
            Standing::Paused | Standing::Probe | Standing::Closed => {}
        }
        self.recent.push(false);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let is_half_open = matches!(self.state, State::Open { .. });
        let is_enough = fault.is_certain() || self.in_a_row >= limits::BREAKER_FAILURES || self.recent.is_bad();
        if is_half_open || is_enough {
            self.open(fault, now, random);
        }
        is_half_open || is_enough
    }

    fn open(&mut self, why: Fault, now: Instant, random: u64) {
        let pause = pause(self.openings, random);
        self.openings = self.openings.saturating_add(1);
        if let Some(count) = Fault::ALL.iter().position(|known| *known == why).and_then(|at| self.counted.get_mut(at)) {
            *count = count.saturating_add(1);
        }
        self.state = State::Open { until: now + pause, why, failures: self.in_a_row, probe: None };
    }

    fn is_probed(&self, now: Instant) -> bool {
        matches!(self.state, State::Open { until, probe: Some(_), .. } if now >= until)
    }

    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until, .. } if now < until => BreakerState::Open,
            State::Open { .. } => BreakerState::HalfOpen,
        }
    }

    /// Why it is not closed, in words.
    pub(crate) fn words(&self, now: Instant) -> Option<String> {
        let State::Open { until, why, failures, .. } = self.state else { return None };
        let reason = Reason { why, failures };
        let left = until.saturating_duration_since(now);
        Some(if left.is_zero() {
            format!("the next request tries it again: {reason}")
        } else {
            format!("left alone for {:.1} s: {reason}", left.as_secs_f64())
        })
    }

    /// How often each fault has opened it.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Fault::ALL.iter().map(|fault| fault.word()).zip(self.counted)
    }
}

struct Reason {
    why: Fault,
    failures: u32,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why.sentence())?;
        if self.failures > 1 { write!(f, ", the last of {} failures in a row", self.failures) } else { Ok(()) }
    }
}

/// A pause from the upper half of what is due after so many openings.
fn pause(openings: u32, random: u64) -> Duration {
    let ceiling = limits::BREAKER_PAUSE_FIRST
        .saturating_mul(1_u32.checked_shl(openings).unwrap_or(u32::MAX))
        .min(limits::BREAKER_PAUSE_MAX);
    let half = ceiling / 2;
    let steps = u32::try_from(random >> 40).unwrap_or_default();
    half + half.saturating_mul(steps) / (1 << 24)
}

/// How the last requests went, one bit each.
#[derive(Debug, Default, Clone, Copy)]
struct Recent {
    failures: u32,
    seen: u32,
}

impl Recent {
    fn push(&mut self, is_good: bool) {
        let mask = (1_u32 << limits::BREAKER_WINDOW) - 1;
        self.failures = ((self.failures << 1) | u32::from(!is_good)) & mask;
        self.seen = self.seen.saturating_add(1).min(limits::BREAKER_WINDOW);
    }

    /// Whether half of a full window failed.
    const fn is_bad(self) -> bool {
        self.seen == limits::BREAKER_WINDOW && self.failures.count_ones().saturating_mul(2) >= limits::BREAKER_WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: u64 = u64::MAX;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 1..limits::BREAKER_FAILURES {
            assert!(!breaker.failed(Fault::Failed, now, RANDOM));
        }
        assert!(breaker.failed(Fault::Lost, now, RANDOM));
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_keeps_failing_is_left_alone_then_probed_by_one_request() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.standing(now), Standing::Paused);
        assert_eq!(breaker.state(now), BreakerState::Open);
        assert!(breaker.words(now).unwrap().contains("the connection was lost under requests, the last of 3 failures"));
        let later = now + limits::BREAKER_PAUSE_FIRST;
        assert_eq!((breaker.standing(later), breaker.state(later)), (Standing::Probe, BreakerState::HalfOpen));
        breaker.chosen(later);
        assert_eq!(breaker.standing(later), Standing::Paused, "one probe at a time");
        breaker.answered();
        assert_eq!((breaker.standing(later), breaker.words(later)), (Standing::Closed, None));
        assert_eq!(breaker.counted().find(|(word, _)| *word == "lost"), Some(("lost", 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_doubles_the_pause_up_to_its_bound() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            let State::Open { until, .. } = breaker.state else { unreachable!("it is open") };
            let pause = until - now;
            assert!(pause >= last && pause <= limits::BREAKER_PAUSE_MAX, "{pause:?}");
            last = pause;
            now = until;
            breaker.chosen(now);
            assert!(breaker.failed(Fault::Silent, now, RANDOM));
        }
        assert!(last > limits::BREAKER_PAUSE_MAX / 2, "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_were_on_their_way_when_it_opened_do_not_make_the_pause_longer() {
        let now = Instant::now();
        let mut breaker = opened(now);
        for _ in 0..100 {
            assert!(!breaker.failed(Fault::Lost, now, RANDOM));
        }
        assert_eq!(breaker.standing(now + limits::BREAKER_PAUSE_FIRST), Standing::Probe);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_app_hangs_up_does_not_shut_a_proxy_out_for_good() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + limits::BREAKER_PAUSE_FIRST;
        breaker.chosen(later);
        assert_eq!(breaker.standing(later + limits::BREAKER_PROBE_PATIENCE), Standing::Probe);
    }

    #[tokio::test(start_paused = true)]
    async fn every_other_request_failing_opens_it_though_never_two_in_a_row() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let opened = (0..limits::BREAKER_WINDOW).any(|_| {
            breaker.answered();
            breaker.failed(Fault::Failed, now, RANDOM)
        });
        assert!(opened);
        assert!(Breaker::default().failed(Fault::Draining, now, RANDOM), "a word is enough");
    }

    #[test]
    fn pauses_are_drawn_from_their_upper_half() {
        for openings in 0..40 {
            assert!(pause(openings, 0) >= limits::BREAKER_PAUSE_FIRST / 2);
            assert!(pause(openings, u64::MAX) <= limits::BREAKER_PAUSE_MAX);
        }
        assert!(pause(0, u64::MAX) > pause(0, 0));
    }
}
