//! The table of single values.

use redb::{ReadTransaction, WriteTransaction};

use super::{Damaged, META, Stored};
use crate::chain::Head;

pub(super) fn put_bytes(write: &WriteTransaction, name: &str, value: &[u8]) -> Stored<()> {
    write.open_table(META)?.insert(name, value)?;
    Ok(())
}

pub(super) fn put_number(write: &WriteTransaction, name: &str, value: u64) -> Stored<()> {
    put_bytes(write, name, &value.to_be_bytes())
}

pub(super) fn put_head(write: &WriteTransaction, head: Head) -> Stored<()> {
    put_number(write, "seqno", head.seqno.into())?;
    put_number(write, "unix_s", head.unix_s.into())?;
    put_number(write, "lt", head.lt)
}

/// A value of exactly `N` bytes.
pub(super) fn wide<const N: usize>(read: &ReadTransaction, name: &'static str) -> Stored<[u8; N]> {
    let table = read.open_table(META)?;
    let value = table.get(name)?.ok_or(Damaged(name))?;
    Ok(value.value().try_into().map_err(|_| Damaged(name))?)
}

pub(super) fn get_number(read: &ReadTransaction, name: &'static str) -> Stored<u64> {
    wide(read, name).map(u64::from_be_bytes)
}

pub(super) fn narrow(number: u64) -> Stored<u32> {
    Ok(u32::try_from(number).map_err(|_| Damaged("a number of 32 bits"))?)
}
