//! Blocks by themselves.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Service;

/// A task that makes blocks until it is dropped, or the devnet stops.
#[derive(Debug)]
pub(in crate::devnet) struct Ticker {
    /// Aborts its task when dropped; a block that is being made is finished on its own thread.
    _task: JoinSet<()>,
}

impl Ticker {
    /// Starts it within the current runtime, if there is a period.
    pub(in crate::devnet) fn start(service: &Arc<Service>, period: Option<Duration>) -> Self {
        let mut task = JoinSet::new();
        if let Some(period) = period {
            task.spawn(run(Arc::downgrade(service), period));
        }
        Self { _task: task }
    }
}

async fn run(service: Weak<Service>, period: Duration) {
    let mut ticks = interval(period);
    // After a pause of the machine one block is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(service) = service.upgrade() else { return };
        let ticked = tokio::task::spawn_blocking(move || service.tick_if_due()).await;
        // Whoever asks for something hears why it stopped.
        if !matches!(ticked, Ok(Ok(()))) {
            return;
        }
    }
}
