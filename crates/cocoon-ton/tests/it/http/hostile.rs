//! Requests that no client sends: each is answered with a refusal, and the server goes on.

use cocoon_ton::Address;
use proptest::prelude::{Strategy as _, any};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

use super::server::Server;

#[tokio::test]
async fn a_page_of_another_origin_does_not_reach_the_faucet() {
    let server = Server::start().await;
    let evil = "origin: https://evil.example\r\n";
    assert_eq!(server.get_with("/dev/status", evil).await.0, 403);
    assert_eq!(server.get_with("/dev/status", "sec-fetch-site: cross-site\r\n").await.0, 403);
    let body = json!({ "address": Address::basechain([9; 32]), "amount": "1" }).to_string();
    let rebound = format!(
        "POST /dev/faucet HTTP/1.1\r\nhost: rebound.example\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(server.raw(rebound.as_bytes()).await.0, 403);
    assert_eq!(server.raw(b"GET /dev/status HTTP/1.1\r\nconnection: close\r\n\r\n").await.0, 403);
    assert_eq!(server.get("/dev/status").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_changed_by_a_get() {
    let server = Server::start().await;
    for path in ["/dev/faucet", "/dev/tick", "/dev/advance?seconds=9", "/dev/snapshot", "/api/v2/sendBoc?boc=AAAA"] {
        let (status, answer) = server.get(path).await;
        assert_eq!((status, &answer["ok"]), (405, &json!(false)), "{path}");
    }
    assert_eq!(server.get("/api/v2/jsonRPC").await.0, 405);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_envelope() {
    let server = Server::start().await;
    for path in [
        "/api/v2/getBlockHeader",
        "/dev/mint",
        "/api/v3/anything",
        "/etc/passwd",
        "/api/v2/%2e%2e",
        "/dev/%ff",
        "/dev/",
    ] {
        let (status, answer) = server.post(path, json!({})).await;
        assert_eq!((status, &answer["ok"], &answer["code"]), (404, &json!(false), &json!(404)), "{path}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_without_end_is_not_read() {
    let server = Server::start().await;
    let (status, answer) = server.post_text("/api/v2/sendBoc", &"x".repeat(2 << 20)).await;
    // The answer may be lost when the server closes on bytes that it did not read.
    assert!(status == 413 || status == 0, "{answer}");
    assert_eq!(server.get("/dev/status").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn json_that_nests_without_end_is_refused() {
    let server = Server::start().await;
    for body in ["[".repeat(500_000), format!("{}1", "{\"a\":".repeat(100_000)), "{".to_owned(), "\u{0}".to_owned()] {
        let (status, answer) = server.post_text("/jsonRPC", &body).await;
        assert_eq!((status, &answer["ok"]), (422, &json!(false)));
    }
    for body in [json!([]), json!("x"), json!(7), json!({ "method": 7 }), json!({ "method": "sendBoc", "params": [] })]
    {
        let (status, _) = server.post("/jsonRPC", body.clone()).await;
        assert!(status == 422 || status == 404, "{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_chain_of_cells_without_end_is_refused() {
    let server = Server::start().await;
    let bag = chain_of_cells(60_000);
    let (code, _) = server.refused("sendBoc", json!({ "boc": bag })).await;
    assert_eq!(code, 422);
    let stack = json!([["tvm.Cell", bag]]);
    let params = json!({ "address": Address::basechain([9; 32]), "method": "x", "stack": stack });
    let (status, _) = server.post("/api/v2/runGetMethod", params).await;
    assert!(status == 200 || status == 422);
    assert_eq!(server.get("/dev/status").await.0, 200);
    server.stop().await;
}

/// A bag of `depth` cells, each with nothing but a reference to the next, written by hand: no library makes it.
fn chain_of_cells(depth: u32) -> String {
    use base64::Engine as _;
    let mut cells = Vec::new();
    for index in 0..depth - 1 {
        cells.extend([1, 0]);
        cells.extend(&(index + 1).to_be_bytes()[1..]);
    }
    cells.extend([0, 0]);
    let mut bag = vec![0xb5, 0xee, 0x9c, 0x72, 3, 3];
    bag.extend(&depth.to_be_bytes()[1..]);
    bag.extend([0, 0, 1, 0, 0, 0]);
    bag.extend(&u32::try_from(cells.len()).unwrap().to_be_bytes()[1..]);
    bag.extend([0, 0, 0]);
    bag.extend(cells);
    base64::engine::general_purpose::STANDARD.encode(bag)
}

#[tokio::test]
async fn random_parameters_are_answered() {
    let server = Server::start().await;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let values = proptest::collection::vec(("[a-zA-Z_]{1,8}", any::<String>()), 0..4);
    let methods = ["getTransactions", "getAddressInformation", "runGetMethod", "sendBoc", "getConfigParam"];
    for round in 0..100 {
        let pairs = values.new_tree(&mut runner).unwrap().current();
        let mut params = json!({ "address": "0:".to_owned() + &"00".repeat(32), "boc": "te6ccgEBAQEAAgAAAA==" });
        let names = ["address", "lt", "hash", "limit", "stack", "boc", "method", "param"];
        for (index, (name, value)) in pairs.into_iter().enumerate() {
            let name = names.get((round + index * 3) % (names.len() + 1)).map_or(name, |name| (*name).to_owned());
            params[name] = json!(value);
        }
        let method = methods[round % methods.len()];
        let (status, answer) = server.post(&format!("/api/v2/{method}"), params.clone()).await;
        assert!(matches!(status, 200 | 404 | 422 | 500), "{status} {method} {params}: {answer}");
        assert!(answer["ok"].is_boolean());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_keep_the_server_from_stopping() {
    let server = Server::start().await;
    let idle = tokio::net::TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.get("/dev/status").await.0, 200);
    server.stop().await;
    drop(idle);
}
