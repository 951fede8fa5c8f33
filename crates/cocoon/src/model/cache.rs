//! The folder of fetched models.
//!
//! A model's place is a file (`NAME.gguf`) or a folder with its files. A file at its place is complete and was checked when
//! it was put there; `FILE.part` is what a fetch has so far; `PLACE.lock` is held by the process that fetches.
//! A file is hashed again before it is used: a tenth of a second buys not running damaged weights.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::catalogue::{Model, ModelFile};
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
        make(&folder)?;
        Ok(Self { folder })
    }

    /// Where the files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a finished model is, or will be.
    pub(crate) fn path(&self, model: &Model) -> PathBuf {
        self.folder.join(model.place)
    }

    /// Where one of its files is, or will be.
    pub(crate) fn file_path(&self, model: &Model, file: &ModelFile) -> PathBuf {
        file.below(&self.path(model))
    }

    /// Where an unfinished file grows.
    pub(crate) fn part_path(&self, model: &Model, file: &ModelFile) -> PathBuf {
        with_suffix(&self.file_path(model, file), ".part")
    }

    /// Where a wheel is unpacked.
    pub(crate) fn wheel_folder(&self, model: &Model) -> PathBuf {
        with_suffix(&self.path(model), ".wheel")
    }

    /// Whether all files are at their places, whatever is in them.
    pub(crate) fn holds(&self, model: &Model) -> bool {
        self.missing(model).is_empty()
    }

    /// The files that are not at their places.
    pub(crate) fn missing(&self, model: &Model) -> Vec<&'static ModelFile> {
        model.files.iter().filter(|file| !self.file_path(model, file).exists()).collect()
    }

    /// The cached model, if all files are there and are the pinned ones. A damaged file is set aside and reported.
    pub(crate) fn verified(&self, model: &Model) -> Result<Option<PathBuf>> {
        for file in model.files {
            let path = self.file_path(model, file);
            if !path.exists() {
                continue;
            }
            if let Err(error) = check(&path, file) {
                let aside = with_suffix(&path, ".damaged");
                terminal::note(&format!("{error:#}; kept as {}", aside.display()));
                fs::rename(&path, &aside).with_context(|| format!("cannot rename {}", path.display()))?;
            }
        }
        Ok(self.holds(model).then(|| self.path(model)))
    }

    /// Waits for the right to fetch this model, and makes room for it.
    pub(crate) fn lock(&self, model: &Model) -> Result<FetchLock> {
        let path = with_suffix(&self.path(model), ".lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        if file.try_lock().is_err() {
            terminal::note("another cocoon is fetching this model: waiting for it");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        for file in model.files {
            self.file_path(model, file).parent().map_or(Ok(()), make)?;
        }
        Ok(FetchLock { _file: file })
    }

    /// Makes the finished part one of the model's files, if it is the pinned one; drops it otherwise.
    pub(crate) fn adopt_part(&self, model: &Model, file: &ModelFile) -> Result<()> {
        let part = self.part_path(model, file);
        if let Err(error) = check(&part, file) {
            // A resumed transfer over wrong bytes would never end.
            fs::remove_file(&part).with_context(|| format!("cannot remove {}", part.display()))?;
            return Err(error);
        }
        File::open(&part)?.sync_all()?;
        fs::rename(&part, self.file_path(model, file)).with_context(|| format!("cannot rename {}", part.display()))
    }

    /// Copies what the user brought into the cache: the file of the model, or the folder of its files.
    pub(crate) fn import(&self, model: &Model, from: &Path) -> Result<PathBuf> {
        let _lock = self.lock(model)?;
        for file in model.files {
            check(&file.below(from), file)?;
        }
        for file in model.files {
            let (from, part) = (file.below(from), self.part_path(model, file));
            fs::copy(&from, &part).with_context(|| format!("cannot copy {} into the cache", from.display()))?;
            self.adopt_part(model, file)?;
        }
        Ok(self.path(model))
    }
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make {}: choose another folder with --data-dir", folder.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}

/// Checks length and SHA-256 against the pinned ones.
pub(crate) fn check(path: &Path, file: &ModelFile) -> Result<()> {
    let found = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    if found != file.bytes {
        bail!("{} has {found} bytes, not the pinned {}", path.display(), file.bytes);
    }
    let digest = sha256(path)?;
    if digest != file.sha256 {
        bail!("{} has sha256 {digest}, not the pinned {}", path.display(), file.sha256);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalogue::{HubSource, Kind, WheelSource};

    /// A file of three bytes, `abc`.
    const fn abc(name: &'static str) -> ModelFile {
        ModelFile {
            name,
            bytes: 3,
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            hub_path: "tiny.gguf",
            wheel_member: "tiny/tiny.gguf",
        }
    }

    const fn model(place: &'static str, files: &'static [ModelFile]) -> Model {
        Model {
            name: "tiny",
            kind: Kind::Chat,
            place,
            files,
            license: "none",
            remark: "",
            hub: HubSource { repository: "a/b", revision: "c" },
            wheel: WheelSource { requirement: "tiny==1", bytes: 3 },
        }
    }

    const TINY_FILE: &ModelFile = &abc("");
    const TINY: &Model = &model("tiny.gguf", &[abc("")]);
    const PAIR: &Model = &model("pair", &[abc("a.json"), abc("b.bin")]);

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        (folder, cache)
    }

    #[test]
    fn a_right_part_is_adopted_and_found() {
        let (_folder, cache) = cache();
        let part = cache.part_path(TINY, TINY_FILE);
        assert_eq!(part, cache.folder().join("tiny.gguf.part"));
        fs::write(&part, b"abc").unwrap();
        cache.adopt_part(TINY, TINY_FILE).unwrap();
        assert_eq!(cache.verified(TINY).unwrap(), Some(cache.folder().join("tiny.gguf")));
        assert!(!part.exists());
    }

    #[test]
    fn a_wrong_part_is_dropped() {
        let (_folder, cache) = cache();
        let part = cache.part_path(TINY, TINY_FILE);
        fs::write(&part, b"abd").unwrap();
        let error = cache.adopt_part(TINY, TINY_FILE).unwrap_err();
        assert!(error.to_string().contains("not the pinned"), "{error}");
        assert!(!part.exists());
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

    #[test]
    fn one_swapped_file_of_several_is_not_run() {
        let (folder, cache) = cache();
        let given = folder.path().join("mine");
        fs::create_dir(&given).unwrap();
        fs::write(given.join("a.json"), b"abc").unwrap();
        fs::write(given.join("b.bin"), b"abd").unwrap();
        assert!(cache.import(PAIR, &given).is_err());
        assert_eq!(cache.missing(PAIR).len(), 2, "nothing of it was taken");
        fs::write(given.join("b.bin"), b"abc").unwrap();
        let path = cache.import(PAIR, &given).unwrap();
        assert_eq!(cache.verified(PAIR).unwrap(), Some(path.clone()));
        fs::write(path.join("a.json"), b"evil").unwrap();
        assert_eq!(cache.verified(PAIR).unwrap(), None);
        assert!(cache.missing(PAIR).iter().map(|file| file.name).eq(["a.json"]));
    }
}
