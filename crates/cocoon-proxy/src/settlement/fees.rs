//! What a transaction of each kind costs us, from what the last ones cost.
//!
//! It begins with what was measured on the embedded devnet with mainnet's configuration (`contracts/GAS.md`, with the
//! wallet's own part), rounded up. A dearer transaction is believed at once, a cheaper one by a quarter: a plan that is
//! made a little too late costs nothing, one that is made too early costs a fee.
//!
//! What is learned stays within a few times of what was measured: a stranger that spoils one lesson must not end the
//! lessons, since what is thought too dear is not done, and teaches nothing any more. For the same reason what is thought
//! dearer than was measured fades with time, until it is tried again.

use cocoon_units::Nano;

use crate::books::Side;

/// Most that is believed of a fee, as a multiple of where it began: mainnet's gas price has changed by less in years.
const LEARNED_MAX: u64 = 3;

/// Kinds of transactions that are weighed against an amount, and what each costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fees {
    by_kind: [Nano; Kind::ALL.len()],
}

/// A kind of transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Takes what a client used.
    Charge,
    /// Takes what a client used, and gives it the rest back.
    Grant,
    /// Pays a worker.
    Payout,
    /// Pays a worker, for the last time.
    LastPayout,
    /// Asks the proxy's contract again for what it could not pay a worker.
    Claim,
    /// Pays the owner the commission.
    Withdraw,
    /// Begins to close the proxy's contract.
    CloseRequest,
    /// Closes it.
    CloseComplete,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Charge,
        Self::Grant,
        Self::Payout,
        Self::LastPayout,
        Self::Claim,
        Self::Withdraw,
        Self::CloseRequest,
        Self::CloseComplete,
    ];

    const fn index(self) -> usize {
        self as usize
    }

    /// Whether it takes from the funds of the proxy's contract.
    pub(super) const fn is_paid_by_proxy(self) -> bool {
        match self {
            Self::Payout | Self::LastPayout | Self::Claim | Self::Withdraw => true,
            Self::Charge | Self::Grant | Self::CloseRequest | Self::CloseComplete => false,
        }
    }

    /// Whose contract it goes to; none where that is the proxy's own.
    pub(super) const fn side(self) -> Option<Side> {
        match self {
            Self::Charge | Self::Grant => Some(Side::Client),
            Self::Payout | Self::LastPayout | Self::Claim => Some(Side::Worker),
            Self::Withdraw | Self::CloseRequest | Self::CloseComplete => None,
        }
    }

    /// Before any was measured.
    const fn at_first(self) -> Nano {
        Nano::new(match self {
            Self::Charge => 18_000_000,
            Self::Grant => 21_000_000,
            Self::Payout => 21_000_000,
            Self::LastPayout => 22_000_000,
            Self::Claim => 17_000_000,
            Self::Withdraw => 11_000_000,
            Self::CloseRequest => 12_000_000,
            Self::CloseComplete => 12_000_000,
        })
    }
}

impl Default for Fees {
    fn default() -> Self {
        Self { by_kind: Kind::ALL.map(Kind::at_first) }
    }
}

impl Fees {
    /// What one costs.
    pub(super) fn of(&self, kind: Kind) -> Nano {
        self.by_kind.get(kind.index()).copied().unwrap_or(Nano::MAX)
    }

    /// One cost this much.
    pub(super) fn measured(&mut self, kind: Kind, cost: Nano) {
        if let Some(known) = self.by_kind.get_mut(kind.index()) {
            let most = kind.at_first().get().saturating_mul(LEARNED_MAX);
            let (was, is) = (known.get(), cost.get().min(most));
            *known = Nano::new(if is >= was { is } else { was - (was - is) / 4 });
        }
    }

    /// Some time passed: what is thought dear may be so no more.
    pub(super) fn fade(&mut self) {
        for kind in Kind::ALL {
            if let Some(known) = self.by_kind.get_mut(kind.index()) {
                let above = known.get().saturating_sub(kind.at_first().get());
                // Rounded up, so that it comes to an end.
                *known = Nano::new(known.get() - above.div_ceil(4));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dearer_counts_at_once_and_cheaper_slowly() {
        let mut fees = Fees::default();
        for kind in Kind::ALL {
            assert_eq!(fees.of(kind), kind.at_first());
        }
        fees.measured(Kind::Payout, Nano::new(60_000_000));
        assert_eq!(fees.of(Kind::Payout), Nano::new(60_000_000));
        fees.measured(Kind::Payout, Nano::new(20_000_000));
        assert_eq!(fees.of(Kind::Payout), Nano::new(50_000_000));
        assert_eq!(fees.of(Kind::Charge), Kind::Charge.at_first());
        for _ in 0..100 {
            fees.measured(Kind::Payout, Nano::ZERO);
        }
        assert!(fees.of(Kind::Payout) < Nano::new(10));
    }

    #[test]
    fn what_was_dear_once_is_tried_again() {
        let mut fees = Fees::default();
        fees.measured(Kind::Charge, Nano::MAX);
        fees.measured(Kind::Claim, Nano::ZERO);
        let cheap = fees.of(Kind::Claim);
        for _ in 0..100 {
            fees.fade();
        }
        assert_eq!(fees.of(Kind::Charge), Kind::Charge.at_first());
        assert_eq!(fees.of(Kind::Claim), cheap, "what is cheap stays so");
    }

    #[test]
    fn a_stranger_cannot_make_fees_look_dear() {
        let mut fees = Fees::default();
        for kind in Kind::ALL {
            fees.measured(kind, Nano::MAX);
            assert_eq!(fees.of(kind).get(), 3 * kind.at_first().get());
        }
    }
}
