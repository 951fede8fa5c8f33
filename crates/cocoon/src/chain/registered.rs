//! The proxies that the root contract registers, as a directory to dial by.
//!
//! A record of type 1 pins the proxy's contract and payment key: whoever answers at its address must prove to have
//! them, or is refused. A record of type 0 is an address alone; who answers there must be a proxy of an accepted image.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_net::{Dialer, Dialers, Directory, TcpDialer};
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::contract::ProxyRecord;
use tokio::sync::watch;

use crate::attestation::Links;

/// Which of a proxy's two addresses is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one for clients.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "only a client dials it"))]
    Clients,
    /// The one for workers.
    #[cfg_attr(not(feature = "worker"), expect(dead_code, reason = "only a worker dials it"))]
    Workers,
}

/// Keeps a directory as the root has it.
#[derive(Debug)]
pub(crate) struct Registered {
    links: Links,
    side: Side,
    known: BTreeMap<u32, ProxyRecord>,
    dialers: watch::Sender<Dialers>,
}

impl Registered {
    /// The proxies of this root, and what keeps them so.
    pub(crate) fn new(links: Links, side: Side, root: &RootConfig) -> (Self, Directory) {
        let (dialers, directory) = watch::channel(Dialers::new());
        let mut this = Self { links, side, known: BTreeMap::new(), dialers };
        this.update(root);
        (this, Directory::following(directory))
    }

    /// Follows the root. Never ends; run it beside the role.
    pub(crate) async fn follow(mut self, mut root: watch::Receiver<Arc<RootConfig>>) {
        loop {
            let now = Arc::clone(&*root.borrow_and_update());
            self.update(&now);
            if root.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn update(&mut self, root: &RootConfig) {
        let records = &root.state.registered_proxies;
        if *records == self.known {
            return;
        }
        self.known.clone_from(records);
        let dialers = records.iter().filter_map(|(number, record)| Some((*number, self.dialer(*number, record)?)));
        self.dialers.send_replace(dialers.collect());
    }

    /// How to dial a proxy; none where its record cannot be used, which is said.
    fn dialer(&self, number: u32, record: &ProxyRecord) -> Option<Arc<dyn Dialer>> {
        let endpoint = match self.side {
            Side::Clients => record.clients(),
            Side::Workers => record.workers(),
        };
        let Ok(addr) = endpoint.parse::<SocketAddr>() else {
            tracing::warn!(proxy = number, endpoint, "a registered proxy has no address of the form ip:port");
            return None;
        };
        if self.links.are_plain() && !addr.ip().is_loopback() {
            tracing::warn!(proxy = number, %addr, "a registered proxy off this machine is not dialled over plain links");
            return None;
        }
        Some(Arc::new(TcpDialer::new(self.links.dial_pinned(addr, record.pinned().copied()))))
    }
}
