//! Whose collateral an appraisal goes by, and how old it may be.
//!
//! 1. Our own source is asked. Where there is none, or its service fails, what the peer stapled serves: it is signed by
//!    the vendor, though the peer chose the edition, and with it the revocation list.
//! 2. A source that is busy or late is neither. Strangers choose what is looked up, so they could bring that about and
//!    then staple the edition from before their revocation. It is a refusal, and another attempt may help.
//! 3. No edition may fall behind the highest TCB evaluation number that was proved for the platform's kind: our own not
//!    behind our own, a staple behind neither. A number that only a peer has shown never counts against our own source.
//!
//! Signatures and validity are not looked at here; the appraisal does that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cocoon_attest::{Check, Collateral, CollateralError, CollateralNeed, CollateralSource, Refusal};
use tokio::time::{Instant, timeout};

use crate::limits::{COLLATERAL_TIMEOUT, COLLATERAL_WARNED_MAX, COLLATERAL_WARNING_SPACING, TCB_FLOORS_MAX};

/// Where an appraisal's collateral comes from.
#[derive(Debug)]
pub(super) struct Supply {
    own: Arc<dyn CollateralSource>,
    /// Whether to ask peers for collateral: until our own source has given some, and after it failed.
    staple: AtomicBool,
    warnings: Mutex<Warnings>,
}

/// Who chose the edition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Our own source.
    Own,
    /// The peer.
    Staple,
}

impl Supply {
    pub(super) fn new(own: Arc<dyn CollateralSource>) -> Self {
        Self { own, staple: AtomicBool::new(true), warnings: Mutex::default() }
    }

    /// Whether to ask peers for collateral.
    pub(super) fn wants_staple(&self) -> bool {
        self.staple.load(Ordering::Relaxed)
    }

    /// Our own collateral, or the peer's where we can have none.
    pub(super) async fn find(
        &self,
        need: &CollateralNeed,
        staple: Option<Collateral>,
        now_unix_s: u64,
    ) -> Result<(Arc<Collateral>, Origin), Refusal> {
        let found = timeout(COLLATERAL_TIMEOUT, self.own.collateral(need, now_unix_s)).await;
        let found = found.map_err(|_| overloaded(format!("no answer within {COLLATERAL_TIMEOUT:?}")))?;
        let error = match found {
            Ok(collateral) => {
                self.staple.store(false, Ordering::Relaxed);
                return Ok((collateral, Origin::Own));
            }
            Err(
                error @ (CollateralError::NoSource
                | CollateralError::Service { .. }
                | CollateralError::Malformed { .. }),
            ) => error,
            // Also whatever a source may say one day.
            Err(error @ (CollateralError::Busy | _)) => return Err(overloaded(error.to_string())),
        };
        self.staple.store(true, Ordering::Relaxed);
        let Some(staple) = staple else {
            let remedy = "check the collateral service (`pccs`) that the configuration names";
            return Err(Refusal::new(Check::Collateral, "collateral for the platform", error.to_string(), remedy));
        };
        self.tell(&error);
        Ok((Arc::new(staple), Origin::Staple))
    }

    /// Tells the operator that staples are used. Strangers set this off, so they must not fill the log with it.
    fn tell(&self, error: &CollateralError) {
        // One insertion or assignment under the lock.
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if service(error).is_some_and(|service| warnings.take_turn(service, Instant::now())) {
            tracing::warn!(%error, "no collateral of our own; what peers staple is used");
        } else {
            tracing::debug!(%error, "no collateral of our own; what the peer stapled is used");
        }
    }
}

/// The service that failed. To have none configured is no failure.
fn service(error: &CollateralError) -> Option<&str> {
    match error {
        CollateralError::Service { service, .. } | CollateralError::Malformed { service, .. } => Some(service),
        CollateralError::NoSource | CollateralError::Busy | _ => None,
    }
}

fn overloaded(found: String) -> Refusal {
    Refusal::new(
        Check::Collateral,
        "collateral for the platform from our own source",
        found,
        "dial again later; if it stays so, check the collateral service (`pccs`) and who asks this node for lookups",
    )
}

/// When the operator was last told about a service.
#[derive(Debug, Default)]
struct Warnings(HashMap<String, Instant>);

impl Warnings {
    /// Whether it is time to warn about a service.
    fn take_turn(&mut self, service: &str, now: Instant) -> bool {
        let is_recent = |told: &Instant| now.saturating_duration_since(*told) < COLLATERAL_WARNING_SPACING;
        if self.0.get(service).is_some_and(is_recent) {
            return false;
        }
        self.0.retain(|_, told| is_recent(told));
        let has_room = self.0.len() < COLLATERAL_WARNED_MAX;
        if has_room {
            self.0.insert(service.to_owned(), now);
        }
        has_room
    }
}

/// The highest TCB evaluation numbers that were proved, by kind of platform.
#[derive(Debug, Default)]
pub(super) struct Floors(HashMap<CollateralNeed, Floor>);

#[derive(Debug, Default)]
struct Floor {
    own: u32,
    stapled: u32,
}

impl Floors {
    /// The lowest number that collateral of this origin may have.
    pub(super) fn of(&self, need: &CollateralNeed, origin: Origin) -> u32 {
        self.0.get(need).map_or(0, |floor| match origin {
            Origin::Own => floor.own,
            Origin::Staple => floor.own.max(floor.stapled),
        })
    }

    /// Notes a number that an accepted appraisal proved.
    pub(super) fn raise(&mut self, need: CollateralNeed, origin: Origin, number: u32) {
        if self.0.len() >= TCB_FLOORS_MAX && !self.0.contains_key(&need) {
            return;
        }
        let floor = self.0.entry(need).or_default();
        let floor = match origin {
            Origin::Own => &mut floor.own,
            Origin::Staple => &mut floor.stapled,
        };
        *floor = number.max(*floor);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn strangers_that_set_off_warnings_do_not_fill_the_log() {
        let (mut warnings, began) = (Warnings::default(), Instant::now());
        let told = |warnings: &mut Warnings, service: &str, after: Duration| warnings.take_turn(service, began + after);
        let nearly = COLLATERAL_WARNING_SPACING - Duration::from_millis(1);
        assert!(told(&mut warnings, "a", Duration::ZERO));
        assert!(!told(&mut warnings, "a", nearly));
        assert!(told(&mut warnings, "b", nearly), "another service is other news");
        assert!(told(&mut warnings, "a", COLLATERAL_WARNING_SPACING));
        let many = (0..10 * COLLATERAL_WARNED_MAX).filter(|name| {
            let name = name.to_string();
            told(&mut warnings, &name, 2 * COLLATERAL_WARNING_SPACING)
        });
        assert_eq!(many.count(), COLLATERAL_WARNED_MAX);
    }

    #[test]
    fn a_source_that_is_not_configured_is_no_news() {
        assert_eq!(service(&CollateralError::NoSource), None);
        let down = CollateralError::Service { service: "pccs".to_owned(), why: String::new() };
        assert_eq!(service(&down), Some("pccs"));
    }
}
