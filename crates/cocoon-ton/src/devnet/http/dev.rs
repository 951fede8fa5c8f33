//! Controls that no real network has: money from nothing, time that jumps, blocks on demand, copies.

use std::time::Duration;

use axum::http::Method as Verb;
use cocoon_units::{Nano, Ton};
use serde_json::{Value, json};

use super::params::Params;
use super::reply::Refusal;
use super::shape;
use crate::chain::Chain as _;
use crate::devnet::{Devnet, puppet};
use crate::limits;

/// Carries a control out. Reading is GET, changing is POST: no address that a browser opens changes anything.
pub(super) async fn call(devnet: &Devnet, name: &str, verb: &Verb, params: &Params) -> Result<Value, Refusal> {
    match (name, verb) {
        ("status", &Verb::GET) => status(devnet).await,
        ("faucet", &Verb::POST) => faucet(devnet, params).await,
        ("advance", &Verb::POST) => advance(devnet, params).await,
        ("tick", &Verb::POST) => tick(devnet).await,
        ("snapshot", &Verb::POST) => snapshot(devnet, params).await,
        ("status" | "faucet" | "advance" | "tick" | "snapshot", _) => {
            Err(Refusal::wrong_verb("`/dev/status` is GET, every other control is POST"))
        }
        _ => Err(Refusal::unknown("the controls are status, faucet, advance, tick and snapshot")),
    }
}

async fn status(devnet: &Devnet) -> Result<Value, Refusal> {
    let faucet = puppet::address(0);
    let left = devnet.account(&faucet).await?.for_display();
    Ok(json!({
        "seqno": left.at.seqno,
        "unix_s": left.at.unix_s,
        "lt": left.at.lt.to_string(),
        "queue": devnet.queue_len(),
        "faucet": { "address": faucet, "nano": left.balance.get().to_string() },
        "folder": devnet.folder(),
    }))
}

/// Gives money away; answers once the transaction that pays it in is final.
async fn faucet(devnet: &Devnet, params: &Params) -> Result<Value, Refusal> {
    let address = params.address()?;
    let amount = amount(params)?;
    let transaction = devnet.faucet(address, amount).await?;
    Ok(json!({
        "address": transaction.account,
        "nano": amount.get().to_string(),
        "transaction": shape::transaction_id(Some(transaction.id)),
    }))
}

/// `amount` in TON, `"2.5"`, or `nano` in nanoTON; never both, never a float.
fn amount(params: &Params) -> Result<Nano, Refusal> {
    let nano = match (params.text("amount")?, params.number("nano")?) {
        (Some(text), None) => {
            let ton: Ton = text.parse().map_err(|error| Refusal::malformed(format!("`amount`: {error}")))?;
            ton.nano()
        }
        (None, Some(nano)) => Nano::new(nano),
        (None, None) | (Some(_), Some(_)) => {
            return Err(Refusal::malformed("give `amount` in TON, as \"2.5\", or `nano` in nanoTON"));
        }
    };
    if nano == Nano::ZERO {
        return Err(Refusal::malformed("the amount is zero"));
    }
    Ok(nano)
}

async fn advance(devnet: &Devnet, params: &Params) -> Result<Value, Refusal> {
    let seconds: u64 = params.number("seconds")?.ok_or_else(|| Refusal::malformed("`seconds` is missing"))?;
    if seconds > limits::ADVANCE_MAX_SECONDS {
        return Err(Refusal::malformed(format!("`seconds` is at most {}", limits::ADVANCE_MAX_SECONDS)));
    }
    devnet.advance(Duration::from_secs(seconds)).await?;
    status(devnet).await
}

async fn tick(devnet: &Devnet) -> Result<Value, Refusal> {
    let block = devnet.tick().await?;
    let transactions = block
        .transactions
        .iter()
        .map(|done| json!({ "address": done.account, "transaction": shape::transaction_id(Some(done.id)) }));
    let transactions: Vec<_> = transactions.collect();
    Ok(json!({ "seqno": block.head.seqno, "unix_s": block.head.unix_s, "transactions": transactions }))
}

/// Copies the network into its own data folder, under a name that cannot lead out of it.
async fn snapshot(devnet: &Devnet, params: &Params) -> Result<Value, Refusal> {
    let name = params.needed("name")?;
    if !is_file_name(&name) {
        return Err(Refusal::malformed(format!(
            "`name` has 1 to {} letters, digits, `-` or `_`",
            limits::HTTP_SNAPSHOT_NAME_CHARS
        )));
    }
    let folder = devnet.folder().ok_or_else(|| Refusal::unknown("a devnet in memory has no folder for snapshots"))?;
    let path = folder.join("snapshots").join(&name);
    devnet.snapshot(&path).await?;
    Ok(json!({ "name": name, "path": path }))
}

fn is_file_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=limits::HTTP_SNAPSHOT_NAME_CHARS).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_stays_in_its_folder() {
        for name in ["before", "a-b_9", &"x".repeat(64)] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", ".", "..", "../devnet", "a/b", "a\\b", "a.b", "/etc/passwd", "a\0", "é", &"x".repeat(65)] {
            assert!(!is_file_name(name), "{name}");
        }
    }

    #[test]
    fn an_amount_is_never_a_float() {
        let params = |value: Value| Params::of_value(value).unwrap();
        assert_eq!(amount(&params(json!({ "amount": "2.5" }))).unwrap(), Nano::new(2_500_000_000));
        assert_eq!(amount(&params(json!({ "amount": 3 }))).unwrap(), Nano::new(3_000_000_000));
        assert_eq!(amount(&params(json!({ "nano": "7" }))).unwrap(), Nano::new(7));
        for bad in [
            json!({}),
            json!({ "amount": "1", "nano": 1 }),
            json!({ "amount": "0" }),
            json!({ "nano": "-1" }),
            json!({ "nano": 1.5 }),
            json!({ "amount": "1e9" }),
            json!({ "amount": 2.5 }),
            json!({ "amount": "99999999999999999999" }),
            json!({ "amount": ["1"] }),
        ] {
            assert!(amount(&params(bad.clone())).is_err(), "{bad}");
        }
    }
}
