//! Faults that a test asks for. They are explicit and counted; none happens by chance, and none outlives the process.

use std::collections::BTreeMap;

use crate::address::Address;

/// What goes wrong, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// External messages to an account that are acknowledged and then lost, as a network may: how many are still to be.
    pub drop_externals: BTreeMap<Address, u32>,
    /// Accounts to which nothing is delivered before the block of this number. Their messages wait, in order.
    pub held_until: BTreeMap<Address, u32>,
    /// No block is made at all.
    pub stalled: bool,
}

impl Faults {
    /// Loses the next `count` external messages to `address`.
    pub fn drop_externals(&mut self, address: Address, count: u32) {
        self.drop_externals.insert(address, count);
    }

    /// Delivers nothing to `address` until [`Self::release`].
    pub fn hold(&mut self, address: Address) {
        self.held_until.insert(address, u32::MAX);
    }

    /// Delivers nothing to `address` before the block with the number `seqno`.
    pub fn hold_until(&mut self, address: Address, seqno: u32) {
        self.held_until.insert(address, seqno);
    }

    /// Delivers to `address` again.
    pub fn release(&mut self, address: &Address) {
        self.held_until.remove(address);
    }

    pub(crate) fn holds(&self, address: &Address, seqno: u32) -> bool {
        self.held_until.get(address).is_some_and(|until| seqno < *until)
    }

    /// Whether this external message is the one to lose.
    pub(crate) fn takes_external(&mut self, address: &Address) -> bool {
        match self.drop_externals.get_mut(address) {
            None | Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}
