//! The little of HTTP/1.1 that a scripted server needs: read one request, write raw answers.
//!
//! It is not a general server: it reads `Content-Length` and chunked bodies, keeps bytes of a
//! pipelined request for the next read, and lets the caller choose every byte and boundary of the
//! answer, which no HTTP library does.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// A connection with its read buffer.
#[derive(Debug)]
pub(crate) struct HttpConnection<S> {
    stream: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> HttpConnection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(16 * 1024) }
    }

    /// Reads the next request; `None` when the peer closed between requests.
    pub(crate) async fn read_request(&mut self) -> io::Result<Option<Request>> {
        let Some(head) = self.read_head().await? else {
            return Ok(None);
        };
        let (method, path, headers) = parse_head(&head)?;
        let body = if header(&headers, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            self.read_chunked().await?
        } else {
            let length = match header(&headers, "content-length") {
                Some(value) => value.parse().map_err(|_| invalid("content-length is not a number"))?,
                None => 0,
            };
            self.read_exactly(length).await?
        };
        Ok(Some(Request { method, path, headers, body }))
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Resolves when the peer has closed its side; bytes that arrive meanwhile are kept.
    pub(crate) async fn hung_up(&mut self) {
        loop {
            if self.buffer.len() > HEAD_BYTES_MAX {
                // The peer pipelines more than it may; only its close is of interest now.
                self.buffer.clear();
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    async fn read_head(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.split_to(end).freeze();
                self.buffer.advance(4);
                return Ok(Some(head));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(invalid("request head is too large"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    async fn read_exactly(&mut self, length: usize) -> io::Result<Bytes> {
        if length > BODY_BYTES_MAX {
            return Err(invalid("request body is too large"));
        }
        self.buffer.reserve(length.saturating_sub(self.buffer.len()));
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn read_chunked(&mut self) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let line = self.read_line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                .map_err(|_| invalid("chunk size is not a number"))?;
            if body.len().saturating_add(size) > BODY_BYTES_MAX {
                return Err(invalid("request body is too large"));
            }
            body.extend_from_slice(&self.read_exactly(size).await?);
            let blank = self.read_line().await?;
            if !blank.is_empty() {
                return Err(invalid("chunk is longer than it says"));
            }
            if size == 0 {
                return Ok(body.freeze());
            }
        }
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(invalid("line is too long"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The first header of that name, in any case.
pub(crate) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

type Head = (String, String, Vec<(String, String)>);

fn parse_head(head: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(head).map_err(|_| invalid("request head is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let mut start = lines.next().unwrap_or_default().splitn(3, ' ');
    let (Some(method), Some(path), Some(_version)) = (start.next(), start.next(), start.next()) else {
        return Err(invalid("request line is malformed"));
    };
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("header has no colon"))?;
            Ok((name.to_owned(), value.trim().to_owned()))
        })
        .collect::<io::Result<_>>()?;
    Ok((method.to_owned(), path.to_owned(), headers))
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Option<Request>> {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(bytes).await.unwrap();
        drop(near);
        HttpConnection::new(far).read_request().await
    }

    #[tokio::test]
    async fn reads_both_body_framings() {
        let plain = read(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nX: y\r\n\r\nabc").await.unwrap().unwrap();
        assert_eq!((plain.method.as_str(), plain.path.as_str(), &plain.body[..]), ("POST", "/a", &b"abc"[..]));
        assert_eq!(header(&plain.headers, "x"), Some("y"));
        let chunked = read(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&chunked.body[..], b"abc");
    }

    #[tokio::test]
    async fn truncated_request_is_an_error_and_a_quiet_close_is_not() {
        assert!(read(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab").await.is_err());
        assert!(read(b"").await.unwrap().is_none());
    }
}
