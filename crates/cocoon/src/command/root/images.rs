//! `cocoon root images`: which measured images may be proxy or worker.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Subcommand, ValueEnum};
use cocoon_attest::ImageManifest;
use cocoon_attest::limits::DOCUMENT_BYTES_MAX;
use cocoon_ton::contract::message::root::{AddProxyType, AddWorkerType, DelProxyType, DelWorkerType};

use super::change::{Change, Timing};
use super::registry::Registry;
use crate::config;

/// List the images that may take part, add one, or remove one
///
/// An image is known by the SHA-256 of its manifest, which says what it measures to. Removing one drops every peer that
/// runs it as soon as the others have read the root again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon root images
  cocoon root images add worker-image.json --role worker
  cocoon root images remove 5d41… --role proxy")]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) action: Option<Action>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Let images take part; several become one change
    Add(Which),
    /// Let images take part no longer
    Remove(Which),
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Hashes of manifests, 64 hexadecimal digits each, or the manifests' files
    #[arg(value_name = "HASH|MANIFEST", required = true)]
    images: Vec<String>,

    /// What the images are
    #[arg(long, value_enum)]
    role: Role,
}

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    Proxy,
    Worker,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Worker => "worker",
        }
    }
}

/// What an action changes; nothing for what is so already.
pub(super) fn changes(action: &Action, registry: &Registry) -> Result<Vec<Change>> {
    let (which, is_added) = match action {
        Action::Add(which) => (which, true),
        Action::Remove(which) => (which, false),
    };
    let listed = match which.role {
        Role::Proxy => &registry.state.proxy_hashes,
        Role::Worker => &registry.state.worker_hashes,
    };
    let mut changes = Vec::new();
    for text in &which.images {
        let (hash, name) = image(text)?;
        if listed.contains(&hash) != is_added {
            changes.push(change(registry, which.role, hash, &name, is_added));
        }
    }
    Ok(changes)
}

fn change(registry: &Registry, role: Role, hash: [u8; 32], name: &str, is_added: bool) -> Change {
    let query_id = registry.query_id();
    let body = match (role, is_added) {
        (Role::Proxy, true) => AddProxyType { query_id, hash }.to_cell(),
        (Role::Proxy, false) => DelProxyType { query_id, hash }.to_cell(),
        (Role::Worker, true) => AddWorkerType { query_id, hash }.to_cell(),
        (Role::Worker, false) => DelWorkerType { query_id, hash }.to_cell(),
    };
    let verb = if is_added { "add" } else { "remove" };
    Change { words: format!("{verb} the {} image {name}", role.name()), body, timing: Timing::AtOnce }
}

/// The hash that is meant, and how to call it.
fn image(text: &str) -> Result<([u8; 32], String)> {
    if let Some(hash) = hash(text) {
        return Ok((hash, hex::encode(hash)));
    }
    let path = Path::new(text);
    if !path.exists() {
        bail!(
            "{text:?} is neither 64 hexadecimal digits nor a file: name an image by its manifest, or by that file's SHA-256"
        );
    }
    let json = config::read_text(path, u64::try_from(DOCUMENT_BYTES_MAX)?)?;
    let manifest = ImageManifest::parse(json.as_bytes())
        .with_context(|| format!("{} is no image manifest; `cocoon attest show` says what it is", path.display()))?;
    let hash = manifest.sha256();
    Ok((hash, format!("{} ({})", hex::encode(hash), path.display())))
}

/// 32 bytes from 64 hexadecimal digits.
pub(super) fn hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits).ok()?.try_into().ok()
}
