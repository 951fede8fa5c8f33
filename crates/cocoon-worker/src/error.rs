//! What can go wrong in a worker, by whose fault, and what a proxy is told of it.
//!
//! The mapping to [`Failure`] is here and nowhere else. No text that leaves this file holds an
//! address, a path of this host or a byte of a prompt.

use std::io;
use std::time::Duration;

use cocoon_net::{ConnectionError, QueryError};
use cocoon_units::AdjustedTokens;
use cocoon_wire::DecodeError;
use cocoon_wire::failure::{Blame, Failure, FailureCode};

use crate::earnings::{EarningsError, PaymentError};
use crate::limits::{LOADING_RETRY_MS, OVERLOADED_RETRY_MS};
use crate::terms::ContractError;

/// Why an engine gave no answer, or stopped in the middle of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No connection could be made: the engine is not running.
    #[error("the engine cannot be reached")]
    EngineUnreachable(#[source] io::Error),
    /// It loads its model.
    #[error("the engine is loading its model")]
    EngineLoading,
    /// It has no room for another request.
    #[error("the engine is at capacity")]
    EngineOverloaded,
    /// It answered with a status that says it is broken or misconfigured.
    #[error("the engine answered with status {0}")]
    EngineStatus(u16),
    /// It closed the connection or broke HTTP before its answer was complete.
    #[error("the engine's connection broke")]
    EngineBroke(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It sent something that must not be passed on.
    #[error("the engine's answer has {0}")]
    EngineAnswer(&'static str),
    /// It was silent for too long.
    #[error("the engine sent nothing for {limit:?} while {waiting_for} was awaited")]
    EngineStalled {
        /// What was awaited.
        waiting_for: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// It sent more stream events than the token limit allows.
    #[error("the engine went on after the token limit")]
    EngineIgnoresLimit,
    /// This node failed.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl EngineError {
    /// What the proxy is told.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let engine = |code, message| Failure::new(Blame::Engine, code, message);
        match self {
            Self::EngineUnreachable(_) => engine(FailureCode::EngineFailed, "the engine cannot be reached"),
            Self::EngineLoading => engine(FailureCode::EngineLoading, "the engine is loading its model")
                .with_retry_after_ms(LOADING_RETRY_MS),
            Self::EngineOverloaded => {
                engine(FailureCode::Overloaded, "the engine is at capacity").with_retry_after_ms(OVERLOADED_RETRY_MS)
            }
            Self::EngineStatus(_) => engine(FailureCode::EngineFailed, "the engine failed"),
            Self::EngineBroke(_) => engine(FailureCode::EngineFailed, "the engine broke off its answer"),
            Self::EngineAnswer(_) => engine(FailureCode::EngineFailed, "the engine's answer cannot be passed on"),
            Self::EngineStalled { .. } => engine(FailureCode::Timeout, "the engine sent nothing for too long"),
            Self::EngineIgnoresLimit => engine(FailureCode::LimitExceeded, "the engine went on after the token limit"),
            Self::Internal(_) => Failure::new(Blame::Worker, FailureCode::Internal, "the worker failed"),
        }
    }
}

/// Why a session with a proxy ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The connection ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A handshake query has no answer, or a message did not leave.
    #[error("the proxy cannot be asked or told")]
    Query(#[from] QueryError),
    /// The proxy sent bytes that are no message.
    #[error("proxy sent a malformed message")]
    PeerMessage(#[from] DecodeError),
    /// The proxy answered a query with the answer to another.
    #[error("proxy answered {0} with something else")]
    PeerAnswer(&'static str),
    /// Test and real networks do not mix.
    #[error("proxy is in test mode: {proxy}, this worker: {worker}")]
    PeerTestMode {
        /// The proxy's mode.
        proxy: bool,
        /// Ours.
        worker: bool,
    },
    /// The proxy names contracts that the root does not give.
    #[error(transparent)]
    PeerContract(#[from] ContractError),
    /// The proxy chose a version that was not offered.
    #[error("proxy chose protocol version {0}, which was not offered")]
    PeerVersion(i32),
    /// The proxy knows less than it told us before: its database was rolled back, and it must not serve.
    #[error("proxy was rolled back: it told {told} before and knows {known} now", told = .told.get(), known = .known.get())]
    PeerRolledBack {
        /// The most it told.
        told: AdjustedTokens,
        /// What it knows now.
        known: AdjustedTokens,
    },
    /// The proxy knows of fewer tokens than it signed a payment for: its database was rolled back, or its key is in use
    /// elsewhere. It must not serve.
    #[error("proxy has forgotten what it signed: it signed for {signed} and knows {known}", signed = .signed.get(), known = .known.get())]
    PeerForgotPayment {
        /// What its signature is for; it stays good.
        signed: AdjustedTokens,
        /// What it knows now.
        known: AdjustedTokens,
    },
    /// The proxy pays with what is no payment.
    #[error("proxy sent a payment that is not taken")]
    PeerPayment(#[from] PaymentError),
    /// What the proxy owes cannot be kept.
    #[error("earnings from the proxy cannot be kept")]
    Earnings(#[from] EarningsError),
    /// The proxy refuses this worker.
    #[error("proxy refuses the balance comparison with code {0}")]
    PeerRefused(i32),
    /// A second request with the id of one that runs.
    #[error("proxy reused the id of a running request")]
    PeerReusedRequestId,
    /// More messages before the end of the handshake than a proxy could mean.
    #[error("proxy sent too much before the handshake was complete")]
    PeerTooEarly,
    /// The worker shuts down.
    #[error("this worker shuts down")]
    Shutdown,
}

/// Why a worker or an engine cannot be made from its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The engine's URL cannot be used.
    #[error("engine url: {0}")]
    EngineUrl(&'static str),
    /// A name or address that does not fit the protocol.
    #[error("{field}: {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        problem: &'static str,
    },
}
