//! Which HTTP a connection speaks, by its first bytes: those of HTTP/2 are fixed (RFC 9113, section 3.4).
//!
//! `hyper-util` can tell, too, but reads no further than it must. The rest of the request then comes in a second read, for
//! which the server's buffer grows to twice its size and stays so for as long as the answer takes.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::FIRST_READ_BYTES;

/// What every HTTP/2 connection begins with.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Reads until the version is known, and gives back a stream that begins with what was read.
pub(super) async fn read<Io: AsyncRead + Unpin>(mut io: Io) -> io::Result<(Version, Rewound<Io>)> {
    let mut first = BytesMut::new();
    loop {
        let piece = poll_fn(|cx| poll_piece(&mut io, cx)).await?;
        let is_over = piece.is_empty();
        first.extend_from_slice(&piece);
        if first.starts_with(HTTP2) {
            return Ok((Version::Http2, Rewound { first: first.freeze(), io }));
        }
        // A part of it may still become it.
        if is_over || !HTTP2.starts_with(&first) {
            return Ok((Version::Http1, Rewound { first: first.freeze(), io }));
        }
    }
}

/// The buffer is on the stack, so that a connection that waits has none.
fn poll_piece<Io: AsyncRead + Unpin>(io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut room = [MaybeUninit::uninit(); FIRST_READ_BYTES];
    let mut room = ReadBuf::uninit(&mut room);
    ready!(Pin::new(io).poll_read(cx, &mut room))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(room.filled())))
}

/// A stream of which some was read before.
#[derive(Debug)]
pub(super) struct Rewound<Io> {
    first: Bytes,
    io: Io,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Rewound<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(self.first.get(..length).unwrap_or_default());
        self.first.advance(length);
        if self.first.is_empty() {
            // Its memory goes with it.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Rewound<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The version by these writes, and everything that can be read afterwards.
    async fn told(pieces: &[&[u8]]) -> (Version, Vec<u8>) {
        let (mut app, io) = tokio::io::duplex(64);
        let write = async {
            for piece in pieces {
                app.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(app);
        };
        let (read, ()) = tokio::join!(read(io), write);
        let (version, mut rewound) = read.unwrap();
        let mut all = Vec::new();
        rewound.read_to_end(&mut all).await.unwrap();
        (version, all)
    }

    #[tokio::test]
    async fn versions_are_told_apart_and_no_byte_is_lost() {
        let http1 = b"POST /v1/models HTTP/1.1\r\n\r\n";
        assert_eq!(told(&[http1]).await, (Version::Http1, http1.to_vec()));
        assert_eq!(told(&[b"P", b"UT / HTTP/1.1\r\n"]).await, (Version::Http1, b"PUT / HTTP/1.1\r\n".to_vec()));
        assert_eq!(told(&[HTTP2, b"frames"]).await, (Version::Http2, [HTTP2, b"frames"].concat()));
        for cut in 1..HTTP2.len() {
            let (one, other) = HTTP2.split_at(cut);
            assert_eq!(told(&[one, other]).await, (Version::Http2, HTTP2.to_vec()), "cut at {cut}");
        }
        assert_eq!(told(&[]).await, (Version::Http1, vec![]));
        assert_eq!(told(&[b"PRI * HTTP"]).await, (Version::Http1, b"PRI * HTTP".to_vec()));
    }
}
