//! Accounts, transactions and messages in toncenter's words, field by field as the clients parse them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::error::Error;
use tycho_types::models::{IntAddr, Message, MsgInfo, Transaction, TxInfo};

use crate::address::Address;
use crate::chain::{Account, Head, Status, TxId};
use crate::limits;

/// The shard that is the whole workchain.
const WHOLE_SHARD: &str = "-9223372036854775808";

/// A cell as a bag in base64.
pub(super) fn boc(cell: &Cell) -> String {
    Boc::encode_base64(cell)
}

/// 32 bytes in base64.
pub(super) fn hash(bytes: &[u8; 32]) -> String {
    STANDARD.encode(bytes)
}

/// A block. The devnet has no masterchain to hash: its hashes are zero, so that nobody takes them for a proof.
pub(super) fn block(head: &Head) -> Value {
    json!({
        "@type": "ton.blockIdExt",
        "workchain": -1,
        "shard": WHOLE_SHARD,
        "seqno": head.seqno,
        "root_hash": hash(&[0; 32]),
        "file_hash": hash(&[0; 32]),
    })
}

/// The newest block and the first.
pub(super) fn masterchain(head: &Head) -> Value {
    json!({
        "@type": "blocks.masterchainInfo",
        "last": block(head),
        "state_root_hash": hash(&[0; 32]),
        "init": block(&Head { seqno: 0, unix_s: 0, lt: 0 }),
    })
}

/// The name of a state of an account.
pub(super) const fn status(status: Status) -> &'static str {
    match status {
        Status::Missing | Status::Uninit => "uninitialized",
        Status::Active => "active",
        Status::Frozen => "frozen",
    }
}

/// A transaction by its number; zeros where there is none.
pub(super) fn transaction_id(id: Option<TxId>) -> Value {
    let TxId { lt, hash: bytes } = id.unwrap_or(TxId { lt: 0, hash: [0; 32] });
    json!({ "@type": "internal.transactionId", "lt": lt.to_string(), "hash": hash(&bytes) })
}

/// A whole account.
pub(super) fn account(account: &Account) -> Value {
    let cell = |cell: &Option<Cell>| cell.as_ref().map(boc).unwrap_or_default();
    json!({
        "@type": "raw.fullAccountState",
        "balance": account.balance.get().to_string(),
        "extra_currencies": [],
        "code": cell(&account.code),
        "data": cell(&account.data),
        "last_transaction_id": transaction_id(account.last),
        "block_id": block(&account.at),
        "frozen_hash": "",
        "sync_utime": account.at.unix_s,
        "state": status(account.status),
    })
}

/// A transaction from its cell. `fee` is what the sender lost to fees: those of the transaction and those that its
/// messages took with them, as toncenter counts.
pub(super) fn transaction(cell: &Cell, account: &Address) -> Result<Value, Error> {
    let tx = cell.parse::<Transaction>()?;
    let outgoing = tx.iter_out_msgs().collect::<Result<Vec<_>, _>>()?;
    let forwarding: u128 = outgoing.iter().map(forward_fee).sum();
    let fee = tx.total_fees.tokens.into_inner().saturating_add(forwarding);
    let storage_fee = match tx.load_info()? {
        TxInfo::Ordinary(info) => info.storage_phase.map_or(0, |phase| phase.storage_fees_collected.into_inner()),
        TxInfo::TickTock(info) => info.storage_phase.storage_fees_collected.into_inner(),
    };
    let mut out_messages = Vec::with_capacity(outgoing.len());
    for (place, parsed) in tx.out_msgs.values().zip(&outgoing) {
        out_messages.push(message(&place?, parsed)?);
    }
    let id = TxId { lt: tx.lt, hash: cell.repr_hash().0 };
    let mut value = json!({
        "@type": "raw.transaction",
        "address": { "@type": "accountAddress", "account_address": account.friendly(true, false) },
        "utime": tx.now,
        "data": boc(cell),
        "transaction_id": transaction_id(Some(id)),
        "fee": fee.to_string(),
        "storage_fee": storage_fee.to_string(),
        "other_fee": fee.saturating_sub(storage_fee).to_string(),
        "out_msgs": out_messages,
    });
    if let (Some(incoming), Some(fields)) = (&tx.in_msg, value.as_object_mut()) {
        fields.insert("in_msg".to_owned(), message(incoming, &incoming.parse()?)?);
    }
    Ok(value)
}

/// What the network takes for carrying a message.
fn forward_fee(message: &Message<'_>) -> u128 {
    match &message.info {
        MsgInfo::Int(info) => info.fwd_fee.into_inner(),
        MsgInfo::ExtIn(_) | MsgInfo::ExtOut(_) => 0,
    }
}

/// A message. What an external message has none of is zero, or empty.
fn message(cell: &Cell, message: &Message<'_>) -> Result<Value, Error> {
    let (source, destination, value, created_lt) = match &message.info {
        MsgInfo::Int(info) => {
            (address(Some(&info.src)), address(Some(&info.dst)), info.value.tokens.into_inner(), info.created_lt)
        }
        MsgInfo::ExtIn(info) => (String::new(), address(Some(&info.dst)), 0, 0),
        MsgInfo::ExtOut(info) => (address(Some(&info.src)), String::new(), 0, info.created_lt),
    };
    let body = CellBuilder::build_from(message.body)?;
    let init_state = match &message.init {
        Some(init) => boc(&CellBuilder::build_from(init)?),
        None => String::new(),
    };
    let (data, words) = message_data(&body, &init_state);
    Ok(json!({
        "@type": "raw.message",
        "hash": hash(&cell.repr_hash().0),
        "source": source,
        "destination": destination,
        "value": value.to_string(),
        "extra_currencies": [],
        "fwd_fee": forward_fee(message).to_string(),
        "ihr_fee": "0",
        "created_lt": created_lt.to_string(),
        "body_hash": hash(&body.repr_hash().0),
        "msg_data": data,
        "message": words,
    }))
}

/// The body as data and as words: a comment is text, everything else is cells, of which the words are the root's bits.
fn message_data(body: &Cell, init_state: &str) -> (Value, String) {
    if let Some(text) = comment(body) {
        return (json!({ "@type": "msg.dataText", "text": STANDARD.encode(&text) }), text);
    }
    let words = STANDARD.encode(body.data());
    (json!({ "@type": "msg.dataRaw", "body": boc(body), "init_state": init_state }), words)
}

/// A comment: 32 zero bits and UTF-8, going on in the first reference. None where it is anything else, or too long.
fn comment(body: &Cell) -> Option<String> {
    let mut slice = body.as_slice().ok()?;
    if slice.load_u32().ok()? != 0 {
        return None;
    }
    let mut text = Vec::new();
    loop {
        append_bytes(&mut slice, &mut text)?;
        match slice.size_refs() {
            0 => return String::from_utf8(text).ok(),
            1 if text.len() <= limits::HTTP_COMMENT_BYTES => slice = slice.load_reference_as_slice().ok()?,
            _ => return None,
        }
    }
}

fn append_bytes(slice: &mut CellSlice<'_>, text: &mut Vec<u8>) -> Option<()> {
    if !slice.size_bits().is_multiple_of(8) {
        return None;
    }
    while !slice.is_data_empty() {
        text.push(slice.load_u8().ok()?);
    }
    Some(())
}

/// An address as toncenter writes it; empty where there is none.
fn address(address: Option<&IntAddr>) -> String {
    match address {
        Some(IntAddr::Std(address)) => Address::from(address).friendly(true, false),
        Some(IntAddr::Var(_)) | None => String::new(),
    }
}
