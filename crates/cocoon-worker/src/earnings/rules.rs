//! When something is cashed. Pure: a table of what is there to what is done.
//!
//! | | at least | fee |
//! |---|---|---|
//! | always | `cash_at` | at most `fee_percent_max` |
//! | nothing new for `idle_s` | `cash_idle_at` | at most `fee_percent_max` |
//! | the proxy closes | `cash_close_at` | less than it brings |
//! | on command | anything | any |
//!
//! What counts is what the proxy's contract can pay now. Of a proxy without money a payout would only be noted, and each
//! try costs a fee, so nothing is sent to it: the signature keeps its worth.

use cocoon_ton::contract::Lifecycle;
use cocoon_units::Nano;

use super::account::{Account, Seen};
use crate::config::EarningsConfig;

/// What a payout costs, of the sender's money, until all replies have come: 0.0225 TON from a wallet that can be blocked,
/// measured; a test fails when it becomes more than this.
pub(super) const FEE: Nano = Nano::new(25_000_000);

/// What stays in a contract until it is closed, and is the owner's then: its floor of 0.11 TON, less the 0.01 that it
/// keeps for ever.
pub(super) const FLOOR_BACK: Nano = Nano::new(100_000_000);

/// Why something would be cashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The rules.
    Rule {
        /// Whether the proxy has signed nothing for long.
        is_idle: bool,
    },
    /// A person says so.
    Command,
}

/// What is sent to our contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The latest payment.
    Present,
    /// A claim of what was presented and not paid.
    Claim,
}

/// What is to be had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Prospect {
    /// Signed and not presented.
    pub(super) uncashed: Nano,
    /// Presented and not paid.
    pub(super) unpaid: Nano,
    /// Of both, what the proxy can pay now.
    pub(super) collectable: Nano,
    is_closing: bool,
    /// What a last payout gives back beside.
    floor: Nano,
}

impl Prospect {
    pub(super) fn of(account: &Account, seen: &Seen) -> Self {
        let is_closed = seen.worker.is_some_and(|worker| worker.state == Lifecycle::Closed);
        // A closed contract takes no payment any more.
        let uncashed = if is_closed { Nano::ZERO } else { account.worth(account.uncashed(seen)) };
        let unpaid = seen.worker.map_or(Nano::ZERO, |worker| worker.unpaid.worker);
        let due = uncashed.checked_add(unpaid).unwrap_or(Nano::MAX);
        let is_last = account.signed().is_some_and(|signed| signed.is_last);
        let floor = if is_last && seen.worker.is_some() && !is_closed { FLOOR_BACK } else { Nano::ZERO };
        Self {
            uncashed,
            unpaid,
            collectable: due.min(seen.payable),
            is_closing: is_last || seen.proxy.is_some_and(|proxy| proxy != Lifecycle::Normal),
            floor,
        }
    }

    /// Whether there is anything at all.
    pub(super) fn is_something(&self) -> bool {
        self.uncashed > Nano::ZERO || self.unpaid > Nano::ZERO || self.floor > Nano::ZERO
    }

    /// What is done on this occasion, if anything.
    pub(super) fn step(&self, occasion: Occasion, config: &EarningsConfig) -> Option<Step> {
        let presents = self.uncashed > Nano::ZERO || self.floor > Nano::ZERO;
        let step = if presents { Step::Present } else { Step::Claim };
        let gain = self.collectable.checked_add(self.floor).unwrap_or(Nano::MAX);
        let is_worth_it = match occasion {
            Occasion::Command => presents || self.collectable > Nano::ZERO,
            Occasion::Rule { .. } if self.is_closing => gain >= config.cash_close_at.nano() && gain > FEE,
            Occasion::Rule { is_idle } => {
                let at_least = if is_idle { config.cash_idle_at.min(config.cash_at) } else { config.cash_at };
                self.collectable >= at_least.nano() && self.is_cheap(config)
            }
        };
        is_worth_it.then_some(step)
    }

    fn is_cheap(&self, config: &EarningsConfig) -> bool {
        let allowed = u128::from(self.collectable.get()).saturating_mul(u128::from(config.fee_percent_max));
        self.collectable > Nano::ZERO && u128::from(FEE.get()).saturating_mul(100) <= allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TON: u64 = 1_000_000_000;
    const RULE: Occasion = Occasion::Rule { is_idle: false };
    const IDLE: Occasion = Occasion::Rule { is_idle: true };

    fn prospect(uncashed: u64, unpaid: u64, payable: u64) -> Prospect {
        let collectable = Nano::new(payable.min(uncashed + unpaid));
        Prospect {
            uncashed: Nano::new(uncashed),
            unpaid: Nano::new(unpaid),
            collectable,
            is_closing: false,
            floor: Nano::ZERO,
        }
    }

    #[track_caller]
    fn check(prospect: Prospect, occasion: Occasion, expected: Option<Step>) {
        assert_eq!(prospect.step(occasion, &EarningsConfig::default()), expected);
    }

    #[test]
    fn ten_ton_or_an_idle_proxy_or_a_close() {
        check(prospect(10 * TON, 0, 99 * TON), RULE, Some(Step::Present));
        check(prospect(10 * TON - 1, 0, 99 * TON), RULE, None);
        check(prospect(2 * TON, 0, 99 * TON), IDLE, Some(Step::Present));
        check(prospect(TON / 5 - 1, 0, 99 * TON), IDLE, None);
        let closing = |uncashed| Prospect { is_closing: true, ..prospect(uncashed, 0, 99 * TON) };
        check(closing(TON / 30), RULE, Some(Step::Present));
        check(closing(TON / 100 - 1), RULE, None);
        check(closing(FEE.get()), RULE, None);
    }

    #[test]
    fn a_fee_above_two_percent_is_paid_at_a_close_and_on_command_only() {
        let dear = prospect(FEE.get() * 50 - 1, 0, 99 * TON);
        check(dear, IDLE, None);
        check(prospect(FEE.get() * 50, 0, 99 * TON), IDLE, Some(Step::Present));
        check(dear, Occasion::Command, Some(Step::Present));
        check(Prospect { is_closing: true, ..dear }, RULE, Some(Step::Present));
        let none = EarningsConfig { fee_percent_max: 0, ..EarningsConfig::default() };
        assert_eq!(prospect(99 * TON, 0, 99 * TON).step(RULE, &none), None);
    }

    #[test]
    fn fee_drain_by_a_proxy_without_money() {
        check(prospect(99 * TON, 0, 0), RULE, None);
        check(prospect(0, 99 * TON, 0), IDLE, None);
        check(prospect(0, 99 * TON, TON / 10), IDLE, None);
        check(prospect(0, 99 * TON, 10 * TON), RULE, Some(Step::Claim));
        check(prospect(0, 99 * TON, 0), Occasion::Command, None);
        check(Prospect { is_closing: true, ..prospect(0, 99 * TON, 0) }, RULE, None);
    }

    #[test]
    fn a_last_payout_brings_the_floor_home() {
        let last = Prospect { is_closing: true, floor: FLOOR_BACK, ..prospect(0, 0, 0) };
        check(last, RULE, Some(Step::Present));
        check(prospect(0, 0, 99 * TON), Occasion::Command, None);
    }
}
