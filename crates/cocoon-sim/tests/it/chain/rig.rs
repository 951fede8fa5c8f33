//! The three roles in one process: app, client, proxy, workers and engines over memory, on a virtual clock.
//!
//! Nothing here is scripted but the engines: what a test sees is what the roles do with each other.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_client::{Accept, AuthSecret, Client, ClientConfig, ClientHandle};
use cocoon_net::{
    Dialer,
    memory::{LinkOptions, MemoryNetwork},
};
use cocoon_proxy::{Hex32, Proxy, ProxyConfig, ProxyHandle};
use cocoon_sim::ScriptedEngine;
use cocoon_units::{FixedClock, UnixTime};
use cocoon_wire::Version;
use cocoon_worker::{
    OpenAiHttpConfig, Worker, WorkerConfig, WorkerHandle,
    engine::openai_http::{Connect, EngineStream, OpenAiHttp},
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{drip::Drip, relay};

pub(crate) const MODEL: &str = "scripted";
pub(crate) const SECRET: &str = "the-secret-of-the-wallet";
const PATIENCE: Duration = Duration::from_secs(600);

/// What a test wants to be different.
pub(crate) struct Setup {
    pub(crate) client: ClientConfig,
    pub(crate) proxy: ProxyConfig,
    pub(crate) workers: Vec<WorkerConfig>,
    /// What the client and the proxy agree on; the workers' versions are in their configurations.
    pub(crate) client_leg: Version,
    pub(crate) links: LinkOptions,
    /// The most that a worker reads from its engine at once.
    pub(crate) engine_reads: usize,
}

impl Default for Setup {
    fn default() -> Self {
        let auth_secret = AuthSecret::new(SECRET);
        Self {
            client: ClientConfig { is_test: true, auth_secret, ..ClientConfig::default() },
            proxy: ProxyConfig {
                client_secret_hash: Some(Hex32::sha256(SECRET.as_bytes())),
                drain_timeout_ms: 0,
                ..ProxyConfig::default()
            },
            workers: vec![WorkerConfig::default()],
            client_leg: Version::Extended,
            links: LinkOptions::default(),
            engine_reads: usize::MAX,
        }
    }
}

impl Setup {
    pub(crate) fn with_workers(count: usize) -> Self {
        Self { workers: vec![WorkerConfig::default(); count], ..Self::default() }
    }

    pub(crate) fn with_slots(slots: u32) -> Self {
        let worker = WorkerConfig { max_active_requests: slots, ..WorkerConfig::default() };
        Self { workers: vec![worker], ..Self::default() }
    }

    pub(crate) async fn start(self) -> Chain {
        let chain = Chain::new(self).await;
        chain.until_ready().await;
        chain
    }
}

/// A running chain. Everything ends with it.
pub(crate) struct Chain {
    pub(crate) client: ClientHandle,
    pub(crate) proxy: ProxyHandle,
    pub(crate) workers: Vec<RunningWorker>,
    pub(crate) network: MemoryNetwork,
    proxy_config: ProxyConfig,
    proxy_stop: CancellationToken,
    links: LinkOptions,
    doors: mpsc::Sender<DuplexStream>,
    tasks: JoinSet<()>,
}

/// One worker and its engine.
pub(crate) struct RunningWorker {
    pub(crate) engine: Arc<ScriptedEngine>,
    pub(crate) handle: WorkerHandle,
    config: WorkerConfig,
    reads: usize,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl RunningWorker {
    /// The worker's process dies.
    pub(crate) async fn die(&mut self) {
        self.task.shutdown().await;
    }

    /// The worker is asked to stop.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// The worker's process dies, and another one is started for the same engine.
    pub(crate) async fn restart(&mut self, network: &MemoryNetwork) {
        self.die().await;
        *self = start_worker(network, self.config.clone(), Arc::clone(&self.engine), self.reads);
    }

    pub(crate) async fn until_asked(&self, requests: usize) {
        let asked = self.engine.wait_for(|records| records.len() >= requests);
        timeout(PATIENCE, asked).await.expect("the engine is asked");
    }
}

impl Chain {
    async fn new(setup: Setup) -> Self {
        let network = MemoryNetwork::new();
        let (proxy, proxy_stop, mut tasks) = (setup.proxy, CancellationToken::new(), JoinSet::new());
        let proxy_handle = start_proxy(&network, setup.links, &proxy, &proxy_stop, &mut tasks);
        let engine = || Arc::new(ScriptedEngine::in_memory());
        let workers = setup.workers.into_iter();
        let workers = workers.map(|config| start_worker(&network, config, engine(), setup.engine_reads)).collect();
        if setup.client_leg != Version::Extended {
            let low = network.listen("low", setup.links);
            tasks.spawn(relay::run(low, network.dialer("clients"), setup.client_leg));
        }
        let name = if setup.client_leg == Version::Extended { "clients" } else { "low" };
        let dialers = vec![Arc::new(network.dialer(name)) as Arc<dyn Dialer>];
        let client = Client::new(setup.client, clock(), dialers).unwrap();
        let (doors, listener) = mpsc::channel(64);
        let handle = client.handle();
        tasks.spawn(async move { client.serve(Doors(listener), CancellationToken::new()).await.unwrap() });
        let links = setup.links;
        Self {
            client: handle,
            proxy: proxy_handle,
            workers,
            network,
            proxy_config: proxy,
            proxy_stop,
            links,
            doors,
            tasks,
        }
    }

    /// Waits until every worker takes requests and the client knows it.
    pub(crate) async fn until_ready(&self) {
        let all = async {
            while !self.client.status().ready || self.proxy.status().tally.workers < self.workers.len() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, all).await.expect("the chain comes up");
    }

    /// Waits until the proxy holds no request any more.
    pub(crate) async fn until_idle(&self) {
        let idle = async {
            while self.proxy.status().tally.requests > 0 || self.client.status().requests_in_flight > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, idle).await.expect("every request ends");
    }

    pub(crate) fn engine(&self) -> &ScriptedEngine {
        &self.workers[0].engine
    }

    pub(crate) fn charged(&self) -> u64 {
        self.proxy.status().tally.tokens_charged
    }

    /// The proxy's process dies, and another one is started in its place.
    pub(crate) fn restart_proxy(&mut self) {
        self.stop_proxy();
        self.proxy_stop = CancellationToken::new();
        self.proxy = start_proxy(&self.network, self.links, &self.proxy_config, &self.proxy_stop, &mut self.tasks);
    }

    /// The proxy's process dies.
    pub(crate) fn stop_proxy(&self) {
        for name in ["clients", "workers"] {
            self.network.cut(name);
        }
        self.proxy_stop.cancel();
    }

    /// An app with a connection of its own.
    pub(crate) async fn app(&self) -> App {
        App::at(&self.doors).await
    }

    /// An app that sends one request and then reads nothing by itself.
    pub(crate) async fn mute_app(&self, body: &str) -> DuplexStream {
        mute_app(&self.doors, body).await
    }

    /// One request of an app of its own, with the whole answer.
    pub(crate) async fn ask(&self, body: &str) -> Reply {
        self.app().await.ask(body).await
    }
}

pub(crate) fn clock() -> Arc<FixedClock> {
    Arc::new(FixedClock::at(UnixTime::from_secs_f64(1_795_335_274.5)))
}

fn start_proxy(
    network: &MemoryNetwork,
    links: LinkOptions,
    config: &ProxyConfig,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> ProxyHandle {
    let [clients, workers] = ["clients", "workers"].map(|name| Arc::new(network.listen(name, links)));
    let proxy = Proxy::new(config.clone(), clock(), clients, workers);
    let handle = proxy.handle();
    let running = proxy.run(stop.clone());
    tasks.spawn(async move { running.await.expect("a proxy without a chain ends when it is told to") });
    handle
}

fn start_worker(
    network: &MemoryNetwork,
    config: WorkerConfig,
    engine: Arc<ScriptedEngine>,
    reads: usize,
) -> RunningWorker {
    let connector = Arc::new(InMemory { engine: Arc::clone(&engine), reads });
    let adapter = Arc::new(OpenAiHttp::over(&OpenAiHttpConfig::default(), connector));
    let dialers: Vec<Arc<dyn Dialer>> = vec![Arc::new(network.dialer("workers"))];
    let worker = Worker::new(config.clone(), clock(), adapter, dialers).unwrap();
    let (handle, stop, mut task) = (worker.handle(), CancellationToken::new(), JoinSet::new());
    task.spawn(worker.run(stop.clone()));
    RunningWorker { engine, handle, config, reads, stop, task }
}

/// The way from a worker to its engine.
#[derive(Debug)]
pub(crate) struct InMemory {
    pub(crate) engine: Arc<ScriptedEngine>,
    pub(crate) reads: usize,
}

#[async_trait]
impl Connect for InMemory {
    async fn connect(&self) -> io::Result<Box<dyn EngineStream>> {
        Ok(Box::new(Drip::new(self.engine.connect(), self.reads)))
    }
}

/// Where apps come in.
pub(crate) struct Doors(pub(crate) mpsc::Receiver<DuplexStream>);

impl Accept for Doors {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(io) => Ok(io),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        Ok(None)
    }
}

/// One app on one connection; dropping it and its answers hangs up.
pub(crate) struct App {
    sender: SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

/// An app that sends one request and then reads nothing by itself.
pub(crate) async fn mute_app(doors: &mpsc::Sender<DuplexStream>, body: &str) -> DuplexStream {
    let (mut near, far) = tokio::io::duplex(16 << 10);
    doors.send(far).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    near.write_all(request.as_bytes()).await.unwrap();
    near
}

impl App {
    /// One with a connection of its own to the client behind these doors.
    pub(crate) async fn at(doors: &mpsc::Sender<DuplexStream>) -> Self {
        let (near, far) = tokio::io::duplex(16 << 10);
        doors.send(far).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move { drop(connection.await) });
        Self { sender, _connection: task }
    }

    /// Sends a chat request and waits for the head of the answer.
    pub(crate) async fn open(&mut self, body: &str) -> Stream {
        let began = Instant::now();
        self.sender.ready().await.unwrap();
        let request = chat(Bytes::copy_from_slice(body.as_bytes()));
        let response = timeout(PATIENCE, self.sender.send_request(request)).await.expect("an answer comes").unwrap();
        Stream { response, began }
    }

    pub(crate) async fn ask(&mut self, body: &str) -> Reply {
        self.open(body).await.rest().await
    }
}

fn chat(body: Bytes) -> Request<Full<Bytes>> {
    Request::post("/v1/chat/completions")
        .header("host", "localhost:10000")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .unwrap()
}

/// An answer as it comes.
pub(crate) struct Stream {
    response: Response<Incoming>,
    began: Instant,
}

impl Stream {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let frame = timeout(PATIENCE, self.response.body_mut().frame()).await.expect("the answer goes on")?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// Takes the rest in.
    pub(crate) async fn rest(mut self) -> Reply {
        let status = self.response.status().as_u16();
        let mut reply = Reply { status, headers: self.response.headers().clone(), ..Reply::default() };
        while let Some(piece) = self.next().await {
            match piece {
                Ok(bytes) => reply.take(self.began.elapsed(), &bytes),
                Err(_) => reply.was_cut = true,
            }
        }
        reply.took = self.began.elapsed();
        reply
    }
}

/// A whole answer, and when its bytes came.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// What came at each virtual time since the request.
    pub(crate) arrivals: BTreeMap<Duration, Vec<u8>>,
    pub(crate) was_cut: bool,
    pub(crate) took: Duration,
}

impl Reply {
    fn take(&mut self, at: Duration, bytes: &[u8]) {
        self.arrivals.entry(at).or_default().extend_from_slice(bytes);
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.arrivals.values().flatten().copied().collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body()).unwrap()
    }

    /// The error's `code`, of an error that is the whole body.
    pub(crate) fn error_code(&self) -> String {
        code_of(&self.text())
    }

    /// The `code` of the error event that a stream ends with.
    pub(crate) fn error_event_code(&self) -> String {
        let text = self.text();
        code_of(text.trim_end().rsplit("data: ").next().unwrap())
    }

    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.headers.get("retry-after")?.to_str().ok()?.parse().ok()
    }
}

fn code_of(error: &str) -> String {
    let error: serde_json::Value = serde_json::from_str(error).expect("an error is JSON");
    error["error"]["code"].as_str().expect("an error has a code").to_owned()
}

/// A chat body with more fields in it.
pub(crate) fn chat_body(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]{comma}{fields}}}"#)
}

/// The same for a stream whose usage the app wants or not.
pub(crate) fn stream_body(fields: &str, usage: bool) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    let options = if usage { r#","stream_options":{"include_usage":true}"# } else { "" };
    chat_body(&format!(r#""stream":true{options}{comma}{fields}"#))
}
