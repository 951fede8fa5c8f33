//! An accepted stream before it is a connection.
//!
//! [`Pending::handshake`] is the only way on, and it has a deadline for each step:
//!
//! 1. the gate: proof of work, or the record of an original router;
//! 2. (TLS and attestation will come here);
//! 3. `tcp.connect`, `tcp.connected`.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use cocoon_wire::pow::Challenge;
use cocoon_wire::router_record::RouterRecord;
use tokio::io::AsyncReadExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use crate::connection::Connection;
use crate::error::{ConnectionError, HandshakeError};
use crate::limits::{HANDSHAKE_TIMEOUT, WORK_ANSWER_TIMEOUT, WORK_INLINE_BITS_MAX};
use crate::peer::Peer;
use crate::session::Session;
use crate::stream::Stream;

/// What a peer has to pass before packets.
#[derive(Debug)]
pub(crate) enum Gate {
    /// Proof of work; the peer is who the transport says.
    Work { difficulty_bits: i32, peer: Peer },
    /// The peer is whom the record names.
    InsecureRouterRecord,
}

/// A stream that a peer opened and that has not proved anything yet. Dropping it closes the stream.
#[derive(Debug)]
#[must_use = "a pending stream holds one of the listener's places"]
pub struct Pending {
    stream: Stream,
    gate: Gate,
    place: Option<OwnedSemaphorePermit>,
}

impl Pending {
    pub(crate) fn new(stream: Stream, gate: Gate, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { stream, gate, place }
    }

    /// Turns the stream into a connection. Takes as long as the peer needs, so run it in a task of its own.
    ///
    /// # Errors
    /// What the peer did wrong, or which step took too long.
    pub async fn handshake(mut self) -> Result<Connection, HandshakeError> {
        let peer = match self.gate {
            Gate::Work { difficulty_bits, peer } => {
                demand_work(&mut self.stream, difficulty_bits).await?;
                peer
            }
            Gate::InsecureRouterRecord => {
                let record = step("the router's record", HANDSHAKE_TIMEOUT, read_record(&mut self.stream)).await?;
                Peer::BehindRouter { record: Box::new(record) }
            }
        };
        let first_query_id = random_id().ok_or(HandshakeError::Random)?;
        let session = Session::listener(first_query_id, Instant::now().into_std());
        let mut connection = Connection::new(self.stream, session, peer, self.place);
        step("tcp.connect", HANDSHAKE_TIMEOUT, async { Ok(connection.open().await?) }).await?;
        Ok(connection)
    }
}

async fn demand_work(stream: &mut Stream, difficulty_bits: i32) -> Result<(), HandshakeError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| HandshakeError::Random)?;
    let challenge = Challenge { difficulty_bits, salt };
    let work = async { crate::work::demand(stream, &challenge).await.map_err(lost) };
    // Where there is no work to speak of, a dialer that does not answer holds its place no longer than in any step.
    let limit = if difficulty_bits <= WORK_INLINE_BITS_MAX { HANDSHAKE_TIMEOUT } else { WORK_ANSWER_TIMEOUT };
    match step("proof of work", limit, work).await? {
        true => Ok(()),
        false => Err(HandshakeError::PeerWrongWork),
    }
}

/// A random id for `tcp.connect` and the queries that count up from it.
pub(crate) fn random_id() -> Option<i64> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).ok()?;
    Some(i64::from_le_bytes(id))
}

async fn step<T>(
    step: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    timeout(limit, work).await.unwrap_or(Err(HandshakeError::PeerTimeout { step, limit }))
}

/// Reads `u32 n` and `n` bytes of a record.
async fn read_record(stream: &mut Stream) -> Result<RouterRecord, HandshakeError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(lost)?;
    let mut body = BytesMut::zeroed(RouterRecord::body_len(length)?);
    stream.read_exact(&mut body).await.map_err(lost)?;
    Ok(RouterRecord::decode_body(body.freeze())?)
}

fn lost(error: io::Error) -> HandshakeError {
    HandshakeError::Connection(if error.kind() == io::ErrorKind::UnexpectedEof {
        ConnectionError::PeerClosed
    } else {
        ConnectionError::Transport(error)
    })
}
