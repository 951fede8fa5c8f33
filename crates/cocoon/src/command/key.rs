//! `cocoon key`: API keys of a client. The key is shown once; the configuration keeps its hash.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cocoon_client::ApiKey;

use crate::terminal;

/// Make API keys for apps that use your client
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Action {
    /// Print a new key once, and the hash that goes into the client's configuration
    New,
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    match args.action {
        Action::New => new(),
    }
}

fn new() -> Result<()> {
    let key = ApiKey::generate().context("cannot make a key")?;
    terminal::line(key.expose());
    terminal::note("give this key to the app; it is not shown again. In the client's configuration:");
    terminal::note(&format!("  [client]\n  api_keys = [\"{}\"]", key.hash()));
    Ok(())
}
