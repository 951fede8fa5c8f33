//! One request, from a proxy's `runQuery` to the last part of its answer.
//!
//! 1. [`prepare`]: the envelope is opened, the route checked, the body's limits enforced.
//! 2. [`relay`]: the engine runs it and the answer flows, as credit allows.
//! 3. If it ended early, [`Stop`] says why, and that decides what is told and what is billed.
//!
//! **Billing.** A complete answer is billed at the usage that the engine reported. Once its head is out, one
//! that its reader cancelled, outran or let time out is billed, too: at what the engine reports until then or
//! within [`USAGE_GRACE`](crate::limits::USAGE_GRACE). If that is nothing, a stream is billed at one completion
//! token per content event, at most the token limit, and a prompt at a token per
//! [`PROMPT_BYTES_PER_TOKEN`](crate::limits::PROMPT_BYTES_PER_TOKEN) bytes of its text: less than was used, but
//! no prompt is free because somebody leaves before it is counted. So is a stream whose engine ignores the
//! limit. Unless its reader gave it up, an answer costs no more tokens than bytes of it were delivered. One that
//! the engine or this worker broke off, and one that was refused, is billed at nothing.
//!
//! **Receipts.** Whoever asked for one gets it with the last message, whatever became of the request, with the counts that
//! it is billed at. One that this worker never began (no slot, a price that does not pay) has none.

mod control;
mod meter;
mod prepare;
mod relay;
mod reply;

use std::sync::Arc;

use cocoon_net::Outbox;
use cocoon_units::Usage;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::message::WorkerRun;
use cocoon_wire::{RequestId, Version};

use self::control::Watch;
use self::prepare::{open, prepare};
use self::relay::Relay;
use self::reply::Reply;
use crate::earnings::books::Ours;
use crate::error::EngineError;
use crate::receipts;
use crate::worker::Shared;

pub(crate) use self::control::Control;
pub(crate) use self::reply::refuse;

/// The connection that a request came from.
#[derive(Clone)]
pub(crate) struct Leg {
    pub(crate) outbox: Outbox,
    pub(crate) version: Version,
    /// Who the proxy is, as receipts name it.
    pub(crate) proxy: Arc<str>,
    /// The account that the proxy pays into; none without a chain.
    pub(crate) ours: Option<Ours>,
}

/// Why an answer ends before it is complete.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The request is not one that is run.
    Refused(Failure),
    /// The engine, or this worker on its behalf.
    Engine(EngineError),
    /// The proxy cancelled.
    Cancelled,
    /// The time budget ran out.
    TimedOut,
    /// The proxy does not read.
    SlowReader,
    /// The proxy is gone; there is nobody to tell.
    PeerGone,
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl Stop {
    /// What the proxy is told.
    pub(crate) fn failure(&self) -> Option<Failure> {
        Some(match self {
            Self::Refused(failure) => failure.clone(),
            Self::Engine(error) => error.failure(),
            Self::Cancelled => Failure::new(Blame::Client, FailureCode::Cancelled, "the request was cancelled"),
            Self::TimedOut => {
                Failure::new(Blame::Engine, FailureCode::Timeout, "the request took longer than its timeout")
            }
            Self::SlowReader => Failure::new(Blame::Proxy, FailureCode::SlowReader, "the answer was read too slowly"),
            Self::PeerGone => return None,
        })
    }

    /// Whether what was delivered until then is billed.
    fn bills_delivered(&self) -> bool {
        match self {
            Self::Cancelled | Self::TimedOut | Self::SlowReader => true,
            // What came until then is what was asked for.
            Self::Engine(EngineError::EngineIgnoresLimit) => true,
            Self::Refused(_) | Self::Engine(_) | Self::PeerGone => false,
        }
    }
}

/// Runs one request to its end, and gives its id. Whatever happens, the proxy gets exactly one last message.
///
/// The future is held for as long as the answer takes: what is needed only at its end lives in boxes of its own
/// ([`STREAM_BYTES`](crate::limits::STREAM_BYTES)).
pub(crate) async fn serve(shared: Arc<Shared>, leg: Leg, run: WorkerRun, control: Arc<Control>) -> RequestId {
    let id = run.request_id;
    let watch = Watch::new(&control, run.timeout_ms);
    let served = shared.offer.borrow().model.clone();
    let receipt = match open_receipt(&shared, &run) {
        Ok(receipt) => receipt,
        Err(failure) => {
            shared.metrics.count_failure(failure.code);
            refuse(&leg, id, &failure);
            return id;
        }
    };
    let mut reply = Reply::new(&shared, leg, &run, served.clone(), receipt);
    let prepared = open(&run).and_then(|envelope| {
        reply.read_request(&envelope.payload);
        prepare(envelope, run.token_limit, served.as_deref())
    });
    drop(run);
    match prepared {
        Ok(prepared) => {
            let mut relay = Relay::new(&shared, watch, reply, &prepared);
            if let Err(stop) = relay.run(prepared.request).await {
                relay.fail(&stop).await;
            }
        }
        Err(failure) => {
            Box::pin(finish_early(&shared, reply, &Stop::Refused(failure), Usage::default())).await;
        }
    }
    id
}

/// The receipt that the client asked for, where this worker signs any.
fn open_receipt(shared: &Shared, run: &WorkerRun) -> Result<Option<receipts::Open>, Failure> {
    let (Some(receipts), Some(ask)) = (shared.receipts.get(), &run.receipt) else { return Ok(None) };
    let reused = || Failure::new(Blame::Client, FailureCode::BadRequest, "the id of the receipt was used before");
    receipts.open(ask).map(Some).ok_or_else(reused)
}

/// Tells the proxy, the counters and the log of an early end.
async fn finish_early(shared: &Shared, reply: Reply<'_>, stop: &Stop, used: Usage) {
    let Some(failure) = stop.failure() else {
        return;
    };
    shared.metrics.count_failure(failure.code);
    match stop {
        Stop::Engine(error) => {
            tracing::warn!(request = %reply.id(), error = error as &dyn std::error::Error, "engine failed")
        }
        Stop::Refused(_) | Stop::Cancelled | Stop::TimedOut | Stop::SlowReader | Stop::PeerGone => {
            tracing::debug!(request = %reply.id(), code = failure.code.as_str(), "request ended early");
        }
    }
    reply.fail(&failure, used).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STREAM_BYTES;

    fn size_of_future<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_waits_for_an_engine_is_small() {
        let bytes = size_of_future(serve);
        assert!(bytes <= STREAM_BYTES * 5 / 8, "{bytes} bytes are held for each stream");
    }
}
