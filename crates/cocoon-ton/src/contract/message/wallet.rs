//! What a Cocoon wallet is told: by its key from outside, by its owner from inside. The owner may also write the
//! comments `w` (withdraw all), `b` (block) and `u` (unblock).

use tycho_types::cell::{Cell, CellBuilder};

use crate::contract::codec::{Reader, StateError, Writer};
use crate::limits::WALLET_MESSAGES_MAX;

super::messages! {
    /// A message to a wallet from inside the chain.
    pub enum Message of "messages to a wallet";

    /// Sends a message for the owner. By the owner.
    OwnerSend = WALLET_OWNER_SEND {
        /// How it is sent.
        mode: u8,
        /// The message, with its source left out.
        message: Cell,
    }
}

/// What the key signs: `subwallet:32 valid_until:32 seqno:32 (mode:8 ^message)*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    subwallet: u32,
    valid_until_unix_s: u32,
    seqno: u32,
    messages: Vec<(u8, Cell)>,
}

/// An [`Order`] with its signature: the body of an external message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOrder {
    /// What was signed.
    pub order: Order,
    /// By the wallet's key, over [`Order::signing_hash`].
    pub signature: [u8; 64],
}

impl Order {
    /// An order to send up to four messages, each with its mode.
    ///
    /// # Errors
    ///
    /// When there are more.
    pub fn new(
        subwallet: u32,
        valid_until_unix_s: u32,
        seqno: u32,
        messages: Vec<(u8, Cell)>,
    ) -> Result<Self, StateError> {
        if messages.len() > WALLET_MESSAGES_MAX {
            let (what, field, max) = ("order to a wallet", "messages", WALLET_MESSAGES_MAX);
            return Err(StateError::TooMany { what, field, max });
        }
        Ok(Self { subwallet, valid_until_unix_s, seqno, messages })
    }

    /// Which wallet of the key.
    #[must_use]
    pub const fn subwallet(&self) -> u32 {
        self.subwallet
    }

    /// Until when it may arrive.
    #[must_use]
    pub const fn valid_until_unix_s(&self) -> u32 {
        self.valid_until_unix_s
    }

    /// The wallet's number that it needs.
    #[must_use]
    pub const fn seqno(&self) -> u32 {
        self.seqno
    }

    /// What it sends, and how.
    #[must_use]
    pub fn messages(&self) -> &[(u8, Cell)] {
        &self.messages
    }

    /// What the key signs.
    #[must_use]
    pub fn signing_hash(&self) -> [u8; 32] {
        self.to_cell().repr_hash().0
    }

    fn to_cell(&self) -> Cell {
        let head = Writer::new().put(&self.subwallet).put(&self.valid_until_unix_s).put(&self.seqno);
        self.messages.iter().fold(head, |writer, (mode, message)| writer.put(mode).put(message)).cell()
    }

    /// With its signature.
    #[must_use]
    pub const fn signed(self, signature: [u8; 64]) -> SignedOrder {
        SignedOrder { order: self, signature }
    }
}

impl SignedOrder {
    /// The body of the external message.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        let mut body = CellBuilder::new();
        let fits = "512 bits and those of an order fit a cell";
        body.store_raw(&self.signature, 512).expect(fits);
        body.store_slice(self.order.to_cell().as_slice().expect("an order is an ordinary cell")).expect(fits);
        body.build().expect("no reference is as deep as 65535 cells")
    }

    /// Reads the body of an external message to a wallet.
    ///
    /// # Errors
    ///
    /// When it is not the layout to the bit.
    pub fn parse(body: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new("order to a wallet", body.as_ref())?;
        let signature = super::super::signed::read_signature(&mut reader)?;
        let (subwallet, valid_until, seqno) = (reader.get("subwallet")?, reader.get("expiry")?, reader.get("seqno")?);
        let mut messages = Vec::new();
        while reader.refs_left() > 0 {
            messages.push((reader.get("mode")?, reader.get("message")?));
        }
        reader.end()?;
        Ok(Order::new(subwallet, valid_until, seqno, messages)?.signed(signature))
    }
}
