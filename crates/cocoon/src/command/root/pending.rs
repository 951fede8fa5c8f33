//! `cocoon root pending`, `apply` and `cancel`: changes that wait for the steward's time lock.

use anyhow::{Result, bail};
use cocoon_ton::Cell;
use cocoon_ton::contract::StewardState;
use cocoon_ton::contract::message::root::ChangeParamsFull;
use cocoon_ton::contract::message::steward::{Cancel, Execute, describe};
use cocoon_ton::contract::steward::Pending;
use cocoon_ton::wallet::Outgoing;
use cocoon_units::{Multipliers, Nano};
use serde_json::{Value, json};

use super::change::{call, fees, permitted};
use super::prices;
use super::registry::Registry;
use crate::command::ton::network::Session;
use crate::command::ton::sender::Opened;
use crate::command::ton::{Said, words};
use crate::terminal;
use crate::words::{moment, safe};

/// Make a change that has waited long enough
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// Its number; see `cocoon root pending`
    #[arg(value_name = "NUMBER")]
    pub(super) id: u32,
}

/// Drop a change that waits
#[derive(Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// Its number; see `cocoon root pending`
    #[arg(value_name = "NUMBER")]
    pub(super) id: u32,
}

/// Money that travels with these messages; what is not used comes back.
const VALUE: Nano = Nano::new(200_000_000);

/// What waits.
pub(super) fn list(registry: &Registry) -> Result<Said> {
    let (_, steward) = registry.steward()?;
    let text =
        if steward.pending.is_empty() { "nothing waits".to_owned() } else { lines(registry, steward).join("\n") };
    Ok(Said { text, json: json(registry, steward) })
}

/// One change a line: number, when, what.
pub(super) fn lines(registry: &Registry, steward: &StewardState) -> Vec<String> {
    let rows = steward.pending.iter().map(|(id, pending)| {
        vec![id.to_string(), due(registry, pending), safe_description(registry, &pending.message)]
    });
    let rows: Vec<_> = rows.collect();
    terminal::table(&rows).lines().map(str::to_owned).collect()
}

/// What waits, for scripts.
pub(super) fn json(registry: &Registry, steward: &StewardState) -> Value {
    let entries = steward.pending.iter().map(|(id, pending)| {
        json!({
            "id": id,
            "due_unix_s": pending.due_unix_s,
            "is_due": is_due(registry, pending),
            "what": safe_description(registry, &pending.message),
        })
    });
    entries.collect()
}

fn is_due(registry: &Registry, pending: &Pending) -> bool {
    pending.due_unix_s <= registry.at().unix_s
}

fn due(registry: &Registry, pending: &Pending) -> String {
    if is_due(registry, pending) {
        return format!("can be applied since {}", moment(pending.due_unix_s.into()));
    }
    let (due, now) = (pending.due_unix_s.into(), registry.at().unix_s.into());
    format!("{}, at {}", words::relative(due, now), moment(due))
}

/// What a waiting change would do: terms as they would differ from today's, anything else as the contract's own words.
fn safe_description(registry: &Registry, body: &Cell) -> String {
    let Ok(message) = ChangeParamsFull::parse(body) else {
        return safe(&describe(body));
    };
    let old = &registry.state.params;
    let ChangeParamsFull { prompt, cached, completion, reasoning, .. } = message;
    let new = cocoon_ton::contract::Params {
        price_per_token: message.price_per_token,
        worker_fee_per_token: message.worker_fee_per_token,
        multipliers: Multipliers { prompt, cached, completion, reasoning },
        proxy_delay_s: message.proxy_delay_s,
        client_delay_s: message.client_delay_s,
        min_proxy_stake: message.min_proxy_stake,
        min_client_stake: message.min_client_stake,
        ..old.clone()
    };
    let differences = prices::differences(old, &new);
    if differences.is_empty() { "terms as they are today".to_owned() } else { differences.join(", ") }
}

/// Applies a change that is due.
pub(super) async fn apply(session: &Session, wallet: &Opened, registry: &Registry, id: u32) -> Result<Said> {
    let (pending, body) = (waiting(registry, id)?, Execute { query_id: registry.query_id(), id }.to_cell());
    if !is_due(registry, pending) {
        bail!("change {id} cannot be applied yet: {}; nothing was sent", due(registry, pending));
    }
    let what = safe_description(registry, &pending.message);
    terminal::note(&format!("  apply {id}: {what}"));
    act(session, wallet, registry, body, &format!("applied {id}: {what}")).await
}

/// Drops a change.
pub(super) async fn cancel(session: &Session, wallet: &Opened, registry: &Registry, id: u32) -> Result<Said> {
    let (pending, body) = (waiting(registry, id)?, Cancel { query_id: registry.query_id(), id }.to_cell());
    let what = safe_description(registry, &pending.message);
    terminal::note(&format!("  cancel {id}: {what}"));
    act(session, wallet, registry, body, &format!("cancelled {id}: {what}")).await
}

fn waiting(registry: &Registry, id: u32) -> Result<&Pending> {
    let (_, steward) = registry.steward()?;
    match steward.pending.get(&id) {
        Some(pending) => Ok(pending),
        None if id < steward.next_id => bail!("change {id} waits no longer: it was applied or cancelled"),
        None => bail!("no change {id} waits; see `cocoon root pending`"),
    }
}

async fn act(session: &Session, wallet: &Opened, registry: &Registry, body: Cell, done: &str) -> Result<Said> {
    permitted(session, wallet, registry)?;
    let (steward, _) = registry.steward()?;
    let message = Outgoing::call(steward.address, VALUE, body);
    let steps = call(session, wallet, vec![message], &[registry.address]).await?;
    let version = Registry::read(session, registry.address).await?.state.version;
    let text = format!("{done}\nthe root is at version {version}; fees were {}", words::ton(fees(&steps)));
    let json = json!({
        "changed": true,
        "version": version,
        "what": done,
        "fees_nano": fees(&steps).get().to_string(),
        "transaction": steps.first().map(|step| hex::encode(step.id.hash)),
    });
    Ok(Said { text, json })
}
