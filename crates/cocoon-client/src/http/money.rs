//! `/v1/budget`: how the client's money stands, and its way home. For the owner only: a client without keys, which only
//! its own host reaches, or a key with `is_owner`.
//!
//! - `GET /v1/budget`: the wallet, the day, each contract with a proxy.
//! - `POST /v1/budget/withdraw`: pays the owner what exceeds the stake of a contract, and answers once it was sent.
//! - `POST /v1/budget/close`: closes a contract, in the background; `GET` says how far it is.
//!
//! Both take `{"contract": "0:…"}`; without it, all contracts are meant. Money goes to the owner's wallet and nowhere else.

use bytes::Bytes;
use cocoon_ton::Address;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{body::ResponseBody, info};
use crate::{
    Shared,
    budget::desk::{Desk, DeskError, DeskRow},
    error::RequestError,
    keys::Access,
};

/// What a command is about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Which {
    contract: Option<Address>,
}

/// The desk, for the owner.
fn desk<'a>(shared: &'a Shared, access: &Access) -> Result<&'a Desk, RequestError> {
    if !access.is_owner {
        return Err(RequestError::NotOwner);
    }
    shared.desk.as_ref().ok_or(RequestError::UnknownPath)
}

/// How it stands.
pub(super) async fn budget(shared: &Shared, access: &Access) -> Result<Response<ResponseBody>, RequestError> {
    let desk = desk(shared, access)?;
    let contracts: Vec<_> = desk.rows().iter().map(|row| with_own_count(shared, row)).collect();
    let body = json!({
        "wallet": { "address": desk.owner(), "balance_nano": desk.wallet_balance().await.ok().map(nano) },
        "today": shared.budget.status(),
        "max_funded_proxies": shared.config.budget.max_funded_proxies,
        "contracts": contracts,
    });
    Ok(info::json_response(StatusCode::OK, &body))
}

/// A contract, and what this client counted of its use.
fn with_own_count(shared: &Shared, row: &DeskRow) -> Value {
    let view = shared.budget.account(row.report.contract);
    let mut value = json!(row);
    if let Value::Object(fields) = &mut value {
        fields.insert("tokens_counted".to_owned(), json!(view.counted));
        fields.insert("tokens_held".to_owned(), json!(view.open));
        fields.insert("tokens_demanded".to_owned(), json!(view.demanded));
        fields.insert("refused".to_owned(), json!(view.differs.map(|differs| differs.to_string())));
    }
    value
}

/// Pays the owner what exceeds the stake.
pub(super) async fn withdraw(
    shared: &Shared,
    access: &Access,
    body: &Bytes,
) -> Result<Response<ResponseBody>, RequestError> {
    let desk = desk(shared, access)?;
    let which = which(body)?;
    let mut done = Vec::new();
    for contract in contracts(desk, &which, |row| row.report.balance_nano > row.report.stake_nano) {
        let said = match desk.withdraw(contract).await {
            Ok(paid) => json!({ "contract": contract, "paid_nano": paid.get() }),
            Err(error) => refused(contract, &error),
        };
        done.push(said);
    }
    Ok(info::json_response(StatusCode::OK, &json!({ "contracts": done })))
}

/// Begins to close.
pub(super) fn close(shared: &Shared, access: &Access, body: &Bytes) -> Result<Response<ResponseBody>, RequestError> {
    let desk = desk(shared, access)?;
    let which = which(body)?;
    let said =
        contracts(desk, &which, |row| matches!(row.report.state, "open" | "closing")).into_iter().map(|contract| {
            match desk.close(&contract) {
                Ok(()) => json!({ "contract": contract, "closing": true }),
                Err(error) => refused(contract, &error),
            }
        });
    let said: Vec<_> = said.collect();
    Ok(info::json_response(StatusCode::ACCEPTED, &json!({ "contracts": said })))
}

/// The one that was named, or all that it can be done with.
fn contracts(desk: &Desk, which: &Which, is_meant: impl Fn(&DeskRow) -> bool) -> Vec<Address> {
    match which.contract {
        Some(contract) => vec![contract],
        None => desk.rows().iter().filter(|row| is_meant(row)).map(|row| row.report.contract).collect(),
    }
}

fn which(body: &Bytes) -> Result<Which, RequestError> {
    if body.is_empty() {
        return Ok(Which::default());
    }
    serde_json::from_slice(body).map_err(|_| {
        RequestError::bad_request(r#"the body is `{"contract": "0:…"}`, or empty for all contracts"#, Some("contract"))
    })
}

fn refused(contract: Address, error: &DeskError) -> Value {
    json!({ "contract": contract, "error": error.to_string() })
}

const fn nano(amount: cocoon_units::Nano) -> u64 {
    amount.get()
}
