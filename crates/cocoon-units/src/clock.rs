//! Wall time, as a parameter. Only the binary reads the machine's clock.

use std::time::Duration;

/// Seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct UnixTime(f64);

impl UnixTime {
    /// From seconds.
    #[must_use]
    pub const fn from_secs_f64(seconds: f64) -> Self {
        Self(seconds)
    }

    /// In seconds.
    #[must_use]
    pub const fn as_secs_f64(self) -> f64 {
        self.0
    }

    /// In whole seconds; a time before the epoch, or none at all, is the epoch.
    #[must_use]
    pub fn as_secs(self) -> u64 {
        self.since_epoch().as_secs()
    }

    /// In whole milliseconds; a time before the epoch, or none at all, is the epoch.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.since_epoch().as_millis()).unwrap_or(u64::MAX)
    }

    fn since_epoch(self) -> Duration {
        Duration::try_from_secs_f64(self.0).unwrap_or_default()
    }
}

/// Wall time for timestamps on the wire; never for deadlines, which are monotonic.
pub trait Clock: Send + Sync {
    /// The time now.
    fn unix_now(&self) -> UnixTime;
}

/// A clock that stands still, for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedClock(UnixTime);

impl FixedClock {
    /// A clock that always says `time`.
    #[must_use]
    pub const fn at(time: UnixTime) -> Self {
        Self(time)
    }
}

impl Clock for FixedClock {
    fn unix_now(&self) -> UnixTime {
        self.0
    }
}
