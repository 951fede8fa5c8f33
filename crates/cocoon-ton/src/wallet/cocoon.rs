//! Cocoon's wallet contract (`contracts/wallet.tolk`).
//!
//! Its data and what its key signs are laid out in [`contract`]; this is which values a wallet of ours has.
//!
//! What its key signs names no network, and its layout is the original's: see [`WalletKind::Cocoon`](super::WalletKind).

use cocoon_units::Nano;
use ed25519_dalek::VerifyingKey;
use tycho_types::cell::Cell;
use tycho_types::error::Error;

use super::{Order, WalletError};
use crate::address::Address;
use crate::contract::message::wallet::Order as Signable;
use crate::contract::{self, StateInit, WalletState};

/// Below 2 TON the contract takes no external (exit code 1035).
pub(super) const FLOOR: Nano = Nano::new(2_000_000_000);
/// The original's, on every network.
const SUBWALLET: u32 = 0;

pub(super) fn state_init(key: &VerifyingKey, owner: Address) -> StateInit {
    StateInit { code: contract::codes().wallet.clone(), data: WalletState::initial(*key.as_bytes(), owner).to_cell() }
}

/// Its seqno, and whether it is blocked.
pub(super) fn read(data: &Cell) -> Result<(u32, bool), String> {
    let state = WalletState::parse(data).map_err(|error| error.to_string())?;
    Ok((state.seqno, state.is_blocked()))
}

pub(super) fn order(order: Order<'_>) -> Result<Signable, WalletError> {
    let messages = order.messages.iter().map(|message| Ok((message.safe_mode(), message.to_cell()?)));
    let messages = messages.collect::<Result<_, Error>>().map_err(WalletError::message)?;
    Signable::new(SUBWALLET, order.valid_until, order.seqno, messages).map_err(WalletError::message)
}
