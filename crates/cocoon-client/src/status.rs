//! What this client counts: aggregates only, no request, key, wallet or address.
//!
//! [`Status`] is for people and the dashboard, [`Metrics::render`] writes Prometheus' text format.
//! Labels come from closed sets, except model names, which are bounded in number.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use cocoon_wire::message::TokensUsed;
use serde::Serialize;

use crate::{
    budget::BudgetStatus,
    error::RequestError,
    limits,
    pool::{BreakerState, ProxyStatus, Setback},
    receipts::ReceiptsStatus,
};

/// A snapshot of a client.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Whether a request would find a proxy and a worker.
    pub ready: bool,
    /// Each configured proxy, in order.
    pub proxies: Vec<ProxyStatus>,
    /// How many models can be asked for.
    pub models: usize,
    /// Requests being answered.
    pub requests_in_flight: usize,
    /// Requests that were answered, in whole.
    pub requests_completed: u64,
    /// Requests that got an error.
    pub requests_failed: u64,
    /// Requests whose app hung up before the end.
    pub requests_abandoned: u64,
    /// Requests that were sent to another proxy before their answer began, by why.
    pub requests_retried: BTreeMap<&'static str, u64>,
    /// Adjusted tokens over all models, as the proxies reported them.
    pub tokens_total: u64,
    /// What the receipts of ended requests were worth.
    pub receipts: ReceiptsStatus,
    /// What was spent, and which proxies demand more.
    pub budget: BudgetStatus,
}

/// The counters behind [`Status`].
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    in_flight: AtomicUsize,
    completed: AtomicU64,
    abandoned: AtomicU64,
    failed: Mutex<BTreeMap<&'static str, u64>>,
    retried: Mutex<BTreeMap<&'static str, u64>>,
    tokens: Mutex<BTreeMap<String, TokenCounts>>,
}

/// Adjusted tokens of one model.
#[derive(Clone, Copy, Debug, Default)]
struct TokenCounts {
    prompt: u64,
    cached: u64,
    completion: u64,
    reasoning: u64,
    total: u64,
}

impl Metrics {
    /// Counts a request in; `None` when there are too many already.
    pub(crate) fn enter(&self, requests_max: usize) -> Option<()> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= requests_max {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(())
    }

    /// Counts a request out.
    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn completed(&self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, error: &RequestError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failed.entry(error.code()).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts a request that is sent to another proxy.
    pub(crate) fn retried(&self, why: Setback) {
        let mut retried = self.retried.lock().unwrap_or_else(PoisonError::into_inner);
        let count = retried.entry(why.word()).or_default();
        *count = count.saturating_add(1);
    }

    /// Adds what a proxy says a request has used.
    pub(crate) fn used(&self, model: &str, used: &TokensUsed) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = tokens.get_mut(model) {
            return counts.add(used);
        }
        let name = if tokens.len() < limits::MODELS_METERED { model } else { "other" };
        tokens.entry(name.to_owned()).or_default().add(used);
    }

    pub(crate) fn status(
        &self,
        proxies: Vec<ProxyStatus>,
        models: usize,
        receipts: ReceiptsStatus,
        budget: BudgetStatus,
    ) -> Status {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            ready: models > 0,
            proxies,
            models,
            requests_in_flight: self.in_flight.load(Ordering::Relaxed),
            requests_completed: self.completed.load(Ordering::Relaxed),
            requests_failed: failed.values().fold(0, |sum, n| sum.saturating_add(*n)),
            requests_abandoned: self.abandoned.load(Ordering::Relaxed),
            requests_retried: self.retried.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            tokens_total: tokens.values().fold(0, |sum, counts| sum.saturating_add(counts.total)),
            receipts,
            budget,
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self, status: &Status) -> String {
        let mut out = String::with_capacity(2048);
        let ready = status.proxies.iter().filter(|proxy| proxy.ready).count();
        gauge(
            &mut out,
            "cocoon_client_ready",
            "Whether a request would find a proxy and a worker.",
            usize::from(status.ready),
        );
        gauge(&mut out, "cocoon_client_proxies", "Configured proxies.", status.proxies.len());
        gauge(&mut out, "cocoon_client_proxies_ready", "Proxies with a ready session.", ready);
        gauge(&mut out, "cocoon_client_models", "Models that can be asked for.", status.models);
        gauge(&mut out, "cocoon_client_requests_in_flight", "Requests being answered.", status.requests_in_flight);
        head(&mut out, "cocoon_client_requests_total", "counter", "Requests that ended, by outcome.");
        line(&mut out, "cocoon_client_requests_total{outcome=\"completed\"}", status.requests_completed);
        line(&mut out, "cocoon_client_requests_total{outcome=\"failed\"}", status.requests_failed);
        line(&mut out, "cocoon_client_requests_total{outcome=\"abandoned\"}", status.requests_abandoned);
        head(&mut out, "cocoon_client_errors_total", "counter", "Errors that apps were told, by code.");
        for (code, count) in &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            line(&mut out, &format!("cocoon_client_errors_total{{code=\"{code}\"}}"), *count);
        }
        render_failover(&mut out, status);
        render_receipts(&mut out, &status.receipts);
        render_budget(&mut out, &status.budget);
        let violations = status.proxies.iter().fold(0_u64, |sum, proxy| sum.saturating_add(proxy.violations));
        head(
            &mut out,
            "cocoon_client_proxy_violations_total",
            "counter",
            "Connections closed because the proxy broke the protocol.",
        );
        line(&mut out, "cocoon_client_proxy_violations_total", violations);
        head(&mut out, "cocoon_client_tokens_total", "counter", "Adjusted tokens used, as the proxies reported them.");
        for (model, counts) in &*self.tokens.lock().unwrap_or_else(PoisonError::into_inner) {
            let model = escape(model);
            for (kind, count) in counts.kinds() {
                line(&mut out, &format!("cocoon_client_tokens_total{{model=\"{model}\",kind=\"{kind}\"}}"), count);
            }
        }
        out
    }
}

impl TokenCounts {
    fn add(&mut self, used: &TokensUsed) {
        self.prompt = self.prompt.saturating_add(used.prompt.get());
        self.cached = self.cached.saturating_add(used.cached.get());
        self.completion = self.completion.saturating_add(used.completion.get());
        self.reasoning = self.reasoning.saturating_add(used.reasoning.get());
        self.total = self.total.saturating_add(used.total.get());
    }

    fn kinds(self) -> [(&'static str, u64); 4] {
        [
            ("prompt", self.prompt),
            ("cached", self.cached),
            ("completion", self.completion),
            ("reasoning", self.reasoning),
        ]
    }
}

fn render_failover(out: &mut String, status: &Status) {
    head(
        out,
        "cocoon_client_retries_total",
        "counter",
        "Requests sent to another proxy before an answer began, by why.",
    );
    for (why, count) in &status.requests_retried {
        line(out, &format!("cocoon_client_retries_total{{reason=\"{why}\"}}"), *count);
    }
    let open = status.proxies.iter().filter(|proxy| proxy.breaker != BreakerState::Closed).count();
    gauge(out, "cocoon_client_breakers_open", "Proxies left alone since they keep failing.", open);
    head(
        out,
        "cocoon_client_breakers_opened_total",
        "counter",
        "Times that a proxy was left alone, by its last fault.",
    );
    let mut opened: BTreeMap<&str, u64> = BTreeMap::new();
    for (fault, count) in status.proxies.iter().flat_map(|proxy| &proxy.breaker_opened) {
        let sum = opened.entry(fault).or_default();
        *sum = sum.saturating_add(*count);
    }
    for (fault, count) in opened {
        line(out, &format!("cocoon_client_breakers_opened_total{{fault=\"{fault}\"}}"), count);
    }
}

fn render_budget(out: &mut String, budget: &BudgetStatus) {
    head(out, "cocoon_client_spent_nano", "gauge", "NanoTON of today's requests, by our own count.");
    line(out, "cocoon_client_spent_nano", budget.spent_today_nano);
    head(out, "cocoon_client_held_nano", "gauge", "NanoTON that open requests of today can cost at most.");
    line(out, "cocoon_client_held_nano", budget.held_today_nano);
    gauge(out, "cocoon_client_proxies_differing", "Proxies that demand more than was used.", budget.proxies_differing);
    head(
        out,
        "cocoon_client_demands_refused_total",
        "counter",
        "Demands of proxies that our own count did not explain.",
    );
    line(out, "cocoon_client_demands_refused_total", budget.demands_refused);
    head(
        out,
        "cocoon_client_settled_by_word_total",
        "counter",
        "Requests paid for by a proxy's word, since no receipt of them could be had.",
    );
    line(out, "cocoon_client_settled_by_word_total", budget.settled_by_word);
}

fn render_receipts(out: &mut String, receipts: &ReceiptsStatus) {
    head(
        out,
        "cocoon_client_receipts_accepted_total",
        "counter",
        "Receipts that prove what was charged, by whose word.",
    );
    for (vouched, count) in &receipts.accepted {
        line(out, &format!("cocoon_client_receipts_accepted_total{{key_by=\"{vouched}\"}}"), *count);
    }
    head(
        out,
        "cocoon_client_receipts_refused_total",
        "counter",
        "Receipts that do not, by the check, and missing ones.",
    );
    for (check, count) in &receipts.refused {
        line(out, &format!("cocoon_client_receipts_refused_total{{check=\"{check}\"}}"), *count);
    }
}

fn gauge(out: &mut String, name: &str, help: &str, value: usize) {
    head(out, name, "gauge", help);
    line(out, name, value as u64);
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, value: u64) {
    let _ = writeln!(out, "{name} {value}");
}

/// A label value as Prometheus' text format quotes it; control characters have no business there.
fn escape(label: &str) -> String {
    let visible: String = label.chars().filter(|c| !c.is_control()).collect();
    visible.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use cocoon_units::AdjustedTokens;

    use super::*;

    #[test]
    fn models_are_counted_by_name_up_to_a_bound() {
        let metrics = Metrics::default();
        let used =
            TokensUsed { total: AdjustedTokens::new(2), prompt: AdjustedTokens::new(2), ..TokensUsed::default() };
        for n in 0..limits::MODELS_METERED + 10 {
            metrics.used(&format!("m\"{n}\n"), &used);
        }
        let status = metrics.status(Vec::new(), 0, ReceiptsStatus::default(), BudgetStatus::default());
        assert_eq!(status.tokens_total, 2 * (limits::MODELS_METERED as u64 + 10));
        let text = metrics.render(&status);
        assert!(text.contains(r#"cocoon_client_tokens_total{model="other",kind="prompt"} 20"#), "{text}");
        assert!(text.contains(r#"{model="m\"0",kind="prompt"} 2"#), "{text}");
    }

    #[test]
    fn requests_in_flight_are_bounded() {
        let metrics = Metrics::default();
        assert_eq!(metrics.enter(1), Some(()));
        assert_eq!(metrics.enter(1), None);
        metrics.leave();
        assert_eq!(metrics.enter(1), Some(()));
    }
}
