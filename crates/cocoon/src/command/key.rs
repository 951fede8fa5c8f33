//! `cocoon key`: what a client and those it meets know each other by.
//!
//! A key or secret is shown once, on standard output; what the other side's configuration needs is its hash, and goes
//! to standard error with the place where it belongs.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cocoon_client::{ApiKey, ApiKeyHash};

use crate::terminal;

/// Make API keys for apps that use your client, and the secret between a client and its proxies
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Action {
    /// Print a new API key once, and the hash that goes into the client's configuration
    New,
    /// Print a new secret of a client once, and the hash that goes into the proxy's configuration
    Secret,
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    match args.action {
        Action::New => new(),
        Action::Secret => secret(),
    }
}

fn new() -> Result<()> {
    let key = ApiKey::generate().context("cannot make a key")?;
    terminal::line(key.expose());
    terminal::note("give this key to the app; it is not shown again. In the client's configuration:");
    terminal::note(&format!("  [client]\n  api_keys = [\"{}\"]", key.hash()));
    Ok(())
}

fn secret() -> Result<()> {
    let key = ApiKey::generate().context("cannot make a secret")?;
    // The same 256 random bits, without the mark of an API key, which this is not.
    let secret = key.expose().rsplit('-').next().unwrap_or_default();
    let hash = ApiKeyHash::of(secret).to_string();
    let digits = hash.rsplit(':').next().unwrap_or_default();
    terminal::line(secret);
    terminal::note("this secret is not shown again. In the client's configuration:");
    terminal::note("  [client]\n  auth_secret = \"the secret\"");
    terminal::note("and in the configuration of each of its proxies:");
    terminal::note(&format!("  [proxy]\n  client_secret_hash = \"{digits}\""));
    Ok(())
}
