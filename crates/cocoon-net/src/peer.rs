//! Who is at the other end, as far as this crate could establish it.
//!
//! A role receives its peers only as [`Peer`]. Nothing here is attested: the variant for a peer whose evidence was
//! verified comes with attestation, and until then listeners and dialers stay on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_wire::router_record::RouterRecord;

/// The other end of a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Peer {
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
