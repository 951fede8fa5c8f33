//! A platform's directory: one secret seed in one file, made once, readable by its owner only.
//!
//! Several processes may open a directory that does not exist yet. Each writes a file of its own and links it to the
//! final name; linking fails for all but one, and the others read what that one wrote.
//!
//! Beside it lie the platform's two RSA keys, once they were needed. They follow from the seed, so any process writes the
//! same; the file only saves the time to make them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::amd::AmdRootKeys;
use crate::limits::STATE_FILE_BYTES_MAX;
use crate::seed::Seed;

const FILE: &str = "platform.json";
const RSA_FILE: &str = "rsa-keys.json";
const VERSION: u32 = 1;

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) seed: Seed,
    pub(crate) made_unix_s: u64,
}

/// Why a directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file system.
    #[error("cannot use {path} for a simulated platform: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is none of this program's.
    #[error("{path} is no simulated platform ({why}); delete it to get a new one")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The system.
    #[error("the system gives no random numbers: {0}")]
    Randomness(#[from] getrandom::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFormat {
    version: u32,
    note: String,
    made_unix_s: u64,
    seed: String,
}

impl State {
    pub(crate) fn open(directory: &Path, now_unix_s: u64) -> Result<Self, StateError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| file_error(directory, e))?;
        let path = directory.join(FILE);
        if let Some(state) = Self::read(&path)? {
            return Ok(state);
        }
        Self { seed: Seed::random()?, made_unix_s: now_unix_s }.write_first(directory, &path)?;
        Self::read(&path)?.ok_or_else(|| file_error(&path, io::ErrorKind::NotFound.into()))
    }

    fn read(path: &Path) -> Result<Option<Self>, StateError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(path, error)),
        };
        let mut text = Zeroizing::new(String::new());
        file.take(STATE_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|e| file_error(path, e))?;
        Self::parse(&text).map(Some).map_err(|why| StateError::Unreadable { path: path.to_owned(), why })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let format: FileFormat = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if format.version != VERSION {
            return Err(format!("version {}, not {VERSION}", format.version));
        }
        let mut seed = [0; 32];
        hex::decode_to_slice(format.seed, &mut seed).map_err(|error| format!("seed: {error}"))?;
        Ok(Self { seed: Seed::from_bytes(seed), made_unix_s: format.made_unix_s })
    }

    /// Writes this state unless another process was first.
    fn write_first(&self, directory: &Path, path: &Path) -> Result<(), StateError> {
        let draft = draft(directory, FILE)?;
        let linked = write_private(&draft, self.text().as_bytes()).and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
        let removed = fs::remove_file(&draft);
        linked.and(removed).map_err(|e| file_error(&draft, e))
    }

    fn text(&self) -> Zeroizing<String> {
        let format = FileFormat {
            version: VERSION,
            note: "Secret of a simulated TEE, for development. It protects nothing; do not share it.".to_owned(),
            made_unix_s: self.made_unix_s,
            seed: hex::encode(self.seed.bytes()),
        };
        Zeroizing::new(serde_json::to_string_pretty(&format).expect("strings and numbers always serialise"))
    }
}

/// The platform's RSA keys: from the directory, or made and left there for the next time.
pub(crate) fn cached_root_keys(directory: &Path, seed: &Seed) -> AmdRootKeys {
    let path = directory.join(RSA_FILE);
    if let Some(keys) = read_root_keys(&path) {
        return keys;
    }
    let keys = AmdRootKeys::new(seed);
    // Without the file the next start takes longer, and nothing else.
    let _unwritten = write_root_keys(directory, &path, &keys);
    keys
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RsaFormat {
    ark: String,
    ask: String,
}

fn read_root_keys(path: &Path) -> Option<AmdRootKeys> {
    let mut text = Zeroizing::new(String::new());
    File::open(path).ok()?.take(STATE_FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    let format: RsaFormat = serde_json::from_str(&text).ok()?;
    let key = |text: String| RsaPrivateKey::from_pkcs8_der(&Zeroizing::new(hex::decode(text).ok()?)).ok();
    Some(AmdRootKeys { ark: key(format.ark)?, ask: key(format.ask)? })
}

fn write_root_keys(directory: &Path, path: &Path, keys: &AmdRootKeys) -> io::Result<()> {
    let text =
        |key: &RsaPrivateKey| key.to_pkcs8_der().map(|der| hex::encode(der.as_bytes())).map_err(io::Error::other);
    let format = RsaFormat { ark: text(&keys.ark)?, ask: text(&keys.ask)? };
    let draft = draft(directory, RSA_FILE).map_err(io::Error::other)?;
    write_private(&draft, serde_json::to_string(&format)?.as_bytes())?;
    fs::rename(draft, path)
}

/// A name that no other process uses, in the same directory.
fn draft(directory: &Path, name: &str) -> Result<PathBuf, getrandom::Error> {
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix)?;
    Ok(directory.join(format!(".{name}.{}", hex::encode(suffix))))
}

/// Writes a new file that only its owner reads, to the disk.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn file_error(path: &Path, source: io::Error) -> StateError {
    StateError::File { path: path.to_owned(), source }
}
