//! CPU of the proxy alone, per request: `cargo run --release -p cocoon-proxy --example proxy_cpu`.
//!
//! The proxy runs on its own thread with a current-thread runtime, as the binary runs it; a client
//! and a worker of the extended profile run on another. All talk over loopback TCP. What is printed
//! is the proxy thread's time on a CPU (system calls included), from Linux' scheduler statistics.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a tool for developers")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cocoon_net::{Connection, DialConfig, Event, ListenConfig, Listener, dial};
use cocoon_proxy::{Hex32, Proxy, ProxyConfig};
use cocoon_units::{AdjustedTokens, Coefficient, FixedClock};
use cocoon_wire::http::{HttpRequest, HttpResponse};
use cocoon_wire::message::{
    Answer, ClientMessage, ClientParams, ClientQuery, ClientRun, FinalInfo, ProxyToClient, ProxyToWorker,
    WorkerMessage, WorkerParams, WorkerQuery,
};
use cocoon_wire::{Encoded, RequestId, Sealed, Version, VersionRange};
use tokio_util::sync::CancellationToken;

const SECRET: &[u8] = b"secret";
const REQUESTS: u32 = 50_000;
const ROUNDS: usize = 5;

fn main() {
    for concurrency in [1, 32, 128] {
        let mut per_request: Vec<f64> = (0..ROUNDS).map(|_| measure(concurrency)).collect();
        per_request.sort_by(f64::total_cmp);
        let (min, median, max) = (per_request[0], per_request[ROUNDS / 2], per_request[ROUNDS - 1]);
        println!("concurrency {concurrency}: {min:.1} / {median:.1} / {max:.1} µs of CPU a request (min/median/max)");
    }
}

/// Nanoseconds that this thread has spent on a CPU.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Microseconds of the proxy's CPU a request.
fn measure(concurrency: u32) -> f64 {
    let (addresses_in, addresses) = std::sync::mpsc::sync_channel(1);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let proxy = std::thread::spawn(move || {
        runtime().block_on(async {
            let any: SocketAddr = ([127, 0, 0, 1], 0).into();
            let clients = Listener::bind(ListenConfig::insecure_loopback(any)).await.unwrap();
            let workers = Listener::bind(ListenConfig::insecure_loopback(any)).await.unwrap();
            addresses_in.send((clients.local_addr(), workers.local_addr())).unwrap();
            let config = ProxyConfig { client_secret_hash: Some(Hex32::sha256(SECRET)), ..ProxyConfig::default() };
            let clock = Arc::new(FixedClock::default());
            Proxy::new(config, clock, Arc::new(clients), Arc::new(workers)).run(stopped).await.unwrap();
        });
        cpu_ns()
    });
    let (clients, workers) = addresses.recv().unwrap();
    let requests = if concurrency == 1 { REQUESTS / 5 } else { REQUESTS };
    let peers = std::thread::spawn(move || {
        runtime().block_on(async {
            let worker = serve(workers, concurrency).await;
            let started = Instant::now();
            tokio::select! {
                () = ask(clients, requests, concurrency) => {}
                () = worker => {}
            }
            started.elapsed()
        })
    });
    let took = peers.join().unwrap();
    stop.cancel();
    let cpu = proxy.join().unwrap();
    let rate = f64::from(requests) / took.as_secs_f64();
    println!("  concurrency {concurrency}: {requests} requests in {took:.2?}, {rate:.0}/s");
    Duration::from_nanos(cpu).as_secs_f64() * 1e6 / f64::from(requests)
}

async fn query(connection: &mut Connection, query: Encoded) -> Bytes {
    let outbox = connection.outbox();
    let answer = outbox.query(query, Duration::from_secs(10));
    tokio::select! {
        answer = answer => answer.unwrap(),
        event = connection.next() => panic!("unexpected {event:?}"),
    }
}

/// A worker that answers everything at once; the future returned serves.
async fn serve(addr: SocketAddr, slots: u32) -> impl Future<Output = ()> {
    let mut connection = dial(DialConfig::insecure_loopback(addr)).await.unwrap();
    let params = WorkerParams {
        owner_address: "worker".into(),
        model: "m".into(),
        coefficient: Coefficient::ONE,
        is_test: true,
        proxy_count: 1,
        max_active_requests: slots,
        versions: Some(VersionRange::ALL),
    };
    query(&mut connection, WorkerQuery::Connect(params).encode()).await;
    let zero = AdjustedTokens::ZERO;
    let compare = WorkerQuery::CompareBalance {
        tokens_committed_to_blockchain: zero,
        tokens_committed_to_db: zero,
        max_tokens: zero,
    };
    query(&mut connection, compare.encode()).await;
    query(&mut connection, WorkerQuery::HandshakeComplete { is_disabled: false }.encode()).await;
    let response = HttpResponse {
        status: 200,
        reason: "OK".into(),
        headers: vec![("content-type".into(), "application/json".into())],
        payload: vec![b'x'; 500].into(),
    };
    let response = response.encode().unwrap();
    async move {
        let outbox = connection.outbox();
        while let Ok(event) = connection.next().await {
            let Event::Message(data) = event else { panic!("a query") };
            let ProxyToWorker::Run(run) = ProxyToWorker::decode(Version::Extended, data).unwrap() else { continue };
            let end = Some(FinalInfo::default());
            let answer = Answer::Head { request_id: run.request_id, response: response.clone(), end };
            outbox.send(WorkerMessage::Answer(answer).encode(Version::Extended)).unwrap();
        }
    }
}

/// A client that keeps `concurrency` requests in flight until `requests` are answered.
async fn ask(addr: SocketAddr, requests: u32, concurrency: u32) {
    let mut connection = dial(DialConfig::insecure_loopback(addr)).await.unwrap();
    let params = ClientParams { owner_address: "wallet".into(), is_test: true, versions: Some(VersionRange::ALL) };
    query(&mut connection, ClientQuery::Connect { params, min_config_version: 0 }.encode()).await;
    let secret = Sealed::new(Bytes::from_static(SECRET));
    query(&mut connection, ClientQuery::AuthorizeShort { secret }.encode()).await;
    let outbox = connection.outbox();
    for id in 0..concurrency {
        outbox.send(request(id)).unwrap();
    }
    let mut sent = concurrency;
    let mut answered = 0;
    while answered < requests {
        let Event::Message(data) = connection.next().await.unwrap() else { panic!("a query") };
        let message = ProxyToClient::decode(Version::Extended, data).unwrap();
        assert!(matches!(message, ProxyToClient::Answer(Answer::Head { end: Some(_), .. })));
        answered += 1;
        if sent < requests {
            outbox.send(request(sent)).unwrap();
            sent += 1;
        }
    }
}

fn request(id: u32) -> Encoded {
    let mut request_id = [0; 32];
    request_id[..4].copy_from_slice(&id.to_le_bytes());
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}],"max_tokens":16,"temperature":0.2}}"#,
        "What is the capital of France? ".repeat(8)
    );
    let query = HttpRequest {
        method: "POST".into(),
        url: "/v1/chat/completions".into(),
        headers: vec![("content-type".into(), "application/json".into())],
        payload: body.into(),
    };
    let run = ClientRun {
        request_id: RequestId::new(request_id),
        model: "m".into(),
        query: query.encode().unwrap(),
        max_coefficient: Coefficient::ONE,
        max_tokens: 16,
        timeout_ms: 60_000,
        min_config_version: 0,
        enable_debug: false,
        answer_credit: Some(256 << 10),
        receipt: None,
    };
    ClientMessage::Run(run).encode(Version::Extended)
}
