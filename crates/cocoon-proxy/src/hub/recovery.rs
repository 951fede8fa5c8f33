//! The first seconds after a crash, in which workers bring back what it lost.
//!
//! Until they are over nothing new is admitted: a client that filled its credit with new requests first would leave
//! nothing for those that it owes already. Nobody leaves with a refund, and questions about requests that nobody knows
//! wait.
//!
//! 1. They begin with the proxy, if its books are of an earlier run that did not end with a drain. One that did has
//!    settled everything, and says so by a note, which the next start takes away before it serves.
//! 2. They last as long as the operator says, and longer while a worker that came within that time hands over, to a
//!    bound: a worker that dawdles must not keep everybody's requests out.
//!
//! A worker that comes later is paid too, out of what its client's credit still holds then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cocoon_ledger::Ledger;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Hub;
use crate::limits::{RECOVERY_LOOK, RECOVERY_MAX};
use crate::money::ProxyError;

/// The ledger's note that the last run ended with a drain, after its last request.
const DRAINED_NOTE: &str = "drained";

/// The recovery of one run.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// When it is looked at next whether it is over; none once it is.
    until: Option<Instant>,
    /// It is over by then, whatever runs.
    latest: Instant,
    handovers: Handovers,
}

/// Counts the workers that are handing over. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handovers(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct HandingOver(Arc<AtomicUsize>);

impl Recovery {
    /// That of a run which begins now with these books.
    pub(crate) fn new(ledger: &Ledger, lasts: Duration, now: Instant) -> Self {
        let has_books = ledger.payers().next().is_some() || ledger.payees().next().is_some();
        let is_due = has_books && ledger.note(DRAINED_NOTE).is_none() && lasts > Duration::ZERO;
        let lasts = lasts.min(RECOVERY_MAX);
        if is_due {
            info!(?lasts, "workers may hand over what the last run lost; new requests wait for that");
        }
        Self { until: is_due.then(|| now + lasts), latest: now + RECOVERY_MAX, handovers: Handovers::default() }
    }

    /// What sessions count handovers with.
    pub(crate) fn handovers(&self) -> Handovers {
        self.handovers.clone()
    }

    /// When it is looked at next whether it is over.
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it is not over.
    pub(super) const fn is_running(&self) -> bool {
        self.until.is_some()
    }

    /// Ends it when its time is over.
    fn look(&mut self, now: Instant) {
        if self.until.is_none_or(|until| now < until) {
            return;
        }
        let goes_on = self.handovers.any() && now < self.latest;
        self.until = goes_on.then(|| self.latest.min(now + RECOVERY_LOOK));
    }
}

impl Handovers {
    /// A worker begins to hand over.
    pub(crate) fn begin(&self) -> HandingOver {
        self.0.fetch_add(1, Ordering::Relaxed);
        HandingOver(Arc::clone(&self.0))
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for HandingOver {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// The last run's note is taken away for good before anything is served: what is lost from now on must be missed.
    pub(super) async fn begin_recovery(&mut self) -> Result<(), ProxyError> {
        if self.core.ledger().note(DRAINED_NOTE).is_some() {
            self.set_note(DRAINED_NOTE, None);
            self.flush().await?;
        }
        self.look_at_recovery();
        Ok(())
    }

    /// Tells the core whether anything new may begin.
    pub(super) fn look_at_recovery(&mut self) {
        let Some(money) = &mut self.money else { return };
        money.recovery.look(Instant::now());
        self.core.set_recovering(money.recovery.is_running());
    }

    /// Whether workers are still given time to hand over.
    pub(super) fn is_recovering(&self) -> bool {
        self.money.as_ref().is_some_and(|money| money.recovery.is_running())
    }

    /// When [`Hub::look_at_recovery`] is due.
    pub(super) fn recovery_look(&self) -> Option<Instant> {
        self.money.as_ref().and_then(|money| money.recovery.until())
    }

    /// Notes that nothing is lost, if that is so, as the last entry: it is on disk only if all before it is.
    pub(super) fn end_run(&mut self) {
        let requests = self.core.tally().requests;
        if requests > 0 {
            warn!(requests, "the proxy ends with requests in flight");
        } else if self.money.is_some() && !self.is_recovering() {
            self.set_note(DRAINED_NOTE, Some(Bytes::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ledger::Credit;

    use super::*;

    const LASTS: Duration = Duration::from_secs(5);

    fn books() -> Ledger {
        let mut ledger = Ledger::new();
        ledger.open_payer("client", Credit::default()).unwrap();
        ledger
    }

    #[test]
    fn it_is_needed_after_a_crash_only() {
        let (now, mut books) = (Instant::now(), books());
        assert!(!Recovery::new(&Ledger::new(), LASTS, now).is_running(), "nothing was there to lose");
        assert!(Recovery::new(&books, LASTS, now).is_running());
        assert!(!Recovery::new(&books, Duration::ZERO, now).is_running());
        books.set_note(DRAINED_NOTE, Some(Bytes::new())).unwrap();
        assert!(!Recovery::new(&books, LASTS, now).is_running());
    }

    #[test]
    fn a_handover_that_dawdles_keeps_requests_out_for_a_bounded_time() {
        let now = Instant::now();
        let mut recovery = Recovery::new(&books(), LASTS, now);
        let handing_over = recovery.handovers().begin();
        let mut is_running_at = |after| {
            recovery.look(now + after);
            recovery.is_running()
        };
        assert!(is_running_at(LASTS) && is_running_at(LASTS + RECOVERY_LOOK));
        assert!(!is_running_at(RECOVERY_MAX));
        drop(handing_over);
        let mut recovery = Recovery::new(&books(), LASTS, now);
        let handing_over = recovery.handovers().begin();
        recovery.look(now + LASTS);
        drop(handing_over);
        assert!(recovery.is_running());
        recovery.look(now + LASTS + RECOVERY_LOOK);
        assert!(!recovery.is_running(), "it ends with the handover");
        let _late = recovery.handovers().begin();
        recovery.look(now + 2 * LASTS);
        assert!(!recovery.is_running(), "and does not begin again");
    }

    #[test]
    fn an_operators_time_is_bounded() {
        let recovery = Recovery::new(&books(), Duration::MAX, Instant::now());
        assert_eq!(recovery.until(), Some(recovery.latest));
    }
}
