//! What a request must pay at least, as its proxy was told.
//!
//! Announcements and requests cross, so for [`PRICE_GRACE`] after a raise the price before still pays.
//! Only the session's task asks, with its clock.

use cocoon_units::Coefficient;
use tokio::time::Instant;

use crate::limits::PRICE_GRACE;

/// The price of one session.
#[derive(Debug)]
pub(super) struct Price {
    told: Coefficient,
    /// A lower price that still pays, and until when.
    before: Option<(Coefficient, Instant)>,
}

impl Price {
    pub(super) fn new(told: Coefficient) -> Self {
        Self { told, before: None }
    }

    /// The proxy has just been told another price.
    pub(super) fn change(&mut self, coefficient: Coefficient, now: Instant) {
        let lowest = self.lowest(now);
        self.before = (lowest < coefficient).then(|| (lowest, now + PRICE_GRACE));
        self.told = coefficient;
    }

    /// Whether a request at this price is run.
    pub(super) fn pays(&self, coefficient: Coefficient, now: Instant) -> bool {
        coefficient >= self.lowest(now)
    }

    fn lowest(&self, now: Instant) -> Coefficient {
        self.before.filter(|(_, until)| now < *until).map_or(self.told, |(before, _)| before.min(self.told))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn price(thousandths: u32) -> Coefficient {
        Coefficient::from_thousandths(thousandths)
    }

    #[test]
    fn a_raise_is_binding_after_its_grace_and_a_cut_at_once() {
        let start = Instant::now();
        let mut asked = Price::new(price(1000));
        assert!(asked.pays(price(1000), start) && asked.pays(price(1001), start) && !asked.pays(price(999), start));
        asked.change(price(2000), start);
        let late = start + PRICE_GRACE;
        let just_before = late.checked_sub(Duration::from_millis(1)).unwrap();
        assert!(asked.pays(price(1000), just_before) && !asked.pays(price(999), just_before));
        assert!(!asked.pays(price(1999), late) && asked.pays(price(2000), late));
        asked.change(price(500), late);
        assert!(asked.pays(price(500), late) && !asked.pays(price(499), late));
    }

    #[test]
    fn two_raises_in_a_row_keep_the_first_price_for_a_grace_only() {
        let start = Instant::now();
        let mut asked = Price::new(price(1000));
        asked.change(price(1500), start);
        asked.change(price(2000), start);
        assert!(asked.pays(price(1000), start) && !asked.pays(price(1999), start + PRICE_GRACE));
    }
}
