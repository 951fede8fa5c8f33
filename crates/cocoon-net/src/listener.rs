//! Accepts TCP streams and hands them on as [`Pending`], as many as the [`admission`](crate::admission) rules let in.
//!
//! Without attestation whoever connects could read what a role sends it. So only [`ListenMode::Attested`] opens on an
//! address that another machine can reach. [`ListenMode::InsecureBehindRouter`] exists for interoperability tests with
//! original nodes and believes what it is told.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_wire::limits::POW_DIFFICULTY_BITS_MAX;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::admission::ListenLimits;
use crate::admission::door::Door;
use crate::error::{AcceptError, BindError};
use crate::limits::ACCEPT_RETRY;
use crate::peer::Peer;
use crate::pending::{Gate, Pending};
use crate::ratls::Link;
use crate::stream::Stream;

/// What comes before the packets on an accepted stream.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ListenMode {
    /// A proof-of-work challenge, TLS, attestation, then packets.
    Attested(Arc<Link>),
    /// A proof-of-work challenge, then packets in plain: anyone on this host may read them.
    InsecureLoopback,
    /// The record of an original TLS router about the peer, unverified, then packets. No proof of work: the router
    /// asked for it.
    InsecureBehindRouter,
}

/// What to listen on and how.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// The address; port 0 takes a free one.
    pub addr: SocketAddr,
    /// What comes before the packets.
    pub mode: ListenMode,
    /// The least difficulty of the proof of work, whatever the load. 0, the default, still sends the challenge that
    /// dialers wait for, and asks for work only under load; an original listener always asks for 20.
    pub pow_difficulty_bits: i32,
    /// Bounds.
    pub limits: ListenLimits,
}

impl ListenConfig {
    /// Attested links, on any address.
    #[must_use]
    pub fn attested(addr: SocketAddr, link: Arc<Link>) -> Self {
        Self { addr, mode: ListenMode::Attested(link), pow_difficulty_bits: 0, limits: ListenLimits::default() }
    }

    /// Plain packets on loopback.
    #[must_use]
    pub fn insecure_loopback(addr: SocketAddr) -> Self {
        Self { addr, mode: ListenMode::InsecureLoopback, pow_difficulty_bits: 0, limits: ListenLimits::default() }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    mode: ListenMode,
    addr: SocketAddr,
    door: Door,
}

impl Listener {
    /// Opens the socket.
    ///
    /// # Errors
    /// When another machine could reach the address and links are not attested, when no dialer would do the work, or
    /// when the system refuses.
    pub async fn bind(config: ListenConfig) -> Result<Self, BindError> {
        let ListenConfig { addr, mode, pow_difficulty_bits, limits } = config;
        if !matches!(mode, ListenMode::Attested(_)) && !addr.ip().is_loopback() {
            return Err(BindError::NotLoopback { addr });
        }
        let max = POW_DIFFICULTY_BITS_MAX;
        let asked = [pow_difficulty_bits, limits.pow_difficulty_bits_max];
        if let Some(bits) = asked.into_iter().find(|bits| !(0..=max).contains(bits)) {
            return Err(BindError::TooMuchWork { bits, max });
        }
        let fail = |source| BindError::Io { addr, source };
        let socket = TcpListener::bind(addr).await.map_err(fail)?;
        let addr = socket.local_addr().map_err(fail)?;
        let mut keys = [[0; 32]; 2];
        for key in &mut keys {
            getrandom::fill(key).map_err(|error| fail(io::Error::other(error.to_string())))?;
        }
        let door = Door::new(limits, pow_difficulty_bits, keys, Instant::now().into_std());
        Ok(Self { socket, mode, addr, door })
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
        let admitted = self.door.admit(Instant::now().into_std(), addr);
        let place = admitted.inspect_err(|full| tracing::debug!(?full, "closed a stream")).ok()?;
        // A stream that cannot have its delay switched off is gone already; the handshake will find out.
        let _ = stream.set_nodelay(true);
        let gate = match &self.mode {
            ListenMode::Attested(link) => Gate::Attested { link: Arc::clone(link), addr },
            ListenMode::InsecureLoopback => Gate::Work { peer: Peer::LoopbackPlain { addr } },
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
