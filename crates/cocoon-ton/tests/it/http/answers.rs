//! Answers, field by field as `@ton/ton` parses them.

use cocoon_ton::devnet::{Order, puppet};
use cocoon_ton::{Address, Cell, Chain as _};
use cocoon_units::Nano;
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::cell::{CellBuilder, CellFamily as _};
use tycho_types::models::StateInit;

use super::server::{NOW, Server, bag, order};

const TON: u64 = 1_000_000_000;
const ZERO_HASH: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn block(seqno: u64) -> Value {
    json!({
        "@type": "ton.blockIdExt",
        "workchain": -1,
        "shard": "-9223372036854775808",
        "seqno": seqno,
        "root_hash": ZERO_HASH,
        "file_hash": ZERO_HASH,
    })
}

fn nobody() -> Address {
    Address::basechain([7; 32])
}

/// A contract with these instructions and no data.
fn contract(code: &[u8]) -> (Address, StateInit) {
    let mut cell = CellBuilder::new();
    cell.store_raw(code, u16::try_from(code.len() * 8).unwrap()).unwrap();
    let init = StateInit { code: Some(cell.build().unwrap()), data: Some(Cell::default()), ..StateInit::default() };
    let hash = *CellBuilder::build_from(&init).unwrap().repr_hash();
    (Address::basechain(hash.0), init)
}

/// Deploys, and makes the block in which it happens.
async fn deploy(server: &Server, code: &[u8]) -> Address {
    let (address, init) = contract(code);
    let message = order(&Order::transfer(address, Nano::new(TON)).deploying(init), 1);
    server.call("sendBoc", json!({ "boc": bag(&message) })).await;
    while server.devnet.queue_len() > 0 {
        server.devnet.tick().await.unwrap();
    }
    address
}

#[tokio::test]
async fn an_account_that_was_never_used() {
    let server = Server::start().await;
    let head = server.devnet.head().await.unwrap().for_display().seqno.into();
    let expected = json!({
        "@type": "raw.fullAccountState",
        "balance": "0",
        "extra_currencies": [],
        "code": "",
        "data": "",
        "last_transaction_id": { "@type": "internal.transactionId", "lt": "0", "hash": ZERO_HASH },
        "block_id": block(head),
        "frozen_hash": "",
        "sync_utime": NOW,
        "state": "uninitialized",
    });
    let params = json!({ "address": nobody().friendly(false, true) });
    assert_eq!(server.call("getAddressInformation", params.clone()).await, expected);
    assert_eq!(server.call("getAddressBalance", params.clone()).await, json!("0"));
    assert_eq!(server.call("getAddressState", params.clone()).await, json!("uninitialized"));
    assert_eq!(server.call("getTransactions", params).await, json!([]));
    server.stop().await;
}

#[tokio::test]
async fn the_newest_block() {
    let server = Server::start().await;
    server.devnet.tick().await.unwrap();
    let info = server.call("getMasterchainInfo", json!({})).await;
    assert_eq!(info["@type"], "blocks.masterchainInfo");
    let head = info["last"]["seqno"].as_u64().unwrap();
    assert_eq!((&info["last"], &info["init"]), (&block(head), &block(0)));
    assert!(info["state_root_hash"].is_string());
    server.stop().await;
}

#[tokio::test]
async fn a_message_in_and_its_transactions() {
    let server = Server::start().await;
    let mut body = CellBuilder::new();
    body.store_u32(0).unwrap();
    body.store_raw("hällo".as_bytes(), 48).unwrap();
    let mut transfer = Order::transfer(nobody(), Nano::new(2 * TON));
    transfer.body = body.build().unwrap();
    let message = order(&transfer, 1);
    let sent = server.call("sendBocReturnHash", json!({ "boc": bag(&message) })).await;
    assert_eq!(sent["@type"], "raw.extMessageInfo");
    while server.devnet.queue_len() > 0 {
        server.devnet.tick().await.unwrap();
    }

    let puppet = json!({ "address": puppet::address(1) });
    let sender = server.call("getTransactions", puppet).await;
    let transaction = &sender[0];
    assert_eq!(transaction["in_msg"]["hash"], sent["hash"]);
    assert_eq!((&transaction["in_msg"]["source"], &transaction["in_msg"]["value"]), (&json!(""), &json!("0")));
    assert_eq!(transaction["utime"], NOW);
    let out = &transaction["out_msgs"][0];
    let friendly = |address: Address| json!(address.friendly(true, false));
    assert_eq!((&out["source"], &out["destination"]), (&friendly(puppet::address(1)), &friendly(nobody())));
    assert_eq!((&out["value"], &out["message"]), (&json!("2000000000"), &json!("hällo")));
    assert_eq!(out["msg_data"], json!({ "@type": "msg.dataText", "text": "aMOkbGxv" }));
    let text = |value: &Value| value.as_str().unwrap().parse::<u128>().unwrap();
    assert!(text(&out["fwd_fee"]) > 0 && text(&out["created_lt"]) > 0);
    assert_eq!(text(&transaction["fee"]), text(&transaction["storage_fee"]) + text(&transaction["other_fee"]));

    let cell = Boc::decode_base64(transaction["data"].as_str().unwrap()).unwrap();
    let hash = transaction["transaction_id"]["hash"].as_str().unwrap();
    assert_eq!(base64(&cell.repr_hash().0), hash);

    let receiver = server.call("getTransactions", json!({ "address": nobody(), "limit": "1" })).await;
    assert_eq!(receiver[0]["in_msg"], *out);
    assert_eq!(server.call("getAddressState", json!({ "address": nobody() })).await, json!("uninitialized"));
    server.stop().await;
}

#[tokio::test]
async fn a_history_is_walked_backwards_without_a_gap() {
    let server = Server::start().await;
    for nonce in 1..=7 {
        let message = order(&Order::transfer(nobody(), Nano::new(TON)), nonce);
        server.call("sendBoc", json!({ "boc": bag(&message) })).await;
        server.devnet.tick().await.unwrap();
    }
    let ids = async |params: Value| -> Vec<(String, String)> {
        let mut all = json!({ "address": puppet::address(1) });
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let found = server.call("getTransactions", all).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let id = |transaction: &Value| transaction["transaction_id"].clone();
        found.as_array().unwrap().iter().map(id).map(|id| (text(&id["lt"]), text(&id["hash"]))).collect()
    };
    let all = ids(json!({ "limit": 100 })).await;
    assert_eq!(all.len(), 7);
    assert_eq!(ids(json!({ "limit": 3 })).await, all[..3]);
    let (lt, hash) = &all[2];
    assert_eq!(ids(json!({ "limit": 2, "lt": lt, "hash": hash, "archival": true })).await, all[2..4]);
    let hexadecimal = hex(hash);
    assert_eq!(ids(json!({ "lt": lt.parse::<u64>().unwrap(), "hash": hexadecimal })).await, all[2..]);
    assert_eq!(ids(json!({ "to_lt": lt })).await, all[..2]);

    for (params, code) in [
        (json!({ "lt": lt }), 422),
        (json!({ "hash": hash }), 422),
        (json!({ "lt": lt, "hash": ZERO_HASH }), 404),
        (json!({ "lt": "1", "hash": hash }), 404),
        (json!({ "limit": 0 }), 422),
        (json!({ "limit": 100_000 }), 422),
        (json!({ "limit": "-1" }), 422),
        (json!({ "lt": lt, "hash": "xyz" }), 422),
    ] {
        let mut params = params;
        params["address"] = json!(puppet::address(1));
        assert_eq!(server.refused("getTransactions", params.clone()).await.0, code, "{params}");
    }
    server.stop().await;
}

#[tokio::test]
async fn get_methods_run_with_arguments_and_say_how_they_ended() {
    let server = Server::start().await;
    // `SETCP0; DROP`: whatever the method, it leaves its arguments.
    let echo = deploy(&server, &[0xff, 0x00, 0x30]).await;
    let cell = bag(&Cell::default());
    let stack = json!([["num", "-0x1f"], ["tvm.Cell", cell], ["tvm.Slice", cell], ["null"]]);
    let ran = server.call("runGetMethod", json!({ "address": echo, "method": "any", "stack": stack })).await;
    let left = json!([
        ["num", "-0x1f"],
        ["cell", { "bytes": cell }],
        ["cell", { "bytes": cell }],
        ["list", { "@type": "tvm.list", "elements": [] }],
    ]);
    assert_eq!((&ran["@type"], &ran["exit_code"], &ran["stack"]), (&json!("smc.runResult"), &json!(0), &left));
    assert!(ran["gas_used"].as_u64().unwrap() > 0);
    assert_eq!(ran["last_transaction_id"]["@type"], "internal.transactionId");

    // `SETCP0; IFNOTJMP { }; 777 THROW`: an internal message is method 0, and all others fail.
    let throws = deploy(&server, &[0xff, 0x00, 0x90, 0xdf, 0xf2, 0xc3, 0x09]).await;
    let ran = server.call("runGetMethod", json!({ "address": throws, "method": "any", "stack": [] })).await;
    assert_eq!((&ran["exit_code"], &ran["stack"]), (&json!(777), &json!([])));

    let ran = server.call("runGetMethod", json!({ "address": nobody(), "method": "seqno", "stack": [] })).await;
    assert_eq!((&ran["exit_code"], &ran["gas_used"], &ran["stack"]), (&json!(-13), &json!(0), &json!([])));
    server.stop().await;
}

#[tokio::test]
async fn a_get_method_that_never_ends_is_stopped_by_its_gas() {
    let server = Server::start().await;
    // `SETCP0; IFNOTJMP { }; AGAIN { }`: a get-method never ends.
    let loops = deploy(&server, &[0xff, 0x00, 0x90, 0xdf, 0x90, 0xea]).await;
    let ran = server.call("runGetMethod", json!({ "address": loops, "method": "any", "stack": [] })).await;
    assert_eq!((&ran["exit_code"], &ran["stack"]), (&json!(-14), &json!([])));
    server.stop().await;
}

#[tokio::test]
async fn the_configuration_as_cells() {
    let server = Server::start().await;
    let all = server.call("getConfigAll", json!({})).await;
    assert_eq!((&all["@type"], &all["config"]["@type"]), (&json!("configInfo"), &json!("tvm.cell")));
    for name in ["param", "config_id"] {
        let one = server.call("getConfigParam", json!({ name: 18 })).await;
        assert!(Boc::decode_base64(one["config"]["bytes"].as_str().unwrap()).is_ok());
    }
    assert_eq!(server.refused("getConfigParam", json!({ "param": 4_000_000 })).await.0, 404);
    assert_eq!(server.refused("getConfigParam", json!({})).await.0, 422);
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_a_contract_does_not_take_is_refused_in_toncenters_words() {
    let server = Server::start().await;
    // `SETCP0; 777 THROW` for what comes from outside, which is method -1.
    let refuses = deploy(&server, &[0xff, 0x00, 0x90, 0xdf, 0xf2, 0xc3, 0x09]).await;
    for (address, why) in [(refuses, "exitcode=777"), (nobody(), "no code")] {
        let message = puppet::command(address, &Order::transfer(nobody(), Nano::new(1)), 1).unwrap();
        let (code, words) = server.refused("sendBoc", json!({ "boc": bag(&message) })).await;
        assert_eq!(code, 500);
        assert!(words.starts_with("LITE_SERVER_UNKNOWN: cannot apply external message to current state"), "{words}");
        assert!(words.contains(why), "{words}");
    }
    let (code, words) = server.refused("sendBoc", json!({ "boc": bag(&Cell::empty_cell()) })).await;
    assert_eq!(code, 422, "{words}");
    server.stop().await;
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn hex(base64_text: &str) -> String {
    use base64::Engine as _;
    hex::encode(base64::engine::general_purpose::STANDARD.decode(base64_text).unwrap())
}
