//! The journal: batches of entries on disk, sealed and chained, so that what was settled survives a crash.
//!
//! It is a `redb` database in whatever storage the caller gives. The disk belongs to the host, who may read and change
//! it, so nothing there is believed:
//!
//! - Each batch is sealed under its own key (see [`seal`]) together with its place: the number of its first entry and
//!   the head before it. `head = SHA-256(previous head ‖ number ‖ sealed batch)`. A batch that was changed, swapped,
//!   left out or made elsewhere does not open.
//! - When the batches hold enough bytes, a snapshot of the state takes their place, sealed with the head that it stands
//!   for. The head goes on from there, so commits never notice.
//! - Leaving out the newest batches, or giving back an old file as a whole, is what no sealing can show. The commits on
//!   chain do: see [`Ledger::check_chain`](crate::Ledger::check_chain).
//!
//! One batch is one transaction: it is there or not. Any error poisons the journal: what the disk holds is not known any
//! more, so nothing is written until it is opened anew. Opening reads everything back and fails closed.

mod seal;
mod table;

use std::collections::BTreeSet;
use std::{fmt, io};

use redb::{Database, ReadableDatabase as _, StorageBackend};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::account::{PayeeId, PayerId};
use crate::batch::{Batch, Written};
use crate::codec::{Reader, Writer};
use crate::entry::Entry;
use crate::limits::{CACHE_BYTES, COMPACT_BYTES_MIN, SNAPSHOT_PART_BYTES};
use crate::reservation::Run;
use crate::state::State;

use seal::Sealer;
use table::{BATCHES, HEADER, Header, SNAPSHOT};

/// How a file of the database begins.
const DATABASE_MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// A journal that batches are appended to.
pub struct Journal {
    database: Database,
    sealer: Sealer,
    /// What the disk holds.
    state: State,
    head: [u8; 32],
    /// Bytes of the batches, and of the snapshot before them.
    batch_bytes: u64,
    snapshot_bytes: u64,
    compact_at: u64,
    is_poisoned: bool,
}

/// Gives 32 fresh random bytes for each thing that is sealed.
pub type Salts = Box<dyn FnMut() -> [u8; 32] + Send>;

/// Why the journal cannot be opened, or not be written any more.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The host's fault, or of who moved the file: it is sealed with another key.
    #[error(
        "the journal was not made by this proxy on this machine, or its header was changed: give it the file that it made, or start it with an empty folder if it has none"
    )]
    OtherKey,
    /// The host's fault: something that was sealed here is not as it was, or not where it was.
    #[error("the journal was changed by someone else at entry {seq}: put a copy back that was not")]
    Changed {
        /// The number of the first entry that cannot be read.
        seq: u64,
    },
    /// Another version of the program wrote it.
    #[error("the journal has version {found}, this program knows {known}: start it with the program that wrote it")]
    Version {
        /// What the file says.
        found: u32,
        /// What is known here.
        known: u32,
    },
    /// The disk's fault, or the database's.
    #[error("the journal cannot be read or written: see that its disk works and has room, and start again")]
    Store(#[source] Box<redb::Error>),
    /// Our fault: entries that contradict each other or come out of order. None of them is on disk.
    #[error("the journal was given entry {seq} out of order, or an impossible one")]
    Internal {
        /// The number of the first entry of the batch.
        seq: u64,
    },
    /// An earlier error.
    #[error("the journal is not written any more since an earlier error: start again")]
    Poisoned,
}

impl Journal {
    /// Opens the journal in this storage, or makes a new one if it is empty, and gives back the state it holds.
    ///
    /// # Errors
    ///
    /// [`JournalError`], whenever not everything can be read: a proxy does not guess.
    pub fn open(backend: impl StorageBackend, key: &[u8; 32], mut salts: Salts) -> Result<(Self, State), JournalError> {
        let run = Run::of(&salts());
        clear_unfinished(&backend).map_err(redb::Error::from).map_err(store)?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend).map_err(store)?;
        let mut journal = Self {
            database,
            sealer: Sealer::new(Zeroizing::new(*key), salts),
            state: State::default(),
            head: [0; 32],
            batch_bytes: 0,
            snapshot_bytes: 0,
            compact_at: COMPACT_BYTES_MIN,
            is_poisoned: false,
        };
        match journal.read_header()? {
            Some(header) => journal.replay(&header)?,
            None => journal.write_new()?,
        }
        let state = State { run, ..journal.state.clone() };
        Ok((journal, state))
    }

    /// Makes a snapshot when batches hold this many bytes instead of [`COMPACT_BYTES_MIN`]: less to read at the start,
    /// more to write.
    #[must_use]
    pub fn compact_at(mut self, bytes: u64) -> Self {
        self.compact_at = bytes;
        self
    }

    /// Writes a batch and waits until it is on disk.
    ///
    /// # Errors
    ///
    /// [`JournalError`]. After one, the batch may be on disk or not, and the journal has to be opened anew.
    pub fn append(&mut self, batch: Batch) -> Result<Written, JournalError> {
        if self.is_poisoned {
            return Err(JournalError::Poisoned);
        }
        self.is_poisoned = true;
        let written = self.write(&batch)?;
        self.is_poisoned = false;
        Ok(written)
    }

    fn write(&mut self, batch: &Batch) -> Result<Written, JournalError> {
        let internal = JournalError::Internal { seq: batch.seq };
        if batch.seq != self.state.seq {
            return Err(internal);
        }
        let mut plain = Writer::default();
        for entry in &batch.entries {
            entry.write(&mut plain);
        }
        let sealed = self.sealer.seal_batch(batch.seq, &self.head, plain.into_bytes()).ok_or(internal)?;
        let moved = Moved::by(&batch.entries);
        self.apply(batch.seq, &batch.entries, &sealed).ok_or(JournalError::Internal { seq: batch.seq })?;
        if self.batch_bytes > self.compact_at.max(self.snapshot_bytes.saturating_mul(2)) {
            self.write_snapshot()?;
        } else {
            self.write_batch(batch.seq, &sealed)?;
        }
        Ok(moved.written(&self.state))
    }

    /// Applies a batch to what the disk holds; `None` if it cannot be.
    fn apply(&mut self, seq: u64, entries: &[Entry], sealed: &[u8]) -> Option<()> {
        for entry in entries {
            self.state.apply(entry).ok()?;
        }
        self.head = seal::next_head(&self.head, seq, sealed);
        self.state.commits.seal(&self.head);
        self.batch_bytes = self.batch_bytes.checked_add(u64::try_from(sealed.len()).ok()?)?;
        Some(())
    }

    fn write_batch(&self, seq: u64, sealed: &[u8]) -> Result<(), JournalError> {
        let transaction = self.database.begin_write().map_err(store)?;
        transaction.open_table(BATCHES).map_err(store)?.insert(seq, sealed).map_err(store)?;
        transaction.commit().map_err(store)
    }

    /// Replaces the last snapshot and all batches.
    fn write_snapshot(&mut self) -> Result<(), JournalError> {
        let seq = self.state.seq;
        let plain = self.state.to_bytes();
        let parts = plain.chunks(SNAPSHOT_PART_BYTES);
        let header = Header { seq, head: self.head, parts: u32::try_from(parts.len()).map_err(|_| internal(seq))? };
        let transaction = self.database.begin_write().map_err(store)?;
        transaction.delete_table(BATCHES).map_err(store)?;
        transaction.delete_table(SNAPSHOT).map_err(store)?;
        transaction.open_table(BATCHES).map_err(store)?;
        let mut table = transaction.open_table(SNAPSHOT).map_err(store)?;
        for (part, plain) in (0..).zip(parts) {
            let sealed = self.sealer.seal_part(&header, part, plain.to_vec()).ok_or_else(|| internal(seq))?;
            table.insert(part, sealed.as_slice()).map_err(store)?;
        }
        drop(table);
        let sealed = self.sealer.seal_header(&header).ok_or_else(|| internal(seq))?;
        transaction.open_table(HEADER).map_err(store)?.insert((), sealed.as_slice()).map_err(store)?;
        transaction.commit().map_err(store)?;
        self.batch_bytes = 0;
        self.snapshot_bytes = u64::try_from(plain.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// Opening.
impl Journal {
    /// `None` if there is nothing yet.
    fn read_header(&self) -> Result<Option<Header>, JournalError> {
        let transaction = self.database.begin_read().map_err(store)?;
        if transaction.list_tables().map_err(store)?.next().is_none() {
            return Ok(None);
        }
        let table = transaction.open_table(HEADER).map_err(|error| absent(error, JournalError::OtherKey))?;
        let sealed = table.get(()).map_err(store)?.ok_or(JournalError::OtherKey)?;
        self.sealer.open_header(sealed.value()).ok_or(JournalError::OtherKey)?.map(Some)
    }

    /// Says whose journal it will be, before anything is in it.
    fn write_new(&mut self) -> Result<(), JournalError> {
        self.write_snapshot()
    }

    /// Reads the snapshot and every batch after it.
    fn replay(&mut self, header: &Header) -> Result<(), JournalError> {
        let changed = || JournalError::Changed { seq: header.seq };
        let transaction = self.database.begin_read().map_err(store)?;
        let table = transaction.open_table(SNAPSHOT).map_err(|error| absent(error, changed()))?;
        let mut plain = Vec::new();
        for part in 0..header.parts {
            let sealed = table.get(part).map_err(store)?.ok_or_else(changed)?;
            plain.extend(self.sealer.open_part(header, part, sealed.value()).ok_or_else(changed)?);
        }
        self.state = State::from_bytes(&plain).filter(|state| state.seq == header.seq).ok_or_else(changed)?;
        self.head = header.head;
        self.snapshot_bytes = u64::try_from(plain.len()).unwrap_or(u64::MAX);
        let table = transaction.open_table(BATCHES).map_err(|error| absent(error, changed()))?;
        for row in table.range::<u64>(..).map_err(store)? {
            let (seq, sealed) = row.map_err(store)?;
            self.replay_batch(seq.value(), sealed.value()).ok_or(JournalError::Changed { seq: self.state.seq })?;
        }
        Ok(())
    }

    /// `None` if this is not the batch that follows.
    fn replay_batch(&mut self, seq: u64, sealed: &[u8]) -> Option<()> {
        if seq != self.state.seq {
            return None;
        }
        let plain = self.sealer.open_batch(seq, &self.head, sealed)?;
        let mut reader = Reader::new(&plain);
        let mut entries = Vec::new();
        while !reader.is_empty() {
            entries.push(Entry::read(&mut reader)?);
        }
        self.apply(seq, &entries, sealed)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, batch_bytes, is_poisoned, .. } = self;
        f.debug_struct("Journal")
            .field("seq", &state.seq)
            .field("batch_bytes", batch_bytes)
            .field("is_poisoned", is_poisoned)
            .finish_non_exhaustive()
    }
}

/// The accounts that a batch touches.
struct Moved {
    payers: BTreeSet<PayerId>,
    payees: BTreeSet<PayeeId>,
    has_commit: bool,
}

impl Moved {
    fn by(entries: &[Entry]) -> Self {
        let mut moved = Self { payers: BTreeSet::new(), payees: BTreeSet::new(), has_commit: false };
        for entry in entries {
            match entry {
                Entry::Settled { payer, payee, .. } => {
                    moved.payers.insert(*payer);
                    moved.payees.insert(*payee);
                }
                Entry::CommitBegun { .. } => moved.has_commit = true,
                Entry::PayerOpened { .. }
                | Entry::CreditSet { .. }
                | Entry::PayerClosed { .. }
                | Entry::PayerShut { .. }
                | Entry::PayeeOpened { .. }
                | Entry::PayeeClosed { .. }
                | Entry::Voided { .. }
                | Entry::NoteSet { .. }
                | Entry::CommitSeen { .. } => {}
            }
        }
        moved
    }

    /// What these accounts know now, leaving out those that were closed in the same batch.
    fn written(self, state: &State) -> Written {
        let payer = |id: PayerId| Some((id, state.payers.get(id.0)?.account.known));
        let payee = |id: PayeeId| Some((id, state.payees.get(id.0)?.known));
        Written {
            next: state.seq,
            payers: self.payers.into_iter().filter_map(payer).collect(),
            payees: self.payees.into_iter().filter_map(payee).collect(),
            commit: state.commits.to_send().filter(|_| self.has_commit),
        }
    }
}

/// Empties a storage in which a crash interrupted the making of the database, which would refuse it for ever.
///
/// The database writes its magic number last, when the rest is on disk, and never again anything else in its place. So
/// nothing was ever in a file that has only a part of it.
fn clear_unfinished(backend: &impl StorageBackend) -> io::Result<()> {
    let mut start = [0; DATABASE_MAGIC.len()];
    let length = usize::try_from(backend.len()?).unwrap_or(usize::MAX).min(start.len());
    let (found, _) = start.split_at_mut(length);
    backend.read(0, found)?;
    let is_part = start.iter().zip(DATABASE_MAGIC).all(|(found, magic)| *found == 0 || found == magic);
    if is_part && start != *DATABASE_MAGIC && length > 0 {
        backend.set_len(0)?;
    }
    Ok(())
}

fn store(error: impl Into<redb::Error>) -> JournalError {
    JournalError::Store(Box::new(error.into()))
}

fn internal(seq: u64) -> JournalError {
    JournalError::Internal { seq }
}

/// A table that is not there was taken away, or is another one.
fn absent(error: redb::TableError, missing: JournalError) -> JournalError {
    if let redb::TableError::Storage(error) = error { store(error) } else { missing }
}
