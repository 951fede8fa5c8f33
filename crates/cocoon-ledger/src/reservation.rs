//! Reservations: tokens set aside for one request, returned by exactly one call.

use cocoon_units::AdjustedTokens;

use crate::account::PayerId;

/// Tokens set aside for one request.
///
/// It cannot be copied; [`Ledger::settle`](crate::Ledger::settle) or
/// [`Ledger::release`](crate::Ledger::release) consumes it. One that is dropped stays reserved for
/// as long as the ledger lives: the payer loses room, never money.
#[derive(Debug)]
#[must_use = "a reservation must be settled or released, or its tokens stay reserved"]
pub struct Reservation {
    pub(crate) payer: PayerId,
    pub(crate) tokens: AdjustedTokens,
}

impl Reservation {
    /// The most that this request can be charged.
    #[must_use]
    pub const fn tokens(&self) -> AdjustedTokens {
        self.tokens
    }

    /// Who would be charged.
    #[must_use]
    pub const fn payer(&self) -> PayerId {
        self.payer
    }
}

/// The outcome of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What the payer was charged and the payee credited with.
    pub charged: AdjustedTokens,
    /// Set when the payee reported more than was reserved; the rest is its loss and its fault.
    pub clamped: Option<Overcharge>,
}

/// A usage report above the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overcharge {
    /// What was reported.
    pub reported: AdjustedTokens,
    /// What had been reserved, and was charged.
    pub reserved: AdjustedTokens,
}
