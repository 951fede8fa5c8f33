//! Signs of load, and how much work they ask for.
//!
//! Arrivals are counted by windows of [`ARRIVAL_WINDOW`]; the estimate is this window and the part of the last one that
//! is not over yet, so it falls to zero within two quiet windows. Sources are counted in a table of fixed size: each
//! counts in one cell of each row, and the lowest of its cells is its estimate (a count-min sketch). A source shares
//! cells with strangers, so its estimate may be too high under a flood from very many addresses, when everybody has to
//! work anyway, and is never too low.

use std::fmt;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use crate::admission::source::Source;
use crate::limits::{ARRIVAL_COLUMNS, ARRIVAL_ROWS, ARRIVAL_WINDOW};

/// From 0, nothing, to 1000, all that can be.
pub(crate) type Permille = u32;

/// How far a value is on its way from everyday to too much.
pub(crate) fn pressure(value: u32, idle: u32, full: u32) -> Permille {
    let above = u64::from(value.saturating_sub(idle)).saturating_mul(1000);
    let range = u64::from(full.saturating_sub(idle)).max(1);
    u32::try_from(above.checked_div(range).unwrap_or(0).min(1000)).unwrap_or(1000)
}

/// Bits of work for a pressure. Each bit doubles the work, so the price is exponential in the load.
pub(crate) fn bits_of(pressure: Permille, max: i32) -> i32 {
    let bits = i64::from(max).saturating_mul(i64::from(pressure)).checked_div(1000).unwrap_or(0);
    i32::try_from(bits).unwrap_or(max)
}

/// A moment in terms of windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// How many windows ended before it.
    pub(crate) index: u32,
    /// How much of its own window is still to come.
    left: Permille,
}

/// Arrivals by time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    index: u32,
    current: u32,
    previous: u32,
}

impl Meter {
    /// One arrival.
    pub(crate) fn add(&mut self, index: u32) {
        self.roll(index);
        self.current = self.current.saturating_add(1);
    }

    /// Arrivals within the last window's length, about.
    pub(crate) fn estimate(mut self, at: Window) -> u32 {
        self.roll(at.index);
        let left = u64::from(self.previous).saturating_mul(u64::from(at.left)).checked_div(1000).unwrap_or(0);
        self.current.saturating_add(u32::try_from(left).unwrap_or(u32::MAX))
    }

    fn roll(&mut self, index: u32) {
        match index.saturating_sub(self.index) {
            0 => return,
            1 => self.previous = self.current,
            _ => self.previous = 0,
        }
        (self.index, self.current) = (index, 0);
    }
}

/// Arrivals by source, in a table that never grows.
pub(crate) struct Arrivals {
    key: [u8; 32],
    epoch: Instant,
    rows: Box<[[Meter; ARRIVAL_COLUMNS]; ARRIVAL_ROWS]>,
}

impl Arrivals {
    /// No arrivals. `key` keeps strangers from choosing addresses that share cells with a victim's.
    pub(crate) fn new(key: [u8; 32], now: Instant) -> Self {
        Self { key, epoch: now, rows: Box::new([[Meter::default(); ARRIVAL_COLUMNS]; ARRIVAL_ROWS]) }
    }

    /// The window of a moment.
    pub(crate) fn window(&self, now: Instant) -> Window {
        let since = now.saturating_duration_since(self.epoch).as_millis();
        let length = ARRIVAL_WINDOW.as_millis().max(1);
        let (index, inside) = (since.checked_div(length), since.checked_rem(length));
        let index = index.and_then(|index| u32::try_from(index).ok()).unwrap_or(u32::MAX);
        let gone = inside.and_then(|inside| inside.saturating_mul(1000).checked_div(length)).unwrap_or(0);
        Window { index, left: 1000_u32.saturating_sub(u32::try_from(gone).unwrap_or(1000)) }
    }

    /// Counts an arrival; how many there were of this source lately, this one included.
    pub(crate) fn count(&mut self, now: Instant, source: Source) -> u32 {
        let window = self.window(now);
        let hash: [u8; 32] = Sha256::new_with_prefix(self.key).chain_update(source.to_bytes()).finalize().into();
        let mut least = u32::MAX;
        for (row, pair) in self.rows.iter_mut().zip(hash.as_chunks::<2>().0) {
            let column = usize::from(u16::from_le_bytes(*pair)).checked_rem(ARRIVAL_COLUMNS).unwrap_or(0);
            let Some(cell) = row.get_mut(column) else { continue };
            cell.add(window.index);
            least = least.min(cell.estimate(window));
        }
        least
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_grows_from_idle_to_full() {
        assert_eq!([0, 10, 11, 15, 20, u32::MAX].map(|value| pressure(value, 10, 20)), [0, 0, 100, 500, 1000, 1000]);
        // Even where there is nothing between the two.
        assert_eq!([0, 1].map(|value| pressure(value, 0, 0)), [0, 1000]);
        assert_eq!(pressure(u32::MAX, 0, u32::MAX), 1000);
    }

    #[test]
    fn bits_follow_pressure() {
        assert_eq!([0, 49, 50, 500, 1000].map(|pressure| bits_of(pressure, 20)), [0, 0, 1, 10, 20]);
        assert_eq!(bits_of(1000, 0), 0);
    }

    #[test]
    fn arrivals_fade_within_two_windows() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new([0; 32], start);
        let source = Source::V4(1);
        for expected in 1..=100 {
            assert_eq!(arrivals.count(start, source), expected);
        }
        let later = |share: f64| start + ARRIVAL_WINDOW.mul_f64(share);
        assert_eq!(arrivals.count(later(0.9), source), 101);
        assert_eq!(arrivals.count(later(1.5), source), 1 + 50);
        assert_eq!(arrivals.count(later(3.0), source), 1);
        // A clock that stands still or goes back counts on.
        assert_eq!(arrivals.count(later(2.0), source), 2);
    }
}
