//! The last good root on disk. Nothing in it is secret; whoever can change it could change the program.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tycho_types::boc::Boc;

use super::{Head, RootConfig, RootError};
use crate::address::Address;
use crate::contract::RootState;
use crate::limits::ROOT_CACHE_BYTES_MAX;

const VERSION: u32 = 1;

/// A file that holds one root.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    address: Address,
    seqno: u32,
    unix_s: u32,
    lt: u64,
    /// The root's data, as a bag of cells in hexadecimal.
    data: String,
}

impl Cache {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What it holds; `None` when there is no file.
    pub(super) async fn read(&self, address: Address, is_test: bool) -> Result<Option<RootConfig>, RootError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let wrong = |why: String| RootError::Cache { path: self.path.clone(), why };
        let text = match read.map_err(|error| wrong(error.to_string()))? {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let config = parse(&text).map_err(wrong)?;
        if config.address != address || config.state.params.is_test != is_test {
            return Err(wrong("it is of another network".to_owned()));
        }
        Ok(Some(config))
    }

    pub(super) async fn write(&self, config: &RootConfig) -> io::Result<()> {
        let stored = Stored {
            version: VERSION,
            address: config.address,
            seqno: config.at.seqno,
            unix_s: config.at.unix_s,
            lt: config.at.lt,
            data: Boc::encode_hex(config.state.to_cell()),
        };
        let text = serde_json::to_vec(&stored)?;
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || replace(&path, &text)).await.map_err(io::Error::other)?
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(ROOT_CACHE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

fn parse(text: &[u8]) -> Result<RootConfig, String> {
    let stored: Stored = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if stored.version != VERSION {
        return Err("it was written by a later version of this program".to_owned());
    }
    let data = Boc::decode_hex(&stored.data).map_err(|error| error.to_string())?;
    let state = RootState::parse(&data).map_err(|error| error.to_string())?;
    let at = Head { seqno: stored.seqno, unix_s: stored.unix_s, lt: stored.lt };
    Ok(RootConfig { address: stored.address, state, at })
}

/// A crash leaves the old file or the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let mut file = File::create(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(beside, path)
}
