//! A worker between a scripted engine and a proxy whose every message is written by the test.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_net::memory::{LinkOptions, MemoryAcceptor, MemoryNetwork};
use cocoon_net::{Acceptor as _, Connection, Dialer, Event, Outbox};
use cocoon_sim::ScriptedEngine;
use cocoon_units::{AdjustedTokens, Coefficient, FixedClock, UnixTime};
use cocoon_wire::failure::Failure;
use cocoon_wire::http::{HttpRequest, HttpResponse};
use cocoon_wire::message::{
    Answer, CompareBalance, FinalInfo, ProxyParams, ProxyToWorker, SignedPayment, WorkerAnswer, WorkerMessage,
    WorkerParams, WorkerQuery, WorkerRun,
};
use cocoon_wire::{RequestId, Version};
use cocoon_worker::engine::openai_http::{Connect, EngineStream, OpenAiHttp};
use cocoon_worker::{Engine, OpenAiHttpConfig, Worker, WorkerConfig, WorkerHandle};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const NOW: f64 = 1_700_000_000.5;

/// Connects to a scripted engine without a socket.
#[derive(Debug, Clone)]
pub(crate) struct InMemory(pub(crate) Arc<ScriptedEngine>);

#[async_trait]
impl Connect for InMemory {
    async fn connect(&self) -> io::Result<Box<dyn EngineStream>> {
        Ok(Box::new(self.0.connect()))
    }
}

/// An engine that is not there.
#[derive(Debug)]
pub(crate) struct Unreachable;

#[async_trait]
impl Connect for Unreachable {
    async fn connect(&self) -> io::Result<Box<dyn EngineStream>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

pub(crate) fn config() -> WorkerConfig {
    WorkerConfig { model: Some("scripted@c:0".to_owned()), ..WorkerConfig::default() }
}

pub(crate) fn original() -> WorkerConfig {
    WorkerConfig { proto_version_min: 1, proto_version_max: 2, ..config() }
}

/// A running worker and what surrounds it.
pub(crate) struct Bench {
    pub(crate) engine: Arc<ScriptedEngine>,
    pub(crate) handle: WorkerHandle,
    pub(crate) acceptor: MemoryAcceptor,
    pub(crate) network: MemoryNetwork,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

impl Bench {
    pub(crate) fn new(config: WorkerConfig) -> Self {
        let engine = Arc::new(ScriptedEngine::in_memory());
        Self::with(config, OpenAiHttpConfig::default(), Arc::new(InMemory(Arc::clone(&engine))), engine)
    }

    pub(crate) fn with(
        config: WorkerConfig,
        http: OpenAiHttpConfig,
        connector: Arc<dyn Connect>,
        engine: Arc<ScriptedEngine>,
    ) -> Self {
        Self::of(http, connector, engine, |adapter, proxies| {
            let clock = Arc::new(FixedClock::at(UnixTime::from_secs_f64(NOW)));
            Worker::new(config, clock, adapter, proxies).unwrap()
        })
    }

    /// Around a worker that the test makes for this engine and this proxy.
    pub(crate) fn of(
        http: OpenAiHttpConfig,
        connector: Arc<dyn Connect>,
        engine: Arc<ScriptedEngine>,
        make: impl FnOnce(Arc<dyn Engine>, Vec<Arc<dyn Dialer>>) -> Worker,
    ) -> Self {
        let network = MemoryNetwork::new();
        let acceptor = network.listen("proxy", LinkOptions::default());
        let proxies: Vec<Arc<dyn Dialer>> = vec![Arc::new(network.dialer("proxy"))];
        let worker = make(Arc::new(OpenAiHttp::over(&http, connector)), proxies);
        let (handle, shutdown) = (worker.handle(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(worker.run(shutdown.clone()));
        Self { engine, handle, acceptor, network, shutdown, tasks }
    }

    /// A worker whose handshake is done and which has said that it takes requests.
    pub(crate) async fn connected(config: WorkerConfig) -> (Self, TestProxy) {
        let bench = Self::new(config);
        let mut proxy = bench.accept().await;
        proxy.until_enabled().await;
        (bench, proxy)
    }

    /// Accepts the worker's connection and plays the proxy's side of the handshake.
    pub(crate) async fn accept(&self) -> TestProxy {
        TestProxy::shake(self.connection().await, 0).await
    }

    /// Plays a proxy that the worker should leave after the comparison of balances.
    pub(crate) async fn refused_handshake(&self, db_tokens: u64) {
        let mut connection = self.connection().await;
        let outbox = connection.outbox();
        while let Ok(Event::Query(query)) = connection.next().await {
            let answer = match WorkerQuery::decode(query.data).unwrap() {
                WorkerQuery::Connect(_) => connected(Version::Extended),
                WorkerQuery::CompareBalance { .. } => compared(db_tokens),
                other => panic!("{other:?}"),
            };
            outbox.answer(query.id, answer.encode()).unwrap();
        }
    }

    pub(crate) async fn connection(&self) -> Connection {
        self.acceptor.accept().await.unwrap().handshake().await.unwrap()
    }
}

/// A proxy after its handshake. It is driven by a task of its own.
pub(crate) struct TestProxy {
    pub(crate) outbox: Outbox,
    pub(crate) version: Version,
    pub(crate) params: WorkerParams,
    pub(crate) disabled: bool,
    pub(crate) enabled_seen: bool,
    events: mpsc::Receiver<Event>,
    driver: JoinSet<()>,
}

impl TestProxy {
    /// Answers the three queries; `db_tokens` is what the proxy claims to have committed.
    pub(crate) async fn shake(connection: Connection, db_tokens: u64) -> Self {
        let (proxy, connection) = Self::answer_queries(connection, db_tokens).await;
        proxy.drive(connection)
    }

    /// A proxy over a connection whose handshake the test has done itself.
    pub(crate) fn driven(connection: Connection, version: Version, params: WorkerParams) -> Self {
        let (_, events) = mpsc::channel(1);
        let outbox = connection.outbox();
        let proxy =
            Self { outbox, version, params, disabled: false, enabled_seen: true, events, driver: JoinSet::new() };
        proxy.drive(connection)
    }

    fn drive(mut self, mut connection: Connection) -> Self {
        let (sender, events) = mpsc::channel(100_000);
        self.events = events;
        self.driver.spawn(async move {
            while let Ok(event) = connection.next().await {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        self
    }

    /// A proxy that reads only when the test drives its connection.
    pub(crate) async fn shake_frozen(connection: Connection) -> (Self, Connection) {
        Self::answer_queries(connection, 0).await
    }

    async fn answer_queries(mut connection: Connection, db_tokens: u64) -> (Self, Connection) {
        let outbox = connection.outbox();
        let mut joined = None;
        let disabled = loop {
            let Event::Query(query) = connection.next().await.unwrap() else { panic!("message before the handshake") };
            let (answer, done) = match WorkerQuery::decode(query.data).unwrap() {
                WorkerQuery::Connect(params) => {
                    let version = Version::negotiate(params.versions.unwrap(), cocoon_wire::VersionRange::ALL).unwrap();
                    joined = Some((params, version));
                    (connected(version), None)
                }
                WorkerQuery::CompareBalance { .. } => (compared(db_tokens), None),
                WorkerQuery::HandshakeComplete { is_disabled } => (WorkerAnswer::HandshakeCompleted, Some(is_disabled)),
                other => panic!("{other:?}"),
            };
            outbox.answer(query.id, answer.encode()).unwrap();
            if let Some(is_disabled) = done {
                break is_disabled;
            }
        };
        let (params, version) = joined.unwrap();
        if version == Version::Extended {
            outbox.enable_extended();
        }
        let (_, events) = mpsc::channel(1);
        let driver = JoinSet::new();
        (Self { outbox, version, params, disabled, enabled_seen: !disabled, events, driver }, connection)
    }

    pub(crate) async fn until_enabled(&mut self) {
        while !self.enabled_seen {
            match self.message().await {
                Some(WorkerMessage::EnabledDisabled { disabled }) => self.enabled_seen = !disabled,
                Some(WorkerMessage::Load(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn send(&self, message: &ProxyToWorker) {
        self.outbox.send(message.encode(self.version)).unwrap();
    }

    pub(crate) fn run(&self, run: WorkerRun) {
        self.send(&ProxyToWorker::Run(run));
    }

    /// The next message; `None` when the worker closed the connection.
    pub(crate) async fn message(&mut self) -> Option<WorkerMessage> {
        match self.events.recv().await? {
            Event::Message(data) => Some(WorkerMessage::decode(self.version, data).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// The next answer message, whatever else comes between.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            match self.message().await.expect("the worker closed the connection") {
                WorkerMessage::Answer(answer) => return answer,
                WorkerMessage::EnabledDisabled { .. } | WorkerMessage::NewCoefficient(_) | WorkerMessage::Load(_) => {}
            }
        }
    }

    /// A whole answer.
    pub(crate) async fn whole(&mut self) -> Whole {
        let mut whole = Whole::default();
        loop {
            let answer = self.answer().await;
            if whole.take(answer) {
                return whole;
            }
        }
    }
}

fn connected(version: Version) -> WorkerAnswer {
    let params = ProxyParams {
        public_key: [7; 32],
        owner_address: "owner".to_owned(),
        sc_address: "contract".to_owned(),
        is_test: true,
        proto_version: Some(version.number()),
    };
    WorkerAnswer::Connected { params, worker_sc_address: "worker".to_owned() }
}

fn compared(db_tokens: u64) -> WorkerAnswer {
    WorkerAnswer::CompareBalance(CompareBalance {
        signed_payment: SignedPayment::Empty,
        tokens_committed_to_db: AdjustedTokens::new(db_tokens),
        max_tokens: AdjustedTokens::new(db_tokens),
        error_code: 0,
    })
}

/// Everything a proxy got for one request.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Bodies in the order they came, the head's payload first.
    pub(crate) pieces: VecDeque<Bytes>,
    pub(crate) messages: usize,
    pub(crate) failure: Option<Failure>,
    pub(crate) end: Option<FinalInfo>,
}

impl Whole {
    /// Adds a message; `true` if it was the last.
    pub(crate) fn take(&mut self, answer: Answer) -> bool {
        self.messages += 1;
        let last = answer.is_last();
        self.end = answer.end().cloned();
        match answer {
            Answer::Head { response, .. } => {
                let response = HttpResponse::decode(&response).unwrap();
                (self.status, self.headers) = (response.status, response.headers);
                self.pieces.push_back(response.payload);
            }
            Answer::Part { body, .. } => self.pieces.push_back(body.into_bytes()),
            Answer::Failed { failure, .. } => self.failure = Some(failure),
        }
        last
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.pieces.iter().flatten().copied().collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Prompt, cached, completion, reasoning, total.
    pub(crate) fn tokens(&self) -> [u64; 5] {
        let tokens = self.end.as_ref().expect("no final information").tokens;
        [tokens.prompt, tokens.cached, tokens.completion, tokens.reasoning, tokens.total].map(AdjustedTokens::get)
    }
}

pub(crate) fn id(n: u8) -> RequestId {
    RequestId::new([n; 32])
}

/// A chat request with that body.
pub(crate) fn chat(n: u8, body: &str) -> WorkerRun {
    request(n, "POST", "/v1/chat/completions", &[("Content-Type", "application/json")], body)
}

pub(crate) fn request(n: u8, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> WorkerRun {
    let envelope = HttpRequest {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: headers.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        payload: Bytes::copy_from_slice(body.as_bytes()),
    };
    WorkerRun {
        request_id: id(n),
        query: envelope.encode().unwrap(),
        signed_payment: SignedPayment::Empty,
        coefficient: Coefficient::from_thousandths(2000),
        timeout_ms: 600_000,
        enable_debug: false,
        token_limit: None,
        answer_credit: None,
        receipt: None,
        account_tag: None,
    }
}
