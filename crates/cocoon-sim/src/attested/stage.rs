//! The nodes of the benchmark: a simulated platform, and links of client, proxy and worker on it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use cocoon_attest::policy::Mode;
use cocoon_attest::policy::template::{Images, Simulated, simulated};
use cocoon_attest::{Claims, CollateralSource, Expected, Policy, PublicKeys, Role};
use cocoon_net::{
    Connection, DialConfig, Identity, Link, ListenConfig, ListenLimits, Listener, Prover, Verifier, dial,
};
use cocoon_simtee::{Platform, SimImage};
use cocoon_units::{Clock, FixedClock, UnixTime};
use tokio::task::JoinSet;

use super::Failure;
use crate::load::unix_micros;

/// The time at which everything happens; no certificate expires during a benchmark.
pub(super) const NOW_UNIX_S: u32 = 1_790_000_000;

/// The model that workers here have.
pub(crate) const MODEL: &str = "benchmark";

/// The seed of every node's session key.
const SESSION_SEED: [u8; 32] = [4; 32];

/// What all links share.
pub(crate) struct Stage {
    pub(super) platform: Platform,
    clock: Arc<dyn Clock>,
    now_unix_s: u64,
}

/// A listener that accepts whoever is accepted, and keeps each connection until its dialer goes.
pub(super) struct Door {
    pub(super) addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Stage {
    pub(super) fn new() -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(FixedClock::at(UnixTime::from_secs_f64(f64::from(NOW_UNIX_S))));
        let now_unix_s = u64::from(NOW_UNIX_S);
        Ok(Self { platform: Platform::generate(now_unix_s), clock, now_unix_s })
    }

    /// The platform of a folder, which other processes share, at the time that it is now.
    pub(crate) fn of_folder(folder: &Path) -> Result<Self, Failure> {
        let now = UnixTime::from_secs_f64(unix_micros() / 1e6);
        let clock: Arc<dyn Clock> = Arc::new(FixedClock::at(now));
        let platform = Platform::open(folder, Arc::clone(&clock))?;
        Ok(Self { platform, clock, now_unix_s: now.as_secs() })
    }

    /// The policy for a peer of this role.
    pub(super) fn policy(&self, role: Role, mode: Mode) -> Result<Policy, Failure> {
        let text = simulated(&Simulated {
            name: "benchmark",
            tdx_root_pem: Some(&self.platform.root_pem()),
            sev_snp_root_pem: None,
            gpu_root_pem: None,
            images: Images::Of(&[SimImage::for_role(role).manifest().sha256()]),
            roles: &[role],
            mode,
        });
        Ok(Policy::from_toml(&text)?)
    }

    /// One end of a link: what it is, and in which mode it asks for what of whom.
    pub(crate) fn link(&self, role: Role, peer: Role, mode: Mode) -> Result<Arc<Link>, Failure> {
        let identity = Arc::new(Identity::new(&seed(role), self.now_unix_s)?);
        let collateral: Arc<dyn CollateralSource> = Arc::new(self.platform.collateral_source());
        let prover = (role != Role::Client).then(|| {
            let td = self.platform.td(SimImage::for_role(role));
            let claims = claims(role, identity.public_key(), self.now_unix_s);
            let staple = Some(Arc::clone(&collateral));
            Arc::new(Prover::new(Arc::new(td), claims, &SESSION_SEED, staple, Arc::clone(&self.clock)))
        });
        let verifier = if peer == Role::Client {
            None
        } else {
            Some(Arc::new(Verifier::new(self.policy(peer, mode)?, collateral, Arc::clone(&self.clock))))
        };
        let expected = Expected { role: Some(peer), ..Expected::default() };
        Ok(Arc::new(Link { role, identity, prover, verifier, expected }))
    }

    /// Listens on loopback, attested or not.
    pub(super) async fn listen(&self, link: Option<Arc<Link>>) -> Result<Door, Failure> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = match link {
            Some(link) => ListenConfig::attested(any, link),
            None => ListenConfig::insecure_loopback(any),
        };
        // One machine makes more handshakes here than all honest dialers together; the work it would be asked for is
        // not what is measured.
        config.limits = ListenLimits { pow_difficulty_bits_max: 0, ..ListenLimits::default() };
        let listener = Listener::bind(config).await?;
        let addr = listener.local_addr();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut peers = JoinSet::new();
            while let Ok(pending) = listener.accept().await {
                while peers.try_join_next().is_some() {}
                peers.spawn(async move {
                    let Ok(mut connection) = pending.handshake().await else { return };
                    while connection.next().await.is_ok() {}
                });
            }
        });
        Ok(Door { addr, _tasks: tasks })
    }
}

/// One connection, open and closed again.
pub(crate) async fn connect(addr: SocketAddr, link: Option<&Arc<Link>>) -> Result<Connection, Failure> {
    let config = match link {
        Some(link) => DialConfig::attested(addr, Arc::clone(link)),
        None => DialConfig::insecure_loopback(addr),
    };
    Ok(dial(config).await?)
}

/// The seed of a role's TLS key.
fn seed(role: Role) -> [u8; 32] {
    let mut seed = [1; 32];
    seed.iter_mut().zip(role.name().bytes()).for_each(|(byte, letter)| *byte = letter);
    seed
}

/// What a node claims whose TLS key this is.
pub(super) fn claims(role: Role, tls: [u8; 32], time_unix_s: u64) -> Claims {
    let none = [0; 32];
    Claims {
        version: 1,
        role,
        instance: [1; 16],
        boot: [2; 16],
        time_unix_s,
        config_sha256: [3; 32],
        model: (role == Role::Worker).then(|| MODEL.to_owned()),
        contract: None,
        keys: PublicKeys { tls, session: none, receipt: none, payment: none, wallet: none },
        gpu_sha256: None,
    }
}
