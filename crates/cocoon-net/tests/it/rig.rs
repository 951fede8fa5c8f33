//! A simulated platform, and nodes on it, for tests of attested links.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use cocoon_attest::policy::Mode;
use cocoon_attest::policy::template::{self, Images, Simulated};
use cocoon_attest::{
    Attester, Claims, Collateral, CollateralError, CollateralNeed, CollateralSource, Expected, Policy, PublicKeys, Role,
};
use cocoon_net::{Identity, Link, Prover, Verifier};
use cocoon_simtee::{Platform, SimImage};
use cocoon_units::{Clock, UnixTime};

/// When the tests begin.
pub(crate) const NOW: u64 = 1_790_000_000;

/// A clock that tests set.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn unix_now(&self) -> UnixTime {
        UnixTime::from_secs_f64(self.0.load(Ordering::SeqCst) as f64)
    }
}

/// One platform and one clock.
pub(crate) struct Rig {
    pub(crate) platform: Platform,
    pub(crate) clock: Arc<TestClock>,
}

/// One node: its keys follow from its name.
pub(crate) struct Node {
    pub(crate) role: Role,
    pub(crate) seed: [u8; 32],
    pub(crate) identity: Arc<Identity>,
    pub(crate) prover: Option<Arc<Prover>>,
    pub(crate) payment: [u8; 32],
    clock: Arc<TestClock>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(TestClock(AtomicU64::new(NOW)));
        Self { platform: Platform::from_seed([7; 32], Arc::clone(&clock)), clock }
    }

    /// A policy that accepts the image of a role, on this platform.
    pub(crate) fn policy(&self, role: Role, mode: Mode) -> Policy {
        self.policy_for(&SimImage::for_role(role), mode)
    }

    pub(crate) fn policy_for(&self, image: &SimImage, mode: Mode) -> Policy {
        Policy::from_toml(&self.text(&[image.manifest().sha256()], mode)).unwrap()
    }

    fn text(&self, manifests: &[[u8; 32]], mode: Mode) -> String {
        template::simulated(&Simulated {
            name: "test",
            tdx_root_pem: Some(&self.platform.root_pem()),
            sev_snp_root_pem: None,
            gpu_root_pem: None,
            images: if manifests.is_empty() { Images::Any } else { Images::Of(manifests) },
            roles: &[],
            mode,
        })
    }

    /// A policy that waits for a root contract.
    pub(crate) fn policy_by_root(&self, mode: Mode) -> Policy {
        let text = self.text(&[[0xaa; 32]], mode);
        Policy::from_toml(&text.replace(&format!("[\"{}\"]", "aa".repeat(32)), "\"root\"")).unwrap()
    }

    /// A policy that accepts original nodes, of any image, and our own.
    pub(crate) fn insecure_cocoon_v1_policy(&self) -> Policy {
        let text = self.text(&[], Mode::Strict);
        let text = text.replace("[link]\n", "[link]\ninsecure_cocoon_v1 = true\n");
        Policy::from_toml(&text.replace("[image]\n", "[image]\noriginal_image_hashes = \"any\"\n")).unwrap()
    }

    /// Verifies peers of a role.
    pub(crate) fn verifier(&self, role: Role, mode: Mode) -> Arc<Verifier> {
        self.verifier_by(self.policy(role, mode))
    }

    pub(crate) fn verifier_by(&self, policy: Policy) -> Arc<Verifier> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Arc::new(Verifier::new(policy, Arc::new(self.platform.collateral_source()), clock))
    }

    /// Verifies by what peers staple: its own source has nothing.
    pub(crate) fn verifier_without_source(&self, role: Role) -> Arc<Verifier> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Arc::new(Verifier::new(self.policy(role, Mode::Strict), Arc::new(NoCollateral), clock))
    }

    /// A node of a role in a TD of its own; a client is in none.
    pub(crate) fn node(&self, name: u8, role: Role) -> Node {
        let td = self.platform.td(SimImage::for_role(role));
        self.node_in(name, role, Arc::new(td))
    }

    pub(crate) fn node_in(&self, name: u8, role: Role, attester: Arc<dyn Attester>) -> Node {
        self.node_with(name, role, attester, Some(Arc::new(self.platform.collateral_source())))
    }

    /// As [`node`](Self::node), without collateral to staple.
    pub(crate) fn node_that_staples_nothing(&self, name: u8, role: Role) -> Node {
        self.node_with(name, role, Arc::new(self.platform.td(SimImage::for_role(role))), None)
    }

    fn node_with(
        &self,
        name: u8,
        role: Role,
        attester: Arc<dyn Attester>,
        staple: Option<Arc<dyn CollateralSource>>,
    ) -> Node {
        let seed = [name; 32];
        let identity = Arc::new(Identity::new(&seed, NOW).unwrap());
        let payment = [name.wrapping_add(100); 32];
        let keys =
            PublicKeys { tls: identity.public_key(), session: [0; 32], receipt: [0; 32], payment, wallet: [0; 32] };
        let claims = Claims {
            version: 1,
            role,
            instance: [name; 16],
            boot: [1; 16],
            time_unix_s: 0,
            config_sha256: [0; 32],
            model: None,
            contract: None,
            keys,
            gpu_sha256: None,
        };
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let prover = Prover::new(attester, claims, &session_seed(name), staple, clock);
        let prover = (role != Role::Client).then(|| Arc::new(prover));
        Node { role, seed, identity, prover, payment, clock: Arc::clone(&self.clock) }
    }
}

/// A collateral service that is down.
#[derive(Debug)]
struct NoCollateral;

#[async_trait]
impl CollateralSource for NoCollateral {
    async fn collateral(&self, _: &CollateralNeed, _: u64) -> Result<Arc<Collateral>, CollateralError> {
        Err(CollateralError::NoSource)
    }
}

/// The seed of a node's session key.
pub(crate) fn session_seed(name: u8) -> [u8; 32] {
    [name.wrapping_add(50); 32]
}

impl Node {
    /// A link to peers of a role.
    pub(crate) fn link(&self, peer: Role, verifier: Option<&Arc<Verifier>>) -> Arc<Link> {
        self.link_expecting(Expected { role: Some(peer), ..Expected::default() }, verifier)
    }

    pub(crate) fn link_expecting(&self, expected: Expected, verifier: Option<&Arc<Verifier>>) -> Arc<Link> {
        Arc::new(Link {
            role: self.role,
            identity: Arc::clone(&self.identity),
            prover: self.prover.clone(),
            verifier: verifier.cloned(),
            expected,
        })
    }

    /// A certificate of this node that is valid now.
    pub(crate) fn certificate_now(&self) -> Vec<u8> {
        Identity::new(&self.seed, self.clock.0.load(Ordering::SeqCst)).unwrap().certificate_der()
    }
}
