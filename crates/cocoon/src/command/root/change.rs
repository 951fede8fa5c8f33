//! A change of the root, carried out.
//!
//! 1. The wallet must be the one whose word counts; anything else is refused before money is spent.
//! 2. Several changes are one message to the steward, or one message each to a root without one, in one transaction of
//!    the wallet.
//! 3. What will happen is told on standard error; then it is sent and followed to the root, and a refusal on the way is
//!    an error in words.

use anyhow::{Result, bail};
use cocoon_ton::chain::{MessageKind, Transaction};
use cocoon_ton::contract::message::steward::{Act, Batch};
use cocoon_ton::limits::STEWARD_BATCH_MAX;
use cocoon_ton::wallet::Outgoing;
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use serde_json::json;

use super::registry::{Owner, Registry};
use crate::command::ton::network::Session;
use crate::command::ton::sender::{Opened, arrival, bookmark, succeeded};
use crate::command::ton::{Said, words};
use crate::terminal;
use crate::words::moment;

/// One change.
#[derive(Debug)]
pub(super) struct Change {
    /// What it does, as a clause: `add the model x`.
    pub(super) words: String,
    /// The message for the root.
    pub(super) body: Cell,
    /// When it counts under a steward.
    pub(super) timing: Timing,
}

/// When a change counts under a steward. Without one, at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// When the message arrives.
    AtOnce,
    /// When the time lock has passed and somebody applies it.
    AfterDelay,
}

/// Money that travels with a message to the steward, and with each change in it; what is not used comes back.
const STEWARD_VALUE: Nano = Nano::new(100_000_000);
const CHANGE_VALUE: Nano = Nano::new(50_000_000);

/// Carries changes out.
pub(super) async fn make(
    session: &Session,
    wallet: &Opened,
    registry: &Registry,
    changes: Vec<Change>,
) -> Result<Said> {
    if changes.is_empty() {
        let text = "nothing to change: the root says so already".to_owned();
        return Ok(Said { text, json: json!({ "changed": false, "version": registry.state.version }) });
    }
    permitted(session, wallet, registry)?;
    for change in &changes {
        terminal::note(&format!("  {}", change.words));
    }
    match &registry.owner {
        Owner::Steward { account, state } => {
            let target = account.address;
            let body = Act { query_id: registry.query_id(), changes: batch(&changes)? }.to_cell();
            let message = Outgoing::call(target, value(changes.len()), body);
            let steps = call(session, wallet, vec![message], &[registry.address]).await?;
            let after = Registry::read(session, registry.address).await?;
            Ok(told(session, registry, &after, &changes, state.next_id, &steps))
        }
        Owner::Plain(_) => {
            let messages =
                changes.iter().map(|change| Outgoing::call(registry.address, CHANGE_VALUE, change.body.clone()));
            let steps = call(session, wallet, messages.collect(), &[]).await?;
            let after = Registry::read(session, registry.address).await?;
            Ok(told(session, registry, &after, &changes, 0, &steps))
        }
    }
}

/// Refuses a wallet whose word does not count, naming the one that does.
pub(super) fn permitted(session: &Session, wallet: &Opened, registry: &Registry) -> Result<()> {
    let owner = registry.owner.person();
    let address = wallet.wallet.address();
    if owner == address {
        return Ok(());
    }
    let obeys = match &registry.owner {
        Owner::Steward { .. } => "the steward of this root obeys",
        Owner::Plain(_) => "this root belongs to",
    };
    bail!(
        "{obeys} {}, and the wallet {} ({}) is another one: nothing was sent; name the owner's key file with --wallet{}",
        words::wallet(&owner, session.kind),
        words::wallet(&address, session.kind),
        wallet.file.display(),
        known_key(session)
    )
}

/// The key file that `cocoon up` or `cocoon root deploy` left for this network, as advice.
fn known_key(session: &Session) -> String {
    let left = session.record.as_ref().and_then(|record| record.wallet.as_ref());
    left.map(|file| format!("; this network was made with {}", session.folder.join(file).display())).unwrap_or_default()
}

fn batch(changes: &[Change]) -> Result<Batch> {
    if changes.len() > STEWARD_BATCH_MAX {
        bail!("{} changes at once; a steward takes {STEWARD_BATCH_MAX}: split them", changes.len());
    }
    Ok(Batch::new(changes.iter().map(|change| change.body.clone()).collect())?)
}

/// What travels with this many changes.
fn value(changes: usize) -> Nano {
    let count = u64::try_from(changes).unwrap_or(u64::MAX);
    Nano::new(STEWARD_VALUE.get().saturating_add(CHANGE_VALUE.get().saturating_mul(count)))
}

/// Sends messages and follows each to its contract, and from there what goes on to one of `further`. The wallet's
/// transaction comes first.
pub(super) async fn call(
    session: &Session,
    wallet: &Opened,
    messages: Vec<Outgoing>,
    further: &[Address],
) -> Result<Vec<Transaction>> {
    let mut marks = Vec::new();
    for address in messages.iter().map(|message| message.to).chain(further.iter().copied()) {
        marks.push((address, bookmark(session, &address).await?));
    }
    let mark = |to: &Address| marks.iter().find(|(address, _)| address == to).and_then(|(_, mark)| *mark);
    let sent = wallet.send(session, messages).await?;
    let mut steps = vec![sent];
    let mut next = 0;
    while let Some(step) = steps.get(next) {
        // Of the wallet, every message is followed; of a contract, those to the contracts that were named.
        let is_followed = |to: &Address| next == 0 || further.contains(to);
        let outgoing = step.out_messages.iter().filter_map(|message| match message.kind {
            MessageKind::Internal { to, .. } if is_followed(&to) => Some((to, message.clone())),
            MessageKind::Internal { .. }
            | MessageKind::ExternalIn { .. }
            | MessageKind::ExternalOut { .. }
            | MessageKind::Unreadable => None,
        });
        for (to, message) in outgoing.collect::<Vec<_>>() {
            let step = arrival(session, &message, mark(&to)).await?;
            succeeded(&step, session)?;
            steps.push(step);
        }
        next += 1;
    }
    Ok(steps)
}

/// All fees of some transactions.
pub(super) fn fees(steps: &[Transaction]) -> Nano {
    Nano::new(steps.iter().fold(0, |sum: u64, step| sum.saturating_add(step.cost().get())))
}

/// What was done, and what waits.
fn told(
    session: &Session,
    before: &Registry,
    after: &Registry,
    changes: &[Change],
    first_id: u32,
    steps: &[Transaction],
) -> Said {
    let mut lines = Vec::new();
    let mut waiting = Vec::new();
    let mut next_id = first_id;
    for change in changes {
        let waits = matches!(before.owner, Owner::Steward { .. }) && change.timing == Timing::AfterDelay;
        if waits {
            lines.push(format!("waits as number {next_id}: {}", change.words));
            waiting.push(next_id);
            next_id = next_id.saturating_add(1);
        } else {
            lines.push(format!("done: {}", change.words));
        }
    }
    if let (Owner::Steward { state, .. }, Some(id)) = (&after.owner, waiting.first())
        && let Some(pending) = state.pending.get(id)
    {
        lines.push(format!("can be applied from {}: `cocoon root apply {id}`", moment(pending.due_unix_s.into())));
    }
    if changes.iter().any(|change| change.timing == Timing::AfterDelay) {
        lines.push(MOVES.to_owned());
    }
    let version = after.state.version;
    lines.push(format!("the root is at version {version}; fees were {}", words::ton(fees(steps))));
    let json = json!({
        "changed": true,
        "version": version,
        "changes": changes.iter().map(|change| change.words.as_str()).collect::<Vec<_>>(),
        "waiting": waiting,
        "fees_nano": fees(steps).get().to_string(),
        "transaction": steps.first().map(|step| hex::encode(step.id.hash)),
        "chain": session.endpoint,
    });
    Said { text: lines.join("\n"), json }
}

/// What a change of parameters means for everybody.
const MOVES: &str = "once it counts, every proxy, client and worker moves to new contract instances: their addresses derive \
from these terms; the old ones are closed, and their money goes back to its owners";
