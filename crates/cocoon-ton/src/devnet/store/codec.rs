//! Keys and values of the tables, in bytes. Integers in keys are big-endian, so that tables are sorted by them.
//!
//! A value that does not decode is a file that something else wrote to: everything here fails with [`Damaged`].

use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, HashBytes, Lazy};
use tycho_types::models::{OptionalAccount, ShardAccount};

use crate::address::Address;
use crate::chain::TxId;
use crate::devnet::engine::{Entry, Position};

/// What cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged(pub(super) &'static str);

pub(super) type Decoded<T> = Result<T, Damaged>;

pub(super) type AddressKey = [u8; 33];
pub(super) type TransactionKey = [u8; 41];
pub(super) type PositionKey = [u8; 40];

pub(super) fn address_key(address: &Address) -> AddressKey {
    let mut key = [0; 33];
    let (workchain, account) = key.split_at_mut(1);
    workchain.copy_from_slice(&address.workchain.to_be_bytes());
    account.copy_from_slice(&address.account);
    key
}

pub(super) fn address(key: &[u8]) -> Decoded<Address> {
    let damaged = Damaged("an address");
    let (workchain, account) = key.split_first().ok_or(damaged)?;
    Ok(Address { workchain: i8::from_be_bytes([*workchain]), account: account.try_into().map_err(|_| damaged)? })
}

pub(super) fn transaction_key(account: &Address, lt: u64) -> TransactionKey {
    let mut key = [0; 41];
    let (address, time) = key.split_at_mut(33);
    address.copy_from_slice(&address_key(account));
    time.copy_from_slice(&lt.to_be_bytes());
    key
}

pub(super) fn position_key(at: &Position) -> PositionKey {
    let mut key = [0; 40];
    let (lt, hash) = key.split_at_mut(8);
    lt.copy_from_slice(&at.created_lt.to_be_bytes());
    hash.copy_from_slice(&at.hash);
    key
}

pub(super) fn position(key: &[u8]) -> Decoded<Position> {
    let (created_lt, hash) = number_and_hash(key)?;
    Ok(Position { created_lt, hash })
}

/// A state: its last transaction, and its cell.
pub(super) fn entry_bytes(entry: &Entry) -> Vec<u8> {
    let mut bytes = entry.state.last_trans_lt.to_be_bytes().to_vec();
    bytes.extend_from_slice(&entry.state.last_trans_hash.0);
    bytes.extend_from_slice(&Boc::encode(entry.state.account.inner()));
    bytes
}

pub(super) fn entry(bytes: &[u8]) -> Decoded<Entry> {
    let (last, boc) = bytes.split_at_checked(40).ok_or(Damaged("an account"))?;
    let (last_trans_lt, hash) = number_and_hash(last)?;
    let account = Lazy::<OptionalAccount>::from_raw(cell(boc)?).map_err(|_| Damaged("an account"))?;
    account.load().map_err(|_| Damaged("an account"))?;
    Ok(Entry::new(ShardAccount { account, last_trans_hash: HashBytes(hash), last_trans_lt }))
}

pub(super) fn last_of(entry_bytes: &[u8]) -> Decoded<Option<TxId>> {
    let (last, _) = entry_bytes.split_at_checked(40).ok_or(Damaged("an account"))?;
    let (lt, hash) = number_and_hash(last)?;
    Ok((lt != 0).then_some(TxId { lt, hash }))
}

pub(super) fn transaction(key: &[u8], value: &[u8]) -> Decoded<(TxId, Cell)> {
    let damaged = Damaged("a transaction");
    let lt = key.last_chunk().ok_or(damaged)?;
    let (hash, boc) = value.split_first_chunk().ok_or(damaged)?;
    Ok((TxId { lt: u64::from_be_bytes(*lt), hash: *hash }, cell(boc)?))
}

pub(super) fn cell(boc: &[u8]) -> Decoded<Cell> {
    Boc::decode(boc).map_err(|_| Damaged("a cell"))
}

pub(super) fn boc(cell: &Cell) -> Vec<u8> {
    Boc::encode(cell)
}

fn number_and_hash(bytes: &[u8]) -> Decoded<(u64, [u8; 32])> {
    let damaged = Damaged("a logical time and a hash");
    let (number, hash) = bytes.split_at_checked(8).ok_or(damaged)?;
    let number = u64::from_be_bytes(number.try_into().map_err(|_| damaged)?);
    Ok((number, hash.try_into().map_err(|_| damaged)?))
}
