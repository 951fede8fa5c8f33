//! Dials over TCP, with the whole handshake. Without attestation only loopback is dialled.
//!
//! 1. proof of work, solved off the event loop; more than 28 bits are refused;
//! 2. TLS and attestation ([`ratls`]);
//! 3. `tcp.connect`, `tcp.connected`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cocoon_wire::limits::POW_DIFFICULTY_BITS_MAX;
use cocoon_wire::pow::{Challenge, PowError};
use cocoon_wire::router_record::RouterRecord;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::connection::Connection;
use crate::error::{ConnectionError, DialError};
use crate::limits::{HANDSHAKE_TIMEOUT, WORK_SOLVE_TIMEOUT};
use crate::peer::Peer;
use crate::pending::random_id;
use crate::ratls::{self, Link, Side, Unverified};
use crate::session::Session;
use crate::stream::Stream;

/// What to send before the packets.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DialMode {
    /// The answer to a proof-of-work challenge, TLS, attestation, then packets.
    Attested(Arc<Link>),
    /// The answer to a proof-of-work challenge, then packets in plain: anyone on this host may read them.
    InsecureLoopback,
    /// This record, as an original TLS router would, then packets: for a node that believes its router.
    InsecureBehindRouter {
        /// What the router would say about us.
        record: Arc<RouterRecord>,
    },
}

/// Where to dial and how.
#[derive(Debug, Clone)]
pub struct DialConfig {
    /// The listener's address.
    pub addr: SocketAddr,
    /// What comes before the packets.
    pub mode: DialMode,
}

impl DialConfig {
    /// An attested link, to any address.
    #[must_use]
    pub fn attested(addr: SocketAddr, link: Arc<Link>) -> Self {
        Self { addr, mode: DialMode::Attested(link) }
    }

    /// Plain packets on loopback.
    #[must_use]
    pub fn insecure_loopback(addr: SocketAddr) -> Self {
        Self { addr, mode: DialMode::InsecureLoopback }
    }
}

/// Dials one address over and over; the [`Dialer`](crate::Dialer) of real deployments.
#[derive(Debug, Clone)]
pub struct TcpDialer {
    config: DialConfig,
}

impl TcpDialer {
    /// A dialer of one address.
    #[must_use]
    pub fn new(config: DialConfig) -> Self {
        Self { config }
    }

    pub(crate) fn config(&self) -> DialConfig {
        self.config.clone()
    }
}

/// Connects to a listener.
///
/// # Errors
/// What the listener did wrong, which step took too long, or why this node did not try.
pub async fn dial(config: DialConfig) -> Result<Connection, DialError> {
    let addr = config.addr;
    if !matches!(config.mode, DialMode::Attested(_)) && !addr.ip().is_loopback() {
        return Err(DialError::NotLoopback { addr });
    }
    let mut stream = connect(addr).await?;
    match config.mode {
        DialMode::Attested(link) => {
            answer_work(&mut stream).await?;
            return shake_hands_attested(stream, link, addr).await;
        }
        DialMode::InsecureLoopback => answer_work(&mut stream).await?,
        DialMode::InsecureBehindRouter { record } => send_record(&mut stream, &record).await?,
    }
    shake_hands(stream, Peer::LoopbackPlain { addr }).await
}

/// Reads the evidence of whoever listens at an address, and believes none of it. `link` is that of a client; its policy
/// and its expectations are not asked.
///
/// # Errors
/// As [`dial`], but for refusals of ours, which there are none of.
pub async fn unverified_look(addr: SocketAddr, link: Arc<Link>) -> Result<Unverified, DialError> {
    let mut stream = connect(addr).await?;
    answer_work(&mut stream).await?;
    Ok(ratls::look(stream, link, addr).await?)
}

async fn connect(addr: SocketAddr) -> Result<Stream, DialError> {
    let connect = async { TcpStream::connect(addr).await.map_err(DialError::Io) };
    let stream = step("the TCP handshake", HANDSHAKE_TIMEOUT, connect).await?;
    stream.set_nodelay(true).map_err(DialError::Io)?;
    Ok(Stream::Tcp(stream))
}

/// Waits for the listener's challenge and answers it.
pub(crate) async fn answer_work(stream: &mut Stream) -> Result<(), DialError> {
    let receive = async { crate::work::receive(stream).await.map_err(lost) };
    let bytes = step("its proof-of-work challenge", HANDSHAKE_TIMEOUT, receive).await?;
    let challenge = Challenge::decode(&bytes).map_err(refused)?;
    let (bits, limit) = (challenge.difficulty_bits, WORK_SOLVE_TIMEOUT);
    let solved = timeout(limit, crate::work::solve(challenge)).await;
    let answer = solved.ok().flatten().ok_or(DialError::WorkTimeout { bits, limit })?;
    stream.write_all(&answer.encode()).await.map_err(lost)
}

/// TLS, attestation and the packet handshake of a dialer.
pub(crate) async fn shake_hands_attested(
    stream: Stream,
    link: Arc<Link>,
    addr: SocketAddr,
) -> Result<Connection, DialError> {
    let (stream, peer, attestation) = ratls::establish(stream, Side::Dialer, link, addr).await?.into_parts();
    let mut connection = shake_hands(stream, peer).await?;
    connection.set_attestation(attestation);
    Ok(connection)
}

/// The packet handshake of a dialer.
pub(crate) async fn shake_hands(stream: Stream, peer: Peer) -> Result<Connection, DialError> {
    let id = random_id().ok_or(DialError::Random)?;
    let session = Session::dialer(id, Instant::now().into_std());
    let mut connection = Connection::new(stream, session, peer);
    step("tcp.connected", HANDSHAKE_TIMEOUT, async { Ok(connection.open().await?) }).await?;
    Ok(connection)
}

async fn send_record(stream: &mut Stream, record: &RouterRecord) -> Result<(), DialError> {
    stream.write_all(&record.encode()).await.map_err(lost)
}

async fn step<T>(
    step: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timeout(limit, work).await.unwrap_or(Err(DialError::PeerTimeout { step, limit }))
}

fn refused(error: PowError) -> DialError {
    match error {
        PowError::BadDifficulty { difficulty_bits: bits } => {
            DialError::PeerTooMuchWork { bits, max: POW_DIFFICULTY_BITS_MAX }
        }
        PowError::BadMagic | _ => DialError::PeerNoChallenge,
    }
}

fn lost(error: io::Error) -> DialError {
    DialError::Connection(if error.kind() == io::ErrorKind::UnexpectedEof {
        ConnectionError::PeerClosed
    } else {
        ConnectionError::Transport(error)
    })
}
