//! One proxy: its session, what was measured of it, and whether it is left alone.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    breaker::{Breaker, BreakerState, Fault, Standing},
    choice::{Candidate, Fitness},
    dice::Dice,
    quality::{Kind, Quality},
    setback::Setback,
};
use crate::{
    limits,
    models::{Models, Served},
    session::{ConnectFailure, link::Link},
};

/// One proxy.
#[derive(Debug)]
pub(crate) struct ProxySlot {
    number: u32,
    state: Mutex<ProxyState>,
    /// What it served when its last session ended: that comes back, most likely.
    served: Mutex<Option<Arc<Models>>>,
    violations: AtomicU64,
    health: Mutex<Health>,
    dice: Dice,
}

#[derive(Debug, Default)]
struct Health {
    breaker: Breaker,
    quality: Quality,
}

/// How the session with a proxy stands.
#[derive(Clone, Debug)]
pub(crate) enum ProxyState {
    /// Being dialled, or shaking hands.
    Connecting,
    /// Takes requests.
    Ready(Arc<Link>),
    /// There was a session; the next one is on its way.
    Lost,
    /// The last attempt failed, and the next one waits for its time.
    Failed(Cow<'static, str>),
}

/// One proxy in the status; its address is the owner's to know, and stays out.
#[derive(Clone, Debug, Serialize)]
pub struct ProxyStatus {
    /// Whether it takes requests.
    pub ready: bool,
    /// How the session stands, in a few words.
    pub state: String,
    /// Whether requests go there, by its circuit breaker.
    pub breaker: BreakerState,
    /// Why they do not, in words.
    pub breaker_reason: Option<String>,
    /// How often each kind of fault has opened the breaker.
    pub breaker_opened: std::collections::BTreeMap<&'static str, u64>,
    /// The protocol version of the session.
    pub version: Option<i32>,
    /// Requests that wait for the rest of their answer.
    pub requests_in_flight: usize,
    /// Connections closed because it broke the protocol.
    pub violations: u64,
    /// The id of what was verified of it, as in `/v1/attestation`; none on a link without attestation.
    pub attestation: Option<String>,
    /// Whose word that rests on: `vendor`, or `simulated`, which proves nothing about any machine.
    pub provenance: Option<String>,
}

impl ProxySlot {
    pub(super) fn new(number: u32, seed: u64) -> Self {
        Self {
            number,
            state: Mutex::new(ProxyState::Connecting),
            served: Mutex::default(),
            violations: AtomicU64::new(0),
            health: Mutex::default(),
            dice: Dice::new(seed ^ u64::from(number)),
        }
    }

    /// Its place in the configuration, or its number in the root's registry: its name in logs.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn set(&self, state: ProxyState) {
        *self.lock() = state;
    }

    /// The session is over; what it served is remembered.
    pub(crate) fn set_lost(&self, link: &Link) {
        let models = link.models().clone();
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = models;
        self.set(ProxyState::Lost);
    }

    pub(super) fn has_served(&self, model: &str) -> bool {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.as_ref().is_some_and(|models| models.served(model) != Served::Never)
    }

    pub(crate) fn set_failed(&self, failure: &ConnectFailure) {
        if failure.is_violation {
            self.count_violation();
        }
        self.set(ProxyState::Failed(failure.summary.clone()));
    }

    pub(crate) fn count_violation(&self) {
        self.violations.fetch_add(1, Ordering::Relaxed);
    }

    /// The session, if it takes requests.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        match &*self.lock() {
            ProxyState::Ready(link) => (!link.is_leaving()).then(|| Arc::clone(link)),
            ProxyState::Connecting | ProxyState::Lost | ProxyState::Failed(_) => None,
        }
    }

    /// How it looks to one request that may go over its session.
    pub(super) fn candidate(&self, link: &Link, wish: &super::Wish<'_>, now: Instant) -> Candidate {
        let load = link.models().as_ref().and_then(|models| models.load(wish.model()));
        let health = self.health();
        let (standing, mut seen) = (health.breaker.standing(now), health.quality.seen(wish.kind, now));
        drop(health);
        let is_too_dear = load.is_some_and(|load| load.coefficient_min > wish.cap);
        let is_doubtful = seen.is_busy || link.is_silent() || standing == Standing::Paused;
        let fitness = match (is_too_dear, is_doubtful) {
            (true, _) => Fitness::TooDear,
            (false, true) => Fitness::Doubtful,
            (false, false) => Fitness::Fit,
        };
        if standing == Standing::Probe {
            // What failed is why it was left alone, and it was long enough.
            seen.failures = 0.0;
        }
        Candidate {
            fitness,
            price: link.pricing().price,
            coefficient: load.map_or(wish.cap, |load| load.coefficient_min),
            seen,
            in_flight: link.in_flight(),
            active: load.map_or(0, |load| load.active),
            slots: load.map_or(0, |load| load.slots),
        }
    }

    /// A request goes there.
    pub(super) fn chosen(&self, now: Instant) {
        self.health().breaker.chosen(now);
    }

    /// An answer began, so long after its request was sent.
    pub(crate) fn answered(&self, kind: &Kind, after: Duration) {
        let mut health = self.health();
        health.breaker.answered();
        health.quality.answered(kind, after, Instant::now());
    }

    /// A request ended before an answer began.
    pub(crate) fn failed(&self, kind: &Kind, setback: Setback, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut health = self.health();
        if setback.is_failure() {
            health.quality.failed(kind, now);
        }
        if setback == Setback::Overloaded {
            let pause = retry_after.unwrap_or(limits::BUSY_PAUSE).min(limits::BUSY_PAUSE_MAX);
            health.quality.busy(kind, now + pause, now);
        }
        drop(health);
        match setback {
            // Once for the session, by whoever sees it end, and not for each request that it carried.
            Setback::Proxy(Fault::Lost | Fault::Silent) => {}
            Setback::Proxy(fault) => self.blame(fault),
            Setback::Overloaded | Setback::NoWorker | Setback::Account | Setback::Worker | Setback::Final { .. } => {}
        }
    }

    /// Holds a fault against it.
    pub(crate) fn blame(&self, fault: Fault) {
        let now = Instant::now();
        let mut health = self.health();
        if health.breaker.failed(fault, now, self.dice.roll()) {
            let words = health.breaker.words(now).unwrap_or_default();
            drop(health);
            tracing::warn!(proxy = self.number, fault = fault.word(), "proxy is {words}");
        }
    }

    pub(super) fn status(&self) -> ProxyStatus {
        let link = self.link();
        let attestation = link.as_ref().and_then(|link| link.attestation());
        let health = self.health();
        let now = Instant::now();
        ProxyStatus {
            ready: link.is_some(),
            state: self.words(),
            breaker: health.breaker.state(now),
            breaker_reason: health.breaker.words(now),
            breaker_opened: health.breaker.counted().filter(|(_, count)| *count > 0).collect(),
            version: link.as_ref().map(|link| link.version().number()),
            requests_in_flight: link.as_ref().map_or(0, |link| link.in_flight()),
            violations: self.violations.load(Ordering::Relaxed),
            attestation: attestation.as_ref().map(|record| record.id().to_owned()),
            provenance: attestation.as_ref().map(|record| record.provenance()),
        }
    }

    pub(super) fn words(&self) -> String {
        self.lock().to_string()
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(*self.lock(), ProxyState::Failed(_))
    }

    fn lock(&self) -> MutexGuard<'_, ProxyState> {
        // The state is replaced in one assignment, so it is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // A number that a panic left half counted makes one choice worse, and no more.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for ProxyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "it is being connected to",
            Self::Ready(link) if link.is_leaving() => "this client's contract with it is being closed",
            Self::Ready(link) if link.is_silent() => "it gives no sign of life",
            Self::Ready(_) => "it is ready",
            Self::Lost => "the connection was lost and is being made again",
            Self::Failed(why) => why,
        })
    }
}
