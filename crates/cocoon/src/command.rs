//! The commands, one file each, and the way from a parsed command to it.

use anyhow::Result;

use crate::cli::Command;

#[cfg(feature = "attest")]
pub(crate) mod attest;
#[cfg(feature = "dev")]
pub(crate) mod chat;
#[cfg(all(feature = "client", feature = "chain-tools"))]
pub(crate) mod client_money;
#[cfg(feature = "chain-tools")]
pub(crate) mod contract;
#[cfg(feature = "dev")]
pub(crate) mod devnet;
#[cfg(feature = "client")]
pub(crate) mod key;
#[cfg(feature = "dev")]
pub(crate) mod model;
#[cfg(feature = "attest")]
pub(crate) mod receipt;
pub(crate) mod role;
#[cfg(feature = "chain-tools")]
pub(crate) mod root;
#[cfg(feature = "chain-tools")]
pub(crate) mod ton;
#[cfg(feature = "dev")]
pub(crate) mod up;
#[cfg(feature = "chain-tools")]
pub(crate) mod wallet;
#[cfg(all(feature = "worker", feature = "chain-tools"))]
pub(crate) mod worker_earnings;

/// Carries a command out.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        #[cfg(feature = "dev")]
        Command::Up(args) => up::run(args),
        #[cfg(feature = "dev")]
        Command::Chat(args) => chat::run(args),
        #[cfg(feature = "dev")]
        Command::Model(args) => model::run(args),
        #[cfg(feature = "dev")]
        Command::Devnet(args) => devnet::run(&args),
        #[cfg(all(feature = "client", not(feature = "chain-tools")))]
        Command::Client(args) => role::client::run(&args),
        #[cfg(all(feature = "client", feature = "chain-tools"))]
        Command::Client(args) => client_money::run(&args),
        #[cfg(feature = "proxy")]
        Command::Proxy(args) => role::proxy::run(&args),
        #[cfg(all(feature = "worker", not(feature = "chain-tools")))]
        Command::Worker(args) => role::worker::run(&args),
        #[cfg(all(feature = "worker", feature = "chain-tools"))]
        Command::Worker(args) => worker_earnings::run(&args),
        #[cfg(feature = "attest")]
        Command::Attest(args) => attest::run(args),
        #[cfg(feature = "attest")]
        Command::Receipt(args) => receipt::run(&args),
        #[cfg(feature = "client")]
        Command::Key(args) => key::run(&args),
        #[cfg(feature = "chain-tools")]
        Command::Wallet(args) => wallet::run(&args),
        #[cfg(feature = "chain-tools")]
        Command::Root(args) => root::run(&args),
        #[cfg(feature = "chain-tools")]
        Command::Contract(args) => contract::run(&args),
    }
}
