//! What a worker tells about itself: aggregates only, no request, no peer, no address.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use cocoon_units::Usage;
use cocoon_wire::failure::FailureCode;
use serde::Serialize;

use crate::earnings::Earnings;
use crate::worker::Offer;

/// How a worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The model it serves, once known.
    pub model: Option<String>,
    /// The price, in thousandths of the network's.
    pub coefficient: u32,
    /// The operator's switch.
    pub enabled: bool,
    /// The engine.
    pub engine: EngineState,
    /// The proxies, by number.
    pub proxies: Vec<ProxyState>,
    /// Requests that run now.
    pub active: u64,
    /// Answers delivered, by class of status.
    pub answers: Answers,
    /// Requests that ended early, by failure code; codes that never occurred are left out.
    pub failures: Vec<FailureCount>,
    /// Tokens of all answers as the engine counted them.
    pub tokens: Tokens,
}

/// The engine as its health checks see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    /// It takes requests.
    Ready,
    /// It loads its model, or was not asked yet.
    Loading,
    /// It does not answer.
    Failed,
}

/// The connection to one proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ProxyState {
    /// Its place in the configuration, or its number in the root's registry.
    pub number: u32,
    /// Whether the handshake is complete.
    pub connected: bool,
    /// The version that was agreed.
    pub proto_version: Option<i32>,
    /// Requests the proxy may send at once.
    pub slots: u32,
}

impl ProxyState {
    /// One that is not connected.
    pub(crate) fn unconnected(number: u32) -> Self {
        Self { number, ..Self::default() }
    }
}

/// Answers delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Answers {
    /// With a 2xx status.
    pub ok: u64,
    /// With the engine's own 4xx.
    pub client_error: u64,
}

/// How often one kind of failure occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureCount {
    /// The failure's code.
    pub code: &'static str,
    /// How often.
    pub count: u64,
}

/// Raw tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Prompt, cached included.
    pub prompt: u64,
    /// Cached prompt.
    pub cached: u64,
    /// Completion, reasoning included.
    pub completion: u64,
    /// Reasoning.
    pub reasoning: u64,
}

/// The counters behind a status. Each is exact; together they may be a request apart.
#[derive(Debug)]
pub(crate) struct Metrics {
    active: AtomicI64,
    ok: AtomicU64,
    client_error: AtomicU64,
    failures: Vec<AtomicU64>,
    prompt: AtomicU64,
    cached: AtomicU64,
    completion: AtomicU64,
    reasoning: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            active: AtomicI64::new(0),
            ok: AtomicU64::new(0),
            client_error: AtomicU64::new(0),
            failures: FailureCode::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            prompt: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            completion: AtomicU64::new(0),
            reasoning: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    pub(crate) fn add_active(&self, change: i64) {
        self.active.fetch_add(change, Ordering::Relaxed);
    }

    pub(crate) fn active(&self) -> i64 {
        self.active.load(Ordering::Relaxed)
    }

    pub(crate) fn completion_tokens(&self) -> u64 {
        self.completion.load(Ordering::Relaxed)
    }

    pub(crate) fn count_answer(&self, status: u16, usage: Usage) {
        let counter = if (200..300).contains(&status) { &self.ok } else { &self.client_error };
        add(counter, 1);
        self.count_usage(usage);
    }

    pub(crate) fn count_usage(&self, usage: Usage) {
        add(&self.prompt, usage.prompt);
        add(&self.cached, usage.cached);
        add(&self.completion, usage.completion);
        add(&self.reasoning, usage.reasoning);
    }

    pub(crate) fn count_failure(&self, code: FailureCode) {
        let place = FailureCode::ALL.iter().position(|&known| known == code);
        if let Some(counter) = place.and_then(|place| self.failures.get(place)) {
            add(counter, 1);
        }
    }

    pub(crate) fn status(&self, offer: &Offer, proxies: Vec<ProxyState>) -> Status {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failures = FailureCode::ALL.iter().zip(&self.failures);
        Status {
            model: offer.model.as_deref().map(str::to_owned),
            coefficient: offer.coefficient.thousandths(),
            enabled: offer.enabled,
            engine: offer.engine,
            proxies,
            active: u64::try_from(self.active()).unwrap_or(0),
            answers: Answers { ok: load(&self.ok), client_error: load(&self.client_error) },
            failures: failures
                .map(|(code, counter)| FailureCount { code: code.as_str(), count: load(counter) })
                .filter(|failure| failure.count > 0)
                .collect(),
            tokens: Tokens {
                prompt: load(&self.prompt),
                cached: load(&self.cached),
                completion: load(&self.completion),
                reasoning: load(&self.reasoning),
            },
        }
    }
}

/// Wraps after 2^64, as Prometheus counters may.
fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// A status in Prometheus' text format.
pub(crate) fn prometheus(status: &Status, earnings: Option<&Earnings>) -> String {
    let mut text = Exposition::default();
    text.gauge("cocoon_worker_engine_ready", u64::from(status.engine == EngineState::Ready));
    text.gauge("cocoon_worker_enabled", u64::from(status.enabled));
    text.gauge("cocoon_worker_coefficient_thousandths", u64::from(status.coefficient));
    text.gauge("cocoon_worker_proxies", u64::try_from(status.proxies.len()).unwrap_or(u64::MAX));
    let connected = status.proxies.iter().filter(|proxy| proxy.connected).count();
    text.gauge("cocoon_worker_proxies_connected", u64::try_from(connected).unwrap_or(u64::MAX));
    text.gauge("cocoon_worker_requests_active", status.active);
    let answers = [("ok", status.answers.ok), ("client_error", status.answers.client_error)];
    text.counter("cocoon_worker_answers_total", "class", &answers);
    let failures: Vec<_> = status.failures.iter().map(|failure| (failure.code, failure.count)).collect();
    text.counter("cocoon_worker_failures_total", "code", &failures);
    let Tokens { prompt, cached, completion, reasoning } = status.tokens;
    let tokens = [("prompt", prompt), ("cached", cached), ("completion", completion), ("reasoning", reasoning)];
    text.counter("cocoon_worker_tokens_total", "kind", &tokens);
    if let Some(Earnings { signed, cashed, cashable, unsigned, .. }) = earnings {
        for (what, amount) in [("signed", signed), ("cashed", cashed), ("cashable", cashable), ("unsigned", unsigned)] {
            text.gauge(&format!("cocoon_worker_earnings_{what}_nano"), amount.nano().get());
        }
    }
    text.0
}

/// Writing to a `String` cannot fail, so results of `writeln!` are dropped here and only here.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn gauge(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.0, "# TYPE {name} gauge\n{name} {value}");
    }

    fn counter(&mut self, name: &str, label: &str, values: &[(&str, u64)]) {
        let _ = writeln!(self.0, "# TYPE {name} counter");
        for (kind, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{kind}\"}} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use cocoon_units::Coefficient;

    use super::*;

    #[test]
    fn metrics_name_what_happened() {
        let metrics = Metrics::default();
        metrics.count_answer(200, Usage { prompt: 9, cached: 1, completion: 3, reasoning: 0 });
        metrics.count_failure(FailureCode::EngineFailed);
        let offer = Offer { model: None, coefficient: Coefficient::ONE, enabled: true, engine: EngineState::Ready };
        let text = prometheus(&metrics.status(&offer, vec![ProxyState::default()]), None);
        for line in [
            "cocoon_worker_answers_total{class=\"ok\"} 1",
            "cocoon_worker_failures_total{code=\"engine_failed\"} 1",
            "cocoon_worker_tokens_total{kind=\"completion\"} 3",
            "cocoon_worker_engine_ready 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
