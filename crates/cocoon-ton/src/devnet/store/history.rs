//! Reading transactions, and copying the whole file. Readers see the last block that was kept, and wait for nobody.

use std::fs;
use std::path::Path;

use redb::{Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, Value};
use tycho_types::cell::Cell;

use super::{ACCOUNTS, Damaged, EXTERNALS, META, ORDER, OpenError, QUEUE, Store, StoreError, Stored, TRANSACTIONS};
use super::{codec, open_error};
use crate::address::Address;
use crate::chain::TxId;

/// Why transactions cannot be told.
#[derive(Debug)]
pub(crate) enum HistoryError {
    /// The chain has no such transaction, or does not keep it any more.
    Gap { before_lt: u64 },
    /// The file.
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for HistoryError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// At most `limit` transactions after `after`, oldest first, if that is a transaction of the account.
    pub(crate) fn after(
        &self,
        account: &Address,
        after: Option<TxId>,
        limit: usize,
    ) -> Result<Vec<(TxId, Cell)>, HistoryError> {
        let read = self.database.begin_read()?;
        let after_lt = after.map_or(0, |id| id.lt);
        if let Some(known) = after
            && stored_hash(&read, account, known.lt)?.is_some_and(|hash| hash != known.hash)
        {
            return Err(HistoryError::Gap { before_lt: known.lt });
        }
        let last = last_of(&read, account)?;
        if after_lt > last.map_or(0, |id| id.lt) {
            return Err(HistoryError::Gap { before_lt: after_lt });
        }
        let (from, to) = (codec::transaction_key(account, after_lt), codec::transaction_key(account, u64::MAX));
        let table = read.open_table(TRANSACTIONS)?;
        let mut found = Vec::new();
        // No transaction has logical time 0, so leaving `from` out loses none when there is no `after`.
        let range = (std::ops::Bound::Excluded(from.as_slice()), std::ops::Bound::Included(to.as_slice()));
        for row in table.range::<&[u8]>(range)?.take(limit) {
            let (key, value) = row?;
            found.push(codec::transaction(key.value(), value.value())?);
        }
        Ok(found)
    }

    /// At most `limit` transactions, newest first, from `from` (itself among them) or from the last.
    pub(crate) fn before(
        &self,
        account: &Address,
        from: Option<TxId>,
        limit: usize,
    ) -> Result<Vec<(TxId, Cell)>, HistoryError> {
        let read = self.database.begin_read()?;
        if let Some(from) = from
            && stored_hash(&read, account, from.lt)? != Some(from.hash)
        {
            return Err(HistoryError::Gap { before_lt: from.lt });
        }
        let first = codec::transaction_key(account, 0);
        let last = codec::transaction_key(account, from.map_or(u64::MAX, |id| id.lt));
        let table = read.open_table(TRANSACTIONS)?;
        let mut found = Vec::new();
        for row in table.range::<&[u8]>(first.as_slice()..=last.as_slice())?.rev().take(limit) {
            let (key, value) = row?;
            found.push(codec::transaction(key.value(), value.value())?);
        }
        Ok(found)
    }

    /// Copies everything, as of the last block, to a new file that [`Store::restore`] takes.
    pub(crate) fn snapshot(&self, path: &Path) -> Stored<()> {
        if path.exists() {
            return Err(OpenError::Exists(path.to_owned()).into());
        }
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let copying = path.with_extension("copying");
        match fs::remove_file(&copying) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error).into()),
        }
        self.copy_to(&copying)?;
        fs::rename(&copying, path).map_err(io)?;
        Ok(())
    }

    fn copy_to(&self, path: &Path) -> Stored<()> {
        let read = self.database.begin_read()?;
        let copy = Database::builder().create(path).map_err(|error| open_error(path, error))?;
        copy_table(&read, &copy, ACCOUNTS)?;
        copy_table(&read, &copy, TRANSACTIONS)?;
        copy_table(&read, &copy, ORDER)?;
        copy_table(&read, &copy, QUEUE)?;
        copy_table(&read, &copy, EXTERNALS)?;
        copy_table(&read, &copy, META)
    }
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &Database,
    definition: TableDefinition<'_, K, V>,
) -> Stored<()> {
    let write = to.begin_write()?;
    {
        let source = from.open_table(definition)?;
        let mut target = write.open_table(definition)?;
        for row in source.iter()? {
            let (key, value) = row?;
            target.insert(key.value(), value.value())?;
        }
    }
    write.commit()?;
    Ok(())
}

fn stored_hash(read: &ReadTransaction, account: &Address, lt: u64) -> Stored<Option<[u8; 32]>> {
    let table = read.open_table(TRANSACTIONS)?;
    let Some(value) = table.get(codec::transaction_key(account, lt).as_slice())? else { return Ok(None) };
    let (hash, _) = value.value().split_first_chunk().ok_or(Damaged("a transaction"))?;
    Ok(Some(*hash))
}

fn last_of(read: &ReadTransaction, account: &Address) -> Stored<Option<TxId>> {
    let table = read.open_table(ACCOUNTS)?;
    match table.get(codec::address_key(account).as_slice())? {
        Some(value) => Ok(codec::last_of(value.value())?),
        None => Ok(None),
    }
}
