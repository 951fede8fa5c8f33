//! The ledger itself: the only place where a balance changes.

use cocoon_units::AdjustedTokens;
use thiserror::Error;

use crate::account::{Accounts, PayeeId, Payer, PayerId};
use crate::limits::STAKE_MAX;
use crate::reservation::{Overcharge, Reservation, Settled};

/// Accounts of payers and payees, and the open reservations between them.
#[derive(Debug, Default)]
pub struct Ledger {
    payers: Accounts<Payer>,
    payees: Accounts<AdjustedTokens>,
    totals: Totals,
}

/// Sums over the ledger's life. Invariant: `reserved = charged + released + open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Every reservation that was made.
    pub reserved: u128,
    /// What was charged, and equally what was earned.
    pub charged: u128,
    /// What was given back: unused parts of settled reservations, and released ones.
    pub released: u128,
    /// What is reserved now.
    pub open: u128,
    /// How many reservations are open now.
    pub reservations: u64,
}

/// A payer's account at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The most that may be used and not yet paid.
    pub stake: AdjustedTokens,
    /// Charged and not yet paid.
    pub used: AdjustedTokens,
    /// Reserved by requests in flight.
    pub reserved: AdjustedTokens,
}

/// Why a reservation or an account was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// The payer's fault: the request can cost more than the whole stake, so it can never run.
    #[error("the request can cost {needed}, the whole stake is {stake}")]
    PayerStakeTooSmall {
        /// What the request can cost at most.
        needed: AdjustedTokens,
        /// What the payer staked.
        stake: AdjustedTokens,
    },
    /// The payer's fault: the stake has been used up and must be paid first.
    #[error("the request can cost {needed}, {free} of the stake are free until earlier use is paid")]
    PayerStakeUsed {
        /// What the request can cost at most.
        needed: AdjustedTokens,
        /// What is free now.
        free: AdjustedTokens,
    },
    /// Nobody's fault: other requests of the payer hold the rest of the stake; it will be free again.
    #[error("the request can cost {needed}, {free} of the stake are free while other requests run")]
    PayerStakeReserved {
        /// What the request can cost at most.
        needed: AdjustedTokens,
        /// What is free now.
        free: AdjustedTokens,
    },
    /// The ledger's own bound, or a name that is not one.
    #[error("no account can be opened: too many accounts or too long a name")]
    AccountsFull,
}

impl Ledger {
    /// A ledger without accounts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds the payer of this name or opens an account with this stake.
    /// A stake above [`STAKE_MAX`] is cut to it; that of an account that exists is left as it is.
    ///
    /// # Errors
    ///
    /// [`Rejection::AccountsFull`].
    pub fn open_payer(&mut self, name: &str, stake: AdjustedTokens) -> Result<PayerId, Rejection> {
        let stake = stake.min(AdjustedTokens::new(STAKE_MAX));
        let new = || Payer { stake, ..Payer::default() };
        self.payers.open(name, new).map(PayerId).ok_or(Rejection::AccountsFull)
    }

    /// Finds the payee of this name or opens an account.
    ///
    /// # Errors
    ///
    /// [`Rejection::AccountsFull`].
    pub fn open_payee(&mut self, name: &str) -> Result<PayeeId, Rejection> {
        self.payees.open(name, || AdjustedTokens::ZERO).map(PayeeId).ok_or(Rejection::AccountsFull)
    }

    /// The payee of this name, if it has an account.
    #[must_use]
    pub fn find_payee(&self, name: &str) -> Option<PayeeId> {
        self.payees.find(name).map(PayeeId)
    }

    /// Sets `tokens` of the payer's stake aside.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] that says whether waiting, paying or nothing would help.
    pub fn reserve(&mut self, payer: PayerId, tokens: AdjustedTokens) -> Result<Reservation, Rejection> {
        let account = self.payers.get_mut(payer.0);
        account.assert_sound();
        let free = account.free();
        if tokens > free {
            return Err(reject(account, tokens, free));
        }
        account.reserved = account.reserved.checked_add(tokens).expect("below the stake");
        account.open += 1;
        account.assert_sound();
        self.totals.reserved += u128::from(tokens.get());
        self.totals.open += u128::from(tokens.get());
        self.totals.reservations += 1;
        self.totals.assert_conserved();
        Ok(Reservation { payer, tokens })
    }

    /// Charges the payer what was used, never above the reservation, and credits the payee with it.
    pub fn settle(&mut self, reservation: Reservation, payee: PayeeId, used: AdjustedTokens) -> Settled {
        let reserved = reservation.tokens;
        let charged = used.min(reserved);
        self.close(reservation, charged);
        let earned = self.payees.get_mut(payee.0);
        *earned = earned.checked_add(charged).expect("the stakes of all payers together fit 64 bits");
        let clamped = (used > reserved).then_some(Overcharge { reported: used, reserved });
        Settled { charged, clamped }
    }

    /// Gives the whole reservation back: nothing is charged.
    pub fn release(&mut self, reservation: Reservation) {
        self.close(reservation, AdjustedTokens::ZERO);
    }

    /// The payer's account now.
    #[must_use]
    pub fn balance(&self, payer: PayerId) -> Balance {
        let Payer { stake, used, reserved, .. } = *self.payers.get(payer.0);
        Balance { stake, used, reserved }
    }

    /// What the payee has earned since the ledger was made.
    #[must_use]
    pub fn earned(&self, payee: PayeeId) -> AdjustedTokens {
        *self.payees.get(payee.0)
    }

    /// Sums over all accounts.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// How many payers have an account.
    #[must_use]
    pub fn payers(&self) -> usize {
        self.payers.len()
    }

    /// Checks every account against the totals: the expensive form of what each change asserts.
    pub fn assert_conserved(&self) {
        let mut used = 0u128;
        let mut reserved = 0u128;
        for payer in self.payers.iter() {
            payer.assert_sound();
            used += u128::from(payer.used.get());
            reserved += u128::from(payer.reserved.get());
        }
        let earned: u128 = self.payees.iter().map(|earned| u128::from(earned.get())).sum();
        assert!(used == self.totals.charged, "payers were charged what the totals say");
        assert!(earned == self.totals.charged, "payees earned what payers were charged");
        assert!(reserved == self.totals.open, "open reservations are what the totals say");
        self.totals.assert_conserved();
    }

    fn close(&mut self, reservation: Reservation, charged: AdjustedTokens) {
        let Reservation { payer, tokens } = reservation;
        assert!(charged <= tokens, "a charge above its reservation");
        let account = self.payers.get_mut(payer.0);
        account.assert_sound();
        account.reserved = account.reserved.checked_sub(tokens).expect("the reservation was made here");
        account.used = account.used.checked_add(charged).expect("below the stake");
        account.open -= 1;
        account.assert_sound();
        self.totals.open -= u128::from(tokens.get());
        self.totals.charged += u128::from(charged.get());
        self.totals.released += u128::from(tokens.get()) - u128::from(charged.get());
        self.totals.reservations -= 1;
        self.totals.assert_conserved();
    }
}

impl Totals {
    fn assert_conserved(&self) {
        assert!(self.reserved == self.charged + self.released + self.open, "tokens appeared or vanished in the ledger");
    }
}

fn reject(account: &Payer, needed: AdjustedTokens, free: AdjustedTokens) -> Rejection {
    let unused = account.stake.checked_sub(account.used).expect("used never exceeds the stake");
    if needed > account.stake {
        Rejection::PayerStakeTooSmall { needed, stake: account.stake }
    } else if needed > unused {
        Rejection::PayerStakeUsed { needed, free }
    } else {
        Rejection::PayerStakeReserved { needed, free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{ACCOUNTS_MAX, NAME_BYTES_MAX};

    fn tokens(count: u64) -> AdjustedTokens {
        AdjustedTokens::new(count)
    }

    #[test]
    fn usage_above_the_reservation_is_clamped_and_told() {
        let mut ledger = Ledger::new();
        let payer = ledger.open_payer("payer", tokens(100)).unwrap();
        let payee = ledger.open_payee("payee").unwrap();
        let reservation = ledger.reserve(payer, tokens(60)).unwrap();
        let settled = ledger.settle(reservation, payee, tokens(61));
        assert_eq!(settled.charged, tokens(60));
        assert_eq!(settled.clamped, Some(Overcharge { reported: tokens(61), reserved: tokens(60) }));
        assert_eq!(ledger.earned(payee), tokens(60));
        assert_eq!(ledger.balance(payer).used, tokens(60));
        ledger.assert_conserved();
    }

    #[test]
    fn a_rejection_says_what_would_help() {
        let mut ledger = Ledger::new();
        let payer = ledger.open_payer("payer", tokens(100)).unwrap();
        let payee = ledger.open_payee("payee").unwrap();
        let check = |ledger: &mut Ledger, needed: u64, expected: Rejection| {
            assert_eq!(ledger.reserve(payer, tokens(needed)).unwrap_err(), expected);
        };
        let (needed, free) = (tokens(101), tokens(100));
        check(&mut ledger, 101, Rejection::PayerStakeTooSmall { needed, stake: free });
        let reservation = ledger.reserve(payer, tokens(60)).unwrap();
        let (needed, free) = (tokens(41), tokens(40));
        check(&mut ledger, 41, Rejection::PayerStakeReserved { needed, free });
        let _ = ledger.settle(reservation, payee, tokens(60));
        check(&mut ledger, 41, Rejection::PayerStakeUsed { needed, free });
    }

    #[test]
    fn a_name_keeps_its_account_and_stake() {
        let mut ledger = Ledger::new();
        let first = ledger.open_payer("a", tokens(10)).unwrap();
        assert_eq!(ledger.open_payer("a", tokens(99)), Ok(first));
        assert_eq!(ledger.balance(first).stake, tokens(10));
    }

    #[test]
    fn earnings_of_boundless_stakes_do_not_overflow() {
        let mut ledger = Ledger::new();
        let payee = ledger.open_payee("payee").unwrap();
        for name in ["one", "two"] {
            let payer = ledger.open_payer(name, tokens(u64::MAX)).unwrap();
            let all = ledger.balance(payer).stake;
            let reservation = ledger.reserve(payer, all).unwrap();
            let _ = ledger.settle(reservation, payee, tokens(u64::MAX));
        }
        ledger.assert_conserved();
    }

    #[test]
    fn flood_of_new_names_is_refused() {
        let mut ledger = Ledger::new();
        for index in 0..ACCOUNTS_MAX {
            ledger.open_payee(&index.to_string()).unwrap();
        }
        assert_eq!(ledger.open_payee("one more"), Err(Rejection::AccountsFull));
        assert!(ledger.open_payee("7").is_ok());
        assert_eq!(ledger.open_payer(&"x".repeat(NAME_BYTES_MAX + 1), tokens(1)), Err(Rejection::AccountsFull));
    }
}
