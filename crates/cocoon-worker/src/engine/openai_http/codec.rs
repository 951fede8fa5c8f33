//! HTTP/1.1 as engines speak it (RFC 9112): the head of an answer, and how far its body goes. Pure: bytes in, pieces out.
//!
//! What it is not: a general parser. Only what decides how an answer is passed on is read of a head. Where a lenient reading
//! would let one answer run into the next (two lengths, a coding that was not asked for, a line end without CR), the answer
//! is broken.

use bytes::{Buf, Bytes};
use http::{HeaderValue, StatusCode};

use crate::limits::{ENGINE_EXTENSION_BYTES_MAX, ENGINE_HEADERS_MAX, ENGINE_TRAILER_BYTES_MAX};

/// The engine does not speak HTTP as it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("its answer has {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// What is read of an answer's head.
#[derive(Debug, PartialEq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) content_encoding: Option<HeaderValue>,
    pub(super) framing: Framing,
    /// Whether the connection can carry another request once the body was read.
    pub(super) is_lasting: bool,
}

/// Reads a head if it is complete, and says how long it is. Interim answers (1xx) have no body and are followed by another.
pub(super) fn read_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; ENGINE_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|_| Malformed("a head that is no HTTP"))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed("a status that is none"))?;
    let mut reading = Reading::new(response.version == Some(1));
    for header in response.headers.iter() {
        reading.header(header.name, header.value)?;
    }
    reading.head(status).map(|head| Some((length, head)))
}

/// A head while its headers are looked at.
struct Reading {
    content_type: Option<HeaderValue>,
    content_encoding: Option<HeaderValue>,
    length: Option<u64>,
    is_chunked: bool,
    is_lasting: bool,
}

impl Reading {
    const fn new(is_lasting: bool) -> Self {
        Self { content_type: None, content_encoding: None, length: None, is_chunked: false, is_lasting }
    }

    fn header(&mut self, name: &str, value: &[u8]) -> Result<(), Malformed> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let opaque = || HeaderValue::from_bytes(value).map_err(|_| Malformed("a header that is none"));
        if is("content-type") {
            self.content_type = Some(opaque()?);
        } else if is("content-encoding") {
            self.content_encoding = Some(opaque()?);
        } else if is("content-length") {
            let length = number(value).ok_or(Malformed("a length that is no number"))?;
            if self.length.replace(length).is_some_and(|other| other != length) {
                return Err(Malformed("two lengths"));
            }
        } else if is("transfer-encoding") {
            if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") || self.is_chunked {
                return Err(Malformed("a transfer coding that was not asked for"));
            }
            self.is_chunked = true;
        } else if is("connection") {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    self.is_lasting = false;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    self.is_lasting = true;
                }
            }
        }
        Ok(())
    }

    fn head(self, status: StatusCode) -> Result<Head, Malformed> {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Malformed("another protocol"));
        }
        let is_bare = status.is_informational() || matches!(status.as_u16(), 204 | 304);
        let (framing, is_lasting) = match (is_bare, self.is_chunked, self.length) {
            (true, _, _) => (Framing::Length(0), self.is_lasting),
            // With a length beside it nobody knows which one the next answer follows.
            (false, true, length) => (Framing::Chunked(Chunks::START), self.is_lasting && length.is_none()),
            (false, false, Some(length)) => (Framing::Length(length), self.is_lasting),
            (false, false, None) => (Framing::UntilClose, false),
        };
        let Self { content_type, content_encoding, .. } = self;
        Ok(Head { status, content_type, content_encoding, framing, is_lasting })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = digits.trim_ascii();
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if all { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// What is still to come of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, each with its length.
    Chunked(Chunks),
    /// Everything until the connection is closed.
    UntilClose,
}

impl Framing {
    /// Whether the body has ended.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks::End))
    }

    /// Whether the close of the connection ends the body.
    pub(super) const fn ends_by_close(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// The next bytes of the body that are in `input`, and what frames them taken out; none when more must come, or nothing.
    pub(super) fn take(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, Malformed> {
        match self {
            Self::Length(left) => Ok(up_to(left, input)),
            Self::UntilClose => Ok(Some(std::mem::take(input)).filter(|all| !all.is_empty())),
            Self::Chunked(chunks) => {
                chunks.skip(input)?;
                let Chunks::Data { left } = chunks else { return Ok(None) };
                let piece = up_to(left, input);
                if *left == 0 {
                    *chunks = Chunks::DataCr;
                    // Mostly the end of the body came with its last bytes, and is known with them.
                    chunks.skip(input)?;
                }
                Ok(piece)
            }
        }
    }
}

fn up_to(left: &mut u64, input: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= length as u64;
    (length > 0).then(|| input.split_to(length))
}

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the digits of a chunk's length.
    Size { value: u64, digits: u8 },
    /// In what may follow them, which nobody uses.
    Extension { value: u64, skipped: usize },
    /// Before the LF after them.
    SizeLf { value: u64 },
    /// In a chunk.
    Data { left: u64 },
    /// Behind it.
    DataCr,
    /// Before the LF there.
    DataLf,
    /// In the headers behind the last chunk, which do not travel on.
    Trailer { line: usize, skipped: usize },
    /// Behind everything.
    End,
}

impl Chunks {
    const START: Self = Self::Size { value: 0, digits: 0 };

    /// Takes out what frames chunks, up to data or the end.
    fn skip(&mut self, input: &mut Bytes) -> Result<(), Malformed> {
        while !matches!(self, Self::Data { .. } | Self::End)
            && let Some(&byte) = input.first()
        {
            input.advance(1);
            *self = self.after(byte)?;
        }
        Ok(())
    }

    fn after(self, byte: u8) -> Result<Self, Malformed> {
        let malformed = Malformed("a chunk that is none");
        Ok(match (self, byte) {
            (Self::Size { value, digits: digits @ 1.. }, b'\r') if digits > 0 => Self::SizeLf { value },
            (Self::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => Self::Extension { value, skipped: 0 },
            (Self::Size { value, digits: digits @ 0..15 }, byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(malformed)?;
                Self::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Extension { value, .. }, b'\r') => Self::SizeLf { value },
            (Self::Extension { value, skipped }, _) if skipped < ENGINE_EXTENSION_BYTES_MAX => {
                Self::Extension { value, skipped: skipped + 1 }
            }
            (Self::SizeLf { value: 0 }, b'\n') => Self::Trailer { line: 0, skipped: 0 },
            (Self::SizeLf { value }, b'\n') => Self::Data { left: value },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::START,
            (Self::Trailer { line: 0, .. }, b'\n') => Self::End,
            (Self::Trailer { skipped, .. }, b'\n') => Self::Trailer { line: 0, skipped },
            (Self::Trailer { .. }, b'\r') => self,
            (Self::Trailer { line, skipped }, _) if skipped < ENGINE_TRAILER_BYTES_MAX => {
                Self::Trailer { line: line + 1, skipped: skipped + 1 }
            }
            _ => return Err(malformed),
        })
    }
}

#[cfg(test)]
mod tests;
