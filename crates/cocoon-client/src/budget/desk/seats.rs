//! Which proxies get a deposit: as many as the owner allows, those that have one first.
//!
//! A seat is for one proxy. It is lost once that proxy had no session for [`DESK_SEAT_LOST`], so that service goes on with
//! another; the money stays where it is and serves again should the proxy come back. However often proxies come and go, no
//! more than [`DESK_SPREAD_MAX`] times as many contracts as seats hold money at once.
//! Pure: `now` is a parameter.

use std::collections::BTreeMap;

use cocoon_ton::Address;
use tokio::time::Instant;

use crate::limits::{DESK_SEAT_LOST, DESK_SPREAD_MAX};

/// The seats, by the contract with the proxy that has each.
#[derive(Debug)]
pub(super) struct Seats {
    max: usize,
    taken: BTreeMap<Address, Instant>,
}

/// Why a proxy got no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSeat {
    /// All are taken.
    #[error("{seats} other proxies are funded, which is all that `max_funded_proxies` allows")]
    Taken {
        /// How many there are.
        seats: usize,
    },
    /// Money lies in too many contracts of proxies that went away.
    #[error(
        "{funded} contracts hold money already, of proxies that went away: close some with `cocoon client close` before another is funded"
    )]
    Spread {
        /// How many.
        funded: usize,
    },
}

impl Seats {
    pub(super) const fn new(max: usize) -> Self {
        Self { max, taken: BTreeMap::new() }
    }

    /// Gives a seat to the proxy of `contract`, which wants it now. `funded` counts other contracts with money in them.
    pub(super) fn take(
        &mut self,
        contract: Address,
        is_funded: bool,
        funded: usize,
        now: Instant,
    ) -> Result<(), NoSeat> {
        self.taken.retain(|_, seen| now.saturating_duration_since(*seen) < DESK_SEAT_LOST);
        let is_seated = self.taken.contains_key(&contract);
        if !is_seated && !is_funded {
            if self.taken.len() >= self.max {
                return Err(NoSeat::Taken { seats: self.taken.len() });
            }
            if funded >= self.max.saturating_mul(DESK_SPREAD_MAX) {
                return Err(NoSeat::Spread { funded });
            }
        }
        self.taken.insert(contract, now);
        Ok(())
    }

    /// It has money, or a session with it goes on.
    pub(super) fn seat(&mut self, contract: Address, now: Instant) {
        self.taken.insert(contract, now);
    }

    /// Its contract ends.
    pub(super) fn leave(&mut self, contract: &Address) {
        self.taken.remove(contract);
    }

    #[cfg(test)]
    fn has(&self, contract: &Address) -> bool {
        self.taken.contains_key(contract)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn contract(byte: u8) -> Address {
        Address::basechain([byte; 32])
    }

    #[test]
    fn no_more_proxies_are_funded_than_allowed() {
        let (mut seats, now) = (Seats::new(2), Instant::now());
        seats.take(contract(1), false, 0, now).unwrap();
        seats.take(contract(2), false, 1, now).unwrap();
        assert_eq!(seats.take(contract(3), false, 2, now), Err(NoSeat::Taken { seats: 2 }));
        seats.take(contract(3), true, 2, now).unwrap();
        assert!(seats.has(&contract(3)), "one that has money is used");
        seats.leave(&contract(1));
        seats.leave(&contract(3));
        seats.take(contract(4), false, 3, now).unwrap();
    }

    #[test]
    fn proxies_that_come_and_go_do_not_lock_up_more_and_more() {
        let (mut seats, start) = (Seats::new(1), Instant::now());
        seats.take(contract(1), false, 0, start).unwrap();
        let later = start + DESK_SEAT_LOST;
        seats.take(contract(2), false, 1, later).unwrap();
        let again = later + DESK_SEAT_LOST;
        assert_eq!(seats.take(contract(3), false, 2, again), Err(NoSeat::Spread { funded: 2 }));
    }

    #[test]
    fn a_session_keeps_the_seat() {
        let (mut seats, start) = (Seats::new(1), Instant::now());
        seats.take(contract(1), false, 0, start).unwrap();
        seats.seat(contract(1), start + DESK_SEAT_LOST / 2);
        let later = start + DESK_SEAT_LOST;
        assert_eq!(seats.take(contract(2), false, 0, later), Err(NoSeat::Taken { seats: 1 }));
    }
}
