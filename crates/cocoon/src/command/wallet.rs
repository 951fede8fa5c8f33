//! `cocoon wallet`: a key, its money, and what it did.
//!
//! - [`keys`]: made, imported, exported; the key file never leaves this machine.
//! - [`show`]: address and balance; [`history`]: what happened, in words.
//! - [`send`]: a payment, told before it is made and followed until it is.
//! - [`faucet`]: play money, on devnets.
//!
//! A wallet is a key file and a contract. The key is the same everywhere; the address differs between contracts, and
//! for v5r1 between the main and the test network.

mod faucet;
mod history;
mod keys;
mod send;
mod show;
#[cfg(test)]
mod tests;

use anyhow::Result;
use clap::Subcommand;

use super::ton::network::{NetworkArgs, Session};
use super::ton::sender::WalletArgs;
use super::ton::{Output, Said};
use crate::runtime;

/// Make a wallet, look at it, pay from it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon wallet new                              a key in the data folder, readable by you only
  cocoon wallet faucet 100                       play money, while `cocoon up` runs; with --chain URL, from a `cocoon devnet`
  cocoon wallet send UQ… 1.5 --comment invoice-7
  cocoon wallet history
  cocoon wallet export > words.txt               24 words, for any TON wallet
  cocoon wallet show --chain https://toncenter.com")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    wallet: WalletArgs,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key, and print its address
    New,
    #[command(flatten)]
    OnChain(OnChain),
    Import(keys::ImportArgs),
    /// Print the key's 24 words, or its seed; whoever has them has the money
    Export,
}

/// What needs a chain.
#[derive(Debug, Subcommand)]
enum OnChain {
    /// Say what the wallet is and holds
    Show,
    Send(send::Args),
    History(history::Args),
    Faucet(faucet::Args),
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let said = match &args.action {
        Action::New => keys::new(&args.wallet, &args.network)?,
        Action::Import(import) => keys::import(&args.wallet, &args.network, import)?,
        Action::Export => keys::export(&args.wallet, &args.network)?,
        Action::OnChain(action) => {
            let session = args.network.open()?;
            runtime::build(1)?.block_on(answer(&session, &args.wallet, action))?
        }
    };
    args.output.print(&said)
}

/// Carries an action out on a chain.
async fn answer(session: &Session, wallet: &WalletArgs, action: &OnChain) -> Result<Said> {
    let opened = wallet.open(session)?;
    match action {
        OnChain::Show => show::show(session, &opened).await,
        OnChain::Send(args) => send::run(session, &opened, args).await,
        OnChain::History(args) => history::run(session, &opened, args).await,
        OnChain::Faucet(args) => faucet::run(session, &opened, args).await,
    }
}
