//! Messages as they stand in a transaction. Whoever sends one chooses much of its header, and whoever passes an external
//! on chooses all of it: a signature covers the body only. So what the network lets through must be read here, too, or a
//! stranger could end an account's history for us.
//!
//! 1. Fields that nothing here needs are skipped by their length, whatever they hold.
//! 2. A form that the network knows and we cannot hold ([`MessageKind::Unreadable`]) costs the header, not the body.
//! 3. What is no message at all is an error. No block holds it; a server made it up.
//!
//! They are read by hand, since servers and old blocks hold what models refuse: a source that was left out, fees in a
//! field that since became flags.

use cocoon_units::Nano;
use tycho_types::cell::Cell;

use super::{Message, MessageKind};
use crate::address::Address;
use crate::chain::ChainError;
use crate::contract::{Reader, StateError};

impl Message {
    /// Reads a message of a transaction of `account` from its cell.
    pub(super) fn parse(account: Address, cell: &Cell) -> Result<Self, ChainError> {
        read(account, cell).map_err(|error| super::bad("a message that cannot be read", &error))
    }
}

fn read(account: Address, cell: &Cell) -> Result<Message, StateError> {
    let mut reader = Reader::new("message", cell.as_ref())?;
    let (kind, forward_fee) = if !reader.get("kind")? {
        internal(&mut reader)?
    } else if !reader.get("kind")? {
        (external_in(account, &mut reader)?, Nano::ZERO)
    } else {
        (external_out(&mut reader)?, Nano::ZERO)
    };
    let has_state_init = skip_state_init(&mut reader)?;
    let body = if reader.get("body")? {
        let body = reader.get("body")?;
        reader.end()?;
        body
    } else {
        reader.rest()
    };
    Ok(Message { hash: cell.repr_hash().0, kind, body, has_state_init, forward_fee })
}

/// `int_msg_info$0 ihr_disabled bounce bounced src dest value extra flags fwd_fee created_lt created_at`.
fn internal(reader: &mut Reader<'_>) -> Result<(MessageKind, Nano), StateError> {
    let _ihr_disabled: bool = reader.get("flags")?;
    let (bounce, bounced) = (reader.get("flags")?, reader.get("flags")?);
    let (from, to) = (source(reader)?, address(reader, "destination")?);
    let value = coins(reader, "value")?;
    // Extra currencies, which nothing here takes.
    skip_maybe_ref(reader, "extra currencies")?;
    coins(reader, "flags")?;
    let forward_fee = coins(reader, "forward fee")?.unwrap_or_default();
    let created_lt = reader.get("logical time")?;
    let _created_at: u32 = reader.get("time")?;
    let (Some(from), Some(to), Some(value)) = (from, to, value) else {
        return Ok((MessageKind::Unreadable, forward_fee));
    };
    Ok((MessageKind::Internal { from, to, value, bounce, bounced, created_lt }, forward_fee))
}

/// `ext_in_msg_info$10 src:MsgAddressExt dest import_fee`. The transaction itself shows whom it reached, so that no form
/// of the destination can hide from a sender that its own external landed.
fn external_in(account: Address, reader: &mut Reader<'_>) -> Result<MessageKind, StateError> {
    external_address(reader)?;
    let to = address(reader, "destination")?.unwrap_or(account);
    coins(reader, "import fee")?;
    Ok(MessageKind::ExternalIn { to })
}

/// `ext_out_msg_info$11 src dest:MsgAddressExt created_lt created_at`.
fn external_out(reader: &mut Reader<'_>) -> Result<MessageKind, StateError> {
    let from = source(reader)?;
    external_address(reader)?;
    let created_lt = reader.get("logical time")?;
    let _created_at: u32 = reader.get("time")?;
    Ok(from.map_or(MessageKind::Unreadable, |from| MessageKind::ExternalOut { from, created_lt }))
}

/// A source that was left out (`addr_none`) is the account of zeroes, which nobody has the key of.
fn source(reader: &mut Reader<'_>) -> Result<Option<Address>, StateError> {
    if reader.starts_with_zero_bits(2) {
        reader.uint(2, "source")?;
        return Ok(Some(Address::basechain([0; 32])));
    }
    address(reader, "source")
}

/// `addr_std$10 anycast workchain:int8 account:bits256` or `addr_var$11 anycast len:uint9 workchain:int32 account:bits`.
/// `None` for anycast and for `addr_var`.
fn address(reader: &mut Reader<'_>, field: &'static str) -> Result<Option<Address>, StateError> {
    let mut ahead = reader.clone();
    if let Ok(address) = ahead.get(field) {
        *reader = ahead;
        return Ok(Some(address));
    }
    let is_var = match reader.uint(2, field)? {
        2 => false,
        3 => true,
        _ => return Err(reader.malformed(field, "an unknown kind")),
    };
    if reader.get(field)? {
        let depth = reader.uint(5, field)?;
        skip_bits(reader, depth, field)?;
    }
    let bits = if is_var { reader.uint(9, field)?.saturating_add(32) } else { 8 + 256 };
    skip_bits(reader, bits, field)?;
    Ok(None)
}

/// `Coins`; `None` for more than there is.
fn coins(reader: &mut Reader<'_>, field: &'static str) -> Result<Option<Nano>, StateError> {
    let len = reader.uint(4, field)?;
    let mut value = Some(0_u64);
    for _ in 0..len {
        let byte = reader.uint(8, field)?;
        value = value.and_then(|value| value.checked_mul(256)?.checked_add(byte));
    }
    Ok(value.map(Nano::new))
}

/// `addr_none$00` or `addr_extern$01 len:uint9 bits`; it is not kept.
fn external_address(reader: &mut Reader<'_>) -> Result<(), StateError> {
    match reader.uint(2, "external address")? {
        0 => return Ok(()),
        1 => {}
        _ => return Err(reader.malformed("external address", "an unknown kind")),
    }
    let len = reader.uint(9, "external address")?;
    skip_bits(reader, len, "external address")
}

/// `(Maybe (Either StateInit ^StateInit))`.
fn skip_state_init(reader: &mut Reader<'_>) -> Result<bool, StateError> {
    let field = "initial state";
    if !reader.get(field)? {
        return Ok(false);
    }
    if reader.get(field)? {
        let _init: Cell = reader.get(field)?;
        return Ok(true);
    }
    // `fixed_prefix_length:(Maybe (## 5)) special:(Maybe TickTock)`, then code, data and libraries.
    for bits in [5, 2] {
        if reader.get(field)? {
            skip_bits(reader, bits, field)?;
        }
    }
    for _ in 0..3 {
        skip_maybe_ref(reader, field)?;
    }
    Ok(true)
}

fn skip_maybe_ref(reader: &mut Reader<'_>, field: &'static str) -> Result<(), StateError> {
    if reader.get(field)? {
        let _skipped: Cell = reader.get(field)?;
    }
    Ok(())
}

fn skip_bits(reader: &mut Reader<'_>, bits: u64, field: &'static str) -> Result<(), StateError> {
    let bits = u16::try_from(bits).map_err(|_| reader.malformed(field, "too long"))?;
    reader.take(field, |slice| slice.skip_first(bits, 0))
}

#[cfg(test)]
mod tests;
