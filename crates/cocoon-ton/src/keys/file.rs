//! A key at rest: a small JSON file that only its owner can read, and that is never overwritten.
//!
//! 1. It is written beside its place with mode 0600 from the first byte, synced, then linked into place; linking fails
//!    when there is a file already, so neither a crash nor a race can lose a key.
//! 2. What it holds is either words or a seed, in clear or sealed under a passphrase ([`super::seal`]). Version and
//!    public key are in clear and bound to the seal.
//! 3. Reading refuses a file that others can read: whoever could, may have.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::seal::{SealError, Sealed};
use super::{Mnemonic, Secret};
use crate::limits::KEY_FILE_BYTES_MAX;

const VERSION: u32 = 1;

/// A key and, where it was made from words, the words.
#[derive(Clone)]
pub struct KeyFile {
    key: SigningKey,
    mnemonic: Option<Mnemonic>,
}

/// Why a key file was not written or read. No variant holds anything secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is one already.
    #[error("{} exists, and a key is never overwritten: choose another file, or move that one away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others can read it.
    #[error(
        "{} can be read by others (mode {mode:03o}): if nobody did, `chmod 600 {}`; otherwise move the money to a new key",
        path.display(), path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is sealed, and no passphrase was given.
    #[error("{} is sealed: give its passphrase", path.display())]
    PassphraseNeeded {
        /// The file.
        path: PathBuf,
    },
    /// Another passphrase, or a damaged file.
    #[error("the passphrase does not open {}; or the file was changed", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// Not one of ours, or of a later version.
    #[error("{} is no key file that this version reads: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing of its content.
        why: &'static str,
    },
    /// The system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        error: io::Error,
    },
    /// The system has no randomness.
    #[error("the system gave no random numbers")]
    NoRandomness,
}

/// What is on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    #[serde(with = "hex::serde")]
    public_key: [u8; 32],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clear: Option<Payload>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<Sealed>,
}

/// The secret part: in the file as it is, or sealed as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Payload {
    Mnemonic {
        words: String,
        #[serde(default)]
        password: String,
    },
    /// Hexadecimal.
    Seed(String),
}

impl Drop for Payload {
    fn drop(&mut self) {
        match self {
            Self::Mnemonic { words, password } => {
                words.zeroize();
                password.zeroize();
            }
            Self::Seed(seed) => seed.zeroize(),
        }
    }
}

impl KeyFile {
    /// A key with its words.
    #[must_use]
    pub fn from_mnemonic(mnemonic: Mnemonic) -> Self {
        Self { key: mnemonic.signing_key(), mnemonic: Some(mnemonic) }
    }

    /// A key that has no words.
    #[must_use]
    pub const fn from_key(key: SigningKey) -> Self {
        Self { key, mnemonic: None }
    }

    /// The key.
    #[must_use]
    pub const fn signing_key(&self) -> &SigningKey {
        &self.key
    }

    /// Its public part.
    #[must_use]
    pub fn public_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// The words, where the key was made from them: the export.
    #[must_use]
    pub const fn mnemonic(&self) -> Option<&Mnemonic> {
        self.mnemonic.as_ref()
    }

    /// Writes a new file with mode 0600, sealed when there is a passphrase.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Exists`] when there is anything at `path`; nothing was changed then.
    pub fn create(&self, path: &Path, passphrase: Option<&Secret>) -> Result<(), KeyFileError> {
        let stored = self.stored(passphrase)?;
        let text = serde_json::to_vec_pretty(&stored).map(Zeroizing::new);
        let text = text.map_err(|_| KeyFileError::Format { path: path.to_owned(), why: "it cannot be written" })?;
        link_new(path, &text)
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// See [`KeyFileError`]; whatever is wrong with the content, the message shows nothing of it.
    pub fn open(path: &Path, passphrase: Option<&Secret>) -> Result<Self, KeyFileError> {
        let format = |why| KeyFileError::Format { path: path.to_owned(), why };
        let stored = Stored::read(path)?;
        let payload = match (stored.clear, stored.sealed) {
            (Some(payload), None) => payload,
            (None, Some(sealed)) => unseal(path, &sealed, &stored.public_key, passphrase)?,
            (Some(_), Some(_)) | (None, None) => return Err(format("it must be either in clear or sealed")),
        };
        let this = payload.key().ok_or_else(|| format("it holds no valid key"))?;
        if this.public_key().as_bytes() != &stored.public_key {
            return Err(format("its public key is not that of its secret"));
        }
        Ok(this)
    }

    /// Whether a file is sealed, so that a passphrase can be asked for before it is opened.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn is_sealed(path: &Path) -> Result<bool, KeyFileError> {
        Stored::read(path).map(|stored| stored.sealed.is_some())
    }

    fn stored(&self, passphrase: Option<&Secret>) -> Result<Stored, KeyFileError> {
        let public_key = *self.public_key().as_bytes();
        let payload = match &self.mnemonic {
            Some(mnemonic) => Payload::Mnemonic {
                words: mnemonic.words().to_owned(),
                password: mnemonic.password().map(|password| password.expose().to_owned()).unwrap_or_default(),
            },
            None => Payload::Seed(hex::encode(Zeroizing::new(self.key.to_bytes()).as_slice())),
        };
        let Some(passphrase) = passphrase else {
            return Ok(Stored { version: VERSION, public_key, clear: Some(payload), sealed: None });
        };
        let text = Zeroizing::new(serde_json::to_vec(&payload).unwrap_or_default());
        let sealed = Sealed::seal(&text, passphrase, &bound(&public_key)).map_err(|_| KeyFileError::NoRandomness)?;
        Ok(Stored { version: VERSION, public_key, clear: None, sealed: Some(sealed) })
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({})", hex::encode(self.public_key().as_bytes()))
    }
}

impl Stored {
    fn read(path: &Path) -> Result<Self, KeyFileError> {
        let format = |why| KeyFileError::Format { path: path.to_owned(), why };
        let text = read_private(path)?;
        let stored: Self = serde_json::from_slice(&text).map_err(|_| format("not the JSON of a key file"))?;
        if stored.version == VERSION { Ok(stored) } else { Err(format("it is of another version than 1")) }
    }
}

impl Payload {
    fn key(&self) -> Option<KeyFile> {
        match self {
            Self::Mnemonic { words, password } => {
                let mnemonic = Mnemonic::parse(words, Some(&Secret::new(password.clone()))).ok()?;
                Some(KeyFile::from_mnemonic(mnemonic))
            }
            Self::Seed(text) => {
                let mut seed = Zeroizing::new([0_u8; 32]);
                hex::decode_to_slice(text, seed.as_mut_slice()).ok()?;
                Some(KeyFile::from_key(SigningKey::from_bytes(&seed)))
            }
        }
    }
}

/// What a seal is bound to: another file's box under this public key does not open.
fn bound(public_key: &[u8; 32]) -> Vec<u8> {
    [b"cocoon key file 1 ".as_slice(), public_key].concat()
}

fn unseal(
    path: &Path,
    sealed: &Sealed,
    public_key: &[u8; 32],
    passphrase: Option<&Secret>,
) -> Result<Payload, KeyFileError> {
    let format = |why| KeyFileError::Format { path: path.to_owned(), why };
    let passphrase = passphrase.ok_or_else(|| KeyFileError::PassphraseNeeded { path: path.to_owned() })?;
    let text = sealed.open(passphrase, &bound(public_key)).map_err(|error| match error {
        SealError::Passphrase => KeyFileError::WrongPassphrase { path: path.to_owned() },
        SealError::Parameters => format("the parameters of its seal are out of bounds"),
        SealError::NoRandomness => KeyFileError::NoRandomness,
    })?;
    serde_json::from_slice(&text).map_err(|_| format("what was sealed is no key"))
}

fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    let file = File::open(path).map_err(io)?;
    // Of the open file, not of the path: it cannot be exchanged in between.
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.permissions().mode() & 0o777;
    if !metadata.is_file() {
        return Err(KeyFileError::Format { path: path.to_owned(), why: "it is no regular file" });
    }
    if mode & 0o077 != 0 {
        return Err(KeyFileError::TooOpen { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX));
    let limit = u64::try_from(KEY_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut text).map_err(io)?;
    Ok(text)
}

/// Writes beside `path`, then links: there is never half a file at `path`, and never another's file replaced.
fn link_new(path: &Path, text: &[u8]) -> Result<(), KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut suffix = [0_u8; 8];
    getrandom::fill(&mut suffix).map_err(|_| KeyFileError::NoRandomness)?;
    let beside = directory.join(format!(".key-{}", hex::encode(suffix)));
    let written = write_synced(&beside, text).map_err(io).and_then(|()| {
        fs::hard_link(&beside, path).map_err(|error| {
            let exists = error.kind() == io::ErrorKind::AlreadyExists;
            if exists { KeyFileError::Exists { path: path.to_owned() } } else { io(error) }
        })
    });
    let removed = fs::remove_file(&beside).map_err(io);
    written.and(removed)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // An unusual umask may have taken even the owner's bits.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "news crunch recipe coil have anxiety spirit enhance urge mountain helmet cake debate trophy \
                         voice battle protect round favorite this breeze slam clinic decide";

    fn words() -> KeyFile {
        KeyFile::from_mnemonic(Mnemonic::parse(WORDS, None).unwrap())
    }

    /// Words take 100,000 rounds to read; where they do not matter, a seed does.
    fn seed() -> KeyFile {
        KeyFile::from_key(SigningKey::from_bytes(&[7; 32]))
    }

    fn edit(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
        let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        change(&mut json);
        fs::write(path, json.to_string()).unwrap();
    }

    #[test]
    fn keys_and_words_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let passphrase = Secret::new("open sesame");
        for (name, key, passphrase) in [
            ("words", words(), None),
            ("seed", seed(), None),
            ("sealed-words", words(), Some(&passphrase)),
            ("sealed-seed", seed(), Some(&passphrase)),
        ] {
            let path = dir.path().join(name);
            key.create(&path, passphrase).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let read = KeyFile::open(&path, passphrase).unwrap();
            assert_eq!(read.signing_key(), key.signing_key());
            assert_eq!(read.mnemonic().map(Mnemonic::words), key.mnemonic().map(Mnemonic::words));
            assert_eq!(KeyFile::is_sealed(&path).unwrap(), passphrase.is_some());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "nothing is left beside the keys");
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        seed().create(&path, None).unwrap();
        let other = KeyFile::from_key(SigningKey::from_bytes(&[8; 32]));
        assert!(matches!(other.create(&path, None), Err(KeyFileError::Exists { .. })));
        assert_eq!(KeyFile::open(&path, None).unwrap().public_key(), seed().public_key());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        seed().create(&path, None).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o660] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = KeyFile::open(&path, None).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_sealed_file_shows_nothing_and_opens_with_its_passphrase_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        words().create(&path, Some(&Secret::new("open sesame"))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("crunch") && !text.contains("words") && !text.contains("sesame"), "{text}");
        let wrong = Secret::new("open barley");
        assert!(matches!(KeyFile::open(&path, Some(&wrong)), Err(KeyFileError::WrongPassphrase { .. })));
        assert!(matches!(KeyFile::open(&path, None), Err(KeyFileError::PassphraseNeeded { .. })));
    }

    #[test]
    fn a_swapped_public_key_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let passphrase = Secret::new("open sesame");
        for (name, passphrase) in [("clear", None), ("sealed", Some(&passphrase))] {
            let path = dir.path().join(name);
            seed().create(&path, passphrase).unwrap();
            edit(&path, |json| json["public_key"] = "11".repeat(32).into());
            assert!(KeyFile::open(&path, passphrase).is_err(), "{name}");
        }
    }

    #[test]
    fn a_file_that_asks_for_all_memory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let passphrase = Secret::new("open sesame");
        seed().create(&path, Some(&passphrase)).unwrap();
        for (field, value) in [("memory_kib", u32::MAX), ("passes", u32::MAX), ("lanes", 1 << 20), ("memory_kib", 0)] {
            let original = fs::read(&path).unwrap();
            edit(&path, |json| json["sealed"][field] = value.into());
            assert!(matches!(KeyFile::open(&path, Some(&passphrase)), Err(KeyFileError::Format { .. })), "{field}");
            fs::write(&path, original).unwrap();
        }
    }

    #[test]
    fn errors_and_debug_show_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        words().create(&path, None).unwrap();
        edit(&path, |json| json["clear"]["mnemonic"]["words"] = WORDS.replace("news", "newz").into());
        let error = KeyFile::open(&path, None).unwrap_err();
        let shown = format!("{error} {error:?} {:?} {:?}", words(), Secret::new("open sesame"));
        for secret in ["newz", "crunch", "sesame"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        edit(&path, |json| json["version"] = 2.into());
        assert!(KeyFile::open(&path, None).unwrap_err().to_string().contains("another version"));
        fs::write(&path, "rubbish").unwrap();
        assert!(matches!(KeyFile::open(&path, None), Err(KeyFileError::Format { .. })));
    }
}
