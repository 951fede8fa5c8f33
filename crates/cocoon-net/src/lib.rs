//! Sessions between Cocoon nodes: packets over a byte stream, queries and messages, keep-alive, bounds.
//!
//! From the outside in (wire.md, sections 1 and 6):
//!
//! 1. [`Listener`] or [`dial`] give a byte stream; proof of work (or, in interoperability tests, the record of the
//!    original's router) comes first, then TLS and attestation ([`ratls`]).
//! 2. [`Pending::handshake`] turns an accepted stream into a [`Connection`] by `tcp.connect` and `tcp.connected`.
//! 3. One task owns the [`Connection`] and calls [`next`](Connection::next) in a loop: it reads, writes, answers
//!    pings, matches answers with queries, and returns what the role has to handle.
//! 4. Any task sends through the [`Outbox`].
//!
//! The protocol is in the pure session state machine (`session.rs`), which sees bytes and `Instant`s only; the driver
//! (`connection.rs`) does the input and output. Roles see streams only through [`Dialer`] and [`Acceptor`], so that
//! their tests run over the [`memory`] transport with a virtual clock.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use cocoon_net::{Event, memory_pair};
//! use cocoon_wire::Encoded;
//!
//! let (mut client, mut proxy) = memory_pair("example");
//! client.outbox().send(Encoded::from(bytes::Bytes::from_static(b"hello")))?;
//! // Each end moves while its `next` is polled; in a node each has a task of its own.
//! let event = tokio::select! {
//!     event = proxy.next() => event?,
//!     _ = client.next() => unreachable!("nothing is sent to the client"),
//! };
//! assert!(matches!(event, Event::Message(data) if &data[..] == b"hello"));
//! # Ok(())
//! # }
//! ```
//!
//! Without attestation, both ends refuse every address off loopback. No message is ever logged.

mod admission;
mod backoff;
mod connection;
mod dial;
mod directory;
mod error;
pub mod limits;
mod listener;
pub mod memory;
mod outbox;
mod peer;
mod pending;
pub mod ratls;
mod session;
mod stream;
mod transport;
mod work;

pub use admission::{ListenLimits, SourceLimits};
pub use backoff::Backoff;
pub use connection::Connection;
pub use dial::{DialConfig, DialMode, TcpDialer, dial, unverified_look};
pub use directory::{Dialers, Directory};
pub use error::{
    AcceptError, BindError, ConnectionError, DialError, Fault, FragmentError, HandshakeError, LinkFrameError,
    QueryError, SendError,
};
pub use listener::{ListenConfig, ListenMode, Listener};
pub use memory::memory_pair;
pub use outbox::{Outbox, Ticket, Withdrawal};
pub use peer::Peer;
pub use pending::Pending;
pub use ratls::{AttestedPeer, Identity, IdentityError, Link, Prover, Unverified, Verifier};
pub use session::{Event, IncomingQuery};
pub use transport::{Acceptor, Dialer};
