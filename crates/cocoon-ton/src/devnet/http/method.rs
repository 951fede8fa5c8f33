//! The methods of toncenter v2 that are here: those that stock clients need to hold an account, send and read.
//!
//! What is not here: blocks and their proofs, since the devnet makes no blocks that could be hashed; fee estimates;
//! asking for the past (`seqno`), since only the newest state is kept.

use serde_json::{Value, json};
use tycho_types::cell::Cell;

use super::params::Params;
use super::reply::Refusal;
use super::{shape, stack};
use crate::chain::{Account, Chain as _, ChainError, TxId};
use crate::devnet::Devnet;
use crate::get_method::{self, GetError};
use crate::limits;

/// What the machine answers for an account that has no code, as the official server does.
const EXIT_NO_CODE: i32 = -13;

/// What code throws that has no such method.
const EXIT_NO_METHOD: i32 = 11;

/// What the machine answers when it runs out of gas: the code, negated as nothing could catch it.
const EXIT_OUT_OF_GAS: i32 = -14;

/// A method by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    MasterchainInfo,
    AddressInformation,
    AddressBalance,
    AddressState,
    Transactions,
    /// `runGetMethod`.
    Get,
    SendBoc,
    SendBocReturnHash,
    ConfigParam,
    ConfigAll,
}

impl Method {
    /// The method of this name.
    pub(super) fn named(name: &str) -> Result<Self, Refusal> {
        Ok(match name {
            "getMasterchainInfo" => Self::MasterchainInfo,
            "getAddressInformation" => Self::AddressInformation,
            "getAddressBalance" => Self::AddressBalance,
            "getAddressState" => Self::AddressState,
            "getTransactions" => Self::Transactions,
            "runGetMethod" => Self::Get,
            "sendBoc" => Self::SendBoc,
            "sendBocReturnHash" => Self::SendBocReturnHash,
            "getConfigParam" => Self::ConfigParam,
            "getConfigAll" => Self::ConfigAll,
            _ => return Err(Refusal::unknown("the devnet has no such method; GET / lists those it has")),
        })
    }

    /// Whether it takes a body: what changes something must not be an address that a browser opens.
    pub(super) const fn is_post_only(self) -> bool {
        match self {
            Self::Get | Self::SendBoc | Self::SendBocReturnHash => true,
            Self::MasterchainInfo
            | Self::AddressInformation
            | Self::AddressBalance
            | Self::AddressState
            | Self::Transactions
            | Self::ConfigParam
            | Self::ConfigAll => false,
        }
    }

    /// Calls it.
    pub(super) async fn call(self, devnet: &Devnet, params: &Params) -> Result<Value, Refusal> {
        match self {
            Self::MasterchainInfo => Ok(shape::masterchain(&devnet.head().await?.for_display())),
            Self::AddressInformation => Ok(shape::account(&account(devnet, params).await?)),
            Self::AddressBalance => Ok(json!(account(devnet, params).await?.balance.get().to_string())),
            Self::AddressState => Ok(json!(shape::status(account(devnet, params).await?.status))),
            Self::Transactions => transactions(devnet, params).await,
            Self::Get => run_get_method(devnet, params).await,
            Self::SendBoc => send(devnet, params).await.map(|_| json!({ "@type": "ok" })),
            Self::SendBocReturnHash => {
                let hash = shape::hash(&send(devnet, params).await?);
                Ok(json!({ "@type": "raw.extMessageInfo", "hash": hash, "hash_norm": hash }))
            }
            Self::ConfigParam => config_param(devnet, params).await,
            Self::ConfigAll => config_all(devnet).await,
        }
    }
}

async fn account(devnet: &Devnet, params: &Params) -> Result<Account, Refusal> {
    Ok(devnet.account(&params.address()?).await?.for_display())
}

/// Newest first, from `lt` and `hash` (itself among them) or the last, down to `to_lt` (not among them).
async fn transactions(devnet: &Devnet, params: &Params) -> Result<Value, Refusal> {
    let address = params.address()?;
    let from = match (params.number("lt")?, params.hash("hash")?) {
        (None | Some(0), None) => None,
        (Some(lt), Some(hash)) => Some(TxId { lt, hash }),
        (Some(_), None) | (None, Some(_)) => return Err(Refusal::malformed("`lt` and `hash` come together")),
    };
    let limit = params.number("limit")?.unwrap_or(limits::HTTP_TRANSACTIONS_DEFAULT);
    if !(1..=limits::HTTP_TRANSACTIONS_MAX).contains(&limit) {
        return Err(Refusal::malformed(format!("`limit` lies between 1 and {}", limits::HTTP_TRANSACTIONS_MAX)));
    }
    let to_lt = params.number("to_lt")?.unwrap_or(0);
    let found = match devnet.history(&address, from, limit).await {
        Err(ChainError::Gap { .. }) => {
            return Err(Refusal::unknown("the account has no transaction with this lt and hash"));
        }
        found => found?,
    };
    let values = found.iter().filter(|(id, _)| id.lt > to_lt).map(|(_, cell)| shape::transaction(cell, &address));
    let values: Result<Vec<_>, _> = values.collect();
    values.map(Value::Array).map_err(|error| Refusal::unwritable(format!("a transaction cannot be read: {error}")))
}

/// Runs a get-method here, on the newest state. What the code answers is a result, also when it fails.
async fn run_get_method(devnet: &Devnet, params: &Params) -> Result<Value, Refusal> {
    let account = account(devnet, params).await?;
    let method = method_name(params)?;
    let arguments = stack::read(params.raw("stack"))?;
    let config = devnet.config().await?.for_display();
    let (at, last) = (account.at, account.last);
    // The machine computes for some milliseconds, which other requests must not wait for.
    let run = move || get_method::run_measured(&account, &config, &method, arguments);
    let ran = tokio::task::spawn_blocking(run).await;
    let (result, gas_used) = ran.map_err(|_| Refusal::unwritable("the get-method was not run"))?;
    let (exit_code, values) = match result {
        Ok(values) => (0, values),
        Err(error) => (exit_code(error)?, Vec::new()),
    };
    Ok(json!({
        "@type": "smc.runResult",
        "gas_used": gas_used,
        "stack": stack::write(&values)?,
        "exit_code": exit_code,
        "block_id": shape::block(&at),
        "last_transaction_id": shape::transaction_id(last),
    }))
}

fn method_name(params: &Params) -> Result<String, Refusal> {
    match params.raw("method") {
        Some(Value::String(name)) if name.len() <= limits::HTTP_METHOD_CHARS => Ok(name.clone()),
        Some(_) => Err(Refusal::malformed("`method` is the name of a get-method")),
        None => Err(Refusal::malformed("`method` is missing")),
    }
}

/// The exit code that the official server would give; an error where the machine is not to blame.
fn exit_code(error: GetError) -> Result<i32, Refusal> {
    match error {
        GetError::NoCode(_) => Ok(EXIT_NO_CODE),
        GetError::NoSuchMethod(_) => Ok(EXIT_NO_METHOD),
        GetError::OutOfGas => Ok(EXIT_OUT_OF_GAS),
        GetError::Exit(code) => Ok(code),
        GetError::MissingLibrary(_) | GetError::Result(_) | GetError::Config(_) => {
            Err(Refusal::unwritable(error.to_string()))
        }
    }
}

/// Hands a message to the network, and returns its hash.
async fn send(devnet: &Devnet, params: &Params) -> Result<[u8; 32], Refusal> {
    let message: Cell = params.boc("boc")?;
    Ok(devnet.send(&message).await?)
}

async fn config_param(devnet: &Devnet, params: &Params) -> Result<Value, Refusal> {
    // Older clients say `config_id`.
    let id = match params.number::<u32>("param")? {
        Some(id) => id,
        None => params.number("config_id")?.ok_or_else(|| Refusal::malformed("`param` is missing"))?,
    };
    let config = devnet.config().await?.for_display();
    let cell = config.params.as_dict().get(id).ok().flatten();
    cell.map(|cell| config_info(&cell)).ok_or_else(|| Refusal::unknown(format!("there is no parameter {id}")))
}

async fn config_all(devnet: &Devnet) -> Result<Value, Refusal> {
    let config = devnet.config().await?.for_display();
    let root = config.params.as_dict().root().as_ref();
    root.map(config_info).ok_or_else(|| Refusal::unknown("the configuration is empty"))
}

fn config_info(cell: &Cell) -> Value {
    json!({ "@type": "configInfo", "config": { "@type": "tvm.cell", "bytes": shape::boc(cell) } })
}
