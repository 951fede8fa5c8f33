//! Accepts TCP streams, on loopback only, up to a number of connections.
//!
//! There is no attestation yet: whoever connects could read what a role sends it. So a listener refuses to open on any
//! address that another machine could reach. [`ListenMode::InsecureBehindRouter`] exists for interoperability tests
//! with original nodes and believes what it is told.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_wire::limits::POW_DIFFICULTY_BITS_MAX;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::error::{AcceptError, BindError};
use crate::limits::{ACCEPT_RETRY, CONNECTIONS_MAX};
use crate::peer::Peer;
use crate::pending::{Gate, Pending};
use crate::stream::Stream;

/// What comes before the packets on an accepted stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenMode {
    /// A proof-of-work challenge, then packets in plain.
    Loopback,
    /// The record of an original TLS router about the peer, unverified, then packets. No proof of work: the router
    /// asked for it.
    InsecureBehindRouter,
}

/// Bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct ListenLimits {
    /// Connections held at once, handshakes included; more are closed at once.
    pub connections_max: usize,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self { connections_max: CONNECTIONS_MAX }
    }
}

/// What to listen on and how.
#[derive(Debug, Clone, Copy)]
pub struct ListenConfig {
    /// The address; port 0 takes a free one.
    pub addr: SocketAddr,
    /// What comes before the packets.
    pub mode: ListenMode,
    /// Difficulty of the proof of work. 0, the default on loopback, still sends the challenge that dialers wait for;
    /// an original listener asks for 20.
    pub pow_difficulty_bits: i32,
    /// Bounds.
    pub limits: ListenLimits,
}

impl ListenConfig {
    /// Plain packets on loopback, without work.
    #[must_use]
    pub fn loopback(addr: SocketAddr) -> Self {
        Self { addr, mode: ListenMode::Loopback, pow_difficulty_bits: 0, limits: ListenLimits::default() }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    config: ListenConfig,
    addr: SocketAddr,
    places: Arc<Semaphore>,
}

impl Listener {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the address is not loopback, when no dialer would do the work, or when the system refuses.
    pub async fn bind(config: ListenConfig) -> Result<Self, BindError> {
        let addr = config.addr;
        if !addr.ip().is_loopback() {
            return Err(BindError::NotLoopback { addr });
        }
        let (bits, max) = (config.pow_difficulty_bits, POW_DIFFICULTY_BITS_MAX);
        if !(0..=max).contains(&bits) {
            return Err(BindError::TooMuchWork { bits, max });
        }
        let fail = |source| BindError::Io { addr, source };
        let socket = TcpListener::bind(addr).await.map_err(fail)?;
        let addr = socket.local_addr().map_err(fail)?;
        let places = Arc::new(Semaphore::new(config.limits.connections_max));
        Ok(Self { socket, config, addr, places })
    }

    /// The address with the port that was taken.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next stream. Cancel-safe. Streams above the limit are closed at once: their dialers come back later, and
    /// waiting would only hide from them that this node is full.
    ///
    /// # Errors
    /// When the socket is beyond use; passing shortages are waited out.
    pub async fn accept(&self) -> Result<Pending, AcceptError> {
        loop {
            match self.socket.accept().await {
                Ok((stream, addr)) => {
                    if let Some(pending) = self.admit(stream, addr) {
                        return Ok(pending);
                    }
                }
                Err(error) => match verdict(&error) {
                    Verdict::ThatStreamOnly => {}
                    Verdict::Shortage => {
                        tracing::warn!(%error, "cannot accept for now");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                    Verdict::Fatal => return Err(AcceptError::Io(error)),
                },
            }
        }
    }

    fn admit(&self, stream: TcpStream, addr: SocketAddr) -> Option<Pending> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::debug!("closed a stream: the listener is full");
            return None;
        };
        // A stream that cannot have its delay switched off is gone already; the handshake will find out.
        let _ = stream.set_nodelay(true);
        let gate = match self.config.mode {
            ListenMode::Loopback => {
                let difficulty_bits = self.config.pow_difficulty_bits;
                Gate::Work { difficulty_bits, peer: Peer::LoopbackPlain { addr } }
            }
            ListenMode::InsecureBehindRouter => Gate::InsecureRouterRecord,
        };
        Some(Pending::new(Stream::Tcp(stream), gate, Some(place)))
    }
}

enum Verdict {
    ThatStreamOnly,
    Shortage,
    Fatal,
}

/// What a failed `accept` means: `accept(2)` reports errors of the new stream, and shortages, as its own.
fn verdict(error: &io::Error) -> Verdict {
    use io::ErrorKind as Kind;

    if matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted) {
        return Verdict::ThatStreamOnly;
    }
    if matches!(error.kind(), Kind::InvalidInput | Kind::NotConnected | Kind::Unsupported) {
        return Verdict::Fatal;
    }
    // Descriptors and memory come back; whatever else this is, a pause keeps it from spinning.
    Verdict::Shortage
}
