//! The devnet's database: one file, in which a block or a batch of messages is one durable transaction.
//!
//! | table | key | value |
//! |---|---|---|
//! | `accounts` | workchain, account | last transaction, state |
//! | `transactions` | workchain, account, logical time | transaction |
//! | `order` | number of the transaction among all | key in `transactions` |
//! | `queue` | logical time, hash | message between accounts |
//! | `externals` | number among all that came | message that waits for a block |
//! | `meta` | name | number, or bytes |
//!
//! Whatever a caller was told is in the file before it was told: a process that is killed at any moment finds all of it
//! again. redb checks what it reads by checksums and holds a lock on the file, so there is one process at a time.
//! [`Store::memory`] is the same without a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};

use super::engine::{Genesis, InFlight, Position, Saved, Waiting};
use crate::chain::Head;
use crate::limits::STORE_CACHE_BYTES;

mod codec;
mod history;
mod meta;
mod write;

use codec::Damaged;
pub(crate) use history::HistoryError;
use meta::{get_number, narrow, put_bytes, put_head, put_number, wide};

const ACCOUNTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("accounts");
const TRANSACTIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("transactions");
const ORDER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("order");
const QUEUE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("queue");
const EXTERNALS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("externals");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// The layout above. A file of another one is refused: a devnet is cheap to make again.
const VERSION: u64 = 1;
const FILE: &str = "devnet.redb";

/// Why a devnet's file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is open in another process: stop that devnet, or use another folder", .0.display())]
    InUse(PathBuf),
    /// Another version of Cocoon wrote it.
    #[error("{} has version {found}, and this program reads {VERSION}: use another folder, or remove the file to begin anew", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// It is there already.
    #[error("{} is there already, and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// It is no devnet's file, or it is damaged.
    #[error("{} is no file of a devnet: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The machine cannot read or write it.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the machine says.
        source: std::io::Error,
    },
}

/// Why the database does not go on. The engine is ahead of the file then, and must stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the devnet's database: {0}")]
    Redb(#[from] redb::Error),
    #[error("the devnet's database holds {0} that cannot be read")]
    Damaged(&'static str),
    #[error("{0}")]
    Open(#[from] OpenError),
}

impl From<Damaged> for StoreError {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged.0)
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}
from_redb!(CommitError, SetDurabilityError, StorageError, TableError, TransactionError);

type Stored<T> = Result<T, StoreError>;

/// The database.
#[derive(Debug)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    /// Opens the devnet in `folder`, or begins one there as `genesis` says.
    pub(crate) fn open(folder: &Path, genesis: &Genesis) -> Result<(Self, Saved, u64), OpenError> {
        let path = folder.join(FILE);
        let io = |source| OpenError::Io { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(io)?;
        let database = Database::builder()
            .set_cache_size(STORE_CACHE_BYTES)
            .create(&path)
            .map_err(|error| open_error(&path, error))?;
        // The file's name must be as durable as what is in it.
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        let store = Self { database };
        let (saved, offset_ms) = store.begin(&path, genesis)?;
        Ok((store, saved, offset_ms))
    }

    /// A devnet that is gone with the process.
    pub(crate) fn memory(genesis: &Genesis) -> Result<(Self, Saved, u64), OpenError> {
        let path = PathBuf::from("memory");
        let database = Database::builder()
            .set_cache_size(STORE_CACHE_BYTES)
            .create_with_backend(InMemoryBackend::new())
            .map_err(|error| open_error(&path, error))?;
        let store = Self { database };
        let (saved, offset_ms) = store.begin(&path, genesis)?;
        Ok((store, saved, offset_ms))
    }

    /// Copies a snapshot to where [`Self::open`] finds it. What is there already is never overwritten.
    pub(crate) fn restore(snapshot: &Path, folder: &Path) -> Result<(), OpenError> {
        let path = folder.join(FILE);
        if path.exists() {
            return Err(OpenError::Exists(path));
        }
        let copying = folder.join(format!("{FILE}.copying"));
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(io(folder))?;
        fs::copy(snapshot, &copying).map_err(io(snapshot))?;
        fs::File::open(&copying).and_then(|file| file.sync_all()).map_err(io(&copying))?;
        fs::rename(&copying, &path).map_err(io(&path))
    }

    fn begin(&self, path: &Path, genesis: &Genesis) -> Result<(Saved, u64), OpenError> {
        let damaged = |error: StoreError| OpenError::Damaged { path: path.to_owned(), reason: error.to_string() };
        match self.version().map_err(damaged)? {
            None => self.create(genesis).map_err(damaged)?,
            Some(VERSION) => {}
            Some(found) => return Err(OpenError::Version { path: path.to_owned(), found }),
        }
        self.load().map_err(damaged)
    }

    fn version(&self) -> Stored<Option<u64>> {
        let read = self.database.begin_read()?;
        match read.open_table(META) {
            Ok(_) => get_number(&read, "version").map(Some),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, genesis: &Genesis) -> Stored<()> {
        let saved = genesis.build();
        let write = self.database.begin_write()?;
        write.open_table(TRANSACTIONS)?;
        write.open_table(ORDER)?;
        write.open_table(QUEUE)?;
        write.open_table(EXTERNALS)?;
        {
            let mut accounts = write.open_table(ACCOUNTS)?;
            for (address, entry) in &saved.accounts {
                accounts.insert(codec::address_key(address).as_slice(), codec::entry_bytes(entry).as_slice())?;
            }
        }
        put_bytes(&write, "seed", &saved.seed)?;
        put_bytes(&write, "issued", &saved.issued.to_be_bytes())?;
        put_bytes(&write, "burnt", &saved.burnt.to_be_bytes())?;
        put_head(&write, saved.head)?;
        for (name, value) in [("version", VERSION), ("external", 0), ("offset_ms", 0), ("oldest", 0), ("next", 0)] {
            put_number(&write, name, value)?;
        }
        write.commit()?;
        Ok(())
    }

    fn load(&self) -> Stored<(Saved, u64)> {
        let read = self.database.begin_read()?;
        let mut accounts = BTreeMap::new();
        for row in read.open_table(ACCOUNTS)?.iter()? {
            let (key, value) = row?;
            accounts.insert(codec::address(key.value())?, codec::entry(value.value())?);
        }
        let saved = Saved {
            seed: wide(&read, "seed")?,
            head: Head {
                seqno: narrow(get_number(&read, "seqno")?)?,
                unix_s: narrow(get_number(&read, "unix_s")?)?,
                lt: get_number(&read, "lt")?,
            },
            accounts,
            queue: load_queue(&read)?,
            externals: load_externals(&read)?,
            next_external: get_number(&read, "external")?,
            issued: u128::from_be_bytes(wide(&read, "issued")?),
            burnt: u128::from_be_bytes(wide(&read, "burnt")?),
        };
        Ok((saved, get_number(&read, "offset_ms")?))
    }
}

fn load_queue(read: &ReadTransaction) -> Stored<Vec<(Position, InFlight)>> {
    let mut queue = Vec::new();
    for row in read.open_table(QUEUE)?.iter()? {
        let (key, value) = row?;
        let (at, message) = InFlight::read(codec::cell(value.value())?).ok_or(Damaged("a message"))?;
        if codec::position(key.value())? != at {
            return Err(StoreError::Damaged("a message in another's place"));
        }
        queue.push((at, message));
    }
    Ok(queue)
}

fn load_externals(read: &ReadTransaction) -> Stored<Vec<Waiting>> {
    let mut externals = Vec::new();
    for row in read.open_table(EXTERNALS)?.iter()? {
        let (number, value) = row?;
        let cell = codec::cell(value.value())?;
        externals.push(Waiting::read(number.value(), cell).ok_or(Damaged("an external message"))?);
    }
    Ok(externals)
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    if let DatabaseError::DatabaseAlreadyOpen = error {
        return OpenError::InUse(path);
    }
    if let DatabaseError::Storage(redb::StorageError::Io(source)) = error {
        // redb calls a file that is none of its own invalid data.
        return OpenError::Io { path, source };
    }
    OpenError::Damaged { path, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_version_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(folder.path(), &Genesis::default()).unwrap();
        let write = store.database.begin_write().unwrap();
        put_number(&write, "version", VERSION + 1).unwrap();
        write.commit().unwrap();
        drop(store);
        let refused = Store::open(folder.path(), &Genesis::default()).unwrap_err();
        assert!(matches!(refused, OpenError::Version { found, .. } if found == VERSION + 1));
        assert!(refused.to_string().contains("has version 2, and this program reads 1"), "{refused}");
    }

    #[test]
    fn a_file_that_lacks_what_it_must_have_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(folder.path(), &Genesis::default()).unwrap();
        let write = store.database.begin_write().unwrap();
        write.open_table(META).unwrap().remove("burnt").unwrap();
        write.commit().unwrap();
        drop(store);
        let refused = Store::open(folder.path(), &Genesis::default()).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    }
}
