//! What is told of peers that did not become connections.
//!
//! A refused peer is the operator's business: its policy refuses somebody, somebody's policy refuses this node, or this
//! node has nothing to show. Each is a warning, but strangers decide how many there are: at most one a second is
//! written for each listener, with the number of those that were left out.

use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use cocoon_net::HandshakeError;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::limits::REFUSED_PEER_LOG_INTERVAL;

/// The failed handshakes of one listener.
#[derive(Debug, Default)]
pub(crate) struct RefusedPeers(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    skipped: u64,
}

impl RefusedPeers {
    /// Logs one failed handshake.
    pub(crate) fn log(&self, role: impl fmt::Debug, error: &HandshakeError) {
        if !concerns_the_operator(error) {
            return debug!(?role, %error, "no connection");
        }
        // Two fields that change together; whole even after a panic.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let error = with_sources(error);
        match told.note(Instant::now()) {
            Some(skipped) => warn!(?role, error, skipped, "no connection: attestation failed"),
            None => debug!(?role, error, "no connection: attestation failed"),
        }
    }
}

impl Told {
    /// One more: whether to write it, and how many were left out since the last that was written.
    fn note(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < REFUSED_PEER_LOG_INTERVAL) {
            self.skipped = self.skipped.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.skipped))
    }
}

/// Somebody's policy, or this node's own evidence; noise of the network and scanners is not among them.
fn concerns_the_operator(error: &HandshakeError) -> bool {
    matches!(
        error,
        HandshakeError::PeerAttestation(_)
            | HandshakeError::PeerRefusedUs { .. }
            | HandshakeError::NoEvidence(_)
            | HandshakeError::Identity(_)
    )
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refused_peers_does_not_flood_the_log() {
        let (mut told, start) = (Told::default(), Instant::now());
        assert_eq!(told.note(start), Some(0));
        for _ in 0..1_000 {
            assert_eq!(told.note(start + REFUSED_PEER_LOG_INTERVAL / 2), None);
        }
        assert_eq!(told.note(start + REFUSED_PEER_LOG_INTERVAL), Some(1_000));
        assert_eq!(told.note(start + REFUSED_PEER_LOG_INTERVAL * 2), Some(0));
    }

    #[test]
    fn a_refusal_is_told_and_a_scanner_is_not() {
        let refused = HandshakeError::PeerRefusedUs { check: "tcb".to_owned(), text: String::new() };
        assert!(concerns_the_operator(&refused));
        assert!(!concerns_the_operator(&HandshakeError::PeerWrongWork));
        assert!(!concerns_the_operator(&HandshakeError::PeerNoProfile));
    }
}
