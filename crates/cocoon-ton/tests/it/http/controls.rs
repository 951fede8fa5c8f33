//! The controls under `/dev`.

use cocoon_ton::Address;
use cocoon_ton::devnet::{Devnet, Options};
use serde_json::json;

use super::server::{NOW, Server};

#[tokio::test]
async fn the_faucet_pays_and_names_the_transaction() {
    let server = Server::start().await;
    let address = Address::basechain([9; 32]);
    let (status, answer) = server.post("/dev/faucet", json!({ "address": address, "amount": "2.5" })).await;
    assert_eq!(status, 200, "{answer}");
    let paid = &answer["result"];
    assert_eq!((&paid["address"], &paid["nano"]), (&json!(address), &json!("2500000000")));
    let found = server.call("getTransactions", json!({ "address": address })).await;
    assert_eq!(found[0]["transaction_id"], paid["transaction"]);
    assert_eq!(server.call("getAddressBalance", json!({ "address": address })).await, json!("2500000000"));
    let (_, answer) = server.post("/dev/faucet", json!({ "address": address, "nano": 1 })).await;
    assert_eq!(answer["result"]["nano"], "1");
    server.stop().await;
}

#[tokio::test]
async fn time_and_blocks_move_when_told_to() {
    let server = Server::start().await;
    let (_, before) = server.get("/dev/status").await;
    assert_eq!(before["result"]["unix_s"], NOW);
    assert_eq!(before["result"]["queue"], 0);
    let (_, advanced) = server.post("/dev/advance", json!({ "seconds": 86_400 })).await;
    assert_eq!(advanced["result"]["unix_s"], NOW + 86_400, "{advanced}");
    let (_, ticked) = server.post("/dev/tick", json!({})).await;
    assert_eq!(ticked["result"]["transactions"], json!([]));
    let seqno = |answer: &serde_json::Value| answer["result"]["seqno"].as_u64().unwrap();
    assert!(seqno(&ticked) > seqno(&before));
    for bad in [json!({}), json!({ "seconds": -1 }), json!({ "seconds": u64::MAX }), json!({ "seconds": 1.5 })] {
        let (status, answer) = server.post("/dev/advance", bad).await;
        assert_eq!(status, 422, "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_a_devnet_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::default();
    let server = Server::with(Devnet::open(&folder.path().join("one"), &options).unwrap()).await;
    let address = Address::basechain([9; 32]);
    server.post("/dev/faucet", json!({ "address": address, "amount": "1" })).await;
    let (status, answer) = server.post("/dev/snapshot", json!({ "name": "before" })).await;
    assert_eq!(status, 200, "{answer}");
    server.post("/dev/faucet", json!({ "address": address, "amount": "1" })).await;
    let (status, _) = server.post("/dev/snapshot", json!({ "name": "before" })).await;
    assert_eq!(status, 422, "a snapshot is never overwritten");
    for name in ["../out", "a/b", ".", ""] {
        let (status, _) = server.post("/dev/snapshot", json!({ "name": name })).await;
        assert_eq!(status, 422, "{name}");
    }
    let two = folder.path().join("two");
    Devnet::restore(answer["result"]["path"].as_str().unwrap().as_ref(), &two).unwrap();
    let restored = Server::with(Devnet::open(&two, &options).unwrap()).await;
    assert_eq!(restored.call("getAddressBalance", json!({ "address": address })).await, json!("1000000000"));
    restored.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_devnet_in_memory_has_no_snapshots() {
    let server = Server::start().await;
    let (status, _) = server.post("/dev/snapshot", json!({ "name": "before" })).await;
    assert_eq!(status, 404);
    server.stop().await;
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let devnet = Devnet::memory(&Options::default()).unwrap();
    let refused = cocoon_ton::devnet::http::serve(listener, devnet, Default::default()).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}
