//! Cells made bit by bit and hashed by the definition, with none of the code under test.

use cocoon_ton::{Address, Cell};
use sha2::{Digest as _, Sha256};

/// A cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hand {
    bits: Vec<bool>,
    refs: Vec<Known>,
}

/// What a cell's parent needs to know of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) hash: [u8; 32],
    depth: u16,
}

impl From<&Cell> for Known {
    /// Of a cell that was not made here: a contract's code.
    fn from(cell: &Cell) -> Self {
        Self { hash: cell.repr_hash().0, depth: cell.repr_depth() }
    }
}

impl Hand {
    pub(crate) fn uint(mut self, bits: u32, value: u64) -> Self {
        self.bits.extend((0..bits).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self = self.uint(8, (*byte).into());
        }
        self
    }

    /// `Coins`: the number of bytes in four bits, then the bytes.
    pub(crate) fn coins(self, nano: u64) -> Self {
        let bytes = (64 - nano.leading_zeros()).div_ceil(8);
        self.uint(4, bytes.into()).uint(bytes * 8, nano)
    }

    /// `addr_std$10`, no anycast, workchain, account.
    pub(crate) fn address(self, address: Address) -> Self {
        self.uint(2, 0b10).uint(1, 0).bytes(&address.workchain.to_be_bytes()).bytes(&address.account)
    }

    pub(crate) fn reference(mut self, child: impl Into<Known>) -> Self {
        self.refs.push(child.into());
        self
    }

    /// Its hash: two bytes on its form, its bits padded, depths and hashes of its children.
    pub(crate) fn known(&self) -> Known {
        let mut data = Vec::new();
        data.push(u8::try_from(self.refs.len()).unwrap());
        data.push(u8::try_from(self.bits.len() / 8 + self.bits.len().div_ceil(8)).unwrap());
        let mut bits = self.bits.clone();
        if !bits.len().is_multiple_of(8) {
            bits.push(true);
            bits.resize(bits.len().next_multiple_of(8), false);
        }
        data.extend(bits.chunks(8).map(|byte| byte.iter().fold(0_u8, |sum, bit| sum << 1 | u8::from(*bit))));
        for child in &self.refs {
            data.extend(child.depth.to_be_bytes());
        }
        for child in &self.refs {
            data.extend(child.hash);
        }
        let depth = self.refs.iter().map(|child| child.depth + 1).max().unwrap_or(0);
        Known { hash: Sha256::digest(&data).into(), depth }
    }
}

impl From<Hand> for Known {
    fn from(hand: Hand) -> Self {
        hand.known()
    }
}
