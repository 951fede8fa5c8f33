//! What time a platform takes it to be.

use std::fmt;
use std::sync::Arc;

use cocoon_units::{Clock, FixedClock, UnixTime};

/// The clock that a platform issues collateral by: one second for ever (`now.into()`), or a clock that runs.
#[derive(Clone)]
pub struct SimClock(Arc<dyn Clock>);

impl SimClock {
    /// The time, in whole seconds since the Unix epoch.
    pub(crate) fn unix_s(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, and a clock before 1970 or after year 10^11 is no clock"
        )]
        let seconds = self.0.unix_now().as_secs_f64() as u64;
        seconds
    }
}

impl fmt::Debug for SimClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimClock({})", self.unix_s())
    }
}

impl From<u64> for SimClock {
    fn from(unix_s: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "dates are far below 2^53 seconds")]
        let seconds = unix_s as f64;
        Self(Arc::new(FixedClock::at(UnixTime::from_secs_f64(seconds))))
    }
}

impl From<Arc<dyn Clock>> for SimClock {
    fn from(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }
}

impl<C: Clock + 'static> From<Arc<C>> for SimClock {
    fn from(clock: Arc<C>) -> Self {
        Self(clock)
    }
}
