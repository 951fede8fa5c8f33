//! Small files, read with a bound and replaced as a whole.
//!
//! Not a store: no locking between processes. A reader sees the old content or the new one, never a part.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Reads a file of at most `max` bytes.
pub(crate) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_to_end_bounded(File::open(path)?, max)
}

/// Reads everything, or fails when there is more than `max`.
pub(crate) fn read_to_end_bounded(reader: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")));
    }
    Ok(bytes)
}

/// Replaces a file: written beside it, flushed to the disk, renamed over it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, bytes)?;
    finish(&temporary, std::fs::rename(&temporary, path))?;
    sync_folder(path)
}

/// Creates a file; `AlreadyExists` where there is one, even one that appeared this very moment.
pub(crate) fn create_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, bytes)?;
    // A link fails when the name is taken, unlike a rename, which would replace the other process's key.
    let linked = std::fs::hard_link(&temporary, path);
    finish(&temporary, linked)?;
    std::fs::remove_file(&temporary)?;
    sync_folder(path)
}

/// A new file beside `path`, which only its owner can read, with this content on the disk.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.tmp", hex::encode(random)));
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    finish(&temporary, file.write_all(bytes).and_then(|()| file.sync_all()))?;
    Ok(temporary)
}

/// Leaves no half-made file behind.
fn finish(temporary: &Path, result: io::Result<()>) -> io::Result<()> {
    if result.is_err() {
        // The first error is the one to tell; a leftover temporary file harms nobody.
        drop(std::fs::remove_file(temporary));
    }
    result
}

/// Makes a rename durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_creates_without_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create_atomically(&path, b"one").unwrap();
        assert_eq!(create_atomically(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read_bounded(&path, 3).unwrap(), b"one");
        write_atomically(&path, b"three").unwrap();
        assert_eq!(read_bounded(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_bounded(&path, 5).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
