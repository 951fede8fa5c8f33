//! An external between its signing and its end. Pure: the driver fetches, this judges.
//!
//! What makes a double payment impossible is the seqno. Whatever is made again after an expiry carries the *same*
//! seqno while that has not moved, so of all externals for one call at most one can land, even if we were wrong about
//! the expiry; and once the seqno moved, none of the others ever can. Which of them it was is known only after looking
//! for all of them: a flight remembers those that were given up before it, and nothing is made for a new seqno before
//! that was looked for.

use tycho_types::cell::Cell;

use super::message::Outgoing;
use crate::address::Address;
use crate::chain::{Head, Message, MessageKind, Transaction, TxId};
use crate::limits::WALLET_EXPIRY_MARGIN_S;

/// An external on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flight {
    /// The message, byte for byte what is resent.
    pub(super) external: Cell,
    /// The hash of its body, by which its transaction is recognised: the signature is part of it.
    pub(super) body_hash: [u8; 32],
    pub(super) seqno: u32,
    pub(super) valid_until: u32,
    /// The wallet's last transaction when it was made; its own comes after.
    pub(super) after: Option<TxId>,
    /// What it carries: to whom, and the hash of what it says.
    pub(super) messages: Vec<(Address, [u8; 32])>,
    /// Externals of the same seqno that were given up before it, for calls that it serves, too.
    pub(super) earlier: Vec<Earlier>,
}

/// An external that was given up. It lands after all where the expiry was judged by a server that was ahead of the
/// wallet's own shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Earlier {
    pub(super) body_hash: [u8; 32],
    /// How many of the flight's messages it carried. They are its first: calls keep their order, and those that were
    /// tried before go in front.
    pub(super) carried: usize,
}

/// What the wallet's state says about a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can still land.
    Open,
    /// The seqno moved: it landed, or never can.
    Moved,
    /// Nothing happened, and it cannot land any more.
    Expired,
}

impl Flight {
    /// Judges by the wallet's seqno and the block in which it was read.
    pub(super) const fn judge(&self, seqno: u32, at: Head) -> Verdict {
        if seqno > self.seqno {
            Verdict::Moved
        } else if self.is_too_late(at.unix_s) {
            Verdict::Expired
        } else {
            Verdict::Open
        }
    }

    /// Whether a block of this time can hold neither it nor what was given up before it.
    pub(super) const fn is_too_late(&self, unix_s: u32) -> bool {
        unix_s > self.valid_until.saturating_add(WALLET_EXPIRY_MARGIN_S)
    }

    /// How many of its messages this transaction is the landing of; `None` where it is another's.
    pub(super) fn landed_in(&self, transaction: &Transaction) -> Option<usize> {
        let body = external_body(transaction)?;
        if body == self.body_hash {
            return Some(self.messages.len());
        }
        self.earlier.iter().find(|earlier| earlier.body_hash == body).map(|earlier| earlier.carried)
    }
}

/// The hash of the body of the external that caused a transaction: the signature is part of it, the header is not.
pub(super) fn external_body(transaction: &Transaction) -> Option<[u8; 32]> {
    let message = transaction.in_message.as_ref()?;
    matches!(message.kind, MessageKind::ExternalIn { .. }).then(|| message.body.repr_hash().0)
}

/// For each message, what left the wallet for it: messages keep their order, and one that cannot leave is left out.
pub(super) fn departed(messages: &[Outgoing], transaction: &Transaction) -> Vec<Option<Message>> {
    let mut left = transaction.out_messages.iter();
    messages
        .iter()
        .map(|message| {
            // Looked for from where the last one was found; a miss must not use up what belongs to the next.
            let mut rest = left.clone();
            let found = rest.find(|out| is_same(message, out))?;
            left = rest;
            Some(found.clone())
        })
        .collect()
}

fn is_same(message: &Outgoing, out: &Message) -> bool {
    let to = match out.kind {
        MessageKind::Internal { to, .. } => to,
        MessageKind::ExternalIn { .. } | MessageKind::ExternalOut { .. } | MessageKind::Unreadable => return false,
    };
    to == message.to && out.body.repr_hash().0 == message.body_hash()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight() -> Flight {
        let external = Cell::default();
        let (messages, earlier) = (Vec::new(), Vec::new());
        Flight { body_hash: [1; 32], external, seqno: 7, valid_until: 1_000, after: None, messages, earlier }
    }

    const fn at(unix_s: u32) -> Head {
        Head { seqno: 1, unix_s, lt: 1 }
    }

    #[test]
    fn only_a_moved_seqno_or_a_late_block_ends_a_flight() {
        let flight = flight();
        assert_eq!(flight.judge(7, at(0)), Verdict::Open);
        assert_eq!(flight.judge(7, at(1_000 + WALLET_EXPIRY_MARGIN_S)), Verdict::Open);
        assert_eq!(flight.judge(7, at(1_001 + WALLET_EXPIRY_MARGIN_S)), Verdict::Expired);
        assert_eq!(flight.judge(8, at(5_000)), Verdict::Moved);
        assert_eq!(flight.judge(6, at(500)), Verdict::Open, "a server that lags proves nothing");
    }
}
