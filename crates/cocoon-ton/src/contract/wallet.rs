//! A Cocoon wallet's state: a key that sends, and an owner who can block and empty it.
//!
//! v3's layout. The key may be inside an enclave; the owner is where the money came from. Spec: `ton.md` 1.3, 1.9.

use tycho_types::cell::Cell;

use super::codec::{Reader, StateError, Writer};
use super::derive::StateInit;
use crate::address::Address;

const WHAT: &str = "state of a wallet";
const BLOCKED: u32 = 1;

/// The state of a Cocoon wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletState {
    /// The number that the next message must have.
    pub seqno: u32,
    /// Tells wallets of one key and owner apart.
    pub subwallet: u32,
    /// The key that sends.
    pub public_key: [u8; 32],
    /// Bit 0: blocked by the owner. No other bit means anything yet.
    pub status: u32,
    /// Who can block and empty it.
    pub owner: Address,
}

impl WalletState {
    /// A new wallet; its hash is part of the address.
    #[must_use]
    pub const fn initial(public_key: [u8; 32], owner: Address) -> Self {
        Self { seqno: 0, subwallet: 0, public_key, status: 0, owner }
    }

    /// Reads the data of a wallet.
    ///
    /// # Errors
    ///
    /// When it is not v3's layout to the bit.
    pub fn parse(data: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new(WHAT, data.as_ref())?;
        let state = Self {
            seqno: reader.get("seqno")?,
            subwallet: reader.get("subwallet")?,
            public_key: reader.get("public key")?,
            status: reader.get("status")?,
            owner: reader.get("owner")?,
        };
        reader.end()?;
        Ok(state)
    }

    /// The data cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        Writer::new()
            .put(&self.seqno)
            .put(&self.subwallet)
            .put(&self.public_key)
            .put(&self.status)
            .put(&self.owner)
            .cell()
    }

    /// Whether its owner blocked it.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.status & BLOCKED != 0
    }

    /// Code and data to deploy it with.
    #[must_use]
    pub fn state_init(&self, code: Cell) -> StateInit {
        StateInit { code, data: self.to_cell() }
    }
}
