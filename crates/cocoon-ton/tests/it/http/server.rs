//! A devnet behind its server on a free port of loopback, and a client that writes requests byte by byte.

use std::net::SocketAddr;

use cocoon_ton::Cell;
use cocoon_ton::devnet::{Devnet, Genesis, Options, http, puppet};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tycho_types::boc::Boc;

pub(crate) const NOW: u32 = 1_800_000_000;

/// A devnet with manual blocks, one puppet beside the faucet, and time that stands still.
pub(crate) struct Server {
    pub(crate) devnet: Devnet,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let genesis = Genesis { unix_s: NOW, puppets: 1, ..Genesis::default() };
        Self::with(Devnet::memory(&Options { genesis, ..Options::default() }).unwrap()).await
    }

    pub(crate) async fn with(devnet: Devnet) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "joined in `stop`")]
        let task = tokio::spawn(http::serve(listener, devnet.clone(), stop.clone()));
        Self { devnet, address, stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Sends bytes, and gives the status and body of the answer.
    pub(crate) async fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // A server that refuses a body does not read it to its end.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8(answer).unwrap();
        let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    async fn json(&self, verb: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let head = format!("{verb} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}", self.address);
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        let (status, body) = self.raw(request.as_bytes()).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| json!({ "no json": body })))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.json("GET", path, "", "").await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &str) -> (u16, Value) {
        self.json("GET", path, headers, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.json("POST", path, "", &body.to_string()).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: &str) -> (u16, Value) {
        self.json("POST", path, "", body).await
    }

    /// The result of a method over REST, which must be the same over JSON-RPC.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        let (status, answer) = self.post(&format!("/api/v2/{method}"), params.clone()).await;
        assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
        if !method.starts_with("send") {
            let request = json!({ "id": "1", "jsonrpc": "2.0", "method": method, "params": params });
            let (_, called) = self.post("/api/v2/jsonRPC", request).await;
            let expected = json!({ "ok": true, "result": answer["result"], "jsonrpc": "2.0", "id": "1" });
            assert_eq!(called, expected);
        }
        answer["result"].clone()
    }

    /// Why a method gives no result, with its code.
    pub(crate) async fn refused(&self, method: &str, params: Value) -> (u64, String) {
        let (status, answer) = self.post(&format!("/api/v2/{method}"), params).await;
        let code = answer["code"].as_u64().unwrap();
        assert_eq!((u64::from(status), &answer["ok"]), (code, &json!(false)), "{answer}");
        (code, answer["error"].as_str().unwrap().to_owned())
    }
}

/// A message that makes the puppet send.
pub(crate) fn order(order: &puppet::Order, nonce: u64) -> Cell {
    puppet::command(puppet::address(1), order, nonce).unwrap()
}

pub(crate) fn bag(cell: &Cell) -> String {
    Boc::encode_base64(cell)
}
