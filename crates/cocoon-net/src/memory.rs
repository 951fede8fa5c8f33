//! Byte streams in memory, for tests of this crate and of the roles: latency, odd chunks, cuts and half-open links,
//! under tokio's clock (paused or not), the same on every run.
//!
//! [`MemoryNetwork`] gives [`Dialer`]s and [`Acceptor`]s that go through the whole handshake, attested or not;
//! [`memory_pair`] gives two connections that are past it. Not for production: nobody but this process is ever at the other end.

mod pipe;

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::{AcceptError, DialError};
use crate::limits::{MEMORY_BACKLOG_MAX, MEMORY_LINK_BYTES};
use crate::peer::Peer;
use crate::pending::{Gate, Pending};
use crate::ratls::Link;
use crate::session::{Session, Side};
use crate::stream::Stream;
use crate::transport::{Acceptor, Dialer};

pub use crate::memory::pipe::{MemoryLink, MemoryStream};

/// The address of whoever is in this process.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// How a link behaves.
#[derive(Debug, Clone, Copy)]
pub struct LinkOptions {
    /// From a write to the moment when the other end can read it.
    pub latency: Duration,
    /// Bytes in flight in one direction before a write waits.
    pub capacity: usize,
    /// Whether reads and writes are cut into odd pieces.
    pub chunking: Chunking,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self { latency: Duration::ZERO, capacity: MEMORY_LINK_BYTES, chunking: Chunking::Whole }
    }
}

/// How much one read or write moves.
#[derive(Debug, Clone, Copy)]
pub enum Chunking {
    /// As much as there is.
    Whole,
    /// From 1 to `max` bytes, drawn from `seed`.
    Random {
        /// Where the draw begins.
        seed: u64,
        /// The most bytes that one call moves.
        max: usize,
    },
}

/// Two ends of one stream, and its switch.
#[must_use]
pub fn memory_link(options: LinkOptions) -> (MemoryStream, MemoryStream, MemoryLink) {
    pipe::link(options)
}

/// Two connected connections: a dialer's end and a listener's, without a handshake.
#[must_use]
pub fn memory_pair(name: &str) -> (Connection, Connection) {
    let (dialer, listener, _) = memory_pair_with(name, LinkOptions::default());
    (dialer, listener)
}

/// As [`memory_pair`], over a link of one's choice.
#[must_use]
pub fn memory_pair_with(name: &str, options: LinkOptions) -> (Connection, Connection, MemoryLink) {
    let (near, far, link) = memory_link(options);
    let name: Arc<str> = name.into();
    let end = |stream, side, first_query_id| {
        let session = Session::open(side, first_query_id, Instant::now().into_std());
        Connection::new(Stream::Memory(stream), session, Peer::InMemory { name: Arc::clone(&name) })
    };
    (end(near, Side::Dialer, 1), end(far, Side::Listener, 1), link)
}

/// Names and the listeners behind them, in memory. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    listeners: Arc<Mutex<HashMap<Arc<str>, Place>>>,
}

struct Place {
    streams: mpsc::Sender<MemoryStream>,
    options: LinkOptions,
    links: Vec<MemoryLink>,
}

impl MemoryNetwork {
    /// A network without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens under a name; a listener that had it before gets no more dials.
    #[must_use]
    pub fn listen(&self, name: &str, options: LinkOptions) -> MemoryAcceptor {
        let name: Arc<str> = name.into();
        let (streams, receiver) = mpsc::channel(MEMORY_BACKLOG_MAX);
        self.with(|listeners| listeners.insert(Arc::clone(&name), Place { streams, options, links: Vec::new() }));
        MemoryAcceptor { name, link: None, streams: tokio::sync::Mutex::new(receiver) }
    }

    /// A dialer of a name, which need not have a listener yet.
    #[must_use]
    pub fn dialer(&self, name: &str) -> MemoryDialer {
        MemoryDialer { network: self.clone(), name: name.into(), link: None }
    }

    /// As [`listen`](Self::listen), on attested links.
    #[must_use]
    pub fn listen_attested(&self, name: &str, options: LinkOptions, link: Arc<Link>) -> MemoryAcceptor {
        MemoryAcceptor { link: Some(link), ..self.listen(name, options) }
    }

    /// As [`dialer`](Self::dialer), over attested links.
    #[must_use]
    pub fn dialer_attested(&self, name: &str, link: Arc<Link>) -> MemoryDialer {
        MemoryDialer { link: Some(link), ..self.dialer(name) }
    }

    /// A bare stream to a name, with the proof of work behind it: for peers that do not keep to the protocol.
    ///
    /// # Errors
    /// When nobody listens, or the listener asks for more than a proof of work.
    pub async fn open_raw(&self, name: &str) -> Result<MemoryStream, DialError> {
        let refused = || DialError::Io(std::io::ErrorKind::ConnectionRefused.into());
        let mut stream = Stream::Memory(self.open(name).ok_or_else(refused)?);
        crate::dial::answer_work(&mut stream).await?;
        match stream {
            Stream::Memory(stream) => Ok(stream),
            Stream::Tcp(_) | Stream::Tls(_) => Err(refused()),
        }
    }

    /// Resets every connection to a name; the listener stays.
    pub fn cut(&self, name: &str) {
        self.take_links(name).iter().for_each(MemoryLink::cut);
    }

    /// Freezes every connection to a name: both ends see silence, as after a power failure of the other.
    pub fn freeze(&self, name: &str) {
        self.take_links(name).iter().for_each(MemoryLink::freeze);
    }

    fn take_links(&self, name: &str) -> Vec<MemoryLink> {
        self.with(|listeners| listeners.get_mut(name).map(|place| std::mem::take(&mut place.links)).unwrap_or_default())
    }

    fn open(&self, name: &str) -> Option<MemoryStream> {
        self.with(|listeners| {
            let place = listeners.get_mut(name)?;
            let (near, far, link) = memory_link(place.options);
            place.streams.try_send(far).ok()?;
            place.links.retain(MemoryLink::is_alive);
            place.links.push(link);
            Some(near)
        })
    }

    fn with<T>(&self, use_listeners: impl FnOnce(&mut HashMap<Arc<str>, Place>) -> T) -> T {
        use_listeners(&mut self.listeners.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|listeners| f.debug_set().entries(listeners.keys()).finish())
    }
}

/// Dials one name of a [`MemoryNetwork`].
#[derive(Debug, Clone)]
pub struct MemoryDialer {
    network: MemoryNetwork,
    name: Arc<str>,
    link: Option<Arc<Link>>,
}

#[async_trait]
impl Dialer for MemoryDialer {
    async fn dial(&self) -> Result<Connection, DialError> {
        let refused = || DialError::Io(std::io::ErrorKind::ConnectionRefused.into());
        let mut stream = Stream::Memory(self.network.open(&self.name).ok_or_else(refused)?);
        crate::dial::answer_work(&mut stream).await?;
        if let Some(link) = &self.link {
            return crate::dial::shake_hands_attested(stream, Arc::clone(link), NOWHERE).await;
        }
        crate::dial::shake_hands(stream, Peer::InMemory { name: Arc::clone(&self.name) }).await
    }
}

/// Accepts the dials to one name of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryAcceptor {
    name: Arc<str>,
    link: Option<Arc<Link>>,
    streams: tokio::sync::Mutex<mpsc::Receiver<MemoryStream>>,
}

#[async_trait]
impl Acceptor for MemoryAcceptor {
    async fn accept(&self) -> Result<Pending, AcceptError> {
        let stream = self.streams.lock().await.recv().await.ok_or(AcceptError::Closed)?;
        let gate = match &self.link {
            Some(link) => Gate::Attested { link: Arc::clone(link), addr: NOWHERE },
            None => Gate::Work { peer: Peer::InMemory { name: Arc::clone(&self.name) } },
        };
        Ok(Pending::new(Stream::Memory(stream), gate, None))
    }
}
