//! Collateral from a folder that somebody filled: for machines without a network, and for tests.
//!
//! A file is either one of a [`CollateralCache`](super::CollateralCache), or Intel collateral in the JSON that other
//! tools write. What does not hold at the time of asking is not handed out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_attest::{Collateral, CollateralError, CollateralNeed, CollateralSource};
use thiserror::Error;

use super::stored::{Stored, need_text};
use crate::files;
use crate::limits::{CACHE_ENTRIES_MAX, COLLATERAL_FILE_BYTES_MAX};

/// Why a folder is not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// The folder or a file in it cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no collateral.
    #[error("{path} holds no collateral: {why}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// More than [`CACHE_ENTRIES_MAX`] files.
    #[error("{0} holds more than {CACHE_ENTRIES_MAX} files")]
    TooMany(PathBuf),
}

/// A folder of collateral, read once.
#[derive(Debug)]
pub struct OfflineCollateral {
    folder: PathBuf,
    /// By [`need_text`]; several editions of one need are kept side by side.
    by_need: BTreeMap<String, Vec<Stored>>,
}

impl OfflineCollateral {
    /// Reads every `.json` file of a folder.
    ///
    /// # Errors
    /// When one cannot be read: a file that is silently left out would be missed much later.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, OfflineError> {
        let folder = folder.into();
        let io = |source| OfflineError::Io { path: folder.clone(), source };
        let mut by_need: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
        for (count, entry) in std::fs::read_dir(&folder).map_err(io)?.enumerate() {
            if count >= CACHE_ENTRIES_MAX {
                return Err(OfflineError::TooMany(folder));
            }
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let (need, stored) = read(&path)?;
                by_need.entry(need).or_default().push(stored);
            }
        }
        Ok(Self { folder, by_need })
    }
}

fn read(path: &Path) -> Result<(String, Stored), OfflineError> {
    let bytes = files::read_bounded(path, COLLATERAL_FILE_BYTES_MAX)
        .map_err(|source| OfflineError::Io { path: path.to_owned(), source })?;
    Stored::decode_any(&bytes).map_err(|why| OfflineError::Unreadable { path: path.to_owned(), why })
}

#[async_trait]
impl CollateralSource for OfflineCollateral {
    async fn collateral(&self, need: &CollateralNeed, now_unix_s: u64) -> Result<Arc<Collateral>, CollateralError> {
        let editions = self.by_need.get(&need_text(need)).map(Vec::as_slice).unwrap_or_default();
        let newest = editions
            .iter()
            .filter(|stored| (stored.edition.issued_unix_s..stored.edition.expires_unix_s).contains(&now_unix_s))
            .max_by_key(|stored| stored.edition.issued_unix_s);
        newest.map(|stored| Arc::clone(&stored.collateral)).ok_or_else(|| CollateralError::Service {
            service: self.folder.display().to_string(),
            why: match editions {
                [] => format!("no file for {}", need_text(need)),
                [..] => format!("no file for {} holds at this time: put newer ones there", need_text(need)),
            },
        })
    }
}
