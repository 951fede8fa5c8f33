//! What can end a connection or keep it from beginning, grouped by whose fault it is.
//!
//! Peer faults name the rule that was broken. No variant carries bytes of a message.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cocoon_attest::{EvidenceError, Refusal};
use cocoon_wire::DecodeError;
use cocoon_wire::packet::FrameError;
use cocoon_wire::router_record::RouterRecordError;

use crate::limits::{QUERIES_IN_MAX, QUERIES_OUT_MAX};
use crate::ratls::{IdentityError, LinkError};

/// Who caused an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The other end broke the protocol, or left.
    Peer,
    /// The network or the operating system.
    Network,
    /// This node: it closed the connection itself, or used it wrongly.
    Local,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// A frame that cannot be read: wrong seqno, length out of range, unknown constructor, trailing bytes.
    #[error("peer sent a malformed frame: {0}")]
    PeerFrame(#[from] FrameError),
    /// A packet that is not allowed at this point, such as `tcp.connect` on an open connection.
    #[error("peer sent {packet} {place}")]
    PeerUnexpectedPacket {
        /// The packet's constructor.
        packet: &'static str,
        /// Where in the protocol it came.
        place: &'static str,
    },
    /// An answer or error for a query that we did not send, or that was answered before.
    #[error("peer answered the unknown query {id}")]
    PeerAnsweredUnknownQuery {
        /// The query id in the answer.
        id: i64,
    },
    /// A query with the id of another that we have not answered yet.
    #[error("peer sent a second query {id} before the first was answered")]
    PeerReusedQueryId {
        /// The id.
        id: i64,
    },
    /// More queries at once than we hold.
    #[error("peer has more than {QUERIES_IN_MAX} queries in flight")]
    PeerFloodedQueries,
    /// Packets that need an answer arrive, and the answers are not read.
    #[error("peer causes answers that it does not read")]
    PeerFloodedControl,
    /// Fragments that break the rules of reassembly.
    #[error("peer's fragments {0}")]
    PeerFragments(#[from] FragmentError),
    /// Nothing was heard for too long; the connection is half open or the peer is stuck.
    #[error("peer was silent for {0:?}")]
    PeerSilent(Duration),
    /// The peer took no byte for too long.
    #[error("peer has not read for {0:?}")]
    PeerNotReading(Duration),
    /// The peer closed the connection between two frames.
    #[error("peer closed the connection")]
    PeerClosed,
    /// The peer closed the connection inside a frame or a fragmented message.
    #[error("peer closed the connection in the middle of a message")]
    PeerTruncated,
    /// The peer did not prove itself again on the open connection.
    #[error("peer is no longer accepted: {0}")]
    PeerAttestation(Refusal),
    /// The transport failed.
    #[error("connection lost: {0}")]
    Transport(#[source] io::Error),
    /// [`Outbox::close`](crate::Outbox::close) was called, or an earlier error already ended the connection.
    #[error("connection was closed by this node")]
    ClosedLocally,
}

impl ConnectionError {
    /// Whose fault the end is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::PeerFrame(_)
            | Self::PeerUnexpectedPacket { .. }
            | Self::PeerAnsweredUnknownQuery { .. }
            | Self::PeerReusedQueryId { .. }
            | Self::PeerFloodedQueries
            | Self::PeerFloodedControl
            | Self::PeerFragments(_)
            | Self::PeerSilent(_)
            | Self::PeerNotReading(_)
            | Self::PeerClosed
            | Self::PeerTruncated
            | Self::PeerAttestation(_) => Fault::Peer,
            Self::Transport(_) => Fault::Network,
            Self::ClosedLocally => Fault::Local,
        }
    }
}

/// How a peer's fragments broke the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// More messages begun than allowed.
    #[error("begin too many messages at once")]
    TooManyMessages,
    /// One message is larger than the largest allowed.
    #[error("add up to a message that is too large")]
    MessageTooLarge,
    /// The unfinished messages together are larger than allowed.
    #[error("hold too many unfinished bytes")]
    TooManyBytes,
    /// A piece without bytes which is not the withdrawal of a message begun before.
    #[error("include an empty piece")]
    EmptyPiece,
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue is over its bound: the peer reads too slowly.
    #[error("the peer reads too slowly: the connection's queue is full")]
    Full,
    /// The message fits no packet of this connection.
    #[error("the message is too large for this connection")]
    TooLarge,
    /// The connection has ended.
    #[error("the connection is closed")]
    Closed,
    /// The query to answer is not in flight; it was answered before.
    #[error("no such query is waiting for an answer")]
    UnknownQuery,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The peer answered with `tcp.queryError`. The text is the peer's: log it quoted, never show it as ours.
    #[error("peer refused the query with code {code}")]
    PeerRefused {
        /// The peer's code.
        code: i32,
        /// The peer's text.
        message: String,
    },
    /// No answer came in time.
    #[error("peer did not answer within {0:?}")]
    PeerTimeout(Duration),
    /// More than the allowed number of queries have no answer.
    #[error("{QUERIES_OUT_MAX} queries are without an answer")]
    TooManyInFlight,
    /// The query could not be queued, or the connection ended before the answer.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Only loopback is served without attestation.
    #[error(
        "{addr} is not a loopback address: without attestation anyone who reaches this port could read prompts; listen \
         on 127.0.0.1 or [::1], or require attested links"
    )]
    NotLoopback {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The difficulty asked for is one that dialers refuse.
    #[error("a proof of work of {bits} bits is refused by dialers; at most {max} are allowed")]
    TooMuchWork {
        /// The difficulty asked for.
        bits: i32,
        /// The largest that dialers accept.
        max: i32,
    },
    /// The operating system refused.
    #[error("cannot listen on {addr}")]
    Io {
        /// The address asked for.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Why a listener stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The listening socket failed for good.
    #[error("listening socket failed")]
    Io(#[source] io::Error),
    /// The in-memory network is gone.
    #[error("the listener's network is gone")]
    Closed,
}

/// Why an accepted stream did not become a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The answer to the challenge is wrong.
    #[error("peer's proof of work is wrong")]
    PeerWrongWork,
    /// The router's record cannot be read.
    #[error("the router's record is refused: {0}")]
    PeerRouterRecord(#[from] RouterRecordError),
    /// A step of the handshake took too long.
    #[error("peer did not finish {step} within {limit:?}")]
    PeerTimeout {
        /// The step.
        step: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// TLS failed: another version, no certificate, one that is refused, or an alert of the peer.
    #[error("peer's TLS is refused: {0}")]
    PeerTls(rustls::Error),
    /// TLS worked, but the peer did not ask for a link profile that is allowed here.
    #[error("peer does not speak the link profile cocoon/2")]
    PeerNoProfile,
    /// A frame of the attested handshake that is too long, unreadable, or out of place.
    #[error("peer broke the attested handshake: {0}")]
    PeerLinkFrame(#[from] LinkFrameError),
    /// Its evidence is refused.
    #[error("peer is not accepted: {0}")]
    PeerAttestation(Refusal),
    /// It refuses our evidence, or has none to show. Both texts are the peer's and are shown quoted.
    #[error("peer refused this node in its check {check:?}: {text:?}")]
    PeerRefusedUs {
        /// The check.
        check: String,
        /// The reason.
        text: String,
    },
    /// This node has no evidence to show.
    #[error("this node cannot show evidence")]
    NoEvidence(#[source] EvidenceError),
    /// This node has no certificate to show.
    #[error("this node has no certificate to show")]
    Identity(#[source] IdentityError),
    /// The link was put together wrongly.
    #[error("{0}")]
    LinkMisuse(&'static str),
    /// The packet handshake failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Not the peer's fault: its place went to a newcomer while it was still working, or no connection place is left.
    #[error("this node is full, so the peer has to come back later")]
    Full,
    /// This node could not do its part.
    #[error("cannot draw random bytes")]
    Random,
}

/// Why a dial did not become a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The listener asks for more work than any honest one.
    #[error("listener asks for {bits} bits of work; more than {max} are refused")]
    PeerTooMuchWork {
        /// What it asked for.
        bits: i32,
        /// What is allowed.
        max: i32,
    },
    /// The first bytes are not a challenge: this is no listener of the network.
    #[error("listener sent no proof-of-work challenge")]
    PeerNoChallenge,
    /// A step took too long.
    #[error("listener did not finish {step} within {limit:?}")]
    PeerTimeout {
        /// The step.
        step: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// TLS failed: another version, no certificate, one that is refused, or an alert of the listener.
    #[error("listener's TLS is refused: {0}")]
    PeerTls(rustls::Error),
    /// TLS worked, but the listener did not ask for a link profile that is allowed here.
    #[error("listener does not speak the link profile cocoon/2")]
    PeerNoProfile,
    /// A frame of the attested handshake that is too long, unreadable, or out of place.
    #[error("listener broke the attested handshake: {0}")]
    PeerLinkFrame(#[from] LinkFrameError),
    /// Its evidence is refused.
    #[error("listener is not accepted: {0}")]
    PeerAttestation(Refusal),
    /// It refuses our evidence, or has none to show. Both texts are the listener's and are shown quoted.
    #[error("listener refused this node in its check {check:?}: {text:?}")]
    PeerRefusedUs {
        /// The check.
        check: String,
        /// The reason.
        text: String,
    },
    /// This node has no evidence to show.
    #[error("this node cannot show evidence")]
    NoEvidence(#[source] EvidenceError),
    /// This node has no certificate to show.
    #[error("this node has no certificate to show")]
    Identity(#[source] IdentityError),
    /// The link was put together wrongly.
    #[error("{0}")]
    LinkMisuse(&'static str),
    /// The packet handshake failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The transport refused.
    #[error("cannot connect")]
    Io(#[source] io::Error),
    /// Only loopback is dialled without attestation.
    #[error("{addr} is not a loopback address: without attestation prompts must not leave this host")]
    NotLoopback {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The work was not done in time.
    #[error("the proof of work of {bits} bits was not solved within {limit:?}")]
    WorkTimeout {
        /// The difficulty.
        bits: i32,
        /// The time it had.
        limit: Duration,
    },
    /// This node could not do its part.
    #[error("cannot draw random bytes")]
    Random,
}

/// How a frame of the attested handshake broke the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkFrameError {
    /// Longer than its step allows; none of it was read.
    #[error("a frame of {len} bytes where at most {max} are read")]
    TooLong {
        /// Its length.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not the form of any frame.
    #[error("an unreadable frame: {0}")]
    Unreadable(#[from] DecodeError),
    /// A frame of another step.
    #[error("{frame} {step}")]
    Unexpected {
        /// The frame's constructor.
        frame: &'static str,
        /// Where it came.
        step: &'static str,
    },
}

impl HandshakeError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::PeerWrongWork
            | Self::PeerRouterRecord(_)
            | Self::PeerTimeout { .. }
            | Self::PeerTls(_)
            | Self::PeerNoProfile
            | Self::PeerLinkFrame(_)
            | Self::PeerAttestation(_) => Fault::Peer,
            Self::Connection(error) => error.fault(),
            // The peer only says what is wrong here.
            Self::PeerRefusedUs { .. }
            | Self::NoEvidence(_)
            | Self::Identity(_)
            | Self::LinkMisuse(_)
            | Self::Full
            | Self::Random => Fault::Local,
        }
    }
}

impl DialError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::PeerTooMuchWork { .. }
            | Self::PeerNoChallenge
            | Self::PeerTimeout { .. }
            | Self::PeerTls(_)
            | Self::PeerNoProfile
            | Self::PeerLinkFrame(_)
            | Self::PeerAttestation(_) => Fault::Peer,
            Self::Connection(error) => error.fault(),
            Self::Io(_) => Fault::Network,
            // The peer only says what is wrong here.
            Self::PeerRefusedUs { .. }
            | Self::NoEvidence(_)
            | Self::Identity(_)
            | Self::LinkMisuse(_)
            | Self::NotLoopback { .. }
            | Self::WorkTimeout { .. }
            | Self::Random => Fault::Local,
        }
    }
}

impl From<LinkError> for HandshakeError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::PeerTls(error) => Self::PeerTls(error),
            LinkError::PeerNoProfile => Self::PeerNoProfile,
            LinkError::PeerFrame(error) => Self::PeerLinkFrame(LinkFrameError::Unreadable(error)),
            LinkError::PeerFrameTooLong { len, max } => Self::PeerLinkFrame(LinkFrameError::TooLong { len, max }),
            LinkError::PeerUnexpectedFrame { frame, step } => {
                Self::PeerLinkFrame(LinkFrameError::Unexpected { frame, step })
            }
            LinkError::PeerTimeout { step, limit } => Self::PeerTimeout { step, limit },
            LinkError::PeerAttestation(refusal) => Self::PeerAttestation(refusal),
            LinkError::PeerRefusedUs { check, text } => Self::PeerRefusedUs { check, text },
            LinkError::PeerClosed => Self::Connection(ConnectionError::PeerClosed),
            LinkError::Transport(error) => Self::Connection(ConnectionError::Transport(error)),
            LinkError::NoEvidence(error) => Self::NoEvidence(error),
            LinkError::Identity(error) => Self::Identity(error),
            LinkError::Misuse(what) => Self::LinkMisuse(what),
            LinkError::Random => Self::Random,
        }
    }
}

impl From<LinkError> for DialError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::PeerTls(error) => Self::PeerTls(error),
            LinkError::PeerNoProfile => Self::PeerNoProfile,
            LinkError::PeerFrame(error) => Self::PeerLinkFrame(LinkFrameError::Unreadable(error)),
            LinkError::PeerFrameTooLong { len, max } => Self::PeerLinkFrame(LinkFrameError::TooLong { len, max }),
            LinkError::PeerUnexpectedFrame { frame, step } => {
                Self::PeerLinkFrame(LinkFrameError::Unexpected { frame, step })
            }
            LinkError::PeerTimeout { step, limit } => Self::PeerTimeout { step, limit },
            LinkError::PeerAttestation(refusal) => Self::PeerAttestation(refusal),
            LinkError::PeerRefusedUs { check, text } => Self::PeerRefusedUs { check, text },
            LinkError::PeerClosed => Self::Connection(ConnectionError::PeerClosed),
            LinkError::Transport(error) => Self::Connection(ConnectionError::Transport(error)),
            LinkError::NoEvidence(error) => Self::NoEvidence(error),
            LinkError::Identity(error) => Self::Identity(error),
            LinkError::Misuse(what) => Self::LinkMisuse(what),
            LinkError::Random => Self::Random,
        }
    }
}
