//! A file of records that a crash can only shorten.
//!
//! 1. A record is appended whole, with its length and checksum in front.
//! 2. What [`Wal::append`] has returned from survives the process; what [`Wal::sync`] has returned from, the machine.
//!    What was only [pushed](Wal::push) survives neither, until the next of these or [`Wal::flush`]: for records that can
//!    be learnt again, of which there are many.
//! 3. Opening reads the records up to the first that is not whole, and cuts the file there: that one was never
//!    acknowledged.
//! 4. [`Wal::rewrite`] replaces everything by what is still worth knowing: a new file takes the old one's name.
//!
//! What it is not: secret, or safe from who can write the file. Clients and workers keep their own counts in it, which
//! only harm themselves when they are changed; a proxy's books are in `cocoon-ledger`, sealed.

pub mod limits;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::limits::{FILE_BYTES_MAX, PUSHED_BYTES_MAX, RECORD_BYTES_MAX};

/// Length and CRC-32 of what follows, both little-endian.
const HEADER_BYTES: usize = 8;

/// Only its owner may read the file: it names what was paid for.
const MODE: u32 = 0o600;

/// An open file of records. Only one process has it at a time.
#[derive(Debug)]
pub struct Wal {
    path: PathBuf,
    file: File,
    /// Of the file and of what was pushed.
    bytes: u64,
    /// Records that follow what is in the file, at most [`PUSHED_BYTES_MAX`].
    pushed: Vec<u8>,
    /// Set by a failed write: what lies at the end is not known any more.
    is_broken: bool,
    /// Held, not read: the lock goes with it. It is beside the file, since a rewrite replaces that.
    _lock: File,
}

/// Why a file of records cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// Another process has it.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A record above [`RECORD_BYTES_MAX`], or a file above [`FILE_BYTES_MAX`].
    #[error("{}: {what}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// What is too long.
        what: &'static str,
    },
    /// An earlier write failed, so nothing can be added until it is opened again.
    #[error("{} cannot be written since an earlier error: see that its disk has room, and start again", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
    },
    /// The system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file, or its lock.
        path: PathBuf,
        /// What it said.
        #[source]
        error: io::Error,
    },
}

impl Wal {
    /// Opens the file, which is made if it is not there, and gives its records, oldest first.
    ///
    /// # Errors
    ///
    /// When another process has it, it is too long, or the system says no.
    pub fn open(path: &Path) -> Result<(Self, Vec<Vec<u8>>), WalError> {
        let lock = lock(path)?;
        let io = |error| io_error(path, error);
        let mut file = options().create(true).truncate(false).open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() > FILE_BYTES_MAX {
            return Err(WalError::TooLong { path: path.to_owned(), what: "the file is too long to be one of ours" });
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(io)?;
        let (records, whole) = split(&content);
        let bytes = whole as u64;
        if whole < content.len() {
            file.set_len(bytes).map_err(io)?;
            file.sync_data().map_err(io)?;
        }
        file.seek(SeekFrom::Start(bytes)).map_err(io)?;
        sync_folder(path)?;
        Ok((Self { path: path.to_owned(), file, bytes, pushed: Vec::new(), is_broken: false, _lock: lock }, records))
    }

    /// Reads the records of a file that another process may have open, oldest first. Nothing is changed, and what that
    /// process adds meanwhile may be missing.
    ///
    /// # Errors
    ///
    /// When there is no such file, it is too long, or the system says no.
    pub fn read(path: &Path) -> Result<Vec<Vec<u8>>, WalError> {
        let io = |error| io_error(path, error);
        let mut content = Vec::new();
        let file = File::open(path).map_err(io)?;
        file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut content).map_err(io)?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(WalError::TooLong { path: path.to_owned(), what: "the file is too long to be one of ours" });
        }
        Ok(split(&content).0)
    }

    /// Adds a record, after those that were pushed. When this returns, the process may die; see [`Wal::sync`] for the machine.
    ///
    /// # Errors
    ///
    /// When the record is too long, which changes nothing, or a write fails, after which nothing more is taken.
    pub fn append(&mut self, record: &[u8]) -> Result<(), WalError> {
        self.frame(record)?;
        self.flush()
    }

    /// Adds a record that a crash may lose until something else writes: in one write with others.
    ///
    /// # Errors
    ///
    /// As [`Wal::append`].
    pub fn push(&mut self, record: &[u8]) -> Result<(), WalError> {
        self.frame(record)?;
        if self.pushed.len() > PUSHED_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Writes what was pushed. When this returns, the process may die.
    ///
    /// # Errors
    ///
    /// When a write fails, after which nothing more is taken.
    pub fn flush(&mut self) -> Result<(), WalError> {
        self.check()?;
        if self.pushed.is_empty() {
            return Ok(());
        }
        let pushed = std::mem::take(&mut self.pushed);
        self.guarded(|file| file.write_all(&pushed))?;
        // The buffer is used again.
        self.pushed = pushed;
        self.pushed.clear();
        Ok(())
    }

    /// Waits until what was appended and pushed is on the disk.
    ///
    /// # Errors
    ///
    /// When the system cannot say so, after which nothing more is taken.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.flush()?;
        self.guarded(|file| file.sync_data())
    }

    /// Replaces all records by these, at once: a crash leaves the old ones or the new ones.
    ///
    /// # Errors
    ///
    /// When a record is too long or the system says no. A crash of the machine may show the old ones then; the process goes
    /// on with what [`Wal::bytes`] counts.
    pub fn rewrite<'a>(&mut self, records: impl IntoIterator<Item = &'a [u8]>) -> Result<(), WalError> {
        let path = sibling(&self.path, ".new");
        let io = |error| io_error(&path, error);
        let mut content = Vec::new();
        for record in records {
            frame_into(&mut content, &path, record)?;
        }
        let mut file = options().create(true).truncate(true).open(&path).map_err(io)?;
        file.write_all(&content).map_err(io)?;
        file.sync_all().map_err(io)?;
        std::fs::rename(&path, &self.path).map_err(io)?;
        // From here on the old file has no name: whatever is said below, records go to the new one.
        self.file = file;
        self.bytes = content.len() as u64;
        self.pushed.clear();
        self.is_broken = false;
        sync_folder(&self.path)
    }

    /// How long the file is, to know when a rewrite is worth it.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn frame(&mut self, record: &[u8]) -> Result<(), WalError> {
        self.check()?;
        frame_into(&mut self.pushed, &self.path, record)?;
        self.bytes = self.bytes.saturating_add((record.len() as u64).saturating_add(HEADER_BYTES as u64));
        Ok(())
    }

    fn check(&self) -> Result<(), WalError> {
        if self.is_broken { Err(WalError::Broken { path: self.path.clone() }) } else { Ok(()) }
    }

    fn guarded(&mut self, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), WalError> {
        let outcome = write(&mut self.file);
        self.is_broken = outcome.is_err();
        outcome.map_err(|error| io_error(&self.path, error))
    }
}

impl Drop for Wal {
    /// Only a crash may lose what was pushed.
    fn drop(&mut self) {
        // Whoever wants to know whether it worked, flushes before.
        let _ = self.flush();
    }
}

/// The whole records at the beginning, and how many bytes they take.
fn split(content: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let mut records = Vec::new();
    let mut rest = content;
    while let Some((record, after)) = first(rest) {
        records.push(record.to_vec());
        rest = after;
    }
    (records, content.len().saturating_sub(rest.len()))
}

fn first(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = content.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= RECORD_BYTES_MAX)?;
    let (record, after) = rest.split_at_checked(length)?;
    // A run of zeros, which file systems leave behind a crash, must not read as records.
    (checksum(record) == u32::from_le_bytes(*sum)).then_some((record, after))
}

fn frame_into(framed: &mut Vec<u8>, path: &Path, record: &[u8]) -> Result<(), WalError> {
    let length = u32::try_from(record.len()).ok().filter(|_| record.len() <= RECORD_BYTES_MAX);
    let length = length.ok_or_else(|| WalError::TooLong { path: path.to_owned(), what: "a record is too long" })?;
    framed.reserve(record.len().saturating_add(HEADER_BYTES));
    framed.extend(length.to_le_bytes());
    framed.extend(checksum(record).to_le_bytes());
    framed.extend(record);
    Ok(())
}

/// CRC-32 of the length, too, so that no record's sum is zero by being empty.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(0x636f_636f);
    hasher.update(&(record.len() as u64).to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}

fn lock(path: &Path) -> Result<File, WalError> {
    let beside = sibling(path, ".lock");
    let lock = options().create(true).truncate(false).open(&beside).map_err(|error| io_error(&beside, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(WalError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error(&beside, error)),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE);
    options
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A new name is on the disk once its folder is.
fn sync_folder(path: &Path) -> Result<(), WalError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| io_error(folder, error))
}

fn io_error(path: &Path, error: io::Error) -> WalError {
    WalError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        (folder, path)
    }

    proptest! {
        #[test]
        fn a_file_that_was_cut_anywhere_keeps_whole_records_only(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in any::<prop::sample::Index>(),
            garbage in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let (_folder, path) = folder();
            let (mut wal, _) = Wal::open(&path).unwrap();
            let mut ends = vec![0];
            for record in &records {
                wal.append(record).unwrap();
                ends.push(usize::try_from(wal.bytes()).unwrap());
            }
            drop(wal);
            let mut content = std::fs::read(&path).unwrap();
            content.truncate(cut.index(content.len() + 1));
            let whole = ends.iter().filter(|end| **end <= content.len()).count() - 1;
            content.extend(&garbage);
            std::fs::write(&path, &content).unwrap();
            let (mut wal, found) = Wal::open(&path).unwrap();
            prop_assert_eq!(&found[..whole], &records[..whole]);
            prop_assert!(found.len() == whole || !garbage.is_empty());
            wal.append(b"after").unwrap();
            drop(wal);
            let (_, again) = Wal::open(&path).unwrap();
            prop_assert_eq!(again.len(), found.len() + 1);
            prop_assert_eq!(again.last().unwrap(), b"after");
        }
    }

    #[test]
    fn a_rewrite_replaces_everything_and_goes_on() {
        let (_folder, path) = folder();
        let (mut wal, _) = Wal::open(&path).unwrap();
        wal.append(b"old").unwrap();
        wal.rewrite([b"kept".as_slice()]).unwrap();
        wal.append(b"new").unwrap();
        wal.sync().unwrap();
        drop(wal);
        assert_eq!(Wal::open(&path).unwrap().1, [b"kept".to_vec(), b"new".to_vec()]);
    }

    #[test]
    fn what_is_pushed_goes_with_the_next_write_in_order() {
        let (_folder, path) = folder();
        let (mut wal, _) = Wal::open(&path).unwrap();
        wal.push(b"one").unwrap();
        assert!(Wal::read(&path).unwrap().is_empty());
        wal.append(b"two").unwrap();
        assert_eq!(Wal::read(&path).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
        wal.push(b"three").unwrap();
        wal.sync().unwrap();
        wal.push(b"four").unwrap();
        assert_eq!(Wal::read(&path).unwrap().len(), 3);
        assert_eq!(wal.bytes(), std::fs::metadata(&path).unwrap().len() + 12);
        drop(wal);
        assert_eq!(Wal::read(&path).unwrap().len(), 4);
    }

    #[test]
    fn pushes_without_an_end_are_written_before_they_fill_memory() {
        let (_folder, path) = folder();
        let (mut wal, _) = Wal::open(&path).unwrap();
        for _ in 0..100 {
            wal.push(&[0; 1024]).unwrap();
            assert!(wal.pushed.len() <= PUSHED_BYTES_MAX);
        }
        assert!(!Wal::read(&path).unwrap().is_empty());
    }

    #[test]
    fn a_rewrite_replaces_what_was_pushed_too() {
        let (_folder, path) = folder();
        let (mut wal, _) = Wal::open(&path).unwrap();
        wal.push(b"old").unwrap();
        wal.rewrite([b"kept".as_slice()]).unwrap();
        drop(wal);
        assert_eq!(Wal::open(&path).unwrap().1, [b"kept".to_vec()]);
    }

    #[test]
    fn two_processes_on_one_file() {
        let (_folder, path) = folder();
        let (mut wal, _) = Wal::open(&path).unwrap();
        wal.rewrite([]).unwrap();
        assert!(matches!(Wal::open(&path), Err(WalError::InUse { .. })));
        drop(wal);
        assert!(Wal::open(&path).is_ok());
    }

    #[test]
    fn a_reader_sees_what_a_writer_that_is_open_has_added() {
        let (_folder, path) = folder();
        assert!(matches!(Wal::read(&path), Err(WalError::Io { .. })));
        let (mut wal, _) = Wal::open(&path).unwrap();
        wal.append(b"one").unwrap();
        assert_eq!(Wal::read(&path).unwrap(), [b"one".to_vec()]);
        wal.append(b"two").unwrap();
        assert_eq!(Wal::read(&path).unwrap().len(), 2);
    }

    #[test]
    fn a_tail_of_zeros_holds_no_records() {
        let (_folder, path) = folder();
        std::fs::write(&path, [0; 64]).unwrap();
        assert!(Wal::open(&path).unwrap().1.is_empty());
    }

    #[test]
    fn a_record_that_is_too_long_changes_nothing() {
        let (_folder, path) = folder();
        let (mut wal, _) = Wal::open(&path).unwrap();
        assert!(matches!(wal.append(&vec![0; RECORD_BYTES_MAX + 1]), Err(WalError::TooLong { .. })));
        wal.append(b"fits").unwrap();
    }
}
