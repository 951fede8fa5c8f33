//! What can happen to a ledger, as the journal keeps it.

use bytes::Bytes;
use cocoon_units::AdjustedTokens;

use crate::account::{Credit, PayeeId, PayerId};
use crate::codec::{Reader, Writer};
use crate::reservation::{Run, Spent};

/// One change. What a crash ends anyway, reservations, is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    PayerOpened {
        payer: PayerId,
        name: Box<str>,
        credit: Credit,
    },
    CreditSet {
        payer: PayerId,
        credit: Credit,
    },
    PayerClosed {
        payer: PayerId,
    },
    /// The payer leaves: it uses nothing more.
    PayerShut {
        payer: PayerId,
    },
    PayeeOpened {
        payee: PayeeId,
        name: Box<str>,
    },
    PayeeClosed {
        payee: PayeeId,
    },
    /// The payer is charged and the payee credited; the request's id is spent, if it has one.
    Settled {
        payer: PayerId,
        payee: PayeeId,
        tokens: AdjustedTokens,
        spent: Option<Spent>,
    },
    /// The request's id is spent for nothing.
    Voided {
        payer: PayerId,
        id: [u8; 32],
        run: Run,
        opened_at: u64,
    },
    NoteSet {
        key: Box<str>,
        value: Option<Bytes>,
    },
    /// A commit covers all that was counted before.
    CommitBegun {
        number: u32,
    },
    /// That commit was seen on chain.
    CommitSeen {
        number: u32,
    },
}

impl Entry {
    pub(crate) fn write(&self, to: &mut Writer) {
        match self {
            Self::PayerOpened { payer, name, credit } => to.u8(0).u64(payer.0).text(name).credit(*credit),
            Self::CreditSet { payer, credit } => to.u8(1).u64(payer.0).credit(*credit),
            Self::PayerClosed { payer } => to.u8(2).u64(payer.0),
            Self::PayeeOpened { payee, name } => to.u8(3).u64(payee.0).text(name),
            Self::PayeeClosed { payee } => to.u8(4).u64(payee.0),
            Self::Settled { payer, payee, tokens, spent: None } => to.u8(5).u64(payer.0).u64(payee.0).tokens(*tokens),
            Self::Settled { payer, payee, tokens, spent: Some(spent) } => {
                to.u8(6).u64(payer.0).u64(payee.0).tokens(*tokens).spent(spent)
            }
            Self::Voided { payer, id, run, opened_at } => to.u8(7).u64(payer.0).array(id).u64(run.0).u64(*opened_at),
            Self::NoteSet { key, value: Some(value) } => to.u8(8).text(key).bytes(value),
            Self::NoteSet { key, value: None } => to.u8(9).text(key),
            Self::CommitBegun { number } => to.u8(10).u32(*number),
            Self::CommitSeen { number } => to.u8(11).u32(*number),
            Self::PayerShut { payer } => to.u8(12).u64(payer.0),
        };
    }

    /// `None` if the bytes are not an entry.
    pub(crate) fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(match from.u8()? {
            0 => Self::PayerOpened { payer: PayerId(from.u64()?), name: from.text()?, credit: from.credit()? },
            1 => Self::CreditSet { payer: PayerId(from.u64()?), credit: from.credit()? },
            2 => Self::PayerClosed { payer: PayerId(from.u64()?) },
            3 => Self::PayeeOpened { payee: PayeeId(from.u64()?), name: from.text()? },
            4 => Self::PayeeClosed { payee: PayeeId(from.u64()?) },
            5 => Self::Settled {
                payer: PayerId(from.u64()?),
                payee: PayeeId(from.u64()?),
                tokens: from.tokens()?,
                spent: None,
            },
            6 => Self::Settled {
                payer: PayerId(from.u64()?),
                payee: PayeeId(from.u64()?),
                tokens: from.tokens()?,
                spent: Some(from.spent()?),
            },
            7 => Self::Voided {
                payer: PayerId(from.u64()?),
                id: from.array()?,
                run: Run(from.u64()?),
                opened_at: from.u64()?,
            },
            8 => Self::NoteSet { key: from.text()?, value: Some(from.bytes()?) },
            9 => Self::NoteSet { key: from.text()?, value: None },
            10 => Self::CommitBegun { number: from.u32()? },
            11 => Self::CommitSeen { number: from.u32()? },
            12 => Self::PayerShut { payer: PayerId(from.u64()?) },
            _ => return None,
        })
    }
}
