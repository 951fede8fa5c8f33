//! What was measured of one proxy: how long heads of answers take, and how many requests fail, by model.
//!
//! Both are moving averages: a new value counts a fifth, so that they follow within some requests and no single one
//! decides. What is old fades: after [`limits::QUALITY_HALF_LIFE`] a value counts half, so that a proxy that was avoided
//! is tried again. What was never measured counts as good, for the same reason. Streamed and whole answers are measured
//! apart, since the head of a whole one comes with its end.
//! Pure: time comes in. Models are bounded in number; the one that was not asked for the longest makes room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::limits;

/// Of which requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) model: Arc<str>,
    pub(crate) is_streamed: bool,
}

/// What was measured of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Quality {
    kinds: HashMap<Kind, Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    first_byte_s: f64,
    failures: f64,
    at: Instant,
    busy_until: Option<Instant>,
}

/// What a choice goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Seconds until the head of an answer.
    pub(crate) first_byte_s: f64,
    /// The part of requests that fail, 0 to 1.
    pub(crate) failures: f64,
    /// Whether it said a moment ago that all its workers are busy.
    pub(crate) is_busy: bool,
}

/// How much a new value counts.
const WEIGHT: f64 = 0.2;

impl Quality {
    /// An answer began after this long.
    pub(crate) fn answered(&mut self, kind: &Kind, after: Duration, now: Instant) {
        let is_new = !self.kinds.contains_key(kind);
        let sample = self.sample(kind, now);
        let weight = if is_new { 1.0 } else { WEIGHT };
        sample.first_byte_s += weight * (after.as_secs_f64() - sample.first_byte_s);
        sample.failures *= 1.0 - WEIGHT;
        sample.busy_until = None;
    }

    /// A request failed, and not by its app's fault.
    pub(crate) fn failed(&mut self, kind: &Kind, now: Instant) {
        let sample = self.sample(kind, now);
        sample.failures += WEIGHT * (1.0 - sample.failures);
    }

    /// It said that all workers are busy.
    pub(crate) fn busy(&mut self, kind: &Kind, until: Instant, now: Instant) {
        self.sample(kind, now).busy_until = Some(until);
    }

    pub(crate) fn seen(&self, kind: &Kind, now: Instant) -> Seen {
        self.kinds.get(kind).map_or_else(Seen::default, |sample| {
            let faded = sample.faded(now);
            let is_busy = sample.busy_until.is_some_and(|until| now < until);
            Seen { first_byte_s: faded.first_byte_s, failures: faded.failures, is_busy }
        })
    }

    /// The sample as it counts now.
    fn sample(&mut self, kind: &Kind, now: Instant) -> &mut Sample {
        if !self.kinds.contains_key(kind) && self.kinds.len() >= limits::QUALITY_KINDS {
            let oldest = self.kinds.iter().min_by_key(|(_, sample)| sample.at).map(|(kind, _)| kind.clone());
            oldest.and_then(|oldest| self.kinds.remove(&oldest));
        }
        let fresh = Sample { first_byte_s: 0.0, failures: 0.0, at: now, busy_until: None };
        let sample = self.kinds.entry(kind.clone()).or_insert(fresh);
        *sample = sample.faded(now);
        sample
    }
}

impl Sample {
    fn faded(self, now: Instant) -> Self {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        let rest = (-age / limits::QUALITY_HALF_LIFE.as_secs_f64()).exp2();
        Self { first_byte_s: self.first_byte_s * rest, failures: self.failures * rest, at: now, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(model: &str) -> Kind {
        Kind { model: model.into(), is_streamed: true }
    }

    #[tokio::test(start_paused = true)]
    async fn averages_follow_and_fade() {
        let now = Instant::now();
        let (mut quality, kind) = (Quality::default(), kind("m"));
        assert_eq!(quality.seen(&kind, now), Seen::default(), "nothing known is good");
        quality.answered(&kind, Duration::from_secs(2), now);
        assert!((quality.seen(&kind, now).first_byte_s - 2.0).abs() < 1e-9, "the first value counts in whole");
        for _ in 0..30 {
            quality.failed(&kind, now);
        }
        assert!(quality.seen(&kind, now).failures > 0.95);
        let later = now + limits::QUALITY_HALF_LIFE;
        let seen = quality.seen(&kind, later);
        assert!((seen.first_byte_s - 1.0).abs() < 1e-9 && seen.failures < 0.51, "{seen:?}");
        quality.busy(&kind, later + Duration::from_secs(1), later);
        assert!(quality.seen(&kind, later).is_busy);
        assert!(!quality.seen(&kind, later + Duration::from_secs(1)).is_busy);
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_makes_up_models_takes_no_more_memory() {
        let (mut quality, start) = (Quality::default(), Instant::now());
        for number in 0..10 * limits::QUALITY_KINDS {
            let now = start + Duration::from_millis(number as u64);
            quality.failed(&kind(&number.to_string()), now);
        }
        assert_eq!(quality.kinds.len(), limits::QUALITY_KINDS);
    }
}
