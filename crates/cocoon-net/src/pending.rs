//! An accepted stream before it is a connection.
//!
//! [`Pending::handshake`] is the only way on:
//!
//! 1. the gate: proof of work, or the record of an original router;
//! 2. on attested links TLS and attestation ([`ratls`]);
//! 3. `tcp.connect`, `tcp.connected`.
//!
//! Each step has a deadline, so that a peer which stops is soon forgotten, and all of them together have one, so that a
//! peer which is slow at each (slow loris) does not keep a place much longer. When the listener is full, it may give the
//! place of a handshake that has not done its work to a newcomer (see [`admission`](crate::admission)).

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use cocoon_wire::pow::{Challenge, verify};
use cocoon_wire::router_record::RouterRecord;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};

use crate::admission::door::Place;
use crate::connection::Connection;
use crate::error::{ConnectionError, HandshakeError};
use crate::limits::{HANDSHAKE_TIMEOUT, HANDSHAKE_TOTAL_TIMEOUT, WORK_ANSWER_TIMEOUT, WORK_QUICK_BITS_MAX};
use crate::peer::Peer;
use crate::ratls::{self, Attestation, Link, Side};
use crate::session::Session;
use crate::stream::Stream;

/// What a peer has to pass before packets. The work is the place's; without a place there is none.
#[derive(Debug)]
pub(crate) enum Gate {
    /// Proof of work; the peer is who the transport says.
    Work { peer: Peer },
    /// Proof of work, TLS and attestation.
    Attested { link: Arc<Link>, addr: SocketAddr },
    /// The peer is whom the record names.
    InsecureRouterRecord,
}

/// A stream that a peer opened and that has not proved anything yet. Dropping it closes the stream.
#[derive(Debug)]
#[must_use = "a pending stream holds one of the listener's places"]
pub struct Pending {
    stream: Stream,
    gate: Gate,
    /// Absent in memory, where there is no listener to protect.
    place: Option<Place>,
}

/// A stream past its gate.
struct Passed {
    stream: Stream,
    peer: Peer,
    attestation: Option<Attestation>,
}

impl Pending {
    pub(crate) fn new(stream: Stream, gate: Gate, place: Option<Place>) -> Self {
        Self { stream, gate, place }
    }

    /// Turns the stream into a connection. Takes as long as the peer needs, so run it in a task of its own.
    ///
    /// # Errors
    /// What the peer did wrong, or which step took too long.
    pub async fn handshake(self) -> Result<Connection, HandshakeError> {
        let shed = self.place.as_ref().map(Place::shed);
        let mut shed = pin!(async {
            match shed {
                Some(shed) => shed.notified().await,
                None => pending().await,
            }
        });
        let mut run = pin!(step("its handshake", HANDSHAKE_TOTAL_TIMEOUT, Box::pin(self.run())));
        poll_fn(|cx| match shed.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(HandshakeError::Full)),
            Poll::Pending => run.as_mut().poll(cx),
        })
        .await
    }

    async fn run(self) -> Result<Connection, HandshakeError> {
        let Self { stream, gate, place } = self;
        let Passed { stream, peer, attestation } = pass(gate, stream, place.as_ref()).await?;
        let first_query_id = random_id().ok_or(HandshakeError::Random)?;
        let session = Session::listener(first_query_id, Instant::now().into_std());
        let mut connection = Connection::new(stream, session, peer);
        step("tcp.connect", HANDSHAKE_TIMEOUT, async { Ok(connection.open().await?) }).await?;
        if let Some(attestation) = attestation {
            connection.set_attestation(attestation);
        }
        // Only now: a handshake that never ends takes no connection's place.
        if let Some(place) = place {
            connection.set_seat(place.take_seat().map_err(|_| HandshakeError::Full)?);
        }
        Ok(connection)
    }
}

async fn pass(gate: Gate, mut stream: Stream, place: Option<&Place>) -> Result<Passed, HandshakeError> {
    match gate {
        Gate::Work { peer } => {
            demand_work(&mut stream, place).await?;
            Ok(Passed { stream, peer, attestation: None })
        }
        Gate::Attested { link, addr } => {
            demand_work(&mut stream, place).await?;
            let attested = ratls::establish(stream, Side::Listener, link, addr).await?;
            let (stream, peer, attestation) = attested.into_parts();
            Ok(Passed { stream, peer, attestation: Some(attestation) })
        }
        Gate::InsecureRouterRecord => {
            let record = step("the router's record", HANDSHAKE_TIMEOUT, read_record(&mut stream)).await?;
            // The router asked for work.
            place.inspect(|place| place.keep());
            Ok(Passed { stream, peer: Peer::BehindRouter { record: Box::new(record) }, attestation: None })
        }
    }
}

async fn demand_work(stream: &mut Stream, place: Option<&Place>) -> Result<(), HandshakeError> {
    // Without a listener's place there is no load to protect from; dialers still wait for a challenge.
    let challenge = place.map_or(Challenge { difficulty_bits: 0, salt: [0; 16] }, Place::challenge);
    let work = async { crate::work::demand(stream, &challenge).await.map_err(lost) };
    // Where there is little work, a dialer that does not answer holds its place no longer than in any step.
    let quick = challenge.difficulty_bits <= WORK_QUICK_BITS_MAX;
    let limit = if quick { HANDSHAKE_TIMEOUT } else { WORK_ANSWER_TIMEOUT };
    let answer = step("proof of work", limit, work).await?.ok_or(HandshakeError::PeerWrongWork)?;
    let right = match place {
        Some(place) => place.prove(Instant::now().into_std(), &answer),
        None => verify(&challenge, &answer),
    };
    if right { Ok(()) } else { Err(HandshakeError::PeerWrongWork) }
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

#[cfg(test)]
mod tests {
    use cocoon_wire::pow::{Answer, solve_range};
    use tokio::io::AsyncWriteExt;
    use tokio::time::sleep;

    use super::*;
    use crate::admission::ListenLimits;
    use crate::admission::door::Door;
    use crate::memory::{LinkOptions, MemoryStream, memory_link};

    const PEER: &str = "192.0.2.7:4000";

    fn door(difficulty_floor: i32, change: impl FnOnce(&mut ListenLimits)) -> Door {
        let mut limits = ListenLimits::default();
        change(&mut limits);
        Door::new(limits, difficulty_floor, [[1; 32], [2; 32]], Instant::now().into_std())
    }

    fn arrive(door: &Door, addr: &str) -> (Pending, MemoryStream) {
        let (near, far, _) = memory_link(LinkOptions::default());
        let addr: SocketAddr = addr.parse().unwrap();
        let place = door.admit(Instant::now().into_std(), addr).unwrap();
        let gate = Gate::Work { peer: Peer::LoopbackPlain { addr } };
        (Pending::new(Stream::Memory(near), gate, Some(place)), far)
    }

    async fn challenge(peer: &mut MemoryStream) -> Challenge {
        let mut bytes = [0; Challenge::LEN];
        peer.read_exact(&mut bytes).await.unwrap();
        Challenge::decode(&bytes).unwrap()
    }

    /// Sends a byte every nine seconds, for ever: each time soon enough to look alive.
    async fn trickle(peer: &mut MemoryStream, bytes: &[u8]) {
        for byte in bytes.iter().chain(std::iter::repeat(&0)) {
            sleep(Duration::from_secs(9)).await;
            if peer.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        pending().await
    }

    async fn outlast(pending: Pending, attack: impl Future<Output = ()>) -> (HandshakeError, u64) {
        let began = Instant::now();
        tokio::select! {
            result = pending.handshake() => (result.unwrap_err(), began.elapsed().as_secs()),
            () = attack => unreachable!("the attack goes on for ever"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_loris_in_the_proof_of_work_loses_its_place() {
        for (bits, limit_s) in [(0, 10), (16, 10), (17, 60), (20, 60)] {
            let door = door(bits, |limits| limits.per_source.handshakes_max = 1);
            let (pending, mut peer) = arrive(&door, PEER);
            let answer = Answer { nonce: 0 }.encode();
            let (error, after_s) = outlast(pending, trickle(&mut peer, &answer)).await;
            assert!(matches!(error, HandshakeError::PeerTimeout { step: "proof of work", .. }), "{error}");
            assert_eq!(after_s, limit_s, "{bits} bits");
            drop(arrive(&door, PEER));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_loris_after_the_proof_of_work_loses_its_place() {
        let door = door(0, |limits| limits.per_source.handshakes_max = 1);
        let (pending, mut peer) = arrive(&door, PEER);
        let attack = async {
            challenge(&mut peer).await;
            peer.write_all(&Answer { nonce: 0 }.encode()).await.unwrap();
            trickle(&mut peer, &[]).await;
        };
        let (error, after_s) = outlast(pending, attack).await;
        assert!(matches!(error, HandshakeError::PeerTimeout { step: "tcp.connect", .. }), "{error}");
        assert_eq!(after_s, 10);
        drop(arrive(&door, PEER));
    }

    /// Long work, then silence: as long as a stranger without TLS can keep a place.
    #[tokio::test(start_paused = true)]
    async fn slow_loris_in_every_step_is_gone_before_the_total_deadline() {
        let door = door(17, |_| {});
        let (pending, mut peer) = arrive(&door, PEER);
        let attack = async {
            let challenge = challenge(&mut peer).await;
            let nonce = solve_range(&challenge, 0, u64::MAX).unwrap();
            sleep(WORK_ANSWER_TIMEOUT - Duration::from_secs(1)).await;
            peer.write_all(&Answer { nonce }.encode()).await.unwrap();
            trickle(&mut peer, &[]).await;
        };
        let (_, after_s) = outlast(pending, attack).await;
        assert_eq!(after_s, 69);
        assert!(after_s < HANDSHAKE_TOTAL_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn answer_found_for_another_connection_is_refused() {
        let door = door(12, |_| {});
        let (first, mut first_peer) = arrive(&door, PEER);
        let (second, mut second_peer) = arrive(&door, PEER);
        let work = async {
            let one = tokio::select! {
                one = challenge(&mut first_peer) => one,
                _ = first.handshake() => unreachable!("it has no answer yet"),
            };
            let other = challenge(&mut second_peer).await;
            assert_ne!(one.salt, other.salt, "even from the same port");
            let right_for_one = std::iter::successors(solve_range(&one, 0, u64::MAX), |last| {
                solve_range(&one, last.wrapping_add(1), u64::MAX)
            });
            let answer = right_for_one.map(|nonce| Answer { nonce }).find(|answer| !verify(&other, answer)).unwrap();
            second_peer.write_all(&answer.encode()).await.unwrap();
            pending::<()>().await;
        };
        let (error, _) = outlast(second, work).await;
        assert!(matches!(error, HandshakeError::PeerWrongWork), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn full_listener_drops_the_oldest_unfinished_handshake_for_a_newcomer() {
        let door = door(0, |limits| limits.handshakes_max = 2);
        let (oldest, _silent) = arrive(&door, "192.0.2.1:1");
        let (_other, _mute) = arrive(&door, "192.0.2.2:1");
        let (newcomer, peer) = arrive(&door, "192.0.2.3:1");
        let (shed, listener, dialer) = tokio::join!(oldest.handshake(), newcomer.handshake(), dial(peer));
        assert!(matches!(shed, Err(HandshakeError::Full)), "{shed:?}");
        assert!(listener.is_ok() && dialer.is_ok());
    }

    async fn dial(peer: MemoryStream) -> Result<Connection, crate::DialError> {
        let mut stream = Stream::Memory(peer);
        crate::dial::answer_work(&mut stream).await?;
        crate::dial::shake_hands(stream, Peer::LoopbackPlain { addr: PEER.parse().unwrap() }).await
    }

    #[tokio::test(start_paused = true)]
    async fn place_becomes_a_seat_and_both_are_given_back() {
        let door = door(0, |limits| {
            limits.handshakes_max = 1;
            limits.connections_max = 1;
        });
        for _ in 0..3 {
            let (pending, peer) = arrive(&door, PEER);
            let (listener, dialer) = tokio::join!(pending.handshake(), dial(peer));
            let full = door.admit(Instant::now().into_std(), PEER.parse().unwrap());
            assert!(full.is_err(), "the only connection place is taken");
            drop((listener.unwrap(), dialer.unwrap()));
        }
    }
}
