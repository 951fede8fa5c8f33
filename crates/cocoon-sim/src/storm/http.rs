//! One request over HTTP/1.0, whose answer ends with the connection. Blocking, bounded by a timeout.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may stall: processes are killed here, and sockets may hang.
const STALL: Duration = Duration::from_secs(20);

/// What was answered.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Headers, in lower case.
    pub(super) head: String,
    pub(super) body: String,
}

impl Reply {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Asks; `request` is a method and a path.
pub(super) fn ask(addr: SocketAddr, request: &str, body: &str) -> io::Result<Reply> {
    let mut stream = send(addr, request, body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// Asks, reads so many bytes of the answer, and hangs up.
pub(super) fn ask_and_hang_up(addr: SocketAddr, request: &str, body: &str, bytes: usize) -> io::Result<()> {
    let mut stream = send(addr, request, body)?;
    let mut piece = vec![0; bytes];
    stream.read_exact(&mut piece)
}

fn send(addr: SocketAddr, request: &str, body: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&addr, STALL)?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    let headers = format!("host: {addr}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    write!(stream, "{request} HTTP/1.0\r\n{headers}\r\n\r\n{body}")?;
    Ok(stream)
}
