//! Wallets: who signs, and how messages reach the chain exactly once.
//!
//! 1. [`Wallet`] is a key and a kind of contract; it knows its address, its initial state, and how to sign.
//! 2. [`Sender`] is the one door to the chain for one wallet: it queues, batches, resends, and finds out what became of
//!    what it sent, across restarts too.
//!
//! Two kinds of contract. [`WalletKind::Cocoon`] is the network's own (`contracts/wallet.tolk`): its key may sit on a
//! machine that its owner does not fully trust, since the owner's address can block it. [`WalletKind::V5R1`] is what
//! people's wallet programs use, for money that a person holds.
//!
//! What this is not: a decision to pay. Roles decide.

mod cocoon;
mod flight;
mod journal;
mod message;
mod sender;
mod v5r1;

use std::fmt;

use cocoon_units::Nano;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use tycho_types::cell::Cell;

use crate::address::Address;
use crate::chain::{Account, Status};
use crate::contract::StateInit;
use crate::limits::{WALLET_FEE_BASE, WALLET_FEE_PER_MESSAGE, WALLET_MESSAGES_MAX};

pub use journal::JournalError;
pub use message::Outgoing;
pub use sender::{Past, PastOutcome, SendError, Sender, Sent};
pub use v5r1::Network;

/// Bits of a message's mode. [`IGNORE_ERRORS`](mode::IGNORE_ERRORS) is always added: without it, a message that cannot
/// be paid would undo the whole transaction.
pub mod mode {
    /// The receiver gets the value in full; fees come out of the wallet.
    pub const PAY_FEES_SEPARATELY: u8 = 1;
    /// A message that cannot leave is left out instead of failing the others.
    pub const IGNORE_ERRORS: u8 = 2;
    /// All of the wallet's money, whatever the value says.
    pub const ALL_BALANCE: u8 = 128;
}

/// Which contract a wallet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalletKind {
    /// Cocoon's: at most four messages at a time, at least 2 TON to send anything, and an owner who can block it.
    ///
    /// What its key signs does not name the network. Where one key and owner have this wallet on two of them, as on the
    /// test network and the main one, anybody can hand in on one what was signed for the other, within its 90 seconds
    /// and while both wallets have the same seqno. So use a key on one network only: a key made for play money must
    /// never hold real money.
    Cocoon {
        /// Who may block it and send through it.
        owner: Address,
    },
    /// The standard wallet, version 5, revision 1: at most 255 messages at a time.
    V5R1 {
        /// The network that its id names.
        network: Network,
    },
}

/// A key and the contract that obeys it.
#[derive(Clone)]
pub struct Wallet {
    key: SigningKey,
    kind: WalletKind,
    address: Address,
}

/// What the chain says about a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalletView {
    /// The number that the next external must carry.
    pub seqno: u32,
    /// Whether its code is there. When not, the first external carries it.
    pub deployed: bool,
    /// Whether its owner blocked it.
    pub blocked: bool,
    /// Its money.
    pub balance: Nano,
}

/// Why a wallet's state cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// Its storage went unpaid.
    #[error("the wallet {0} is frozen, since its storage went unpaid: it must be restored before it can send")]
    Frozen(Address),
    /// Its data is not that of such a wallet.
    #[error("the data of {address} is not that of this kind of wallet: {why}")]
    State {
        /// Whose.
        address: Address,
        /// What is wrong.
        why: String,
    },
    /// More messages than fit.
    #[error("one external of this wallet carries at most {max} messages; these are {found}: send them in parts")]
    TooManyMessages {
        /// How many there were.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// A message that no cell can hold.
    #[error("a message that no cell can hold: {0}")]
    Message(String),
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
struct Order<'a> {
    seqno: u32,
    valid_until: u32,
    messages: &'a [Outgoing],
}

impl WalletKind {
    /// How many messages one external can carry.
    #[must_use]
    pub const fn messages_max(&self) -> usize {
        match self {
            Self::Cocoon { .. } => WALLET_MESSAGES_MAX,
            Self::V5R1 { .. } => v5r1::MESSAGES_MAX,
        }
    }

    /// The money below which the contract takes no external.
    #[must_use]
    pub const fn floor(&self) -> Nano {
        match self {
            Self::Cocoon { .. } => cocoon::FLOOR,
            Self::V5R1 { .. } => Nano::ZERO,
        }
    }

    /// The state that a wallet with this key begins with; its hash is its address.
    #[must_use]
    pub fn state_init(&self, key: &VerifyingKey) -> StateInit {
        match self {
            Self::Cocoon { owner } => cocoon::state_init(key, *owner),
            Self::V5R1 { network } => v5r1::state_init(key, *network),
        }
    }
}

impl Wallet {
    /// The wallet of this kind that obeys `key`.
    #[must_use]
    pub fn new(key: SigningKey, kind: WalletKind) -> Self {
        let address = kind.state_init(&key.verifying_key()).address();
        Self { key, kind, address }
    }

    /// Where it is, deployed or not.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Which contract it is.
    #[must_use]
    pub const fn kind(&self) -> WalletKind {
        self.kind
    }

    /// Who signs.
    #[must_use]
    pub fn public_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// The state that it begins with.
    #[must_use]
    pub fn state_init(&self) -> StateInit {
        self.kind.state_init(&self.public_key())
    }

    /// Reads its account.
    ///
    /// # Errors
    ///
    /// [`WalletError::Frozen`], or [`WalletError::State`] when its data cannot be read.
    pub fn view(&self, account: &Account) -> Result<WalletView, WalletError> {
        let new = WalletView { seqno: 0, deployed: false, blocked: false, balance: account.balance };
        match account.status {
            Status::Missing | Status::Uninit => Ok(new),
            Status::Frozen => Err(WalletError::Frozen(self.address)),
            Status::Active => {
                let wrong = |why: String| WalletError::State { address: self.address, why };
                let data = account.data.as_ref().ok_or_else(|| wrong("it has none".to_owned()))?;
                let (seqno, blocked) = match self.kind {
                    WalletKind::Cocoon { .. } => cocoon::read(data),
                    WalletKind::V5R1 { .. } => v5r1::read(data),
                }
                .map_err(wrong)?;
                Ok(WalletView { seqno, deployed: true, blocked, ..new })
            }
        }
    }

    /// The money that it needs for these messages: their values, an estimate of fees, and no less than its floor.
    #[must_use]
    pub fn needs(&self, messages: &[Outgoing]) -> Nano {
        let fees =
            messages.iter().fold(WALLET_FEE_BASE.get(), |sum, _| sum.saturating_add(WALLET_FEE_PER_MESSAGE.get()));
        let sum = messages.iter().fold(fees, |sum, message| sum.saturating_add(message.takes().get()));
        Nano::new(sum).max(self.kind.floor())
    }

    /// A signed external: the root cell of its message, and its body. With `deploy` it carries the initial state.
    ///
    /// # Errors
    ///
    /// [`WalletError::TooManyMessages`], or [`WalletError::Message`] for one that cannot be built.
    pub fn external(
        &self,
        seqno: u32,
        valid_until: u32,
        messages: &[Outgoing],
        deploy: Deploy,
    ) -> Result<(Cell, Cell), WalletError> {
        let max = self.kind.messages_max();
        if messages.len() > max {
            return Err(WalletError::TooManyMessages { found: messages.len(), max });
        }
        let body = self.body(Order { seqno, valid_until, messages })?;
        let init = match deploy {
            Deploy::Yes => Some(self.state_init()),
            Deploy::No => None,
        };
        let external = message::external(self.address, &body, init).map_err(WalletError::message)?;
        Ok((external, body))
    }

    fn body(&self, order: Order<'_>) -> Result<Cell, WalletError> {
        match self.kind {
            WalletKind::Cocoon { .. } => {
                let order = cocoon::order(order)?;
                let signature = self.sign(&order.signing_hash());
                Ok(order.signed(signature).to_cell())
            }
            WalletKind::V5R1 { network } => {
                let unsigned = v5r1::unsigned(order, network).map_err(WalletError::message)?;
                let signature = self.sign(&unsigned.repr_hash().0);
                v5r1::signed(&unsigned, &signature).map_err(WalletError::message)
            }
        }
    }

    fn sign(&self, hash: &[u8; 32]) -> [u8; 64] {
        self.key.sign(hash).to_bytes()
    }
}

impl WalletError {
    fn message(error: impl fmt::Display) -> Self {
        Self::Message(error.to_string())
    }
}

/// Whether an external brings the wallet's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deploy {
    /// It does: the wallet is not there yet.
    Yes,
    /// It does not.
    No,
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet").field("kind", &self.kind).field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tycho_types::cell::CellBuilder;

    use super::*;

    fn wallet(network: Network) -> Wallet {
        Wallet::new(SigningKey::from_bytes(&[7; 32]), WalletKind::V5R1 { network })
    }

    fn two_messages() -> Vec<Outgoing> {
        let to = Address::basechain([0x11; 32]);
        let mut body = CellBuilder::new();
        body.store_u32(0xdead_beef).unwrap();
        let first = Outgoing {
            bounce: false,
            body: Some(body.build().unwrap()),
            ..Outgoing::pay(to, Nano::new(1_250_000_000))
        };
        let second = Outgoing { bounce: true, ..Outgoing::pay(to, Nano::new(1)) };
        vec![first, second]
    }

    /// Values made with `WalletContractV5R1` of @ton/ton 16.3.0: seed 32 × 7, seqno 5, timeout 1700000000, send mode 1.
    #[test]
    fn v5r1_signs_what_other_wallets_sign() {
        for (network, address, body) in [
            (
                Network::MAINNET,
                "0:949bc8af02b9eb02b449c4e11d594f4befd433c8c6b665967b60a9f9dbfff3d0",
                "79618cb1680630793984da2ee4e6d05622c8957696646611c35fe5ffeff7d0c8",
            ),
            (
                Network::TESTNET,
                "0:f4353ed65c960a639e4abc7f605cd8cebae5e841cbdc2fad2c3d0806eabf4c75",
                "a23adefe4366f2e4a21657dab4e3286b968c3b71d3189e8912c3d80e8ceabc15",
            ),
        ] {
            let wallet = wallet(network);
            assert_eq!(wallet.address().raw(), address);
            let order = Order { seqno: 5, valid_until: 1_700_000_000, messages: &two_messages() };
            assert_eq!(hex::encode(wallet.body(order).unwrap().repr_hash().as_slice()), body);
        }
    }

    #[test]
    fn messages_beyond_what_fits_are_refused() {
        let cocoon = WalletKind::Cocoon { owner: Address::basechain([1; 32]) };
        for (kind, max) in [(cocoon, 4), (WalletKind::V5R1 { network: Network::MAINNET }, 255)] {
            let wallet = Wallet::new(SigningKey::from_bytes(&[7; 32]), kind);
            let message = Outgoing::pay(Address::basechain([2; 32]), Nano::new(1));
            let mut messages = vec![message; max];
            wallet.external(0, 1, &messages, Deploy::Yes).unwrap();
            messages.push(messages[0].clone());
            let refused = wallet.external(0, 1, &messages, Deploy::No);
            assert_eq!(refused, Err(WalletError::TooManyMessages { found: max + 1, max }));
        }
    }

    #[test]
    fn the_money_needed_has_a_floor_and_counts_what_leaves() {
        let to = Address::basechain([2; 32]);
        let key = SigningKey::from_bytes(&[7; 32]);
        let cocoon = Wallet::new(key, WalletKind::Cocoon { owner: to });
        assert_eq!(cocoon.needs(&[Outgoing::pay(to, Nano::new(1))]), Nano::new(2_000_000_000));
        assert!(cocoon.needs(&[Outgoing::pay(to, Nano::new(3_000_000_000))]) > Nano::new(3_000_000_000));
        assert_eq!(cocoon.needs(&[Outgoing::pay(to, Nano::MAX)]), Nano::MAX, "never a smaller number");
        let all = Outgoing { mode: mode::ALL_BALANCE, ..Outgoing::pay(to, Nano::ZERO) };
        assert!(wallet(Network::MAINNET).needs(&[all]) < Nano::new(100_000_000));
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", wallet(Network::MAINNET));
        assert!(!shown.contains("key") && !shown.contains("0707"), "{shown}");
    }
}
