//! What a wallet sent last, on disk, so that a restart neither sends it twice nor forgets it.
//!
//! 1. Written and synced before an external is handed in for the first time, and again when its end is known.
//! 2. Each write is a new file of mode 0600 that replaces the old one by renaming: a crash leaves one of the two.
//! 3. A lock beside it keeps a second process off: two senders of one key would take each other's seqno.
//!
//! The end stays in the file, too: a process that dies between a landing and its own book-keeping can ask
//! ([`super::Sender::past`]).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tycho_types::boc::Boc;

use super::flight::{Earlier, Flight};
use crate::address::Address;
use crate::chain::TxId;
use crate::limits::WALLET_JOURNAL_BYTES_MAX;

const VERSION: u32 = 1;

/// Why a wallet's journal cannot be used. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process sends from this wallet.
    #[error("{} is in use: another process sends from this wallet, and two would take each other's turn", path.display())]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// It is another wallet's.
    #[error("{} belongs to the wallet {theirs}, not to {ours}", path.display())]
    AnotherWallet {
        /// The journal.
        path: PathBuf,
        /// Whose it is.
        theirs: Address,
        /// Whose we need.
        ours: Address,
    },
    /// It cannot be read.
    #[error(
        "{} is damaged or of a later version: remove it only if nothing was sent from this wallet for two minutes",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
    },
    /// The system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The journal, or its lock.
        path: PathBuf,
        /// What it said.
        #[source]
        error: io::Error,
    },
}

/// The last flight and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) flight: Flight,
    pub(super) end: End,
}

/// What became of a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Not known yet.
    Open,
    /// It landed in this transaction.
    Landed(TxId),
    /// It did not, and never will.
    Never,
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    address: Address,
    /// Held, not read: the lock goes with it.
    _lock: File,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    wallet: Address,
    seqno: u32,
    valid_until: u32,
    after: Option<StoredTx>,
    messages: Vec<StoredMessage>,
    #[serde(with = "hex::serde")]
    body_hash: [u8; 32],
    /// The external, as a bag of cells in hexadecimal.
    external: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<StoredEarlier>,
    end: StoredEnd,
}

#[derive(Serialize, Deserialize)]
struct StoredTx {
    lt: u64,
    #[serde(with = "hex::serde")]
    hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct StoredMessage {
    to: Address,
    #[serde(with = "hex::serde")]
    body_hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct StoredEarlier {
    #[serde(with = "hex::serde")]
    body_hash: [u8; 32],
    carried: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredEnd {
    Open,
    Landed(StoredTx),
    Never,
}

impl Journal {
    /// Opens or begins the journal of a wallet.
    pub(super) fn open(path: &Path, address: Address) -> Result<(Self, Option<Entry>), JournalError> {
        let lock = lock(path)?;
        let entry = read(path, address)?;
        Ok((Self { path: path.to_owned(), address, _lock: lock }, entry))
    }

    /// Replaces what it holds, and returns once that is on disk.
    pub(super) fn write(&self, entry: &Entry) -> Result<(), JournalError> {
        let io = |error| JournalError::Io { path: self.path.clone(), error };
        let text = serde_json::to_vec(&Stored::new(self.address, entry)).map_err(|error| io(error.into()))?;
        let beside = suffixed(&self.path, ".new");
        replace(&self.path, &beside, &text).map_err(io)
    }
}

impl Stored {
    fn new(wallet: Address, entry: &Entry) -> Self {
        let flight = &entry.flight;
        let messages = flight.messages.iter().map(|&(to, body_hash)| StoredMessage { to, body_hash }).collect();
        Self {
            version: VERSION,
            wallet,
            seqno: flight.seqno,
            valid_until: flight.valid_until,
            after: flight.after.map(StoredTx::from),
            messages,
            body_hash: flight.body_hash,
            external: Boc::encode_hex(&flight.external),
            earlier: flight.earlier.iter().map(StoredEarlier::from).collect(),
            end: match entry.end {
                End::Open => StoredEnd::Open,
                End::Landed(id) => StoredEnd::Landed(id.into()),
                End::Never => StoredEnd::Never,
            },
        }
    }

    fn entry(self) -> Option<Entry> {
        let flight = Flight {
            external: Boc::decode_hex(&self.external).ok()?,
            body_hash: self.body_hash,
            seqno: self.seqno,
            valid_until: self.valid_until,
            after: self.after.map(TxId::from),
            messages: self.messages.into_iter().map(|message| (message.to, message.body_hash)).collect(),
            earlier: self.earlier.into_iter().map(Earlier::from).collect(),
        };
        let end = match self.end {
            StoredEnd::Open => End::Open,
            StoredEnd::Landed(id) => End::Landed(id.into()),
            StoredEnd::Never => End::Never,
        };
        Some(Entry { flight, end })
    }
}

impl From<&Earlier> for StoredEarlier {
    fn from(earlier: &Earlier) -> Self {
        Self { body_hash: earlier.body_hash, carried: earlier.carried }
    }
}

impl From<StoredEarlier> for Earlier {
    fn from(stored: StoredEarlier) -> Self {
        Self { body_hash: stored.body_hash, carried: stored.carried }
    }
}

impl From<TxId> for StoredTx {
    fn from(id: TxId) -> Self {
        Self { lt: id.lt, hash: id.hash }
    }
}

impl From<StoredTx> for TxId {
    fn from(stored: StoredTx) -> Self {
        Self { lt: stored.lt, hash: stored.hash }
    }
}

fn lock(path: &Path) -> Result<File, JournalError> {
    let beside = suffixed(path, ".lock");
    let opened = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&beside);
    let file = opened.map_err(|error| JournalError::Io { path: beside.clone(), error })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(JournalError::Io { path: beside, error }),
    }
}

fn read(path: &Path, ours: Address) -> Result<Option<Entry>, JournalError> {
    let damaged = || JournalError::Damaged { path: path.to_owned() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::Io { path: path.to_owned(), error }),
    };
    let mut text = Vec::new();
    let read = file.take(WALLET_JOURNAL_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| JournalError::Io { path: path.to_owned(), error })?;
    let stored: Stored = serde_json::from_slice(&text).map_err(|_| damaged())?;
    if stored.version != VERSION {
        return Err(damaged());
    }
    if stored.wallet != ours {
        return Err(JournalError::AnotherWallet { path: path.to_owned(), theirs: stored.wallet, ours });
    }
    stored.entry().map(Some).ok_or_else(damaged)
}

fn replace(path: &Path, beside: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(directory)?.sync_all()
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn entry(end: End) -> Entry {
        let flight = Flight {
            external: tycho_types::cell::Cell::default(),
            body_hash: [1; 32],
            seqno: 3,
            valid_until: 99,
            after: Some(TxId { lt: u64::MAX, hash: [2; 32] }),
            messages: vec![(Address::basechain([4; 32]), [5; 32])],
            earlier: vec![Earlier { body_hash: [6; 32], carried: 1 }],
        };
        Entry { flight, end }
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let address = Address::basechain([9; 32]);
        let landed = End::Landed(TxId { lt: 7, hash: [8; 32] });
        for end in [End::Open, landed, End::Never] {
            let (journal, _) = Journal::open(&path, address).unwrap();
            journal.write(&entry(end)).unwrap();
            drop(journal);
            let (_journal, read) = Journal::open(&path, address).unwrap();
            assert_eq!(read, Some(entry(end)));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_second_process_another_wallet_and_rubbish_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let address = Address::basechain([9; 32]);
        let (journal, none) = Journal::open(&path, address).unwrap();
        assert_eq!(none, None);
        assert!(matches!(Journal::open(&path, address), Err(JournalError::InUse { .. })));
        journal.write(&entry(End::Open)).unwrap();
        drop(journal);
        let other = Journal::open(&path, Address::basechain([1; 32]));
        assert!(matches!(other, Err(JournalError::AnotherWallet { .. })));
        fs::write(&path, "{").unwrap();
        assert!(matches!(Journal::open(&path, address), Err(JournalError::Damaged { .. })));
    }

    #[test]
    fn a_crash_while_writing_leaves_the_old_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let address = Address::basechain([9; 32]);
        Journal::open(&path, address).unwrap().0.write(&entry(End::Open)).unwrap();
        fs::write(suffixed(&path, ".new"), "half a fi").unwrap();
        assert_eq!(Journal::open(&path, address).unwrap().1, Some(entry(End::Open)));
    }
}
