//! From `[attestation]` to protected links: keys, evidence, policy, collateral.
//!
//! 1. [`settings`] says what was asked for; nothing weak is a default.
//! 2. Keys come from the TEE, from a file, or from this start; each has one purpose.
//! 3. A [`Prover`] shows evidence of this machine, or of a simulated platform; a [`Verifier`] judges that of peers.
//! 4. [`Links`] hands both to listeners and dialers.
//!
//! No decision about trust is made here: that is the policy's.

mod keys;
mod settings;
#[cfg(feature = "dev")]
pub(crate) mod simulated;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cocoon_attest::limits::{MANIFEST_BYTES_MAX, POLICY_BYTES_MAX};
use cocoon_attest::{Attester, Claims, CollateralSource, Expected, Format, Policy, Role};
#[cfg(any(feature = "client", feature = "worker", feature = "attest"))]
use cocoon_net::DialConfig;
#[cfg(feature = "proxy")]
use cocoon_net::ListenConfig;
use cocoon_net::{Identity, Link, Prover, Verifier};
use cocoon_tee::attester::SevGuest;
use cocoon_tee::keys::{InsecureFileKeys, SnpDerivedKeys};
use cocoon_tee::{
    CollateralCache, Kds, KeyProvider, Machine, NodeKeys, Pccs, Protection, TrustedClock, Vendors, detect,
};
#[cfg(any(feature = "client", feature = "worker", feature = "attest"))]
use cocoon_ton::contract::Pin;
use cocoon_units::Clock;

use self::keys::{RunKeys, random};
#[cfg(any(feature = "proxy", feature = "worker"))]
pub(crate) use self::settings::NodeSettings;
#[cfg(feature = "client")]
pub(crate) use self::settings::VerifierSettings;
pub(crate) use self::settings::{EvidenceFrom, OnMachine, Plan, Ways};
use crate::chain::policy::{self, Filler};
#[cfg(any(feature = "client", feature = "proxy", feature = "worker"))]
use crate::terminal;
use crate::{config, wiring};

/// The first of the month of this release: no clock that shows an earlier time is right.
const RELEASED_UNIX_S: u64 = 1_793_491_200;

/// The last time seen, in `cache_dir`.
const LAST_SEEN_TIME: &str = "last-seen-time";

/// What is said wherever the simulated platform is used.
#[cfg(any(feature = "attest", feature = "dev"))]
pub(crate) const PROVES_NOTHING: &str = "simulated TEE: proves nothing about this machine";

/// What is said wherever links are plain.
#[cfg(any(feature = "client", feature = "proxy", feature = "worker"))]
const PLAIN: &str = "plain links: no encryption and no evidence, on this machine only";

/// How a role's links are protected.
#[derive(Debug, Clone)]
pub(crate) enum Links {
    /// Packets in plain, within this machine.
    InsecurePlainLoopback,
    /// Evidence, as far as the role shows and asks for it.
    Attested(Attestation),
}

/// What a role shows and asks for.
#[derive(Debug, Clone)]
pub(crate) struct Attestation {
    role: Role,
    identity: Arc<Identity>,
    prover: Option<Arc<Prover>>,
    verifier: Arc<Verifier>,
    /// The node's keys, and how long they last; a client has none.
    #[cfg_attr(not(any(feature = "proxy", feature = "worker")), expect(dead_code, reason = "a client has none"))]
    keys: Option<Arc<NodeKeys>>,
    #[cfg_attr(not(any(feature = "proxy", feature = "worker")), expect(dead_code, reason = "a client has none"))]
    lifetime: Lifetime,
    /// What a client accepts of the workers that sign its receipts.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "only a client judges receipts"))]
    worker_policy: Option<Policy>,
    clock: Arc<TrustedClock>,
}

impl Links {
    /// The links of a client, which shows nothing.
    #[cfg(feature = "client")]
    pub(crate) fn of_client(settings: VerifierSettings, images: ListedBy) -> Result<Self> {
        Self::planned(Role::Client, &settings.plan()?, None, images)
    }

    /// The links of a proxy or worker, with the digest of its configuration file.
    #[cfg(any(feature = "proxy", feature = "worker"))]
    pub(crate) fn of_node(
        role: Role,
        settings: NodeSettings,
        config_sha256: [u8; 32],
        images: ListedBy,
    ) -> Result<Self> {
        Self::planned(role, &settings.plan()?, Some(config_sha256), images)
    }

    /// The links of a plan. One that proves nothing is said to, at every start and whatever the log's filter.
    #[cfg(any(feature = "client", feature = "proxy", feature = "worker"))]
    fn planned(role: Role, plan: &Plan, config_sha256: Option<[u8; 32]>, images: ListedBy) -> Result<Self> {
        let Plan::Attested(ways) = plan else {
            terminal::note(PLAIN);
            return Ok(Self::InsecurePlainLoopback);
        };
        let attestation = Attestation::new(role, ways, config_sha256, images)?;
        policy::is_fit(&attestation.verifier.policy(), images)?;
        #[cfg(feature = "dev")]
        if matches!(ways.evidence, EvidenceFrom::InsecureSimulated(_)) {
            terminal::note(PROVES_NOTHING);
        }
        Ok(Self::Attested(attestation))
    }

    /// How to dial a proxy.
    #[cfg(any(feature = "client", feature = "worker"))]
    pub(crate) fn dial(&self, addr: SocketAddr) -> DialConfig {
        self.dial_pinned(addr, None)
    }

    /// How to dial a proxy that must have this contract and payment key. Plain links cannot make sure of that; the
    /// session compares what the proxy says.
    #[cfg(any(feature = "client", feature = "worker"))]
    pub(crate) fn dial_pinned(&self, addr: SocketAddr, pin: Option<Pin>) -> DialConfig {
        match self {
            Self::InsecurePlainLoopback => DialConfig::insecure_loopback(addr),
            Self::Attested(attestation) => attestation.dial(addr, pin),
        }
    }

    /// What keeps the policy filled with what the root contract lists; none where nobody is asked for evidence.
    pub(crate) fn filler(&self) -> Option<Filler> {
        match self {
            Self::InsecurePlainLoopback => None,
            Self::Attested(attestation) => Some(Filler::new(Arc::clone(&attestation.verifier), attestation.role)),
        }
    }

    /// The node's keys, which a node on a chain must have, and must still have after a restart: its wallet and its
    /// books are lost with them.
    #[cfg(any(feature = "proxy", feature = "worker"))]
    pub(crate) fn lasting_keys(&self) -> Result<&Arc<NodeKeys>> {
        let attestation = match self {
            Self::InsecurePlainLoopback => None,
            Self::Attested(attestation) => Some(attestation),
        };
        let Some((attestation, keys)) = attestation.and_then(|known| Some((known, known.keys.as_ref()?))) else {
            bail!(
                "a node on a chain needs keys, which its TEE derives: set `tee` or, for development, \
                 `insecure_simulated_tee` under [attestation]"
            );
        };
        match attestation.lifetime {
            Lifetime::Lasting => Ok(keys),
            Lifetime::ThisStart => bail!(
                "this TEE derives no keys, so those of this start would be gone after it, and the wallet and the books \
                 with them: set `insecure_file_keys` under [attestation]"
            ),
        }
    }

    /// The node's keys, if it has any.
    #[cfg(feature = "worker")]
    pub(crate) const fn keys(&self) -> Option<&Arc<NodeKeys>> {
        match self {
            Self::InsecurePlainLoopback => None,
            Self::Attested(attestation) => attestation.keys.as_ref(),
        }
    }

    /// What a client accepts of the workers that sign its receipts, as its author wrote it.
    #[cfg(feature = "client")]
    pub(crate) fn worker_policy(&self) -> Option<Policy> {
        match self {
            Self::InsecurePlainLoopback => None,
            Self::Attested(attestation) => attestation.worker_policy.clone(),
        }
    }

    /// The clock by which evidence is judged.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::InsecurePlainLoopback => wiring::clock(),
            Self::Attested(attestation) => Arc::<TrustedClock>::clone(&attestation.clock),
        }
    }

    /// How to listen for peers of a role.
    #[cfg(feature = "proxy")]
    pub(crate) fn listen(&self, addr: SocketAddr, peers: Role) -> ListenConfig {
        match self {
            Self::InsecurePlainLoopback => ListenConfig::insecure_loopback(addr),
            Self::Attested(attestation) => ListenConfig::attested(addr, attestation.link(peers)),
        }
    }

    /// What shows this role's evidence.
    #[cfg(any(feature = "proxy", feature = "worker"))]
    pub(crate) fn prover(&self) -> Option<Arc<Prover>> {
        match self {
            Self::InsecurePlainLoopback => None,
            Self::Attested(attestation) => attestation.prover.clone(),
        }
    }

    /// Keeps the last time seen, so that a host which sets its clock back is noticed at the next start. Never ends; run it
    /// beside the role.
    #[cfg(any(feature = "proxy", feature = "worker"))]
    pub(crate) async fn keep_time(&self) {
        match self {
            Self::InsecurePlainLoopback => std::future::pending().await,
            Self::Attested(attestation) => Arc::clone(&attestation.clock).keep().await,
        }
    }

    /// Whether packets go in plain, which they only do within this machine.
    #[cfg(any(feature = "client", feature = "worker"))]
    pub(crate) const fn are_plain(&self) -> bool {
        matches!(self, Self::InsecurePlainLoopback)
    }
}

/// Who lists the images that a role accepts, where its configuration names no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListedBy {
    /// The policy itself: there is no chain.
    Policy,
    /// The root contract.
    Root,
}

impl ListedBy {
    /// Whose word it is where a chain is followed, or none is.
    pub(crate) fn of<T>(chain: Option<&T>) -> Self {
        chain.map_or(Self::Policy, |_| Self::Root)
    }
}

impl Attestation {
    /// What these ways make of a role; a digest of its configuration for a role that shows evidence.
    fn new(role: Role, ways: &Ways, config_sha256: Option<[u8; 32]>, images: ListedBy) -> Result<Self> {
        #[cfg(feature = "dev")]
        if let EvidenceFrom::InsecureSimulated(folder) = &ways.evidence {
            let simulated = simulated::Simulated::open(folder)?;
            let collateral = simulated.collateral();
            let policy = match &ways.policy {
                Some(path) => read_policy(path)?,
                None if images == ListedBy::Root => simulated.policy_by_root(role)?,
                None => simulated.policy(role)?,
            };
            let node =
                config_sha256.map(|config_sha256| simulated.node(role, role.name(), config_sha256)).transpose()?;
            let worker_policy = match (&ways.worker_policy, images) {
                (Some(path), _) => read_policy(path)?,
                (None, ListedBy::Root) => simulated.policy_by_root(Role::Proxy)?,
                (None, ListedBy::Policy) => simulated.policy(Role::Proxy)?,
            };
            let assembled = Self::assemble(role, node, policy, collateral, wiring::clock())?;
            return Ok(assembled.with_worker_policy(Some(worker_policy)));
        }
        #[cfg(not(feature = "dev"))]
        let _ = images;
        if matches!(ways.evidence, EvidenceFrom::InsecureSimulated(_)) {
            bail!("`insecure_simulated_tee` under [attestation]: this build has no simulated TEE");
        }
        let path = ways.policy.as_deref().context("`policy` under [attestation] is missing")?;
        let policy = read_policy(path)?;
        let collateral = collateral(ways.pccs.as_deref(), ways.cache_dir.as_deref())?;
        let node = match config_sha256 {
            Some(config_sha256) => Some(machine_node(ways, config_sha256)?),
            None => None,
        };
        let worker_policy = ways.worker_policy.as_deref().map(read_policy).transpose()?;
        Ok(Self::assemble(role, node, policy, collateral, wiring::clock())?.with_worker_policy(worker_policy))
    }

    /// Judges workers that sign receipts by this policy.
    pub(crate) fn with_worker_policy(self, worker_policy: Option<Policy>) -> Self {
        Self { worker_policy, ..self }
    }

    /// A client for one look at a proxy, with a key of its own.
    #[cfg(feature = "attest")]
    pub(crate) fn visitor(policy: Policy, pccs: Option<&str>) -> Result<Self> {
        Self::assemble(Role::Client, None, policy, collateral(pccs, None)?, wiring::clock())
    }

    /// Puts a role's parts together.
    pub(crate) fn assemble(
        role: Role,
        node: Option<Node>,
        policy: Policy,
        collateral: Arc<dyn CollateralSource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let lifetime = node.as_ref().map_or(Lifetime::ThisStart, |node| node.lifetime);
        let (kept_time, node) = match node {
            Some(mut node) => (node.clock.take(), Some(node)),
            None => (None, None),
        };
        let kept_time = kept_time.unwrap_or_else(|| TrustedClock::without_memory(clock, RELEASED_UNIX_S));
        kept_time.check()?;
        let kept_time = Arc::new(kept_time);
        let clock: Arc<dyn Clock> = Arc::<TrustedClock>::clone(&kept_time);
        let now = wiring::unix_s(clock.as_ref());
        let (tls_seed, prover, keys) = match node {
            None => (random()?, None, None),
            Some(Node { attester, keys, lifetime: _, config_sha256, clock: _ }) => {
                let claims = claims(role, &keys, config_sha256, now)?;
                let session = keys.session().as_bytes();
                let staple = Some(Arc::clone(&collateral));
                let prover = Prover::new(attester, claims, session, staple, Arc::clone(&clock));
                (zeroize::Zeroizing::new(*keys.tls().as_bytes()), Some(Arc::new(prover)), Some(Arc::new(keys)))
            }
        };
        let identity = Arc::new(Identity::new(&tls_seed, now).context("no TLS identity")?);
        let verifier = Arc::new(Verifier::new(policy, collateral, clock));
        Ok(Self { role, identity, prover, verifier, keys, lifetime, worker_policy: None, clock: kept_time })
    }

    /// How to dial a proxy.
    #[cfg(any(feature = "client", feature = "worker", feature = "attest"))]
    pub(crate) fn dial(&self, addr: SocketAddr, pin: Option<Pin>) -> DialConfig {
        let (contract, payment_key) = pin.map(|pin| (pin.contract.raw(), pin.payment_key)).unzip();
        let expected = Expected { role: Some(Role::Proxy), contract, payment_key, ..Expected::default() };
        DialConfig::attested(addr, self.link_expecting(Role::Proxy, expected))
    }

    /// The link to peers of a role. Clients run on their owners' hosts, so they are asked for nothing.
    #[cfg(any(feature = "proxy", feature = "attest"))]
    pub(crate) fn link(&self, peers: Role) -> Arc<Link> {
        self.link_expecting(peers, Expected { role: Some(peers), ..Expected::default() })
    }

    fn link_expecting(&self, peers: Role, expected: Expected) -> Arc<Link> {
        let verifier = (peers != Role::Client).then(|| Arc::clone(&self.verifier));
        Arc::new(Link {
            role: self.role,
            identity: Arc::clone(&self.identity),
            prover: self.prover.clone(),
            verifier,
            expected,
        })
    }
}

/// What makes a role one that shows evidence.
#[derive(Debug)]
pub(crate) struct Node {
    attester: Arc<dyn Attester>,
    keys: NodeKeys,
    lifetime: Lifetime,
    config_sha256: [u8; 32],
    /// One that remembers over restarts; none where nothing keeps a key for that.
    clock: Option<TrustedClock>,
}

/// A node on this machine's TEE.
fn machine_node(ways: &Ways, config_sha256: [u8; 32]) -> Result<Node> {
    let attester = attester(&ways.evidence).context(
        "nothing here shows evidence: run the role in a TEE, or, for development, set `insecure_simulated_tee` or \
         `insecure_plain_loopback` under [attestation]",
    )?;
    let (provider, lifetime) = key_provider(attester.format(), ways.insecure_file_keys.as_deref())?;
    let origin = provider.describe();
    tracing::info!(protection = ?origin.protection, origin = %origin.text, "keys");
    let clock = match (&ways.cache_dir, lifetime) {
        (Some(folder), Lifetime::Lasting) => {
            std::fs::create_dir_all(folder).context("`cache_dir` under [attestation]")?;
            Some(TrustedClock::open(wiring::clock(), RELEASED_UNIX_S, folder.join(LAST_SEEN_TIME), provider.as_ref())?)
        }
        (Some(_), Lifetime::ThisStart) | (None, _) => None,
    };
    Ok(Node { keys: NodeKeys::derive(provider.as_ref())?, lifetime, attester, config_sha256, clock })
}

/// The claims of a node before each use fills in time and GPUs.
fn claims(role: Role, keys: &NodeKeys, config_sha256: [u8; 32], now: u64) -> Result<Claims> {
    Ok(Claims {
        version: 1,
        role,
        instance: keys.instance(),
        boot: *random()?,
        time_unix_s: now,
        config_sha256,
        model: None,
        contract: None,
        keys: keys.public(),
        gpu_sha256: None,
    })
}

/// What shows evidence.
pub(crate) fn attester(from: &EvidenceFrom) -> Result<Arc<dyn Attester>> {
    match from {
        EvidenceFrom::Machine(machine) => self::machine(machine),
        EvidenceFrom::Nothing => bail!("nothing is configured that shows evidence"),
        #[cfg(feature = "dev")]
        EvidenceFrom::InsecureSimulated(folder) => Ok(simulated::Simulated::open(folder)?.attester(Role::Proxy)),
        #[cfg(not(feature = "dev"))]
        EvidenceFrom::InsecureSimulated(_) => bail!("this build has no simulated TEE"),
    }
}

/// What shows evidence of this machine.
fn machine(OnMachine { tee, manifest, runtime_event_log }: &OnMachine) -> Result<Arc<dyn Attester>> {
    let manifest = manifest.as_deref().map(|path| config::read_text(path, MANIFEST_BYTES_MAX as u64)).transpose();
    let manifest = manifest.context("`manifest` under [attestation]")?.map(String::into_bytes);
    let places = Machine { runtime_event_log: runtime_event_log.clone(), ..Machine::default() };
    Ok(Arc::new(detect(&places, *tee, manifest)?))
}

/// Reads a policy; the error names the file and the place.
pub(crate) fn read_policy(path: &Path) -> Result<Policy> {
    let text = config::read_text(path, POLICY_BYTES_MAX as u64)?;
    if text.trim().is_empty() {
        bail!("{} is empty: `cocoon attest policy example` prints a policy to begin with", path.display());
    }
    Policy::from_toml(&text).with_context(|| format!("{} is not a valid policy", path.display()))
}

/// The policy for real hardware, but with any image: what a look at a stranger accepts.
#[cfg(feature = "attest")]
pub(crate) fn any_image_policy() -> Result<Policy> {
    let mut policy: toml::Table = toml::from_str(&Policy::production_template())?;
    policy.insert("name".to_owned(), "any image on a vendor's platform".into());
    if let Some(image) = policy.get_mut("image").and_then(toml::Value::as_table_mut) {
        image.insert("manifests".to_owned(), "any".into());
    }
    if let Some(model) = policy.get_mut("model").and_then(toml::Value::as_table_mut) {
        model.insert("names".to_owned(), "any".into());
    }
    Ok(Policy::from_toml(&toml::to_string(&policy)?)?)
}

/// Where collateral comes from: a PCCS for Intel's, AMD's own service for AMD's, and a cache before both. Where Intel's
/// has no source, what a peer brings along is used.
pub(crate) fn collateral(pccs: Option<&str>, cache_dir: Option<&Path>) -> Result<Arc<dyn CollateralSource>> {
    let intel = match pccs {
        Some(url) => {
            let pccs = Pccs::new(url).with_context(|| format!("`pccs` is {url:?}"))?;
            Some(Arc::new(pccs) as Arc<dyn CollateralSource>)
        }
        None => None,
    };
    let amd = Some(Arc::new(Kds::new()?) as Arc<dyn CollateralSource>);
    let vendors = Arc::new(Vendors { intel, amd });
    if pccs.is_none() && cache_dir.is_none() {
        // Nothing to keep: peers bring Intel's, and AMD's come with the evidence, but for a list.
        return Ok(vendors);
    }
    let cache = CollateralCache::new(vendors, cache_dir.map(Path::to_path_buf));
    Ok(Arc::new(cache.context("`cache_dir` under [attestation]")?))
}

/// How long keys stay the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Over restarts.
    Lasting,
    /// Until this process ends.
    ThisStart,
}

/// What derives a node's keys: a file that was asked for, else the processor of an SNP guest, else this start.
fn key_provider(format: Format, insecure_file: Option<&Path>) -> Result<(Box<dyn KeyProvider>, Lifetime)> {
    if let Some(path) = insecure_file {
        let keys = InsecureFileKeys::open_or_create(path).context("`insecure_file_keys`")?;
        return Ok((Box::new(keys), Lifetime::Lasting));
    }
    match format {
        Format::SevSnp => {
            let keys = SnpDerivedKeys::open(&SevGuest::open(Machine::default().sev_guest)?)?;
            Ok((Box::new(keys), Lifetime::Lasting))
        }
        // A TD derives no keys; those of this start never leave its memory.
        Format::Tdx | Format::Sgx | _ => Ok((Box::new(RunKeys::draw(Protection::Tee)?), Lifetime::ThisStart)),
    }
}
