//! A proxy, and scripted peers that say what they like.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cocoon_net::memory::{LinkOptions, MemoryNetwork};
use cocoon_net::{Connection, ConnectionError, Dialer, Event, Outbox, QueryError};
use cocoon_proxy::{Hex32, Proxy, ProxyConfig, ProxyError, ProxyHandle, ProxyTerms};
use cocoon_units::{AdjustedTokens, Coefficient, FixedClock, UnixTime};
use cocoon_wire::http::{HttpRequest, HttpResponse};
use cocoon_wire::message::{
    Answer, ClientAnswer, ClientMessage, ClientParams, ClientQuery, ClientRun, FinalInfo, ProxyToClient, ProxyToWorker,
    TokensUsed, WorkerAnswer, WorkerMessage, WorkerParams, WorkerQuery, WorkerRun,
};
use cocoon_wire::{Encoded, RequestId, Sealed, Version, VersionRange};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET: &[u8] = b"secret";
pub(crate) const MODEL: &str = "Qwen/Qwen3-8B";
/// Whose client it is.
pub(crate) const CLIENT_WALLET: &str = "0:1111111111111111111111111111111111111111111111111111111111111111";
/// Whose worker it is.
pub(crate) const WORKER_WALLET: &str = "0:2222222222222222222222222222222222222222222222222222222222222222";
const PATIENCE: Duration = Duration::from_secs(600);

/// A running proxy and the network around it. Its tasks end with it.
pub(crate) struct World {
    pub(crate) network: MemoryNetwork,
    pub(crate) handle: ProxyHandle,
    pub(crate) proxy: JoinSet<Result<(), ProxyError>>,
}

pub(crate) fn config() -> ProxyConfig {
    ProxyConfig { client_secret_hash: Some(Hex32::sha256(SECRET)), queue_max: 4, ..ProxyConfig::default() }
}

impl World {
    pub(crate) fn new(config: ProxyConfig) -> Self {
        Self::with(config, |proxy| proxy)
    }

    /// The same, that follows what the network says.
    pub(crate) fn with_terms(config: ProxyConfig, terms: watch::Receiver<Arc<ProxyTerms>>) -> Self {
        Self::with(config, |proxy| proxy.with_terms(terms))
    }

    fn with(config: ProxyConfig, change: impl FnOnce(Proxy) -> Proxy) -> Self {
        let network = MemoryNetwork::new();
        let clients = network.listen("clients", LinkOptions::default());
        let workers = network.listen("workers", LinkOptions::default());
        let clock = FixedClock::at(UnixTime::from_secs_f64(1_700_000_000.5));
        let proxy = change(Proxy::new(config, Arc::new(clock), Arc::new(clients), Arc::new(workers)));
        let handle = proxy.handle();
        let mut tasks = JoinSet::new();
        tasks.spawn(proxy.run(CancellationToken::new()));
        Self { network, handle, proxy: tasks }
    }

    pub(crate) async fn connect(&self, name: &str) -> Connection {
        self.network.dialer(name).dial().await.unwrap()
    }

    pub(crate) async fn client(&self, versions: VersionRange) -> Client {
        let connection = self.connect("clients").await;
        Client::join(Peer::new(connection), versions, SECRET).await
    }

    pub(crate) async fn worker(&self, versions: VersionRange, slots: u32) -> Worker {
        self.worker_at(versions, slots, 1_000).await
    }

    pub(crate) async fn worker_at(&self, versions: VersionRange, slots: u32, coefficient: u32) -> Worker {
        let connection = self.connect("workers").await;
        let worker = Worker::join(Peer::new(connection), versions, slots, coefficient).await;
        // The proxy counts it when its hub has heard of it.
        tokio::time::sleep(Duration::from_millis(1)).await;
        worker
    }
}

/// One connection, driven by a task of its own.
pub(crate) struct Peer {
    pub(crate) outbox: Outbox,
    messages: mpsc::Receiver<Result<Bytes, ConnectionError>>,
    _driver: JoinSet<()>,
}

impl Peer {
    pub(crate) fn new(mut connection: Connection) -> Self {
        let outbox = connection.outbox();
        let (messages_in, messages) = mpsc::channel(4_096);
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            loop {
                let event = connection.next().await;
                let ended = event.is_err();
                let message = match event {
                    Ok(Event::Message(data)) => Ok(data),
                    Ok(other) => panic!("unexpected {other:?}"),
                    Err(error) => Err(error),
                };
                if messages_in.send(message).await.is_err() || ended {
                    return;
                }
            }
        });
        Self { outbox, messages, _driver: driver }
    }

    pub(crate) async fn ask(&self, query: Encoded) -> Result<Bytes, QueryError> {
        self.outbox.query(query, PATIENCE).await
    }

    pub(crate) async fn next(&mut self) -> Result<Bytes, ConnectionError> {
        tokio::time::timeout(PATIENCE, self.messages.recv()).await.expect("silence").expect("asked after the end")
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_secs(1), self.messages.recv()).await.is_err()
    }

    pub(crate) async fn ended(&mut self) -> ConnectionError {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }
}

/// A client that is ready.
pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) version: Version,
}

impl Client {
    pub(crate) async fn join(peer: Peer, versions: VersionRange, secret: &'static [u8]) -> Self {
        let params = ClientParams { owner_address: CLIENT_WALLET.into(), is_test: true, versions: Some(versions) };
        let answer = peer.ask(ClientQuery::Connect { params, min_config_version: 3 }.encode()).await.unwrap();
        let ClientAnswer::Connected { params, .. } = ClientAnswer::decode(answer).unwrap() else {
            panic!("not connected")
        };
        let secret = Sealed::new(Bytes::from_static(secret));
        let answer = peer.ask(ClientQuery::AuthorizeShort { secret }.encode()).await.unwrap();
        assert!(matches!(ClientAnswer::decode(answer).unwrap(), ClientAnswer::Authorized { .. }));
        let version = Version::from_number(params.proto_version.unwrap()).unwrap();
        if version == Version::Extended {
            peer.outbox.enable_extended();
        }
        Self { peer, version }
    }

    pub(crate) fn send(&self, message: ClientMessage) {
        self.peer.outbox.send(message.encode(self.version)).unwrap();
    }

    pub(crate) fn run(&self, id: u8) {
        self.send(ClientMessage::Run(run(id)));
    }

    pub(crate) async fn next(&mut self) -> ProxyToClient {
        ProxyToClient::decode(self.version, self.peer.next().await.unwrap()).unwrap()
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        match self.next().await {
            ProxyToClient::Answer(answer) => answer,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub(crate) async fn failure(&mut self) -> cocoon_wire::failure::Failure {
        match self.answer().await {
            Answer::Failed { failure, .. } => failure,
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// A worker that is ready.
pub(crate) struct Worker {
    pub(crate) peer: Peer,
    pub(crate) version: Version,
    said: Mutex<HashMap<RequestId, Vec<u8>>>,
}

impl Worker {
    /// After its handshake.
    pub(crate) fn ready(peer: Peer, version: Version) -> Self {
        Self { peer, version, said: Mutex::default() }
    }

    pub(crate) async fn join(peer: Peer, versions: VersionRange, slots: u32, coefficient: u32) -> Self {
        let connect = WorkerQuery::Connect(params(versions, slots, coefficient));
        let answer = peer.ask(connect.encode()).await.unwrap();
        let WorkerAnswer::Connected { params, .. } = WorkerAnswer::decode(answer).unwrap() else {
            panic!("not connected")
        };
        let none = AdjustedTokens::ZERO;
        let compare = WorkerQuery::CompareBalance {
            tokens_committed_to_blockchain: none,
            tokens_committed_to_db: none,
            max_tokens: none,
        };
        let answer = WorkerAnswer::decode(peer.ask(compare.encode()).await.unwrap()).unwrap();
        assert!(matches!(answer, WorkerAnswer::CompareBalance(result) if result.error_code == 0));
        let complete = WorkerQuery::HandshakeComplete { is_disabled: false };
        let answer = WorkerAnswer::decode(peer.ask(complete.encode()).await.unwrap()).unwrap();
        assert_eq!(answer, WorkerAnswer::HandshakeCompleted);
        let version = Version::from_number(params.proto_version.unwrap()).unwrap();
        Self::ready(peer, version)
    }

    /// The body of an answer so far.
    pub(crate) fn said(&self, request_id: RequestId) -> Vec<u8> {
        self.said.lock().unwrap().get(&request_id).cloned().unwrap_or_default()
    }

    pub(crate) async fn next(&mut self) -> ProxyToWorker {
        ProxyToWorker::decode(self.version, self.peer.next().await.unwrap()).unwrap()
    }

    pub(crate) async fn request(&mut self) -> WorkerRun {
        loop {
            match self.next().await {
                ProxyToWorker::Run(run) => return run,
                ProxyToWorker::Payment { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub(crate) fn say(&self, answer: Answer) {
        let body = match &answer {
            Answer::Head { response, .. } => {
                HttpResponse::decode(response).map(|head| head.payload).unwrap_or_default()
            }
            Answer::Part { body, .. } => body.expose().clone(),
            Answer::Failed { .. } => Bytes::new(),
        };
        self.said.lock().unwrap().entry(answer.request_id()).or_default().extend_from_slice(&body);
        self.peer.outbox.send(WorkerMessage::Answer(answer).encode(self.version)).unwrap();
    }

    pub(crate) fn head(&self, request_id: RequestId) {
        self.say(Answer::Head { request_id, response: response("text/event-stream", b""), end: None });
    }

    pub(crate) fn part(&self, request_id: RequestId, body: impl Into<Bytes>) {
        self.say(Answer::Part { request_id, body: Sealed::new(body.into()), end: None });
    }

    pub(crate) fn end(&self, request_id: RequestId, used: u64) {
        self.say(Answer::Part { request_id, body: Sealed::default(), end: Some(end(used)) });
    }
}

/// What a worker says of itself.
pub(crate) fn params(versions: VersionRange, slots: u32, coefficient: u32) -> WorkerParams {
    WorkerParams {
        owner_address: WORKER_WALLET.into(),
        model: format!("{MODEL}@abc:00"),
        coefficient: Coefficient::from_thousandths(coefficient),
        is_test: true,
        proxy_count: 1,
        max_active_requests: slots,
        versions: Some(versions),
    }
}

pub(crate) fn run(id: u8) -> ClientRun {
    let body = format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}],"max_tokens":50}}"#);
    run_with(id, body.into())
}

pub(crate) fn run_with(id: u8, payload: Bytes) -> ClientRun {
    let request = HttpRequest {
        method: "POST".into(),
        url: "/v1/chat/completions".into(),
        headers: vec![("Content-Type".into(), "application/json".into())],
        payload,
    };
    ClientRun {
        request_id: RequestId::new([id; 32]),
        model: MODEL.into(),
        query: request.encode().unwrap(),
        max_coefficient: Coefficient::from_thousandths(4_000),
        max_tokens: 50,
        timeout_ms: 114_000,
        min_config_version: 3,
        enable_debug: false,
        answer_credit: None,
        receipt: None,
    }
}

pub(crate) fn response(content_type: &str, payload: &'static [u8]) -> Sealed {
    let response = HttpResponse {
        status: 200,
        reason: "OK".into(),
        headers: vec![("content-type".into(), content_type.into())],
        payload: Bytes::from_static(payload),
    };
    response.encode().unwrap()
}

pub(crate) fn end(used: u64) -> FinalInfo {
    let used = AdjustedTokens::new(used);
    FinalInfo {
        tokens: TokensUsed { completion: used, total: used, ..TokensUsed::default() },
        worker_start: Some(1.0),
        worker_end: Some(2.0),
        ..FinalInfo::default()
    }
}
