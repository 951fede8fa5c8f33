//! The folder of fetched models.
//!
//! `NAME.gguf` is complete and was checked when it was put there; `NAME.gguf.part` is what a fetch has so far;
//! `NAME.gguf.lock` is held by the process that fetches.
//! A file is hashed again before it is used: a tenth of a second buys not running damaged weights.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::catalogue::Model;
use super::digest::sha256;
use crate::terminal;

/// The models of one data folder.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// Held while a model is fetched; released when dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct FetchLock {
    _file: File,
}

impl Cache {
    /// The cache under a data folder, made if missing.
    pub(crate) fn open(data_dir: &Path) -> Result<Self> {
        let folder = data_dir.join("models");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}: choose another folder with --data-dir", folder.display()))?;
        Ok(Self { folder })
    }

    /// Where the files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a finished file is, or will be.
    pub(crate) fn path(&self, model: &Model) -> PathBuf {
        self.folder.join(model.file)
    }

    /// Where an unfinished file grows.
    pub(crate) fn part_path(&self, model: &Model) -> PathBuf {
        self.folder.join(format!("{}.part", model.file))
    }

    /// Where a wheel is unpacked.
    pub(crate) fn wheel_folder(&self, model: &Model) -> PathBuf {
        self.folder.join(format!("{}.wheel", model.file))
    }

    /// The cached file, if it is there and is the pinned one. A damaged file is set aside and reported.
    pub(crate) fn verified(&self, model: &Model) -> Result<Option<PathBuf>> {
        let path = self.path(model);
        if !path.exists() {
            return Ok(None);
        }
        match check(&path, model) {
            Ok(()) => Ok(Some(path)),
            Err(error) => {
                let aside = self.folder.join(format!("{}.damaged", model.file));
                terminal::note(&format!("{error:#}; kept as {}", aside.display()));
                fs::rename(&path, &aside).with_context(|| format!("cannot rename {}", path.display()))?;
                Ok(None)
            }
        }
    }

    /// Waits for the right to fetch this model.
    pub(crate) fn lock(&self, model: &Model) -> Result<FetchLock> {
        let path = self.folder.join(format!("{}.lock", model.file));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        if file.try_lock().is_err() {
            terminal::note("another cocoon is fetching this model: waiting for it");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(FetchLock { _file: file })
    }

    /// Makes the finished part the model's file, if it is the pinned one; drops it otherwise.
    pub(crate) fn adopt_part(&self, model: &Model) -> Result<PathBuf> {
        let part = self.part_path(model);
        if let Err(error) = check(&part, model) {
            // A resumed transfer over wrong bytes would never end.
            fs::remove_file(&part).with_context(|| format!("cannot remove {}", part.display()))?;
            return Err(error);
        }
        let path = self.path(model);
        File::open(&part)?.sync_all()?;
        fs::rename(&part, &path).with_context(|| format!("cannot rename {}", part.display()))?;
        Ok(path)
    }

    /// Copies a file that the user brought into the cache.
    pub(crate) fn import(&self, model: &Model, from: &Path) -> Result<PathBuf> {
        let _lock = self.lock(model)?;
        check(from, model)?;
        let part = self.part_path(model);
        fs::copy(from, &part).with_context(|| format!("cannot copy {} into the cache", from.display()))?;
        self.adopt_part(model)
    }
}

/// Checks length and SHA-256 against the pinned ones.
pub(crate) fn check(path: &Path, model: &Model) -> Result<()> {
    let found = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    if found != model.bytes {
        bail!("{} has {found} bytes, not the {} of {}", path.display(), model.bytes, model.name);
    }
    let digest = sha256(path)?;
    if digest != model.sha256 {
        bail!("{} has sha256 {digest}, not the pinned {}", path.display(), model.sha256);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalogue::{HubFile, WheelFile};

    /// A model of three bytes, `abc`.
    pub(crate) const TINY: &Model = &Model {
        name: "tiny",
        file: "tiny.gguf",
        bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        license: "none",
        remark: "",
        hub: HubFile { repository: "a/b", revision: "c", path: "tiny.gguf" },
        wheel: WheelFile { requirement: "tiny==1", bytes: 3, member: "tiny/tiny.gguf" },
    };

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        (folder, cache)
    }

    #[test]
    fn a_right_part_is_adopted_and_found() {
        let (_folder, cache) = cache();
        fs::write(cache.part_path(TINY), b"abc").unwrap();
        let path = cache.adopt_part(TINY).unwrap();
        assert_eq!(cache.verified(TINY).unwrap(), Some(path));
        assert!(!cache.part_path(TINY).exists());
    }

    #[test]
    fn a_wrong_part_is_dropped() {
        let (_folder, cache) = cache();
        fs::write(cache.part_path(TINY), b"abd").unwrap();
        let error = cache.adopt_part(TINY).unwrap_err();
        assert!(error.to_string().contains("not the pinned"), "{error}");
        assert!(!cache.part_path(TINY).exists());
    }

    #[test]
    fn a_swapped_model_is_not_run() {
        let (_folder, cache) = cache();
        fs::write(cache.path(TINY), b"evil").unwrap();
        assert_eq!(cache.verified(TINY).unwrap(), None);
        assert!(cache.folder().join("tiny.gguf.damaged").exists());
    }

    #[test]
    fn a_file_of_the_user_is_checked_before_it_is_copied() {
        let (folder, cache) = cache();
        let given = folder.path().join("mine");
        fs::write(&given, b"xyz").unwrap();
        assert!(cache.import(TINY, &given).is_err());
        fs::write(&given, b"abc").unwrap();
        assert_eq!(cache.import(TINY, &given).unwrap(), cache.path(TINY));
    }
}
