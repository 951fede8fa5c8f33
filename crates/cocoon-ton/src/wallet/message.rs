//! Messages that wallets send, and the external that brings them.

use cocoon_units::Nano;
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::error::Error;
use tycho_types::models::{
    CurrencyCollection, ExtInMsgInfo, IntAddr, Message, MsgInfo, RelaxedIntMsgInfo, RelaxedMessage, RelaxedMsgInfo,
    StdAddr,
};

use super::mode;
use crate::address::Address;
use crate::contract::StateInit;

/// A message that a wallet shall send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub to: Address,
    /// The money that it carries.
    pub value: Nano,
    /// Whether it comes back when the receiver fails: yes for contracts, no for wallets that may not exist yet.
    pub bounce: bool,
    /// How value and fees are taken, see [`mode`].
    pub mode: u8,
    /// What it says.
    pub body: Option<Cell>,
    /// Code and data of the receiver, where the message deploys it.
    pub state_init: Option<StateInit>,
}

impl Outgoing {
    /// Money to somebody, in full: fees are paid separately, and it does not bounce.
    #[must_use]
    pub const fn pay(to: Address, value: Nano) -> Self {
        Self { to, value, bounce: false, mode: mode::PAY_FEES_SEPARATELY, body: None, state_init: None }
    }

    /// A call of a contract: it bounces, and what it does not use comes back by the contract's own rules.
    #[must_use]
    pub const fn call(to: Address, value: Nano, body: Cell) -> Self {
        Self { to, value, bounce: true, mode: mode::PAY_FEES_SEPARATELY, body: Some(body), state_init: None }
    }

    /// The same, deploying the receiver.
    #[must_use]
    pub fn with_state_init(self, state_init: StateInit) -> Self {
        Self { state_init: Some(state_init), ..self }
    }

    /// How much of the wallet's money it takes for certain.
    pub(super) const fn takes(&self) -> Nano {
        if self.mode & mode::ALL_BALANCE == 0 { self.value } else { Nano::ZERO }
    }

    /// The mode under which it is sent.
    pub(super) const fn safe_mode(&self) -> u8 {
        self.mode | mode::IGNORE_ERRORS
    }

    /// The hash of its body, by which it is recognised in a transaction.
    pub(super) fn body_hash(&self) -> [u8; 32] {
        self.body.clone().unwrap_or_default().repr_hash().0
    }

    /// Its cell. The sender is left to the chain, which fills it in.
    pub(super) fn to_cell(&self) -> Result<Cell, Error> {
        let info = RelaxedIntMsgInfo {
            bounce: self.bounce,
            dst: IntAddr::Std(StdAddr::from(self.to)),
            value: CurrencyCollection::new(u128::from(self.value.get())),
            ..RelaxedIntMsgInfo::default()
        };
        let body = self.body.clone().unwrap_or_default();
        CellBuilder::build_from(RelaxedMessage {
            info: RelaxedMsgInfo::Int(info),
            init: self.state_init.clone().map(Into::into),
            body: body.as_slice()?,
            layout: None,
        })
    }
}

/// The external to `to` with this body.
pub(super) fn external(to: Address, body: &Cell, init: Option<StateInit>) -> Result<Cell, Error> {
    CellBuilder::build_from(Message {
        info: MsgInfo::ExtIn(ExtInMsgInfo { dst: IntAddr::Std(StdAddr::from(to)), ..ExtInMsgInfo::default() }),
        init: init.map(Into::into),
        body: body.as_slice()?,
        layout: None,
    })
}
