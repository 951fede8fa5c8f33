//! Who is at the other end, as far as this crate could establish it.
//!
//! A role receives its peers only as [`Peer`]. One variant is attested; of all others nothing is proved, and a role that
//! sends a prompt to one of them has decided to.

use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_wire::router_record::RouterRecord;

use crate::ratls::AttestedPeer;

/// The other end of a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Peer {
    /// Its evidence was appraised and accepted, on this connection or, in session-key mode, a short time before.
    Attested(Arc<AttestedPeer>),
    /// It has a TLS key and showed no evidence: a client.
    Unattested {
        /// Its address; an unspecified one in memory.
        addr: SocketAddr,
        /// Its raw Ed25519 key, the same over its connections.
        tls_key: [u8; 32],
    },
    /// A process on this host, over plain loopback TCP. Nothing else is known about it.
    LoopbackPlain {
        /// Its address.
        addr: SocketAddr,
    },
    /// The other end of an in-memory link.
    InMemory {
        /// The name under which the link was made.
        name: Arc<str>,
    },
    /// What a router of the original network claims about the peer. This node has verified none of it.
    BehindRouter {
        /// The router's record.
        record: Box<RouterRecord>,
    },
}
