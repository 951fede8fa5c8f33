//! The devnet over HTTP: the methods of toncenter v2 that stock clients call, and controls that no real network has.
//!
//! - `/api/v2/<method>`: GET with a query, or POST with JSON; `/api/v2/jsonRPC` and `/jsonRPC`: the same as JSON-RPC.
//! - `/dev/<control>`: faucet, time, blocks, snapshots, state of the network (`dev`).
//!
//! What it is not: a server for others. It listens on loopback only, and `guard` keeps web pages out, since whoever
//! can ask can mint money and move time.
//!
//! A request goes: `connections` (room for one more) → `guard` (may it ask) → a place among the requests and a
//! deadline → parameters (`params`) → `method` or `dev` → `reply`. No lock is held and nothing is remembered
//! between requests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::Method as Verb;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::connections::Gate;
use self::method::Method;
use self::params::Params;
use self::reply::{Refusal, success};
use crate::devnet::Devnet;
use crate::limits;

mod connections;
mod dev;
mod guard;
mod method;
mod params;
mod reply;
mod shape;
mod stack;

/// What every request sees.
#[derive(Debug, Clone)]
struct Api {
    devnet: Devnet,
    /// Places for requests at work.
    places: Arc<Semaphore>,
}

/// Serves the network until `stop`, then lets requests at work finish for a few seconds.
///
/// # Errors
///
/// When the listener is bound to an address that other machines reach: nothing is served then.
pub async fn serve(listener: TcpListener, devnet: Devnet, stop: CancellationToken) -> io::Result<()> {
    if !listener.local_addr()?.ip().is_loopback() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a devnet listens on loopback addresses only"));
    }
    let stopped = stop.clone();
    let server = axum::serve(Gate::new(listener), router(devnet))
        .with_graceful_shutdown(async move { stopped.cancelled().await });
    tokio::select! {
        result = server.into_future() => result,
        () = drained(stop) => Ok(()),
    }
}

async fn drained(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(limits::HTTP_DRAIN).await;
}

fn router(devnet: Devnet) -> Router {
    let api = Api { devnet, places: Arc::new(Semaphore::new(limits::HTTP_REQUESTS)) };
    Router::new()
        .route("/", get(async || FRONT))
        .route("/jsonRPC", post(json_rpc))
        .route("/api/v2/jsonRPC", post(json_rpc))
        .route("/api/v2/{method}", any(rest))
        .route("/dev/{control}", any(dev_control))
        .fallback(async || Refusal::unknown(NO_SUCH_PATH).response(None))
        .method_not_allowed_fallback(async || Refusal::wrong_verb("JSON-RPC is POST").response(None))
        .layer(from_fn_with_state(api.clone(), admitted))
        .layer(DefaultBodyLimit::max(limits::HTTP_BODY_BYTES))
        .with_state(api)
}

/// Lets a request in that may ask, when there is a place, for as long as the deadline.
async fn admitted(State(api): State<Api>, request: Request, next: Next) -> Response {
    if let Err(refusal) = guard::check(request.headers()) {
        return refusal.response(None);
    }
    let Ok(_place) = api.places.try_acquire() else { return Refusal::busy().response(None) };
    let deadline: Duration = limits::HTTP_DEADLINE;
    timeout(deadline, next.run(request)).await.unwrap_or_else(|_| Refusal::late().response(None))
}

type Body = Result<Bytes, BytesRejection>;
type Pairs = Query<Vec<(String, String)>>;
type Name = Result<Path<String>, PathRejection>;

async fn rest(State(api): State<Api>, name: Name, verb: Verb, pairs: Pairs, body: Body) -> Response {
    let result = async {
        let name = text(name)?;
        let method = Method::named(&name)?;
        if verb != Verb::POST && (verb != Verb::GET || method.is_post_only()) {
            return Err(Refusal::wrong_verb(format!("{name} does not answer {verb}")));
        }
        method.call(&api.devnet, &params(&verb, pairs, body)?).await
    };
    answer(result.await, None)
}

async fn json_rpc(State(api): State<Api>, body: Body) -> Response {
    let request = read(body).and_then(|body| Params::of_body(&body));
    let id = request.as_ref().ok().and_then(|request| request.raw("id")).cloned().unwrap_or(Value::Null);
    let result = async {
        let request = request?;
        let method = Method::named(&request.needed("method")?)?;
        let params = Params::of_value(request.raw("params").cloned().unwrap_or(Value::Null))?;
        method.call(&api.devnet, &params).await
    };
    answer(result.await, Some(&id))
}

async fn dev_control(State(api): State<Api>, name: Name, verb: Verb, pairs: Pairs, body: Body) -> Response {
    let result = async { dev::call(&api.devnet, &text(name)?, &verb, &params(&verb, pairs, body)?).await };
    answer(result.await, None)
}

/// A name in the path; what is no text names nothing.
fn text(name: Name) -> Result<String, Refusal> {
    name.map(|Path(name)| name).map_err(|_| Refusal::unknown(NO_SUCH_PATH))
}

fn params(verb: &Verb, Query(pairs): Pairs, body: Body) -> Result<Params, Refusal> {
    if *verb == Verb::GET { Ok(Params::of_query(pairs)) } else { Params::of_body(&read(body)?) }
}

fn read(body: Body) -> Result<Bytes, Refusal> {
    body.map_err(|_| Refusal::too_large(limits::HTTP_BODY_BYTES))
}

fn answer(result: Result<Value, Refusal>, id: Option<&Value>) -> Response {
    match result {
        Ok(result) => success(&result, id),
        Err(refusal) => refusal.response(id),
    }
}

const NO_SUCH_PATH: &str = "no such path: there are /api/v2/<method>, /api/v2/jsonRPC and /dev/<control>";

const FRONT: &str = "\
A TON network for development, in one process. Money on it is play money.

/api/v2/jsonRPC       the endpoint for TonClient (toncenter v2, JSON-RPC)
/api/v2/<method>      the same as REST: getMasterchainInfo, getAddressInformation, getAddressBalance,
                      getAddressState, getTransactions, runGetMethod, sendBoc, sendBocReturnHash,
                      getConfigParam, getConfigAll
/dev/status           GET:  time, height, what waits, the faucet
/dev/faucet           POST: {\"address\": \"UQ…\", \"amount\": \"2.5\"} gives TON; \"nano\" instead of \"amount\" is in nanoTON
/dev/advance          POST: {\"seconds\": 3600} moves the clock of the network ahead
/dev/tick             POST: makes a block now
/dev/snapshot         POST: {\"name\": \"before\"} copies the network into its data folder
";
