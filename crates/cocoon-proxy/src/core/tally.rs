//! What happened, as numbers. Aggregates only: no peer, no request.

use cocoon_wire::failure::{Blame, Failure};
use serde::Serialize;

/// Counts since the start, and gauges of this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Connected clients.
    pub clients: usize,
    /// Connected workers.
    pub workers: usize,
    /// Requests that are here, waiting or running.
    pub requests: usize,
    /// Those that wait for a worker.
    pub queued: usize,
    /// Bytes of bodies held for them.
    pub held_bytes: u64,
    /// Workers that get nothing new before what they have earned is signed.
    pub held_back: usize,
    /// Whether new requests are refused because the proxy shuts down.
    pub draining: bool,
    /// Requests that came.
    pub received: u64,
    /// Requests refused at admission.
    pub refused: u64,
    /// Times a request was given to a worker.
    pub dispatched: u64,
    /// Times that was not the first.
    pub retried: u64,
    /// Requests answered in full.
    pub completed: u64,
    /// Requests that failed after admission, by whose fault it was.
    pub failed: FailedBy,
    /// Usage reports above their reservation, clamped.
    pub overcharges: u64,
    /// Answers without the valid receipt that was asked for, and so without pay.
    pub unproved: u64,
    /// Adjusted tokens charged.
    pub tokens_charged: u64,
    /// Requests that a crash had lost and that their workers proved.
    pub recovered: u64,
    /// Adjusted tokens of them.
    pub tokens_recovered: u64,
}

/// Failures by whose fault they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailedBy {
    /// The app or its client node.
    pub client: u64,
    /// This proxy.
    pub proxy: u64,
    /// A worker node.
    pub worker: u64,
    /// An inference engine.
    pub engine: u64,
    /// The blockchain or its view of things.
    pub chain: u64,
}

/// One served model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ModelStatus {
    /// Its public name.
    pub name: String,
    /// Workers that serve it.
    pub workers: usize,
    /// Requests they can run at once for this proxy.
    pub slots: u64,
    /// Requests they run now for this proxy.
    pub active: u64,
    /// Requests that wait for one of them.
    pub queued: usize,
}

impl Tally {
    pub(crate) const fn refused(&mut self) {
        self.refused += 1;
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        let by = &mut self.failed;
        match failure.blame {
            Blame::Client => by.client += 1,
            Blame::Worker => by.worker += 1,
            Blame::Engine => by.engine += 1,
            Blame::Chain => by.chain += 1,
            Blame::Proxy => by.proxy += 1,
        }
    }
}

/// The books of a proxy that settles on a chain, in adjusted tokens, all accounts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MoneyTally {
    /// What clients used, as counted.
    pub used: u64,
    /// Of it, what is on disk.
    pub used_durable: u64,
    /// Of it, what a commit on the chain covers, so that it can be signed.
    pub used_committed: u64,
    /// What workers earned and is not covered yet.
    pub unsigned: u64,
    /// The most of it that one worker has.
    pub unsigned_most: u64,
    /// For how many seconds the oldest of it waits.
    pub unsigned_age_s: u64,
    /// How much one worker may have, before it gets no more requests.
    pub unsigned_max: u64,
    /// Entries that the disk does not have yet.
    pub unwritten: u64,
}
