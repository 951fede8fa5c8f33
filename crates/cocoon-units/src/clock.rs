//! Wall time, as a parameter. Only the binary reads the machine's clock.

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
