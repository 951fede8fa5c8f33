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

/// The passphrase of a wallet's key file, where it is given this way: `$COCOON_WALLET_PASSPHRASE`.
#[cfg(feature = "chain-tools")]
pub(crate) fn wallet_passphrase() -> Option<String> {
    let text = std::env::var_os("COCOON_WALLET_PASSPHRASE")?.into_string().ok()?;
    (!text.is_empty()).then_some(text)
}
