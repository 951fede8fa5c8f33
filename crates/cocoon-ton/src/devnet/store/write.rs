//! What changes the file. Every method is one durable transaction: all of it is there after a crash, or nothing.

use redb::{ReadableTable, WriteTransaction};

use super::{ACCOUNTS, Damaged, EXTERNALS, META, ORDER, QUEUE, Store, Stored, TRANSACTIONS, codec, put_bytes};
use super::{put_head, put_number};
use crate::devnet::engine::{Block, Waiting};
use crate::limits::HISTORY_TRANSACTIONS_MAX;

impl Store {
    /// Keeps messages before their senders hear that they were taken.
    pub(crate) fn keep_externals(&self, taken: &[Waiting]) -> Stored<()> {
        let write = self.database.begin_write()?;
        {
            let mut externals = write.open_table(EXTERNALS)?;
            for waiting in taken {
                externals.insert(waiting.number, codec::boc(&waiting.cell).as_slice())?;
            }
        }
        if let Some(last) = taken.last() {
            put_number(&write, "external", last.number + 1)?;
        }
        write.commit()?;
        Ok(())
    }

    /// Keeps a block before anyone hears of it.
    pub(crate) fn keep_block(&self, block: &Block) -> Stored<()> {
        let write = self.database.begin_write()?;
        put_accounts(&write, block)?;
        put_transactions(&write, block)?;
        put_messages(&write, block)?;
        put_head(&write, block.head)?;
        put_bytes(&write, "burnt", &block.burnt.to_be_bytes())?;
        write.commit()?;
        Ok(())
    }

    /// Keeps how far the devnet's time is ahead of the machine's.
    pub(crate) fn keep_offset(&self, offset_ms: u64) -> Stored<()> {
        let write = self.database.begin_write()?;
        put_number(&write, "offset_ms", offset_ms)?;
        write.commit()?;
        Ok(())
    }
}

fn put_accounts(write: &WriteTransaction, block: &Block) -> Stored<()> {
    let mut accounts = write.open_table(ACCOUNTS)?;
    for (address, entry) in &block.accounts {
        accounts.insert(codec::address_key(address).as_slice(), codec::entry_bytes(entry).as_slice())?;
    }
    Ok(())
}

fn put_transactions(write: &WriteTransaction, block: &Block) -> Stored<()> {
    if block.transactions.is_empty() {
        return Ok(());
    }
    let mut transactions = write.open_table(TRANSACTIONS)?;
    let mut order = write.open_table(ORDER)?;
    let mut next = meta_number(write, "next")?;
    for executed in &block.transactions {
        let key = codec::transaction_key(&executed.account, executed.id.lt);
        let mut value = executed.id.hash.to_vec();
        value.extend_from_slice(&codec::boc(&executed.cell));
        transactions.insert(key.as_slice(), value.as_slice())?;
        order.insert(next, key.as_slice())?;
        next += 1;
    }
    let mut oldest = meta_number(write, "oldest")?;
    while next - oldest > HISTORY_TRANSACTIONS_MAX {
        if let Some(key) = order.remove(oldest)? {
            transactions.remove(key.value())?;
        }
        oldest += 1;
    }
    put_number(write, "next", next)?;
    put_number(write, "oldest", oldest)
}

fn put_messages(write: &WriteTransaction, block: &Block) -> Stored<()> {
    let mut queue = write.open_table(QUEUE)?;
    for at in &block.delivered {
        queue.remove(codec::position_key(at).as_slice())?;
    }
    for (at, message) in &block.queued {
        queue.insert(codec::position_key(at).as_slice(), codec::boc(&message.cell).as_slice())?;
    }
    let mut externals = write.open_table(EXTERNALS)?;
    for number in &block.externals_done {
        externals.remove(number)?;
    }
    Ok(())
}

fn meta_number(write: &WriteTransaction, name: &'static str) -> Stored<u64> {
    let meta = write.open_table(META)?;
    let value = meta.get(name)?.ok_or(Damaged(name))?;
    Ok(u64::from_be_bytes(value.value().try_into().map_err(|_| Damaged(name))?))
}
