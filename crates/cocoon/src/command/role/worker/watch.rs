//! Tells the operator what a worker has reached, when that is true and not before.
//!
//! One line when the engine is ready, one for each proxy that is connected, and one for what is waited for.
//! It looks at the worker's status and decides nothing; the log has the details.

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
    proxies_told: Vec<Option<bool>>,
}

impl Watch {
    /// For a worker with its engine, where that is, and its proxies in the order of its dialers.
    pub(super) fn new(worker: WorkerHandle, engine: Arc<dyn Engine>, place: String, proxies: Vec<SocketAddr>) -> Self {
        let proxies_told = vec![None; proxies.len()];
        Self { worker, engine, place, proxies, engine_told: None, proxies_told }
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
        for ((proxy, state), told) in self.proxies.iter().zip(&status.proxies).zip(&mut self.proxies_told) {
            if !is_news(told, state.connected, is_patient) {
                continue;
            }
            if state.connected {
                terminal::line(&format!("worker: connected to the proxy {proxy} with {model}"));
            } else {
                terminal::note(&format!("worker: waiting for the proxy {proxy}; the log says why"));
            }
        }
    }
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
