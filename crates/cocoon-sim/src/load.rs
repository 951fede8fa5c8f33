//! A closed-loop load generator: a fixed number of keep-alive connections, each sending its next
//! request when the answer to the last is complete.
//!
//! It is not a general HTTP client: it sends one prebuilt request and reads only as much of the
//! answers as it needs to know where they end, so that it costs little beside what it measures.
//! Streamed answers may carry stamps (see [`FakeConfig::stamp`](crate::FakeConfig)): the delay
//! of an event is its arrival less its stamp, both by this machine's clock.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BytesMut};
use memchr::memmem;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::limits::{HEAD_BYTES_MAX, READ_BYTES};

/// What to send and for how long.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// The server.
    pub addr: SocketAddr,
    /// `model` of the request.
    pub model: String,
    /// Connections, each with one request in flight.
    pub concurrency: usize,
    /// How long requests are started.
    pub duration: Duration,
    /// Whether answers are streamed.
    pub stream: bool,
    /// Characters of the prompt.
    pub prompt_len: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LoadReport {
    /// Answers with status 200 that ended properly.
    pub completed: u64,
    /// Anything else.
    pub failed: u64,
    /// From the first request to the last answer, in seconds.
    pub seconds: f64,
    /// Median time from request to complete answer, in microseconds.
    pub latency_p50_us: f64,
    /// 99th percentile of the same.
    pub latency_p99_us: f64,
    /// Stamped events seen.
    pub events: u64,
    /// Median delay of a stamped event, in microseconds.
    pub event_p50_us: f64,
    /// 99th percentile of the same.
    pub event_p99_us: f64,
}

/// Runs the load to its end.
///
/// # Errors
/// When no connection can be opened; a failure after that is counted.
pub async fn load(config: &LoadConfig) -> io::Result<LoadReport> {
    let prompt = "x".repeat(config.prompt_len);
    let request = chat_request(config.addr, &config.model, &prompt, 64, config.stream);
    let start = Instant::now();
    let until = start + config.duration;
    let mut connections = JoinSet::new();
    for _ in 0..config.concurrency {
        let stream = TcpStream::connect(config.addr).await?;
        stream.set_nodelay(true)?;
        connections.spawn(one_connection(stream, request.clone(), until));
    }
    let mut samples = Samples::default();
    while let Some(joined) = connections.join_next().await {
        samples.add(joined.unwrap_or_default());
    }
    Ok(samples.report(start.elapsed()))
}

/// One chat request as it goes over the wire.
pub(crate) fn chat_request(addr: SocketAddr, model: &str, prompt: &str, max_tokens: u32, stream: bool) -> Vec<u8> {
    let body = serde_json::json!({
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": stream,
    })
    .to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[derive(Debug, Default)]
struct Samples {
    failed: u64,
    latencies_us: Vec<f64>,
    event_delays_us: Vec<f64>,
}

impl Samples {
    fn add(&mut self, other: Self) {
        self.failed += other.failed;
        self.latencies_us.extend(other.latencies_us);
        self.event_delays_us.extend(other.event_delays_us);
    }

    fn report(mut self, elapsed: Duration) -> LoadReport {
        LoadReport {
            completed: self.latencies_us.len() as u64,
            failed: self.failed,
            seconds: elapsed.as_secs_f64(),
            latency_p50_us: quantile(&mut self.latencies_us, 50),
            latency_p99_us: quantile(&mut self.latencies_us, 99),
            events: self.event_delays_us.len() as u64,
            event_p50_us: quantile(&mut self.event_delays_us, 50),
            event_p99_us: quantile(&mut self.event_delays_us, 99),
        }
    }
}

/// The value below which `percent` of the samples lie; 0 without samples.
pub(crate) fn quantile(samples: &mut [f64], percent: usize) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let index = samples.len().saturating_sub(1) * percent / 100;
    samples.get(index).copied().unwrap_or(0.0)
}

async fn one_connection(mut stream: TcpStream, request: Vec<u8>, until: Instant) -> Samples {
    let mut samples = Samples::default();
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    while Instant::now() < until {
        let start = Instant::now();
        match one_request(&mut stream, &request, &mut buffer, &mut samples.event_delays_us).await {
            Ok(true) => samples.latencies_us.push(start.elapsed().as_secs_f64() * 1e6),
            Ok(false) => samples.failed += 1,
            Err(_) => {
                samples.failed += 1;
                break;
            }
        }
    }
    samples
}

/// Sends one request and reads its answer; whether it was a complete 200.
async fn one_request(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut BytesMut,
    delays: &mut Vec<f64>,
) -> io::Result<bool> {
    stream.write_all(request).await?;
    let head = read_head(stream, buffer).await?;
    let good = head.starts_with(b"HTTP/1.1 200");
    match header(&head, b"content-length").and_then(|value| value.parse::<usize>().ok()) {
        Some(length) => {
            while buffer.len() < length {
                fill(stream, buffer).await?;
            }
            buffer.advance(length);
        }
        None => read_chunks(stream, buffer, delays).await?,
    }
    Ok(good)
}

async fn fill(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<()> {
    buffer.reserve(READ_BYTES);
    if stream.read_buf(buffer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// The head of an answer, its blank line included.
pub(crate) async fn read_head(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<BytesMut> {
    loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            return Ok(buffer.split_to(end + 4));
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        fill(stream, buffer).await?;
    }
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut BytesMut, delays: &mut Vec<f64>) -> io::Result<()> {
    while let Some(chunk) = read_chunk(stream, buffer).await? {
        let arrived = unix_micros();
        delays.extend(stamps(&chunk).map(|stamp| arrived - stamp));
    }
    Ok(())
}

/// The next chunk of a body; none at its end.
pub(crate) async fn read_chunk(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let line = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n") {
            break buffer.split_to(end + 2);
        }
        fill(stream, buffer).await?;
    };
    let length = std::str::from_utf8(&line).ok().and_then(|line| usize::from_str_radix(line.trim(), 16).ok());
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    while buffer.len() < length + 2 {
        fill(stream, buffer).await?;
    }
    let chunk = buffer.split_to(length + 2);
    Ok((length > 0).then_some(chunk))
}

/// The stamps in a chunk: each event's content starts with `T` and 16 digits of Unix microseconds; zero means unstamped.
pub(crate) fn stamps(chunk: &[u8]) -> impl Iterator<Item = f64> {
    memmem::find_iter(chunk, b"\"content\":\"T")
        .filter_map(|at| std::str::from_utf8(chunk.get(at + 12..at + 28)?).ok()?.parse().ok())
        .filter(|&stamp| stamp > 0.0)
}

/// Now, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "two processes of one benchmark compare their clocks")]
pub(crate) fn unix_micros() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e6
}

fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a str> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let (key, value) = line.split_at(memchr::memchr(b':', line)?);
        key.eq_ignore_ascii_case(name).then(|| std::str::from_utf8(value.get(1..)?).ok().map(str::trim))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_headers_and_stamps() {
        assert_eq!(header(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", b"content-length"), Some("12"));
        let chunk = br#"data: {"delta":{"content":"T1795335277627432xxx"}}"#;
        assert_eq!(stamps(chunk).collect::<Vec<_>>(), [1_795_335_277_627_432.0]);
    }

    #[test]
    fn quantiles_are_of_the_sorted_samples() {
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 50), 2.0);
        assert_eq!(quantile(&mut [], 99), 0.0);
    }
}
