//! The cheapest engine there can be, so that a benchmark measures the roles and not it.
//!
//! Each connection is one task with one buffer; a request is found by its `Content-Length`, its
//! body is looked at only for `"stream":true`, and every answer is made once, beforehand.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{BODY_BYTES_MAX, FLOOD_BYTES, HEAD_BYTES_MAX};
use crate::load::unix_micros;

/// Digits of a stamp: Unix microseconds until the year 2286.
const STAMP_DIGITS: usize = 16;

/// A streamed request whose body has this word is answered without a pace, in large events, for as long as they are taken.
pub(crate) const FLOOD_WORD: &str = "fake:flood";

/// Characters of text in an event of such an answer.
const FLOOD_TEXT_LEN: usize = 4096;

/// What a [`FakeEngine`] answers.
#[derive(Debug, Clone, Copy)]
pub struct FakeConfig {
    /// Content events of a streamed answer.
    pub events: u32,
    /// Wait before each event.
    pub pace: Duration,
    /// Characters of text in a plain answer or an event.
    pub text_len: usize,
    /// Whether the text of an event starts with `T` and the time it left, in 16 digits of Unix microseconds.
    pub stamp: bool,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self { events: 32, pace: Duration::ZERO, text_len: 32, stamp: false }
    }
}

/// A running fake engine; it stops when dropped.
#[derive(Debug)]
pub struct FakeEngine {
    addr: SocketAddr,
    stop: CancellationToken,
}

impl FakeEngine {
    /// Binds and serves.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(addr: SocketAddr, config: FakeConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let (tasks, until) = (TaskTracker::new(), stop.clone());
        let answers = Arc::new(Answers::new(config));
        tasks
            .clone()
            .spawn(async move { until.run_until_cancelled(accept(listener, answers, tasks, until.clone())).await });
        Ok(Self { addr, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs until the engine is dropped.
    pub async fn closed(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, answers: Arc<Answers>, tasks: TaskTracker, stop: CancellationToken) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (answers, stop) = (Arc::clone(&answers), stop.clone());
        tasks.spawn(async move { stop.run_until_cancelled(serve(stream, &answers)).await });
    }
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(4 * 1024);
    loop {
        match parse(&buffer) {
            Parsed::Whole { length, kind } => {
                buffer.advance(length);
                answers.write(&mut stream, kind).await?;
            }
            Parsed::Partial => {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            Parsed::TooLarge => return Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Streamed,
    Flood,
    Models,
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Partial,
    Whole { length: usize, kind: Kind },
    TooLarge,
}

fn parse(buffer: &[u8]) -> Parsed {
    let Some(head_end) = memmem::find(buffer, b"\r\n\r\n") else {
        return if buffer.len() > HEAD_BYTES_MAX { Parsed::TooLarge } else { Parsed::Partial };
    };
    let (head, rest) = buffer.split_at(head_end + 4);
    let length = content_length(head);
    if length > BODY_BYTES_MAX {
        return Parsed::TooLarge;
    }
    let Some(body) = rest.get(..length) else {
        return Parsed::Partial;
    };
    let kind = if head.starts_with(b"GET") {
        Kind::Models
    } else if memmem::find(body, b"\"stream\":true").is_none() && memmem::find(body, b"\"stream\": true").is_none() {
        Kind::Plain
    } else if memmem::find(body, FLOOD_WORD.as_bytes()).is_some() {
        Kind::Flood
    } else {
        Kind::Streamed
    };
    Parsed::Whole { length: head.len() + length, kind }
}

fn content_length(head: &[u8]) -> usize {
    head.split(|&b| b == b'\n')
        .filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let (name, value) = line.split_at(colon);
            name.eq_ignore_ascii_case(b"content-length").then_some(value)
        })
        .find_map(|value| std::str::from_utf8(value.get(1..)?).ok()?.trim().parse().ok())
        .unwrap_or(0)
}

#[derive(Debug)]
struct Answers {
    pace: Duration,
    events: u32,
    plain: Bytes,
    models: Bytes,
    stream_head: Bytes,
    event: Bytes,
    flood: Bytes,
    /// Where in `event` the stamp goes, if events are stamped.
    stamp_at: Option<usize>,
    stream_tail: Bytes,
}

impl Answers {
    fn new(config: FakeConfig) -> Self {
        let text = format!("T{}", "0".repeat(config.text_len.max(STAMP_DIGITS)));
        let events = config.events;
        let total = u64::from(events) + 16;
        let usage = format!(r#""usage":{{"prompt_tokens":16,"completion_tokens":{events},"total_tokens":{total}}}"#);
        let common = r#""id":"cmpl-fake","created":1700000000,"model":"fake""#;
        let plain = format!(
            r#"{{{common},"object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],{usage}}}"#
        );
        let chunk = format!(r#"{common},"object":"chat.completion.chunk""#);
        let event = |text: &str| {
            chunked(&format!(
                "data: {{{chunk},\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
            ))
        };
        let (flood, event) = (event(&"f".repeat(FLOOD_TEXT_LEN)), event(&text));
        let tail = format!("data: {{{chunk},\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n");
        Self {
            pace: config.pace,
            stamp_at: memmem::find(&event, text.as_bytes()).filter(|_| config.stamp).map(|at| at + 1),
            events,
            plain: whole(&plain),
            models: whole(
                r#"{"object":"list","data":[{"id":"fake","object":"model","created":1700000000,"owned_by":"sim"}]}"#,
            ),
            stream_head: Bytes::from_static(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            event,
            flood,
            stream_tail: [chunked(&tail), Bytes::from_static(b"0\r\n\r\n")].concat().into(),
        }
    }

    async fn write(&self, stream: &mut TcpStream, kind: Kind) -> io::Result<()> {
        match kind {
            Kind::Plain => stream.write_all(&self.plain).await,
            Kind::Models => stream.write_all(&self.models).await,
            Kind::Streamed => {
                stream.write_all(&self.stream_head).await?;
                for _ in 0..self.events {
                    if !self.pace.is_zero() {
                        tokio::time::sleep(self.pace).await;
                    }
                    match self.stamp_at {
                        Some(at) => stream.write_all(&stamped(&self.event, at)).await?,
                        None => stream.write_all(&self.event).await?,
                    }
                }
                stream.write_all(&self.stream_tail).await
            }
            Kind::Flood => {
                stream.write_all(&self.stream_head).await?;
                for _ in 0..FLOOD_BYTES / FLOOD_TEXT_LEN {
                    stream.write_all(&self.flood).await?;
                }
                stream.write_all(&self.stream_tail).await
            }
        }
    }
}

/// The event with this moment written into it.
fn stamped(event: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = event.to_vec();
    let stamp = format!("{:0STAMP_DIGITS$.0}", unix_micros());
    if let Some(place) = bytes.get_mut(at..at + stamp.len()) {
        place.copy_from_slice(stamp.as_bytes());
    }
    bytes
}

fn whole(body: &str) -> Bytes {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

fn chunked(body: &str) -> Bytes {
    format!("{:x}\r\n{body}\r\n", body.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_a_request_and_its_kind() {
        let request = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 15\r\n\r\n{\"stream\":true}GET";
        assert_eq!(parse(request), Parsed::Whole { length: request.len() - 3, kind: Kind::Streamed });
        assert_eq!(parse(&request[..request.len() - 4]), Parsed::Partial);
        assert_eq!(parse(b"GET /v1/models HTTP/1.1\r\n\r\n"), Parsed::Whole { length: 27, kind: Kind::Models });
    }
}
