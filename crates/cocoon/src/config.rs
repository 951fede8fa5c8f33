//! Configuration files: TOML, one file per process, unknown keys refused by name.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::de::DeserializeOwned;

use crate::limits;

/// Reads a role's configuration. The error names the file, the line and the key.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = File::open(path)
        .with_context(|| format!("cannot read {}: print a sample with --print-default-config", path.display()))?;
    let mut text = String::new();
    file.take(limits::CONFIG_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("{} is not text", path.display()))?;
    if u64::try_from(text.len())? > limits::CONFIG_BYTES_MAX {
        bail!("{} is longer than {} bytes", path.display(), limits::CONFIG_BYTES_MAX);
    }
    parse(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
}

/// Parses the text of a configuration.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| anyhow!("{}", error.to_string().trim_end()))
}
