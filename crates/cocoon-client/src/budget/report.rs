//! What was used, as it is told to people: a line for a key, a model and a day; and the whole in the status.

use serde::Serialize;

use super::books::{Row, RowKey};

/// What a client's status says of its money.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BudgetStatus {
    /// What requests of today (UTC) cost, by our own count.
    pub spent_today_nano: u64,
    /// What open ones of today can cost at most.
    pub held_today_nano: u64,
    /// The most of both together.
    pub per_day_nano: u64,
    /// Requests whose end nobody waits for, and that may have to be paid for.
    pub requests_unheard: usize,
    /// Proxies that demand more than was used, and get no request.
    pub proxies_differing: usize,
    /// How often a proxy did.
    pub demands_refused: u64,
    /// Requests that were paid for by a proxy's word, since no receipt of them could be had. Since this process began.
    pub settled_by_word: u64,
    /// Whether the count can be written; while it cannot, nothing is sent.
    pub writable: bool,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct UsageRow {
    /// The UTC day on which the requests began.
    date: String,
    /// The name of the API key; none where there are no keys.
    key: Option<String>,
    model: String,
    /// Requests that ended, whatever they cost.
    requests: u64,
    /// As the engines counted them, of requests with a receipt: nobody else tells that.
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
    reasoning_tokens: u64,
    /// As they are paid for.
    adjusted_tokens: u64,
    cost_nano: u64,
    /// What open requests can add at most.
    held_nano: u64,
}

impl UsageRow {
    pub(super) fn new(key: &RowKey, row: &Row) -> Self {
        Self {
            date: key.day.date(),
            key: Some(key.key.clone()).filter(|key| !key.is_empty()),
            model: key.model.clone(),
            requests: row.requests,
            prompt_tokens: row.raw.prompt,
            cached_tokens: row.raw.cached,
            completion_tokens: row.raw.completion,
            reasoning_tokens: row.raw.reasoning,
            adjusted_tokens: row.total.adjusted.get(),
            cost_nano: row.total.spent.get(),
            held_nano: row.total.held.get(),
        }
    }
}

/// What a caller may still use today.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Today {
    pub(super) date: String,
    /// The name of the API key; none where there are no keys.
    pub(super) key: Option<String>,
    pub(super) adjusted_tokens: u64,
    pub(super) held_tokens: u64,
    pub(super) cost_nano: u64,
    pub(super) held_nano: u64,
    /// None where the key has no such quota.
    pub(super) tokens_limit: Option<u64>,
    /// Of the key; without keys, of the whole client.
    pub(super) nano_limit: Option<u64>,
}
