//! Keys from a secret in a file: for machines without a TEE that can keep one.
//!
//! **Insecure**: whoever reads the file, or a backup of it, has every key. The file is created once with mode 0600; one
//! that others than its owner could read is refused, since it may have been read.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{KeyError, KeyOrigin, KeyProvider, Protection, expand};
use crate::files;

/// First line of the file, so that nobody takes it for anything else.
const HEADER: &str = "cocoon insecure key file v1";

/// The header, 64 hex digits, two line ends.
const FILE_BYTES_MAX: u64 = 128;

/// A provider whose secret is in a file.
pub struct InsecureFileKeys {
    path: PathBuf,
    secret: Zeroizing<[u8; 32]>,
}

impl InsecureFileKeys {
    /// Opens the file, or creates it with a random secret.
    ///
    /// # Errors
    /// When it cannot be read or created, is no such file, or its group or others may read it.
    pub fn open_or_create(path: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let path = path.into();
        let fail = |why: String| KeyError::File { path: path.display().to_string(), why };
        match create(&path) {
            Ok(()) => {}
            // Ours from an earlier start, or of a process that was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fail(error.to_string())),
        }
        let secret = read(&path).map_err(|error| fail(error.to_string()))?;
        Ok(Self { path, secret })
    }
}

impl KeyProvider for InsecureFileKeys {
    fn derive(&self, name: &str, version: u32) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        expand(&self.secret, name, version)
    }

    fn describe(&self) -> KeyOrigin {
        KeyOrigin {
            protection: Protection::InsecureFile,
            text: format!("the file {}: whoever reads it has every key", self.path.display()),
        }
    }
}

impl fmt::Debug for InsecureFileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsecureFileKeys").field("path", &self.path).finish_non_exhaustive()
    }
}

fn create(path: &Path) -> io::Result<()> {
    if path.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut()).map_err(io::Error::other)?;
    let digits = Zeroizing::new(hex::encode(*secret));
    let text = Zeroizing::new(format!("{HEADER}\n{}\n", *digits));
    files::create_atomically(path, text.as_bytes())
}

fn read(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let file = File::open(path)?;
    // Asked of the open file, not of the name, which could be another file by now.
    refuse_readable_by_others(&file.metadata()?)?;
    let bytes = Zeroizing::new(files::read_to_end_bounded(file, FILE_BYTES_MAX)?);
    let digits = bytes
        .strip_prefix(HEADER.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"\n"))
        .map(|rest| rest.strip_suffix(b"\n").unwrap_or(rest))
        .ok_or_else(|| io::Error::other(format!("it does not begin with {HEADER:?}")))?;
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, secret.as_mut())
        .map_err(|_| io::Error::other("its second line is not 64 hex digits"))?;
    Ok(secret)
}

#[cfg(unix)]
fn refuse_readable_by_others(metadata: &Metadata) -> io::Result<()> {
    let mode = std::os::unix::fs::MetadataExt::mode(metadata);
    if !metadata.is_file() || mode & 0o077 != 0 {
        let why =
            format!("its mode is {:03o}, so others may have read it: make a new one, with mode 600", mode & 0o777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_readable_by_others(_: &Metadata) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "file modes cannot be checked on this system"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_same_keys_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let first = InsecureFileKeys::open_or_create(&path).unwrap().derive("tls", 1).unwrap();
        let again = InsecureFileKeys::open_or_create(&path).unwrap();
        assert_eq!(first, again.derive("tls", 1).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(again.describe().protection, Protection::InsecureFile);
        let other = InsecureFileKeys::open_or_create(folder.path().join("other")).unwrap();
        assert_ne!(first, other.derive("tls", 1).unwrap());
    }

    #[test]
    fn a_file_that_the_group_or_the_world_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o644] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("keys");
            InsecureFileKeys::open_or_create(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = InsecureFileKeys::open_or_create(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:03o}")), "{error}");
        }
    }

    #[test]
    fn another_file_is_not_taken_for_keys() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{HEADER}\n{}\n", "0".repeat(200));
        for (name, text) in
            [("empty", ""), ("other", "password\n"), ("short", "cocoon insecure key file v1\n00\n"), ("long", &long)]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(InsecureFileKeys::open_or_create(&path), Err(KeyError::File { .. })), "{name}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let keys = InsecureFileKeys::open_or_create(folder.path().join("keys")).unwrap();
        assert!(!format!("{keys:?}").contains(&hex::encode(*keys.secret)));
    }
}
