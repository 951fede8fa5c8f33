//! The HTTP side: accept connections, bound them, and route their requests.
//!
//! HTTP/1.1 and HTTP/2 (cleartext, prior knowledge) on one port. Every connection is a task that
//! serves its requests itself; HTTP/2 streams get tasks of their own. All are joined on shutdown:
//! idle ones end at once, answers that have begun get the drain timeout.

pub(crate) mod body;
mod dialects;
mod gate;
mod inference;
mod info;
mod money;
mod preface;
mod receipts;
mod stall;
pub(crate) mod stream;
mod usage;

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, request::Parts};
use hyper::{
    body::Incoming,
    rt::{Executor, Read, Write, bounds::Http2ServerConnExec},
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Bound, Shared, dialect::Dialect, error::RequestError, limits, receipts::Metered, request::Endpoint};
use body::ResponseBody;
use gate::{Caller, Gate};
use stall::StallGuard;

/// Takes the connections of apps: a socket, or memory in tests.
pub trait Accept: Send {
    /// One connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection. Cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// Where it is bound; `None` when nobody outside this process can connect.
    ///
    /// # Errors
    ///
    /// When a socket does not know its address.
    fn local_addr(&self) -> io::Result<Option<SocketAddr>>;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        // Tokens are small writes that must not wait for each other.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        Self::local_addr(self).map(Some)
    }
}

/// What all connections share.
struct Server {
    shared: Arc<Shared>,
    gate: Gate,
    http1: http1::Builder,
    http2: http2::Builder<StreamTasks>,
    /// Begins the drain.
    drain: CancellationToken,
    /// Ends it.
    abort: CancellationToken,
}

/// Accepts and serves until `shutdown`, then drains.
pub(crate) async fn serve<A: Accept>(mut listener: A, bound: Bound, shared: Arc<Shared>, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    let _abort_on_drop = abort.clone().drop_guard();
    let places = Arc::new(Semaphore::new(shared.config.limits.connections));
    let drain_timeout = Duration::from_millis(shared.config.limits.drain_timeout_ms);
    let server = Arc::new(Server {
        gate: Gate::new(&shared.config, bound),
        http1: http1_builder(&shared),
        http2: http2_builder(StreamTasks { tasks: tasks.clone(), abort: abort.clone() }),
        shared,
        drain: shutdown.clone(),
        abort: abort.clone(),
    });
    while let Some((io, place)) = next(&mut listener, &places, &shutdown).await {
        tasks.spawn(connection(Arc::clone(&server), io, place));
    }
    drop(listener);
    tasks.close();
    if timeout(drain_timeout, tasks.wait()).await.is_err() {
        tracing::warn!("requests were cut off: they did not end within the drain timeout");
        abort.cancel();
        tasks.wait().await;
    }
}

/// The next connection, once there is a place for it; `None` on shutdown.
async fn next<A: Accept>(
    listener: &mut A,
    places: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(A::Io, OwnedSemaphorePermit)> {
    let accept = async {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok(io) => return Some((io, place)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        next = accept => next,
    }
}

fn http1_builder(shared: &Shared) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(shared.config.limits.header_timeout_ms))
        .max_buf_size(limits::HTTP1_BUFFER_BYTES);
    builder
}

fn http2_builder(executor: StreamTasks) -> http2::Builder<StreamTasks> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::HTTP2_STREAMS)
        .max_header_list_size(limits::HTTP2_HEADER_BYTES)
        .keep_alive_interval(limits::HTTP2_PING_INTERVAL)
        .keep_alive_timeout(limits::HTTP2_PING_INTERVAL);
    builder
}

/// Serves one connection until it ends, by whoever's doing.
async fn connection<Io>(server: Arc<Server>, io: Io, _place: OwnedSemaphorePermit)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = StallGuard::new(io, limits::WRITE_STALL_MAX);
    // The server waits for the first request without a deadline; this is it.
    let patience = Duration::from_millis(server.shared.config.limits.header_timeout_ms);
    let begun = Instant::now();
    let told = tokio::select! {
        biased;
        () = server.drain.cancelled() => return,
        told = timeout(patience, preface::read(io)) => told,
    };
    let Ok(Ok((version, io))) = told else { return };
    let was_used = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| {
        was_used.store(true, Ordering::Relaxed);
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(handle(&server, request).await) }
    });
    let io = TokioIo::new(io);
    let until = begun + patience;
    // Pinned here: as a value the connection would have its place twice in what this task keeps.
    match version {
        preface::Version::Http1 => {
            drive(&server, pin!(server.http1.serve_connection(io, service)), &was_used, until).await;
        }
        preface::Version::Http2 => {
            drive(&server, pin!(server.http2.serve_connection(io, service)), &was_used, until).await;
        }
    }
}

/// A connection that can be asked to end.
trait Served: Future {
    /// No further request is taken; those that are being answered are finished.
    fn finish(self: Pin<&mut Self>);
}

impl<Io, S> Served for http1::Connection<Io, S>
where
    Io: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<Io, S> Served for http2::Connection<Io, S, StreamTasks>
where
    Io: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    StreamTasks: Http2ServerConnExec<S::Future, ResponseBody>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves until the connection ends, or has no request until then, or the drain is over.
async fn drive(server: &Server, mut connection: Pin<&mut impl Served>, was_used: &AtomicBool, until: Instant) {
    let mut first_request = pin!(sleep_until(until));
    let mut drain = pin!(server.drain.cancelled());
    let mut abort = pin!(server.abort.cancelled());
    let (mut is_waiting, mut is_draining) = (true, false);
    loop {
        tokio::select! {
            biased;
            // How it ended is between the app and its socket.
            _ = &mut connection => return,
            () = &mut drain, if !is_draining => {
                is_draining = true;
                connection.as_mut().finish();
            }
            () = &mut abort, if is_draining => return,
            () = &mut first_request, if is_waiting => {
                if !was_used.load(Ordering::Relaxed) {
                    return;
                }
                is_waiting = false;
            }
        }
    }
}

/// Runs the tasks of HTTP/2 streams, so that shutdown joins them.
#[derive(Clone)]
struct StreamTasks {
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let abort = self.abort.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stream => {}
                () = abort.cancelled() => {}
                () = sleep(limits::HTTP2_STREAM_LIFETIME) => {}
            }
        });
    }
}

/// Answers one request.
async fn handle(server: &Server, request: Request<Incoming>) -> Response<ResponseBody> {
    let (parts, body) = request.into_parts();
    let dialect = Dialect::of_path(parts.uri.path());
    let mut labels = Labels { request: RequestTag::of(&parts), attestation: None, receipt: None };
    let (mut response, caller) = match server.gate.admit(&parts) {
        // In a box, because the connection keeps room for this future for as long as the answer takes.
        Ok(caller) => match Box::pin(route(server, &parts, body, &mut labels)).await {
            Ok(response) => (response, caller),
            Err(error) => (error.response(dialect), caller),
        },
        Err(error) => (error.response(dialect), Caller::Same),
    };
    let headers = response.headers_mut();
    gate::name_caller(caller, headers);
    if dialect == Some(Dialect::Messages) {
        // Where Anthropic's SDKs look for it.
        headers.insert("request-id", labels.request.0.clone());
    }
    headers.insert("x-request-id", labels.request.0);
    if let Some(id) = labels.attestation {
        headers.insert("x-cocoon-attestation", id);
    }
    if let Some(id) = labels.receipt {
        headers.insert("x-cocoon-receipt", id);
    }
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

async fn route(
    server: &Server,
    parts: &Parts,
    body: Incoming,
    labels: &mut Labels,
) -> Result<Response<ResponseBody>, RequestError> {
    if gate::is_preflight(parts) {
        return Ok(gate::preflight(parts));
    }
    let shared = &server.shared;
    let path = parts.uri.path();
    let access = match path {
        "/healthz" => return get(parts).map(|()| info::health(shared)),
        "/readyz" => {
            get(parts)?;
            return Ok(info::ready(shared).await);
        }
        _ => server.gate.authorize(&parts.headers)?,
    };
    if let Some(endpoint) = Endpoint::parse("POST", path) {
        return inference::answer(shared, endpoint.into(), parts, body, labels, access.key.as_ref()).await;
    }
    if let Some(dialect) = Dialect::of_path(path) {
        return dialects::answer(shared, dialect, parts, body, labels, access.key.as_ref()).await;
    }
    match path {
        "/v1/models" => get(parts).and_then(|()| info::models(shared)),
        "/metrics" => get(parts).map(|()| info::metrics(shared)),
        "/v1/usage" => get(parts).map(|()| usage::usage(shared, &access)),
        "/v1/attestation" => get(parts).map(|()| info::attestations(shared)),
        "/v1/budget" => {
            get(parts)?;
            money::budget(shared, &access).await
        }
        "/v1/budget/withdraw" => {
            let body = posted(shared, parts, body).await?;
            money::withdraw(shared, &access, &body).await
        }
        "/v1/budget/close" => {
            let body = posted(shared, parts, body).await?;
            money::close(shared, &access, &body)
        }
        _ => {
            if let Some(id) = path.strip_prefix("/v1/models/") {
                get(parts).and_then(|()| info::model(shared, id))
            } else if let Some(id) = path.strip_prefix("/v1/attestation/") {
                get(parts).and_then(|()| info::attestation(shared, id))
            } else if let Some(id) = path.strip_prefix("/v1/receipts/") {
                get(parts)?;
                receipts::receipt(shared, id, &access).await
            } else {
                Err(RequestError::UnknownPath)
            }
        }
    }
}

fn get(parts: &Parts) -> Result<(), RequestError> {
    let is_get = parts.method == Method::GET || parts.method == Method::HEAD;
    if is_get { Ok(()) } else { Err(RequestError::WrongMethod { allow: "GET, HEAD" }) }
}

/// The body of a command.
async fn posted(shared: &Shared, parts: &Parts, body: Incoming) -> Result<Bytes, RequestError> {
    if parts.method != Method::POST {
        return Err(RequestError::WrongMethod { allow: "POST" });
    }
    let (body, _) = body::read(body, &parts.headers, &shared.config.limits, &shared.bodies).await?;
    Ok(body)
}

/// What every answer is labelled with, whatever becomes of the request.
pub(crate) struct Labels {
    request: RequestTag,
    /// The id of what was verified of the proxy that served it; none while no proxy has.
    attestation: Option<HeaderValue>,
    /// The id of its receipt, where one was asked for.
    receipt: Option<HeaderValue>,
}

/// The name of a request in `x-request-id`: the app's own if it is harmless, else a fresh one.
pub(crate) struct RequestTag(HeaderValue);

impl RequestTag {
    fn of(parts: &Parts) -> Self {
        let own = parts.headers.get("x-request-id").filter(|tag| is_harmless(tag.as_bytes()));
        Self(own.cloned().unwrap_or_else(Self::fresh))
    }

    /// Prefers the name that the body gives, when the headers gave none.
    fn prefer(&mut self, parts: &Parts, guid: Option<&str>) {
        if let Some(guid) = guid.filter(|guid| is_harmless(guid.as_bytes()))
            && !parts.headers.contains_key("x-request-id")
            && let Ok(guid) = HeaderValue::from_str(guid)
        {
            self.0 = guid;
        }
    }

    fn fresh() -> HeaderValue {
        let mut digits = [0_u8; 32];
        let id: [u8; 16] = rand::random();
        // Both lengths are fixed, so this cannot fail; were it to, the tag would be zeros.
        let _ = hex::encode_to_slice(id, &mut digits);
        HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

/// Whether a name can go into headers and logs.
fn is_harmless(tag: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    !tag.is_empty() && tag.len() <= limits::REQUEST_ID_BYTES && tag.iter().all(is_plain)
}

/// One inference request in the counters, from its beginning to the last byte of its answer.
pub(crate) struct InFlight {
    shared: Arc<Shared>,
    is_counted: bool,
}

impl InFlight {
    fn enter(shared: &Arc<Shared>) -> Result<Self, RequestError> {
        let entered = shared.metrics.enter(shared.config.limits.requests);
        entered.map(|()| Self { shared: Arc::clone(shared), is_counted: false }).ok_or(RequestError::Busy)
    }

    /// Counts what the proxy says was used, if it has said so yet.
    fn used_by(&self, answer: &Metered, model: &str) {
        if let Some(info) = answer.final_info() {
            self.shared.metrics.used(model, &info.tokens);
        }
    }

    fn completed(&mut self) {
        self.is_counted = true;
        self.shared.metrics.completed();
    }

    fn failed(&mut self, error: &RequestError) {
        self.is_counted = true;
        self.shared.metrics.failed(error);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.is_counted {
            self.shared.metrics.abandoned();
        }
        self.shared.metrics.leave();
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InFlight")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_waits_for_an_answer_is_small() {
        let bytes = size_of_future(connection::<TcpStream>);
        assert!(bytes <= limits::STREAM_BYTES / 8, "{bytes} bytes are held for each connection");
    }
}
