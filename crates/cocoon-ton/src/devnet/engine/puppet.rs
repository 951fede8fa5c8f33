//! An account that does what it is told: it sends the message that an external message carries, signed by nobody.
//!
//! The faucet is one, with the devnet's whole supply; tests use others as owners of contracts, so that a test of a
//! contract needs no wallet. Whatever is sent to it stays with it. It is a contract like any other, with transactions
//! and fees; only its code is 12 bytes long.

use cocoon_units::Nano;
use tycho_types::cell::{Cell, CellBuilder, HashBytes};
use tycho_types::error::Error;
use tycho_types::models::{
    CurrencyCollection, ExtInMsgInfo, MessageExtraFlags, MsgInfo, OwnedMessage, OwnedRelaxedMessage, RelaxedIntMsgInfo,
    RelaxedMsgInfo, StateInit, StdAddr,
};
use tycho_types::num::Tokens;

use crate::address::Address;

/// `SETCP0; IFNOTRET` (an internal message ends here, its money kept) `; ACCEPT; 8 LDU; LDREF; DROP; SWAP; SENDRAWMSG`.
const CODE: [u8; 12] = [0xff, 0x00, 0xdd, 0xf8, 0x00, 0xd3, 0x07, 0xd4, 0x30, 0x01, 0xfb, 0x00];
const CODE_BITS: u16 = 8 * 12;

/// Mode 1: fees are paid by the puppet, beyond the value.
const PAY_FEES_SEPARATELY: u8 = 1;

/// How a message comes back when its destination fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounce {
    /// It does not.
    No,
    /// With the first 256 bits of its body.
    Short,
    /// With its whole body and the reason of the failure.
    Rich,
}

/// A message that a puppet is to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// To whom.
    pub to: Address,
    /// With how much.
    pub value: Nano,
    /// Whether and how it comes back when it fails.
    pub bounce: Bounce,
    /// Its body; a cell of no bits for none.
    pub body: Cell,
    /// Code and data to deploy with it.
    pub state_init: Option<StateInit>,
}

impl Order {
    /// A plain transfer that does not come back.
    #[must_use]
    pub fn transfer(to: Address, value: Nano) -> Self {
        Self { to, value, bounce: Bounce::No, body: Cell::default(), state_init: None }
    }

    /// A call of a contract.
    #[must_use]
    pub const fn call(to: Address, value: Nano, body: Cell) -> Self {
        Self { to, value, bounce: Bounce::Short, body, state_init: None }
    }

    /// The same, carrying code and data.
    #[must_use]
    pub fn deploying(mut self, state_init: StateInit) -> Self {
        self.state_init = Some(state_init);
        self
    }
}

/// The code and data of puppet number `index`; the faucet is number 0.
pub(crate) fn state_init(index: u32) -> Result<StateInit, Error> {
    let mut code = CellBuilder::new();
    code.store_raw(&CODE, CODE_BITS)?;
    Ok(StateInit { code: Some(code.build()?), data: Some(CellBuilder::build_from(index)?), ..StateInit::default() })
}

/// The address of puppet number `index`.
#[must_use]
pub fn address(index: u32) -> Address {
    let hash = state_init(index).and_then(CellBuilder::build_from).map(|cell| cell.repr_hash().0);
    Address::basechain(hash.expect("12 bytes of code and 4 of data fit a cell"))
}

/// The external message that makes a puppet send `order`. `nonce` tells equal orders apart.
///
/// # Errors
///
/// When the order does not fit cells.
pub fn command(puppet: Address, order: &Order, nonce: u64) -> Result<Cell, Error> {
    let message = CellBuilder::build_from(OwnedRelaxedMessage {
        info: RelaxedMsgInfo::Int(RelaxedIntMsgInfo {
            ihr_disabled: true,
            bounce: order.bounce != Bounce::No,
            bounced: false,
            src: None,
            dst: StdAddr::from(order.to).into(),
            value: CurrencyCollection::new(u128::from(order.value.get())),
            extra_flags: match order.bounce {
                Bounce::No | Bounce::Short => MessageExtraFlags::default(),
                Bounce::Rich => MessageExtraFlags::NEW_BOUNCE_FORMAT | MessageExtraFlags::FULL_BODY_IN_BOUNCED,
            },
            fwd_fee: Tokens::ZERO,
            created_lt: 0,
            created_at: 0,
        }),
        init: order.state_init.clone(),
        body: order.body.clone().into(),
        layout: None,
    })?;
    let mut body = CellBuilder::new();
    body.store_u8(PAY_FEES_SEPARATELY)?;
    body.store_reference(message)?;
    body.store_u64(nonce)?;
    CellBuilder::build_from(OwnedMessage {
        info: MsgInfo::ExtIn(ExtInMsgInfo {
            src: None,
            dst: StdAddr::new(puppet.workchain, HashBytes(puppet.account)).into(),
            import_fee: Tokens::ZERO,
        }),
        init: None,
        body: body.build()?.into(),
        layout: None,
    })
}
