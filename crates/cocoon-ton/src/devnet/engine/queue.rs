//! Messages between accounts that are on their way, in the order in which they were created.
//!
//! TON promises order only between one sender and one destination; here it is total, by logical time and then by hash,
//! so that a run repeats itself. Messages to an account that is held stay where they are, in order.

use std::collections::BTreeMap;
use std::ops::Bound;

use tycho_types::cell::{Cell, CellSlice, Load};
use tycho_types::error::Error;
use tycho_types::models::{IntAddr, MsgInfo};

use crate::address::Address;

/// Where a message stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    /// Logical time of its creation.
    pub(crate) created_lt: u64,
    /// The hash of its cell.
    pub(crate) hash: [u8; 32],
}

impl Position {
    pub(crate) const fn first_at(created_lt: u64) -> Self {
        Self { created_lt, hash: [0; 32] }
    }
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) to: Address,
    pub(crate) cell: Cell,
    /// The money in it, and the part of its forwarding fee that is taken when it arrives.
    pub(crate) value: u128,
    pub(crate) forward_fee: u128,
}

impl InFlight {
    /// A message that was sent and where it stands, if it is for an account; events leave the chain.
    pub(crate) fn read(cell: Cell) -> Option<(Position, Self)> {
        let Header(MsgInfo::Int(info)) = cell.parse().ok()? else { return None };
        let IntAddr::Std(to) = &info.dst else { return None };
        let at = Position { created_lt: info.created_lt, hash: cell.repr_hash().0 };
        let (value, forward_fee) = (info.value.tokens.into(), info.fwd_fee.into());
        Some((at, Self { to: Address::from(to), cell, value, forward_fee }))
    }
}

/// The money in a message's cell.
pub(crate) fn money_in(message: &Cell) -> u128 {
    InFlight::read(message.clone()).map_or(0, |(_, message)| message.value + message.forward_fee)
}

/// A message's header; what follows stays unread.
struct Header(MsgInfo);

impl<'a> Load<'a> for Header {
    fn load_from(slice: &mut CellSlice<'a>) -> Result<Self, Error> {
        MsgInfo::load_from(slice).map(Self)
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    messages: BTreeMap<Position, InFlight>,
    nano: u128,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Position, message: InFlight) {
        self.nano += message.value + message.forward_fee;
        let before = self.messages.insert(at, message);
        debug_assert!(before.is_none(), "a message names its sender and its logical time, so it is unique");
    }

    /// The first message after `cursor` and before `end` that `takes` its destination.
    pub(crate) fn next_after(
        &self,
        cursor: Option<Position>,
        end: Bound<Position>,
        takes: impl Fn(&Address) -> bool,
    ) -> Option<Position> {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.messages.range((start, end)).find(|(_, message)| takes(&message.to)).map(|(at, _)| *at)
    }

    pub(crate) fn remove(&mut self, at: &Position) -> Option<InFlight> {
        let message = self.messages.remove(at)?;
        self.nano -= message.value + message.forward_fee;
        Some(message)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The money in it, as counted along the way.
    pub(crate) const fn nano(&self) -> u128 {
        self.nano
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Position, &InFlight)> {
        self.messages.iter()
    }
}
