//! What a root says, in words and for scripts.

use std::collections::BTreeSet;

use cocoon_ton::contract::RootState;
use serde_json::{Value, json};

use super::registry::{Owner, Registry};
use super::{pending, prices, proxies};
use crate::command::ton::network::{Session, proof_words};
use crate::command::ton::{Said, words};
use crate::words::{Sheet, moment};

/// The whole root.
pub(super) fn whole(session: &Session, registry: &Registry) -> Said {
    let Registry { state, .. } = registry;
    let now = registry.at().unix_s;
    let mut text = format!("the root of a network, as of {}\n{}", moment(now.into()), head(session, registry).text());
    let mut part = |title: &str, lines: Vec<String>| {
        text.push_str(&format!("\n\n{title}"));
        for line in lines {
            text.push_str(&format!("\n  {line}"));
        }
    };
    part("images that may be proxies", listed(&state.proxy_hashes));
    part("images that may be workers", listed(&state.worker_hashes));
    part("models, by the hash of their names", listed(&state.model_hashes));
    part("proxies", proxy_lines(registry));
    text.push_str(&format!("\n\nterms\n{}", prices::sheet(&state.params).text()));
    if let Owner::Steward { state: steward, .. } = &registry.owner
        && !steward.pending.is_empty()
    {
        text.push_str(&format!("\n\nwaiting\n{}", pending::lines(registry, steward).join("\n")));
    }
    Said { text, json: json(session, registry) }
}

/// The images alone.
pub(super) fn images(registry: &Registry) -> Said {
    let RootState { proxy_hashes, worker_hashes, .. } = &registry.state;
    let text =
        format!("proxies\n  {}\nworkers\n  {}", listed(proxy_hashes).join("\n  "), listed(worker_hashes).join("\n  "));
    Said { text, json: json!({ "proxy_images": hexes(proxy_hashes), "worker_images": hexes(worker_hashes) }) }
}

/// The models alone.
pub(super) fn models(registry: &Registry) -> Said {
    let models = &registry.state.model_hashes;
    Said { text: listed(models).join("\n"), json: json!(hexes(models)) }
}

/// The proxies alone.
pub(super) fn proxies(registry: &Registry) -> Said {
    Said { text: proxy_lines(registry).join("\n"), json: proxies_json(registry) }
}

/// The terms alone.
pub(super) fn prices(registry: &Registry) -> Said {
    let params = &registry.state.params;
    Said { text: prices::sheet(params).text(), json: prices::json(params) }
}

fn head(session: &Session, registry: &Registry) -> Sheet {
    let Registry { state, account, .. } = registry;
    let mut sheet = Sheet::default();
    sheet
        .row("address", words::contract(&registry.address, session.kind))
        .row("raw", registry.address.raw())
        .row("network", network(session, registry))
        .row("version", state.version.to_string())
        .row("balance", words::ton(account.balance));
    match &registry.owner {
        Owner::Steward { account, state } => {
            sheet
                .row("owner", format!("a steward, {}", words::contract(&account.address, session.kind)))
                .row("governed by", words::wallet(&state.owner, session.kind))
                .row("time lock", words::span(state.delay_s.into()))
                .row("waiting", words::count(state.pending.len(), "change"));
            if let Some(next) = &state.pending_owner {
                sheet.row("handed to", format!("{}, who has not accepted yet", words::wallet(next, session.kind)));
            }
        }
        Owner::Plain(owner) => {
            sheet.row("owner", format!("{}, whose changes count at once", words::wallet(owner, session.kind)));
        }
    }
    sheet.row("proof", proof_words(session, registry.proof));
    sheet
}

fn network(session: &Session, registry: &Registry) -> String {
    let params = &registry.state.params;
    let money = if params.is_test { "play money" } else { "real money" };
    format!("number {}, {money}, on {}", params.unique_id, session.kind.name())
}

/// Hashes one a line; a blank list says so.
fn listed<'a>(hashes: impl IntoIterator<Item = &'a [u8; 32]>) -> Vec<String> {
    let lines: Vec<_> = hashes.into_iter().map(hex::encode).collect();
    if lines.is_empty() { vec!["none".to_owned()] } else { lines }
}

fn hexes(hashes: &BTreeSet<[u8; 32]>) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

/// Proxies one a line, each with its number.
fn proxy_lines(registry: &Registry) -> Vec<String> {
    let listed = &registry.state.registered_proxies;
    let lines: Vec<_> = listed.iter().map(|(seqno, record)| format!("{seqno}  {}", proxies::told(record))).collect();
    if lines.is_empty() { vec!["none".to_owned()] } else { lines }
}

/// The root for scripts.
fn json(session: &Session, registry: &Registry) -> Value {
    let Registry { state, account, .. } = registry;
    json!({
        "address": registry.address,
        "chain": session.endpoint,
        "proof": proof_words(session, registry.proof),
        "read_unix_s": registry.at().unix_s,
        "version": state.version,
        "unique_id": state.params.unique_id,
        "is_test": state.params.is_test,
        "balance_nano": account.balance.get().to_string(),
        "owner": owner(registry),
        "proxy_images": hexes(&state.proxy_hashes),
        "worker_images": hexes(&state.worker_hashes),
        "models": hexes(&state.model_hashes),
        "proxies": proxies_json(registry),
        "params": prices::json(&state.params),
    })
}

fn owner(registry: &Registry) -> Value {
    match &registry.owner {
        Owner::Steward { account, state } => json!({
            "steward": account.address,
            "owner": state.owner,
            "pending_owner": state.pending_owner,
            "delay_s": state.delay_s,
            "pending": pending::json(registry, state),
        }),
        Owner::Plain(owner) => json!({ "owner": owner }),
    }
}

/// Proxies for scripts.
fn proxies_json(registry: &Registry) -> Value {
    let entries = registry.state.registered_proxies.iter().map(|(seqno, record)| {
        json!({
            "seqno": seqno,
            "clients": record.clients(),
            "workers": record.workers(),
            "contract": record.pinned().map(|pin| pin.contract),
            "payment_key": record.pinned().map(|pin| hex::encode(pin.payment_key)),
        })
    });
    entries.collect()
}
