//! How roles reach each other, without knowing over what: real sockets, or memory in tests.

use std::fmt;

use async_trait::async_trait;

use crate::connection::Connection;
use crate::dial::TcpDialer;
use crate::error::{AcceptError, DialError};
use crate::listener::Listener;
use crate::pending::Pending;

/// Makes connections to one peer.
#[async_trait]
pub trait Dialer: fmt::Debug + Send + Sync {
    /// Connects, with the whole handshake. Retries are the caller's, see [`Backoff`](crate::Backoff).
    ///
    /// # Errors
    /// Why no connection was made.
    async fn dial(&self) -> Result<Connection, DialError>;
}

/// Takes connections of many peers.
#[async_trait]
pub trait Acceptor: fmt::Debug + Send + Sync {
    /// The next stream that a peer opened. Cancel-safe. Run its [`handshake`](Pending::handshake) in a task of its
    /// own, so that a slow peer holds up nobody.
    ///
    /// # Errors
    /// When nothing can be accepted any more.
    async fn accept(&self) -> Result<Pending, AcceptError>;
}

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(&self) -> Result<Connection, DialError> {
        crate::dial::dial(self.config()).await
    }
}

#[async_trait]
impl Acceptor for Listener {
    async fn accept(&self) -> Result<Pending, AcceptError> {
        Self::accept(self).await
    }
}
