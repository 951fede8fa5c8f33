//! Tells the operator what a worker has reached, when that is true and not before.
//!
//! One line when the engine is ready, one for each proxy that is connected, and one for what is waited for.
//! It looks at the worker's status and decides nothing; the log has the details.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_worker::{Engine, EngineState, Status, WorkerHandle};
use tokio::time::{Instant, sleep};

use crate::{limits, terminal, wiring};

/// What was told, so that it is told once.
pub(super) struct Watch {
    worker: WorkerHandle,
    engine: Arc<dyn Engine>,
    place: String,
    proxies: Vec<SocketAddr>,
    engine_told: Option<bool>,
    proxies_told: BTreeMap<u32, Option<bool>>,
}

impl Watch {
    /// For a worker with its engine, where that is, and its proxies as they are configured; none for those of a root.
    pub(super) fn new(worker: WorkerHandle, engine: Arc<dyn Engine>, place: String, proxies: Vec<SocketAddr>) -> Self {
        Self { worker, engine, place, proxies, engine_told: None, proxies_told: BTreeMap::new() }
    }

    /// Watches until it is dropped.
    pub(super) async fn run(mut self) -> Infallible {
        let patient_until = Instant::now() + limits::PATIENCE;
        loop {
            let status = self.worker.status();
            // At the start nothing is reached yet, which is no news.
            let is_patient = Instant::now() < patient_until;
            self.tell_engine(&status, is_patient).await;
            self.tell_proxies(&status, is_patient);
            sleep(limits::WATCH_POLL).await;
        }
    }

    async fn tell_engine(&mut self, status: &Status, is_patient: bool) {
        let is_ready = status.engine == EngineState::Ready;
        if !is_news(&mut self.engine_told, is_ready, is_patient) {
            return;
        }
        let (place, model) = (&self.place, status.model.as_deref().unwrap_or("no model"));
        if is_ready {
            terminal::line(&format!("worker: the engine is ready: {model}, {place}"));
        } else {
            let why = wiring::engine_trouble(self.engine.as_ref()).await;
            let why = why.as_deref().unwrap_or("it has just answered again");
            terminal::note(&format!("worker: waiting for the engine at {place}: {why}"));
        }
    }

    fn tell_proxies(&mut self, status: &Status, is_patient: bool) {
        // A worker that does not know its model yet dials nobody.
        let Some(model) = &status.model else { return };
        for state in &status.proxies {
            let told = self.proxies_told.entry(state.number).or_default();
            if !is_news(told, state.connected, is_patient) {
                continue;
            }
            let proxy = shown(&self.proxies, state.number);
            if state.connected {
                terminal::line(&format!("worker: connected to the proxy {proxy} with {model}"));
            } else {
                terminal::note(&format!("worker: waiting for the proxy {proxy}; the log says why"));
            }
        }
    }
}

/// A proxy's address, as it is configured, or its number in the root's registry.
fn shown(configured: &[SocketAddr], number: u32) -> String {
    let place = usize::try_from(number).ok().and_then(|number| configured.get(number));
    place.map_or_else(|| format!("number {number} of the root contract"), ToString::to_string)
}

/// Whether to tell this, which is then taken as told.
fn is_news(told: &mut Option<bool>, is_reached: bool, is_patient: bool) -> bool {
    let is_news = *told != Some(is_reached) && (is_reached || !is_patient);
    if is_news {
        *told = Some(is_reached);
    }
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_once() {
        let mut told = None;
        assert!(!is_news(&mut told, false, true), "a start is no loss");
        assert!(is_news(&mut told, false, false));
        assert!(!is_news(&mut told, false, false));
        assert!(is_news(&mut told, true, false));
        assert!(!is_news(&mut told, true, false));
        assert!(is_news(&mut told, false, false));
    }
}
