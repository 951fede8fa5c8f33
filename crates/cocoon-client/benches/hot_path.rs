//! CPU of one request through the client alone: HTTP in, packet out, packet in, HTTP out.
//!
//! The client runs on a current-thread runtime of its own, over real loopback sockets; apps and a
//! scripted proxy run on another thread. What is reported is the CPU time of the client's thread,
//! system calls included, so the load on the other core does not matter much.
//! `cargo bench -p cocoon-client --bench hot_path`; not part of the tests.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a benchmark stops at the first error, prints, and answers only what it knows"
)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cocoon_client::{Client, ClientConfig};
use cocoon_net::{DialConfig, Dialer, Event, ListenConfig, Listener, TcpDialer};
use cocoon_units::{AdjustedTokens, Coefficient, FixedClock};
use cocoon_wire::{
    Sealed, Version,
    http::HttpResponse,
    message::{
        Answer, AuthChallenge, ClientAnswer, ClientMessage, ClientQuery, FinalInfo, ProxyParams, ProxyToClient,
        SignedPayment, WorkerInstance, WorkerType,
    },
};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, runtime::Builder, task::JoinSet};
use tokio_util::sync::CancellationToken;

const BODY: &str = r#"{"model":"m","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"What is the capital of France?"}],"temperature":0.7,"max_tokens":64}"#;
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"The capital of France is Paris."},"finish_reason":"stop"}],"usage":{"prompt_tokens":34,"completion_tokens":8,"total_tokens":42}}"#;

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (proxy_addr, listener) = runtime.block_on(async {
        let config = ListenConfig::insecure_loopback(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listener = Listener::bind(config).await.unwrap();
        (listener.local_addr(), listener)
    });
    let (addr_in, addr) = std::sync::mpsc::sync_channel(1);
    let client = std::thread::spawn(move || client(proxy_addr, &addr_in));
    let (client_addr, thread_id, shutdown) = addr.recv().unwrap();
    println!("{:>11} {:>9} {:>12} {:>12}", "concurrency", "requests", "CPU us/req", "requests/s");
    runtime.block_on(async move {
        let mut tasks = JoinSet::new();
        tasks.spawn(proxy(listener));
        wait_ready(client_addr).await;
        load(client_addr, 32, 50).await;
        for (concurrency, each) in [(1, 3000), (8, 600), (32, 300), (128, 80)] {
            let (cpu, wall) = (cpu_of(thread_id), Instant::now());
            load(client_addr, concurrency, each).await;
            let (cpu, wall) = (cpu_of(thread_id) - cpu, wall.elapsed());
            let requests = (concurrency * each) as f64;
            let (us, rate) = (cpu.as_secs_f64() * 1e6 / requests, requests / wall.as_secs_f64());
            println!("{concurrency:>11} {requests:>9} {us:>12.1} {rate:>12.0}");
        }
        shutdown.cancel();
    });
    client.join().unwrap();
}

type Place = (SocketAddr, u64, CancellationToken);

fn client(proxy: SocketAddr, place: &std::sync::mpsc::SyncSender<Place>) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let dialer = TcpDialer::new(DialConfig::insecure_loopback(proxy));
        let proxies: Vec<Arc<dyn Dialer>> = vec![Arc::new(dialer)];
        let client = Client::new(ClientConfig::default(), Arc::new(FixedClock::default()), proxies);
        let shutdown = CancellationToken::new();
        place.send((listener.local_addr().unwrap(), thread_id(), shutdown.clone())).unwrap();
        client.unwrap().serve(listener, shutdown).await.unwrap();
    });
}

fn thread_id() -> u64 {
    let link = fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// User and system time of a thread, from the scheduler's nanoseconds where the kernel tells them.
fn cpu_of(thread: u64) -> Duration {
    if let Ok(text) = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")) {
        return Duration::from_nanos(text.split(' ').next().unwrap().trim().parse().unwrap());
    }
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let fields: Vec<_> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

async fn wait_ready(addr: SocketAddr) {
    loop {
        let mut app = connect(addr).await;
        let request = Request::get("/readyz").header("host", "localhost").body(Full::default()).unwrap();
        if app.send_request(request).await.unwrap().status() == 200 {
            return;
        }
    }
}

async fn connect(addr: SocketAddr) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the process")]
    tokio::spawn(connection);
    sender
}

async fn load(addr: SocketAddr, concurrency: usize, each: usize) {
    let mut apps = JoinSet::new();
    for _ in 0..concurrency {
        apps.spawn(async move {
            let mut app = connect(addr).await;
            for _ in 0..each {
                let request = Request::post("/v1/chat/completions")
                    .header("host", "localhost")
                    .header("content-type", "application/json")
                    .header("authorization", "Bearer sk-none")
                    .header("user-agent", "bench")
                    .body(Full::from(BODY))
                    .unwrap();
                let response = app.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), ANSWER.len());
            }
        });
    }
    apps.join_all().await;
}

/// A proxy that answers at once: a head, and a part that ends the answer.
async fn proxy(listener: Listener) {
    let mut connection = listener.accept().await.unwrap().handshake().await.unwrap();
    let outbox = connection.outbox();
    outbox.enable_extended();
    let response = HttpResponse {
        status: 200,
        reason: "OK".to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        payload: Bytes::new(),
    };
    let response = response.encode().unwrap();
    while let Ok(event) = connection.next().await {
        match event {
            Event::Query(query) => {
                let answer = answer(&ClientQuery::decode(query.data).unwrap());
                outbox.answer(query.id, answer.encode()).unwrap();
            }
            Event::Message(data) => {
                if let ClientMessage::Run(run) = ClientMessage::decode(Version::Extended, data).unwrap() {
                    let request_id = run.request_id;
                    let head = Answer::Head { request_id, response: response.clone(), end: None };
                    let body = Sealed::new(Bytes::from_static(ANSWER.as_bytes()));
                    let part = Answer::Part { request_id, body, end: Some(FinalInfo::default()) };
                    for answer in [head, part] {
                        outbox.send(ProxyToClient::Answer(answer).encode(Version::Extended)).unwrap();
                    }
                }
            }
            _ => {}
        }
    }
}

fn answer(query: &ClientQuery) -> ClientAnswer {
    match query {
        ClientQuery::Connect { .. } => ClientAnswer::Connected {
            params: ProxyParams {
                public_key: [0; 32],
                owner_address: String::new(),
                sc_address: String::new(),
                is_test: false,
                proto_version: Some(Version::Extended.number()),
            },
            client_sc_address: String::new(),
            auth: AuthChallenge::Short { secret_hash: Sha256::digest("").into(), nonce: 0 },
            signed_payment: SignedPayment::Empty,
        },
        ClientQuery::AuthorizeShort { .. } => ClientAnswer::Authorized {
            signed_payment: SignedPayment::Empty,
            tokens_committed_to_db: AdjustedTokens::ZERO,
            max_tokens: AdjustedTokens::ZERO,
        },
        _ => {
            let worker = WorkerInstance { coefficient: Coefficient::ONE, active_requests: 0, max_active_requests: 60 };
            ClientAnswer::WorkerTypesV2(vec![WorkerType { name: "m".to_owned(), workers: vec![worker] }])
        }
    }
}
