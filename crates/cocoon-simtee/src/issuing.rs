//! From when to when issued collateral holds.

use crate::faults::Faults;
use crate::limits::{COLLATERAL_PERIOD_S, COLLATERAL_VALIDITY_S};

/// Dates in collateral, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// When the platform was made: the date of its patch level.
    pub(crate) made_unix_s: u64,
    /// Issue date and `thisUpdate`.
    pub(crate) issued_unix_s: u64,
    /// `nextUpdate`.
    pub(crate) ends_unix_s: u64,
}

impl Window {
    pub(crate) fn at(now_unix_s: u64, made_unix_s: u64, faults: &Faults) -> Self {
        let now = now_unix_s.saturating_add_signed(faults.clock_offset_s);
        let age = if faults.collateral_expired { COLLATERAL_VALIDITY_S.saturating_mul(2) } else { 0 };
        let period_start = now - now % COLLATERAL_PERIOD_S;
        let issued_unix_s = period_start.saturating_sub(age);
        Self { made_unix_s, issued_unix_s, ends_unix_s: issued_unix_s.saturating_add(COLLATERAL_VALIDITY_S) }
    }
}
