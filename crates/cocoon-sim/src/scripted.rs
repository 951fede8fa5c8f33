//! An inference engine that does what a test tells it, over real HTTP/1.1.
//!
//! Every inference request is recorded (method, path, headers, the body's bytes) together with
//! whether the caller hung up before the answer was complete. What is answered comes from, in this
//! order: the request's `user` field (`sim:hang`, `sim:tokens=10000`, `sim:{"kind":…}`), the queue
//! of pushed behaviours, the default behaviour.
//!
//! Control for tests in other languages, on the same port:
//!
//! | request | effect |
//! |---|---|
//! | `POST /__script` | push one behaviour, or a list of them |
//! | `DELETE /__script` | forget pushed behaviours |
//! | `GET /__requests` | what was recorded, bodies in base64 |
//! | `DELETE /__requests` | forget it |
//! | `POST /__state` | `{"loading":true}`, `{"models":["a"]}` |

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base64;
use crate::http::{HttpConnection, Request};
use crate::limits::{MEMORY_PIPE_BYTES, RECORDED_BODY_BYTES_MAX, RECORDS_MAX, SCRIPT_QUEUE_MAX};
use crate::script::{Act, Asked, Behaviour, Ending, Framing, Script};

/// The scripted engine; it stops when dropped.
#[derive(Debug)]
pub struct ScriptedEngine {
    shared: Arc<Shared>,
    addr: Option<SocketAddr>,
}

/// One request as the engine saw it.
#[derive(Debug, Clone, Serialize)]
pub struct RequestRecord {
    /// Place in the order of arrival, from 0, never reused.
    pub index: u64,
    /// HTTP method.
    pub method: String,
    /// Request target as sent.
    pub path: String,
    /// Headers in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    #[serde(rename = "body_base64", serialize_with = "base64::serialize")]
    pub body: Bytes,
    /// How the answer went.
    pub outcome: Outcome,
    /// Body bytes of the answer handed to the connection so far.
    pub bytes_sent: u64,
}

/// How the answer to a recorded request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Still being answered.
    Running,
    /// Answered as scripted, to the end.
    Finished,
    /// The caller closed the connection first.
    HungUp,
}

impl ScriptedEngine {
    /// An engine without a socket: reach it through [`connect`](Self::connect).
    ///
    /// With tokio's paused clock this gives tests whose delays are virtual.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { shared: Arc::new(Shared::new()), addr: None }
    }

    /// An engine on a TCP address, meant to be loopback.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new());
        let (accepting, stop) = (Arc::clone(&shared), shared.stop.clone());
        shared.tasks.spawn(async move { stop.run_until_cancelled(accept(&accepting, listener)).await });
        Ok(Self { shared, addr: Some(addr) })
    }

    /// Where it listens; `None` in memory.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// A new in-memory connection to it.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(MEMORY_PIPE_BYTES);
        self.shared.serve(far);
        near
    }

    /// Queues a behaviour for the next request that does not choose its own.
    pub fn push(&self, behaviour: Behaviour) {
        self.shared.state().push(behaviour);
    }

    /// Sets what happens when nothing is queued; at first [`Behaviour::Complete`].
    pub fn set_default(&self, behaviour: Behaviour) {
        self.shared.state().default = behaviour;
    }

    /// While loading, everything is answered 503 as llama.cpp's server does.
    pub fn set_loading(&self, loading: bool) {
        self.shared.state().loading = loading;
    }

    /// The ids that `/v1/models` lists.
    pub fn set_models(&self, models: &[&str]) {
        self.shared.state().models = models.iter().map(|&id| id.to_owned()).collect();
    }

    /// All recorded requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.state().records.iter().cloned().collect()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.state().connections
    }

    /// Waits until the records satisfy a condition and returns them.
    pub async fn wait_for(&self, condition: impl Fn(&[RequestRecord]) -> bool) -> Vec<RequestRecord> {
        let mut changes = self.shared.changes.subscribe();
        loop {
            let records = self.requests();
            if condition(&records) || changes.changed().await.is_err() {
                return records;
            }
        }
    }

    /// Runs until the engine is dropped or its listener fails.
    pub async fn closed(&self) {
        self.shared.stop.cancelled().await;
    }
}

impl Drop for ScriptedEngine {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Behaviour>,
    default: Behaviour,
    records: VecDeque<RequestRecord>,
    recorded_bytes: usize,
    next_index: u64,
    connections: u64,
    loading: bool,
    models: Vec<String>,
}

impl Shared {
    fn new() -> Self {
        let state = State {
            queue: VecDeque::new(),
            default: Behaviour::Complete,
            records: VecDeque::new(),
            recorded_bytes: 0,
            next_index: 0,
            connections: 0,
            loading: false,
            models: vec!["scripted".to_owned()],
        };
        Self {
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self: &Arc<Self>, stream: S) {
        self.state().connections += 1;
        let (shared, stop) = (Arc::clone(self), self.stop.clone());
        self.tasks.spawn(async move { stop.run_until_cancelled(serve_connection(&shared, stream)).await });
    }

    fn record(&self, request: &Request) -> u64 {
        let index = self.state().record(request);
        self.changed();
        index
    }

    fn update(&self, index: u64, change: impl FnOnce(&mut RequestRecord)) {
        if let Some(record) = self.state().records.iter_mut().find(|r| r.index == index) {
            change(record);
        }
        self.changed();
    }
}

impl State {
    fn push(&mut self, behaviour: Behaviour) {
        if self.queue.len() < SCRIPT_QUEUE_MAX {
            self.queue.push_back(behaviour);
        }
    }

    fn record(&mut self, request: &Request) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        self.recorded_bytes = self.recorded_bytes.saturating_add(request.body.len());
        self.records.push_back(RequestRecord {
            index,
            method: request.method.clone(),
            path: request.path.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            outcome: Outcome::Running,
            bytes_sent: 0,
        });
        while self.records.len() > RECORDS_MAX || self.recorded_bytes > RECORDED_BODY_BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.recorded_bytes = self.recorded_bytes.saturating_sub(oldest.body.len());
        }
        index
    }

    fn next_behaviour(&mut self, asked: &Asked) -> Behaviour {
        if self.loading {
            return Behaviour::Loading;
        }
        asked
            .user
            .as_deref()
            .and_then(Behaviour::from_user_field)
            .or_else(|| self.queue.pop_front())
            .unwrap_or_else(|| self.default.clone())
    }
}

async fn accept(shared: &Arc<Shared>, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // A failure only costs latency in tests.
        let _ = stream.set_nodelay(true);
        shared.serve(stream);
    }
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(shared: &Shared, stream: S) {
    let mut connection = HttpConnection::new(stream);
    while let Ok(Some(request)) = connection.read_request().await {
        let kept = if request.path.starts_with("/__") {
            connection.write_all(&control(shared, &request)).await.is_ok()
        } else {
            answer(shared, &mut connection, &request).await
        };
        if !kept {
            return;
        }
    }
}

/// Answers one inference request; `false` ends the connection.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    connection: &mut HttpConnection<S>,
    request: &Request,
) -> bool {
    if let Some(body) = discovery(shared, request) {
        return connection.write_all(&body).await.is_ok();
    }
    let index = shared.record(request);
    let content_type = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let content_type = content_type.map_or("", |(_, value)| value.as_str());
    let asked = Asked::read(&request.path, content_type, &request.body);
    let behaviour = shared.state().next_behaviour(&asked);
    let (outcome, keep) = match behaviour.act(&asked) {
        Act::Answer(script) => play(shared, connection, index, &script).await,
        Act::Hang => {
            connection.hung_up().await;
            (Outcome::HungUp, false)
        }
        Act::Close => (Outcome::Finished, false),
    };
    shared.update(index, |record| record.outcome = outcome);
    keep
}

/// Health and model list, which are answered without a script and not recorded.
fn discovery(shared: &Shared, request: &Request) -> Option<Bytes> {
    let state = shared.state();
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health" | "/v1/models") if state.loading => {
            Some(whole(503, &json!({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})))
        }
        ("GET", "/health") => Some(whole(200, &json!({"status": "ok"}))),
        ("GET", "/v1/models") => {
            let data: Vec<Value> = state
                .models
                .iter()
                .map(|id| json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "sim"}))
                .collect();
            Some(whole(200, &json!({"object": "list", "data": data})))
        }
        _ => None,
    }
}

async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    connection: &mut HttpConnection<S>,
    index: u64,
    script: &Script,
) -> (Outcome, bool) {
    if !wait(connection, script.head_delay).await || connection.write_all(&head(script)).await.is_err() {
        return (Outcome::HungUp, false);
    }
    for step in &script.steps {
        if !wait(connection, step.delay).await
            || connection.write_all(&frame(script.framing, &step.bytes)).await.is_err()
        {
            return (Outcome::HungUp, false);
        }
        let sent = u64::try_from(step.bytes.len()).unwrap_or(u64::MAX);
        shared.update(index, |record| record.bytes_sent = record.bytes_sent.saturating_add(sent));
    }
    match script.ending {
        Ending::Finish => {
            let ended = script.framing == Framing::Length || connection.write_all(b"0\r\n\r\n").await.is_ok();
            (if ended { Outcome::Finished } else { Outcome::HungUp }, ended)
        }
        Ending::Cut => (Outcome::Finished, false),
        Ending::Stall => {
            connection.hung_up().await;
            (Outcome::HungUp, false)
        }
    }
}

/// Waits, unless the caller hangs up first; `false` then.
async fn wait<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut HttpConnection<S>,
    delay: std::time::Duration,
) -> bool {
    if delay.is_zero() {
        return true;
    }
    tokio::select! {
        () = tokio::time::sleep(delay) => true,
        () = connection.hung_up() => false,
    }
}

fn head(script: &Script) -> BytesMut {
    let mut head = format!("HTTP/1.1 {} Scripted\r\nContent-Type: {}\r\n", script.status, script.content_type);
    for (name, value) in &script.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match script.framing {
        Framing::Length => {
            let length: usize = script.steps.iter().map(|s| s.bytes.len()).sum();
            head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
        }
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n\r\n"),
    }
    BytesMut::from(head.as_bytes())
}

fn frame(framing: Framing, bytes: &Bytes) -> Bytes {
    if framing == Framing::Length || bytes.is_empty() {
        return bytes.clone();
    }
    let mut framed = BytesMut::from(format!("{:x}\r\n", bytes.len()).as_bytes());
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    framed.freeze()
}

fn whole(status: u16, body: &Value) -> Bytes {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Pushed {
    One(Behaviour),
    Many(Vec<Behaviour>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateChange {
    loading: Option<bool>,
    models: Option<Vec<String>>,
}

fn control(shared: &Shared, request: &Request) -> Bytes {
    let mut state = shared.state();
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/__script") => match serde_json::from_slice(&request.body) {
            Ok(Pushed::One(behaviour)) => state.push(behaviour),
            Ok(Pushed::Many(behaviours)) => behaviours.into_iter().for_each(|b| state.push(b)),
            Err(error) => return whole(400, &json!({"error": error.to_string()})),
        },
        ("DELETE", "/__script") => state.queue.clear(),
        ("GET", "/__requests") => return whole(200, &json!(state.records.iter().collect::<Vec<_>>())),
        ("DELETE", "/__requests") => {
            state.records.clear();
            state.recorded_bytes = 0;
        }
        ("POST", "/__state") => match serde_json::from_slice::<StateChange>(&request.body) {
            Ok(change) => {
                state.loading = change.loading.unwrap_or(state.loading);
                if let Some(models) = change.models {
                    state.models = models;
                }
            }
            Err(error) => return whole(400, &json!({"error": error.to_string()})),
        },
        _ => return whole(404, &json!({"error": "no such control"})),
    }
    whole(200, &json!({"ok": true}))
}
