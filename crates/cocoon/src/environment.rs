//! The environment: the only file that reads variables by hand (clap reads those named on its options).

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Where models and, later, state are kept: `$XDG_DATA_HOME/cocoon`, or `~/.local/share/cocoon`.
pub(crate) fn data_dir() -> Result<PathBuf> {
    let xdg = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(base) = xdg {
        return Ok(base.join("cocoon"));
    }
    let home = std::env::home_dir().context("no home directory: name a folder with --data-dir")?;
    Ok(home.join(".local/share/cocoon"))
}
