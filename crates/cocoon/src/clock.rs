//! Wall time for the roles: the only place that reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use cocoon_units::{Clock, UnixTime};

/// The machine's own clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn unix_now(&self) -> UnixTime {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is a broken clock; zero keeps durations non-negative.
        UnixTime::from_secs_f64(since.map_or(0.0, |elapsed| elapsed.as_secs_f64()))
    }
}
