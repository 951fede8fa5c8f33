//! Measures the CPU that a worker spends on one request, its HTTP hop to the engine included.
//!
//! The worker runs alone on this thread; a fake engine and a minimal proxy run on two others, over real
//! loopback sockets. Prints CPU time of this thread for each number of requests in flight:
//!
//! ```text
//! cargo run --release --example hop -- [requests] [stream]
//! ```

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cocoon_net::{Connection, DialConfig, Dialer, Event, ListenConfig, Listener, TcpDialer};
use cocoon_sim::{FakeConfig, FakeEngine};
use cocoon_units::{AdjustedTokens, Clock, Coefficient, FixedClock, UnixTime};
use cocoon_wire::http::HttpRequest;
use cocoon_wire::message::{
    Answer, CompareBalance, ProxyParams, ProxyToWorker, SignedPayment, WorkerAnswer, WorkerMessage, WorkerQuery,
    WorkerRun,
};
use cocoon_wire::{RequestId, Sealed, Version};
use cocoon_worker::engine::openai_http::OpenAiHttp;
use cocoon_worker::{OpenAiHttpConfig, Worker, WorkerConfig};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let requests: u32 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let streamed = arguments.next().is_some();
    for concurrency in [1, 8, 32, 128] {
        let cpu = measure(requests, concurrency, streamed)?;
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "concurrency {concurrency:>3}: {:>6.1} us of CPU a request",
            cpu.as_secs_f64() * 1e6 / f64::from(requests)
        )?;
    }
    Ok(())
}

/// CPU time of this thread while it serves that many requests as a worker.
fn measure(requests: u32, concurrency: u32, streamed: bool) -> Result<Duration, Failure> {
    let (engine_addr, addr_of_engine) = std::sync::mpsc::sync_channel(1);
    let (proxy_addr, addr_of_proxy) = std::sync::mpsc::sync_channel(1);
    let shutdown = CancellationToken::new();
    let until = shutdown.clone();
    let engine = thread(async move {
        let config = FakeConfig { events: 32, ..FakeConfig::default() };
        let engine = FakeEngine::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), config).await?;
        engine_addr.send(engine.addr())?;
        until.cancelled().await;
        Ok(())
    });
    let stop = shutdown.clone();
    let proxy = thread(async move {
        let listener =
            Listener::bind(ListenConfig::insecure_loopback(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await?;
        proxy_addr.send(listener.local_addr())?;
        let connection = listener.accept().await?.handshake().await?;
        let served = play_proxy(connection, requests, concurrency, streamed).await;
        stop.cancel();
        served
    });
    let url = format!("http://{}", addr_of_engine.recv()?);
    let dialer: Arc<dyn Dialer> = Arc::new(TcpDialer::new(DialConfig::insecure_loopback(addr_of_proxy.recv()?)));
    let engine_adapter = OpenAiHttp::new(&OpenAiHttpConfig { url, ..OpenAiHttpConfig::default() })?;
    let clock: Arc<dyn Clock> = Arc::new(FixedClock::at(UnixTime::from_secs_f64(0.0)));
    let config = WorkerConfig { model: Some("fake".to_owned()), max_active_requests: 256, ..WorkerConfig::default() };
    let worker = Worker::new(config, clock, Arc::new(engine_adapter), vec![dialer])?;
    let before = thread_cpu()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(worker.run(shutdown));
    let cpu = thread_cpu()?.saturating_sub(before);
    for other in [engine, proxy] {
        other.join().map_err(|_| "a thread panicked")??;
    }
    Ok(cpu)
}

fn thread<F>(work: F) -> std::thread::JoinHandle<Result<(), Failure>>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    std::thread::spawn(move || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

async fn play_proxy(
    mut connection: Connection,
    requests: u32,
    concurrency: u32,
    streamed: bool,
) -> Result<(), Failure> {
    let outbox = connection.outbox();
    let query = query(streamed)?;
    let (mut sent, mut done) = (0, 0);
    let began = Instant::now();
    while done < requests {
        let mut ready = false;
        match connection.next().await? {
            Event::Query(question) => {
                let asked = WorkerQuery::decode(question.data)?;
                ready = asked == WorkerQuery::HandshakeComplete { is_disabled: false };
                outbox.answer(question.id, answer(&asked)?.encode())?;
            }
            Event::Message(data) => {
                let message = WorkerMessage::decode(Version::Extended, data)?;
                ready = message == WorkerMessage::EnabledDisabled { disabled: false };
                if let WorkerMessage::Answer(Answer::Failed { failure, .. }) = message {
                    return Err(failure.into());
                }
                done += u32::from(is_last(&message));
            }
            _ => {}
        }
        if ready {
            outbox.enable_extended();
            sent = concurrency;
            (1..=sent).try_for_each(|n| outbox.send(run(&query, n)))?;
        }
        while sent < requests && sent < done + concurrency && sent > 0 {
            sent += 1;
            outbox.send(run(&query, sent))?;
        }
    }
    let rate = f64::from(requests) / began.elapsed().as_secs_f64();
    writeln!(std::io::stdout().lock(), "{rate:>9.0} requests a second")?;
    Ok(())
}

fn is_last(message: &WorkerMessage) -> bool {
    matches!(message, WorkerMessage::Answer(answer) if answer.is_last())
}

fn answer(query: &WorkerQuery) -> Result<WorkerAnswer, Failure> {
    Ok(match query {
        WorkerQuery::Connect(_) => WorkerAnswer::Connected {
            params: ProxyParams {
                public_key: [0; 32],
                owner_address: String::new(),
                sc_address: String::new(),
                is_test: true,
                proto_version: Some(Version::Extended.number()),
            },
            worker_sc_address: String::new(),
        },
        WorkerQuery::CompareBalance { .. } => WorkerAnswer::CompareBalance(CompareBalance {
            signed_payment: SignedPayment::Empty,
            tokens_committed_to_db: AdjustedTokens::ZERO,
            max_tokens: AdjustedTokens::ZERO,
            error_code: 0,
        }),
        WorkerQuery::HandshakeComplete { .. } => WorkerAnswer::HandshakeCompleted,
        WorkerQuery::ExtendedCompareBalance { .. } | WorkerQuery::UpdatePaymentStatus => {
            return Err("unexpected query".into());
        }
    })
}

fn query(streamed: bool) -> Result<Sealed, Failure> {
    let tail = if streamed { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
    let body = format!(
        r#"{{"model":"fake","messages":[{{"role":"user","content":"What is the capital of France?"}}],"max_tokens":64{tail}}}"#
    );
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    let (method, url) = ("POST".to_owned(), "/v1/chat/completions".to_owned());
    Ok(HttpRequest { method, url, headers, payload: Bytes::from(body) }.encode()?)
}

fn run(query: &Sealed, n: u32) -> cocoon_wire::Encoded {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&n.to_le_bytes());
    ProxyToWorker::Run(WorkerRun {
        request_id: RequestId::new(id),
        query: query.clone(),
        signed_payment: SignedPayment::Empty,
        coefficient: Coefficient::ONE,
        timeout_ms: 60_000,
        enable_debug: false,
        token_limit: Some(64),
        answer_credit: Some(1 << 20),
        receipt: None,
        account_tag: None,
    })
    .encode(Version::Extended)
}

/// CPU time of the calling thread: the first number of its `schedstat`, in nanoseconds.
fn thread_cpu() -> Result<Duration, Failure> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}
