//! The standard wallet, version 5, revision 1.
//!
//! Body of an external: `7369676e wallet_id:32 valid_until:32 seqno:32 actions:(Maybe ^OutList) more:Bool(=0) |
//! signature:512`, the signature at the end and over the hash of what precedes it. The actions are a list of at most
//! 255 `0ec3c86d mode:8 ^msg`, the last of them outermost.
//! Data: `signature_allowed:Bool seqno:32 wallet_id:32 public_key:256 extensions:(Maybe ^Dict)`.

use std::sync::OnceLock;

use ed25519_dalek::VerifyingKey;
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::error::Error;

use super::Order;
use crate::contract::StateInit;

/// What the contract takes at most.
pub(super) const MESSAGES_MAX: usize = 255;
const OP_SIGNED_EXTERNAL: u32 = 0x7369_676e;
const ACTION_SEND: u32 = 0x0ec3_c86d;
/// Compiled code; source and licence are in `v5r1.txt`.
static CODE_BOC: &[u8] = include_bytes!("v5r1.boc");

/// The global id of a network, which is part of a v5 wallet's id and so of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(i32);

impl Network {
    /// The main network.
    pub const MAINNET: Self = Self(-239);
    /// The public test network.
    pub const TESTNET: Self = Self(-3);

    /// Another network.
    #[must_use]
    pub const fn new(global_id: i32) -> Self {
        Self(global_id)
    }

    /// Its global id.
    #[must_use]
    pub const fn global_id(self) -> i32 {
        self.0
    }

    /// The id of its wallet in workchain 0, version v5r1 (0), subwallet 0.
    const fn wallet_id(self) -> u32 {
        // One bit that says that it is made by this scheme, then eight of workchain, eight of version, fifteen of
        // subwallet, all of them zero.
        const CONTEXT: u32 = 1 << 31;
        self.0.cast_unsigned() ^ CONTEXT
    }
}

pub(super) fn state_init(key: &VerifyingKey, network: Network) -> StateInit {
    static CODE: OnceLock<Cell> = OnceLock::new();
    let code = CODE.get_or_init(|| Boc::decode(CODE_BOC).expect("the committed code is a bag of one cell")).clone();
    StateInit { code, data: data(key, network).expect("a wallet's data takes 322 bits") }
}

/// Its seqno, and whether signatures are switched off.
pub(super) fn read(data: &Cell) -> Result<(u32, bool), String> {
    let read = || {
        let mut slice = data.as_slice()?;
        let allowed = slice.load_bit()?;
        let seqno = slice.load_u32()?;
        slice.skip_first(32 + 256, 0)?;
        slice.load_bit()?;
        Ok::<_, Error>((seqno, !allowed))
    };
    read().map_err(|error| error.to_string())
}

pub(super) fn unsigned(order: Order<'_>, network: Network) -> Result<Cell, Error> {
    let mut builder = CellBuilder::new();
    builder.store_u32(OP_SIGNED_EXTERNAL)?;
    builder.store_u32(network.wallet_id())?;
    builder.store_u32(order.valid_until)?;
    builder.store_u32(order.seqno)?;
    match actions(order)? {
        Some(list) => {
            builder.store_bit_one()?;
            builder.store_reference(list)?;
        }
        None => builder.store_bit_zero()?,
    }
    builder.store_bit_zero()?;
    builder.build()
}

pub(super) fn signed(unsigned: &Cell, signature: &[u8; 64]) -> Result<Cell, Error> {
    let mut builder = CellBuilder::new();
    builder.store_slice(unsigned.as_slice()?)?;
    builder.store_raw(signature, 512)?;
    builder.build()
}

/// Each action refers to the ones before it; the list begins with an empty cell.
fn actions(order: Order<'_>) -> Result<Option<Cell>, Error> {
    let mut list = None;
    for message in order.messages {
        let mut builder = CellBuilder::new();
        builder.store_reference(list.unwrap_or_default())?;
        builder.store_u32(ACTION_SEND)?;
        builder.store_u8(message.safe_mode())?;
        builder.store_reference(message.to_cell()?)?;
        list = Some(builder.build()?);
    }
    Ok(list)
}

fn data(key: &VerifyingKey, network: Network) -> Result<Cell, Error> {
    let mut builder = CellBuilder::new();
    builder.store_bit_one()?;
    builder.store_u32(0)?;
    builder.store_u32(network.wallet_id())?;
    builder.store_raw(key.as_bytes(), 256)?;
    builder.store_bit_zero()?;
    builder.build()
}
