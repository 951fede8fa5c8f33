//! A client with a scripted proxy behind it and hyper clients in front of it, all in memory.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cocoon_attest::Policy;
use cocoon_client::{Accept, Client, ClientConfig, ClientHandle};
use cocoon_net::{
    Acceptor, Dialer, Event, Outbox,
    memory::{LinkOptions, MemoryAcceptor, MemoryNetwork},
};
use cocoon_units::{AdjustedTokens, Coefficient, FixedClock, UnixTime};
use cocoon_wire::{
    RequestId, Sealed, Version,
    failure::{Blame, Failure, FailureCode},
    http::{HttpRequest, HttpResponse},
    message::{
        Answer, AuthChallenge, ClientAnswer, ClientMessage, ClientQuery, ClientRun, FinalInfo, ProxyParams,
        ProxyToClient, SignedPayment, TokensUsed, WorkerInstance, WorkerType,
    },
};
use http::{Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) const MODEL: &str = "Qwen/Qwen3-8B";
pub(crate) const NOW: f64 = 1_795_335_274.5;
const PATIENCE: Duration = Duration::from_secs(600);

/// Everything around one client.
pub(crate) struct Rig {
    pub(crate) handle: ClientHandle,
    pub(crate) network: MemoryNetwork,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    doors: mpsc::Sender<DuplexStream>,
    acceptors: Vec<Arc<MemoryAcceptor>>,
}

struct Doors(mpsc::Receiver<DuplexStream>);

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

impl Rig {
    /// A client whose only proxy is the one of [`Rig::proxy`].
    pub(crate) fn new(config: ClientConfig) -> Self {
        Self::with_proxies(config, &["proxy"])
    }

    /// The same, with a policy for the workers behind it.
    pub(crate) fn with_worker_policy(config: ClientConfig, policy: Policy) -> Self {
        let (_, policy) = watch::channel(Arc::new(policy));
        Self::with(config, &["proxy"], |client| client.with_worker_policy(policy))
    }

    /// A client of several proxies; see [`Rig::proxy_at`].
    pub(crate) fn with_proxies(config: ClientConfig, names: &[&str]) -> Self {
        Self::with(config, names, |client| client)
    }

    fn with(config: ClientConfig, names: &[&str], change: impl FnOnce(Client) -> Client) -> Self {
        let clock = Arc::new(FixedClock::at(UnixTime::from_secs_f64(NOW)));
        Self::of(names, |dialers| change(Client::new(config, clock, dialers).unwrap()))
    }

    /// Any client of proxies with these names.
    pub(crate) fn of(names: &[&str], make: impl FnOnce(Vec<Arc<dyn Dialer>>) -> Client) -> Self {
        let network = MemoryNetwork::new();
        let acceptors = names.iter().map(|name| Arc::new(network.listen(name, LinkOptions::default()))).collect();
        let dialers = names.iter().map(|name| Arc::new(network.dialer(name)) as Arc<dyn Dialer>).collect::<Vec<_>>();
        let client = make(dialers);
        let (doors, listener) = mpsc::channel(64);
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let handle = client.handle();
        let stop = shutdown.clone();
        tasks.spawn(async move { client.serve(Doors(listener), stop).await.unwrap() });
        Self { handle, network, tasks, shutdown, doors, acceptors }
    }

    /// A client and its proxy, with the session ready and the model known.
    pub(crate) async fn ready(config: ClientConfig, version: Version) -> (Self, Proxy) {
        let rig = Self::new(config);
        let proxy = rig.proxy(Script { version, ..Script::default() }).await;
        rig.until_ready().await;
        (rig, proxy)
    }

    pub(crate) async fn until_ready(&self) {
        while !self.handle.status().ready {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The next session that the client opens, with everything but requests answered by a script.
    pub(crate) async fn proxy(&self, script: Script) -> Proxy {
        self.proxy_at(0, script).await
    }

    /// The same, of one of several proxies.
    pub(crate) async fn proxy_at(&self, place: usize, script: Script) -> Proxy {
        let mut connection = self.pending_at(place).await;
        let (heard_in, heard) = mpsc::channel(4096);
        let outbox = connection.outbox();
        let version = script.version;
        if version == Version::Extended {
            outbox.enable_extended();
        }
        let answers = outbox.clone();
        self.tasks.spawn(async move {
            loop {
                let event = tokio::select! {
                    biased;
                    () = until(script.stopped.clone(), true) => {
                        // Like a process that is stopped: its sockets are open, and nobody reads them.
                        until(script.stopped.clone(), false).await;
                        continue;
                    }
                    event = connection.next() => event,
                };
                let Ok(event) = event else { return };
                match event {
                    Event::Query(query) => {
                        let asked = ClientQuery::decode(query.data).unwrap();
                        if script.withholds_evidence && matches!(asked, ClientQuery::GetEvidence { .. }) {
                            continue;
                        }
                        answers.answer(query.id, script.answer(&asked).encode()).unwrap();
                    }
                    Event::Message(data) => {
                        let _ = heard_in.try_send(ClientMessage::decode(version, data).unwrap());
                    }
                    _ => {}
                }
            }
        });
        Proxy { outbox, version, heard }
    }

    /// The next connection that the client opens, bare.
    pub(crate) async fn pending(&self) -> cocoon_net::Connection {
        self.pending_at(0).await
    }

    /// Where the client's dials arrive, for a script of one's own.
    pub(crate) fn acceptor(&self, place: usize) -> Arc<MemoryAcceptor> {
        Arc::clone(&self.acceptors[place])
    }

    async fn pending_at(&self, place: usize) -> cocoon_net::Connection {
        let pending = timeout(PATIENCE, self.acceptors[place].accept()).await.expect("the client dials").unwrap();
        pending.handshake().await.unwrap()
    }

    /// An app with a connection of its own.
    pub(crate) async fn app(&self) -> App {
        let (near, far) = tokio::io::duplex(16 << 10);
        self.doors.send(far).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
        App { sender }
    }

    /// Sends raw bytes on a connection of their own and reads until it ends or falls silent.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        self.doors.send(far).await.unwrap();
        near.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(Ok(read @ 1..)) = timeout(Duration::from_secs(5), near.read(&mut buffer)).await {
            answer.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// An app that sends one request and then does nothing by itself.
    pub(crate) async fn raw_app(&self, body: String) -> DuplexStream {
        let (mut near, far) = tokio::io::duplex(16 << 10);
        self.doors.send(far).await.unwrap();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        near.write_all(request.as_bytes()).await.unwrap();
        near
    }

    /// A raw connection, for tests that count seconds.
    pub(crate) async fn socket(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1 << 20);
        self.doors.send(far).await.unwrap();
        near
    }
}

/// What the proxy says without being told to by the test.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) version: Version,
    pub(crate) is_test: bool,
    pub(crate) secret: &'static str,
    /// Changed by a test whose workers come and go.
    pub(crate) models: Arc<Mutex<Vec<&'static str>>>,
    /// Documents that it hands out by their hash, and how often it was asked for any.
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) withholds_evidence: bool,
    /// What its worker asks, in thousandths.
    pub(crate) coefficient: u32,
    /// Set while the proxy's process stands still.
    pub(crate) stopped: Option<watch::Receiver<bool>>,
}

/// Waits until a switch is on or off; for ever, where there is none.
async fn until(switch: Option<watch::Receiver<bool>>, wanted: bool) {
    if let Some(mut switch) = switch
        && switch.wait_for(|is_on| *is_on == wanted).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// The models that a script lists.
pub(crate) fn offering(models: &[&'static str]) -> Arc<Mutex<Vec<&'static str>>> {
    Arc::new(Mutex::new(models.to_vec()))
}

/// What a proxy has of its workers' evidence.
#[derive(Default)]
pub(crate) struct Evidence {
    pub(crate) documents: Mutex<Vec<([u8; 32], Bytes)>>,
    pub(crate) asked: AtomicUsize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            version: Version::Extended,
            is_test: true,
            secret: "",
            models: offering(&[MODEL]),
            evidence: Arc::default(),
            withholds_evidence: false,
            coefficient: 1000,
            stopped: None,
        }
    }
}

impl Script {
    pub(crate) fn answer(&self, query: &ClientQuery) -> ClientAnswer {
        match query {
            ClientQuery::Connect { .. } => ClientAnswer::Connected {
                params: ProxyParams {
                    public_key: [7; 32],
                    owner_address: "owner".to_owned(),
                    sc_address: "contract".to_owned(),
                    is_test: self.is_test,
                    proto_version: Some(self.version.number()),
                },
                client_sc_address: "client".to_owned(),
                auth: AuthChallenge::Short { secret_hash: Sha256::digest(self.secret).into(), nonce: 0 },
                signed_payment: SignedPayment::Empty,
            },
            ClientQuery::AuthorizeShort { .. } => ClientAnswer::Authorized {
                signed_payment: SignedPayment::Empty,
                tokens_committed_to_db: AdjustedTokens::ZERO,
                max_tokens: AdjustedTokens::ZERO,
            },
            ClientQuery::GetEvidence { sha256 } => {
                self.evidence.asked.fetch_add(1, Ordering::Relaxed);
                let documents = self.evidence.documents.lock().unwrap();
                let found = documents.iter().find(|(hash, _)| hash == sha256);
                ClientAnswer::Evidence(found.map(|(_, document)| document.clone()).unwrap_or_default())
            }
            _ => {
                let coefficient = Coefficient::from_thousandths(self.coefficient);
                let worker = WorkerInstance { coefficient, active_requests: 3, max_active_requests: 60 };
                let kind = |name: &&str| WorkerType { name: (*name).to_owned(), workers: vec![worker] };
                ClientAnswer::WorkerTypesV2(self.models.lock().unwrap().iter().map(kind).collect())
            }
        }
    }
}

/// The proxy's end of a session.
pub(crate) struct Proxy {
    pub(crate) outbox: Outbox,
    pub(crate) version: Version,
    heard: mpsc::Receiver<ClientMessage>,
}

impl Proxy {
    pub(crate) async fn next(&mut self) -> ClientMessage {
        timeout(PATIENCE, self.heard.recv()).await.expect("a message comes").expect("the session lives")
    }

    pub(crate) async fn next_run(&mut self) -> ClientRun {
        match self.next().await {
            ClientMessage::Run(run) => run,
            other => panic!("expected a request, heard {other:?}"),
        }
    }

    /// What was heard meanwhile.
    pub(crate) fn heard(&mut self) -> Vec<ClientMessage> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    pub(crate) async fn until_closed(&mut self) {
        while timeout(PATIENCE, self.heard.recv()).await.expect("the session ends").is_some() {}
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.outbox.send(ProxyToClient::Answer(answer).encode(self.version)).unwrap();
    }

    pub(crate) fn head(&self, request_id: RequestId, content_type: &str, payload: &[u8], end: Option<FinalInfo>) {
        self.answer(head(request_id, 200, &[("content-type", content_type)], payload, end));
    }

    pub(crate) fn part(&self, request_id: RequestId, body: impl Into<Bytes>, end: Option<FinalInfo>) {
        self.answer(Answer::Part { request_id, body: Sealed::new(body.into()), end });
    }

    /// The end of a request whose client gave up on it, when the worker has said what it used.
    pub(crate) fn end_late(&self, request_id: RequestId, end: FinalInfo) {
        let failure = Failure::new(Blame::Client, FailureCode::Cancelled, "the request was cancelled");
        self.answer(Answer::Failed { request_id, failure, end: Some(end) });
    }

    pub(crate) fn fail(&self, request_id: RequestId, code: FailureCode, message: &str) {
        let failure = Failure::new(Blame::Worker, code, message);
        self.answer(Answer::Failed { request_id, failure, end: Some(FinalInfo::default()) });
    }
}

pub(crate) fn head(
    request_id: RequestId,
    status: u16,
    headers: &[(&str, &str)],
    payload: &[u8],
    end: Option<FinalInfo>,
) -> Answer {
    let response = HttpResponse {
        status,
        reason: "OK".to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        payload: Bytes::copy_from_slice(payload),
    };
    Answer::Head { request_id, response: response.encode().unwrap(), end }
}

/// The end of an answer that used some tokens.
pub(crate) fn end() -> Option<FinalInfo> {
    let tokens = TokensUsed {
        prompt: AdjustedTokens::new(34),
        completion: AdjustedTokens::new(5),
        total: AdjustedTokens::new(39),
        ..TokensUsed::default()
    };
    let time = |offset: f64| Some(NOW + offset);
    Some(FinalInfo {
        tokens,
        proxy_start: time(0.1),
        worker_start: time(0.2),
        worker_end: time(0.3),
        proxy_end: time(0.4),
        ..FinalInfo::default()
    })
}

pub(crate) fn envelope(run: &ClientRun) -> HttpRequest {
    HttpRequest::decode(&run.query).unwrap()
}

/// One app.
pub(crate) struct App {
    sender: SendRequest<Full<Bytes>>,
}

impl App {
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.sender.ready().await.unwrap();
        self.sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn chat(&mut self, body: impl Into<Bytes>) -> Response<Incoming> {
        self.send(chat(body)).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response<Incoming> {
        self.send(request("GET", path).body(Full::default()).unwrap()).await
    }
}

pub(crate) fn request(method: &str, path: &str) -> request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost:10000")
}

pub(crate) fn chat(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = request("POST", "/v1/chat/completions").header("content-type", "application/json");
    request.body(Full::new(body.into())).unwrap()
}

/// A small chat body with more fields in it.
pub(crate) fn chat_body(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]{comma}{fields}}}"#)
}

pub(crate) async fn body(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// Checks an error's shape and returns its body.
pub(crate) async fn check_error(response: Response<Incoming>, status: u16, code: &str) -> serde_json::Value {
    assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(response.headers().contains_key("retry-after"), matches!(status, 429 | 503));
    let body: serde_json::Value = serde_json::from_slice(&body(response).await).unwrap();
    let mut keys: Vec<_> = body["error"].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["code", "message", "param", "type"]);
    assert_eq!(body["error"]["code"], code, "{body}");
    body
}
