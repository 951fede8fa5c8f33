//! Sessions that have to begin anew, because the proxy moved to another contract.
//!
//! Each ends as soon as nothing of it runs, and at the latest when the time for that is over. A worker gets nothing
//! more meanwhile; a client may go on asking, since its answers are what is waited for.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::core::{ClientId, Core, WorkerId};

/// The sessions that leave.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    clients: BTreeSet<ClientId>,
    workers: BTreeSet<WorkerId>,
    until: Option<Instant>,
}

/// A session whose connection has to be closed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaver {
    Client(ClientId),
    Worker(WorkerId),
}

impl Leaving {
    /// These leave until then; those that were leaving before have no more time than they had.
    pub(super) fn begin(
        &mut self,
        clients: impl Iterator<Item = ClientId>,
        workers: impl Iterator<Item = WorkerId>,
        until: Instant,
    ) {
        self.clients.extend(clients);
        self.workers.extend(workers);
        self.until = Some(self.until.map_or(until, |earlier| earlier.min(until)));
    }

    /// When the time is over.
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn has_worker(&self, worker: WorkerId) -> bool {
        self.workers.contains(&worker)
    }

    /// How many leave.
    pub(super) fn len(&self) -> usize {
        self.clients.len() + self.workers.len()
    }

    pub(super) fn forget(&mut self, leaver: Leaver) {
        match leaver {
            Leaver::Client(client) => self.clients.remove(&client),
            Leaver::Worker(worker) => self.workers.remove(&worker),
        };
    }

    /// Those that nothing holds any more. Each is named once.
    pub(super) fn take_ready(&mut self, core: &Core, now: Instant) -> Vec<Leaver> {
        if self.until.is_none() {
            return Vec::new();
        }
        let is_late = self.until.is_some_and(|until| until <= now);
        let clients = self.clients.extract_if(.., |client| is_late || core.client_in_flight(*client) == 0);
        let workers = self.workers.extract_if(.., |worker| is_late || core.worker_active(*worker) == 0);
        let ready = clients.map(Leaver::Client).chain(workers.map(Leaver::Worker)).collect();
        if self.clients.is_empty() && self.workers.is_empty() {
            self.until = None;
        }
        ready
    }
}
