//! From configuration to running roles: sockets, dialers, clocks, engines.
//!
//! A role gets what it needs as parameters and is a future until it is told to stop; nothing here decides anything.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

#[cfg(any(feature = "client", feature = "proxy", feature = "worker"))]
use anyhow::Result;
#[cfg(any(feature = "client", feature = "worker"))]
use anyhow::bail;
#[cfg(any(feature = "client", feature = "proxy"))]
use anyhow::{Context as _, anyhow};
#[cfg(feature = "proxy")]
use cocoon_net::{Acceptor, BindError, ListenConfig, Listener};
#[cfg(any(feature = "client", feature = "worker"))]
use cocoon_net::{Dialer, TcpDialer};
use cocoon_units::Clock;
#[cfg(feature = "worker")]
use cocoon_worker::{Engine, WorkerConfig, engine::Health};

#[cfg(any(feature = "client", feature = "worker"))]
use crate::attestation::Links;
use crate::clock::SystemClock;

/// Where a proxy listens for clients, and where clients look for it, if nothing else is configured.
#[cfg(any(feature = "client", feature = "proxy"))]
pub(crate) const PROXY_FOR_CLIENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_001);

/// Where a proxy listens for workers, and where workers look for it, if nothing else is configured.
#[cfg(any(feature = "proxy", feature = "worker"))]
pub(crate) const PROXY_FOR_WORKERS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_002);

/// The clock of every role.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// The time in whole seconds, as evidence and policies count it.
#[cfg(feature = "attest")]
pub(crate) fn unix_now_s() -> u64 {
    unix_s(clock().as_ref())
}

/// The same of any clock.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time is finite, and the cast saturates")]
pub(crate) fn unix_s(clock: &dyn Clock) -> u64 {
    clock.unix_now().as_secs_f64() as u64
}

/// One dialer per proxy.
#[cfg(any(feature = "client", feature = "worker"))]
pub(crate) fn dialers(proxies: &[SocketAddr], links: &Links) -> Vec<Arc<dyn Dialer>> {
    let dialer = |addr: &SocketAddr| Arc::new(TcpDialer::new(links.dial(*addr))) as Arc<dyn Dialer>;
    proxies.iter().map(dialer).collect()
}

/// The proxies that a configuration names: checked, or one at its usual place. None where the root contract names them.
#[cfg(any(feature = "client", feature = "worker"))]
pub(crate) fn proxies(
    named: Option<Vec<SocketAddr>>,
    has_root: bool,
    usual: SocketAddr,
    links: &Links,
) -> Result<Option<Vec<SocketAddr>>> {
    if named.is_none() && has_root {
        return Ok(None);
    }
    let proxies = named.unwrap_or_else(|| vec![usual]);
    check_proxies(&proxies, links)?;
    Ok(Some(proxies))
}

/// What a role without proxies is told.
#[cfg(any(feature = "client", feature = "worker"))]
pub(crate) const NO_PROXIES: &str = "`proxies` is empty: name at least one proxy";

/// Refuses an empty list, and proxies off this machine for links without attestation.
#[cfg(any(feature = "client", feature = "worker"))]
fn check_proxies(proxies: &[SocketAddr], links: &Links) -> Result<()> {
    if proxies.is_empty() {
        bail!(NO_PROXIES);
    }
    // What is dialled without attestation could be anyone.
    let far = proxies.iter().find(|proxy| !proxy.ip().is_loopback());
    if let (true, Some(proxy)) = (links.are_plain(), far) {
        bail!(
            "`proxies` names {proxy}: with `insecure_plain_loopback` under [attestation], only loopback addresses are \
             accepted"
        );
    }
    Ok(())
}

/// Offers no more requests at once than an engine runs that this many workers share.
#[cfg(feature = "worker")]
pub(crate) fn fit_slots(config: &mut WorkerConfig, engine: &dyn Engine, workers: u16) {
    if let Some(slots) = engine.load().slots {
        // A worker must offer something; what is too much waits in the engine's own queue.
        let share = (slots / u32::from(workers.max(1))).max(1);
        config.max_active_requests = config.max_active_requests.min(share);
    }
}

/// Why an engine takes no requests; none when it does.
#[cfg(feature = "worker")]
pub(crate) async fn engine_trouble(engine: &dyn Engine) -> Option<String> {
    match engine.health().await {
        Health::Ready => None,
        Health::Loading => Some("it is loading its model".to_owned()),
        Health::Failed(why) => Some(why),
    }
}

/// Binds a socket for HTTP. `setting` is what the user can change: it is named when the port is taken.
#[cfg(feature = "client")]
pub(crate) fn bind_http(addr: SocketAddr, setting: &str) -> Result<tokio::net::TcpListener> {
    let socket = std::net::TcpListener::bind(addr).map_err(|error| explain_bind(&error, addr, setting))?;
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket).context("cannot watch the socket")
}

/// Binds a socket for sessions of other nodes.
#[cfg(feature = "proxy")]
pub(crate) async fn bind_sessions(
    config: ListenConfig,
    pow_difficulty_bits: i32,
    setting: &str,
) -> Result<(Arc<dyn Acceptor>, SocketAddr)> {
    let addr = config.addr;
    let config = ListenConfig { pow_difficulty_bits, ..config };
    match Listener::bind(config).await {
        Ok(listener) => {
            let addr = listener.local_addr();
            Ok((Arc::new(listener), addr))
        }
        Err(BindError::Io { source, .. }) => Err(explain_bind(&source, addr, setting)),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {addr} ({setting})")),
    }
}

#[cfg(any(feature = "client", feature = "proxy"))]
fn explain_bind(error: &std::io::Error, addr: SocketAddr, setting: &str) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        return anyhow!(
            "port {} of {} is taken: stop what listens there, or choose another with {setting}",
            addr.port(),
            addr.ip()
        );
    }
    anyhow!("cannot listen on {addr}: {error}; choose another address with {setting}")
}
