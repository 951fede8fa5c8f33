//! Messages as they stand in a transaction. Read by hand, since servers and old blocks hold what models refuse: a
//! source that was left out, fees in a field that since became flags.

use cocoon_units::Nano;
use tycho_types::cell::{Cell, Load as _};
use tycho_types::dict::Dict;
use tycho_types::models::StateInit;

use super::{Message, MessageKind};
use crate::address::Address;
use crate::chain::ChainError;
use crate::contract::{Reader, StateError};

impl Message {
    /// Reads a message from its cell.
    pub(super) fn parse(cell: &Cell) -> Result<Self, ChainError> {
        read(cell).map_err(|error| super::bad("a message that cannot be read", &error))
    }
}

fn read(cell: &Cell) -> Result<Message, StateError> {
    let mut reader = Reader::new("message", cell.as_ref())?;
    let kind = if !reader.get("kind")? {
        internal(&mut reader)?
    } else if !reader.get("kind")? {
        external_in(&mut reader)?
    } else {
        external_out(&mut reader)?
    };
    let has_state_init = skip_state_init(&mut reader)?;
    let body = if reader.get("body")? {
        let body = reader.get("body")?;
        reader.end()?;
        body
    } else {
        reader.rest()
    };
    Ok(Message { hash: cell.repr_hash().0, kind, body, has_state_init })
}

/// `int_msg_info$0 ihr_disabled bounce bounced src dest value flags fwd_fee created_lt created_at`.
fn internal(reader: &mut Reader<'_>) -> Result<MessageKind, StateError> {
    let _ihr_disabled: bool = reader.get("flags")?;
    let (bounce, bounced) = (reader.get("flags")?, reader.get("flags")?);
    let (from, to) = (source(reader)?, reader.get("destination")?);
    let value = reader.get("value")?;
    // Extra currencies, which nothing here takes.
    reader.take("extra currencies", Dict::<u32, ()>::load_from)?;
    let (_flags, _forward_fee) = (reader.get::<Nano>("flags")?, reader.get::<Nano>("forward fee")?);
    let created_lt = reader.get("logical time")?;
    let _created_at: u32 = reader.get("time")?;
    Ok(MessageKind::Internal { from, to, value, bounce, bounced, created_lt })
}

/// `ext_in_msg_info$10 src:MsgAddressExt dest import_fee`.
fn external_in(reader: &mut Reader<'_>) -> Result<MessageKind, StateError> {
    external_address(reader)?;
    let to = reader.get("destination")?;
    let _import_fee: Nano = reader.get("import fee")?;
    Ok(MessageKind::ExternalIn { to })
}

/// `ext_out_msg_info$11 src dest:MsgAddressExt created_lt created_at`.
fn external_out(reader: &mut Reader<'_>) -> Result<MessageKind, StateError> {
    let from = source(reader)?;
    external_address(reader)?;
    let created_lt = reader.get("logical time")?;
    let _created_at: u32 = reader.get("time")?;
    Ok(MessageKind::ExternalOut { from, created_lt })
}

/// A source that was left out (`addr_none`) is the account of zeroes, which nobody has the key of.
fn source(reader: &mut Reader<'_>) -> Result<Address, StateError> {
    if reader.starts_with_zero_bits(2) {
        reader.uint(2, "source")?;
        return Ok(Address::basechain([0; 32]));
    }
    reader.get("source")
}

/// `addr_none$00` or `addr_extern$01 len:uint9 bits`; it is not kept.
fn external_address(reader: &mut Reader<'_>) -> Result<(), StateError> {
    match reader.uint(2, "external address")? {
        0 => return Ok(()),
        1 => {}
        _ => return Err(reader.malformed("external address", "an unknown kind")),
    }
    let len = reader.uint(9, "external address")?;
    let len = u16::try_from(len).map_err(|_| reader.malformed("external address", "too long"))?;
    reader.take("external address", |slice| slice.skip_first(len, 0))
}

/// `(Maybe (Either StateInit ^StateInit))`.
fn skip_state_init(reader: &mut Reader<'_>) -> Result<bool, StateError> {
    if !reader.get("initial state")? {
        return Ok(false);
    }
    if reader.get("initial state")? {
        let _init: Cell = reader.get("initial state")?;
    } else {
        reader.take("initial state", StateInit::load_from)?;
    }
    Ok(true)
}
