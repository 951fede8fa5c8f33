//! What the failure of an attempt means: for the request, whether another proxy may be asked; for the proxy, whether it
//! was its fault.
//!
//! | failure, before a head came | another proxy | counts against the proxy |
//! |---|---|---|
//! | the connection was lost, or gives no sign of life | yes | once for the session, whatever was in flight |
//! | it shuts down | yes | yes, and one is enough |
//! | it failed inside, or refuses this client | yes | yes |
//! | no worker, no room, workers busy, loading, above the cap; our account there is used up | yes | no |
//! | a worker was lost or broke the protocol | yes | no |
//! | the engine failed | no: the same request may break the next one too | no |
//! | the app's own: malformed, too large, over a limit, cancelled, too slow; the time is up | no | no |
//!
//! Once a head came, nothing is tried again, whatever happens.

use cocoon_wire::failure::{Blame, Failure, FailureCode};

use super::breaker::Fault;
use crate::error::RequestError;

/// What kind of failure; also the word for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setback {
    /// By the proxy's or its link's fault.
    Proxy(Fault),
    /// All its workers are busy, or it has no room; it may have soon.
    Overloaded,
    /// It has no worker that serves this, or not at this price.
    NoWorker,
    /// Our account there is used up, ending, or at its limit.
    Account,
    /// A worker behind it was lost.
    Worker,
    /// Nothing that another proxy could do better.
    Final {
        /// Whether it was somebody's of the network, and not the app's.
        is_networks: bool,
    },
}

impl Setback {
    pub(crate) fn of(error: &RequestError) -> Self {
        if let RequestError::Failed(failure) = error {
            return Self::of_failure(failure);
        }
        if matches!(error, RequestError::ProxyLost) {
            return Self::Proxy(Fault::Lost);
        }
        if matches!(error, RequestError::Busy) {
            return Self::Overloaded;
        }
        if matches!(error, RequestError::ProxyRefused(_) | RequestError::TooManyOpen) {
            return Self::Account;
        }
        // Bytes of an answer that make no sense: the session counts that, if it was the proxy's own fault.
        Self::Final { is_networks: matches!(error, RequestError::BadAnswer) }
    }

    fn of_failure(failure: &Failure) -> Self {
        match failure.code {
            FailureCode::Draining => Self::Proxy(Fault::Draining),
            FailureCode::Unauthorized => Self::Proxy(Fault::Refused),
            FailureCode::Overloaded => Self::Overloaded,
            FailureCode::NoWorker
            | FailureCode::NoWorkerUnderPrice
            | FailureCode::ModelNotFound
            | FailureCode::EngineLoading => Self::NoWorker,
            FailureCode::LimitExceeded => Self::Account,
            FailureCode::WorkerLost => Self::Worker,
            FailureCode::ProtocolViolation | FailureCode::Internal => match failure.blame {
                Blame::Proxy => Self::Proxy(Fault::Failed),
                Blame::Worker | Blame::Chain => Self::Worker,
                Blame::Client => Self::Final { is_networks: false },
                Blame::Engine => Self::Final { is_networks: true },
            },
            FailureCode::EngineFailed => Self::Final { is_networks: true },
            FailureCode::BadRequest
            | FailureCode::TooLarge
            | FailureCode::Unprocessable
            | FailureCode::Timeout
            | FailureCode::Cancelled
            | FailureCode::SlowReader => Self::Final { is_networks: false },
        }
    }

    /// Whether another proxy may do better.
    pub(crate) const fn may_move(self) -> bool {
        !matches!(self, Self::Final { .. })
    }

    /// Whether it says something about how good the proxy is. Not of what it cannot help: an account, a cap.
    pub(crate) const fn is_failure(self) -> bool {
        match self {
            Self::Proxy(_) | Self::Worker | Self::Final { is_networks: true } => true,
            Self::Overloaded | Self::NoWorker | Self::Account | Self::Final { is_networks: false } => false,
        }
    }

    /// The word for metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Proxy(fault) => fault.word(),
            Self::Overloaded => "overloaded",
            Self::NoWorker => "no_worker",
            Self::Account => "account",
            Self::Worker => "worker_lost",
            Self::Final { .. } => "final",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_did_is_never_tried_again_nor_held_against_a_proxy() {
        for code in [FailureCode::BadRequest, FailureCode::TooLarge, FailureCode::Unprocessable, FailureCode::Cancelled]
        {
            for blame in [Blame::Client, Blame::Proxy, Blame::Worker, Blame::Engine] {
                let setback = Setback::of(&RequestError::Failed(Failure::new(blame, code, "")));
                assert_eq!(setback, Setback::Final { is_networks: false }, "{blame:?} {code:?}");
            }
        }
        let internal = |blame| Setback::of(&RequestError::Failed(Failure::new(blame, FailureCode::Internal, "")));
        assert!(!internal(Blame::Client).may_move() && !internal(Blame::Client).is_failure());
        assert_eq!(internal(Blame::Proxy), Setback::Proxy(Fault::Failed));
        let own = [RequestError::TooDear, RequestError::Late, RequestError::TooLargeForProxy, RequestError::AppTooSlow];
        for own in own {
            assert!(!Setback::of(&own).may_move(), "{own}");
        }
    }

    #[test]
    fn a_request_that_breaks_engines_is_not_carried_from_one_to_the_next() {
        let failed = RequestError::Failed(Failure::new(Blame::Engine, FailureCode::EngineFailed, ""));
        assert!(!Setback::of(&failed).may_move());
        assert!(Setback::of(&failed).is_failure());
    }

    #[test]
    fn what_never_ran_may_run_elsewhere() {
        for code in [
            FailureCode::Draining,
            FailureCode::Overloaded,
            FailureCode::NoWorker,
            FailureCode::NoWorkerUnderPrice,
            FailureCode::EngineLoading,
            FailureCode::WorkerLost,
        ] {
            assert!(Setback::of(&RequestError::Failed(Failure::new(Blame::Proxy, code, ""))).may_move(), "{code:?}");
        }
        assert!(Setback::of(&RequestError::ProxyLost).may_move());
        assert!(Setback::of(&RequestError::Busy).may_move());
    }
}
