//! `cocoon wallet history`: what the wallet received and sent, in words.

use anyhow::Result;
use cocoon_ton::explain::Names;
use cocoon_ton::wallet::WalletKind;

use crate::command::ton::Said;
use crate::command::ton::history::History;
use crate::command::ton::network::Session;
use crate::command::ton::sender::Opened;
use crate::limits;

/// Say what the wallet received and sent, newest last
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many transactions
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=limits::HISTORY_SHOWN_MAX))]
    limit: u16,
}

/// Reads the history.
pub(super) async fn run(session: &Session, opened: &Opened, args: &Args) -> Result<Said> {
    let address = opened.wallet.address();
    let history = History::read(session, &address, args.limit.into()).await?;
    let mut names = Names::default();
    names.insert(address, "this wallet");
    if let WalletKind::Cocoon { owner } = opened.wallet.kind() {
        names.insert(owner, "owner");
    }
    if let Some(record) = &session.record {
        names.insert(record.root, "root");
        record.steward.iter().for_each(|steward| names.insert(*steward, "steward"));
    }
    Ok(Said { text: history.text(&names), json: history.json(&names) })
}
