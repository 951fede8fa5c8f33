//! Keeps the chain as `up` wants it while the network runs, as operators of real nodes would.
//!
//! A change of the root moves the proxy and the client to new contracts: they are deployed, the proxy's record is
//! changed, and the old ones begin to close. The model of an engine that was slow to say which it serves is registered.
//! What somebody removes from the root stays removed.

use std::sync::Arc;

use cocoon_ton::Address;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_worker::WorkerHandle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Ground, Wanted, When};
use crate::{limits, terminal};

/// Who looks after the contracts.
#[derive(Debug)]
pub(in super::super) struct Caretaker {
    ground: Ground,
    address: Address,
    wanted: Wanted,
    workers: Vec<WorkerHandle>,
    /// Models that were registered, so that a removed one is not brought back.
    known: Vec<String>,
}

impl Caretaker {
    /// For a network that was established.
    pub(in super::super) fn new(
        ground: Ground,
        address: Address,
        mut wanted: Wanted,
        workers: Vec<WorkerHandle>,
    ) -> Self {
        let known = std::mem::take(&mut wanted.models);
        Self { ground, address, wanted, workers, known }
    }

    /// Looks after them. Never ends; run it beside the roles.
    pub(in super::super) async fn run(
        mut self,
        mut root: watch::Receiver<Arc<RootConfig>>,
    ) -> std::convert::Infallible {
        loop {
            root.borrow_and_update();
            self.wanted.models = self.new_models();
            match self.ground.reconcile(self.address, &self.wanted, When::Running).await {
                Ok(words) => {
                    for words in words {
                        terminal::note(&format!("chain: {words}"));
                    }
                    let models = std::mem::take(&mut self.wanted.models);
                    self.known.extend(models);
                }
                // The next look tries again; the roles go on by what the root says.
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the contracts are not as they should be"),
            }
            let pause = if self.knows_all_models() { limits::UP_CHAIN_LOOK } else { limits::UP_MODEL_LOOK };
            // The root is as long as the process.
            let _ = timeout(pause, root.changed()).await;
        }
    }

    fn new_models(&self) -> Vec<String> {
        let mut models: Vec<String> = self.workers.iter().filter_map(|worker| worker.status().model).collect();
        models.sort_unstable();
        models.dedup();
        models.retain(|model| !self.known.contains(model));
        models
    }

    fn knows_all_models(&self) -> bool {
        self.workers.iter().all(|worker| worker.status().model.is_some())
    }
}
