//! One handshake after the other, of each kind in turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use cocoon_attest::Role;
use cocoon_attest::policy::Mode;
use cocoon_net::Link;

use super::plain::PlainTls;
use super::stage::{Stage, connect};
use super::{AttestConfig, Failure, HandshakeCost, cpu_us, median};

/// A kind of link.
enum Kind {
    Tls(PlainTls),
    Node { addr: SocketAddr, link: Option<Arc<Link>> },
}

struct Measured {
    name: &'static str,
    kind: Kind,
    cpu_us: Vec<f64>,
    wall_us: Vec<f64>,
}

pub(super) async fn measure(stage: &Stage, config: AttestConfig) -> Result<Vec<HandshakeCost>, Failure> {
    let for_clients = stage.listen(Some(stage.link(Role::Proxy, Role::Client, Mode::Strict)?)).await?;
    let for_workers = stage.listen(Some(stage.link(Role::Proxy, Role::Worker, Mode::Strict)?)).await?;
    let open = stage.listen(None).await?;
    let node = |addr, link| Kind::Node { addr, link };
    let client = |mode| stage.link(Role::Client, Role::Proxy, mode).map(Some);
    let worker = stage.link(Role::Worker, Role::Proxy, Mode::Strict).map(Some);
    let mut kinds = [
        Measured::new("no TLS", node(open.addr, None)),
        Measured::new("mutual TLS 1.3", Kind::Tls(PlainTls::start().await?)),
        Measured::new("client, session key", node(for_clients.addr, client(Mode::SessionKey)?)),
        Measured::new("client, strict", node(for_clients.addr, client(Mode::Strict)?)),
        Measured::new("worker, strict both ways", node(for_workers.addr, worker?)),
    ];
    // The first contact of each is always strict, and opens caches.
    for kind in &kinds {
        kind.connect().await?;
    }
    for _ in 0..config.rounds {
        for kind in &mut kinds {
            kind.round(config.handshakes).await?;
        }
    }
    Ok(kinds.into_iter().map(Measured::cost).collect())
}

impl Measured {
    fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, cpu_us: Vec::new(), wall_us: Vec::new() }
    }

    async fn connect(&self) -> Result<(), Failure> {
        match &self.kind {
            Kind::Tls(tls) => tls.connect().await,
            Kind::Node { addr, link } => connect(*addr, link.as_ref()).await.map(drop),
        }
    }

    async fn round(&mut self, handshakes: usize) -> Result<(), Failure> {
        let (began, cpu_before) = (Instant::now(), cpu_us()?);
        for _ in 0..handshakes {
            self.connect().await?;
        }
        // The far end may still be closing.
        tokio::task::yield_now().await;
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
        let each = handshakes.max(1) as f64;
        self.cpu_us.push((cpu_us()? - cpu_before) / each);
        self.wall_us.push(began.elapsed().as_secs_f64() * 1e6 / each);
        Ok(())
    }

    fn cost(self) -> HandshakeCost {
        HandshakeCost { link: self.name, cpu_us: median(self.cpu_us), wall_us: median(self.wall_us) }
    }
}
