//! Every failure that the core itself makes: whose fault, which code, what to tell.

use std::time::Duration;

use cocoon_ledger::Rejection;
use cocoon_wire::failure::{Blame, Failure, FailureCode};

use crate::limits::{RETRY_AFTER_MAX, RETRY_AFTER_MIN};

fn retry(failure: Failure, after: Duration) -> Failure {
    let after = after.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
    failure.with_retry_after_ms(u32::try_from(after.as_millis()).unwrap_or(u32::MAX))
}

pub(crate) fn draining() -> Failure {
    let failure = Failure::new(Blame::Proxy, FailureCode::Draining, "the proxy is shutting down, try another");
    retry(failure, RETRY_AFTER_MIN)
}

pub(crate) fn recovering() -> Failure {
    let message = "the proxy restarted a moment ago and first settles what its last run left";
    retry(Failure::new(Blame::Proxy, FailureCode::NoWorker, message), RETRY_AFTER_MIN)
}

pub(crate) fn cancelled() -> Failure {
    Failure::new(Blame::Client, FailureCode::Cancelled, "the request was cancelled")
}

pub(crate) fn duplicate() -> Failure {
    let message = "a request with this id is in flight on this connection";
    Failure::new(Blame::Client, FailureCode::BadRequest, message)
}

pub(crate) fn too_many_in_flight(expected: Duration) -> Failure {
    let message = "too many requests of this client are in flight";
    retry(Failure::new(Blame::Client, FailureCode::LimitExceeded, message), expected)
}

pub(crate) fn overloaded(expected: Duration) -> Failure {
    let message = "all workers are busy and the queue is full";
    retry(Failure::new(Blame::Proxy, FailureCode::Overloaded, message), expected)
}

pub(crate) fn queue_timeout(expected: Duration) -> Failure {
    let message = "no worker became free in time";
    retry(Failure::new(Blame::Proxy, FailureCode::Overloaded, message), expected)
}

pub(crate) fn model_not_found() -> Failure {
    Failure::new(Blame::Client, FailureCode::ModelNotFound, "no worker serves a model of this name")
}

pub(crate) fn no_worker() -> Failure {
    let failure = Failure::new(Blame::Proxy, FailureCode::NoWorker, "no worker serves this model now");
    retry(failure, RETRY_AFTER_MAX)
}

pub(crate) fn no_worker_under_price() -> Failure {
    let message = "every worker of this model is above the price cap; raise max_coefficient";
    retry(Failure::new(Blame::Client, FailureCode::NoWorkerUnderPrice, message), RETRY_AFTER_MAX)
}

pub(crate) fn no_signing_worker() -> Failure {
    let message =
        "no worker of this model signs receipts now; a client with `receipts = false` can use those that there are";
    retry(Failure::new(Blame::Proxy, FailureCode::NoWorker, message), RETRY_AFTER_MAX)
}

pub(crate) fn unpayable() -> Failure {
    let message = "the request can cost more than any stake; lower its token limit";
    Failure::new(Blame::Client, FailureCode::LimitExceeded, message)
}

pub(crate) fn rejected(rejection: &Rejection, expected: Duration) -> Failure {
    let failure = Failure::new(Blame::Client, FailureCode::LimitExceeded, &rejection.to_string());
    match rejection {
        Rejection::PayerStakeReserved { .. } => retry(failure, expected),
        Rejection::JournalBehind => overloaded_journal(),
        Rejection::PayerClosed => account_closed(),
        Rejection::PayerStakeTooSmall { .. } | Rejection::PayerStakeUsed { .. } | Rejection::AccountsFull => failure,
    }
}

fn overloaded_journal() -> Failure {
    let message = "the proxy counts faster than its disk writes";
    retry(Failure::new(Blame::Proxy, FailureCode::Overloaded, message), RETRY_AFTER_MIN)
}

pub(crate) fn account_closed() -> Failure {
    let message = "your contract with this proxy is closed or closing, so nothing new can be charged to it";
    Failure::new(Blame::Client, FailureCode::LimitExceeded, message)
}

pub(crate) fn receipt_reused() -> Failure {
    let message = "a request asked for a receipt of this id before; draw a fresh one for each";
    Failure::new(Blame::Client, FailureCode::BadRequest, message)
}

pub(crate) fn outdated() -> Failure {
    let message = "the proxy has moved to another contract; connect again";
    retry(Failure::new(Blame::Proxy, FailureCode::Draining, message), RETRY_AFTER_MIN)
}

pub(crate) fn accounts_full() -> Failure {
    let message = "the proxy has no room for another account";
    retry(Failure::new(Blame::Proxy, FailureCode::LimitExceeded, message), RETRY_AFTER_MAX)
}

pub(crate) fn models_full() -> Failure {
    let message = "the proxy has no room for another model";
    Failure::new(Blame::Proxy, FailureCode::LimitExceeded, message)
}

pub(crate) fn worker_lost() -> Failure {
    let message = "the worker's connection ended before its answer did";
    Failure::new(Blame::Worker, FailureCode::WorkerLost, message)
}

pub(crate) fn timeout_in_queue() -> Failure {
    Failure::new(Blame::Proxy, FailureCode::Timeout, "the request's time ran out while it waited for a worker")
}

pub(crate) fn timeout_at_worker() -> Failure {
    Failure::new(Blame::Worker, FailureCode::Timeout, "the request's time ran out before the worker answered")
}

pub(crate) fn slow_reader() -> Failure {
    let message = "the answer was not read as fast as it was produced";
    Failure::new(Blame::Client, FailureCode::SlowReader, message)
}
