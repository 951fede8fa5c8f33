//! Reservations: tokens set aside for one request, returned by exactly one call.

use bytes::Bytes;
use cocoon_units::AdjustedTokens;
use thiserror::Error;

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

/// One life of the program that keeps the books. Its number is drawn at random, and means nothing but itself.
///
/// In one run an id names one request: whoever keeps the books refuses an id that is in flight or spent. What a crash
/// lost nobody can refuse, so a client may use its ids again. Which request a receipt is of is said by both together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(pub u64);

impl Run {
    /// Its number, of random bytes.
    pub(crate) fn of(random: &[u8; 32]) -> Self {
        let (number, _) = random.split_first_chunk().expect("eight of 32 bytes");
        Self(u64::from_le_bytes(*number))
    }
}

/// A request that is paid for and never again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The request's id, which its receipt carries.
    pub id: [u8; 32],
    /// The run in which it went to a worker: [`Ledger::run`](crate::Ledger::run) of that time.
    pub run: Run,
    /// [`Ledger::seq`](crate::Ledger::seq) when the request went to a worker. It decides how long the id is remembered.
    pub opened_at: u64,
    /// The signed receipt, or nothing. One above [`RECEIPT_BYTES_MAX`](crate::limits::RECEIPT_BYTES_MAX) is not kept.
    pub receipt: Bytes,
}

/// What is remembered of a request that was paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentRequest {
    /// Who was charged.
    pub payer: PayerId,
    /// How much. Nothing, for a request that was given up after a worker had it.
    pub tokens: AdjustedTokens,
    /// The signed receipt, or nothing: there was none, or it has been forgotten before the id.
    pub receipt: Bytes,
}

/// The outcome of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What the payer was charged and the payee credited with.
    pub charged: AdjustedTokens,
    /// Set when the payee reported more than was reserved; the rest is its loss and its fault.
    pub clamped: Option<Overcharge>,
    /// Set when the request's id had been spent before: nothing is charged for it again.
    pub is_repeat: bool,
}

/// A usage report above the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overcharge {
    /// What was reported.
    pub reported: AdjustedTokens,
    /// What had been reserved, and was charged.
    pub reserved: AdjustedTokens,
}

/// Why a reservation or an account was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// The payer's fault: the request can cost more than all that is secured, so it can never run.
    #[error("the request can cost {needed}, the whole stake is {stake}")]
    PayerStakeTooSmall {
        /// What the request can cost at most.
        needed: AdjustedTokens,
        /// What the payer's contract secures.
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
    /// The payer's account has been closed, or its payer leaves.
    #[error("the account is closed")]
    PayerClosed,
    /// The ledger's own bound, or a name that is not one.
    #[error("no account can be opened: too many accounts or too long a name")]
    AccountsFull,
    /// Our own disk's fault: too much waits to be written.
    #[error("the journal is behind: try again")]
    JournalBehind,
}

/// Why a request that a crash lost is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LostRefusal {
    /// It was paid for, or given up for good, before.
    #[error("the request was settled before")]
    AlreadySpent,
    /// Its id may have been paid for and forgotten since.
    #[error("the request was opened at {opened_at}; what was opened up to {forgotten} is not settled any more")]
    TooOld {
        /// When it was opened.
        opened_at: u64,
        /// The newest that may have been forgotten.
        forgotten: u64,
    },
    /// An account of it has been closed, or its payer has left.
    #[error("the account is closed")]
    AccountClosed,
}

/// A note that is too long, or one too many: see [`limits`](crate::limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the ledger has no room for this note")]
pub struct NoteRefused;
