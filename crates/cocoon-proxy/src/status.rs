//! What a proxy shows of itself: aggregates only, never a wallet, key, address or id.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::core::{Core, ModelStatus, MoneyTally, Tally};
use crate::settlement::SettlementStatus;

/// A proxy at one moment.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// Counts and gauges.
    #[serde(flatten)]
    pub tally: Tally,
    /// The served models.
    pub models: Vec<ModelStatus>,
    /// The books, where there is money.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub books: Option<MoneyTally>,
    /// Settlement on the chain, where there is money.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settlement: Option<SettlementStatus>,
}

impl Status {
    /// The same numbers in Prometheus' text format. Labels come from closed enums only.
    #[must_use]
    pub fn metrics(&self) -> String {
        let Tally { failed, .. } = &self.tally;
        let mut text = String::with_capacity(2_048);
        for (name, kind, help, value) in self.rows() {
            // Writing to a string cannot fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
        let name = "cocoon_proxy_failed_total";
        let _ = write!(text, "# HELP {name} Requests failed after admission, by blame\n# TYPE {name} counter\n");
        let blames = [
            ("client", failed.client),
            ("proxy", failed.proxy),
            ("worker", failed.worker),
            ("engine", failed.engine),
            ("chain", failed.chain),
        ];
        for (blame, value) in blames {
            let _ = writeln!(text, "{name}{{blame=\"{blame}\"}} {value}");
        }
        for (name, help, value) in self.books.iter().flat_map(books_rows) {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        }
        text
    }

    fn rows(&self) -> [(&'static str, &'static str, &'static str, u64); 14] {
        let tally = &self.tally;
        [
            ("cocoon_proxy_clients", "gauge", "Connected clients", tally.clients as u64),
            ("cocoon_proxy_workers", "gauge", "Connected workers", tally.workers as u64),
            ("cocoon_proxy_requests", "gauge", "Requests waiting or running", tally.requests as u64),
            ("cocoon_proxy_queued", "gauge", "Requests waiting for a worker", tally.queued as u64),
            ("cocoon_proxy_held_bytes", "gauge", "Bytes of bodies held", tally.held_bytes),
            ("cocoon_proxy_received_total", "counter", "Requests received", tally.received),
            ("cocoon_proxy_refused_total", "counter", "Requests refused at admission", tally.refused),
            ("cocoon_proxy_dispatched_total", "counter", "Requests given to a worker", tally.dispatched),
            ("cocoon_proxy_retried_total", "counter", "Requests given to another worker", tally.retried),
            ("cocoon_proxy_completed_total", "counter", "Requests answered in full", tally.completed),
            ("cocoon_proxy_overcharges_total", "counter", "Usage reports clamped", tally.overcharges),
            ("cocoon_proxy_unproved_total", "counter", "Answers without a valid receipt, not paid", tally.unproved),
            ("cocoon_proxy_tokens_charged_total", "counter", "Adjusted tokens charged", tally.tokens_charged),
            ("cocoon_proxy_held_back", "gauge", "Workers that wait for a signature", tally.held_back as u64),
        ]
    }
}

const fn books_rows(books: &MoneyTally) -> [(&'static str, &'static str, u64); 8] {
    [
        ("cocoon_proxy_books_used_tokens", "Tokens used by clients", books.used),
        ("cocoon_proxy_books_durable_tokens", "Of these, on disk", books.used_durable),
        ("cocoon_proxy_books_committed_tokens", "Of these, committed on the chain", books.used_committed),
        ("cocoon_proxy_unsigned_tokens", "Tokens earned by workers and not signed", books.unsigned),
        ("cocoon_proxy_unsigned_worker_most_tokens", "The most of it that one worker has", books.unsigned_most),
        ("cocoon_proxy_unsigned_worker_limit_tokens", "The most that one worker may have", books.unsigned_max),
        ("cocoon_proxy_unsigned_age_seconds", "For how long the oldest of it waits", books.unsigned_age_s),
        ("cocoon_proxy_books_unwritten", "Entries that are not on disk", books.unwritten),
    ]
}

/// Where the hub writes and anyone reads.
#[derive(Debug, Default)]
pub(crate) struct Board {
    status: Mutex<Status>,
    registry_changed: AtomicBool,
}

impl Board {
    /// The models' rows are made anew when this was called, or when somebody looks.
    pub(crate) fn registry_changed(&self) {
        self.registry_changed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn publish(&self, now: Instant, core: &Core) {
        let tally = core.tally();
        let is_asked = self.registry_changed.swap(false, Ordering::Relaxed);
        let rows = is_asked.then(|| (core.model_status(), core.money_tally(now)));
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.tally = tally;
        if let Some((models, books)) = rows {
            (status.models, status.books) = (models, books);
        }
    }

    pub(crate) fn read(&self) -> Status {
        // Loads of models move all the time; the next batch refreshes them for the next look.
        self.registry_changed();
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_prometheus_text_and_status_is_json() {
        let mut status = Status::default();
        status.tally.completed = 3;
        status.tally.failed.worker = 1;
        let text = status.metrics();
        assert!(text.contains("# TYPE cocoon_proxy_completed_total counter\ncocoon_proxy_completed_total 3\n"));
        assert!(text.contains("cocoon_proxy_failed_total{blame=\"worker\"} 1\n"));
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["completed"], 3);
        assert_eq!(json["models"], serde_json::json!([]));
    }
}
