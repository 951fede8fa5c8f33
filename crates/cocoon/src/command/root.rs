//! `cocoon root`: the registry of a network, deployed, read and changed.
//!
//! - [`deploy`]: a new root, and the steward that owns it.
//! - [`show`]: what the root says, in words.
//! - [`images`], [`models`], [`proxies`]: who may take part. They change at once.
//! - [`prices`]: prices, multipliers, delays and stakes. A steward lets them wait, so that everybody can read them first.
//! - [`pending`]: what waits, applied when it is due, or cancelled.
//! - [`owner`]: handing the network over, in two steps.
//!
//! A change is a message to the root. [`change`] sends it through the steward when the root belongs to one, directly
//! when it belongs to the wallet, and refuses before anything is spent when it belongs to somebody else.

mod change;
mod deploy;
mod images;
mod models;
mod owner;
mod pending;
mod prices;
mod proxies;
mod registry;
mod show;
#[cfg(test)]
mod tests;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cocoon_ton::Address;

use self::registry::Registry;
use super::ton::network::{NetworkArgs, Session};
use super::ton::sender::WalletArgs;
use super::ton::{Output, Said};
use crate::runtime;

/// Deploy, read and change a network's registry: images, models, proxies, prices
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon root show                                      the network of the running `cocoon up`
  cocoon root show --chain https://toncenter.com --root EQ…
  cocoon root deploy --lock-delay 24h                   a network of your own
  cocoon root models add 'Qwen/Qwen3-32B@main:ab12…'
  cocoon root images add image.json --role worker       by its manifest, or by the manifest's hash
  cocoon root prices set --price 20 --worker-fee 18     waits until the time lock lets it pass
  cocoon root pending
  cocoon root apply 0")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    wallet: WalletArgs,

    /// The root contract [default: the one that `cocoon up` or `cocoon root deploy` left in the data folder]
    #[arg(long, global = true, env = "COCOON_ROOT", value_name = "ADDRESS")]
    root: Option<Address>,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Action {
    Deploy(deploy::Args),
    /// Say what the root says, in words
    Show,
    Images(images::Args),
    Models(models::Args),
    Proxies(proxies::Args),
    Prices(prices::Args),
    /// List the changes that wait for the time lock
    Pending,
    Apply(pending::ApplyArgs),
    Cancel(pending::CancelArgs),
    Owner(owner::Args),
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let session = args.network.open()?;
    let said = runtime::build(1)?.block_on(answer(&session, args))?;
    args.output.print(&said)
}

/// Carries the command out on a chain.
async fn answer(session: &Session, args: &Args) -> Result<Said> {
    let wallet = &args.wallet;
    if let Action::Deploy(deploy) = &args.action {
        return deploy::run(session, &wallet.open(session)?, deploy).await;
    }
    let registry = Registry::read(session, address(session, args.root)?).await?;
    let changes = match &args.action {
        Action::Deploy(_) => Vec::new(),
        Action::Show => return Ok(show::whole(session, &registry)),
        Action::Images(images::Args { action: None }) => return Ok(show::images(&registry)),
        Action::Images(images::Args { action: Some(action) }) => images::changes(action, &registry)?,
        Action::Models(models::Args { action: None }) => return Ok(show::models(&registry)),
        Action::Models(models::Args { action: Some(action) }) => models::changes(action, &registry)?,
        Action::Proxies(proxies::Args { action: None }) => return Ok(show::proxies(&registry)),
        Action::Proxies(proxies::Args { action: Some(action) }) => proxies::changes(action, &registry)?,
        Action::Prices(prices::Args { action: None }) => return Ok(show::prices(&registry)),
        Action::Prices(prices::Args { action: Some(action) }) => prices::changes(action, &registry)?,
        Action::Pending => return pending::list(&registry),
        Action::Apply(args) => return pending::apply(session, &wallet.open(session)?, &registry, args.id).await,
        Action::Cancel(args) => return pending::cancel(session, &wallet.open(session)?, &registry, args.id).await,
        Action::Owner(args) => return owner::act(session, &wallet.open(session)?, &registry, &args.action).await,
    };
    change::make(session, &wallet.open(session)?, &registry, changes).await
}

/// The root that is meant.
fn address(session: &Session, root: Option<Address>) -> Result<Address> {
    let known = session.record.as_ref().map(|record| record.root);
    root.or(known).with_context(|| {
        format!(
            "which root? Nothing is known about the network at {}: name its root with --root or COCOON_ROOT",
            session.endpoint
        )
    })
}
