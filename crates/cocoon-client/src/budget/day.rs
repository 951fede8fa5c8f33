//! UTC days, by a clock that other people set.
//!
//! The books keep the latest day that they ever saw, and never go back behind it: a clock that is put back does not give
//! a day's budget twice.

use serde::{Deserialize, Serialize};

const SECONDS: u64 = 86_400;

/// Days since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Day(u64);

impl Day {
    pub(super) const fn of(unix_s: u64) -> Self {
        Self(unix_s / SECONDS)
    }

    /// Some days earlier.
    pub(super) const fn before(self, days: u64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How long it lasts from now on; a clock that was put back makes it longer.
    pub(super) const fn left_s(self, now_s: u64) -> u64 {
        self.next().0.saturating_mul(SECONDS).saturating_sub(now_s)
    }

    /// `2026-11-23`.
    pub(crate) fn date(self) -> String {
        let (year, month, day) = self.civil();
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// Howard Hinnant's `civil_from_days`: the year begins in March, so that a leap day is its last.
    const fn civil(self) -> (u64, u64, u64) {
        let days = self.0.saturating_add(719_468);
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
        (year, month, of_year - (153 * shifted + 2) / 5 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (unix_s, date) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_335_274, "2026-11-22"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(Day::of(unix_s).date(), date, "{unix_s}");
        }
        assert_eq!(Day::of(10).left_s(10), 86_390);
    }
}
