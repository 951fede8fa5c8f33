//! `up.json` in the data folder: what earlier starts deployed and a later one must find.

use std::path::Path;

use anyhow::{Context as _, Result};
use cocoon_ton::Address;
use serde::{Deserialize, Serialize};

use crate::{config, limits};

const FILE: &str = "up.json";

/// What is remembered. A folder of an earlier version has none of it, and gets a new network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// The root that was deployed.
    pub(super) root: Option<Address>,
}

impl Kept {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = config::read_text(&path, limits::CONFIG_BYTES_MAX)?;
        serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))
    }

    /// Writes it whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let (path, half) = (folder.join(FILE), folder.join("up.json.new"));
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(&half, text).with_context(|| format!("cannot write {}", half.display()))?;
        std::fs::rename(&half, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}
