//! `cocoon root owner`: handing the network over, in two steps, so that it cannot be handed to nobody.

use anyhow::{Result, bail};
use clap::Subcommand;
use cocoon_ton::Address;
use cocoon_ton::contract::message::steward::{AcceptOwner, ProposeOwner};
use cocoon_ton::wallet::Outgoing;
use cocoon_units::Nano;
use serde_json::json;

use super::change::{call, fees, permitted};
use super::registry::Registry;
use crate::command::ton::network::Session;
use crate::command::ton::sender::Opened;
use crate::command::ton::{Said, words};

/// Hand the steward to another wallet: one proposes, the other accepts
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon root owner propose UQ…                   by the owner
  cocoon root owner accept --wallet next.key      by whoever was proposed")]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Name who may become the owner; a later proposal replaces this one
    Propose {
        /// The next owner's wallet
        #[arg(value_name = "ADDRESS")]
        next: Address,
    },
    /// Become the owner, having been proposed
    Accept,
}

/// Money that travels with the message; what is not used comes back.
const VALUE: Nano = Nano::new(100_000_000);

/// Carries an action out.
pub(super) async fn act(session: &Session, wallet: &Opened, registry: &Registry, action: &Action) -> Result<Said> {
    let (account, state) = registry.steward()?;
    let query_id = registry.query_id();
    let (body, done) = match action {
        Action::Propose { next } => {
            permitted(session, wallet, registry)?;
            let shown = words::wallet(next, session.kind);
            let done = format!("{shown} may accept now; until then nothing changes hands");
            (ProposeOwner { query_id, owner: *next }.to_cell(), done)
        }
        Action::Accept => {
            let address = wallet.wallet.address();
            let shown = words::wallet(&address, session.kind);
            match state.pending_owner {
                Some(next) if next == address => {}
                Some(next) => bail!(
                    "{} was proposed, and the wallet {shown} is another one: nothing was sent",
                    words::wallet(&next, session.kind)
                ),
                None => bail!("nobody was proposed: the owner begins with `cocoon root owner propose {shown}`"),
            }
            (AcceptOwner { query_id }.to_cell(), format!("{shown} governs the root now"))
        }
    };
    let steps = call(session, wallet, vec![Outgoing::call(account.address, VALUE, body)], &[]).await?;
    let text = format!("{done}\nfees were {}", words::ton(fees(&steps)));
    let json = json!({
        "changed": true,
        "what": done,
        "fees_nano": fees(&steps).get().to_string(),
        "transaction": steps.first().map(|step| hex::encode(step.id.hash)),
    });
    Ok(Said { text, json })
}
