//! `cocoon root models`: which models workers may serve.

use anyhow::Result;
use clap::Subcommand;
use cocoon_attest::policy::from_root::model_sha256;
use cocoon_ton::contract::message::root::{AddModel, DelModel};

use super::change::{Change, Timing};
use super::images::hash;
use super::registry::Registry;

/// List the models that may be served, add one, or remove one
///
/// The root keeps the SHA-256 of a model's full name, as the worker announces it: `name@commit:verity_hash` where the
/// worker pins its files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon root models
  cocoon root models add 'Qwen/Qwen3-32B@9216db57:4c1e…' smollm2-135m
  cocoon root models remove smollm2-135m")]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) action: Option<Action>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Let workers serve models; several become one change
    Add(Which),
    /// Let workers serve models no longer
    Remove(Which),
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Full names of models, or the SHA-256 of one as 64 hexadecimal digits
    #[arg(value_name = "NAME|HASH", required = true)]
    models: Vec<String>,
}

/// What an action changes; nothing for what is so already.
pub(super) fn changes(action: &Action, registry: &Registry) -> Result<Vec<Change>> {
    let (which, is_added) = match action {
        Action::Add(which) => (which, true),
        Action::Remove(which) => (which, false),
    };
    let asked = which.models.iter().map(|text| model(text));
    let new = asked.filter(|(hash, _)| registry.state.model_hashes.contains(hash) != is_added);
    Ok(new.map(|(hash, name)| change(registry, hash, &name, is_added)).collect())
}

fn change(registry: &Registry, hash: [u8; 32], name: &str, is_added: bool) -> Change {
    let query_id = registry.query_id();
    let (verb, body) = if is_added {
        ("add", AddModel { query_id, hash }.to_cell())
    } else {
        ("remove", DelModel { query_id, hash }.to_cell())
    };
    Change { words: format!("{verb} the model {name}"), body, timing: Timing::AtOnce }
}

/// The hash that is meant, and how to call it.
fn model(text: &str) -> ([u8; 32], String) {
    match hash(text) {
        Some(hash) => (hash, hex::encode(hash)),
        None => {
            let hash = model_sha256(text);
            (hash, format!("{text} ({})", hex::encode(hash)))
        }
    }
}
