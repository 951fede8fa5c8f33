//! The HTTP envelope inside `query` and the first `answer`: TL `http.request` and `http.response`.
//!
//! It is parsed into values that cannot smuggle: names are tokens, values hold no line break or
//! NUL, `Transfer-Encoding` is gone (the envelope has its own length).
//! It is not an HTTP implementation.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::bare::Bare;
use crate::limits::{HTTP_HEAD_MAX, HTTP_HEADERS_MAX, HTTP_REASON_MAX, HTTP_URL_MAX};
use crate::writer::Writer;
use crate::{DecodeError, Sealed, tl};

/// A request as it travels.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET` or `POST`, as sent.
    pub method: String,
    /// Path and query.
    pub url: String,
    /// In order, duplicates kept.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: Bytes,
}

/// A response as it travels.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// 100 to 599.
    pub status: u16,
    /// The words after the status.
    pub reason: String,
    /// In order, duplicates kept.
    pub headers: Vec<(String, String)>,
    /// The first bytes of the body; often none.
    pub payload: Bytes,
}

/// An envelope that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Not the TL it should be; the peer is to blame.
    #[error("http envelope: {0}")]
    Decode(#[from] DecodeError),
    /// A header name or value that could be read as two headers or as none.
    #[error("http envelope: header {index} is not a valid header")]
    BadHeader {
        /// Which header, from 0.
        index: usize,
    },
    /// Something beyond its limit or range.
    #[error("http envelope: bad {0}")]
    Bad(&'static str),
}

impl HttpRequest {
    /// Reads a boxed `http.request`; the payload is a slice of `data`.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]; the sender is to blame.
    pub fn decode(data: &Sealed) -> Result<Self, HttpError> {
        let request = tl::HttpRequest::decode(data.expose().clone())?;
        check_http_version(&request.http_version)?;
        let request = Self {
            method: request.method,
            url: request.url,
            headers: headers_in(request.headers),
            payload: request.payload,
        };
        request.check()?;
        Ok(request)
    }

    /// Writes a boxed `http.request`; `Transfer-Encoding` is left out.
    ///
    /// # Errors
    ///
    /// When what is written would be refused by [`HttpRequest::decode`].
    pub fn encode(&self) -> Result<Sealed, HttpError> {
        self.check()?;
        let mut writer = envelope_writer(&self.headers, &self.payload);
        writer.u32(tl::HttpRequest::ID);
        writer.string(&self.method);
        writer.string(&self.url);
        writer.string(HTTP_VERSION);
        write_headers(&mut writer, &self.headers);
        writer.bytes_inline(&self.payload);
        Ok(writer.finish().to_bytes().into())
    }

    /// The first header of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }
}

impl HttpResponse {
    /// Reads a boxed `http.response`; the payload is a slice of `data`.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]; the sender is to blame.
    pub fn decode(data: &Sealed) -> Result<Self, HttpError> {
        let response = tl::HttpResponse::decode(data.expose().clone())?;
        check_http_version(&response.http_version)?;
        let response = Self {
            status: u16::try_from(response.status_code).map_err(|_| HttpError::Bad("status"))?,
            reason: response.reason,
            headers: headers_in(response.headers),
            payload: response.payload,
        };
        response.check()?;
        Ok(response)
    }

    /// Writes a boxed `http.response`; `Transfer-Encoding` is left out.
    ///
    /// # Errors
    ///
    /// When what is written would be refused by [`HttpResponse::decode`].
    pub fn encode(&self) -> Result<Sealed, HttpError> {
        self.check()?;
        let mut writer = envelope_writer(&self.headers, &self.payload);
        writer.u32(tl::HttpResponse::ID);
        writer.string(HTTP_VERSION);
        writer.int(i32::from(self.status));
        writer.string(&self.reason);
        write_headers(&mut writer, &self.headers);
        writer.bytes_inline(&self.payload);
        Ok(writer.finish().to_bytes().into())
    }

    /// The first header of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }
}

impl HttpRequest {
    fn check(&self) -> Result<(), HttpError> {
        if self.method.is_empty() || !self.method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(HttpError::Bad("method"));
        }
        if self.url.len() > HTTP_URL_MAX || !self.url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HttpError::Bad("url"));
        }
        check_headers(&self.headers)
    }
}

impl HttpResponse {
    fn check(&self) -> Result<(), HttpError> {
        if !(100..600).contains(&self.status) {
            return Err(HttpError::Bad("status"));
        }
        if self.reason.len() > HTTP_REASON_MAX || !is_header_value(&self.reason) {
            return Err(HttpError::Bad("reason"));
        }
        check_headers(&self.headers)
    }
}

/// The only version that is written; any of HTTP's is read, and means nothing here.
const HTTP_VERSION: &str = "HTTP/1.1";

fn check_http_version(version: &str) -> Result<(), HttpError> {
    match version {
        "HTTP/1.0" | "HTTP/1.1" | "HTTP/2" | "HTTP/2.0" => Ok(()),
        _ => Err(HttpError::Bad("version")),
    }
}

fn check_headers(headers: &[(String, String)]) -> Result<(), HttpError> {
    if headers.len() > HTTP_HEADERS_MAX {
        return Err(HttpError::Bad("number of headers"));
    }
    if headers_len(headers) > HTTP_HEAD_MAX {
        return Err(HttpError::Bad("size of headers"));
    }
    let bad = headers.iter().position(|(name, value)| !is_token(name) || !is_header_value(value));
    match bad {
        Some(index) => Err(HttpError::BadHeader { index }),
        None => Ok(()),
    }
}

fn headers_len(headers: &[(String, String)]) -> usize {
    headers.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum()
}

/// A header's name: `token` of RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || MARKS.contains(&b))
}

/// No line break, NUL or other control character but the tab.
fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

fn is_transfer_encoding(name: &str) -> bool {
    name.eq_ignore_ascii_case("transfer-encoding")
}

fn headers_in(headers: Vec<tl::HttpHeader>) -> Vec<(String, String)> {
    headers
        .into_iter()
        .filter(|header| !is_transfer_encoding(&header.name))
        .map(|header| (header.name, header.value))
        .collect()
}

fn write_headers(writer: &mut Writer, headers: &[(String, String)]) {
    let kept = || headers.iter().filter(|(name, _)| !is_transfer_encoding(name));
    // At most `HTTP_HEADERS_MAX`, as checked before.
    writer.u32(u32::try_from(kept().count()).unwrap_or(u32::MAX));
    for (name, value) in kept() {
        writer.string(name);
        writer.string(value);
    }
}

fn envelope_writer(headers: &[(String, String)], payload: &Bytes) -> Writer {
    let lengths = headers.len().saturating_mul(8);
    let capacity = headers_len(headers).saturating_add(payload.len()).saturating_add(lengths);
    Writer::with_capacity(capacity.saturating_add(128))
}

/// Whether a header concerns one hop only and must not be passed on (RFC 9110, section 7.6.1).
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn find_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Shows method, path and sizes; never a body or a header's value.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Shows status and sizes; never a body or a header's value.
impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> HttpRequest {
        HttpRequest {
            method: "POST".to_owned(),
            url: "/v1/chat/completions?x=1".to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            payload: Bytes::from_static(b"{}"),
        }
    }

    fn response() -> HttpResponse {
        HttpResponse {
            status: 200,
            reason: "OK".to_owned(),
            headers: vec![("content-type".to_owned(), "text/event-stream".to_owned())],
            payload: Bytes::from(vec![b'x'; 10_000]),
        }
    }

    #[test]
    fn envelopes_round_trip() {
        assert_eq!(HttpRequest::decode(&request().encode().unwrap()), Ok(request()));
        assert_eq!(HttpResponse::decode(&response().encode().unwrap()), Ok(response()));
    }

    #[test]
    fn payload_is_a_slice_of_the_envelope() {
        let sealed = response().encode().unwrap();
        let payload = HttpResponse::decode(&sealed).unwrap().payload;
        assert!(sealed.expose().as_ptr_range().contains(&payload.as_ptr()));
    }

    #[test]
    fn wrong_nesting() {
        let response = response().encode().unwrap();
        let refused = HttpError::Decode(DecodeError::UnknownConstructor(0x1cd0_c42b));
        assert_eq!(HttpRequest::decode(&response), Err(refused));
    }

    #[test]
    fn transfer_encoding_is_stripped_both_ways() {
        let mut smuggler = request();
        smuggler.headers.push(("tRANSFER-eNCODING".to_owned(), "chunked".to_owned()));
        let sealed = smuggler.encode().unwrap();
        assert_eq!(HttpRequest::decode(&sealed), Ok(request()));
        let headers = smuggler.headers.into_iter();
        let raw = tl::HttpRequest {
            method: "POST".to_owned(),
            url: request().url,
            http_version: "HTTP/1.1".to_owned(),
            headers: headers.map(|(name, value)| tl::HttpHeader { name, value }).collect(),
            payload: request().payload,
        };
        assert_eq!(HttpRequest::decode(&raw.encode().to_bytes().into()), Ok(request()));
    }

    #[test]
    fn header_smuggling() {
        for (name, value) in [
            ("X-A", "1\r\nX-Evil: 2"),
            ("X-A", "1\nX-Evil: 2"),
            ("X-A", "nul\0"),
            ("X-A\r\nX-Evil", "1"),
            ("X A", "1"),
            ("X-A:", "1"),
            ("", "1"),
            ("X-\u{e4}", "1"),
        ] {
            let mut smuggler = request();
            smuggler.headers.push((name.to_owned(), value.to_owned()));
            assert_eq!(smuggler.encode(), Err(HttpError::BadHeader { index: 1 }), "{name:?}");
        }
        let bad = |change: &dyn Fn(&mut HttpRequest)| {
            let mut smuggler = request();
            change(&mut smuggler);
            smuggler.encode().unwrap_err()
        };
        assert_eq!(bad(&|r| r.url = "/a b".to_owned()), HttpError::Bad("url"));
        assert_eq!(bad(&|r| r.url = "/a\r\nHost: x".to_owned()), HttpError::Bad("url"));
        assert_eq!(bad(&|r| r.method = "GET /evil".to_owned()), HttpError::Bad("method"));
    }

    #[test]
    fn header_flood() {
        let mut flood = request();
        flood.headers = vec![("a".to_owned(), "b".to_owned()); HTTP_HEADERS_MAX + 1];
        assert_eq!(flood.encode(), Err(HttpError::Bad("number of headers")));
        flood.headers = vec![("a".to_owned(), "b".repeat(HTTP_HEAD_MAX))];
        assert_eq!(flood.encode(), Err(HttpError::Bad("size of headers")));
    }

    #[test]
    fn debug_shows_no_payload() {
        let text = format!("{:?} {:?}", request(), response());
        assert!(!text.contains("{}") && !text.contains("xxx"), "{text}");
    }
}
