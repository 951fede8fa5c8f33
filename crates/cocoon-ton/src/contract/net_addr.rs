//! Where a registered proxy is reached, and optionally which contract and key it must have.
//!
//! Type 0 is v3's: text and nothing else. Type 1 is ours, and nodes of the original skip it: the same text, and a
//! reference with the proxy's contract and payment key, so that a client knows whom it pays before it dials.

use tycho_types::cell::Cell;

use super::codec::{Field, Reader, StateError, Writer};
use crate::address::Address;
use crate::limits::NET_ADDR_BYTES_MAX;

const WHAT: &str = "address of a proxy";

/// A registered proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRecord {
    text: String,
    pinned: Option<Pin>,
}

/// Whom a registered proxy must turn out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Its contract.
    pub contract: Address,
    /// The key that signs payments.
    pub payment_key: [u8; 32],
}

impl ProxyRecord {
    /// A record of what workers and clients dial, `host:port` each.
    ///
    /// # Errors
    ///
    /// When one is empty, holds anything but printable ASCII without spaces, or both take more than
    /// [`NET_ADDR_BYTES_MAX`] bytes.
    pub fn new(workers: &str, clients: &str, pinned: Option<Pin>) -> Result<Self, StateError> {
        if workers.contains(' ') || clients.contains(' ') {
            return Err(refused("an endpoint holds a space"));
        }
        let text = if workers == clients { workers.to_owned() } else { format!("{workers} {clients}") };
        Self::from_text(text, pinned)
    }

    /// What a root lists. The root's contract checks the type bit only, so a record may have the form of one and a text
    /// that cannot be dialled; it is `Err` then, and all of the list's other records count nevertheless.
    pub(super) fn listed(reader: &mut Reader<'_>, field: &'static str) -> Result<Result<Self, Cell>, StateError> {
        let leaf = reader.clone();
        let (text, pinned) = parts(reader, field)?;
        Ok(Self::from_bytes(text, pinned).map_err(|_| leaf.rest()))
    }

    fn from_bytes(text: Vec<u8>, pinned: Option<Pin>) -> Result<Self, StateError> {
        Self::from_text(String::from_utf8(text).map_err(|_| refused("not ASCII"))?, pinned)
    }

    fn from_text(text: String, pinned: Option<Pin>) -> Result<Self, StateError> {
        if text.len() > NET_ADDR_BYTES_MAX {
            return Err(refused("more than 110 bytes"));
        }
        let mut endpoints = text.split(' ');
        let sound = |endpoint: &str| !endpoint.is_empty() && endpoint.bytes().all(|byte| byte.is_ascii_graphic());
        let first = endpoints.next().is_some_and(sound);
        if !first || !endpoints.next().is_none_or(sound) || endpoints.next().is_some() {
            return Err(refused("not one or two endpoints in printable ASCII"));
        }
        Ok(Self { text, pinned })
    }

    /// What workers dial.
    #[must_use]
    pub fn workers(&self) -> &str {
        self.text.split_once(' ').map_or(&self.text, |(workers, _)| workers)
    }

    /// What clients dial.
    #[must_use]
    pub fn clients(&self) -> &str {
        self.text.split_once(' ').map_or(&self.text, |(_, clients)| clients)
    }

    /// Whom it must turn out to be. Without it, a client pins whom it first pays.
    #[must_use]
    pub const fn pinned(&self) -> Option<&Pin> {
        self.pinned.as_ref()
    }
}

const fn refused(reason: &'static str) -> StateError {
    StateError::Malformed { what: WHAT, field: "endpoints", reason }
}

/// The parts of a record, whatever its text says.
fn parts(reader: &mut Reader<'_>, field: &'static str) -> Result<(Vec<u8>, Option<Pin>), StateError> {
    let has_pin: bool = reader.get(field)?;
    let len = u16::try_from(reader.uint(7, field)?).map_err(|_| refused("too long"))?;
    let text = reader.bytes(len, field)?;
    let pinned = if has_pin { Some(Pin::parse(reader.nested(WHAT, "pin")?)?) } else { None };
    Ok((text, pinned))
}

/// `type:uint1 len:uint7 addr:(len*8 bits)`, and for type 1 `^[contract:MsgAddressInt payment_key:uint256]`.
impl Field for ProxyRecord {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
        let (text, pinned) = parts(reader, field)?;
        Self::from_bytes(text, pinned)
    }

    fn write(&self, writer: &mut Writer) {
        let out = std::mem::take(writer)
            .put(&self.pinned.is_some())
            .uint(7, self.text.len() as u64)
            .bytes(self.text.as_bytes());
        *writer = match &self.pinned {
            Some(pin) => out.put(&pin.to_cell()),
            None => out,
        };
    }

    fn show(&self) -> String {
        match &self.pinned {
            Some(pin) => format!("{}, contract {}, key {}", self.text, pin.contract, hex::encode(pin.payment_key)),
            None => self.text.clone(),
        }
    }
}

impl Pin {
    fn parse(mut reader: Reader<'_>) -> Result<Self, StateError> {
        let pin = Self { contract: reader.get("contract")?, payment_key: reader.get("payment key")? };
        reader.end()?;
        Ok(pin)
    }

    fn to_cell(self) -> Cell {
        Writer::new().put(&self.contract).put(&self.payment_key).cell()
    }
}
