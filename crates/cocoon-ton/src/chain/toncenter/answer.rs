//! JSON of the API into our types. Cells come as bags in base64 and are read here; numbers may be text or not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_units::Nano;
use serde::Deserialize;
use serde_json::Value;
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, HashBytes};
use tycho_types::models::{BlockchainConfig, BlockchainConfigParams, IntAddr, Message, MsgInfo};

use crate::address::Address;
use crate::chain::{Account, ChainError, Head, Status, TxId};

/// Every answer.
#[derive(Deserialize)]
pub(super) struct Envelope {
    pub(super) ok: bool,
    #[serde(default)]
    pub(super) result: Value,
    #[serde(default)]
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
struct AddressInformation {
    balance: Value,
    state: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    data: String,
    last_transaction_id: TransactionId,
    block_id: BlockId,
    sync_utime: u32,
}

#[derive(Deserialize)]
struct TransactionId {
    lt: Value,
    hash: String,
}

#[derive(Deserialize)]
struct BlockId {
    seqno: u32,
}

#[derive(Deserialize)]
struct RawTransaction {
    data: String,
}

#[derive(Deserialize)]
struct ConfigInfo {
    config: TvmCell,
}

#[derive(Deserialize)]
struct TvmCell {
    bytes: String,
}

/// An account. Which one, the answer does not say; it is the one that was asked for, or the server lies.
pub(super) fn account(address: Address, value: Value) -> Result<Account, ChainError> {
    let info: AddressInformation = read("account", value)?;
    let last = transaction_id(&info.last_transaction_id)?;
    let balance = balance(&info.balance)?;
    let status = match info.state.as_str() {
        "active" => Status::Active,
        "frozen" => Status::Frozen,
        "uninitialized" | "uninit" | "nonexist" if last.is_none() && balance == Nano::ZERO => Status::Missing,
        "uninitialized" | "uninit" => Status::Uninit,
        _ => return Err(bad("account", "its state has no name that we know")),
    };
    let cell = |text: &str| if text.is_empty() { Ok(None) } else { cell("state of an account", text).map(Some) };
    // The block's last logical time is not told; that of the account is a time that the block has reached.
    let at = Head { seqno: info.block_id.seqno, unix_s: info.sync_utime, lt: last.map_or(0, |last| last.lt) };
    Ok(Account { address, status, balance, code: cell(&info.code)?, data: cell(&info.data)?, last, at })
}

/// Cells of transactions, newest first, unchecked.
pub(super) fn transactions(value: Value) -> Result<Vec<Cell>, ChainError> {
    let list: Vec<RawTransaction> = read("transactions", value)?;
    list.iter().map(|transaction| cell("transaction", &transaction.data)).collect()
}

/// The network's configuration.
pub(super) fn config(value: Value) -> Result<BlockchainConfig, ChainError> {
    let info: ConfigInfo = read("configuration", value)?;
    let params = BlockchainConfigParams::from_raw(cell("configuration", &info.config.bytes)?);
    // Parameter 0 is the address of the contract that holds them.
    let address = match params.as_dict().get(0).map_err(|error| bad("configuration", error))? {
        Some(cell) => cell.parse::<HashBytes>().map_err(|error| bad("configuration", error))?,
        None => HashBytes::ZERO,
    };
    Ok(BlockchainConfig { address, params })
}

/// Where an external goes.
pub(super) fn destination(message: &Cell) -> Result<Address, ChainError> {
    let parsed = message.parse::<Message<'_>>().map_err(|error| ChainError::BadMessage(error.to_string()))?;
    match parsed.info {
        MsgInfo::ExtIn(info) => match info.dst {
            IntAddr::Std(address) => Ok(Address::from(&address)),
            IntAddr::Var(_) => Err(ChainError::BadMessage("its destination has a variable length".to_owned())),
        },
        MsgInfo::Int(_) | MsgInfo::ExtOut(_) => {
            Err(ChainError::BadMessage("only external messages are handed in".to_owned()))
        }
    }
}

/// The exit code in the words of a refusal, where there is one: `… exitcode=33, steps=…`.
pub(super) fn refusal(words: &str) -> Option<Option<i32>> {
    let refused = words.contains("cannot apply external message") || words.contains("not accepted");
    refused.then(|| {
        let (_, rest) = words.split_once("exitcode=")?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    })
}

pub(super) fn bad(what: &str, why: impl std::fmt::Display) -> ChainError {
    ChainError::BadAnswer(format!("{what}: {why}"))
}

fn read<T: for<'de> Deserialize<'de>>(what: &str, value: Value) -> Result<T, ChainError> {
    serde_json::from_value(value).map_err(|error| bad(what, error))
}

fn cell(what: &str, text: &str) -> Result<Cell, ChainError> {
    Boc::decode_base64(text).map_err(|error| bad(what, error))
}

fn balance(value: &Value) -> Result<Nano, ChainError> {
    match integer(value) {
        // Some servers say -1 for an account that was never used.
        Some(-1) => Ok(Nano::ZERO),
        Some(nano) => u64::try_from(nano).map(Nano::new).map_err(|_| bad("account", "its balance cannot be")),
        None => Err(bad("account", "its balance is no number")),
    }
}

fn transaction_id(id: &TransactionId) -> Result<Option<TxId>, ChainError> {
    let lt = integer(&id.lt).and_then(|lt| u64::try_from(lt).ok());
    let lt = lt.ok_or_else(|| bad("transaction id", "its logical time is no number"))?;
    let hash = STANDARD.decode(&id.hash).ok().and_then(|hash| <[u8; 32]>::try_from(hash).ok());
    let hash = hash.ok_or_else(|| bad("transaction id", "its hash is not 32 bytes in base64"))?;
    Ok((lt != 0).then_some(TxId { lt, hash }))
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i128(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_found_in_the_words_of_a_refusal() {
        for (words, found) in [
            (
                "LITE_SERVER_UNKNOWN: cannot apply external message to current state : not accepted\nexitcode=33, steps=21, gas_used=0",
                Some(Some(33)),
            ),
            ("cannot apply external message to current state : exitcode=-14", Some(Some(-14))),
            ("External message was not accepted: no money", Some(None)),
            ("exitcode=33 of something else", None),
        ] {
            assert_eq!(refusal(words), found, "{words}");
        }
    }
}
