use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use cocoon_attest::policy::template::{self, Images, Simulated};
use cocoon_attest::{Format, GpuEvidence, Policy, Role};
use cocoon_simtee::{Platform, SimImage};
use cocoon_units::{Clock, UnixTime};

use super::super::certificate::CertificateError;
use super::*;

const NOW: u64 = 1_790_000_000;
const SEED: [u8; 32] = [3; 32];

#[derive(Debug)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn unix_now(&self) -> UnixTime {
        UnixTime::from_secs_f64(self.0.load(Ordering::SeqCst) as f64)
    }
}

struct Rig {
    platform: Platform,
    clock: Arc<TestClock>,
}

impl Rig {
    fn new() -> Self {
        let clock = Arc::new(TestClock(AtomicU64::new(NOW)));
        Self { platform: Platform::from_seed([5; 32], Arc::clone(&clock)), clock }
    }

    fn now(&self) -> u64 {
        self.clock.0.load(Ordering::SeqCst)
    }

    /// A verifier by a policy with these lines about images and the link.
    fn verifier(&self, images: &str, link: &str) -> Verifier {
        let text = template::simulated(&Simulated {
            name: "test",
            tdx_root_pem: Some(&self.platform.root_pem()),
            sev_snp_root_pem: None,
            gpu_root_pem: None,
            images: Images::Of(&[SimImage::for_role(Role::Proxy).manifest().sha256()]),
            roles: &[],
            mode: Mode::Strict,
        });
        let text = text.replace("[image]\n", &format!("[image]\n{images}\n"));
        let text = text.replace("[link]\n", &format!("[link]\n{link}\n"));
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Verifier::new(Policy::from_toml(&text).unwrap(), Arc::new(self.platform.collateral_source()), clock)
    }

    fn willing(&self) -> Verifier {
        self.verifier("original_image_hashes = \"any\"", "insecure_cocoon_v1 = true")
    }

    fn node(&self) -> QuotedCertificates {
        QuotedCertificates::new(&SEED, Arc::new(self.platform.td(SimImage::for_role(Role::Proxy))))
    }

    async fn certificate(&self) -> CertificateDer<'static> {
        self.node().shown_at(self.now()).await.unwrap()
    }

    fn read(&self, der: &CertificateDer<'_>) -> PeerCertificate {
        PeerCertificate::parse(der, &[], self.now()).unwrap()
    }

    async fn judge(&self, verifier: &Verifier, der: &CertificateDer<'_>) -> Result<AttestedPeer, Refusal> {
        accept(verifier, &self.read(der), &Expected::default()).await
    }

    #[track_caller]
    fn refused(result: Result<AttestedPeer, Refusal>, check: Check) {
        let refusal = result.unwrap_err();
        assert_eq!(refusal.check, check, "{refusal}");
    }
}

#[tokio::test]
async fn honest_peer_is_accepted() {
    let rig = Rig::new();
    let peer = rig.judge(&rig.willing(), &rig.certificate().await).await.unwrap();
    assert_eq!(peer.profile(), "cocoon-v1");
    assert!(peer.claims().is_none() && peer.verdict().role.is_none(), "this profile does not say");
}

#[tokio::test]
async fn profile_is_refused_unless_the_policy_asks_for_it() {
    let rig = Rig::new();
    let verifier = rig.verifier("", "");
    Rig::refused(rig.judge(&verifier, &rig.certificate().await).await, Check::Profile);
}

/// The weakness that `attested-v2` exists for (CVE-2026-33697 and section 4.1(1)): this is not a bug to fix here.
#[tokio::test]
async fn relay_with_a_stolen_tls_key_succeeds() {
    let rig = Rig::new();
    let verifier = rig.willing();
    let quote = rig.read(&rig.certificate().await).quote_extension.unwrap();
    // A week later, on the thief's machine: no TEE, the old quote, and a certificate of today.
    rig.clock.0.fetch_add(7 * 24 * 60 * 60, Ordering::SeqCst);
    let claims = SigningKey::from_bytes(&SEED).verifying_key().to_bytes();
    let stolen = certificate::issue(&SEED, rig.now(), Some(CocoonV1 { quote: &quote, claims })).unwrap();
    assert!(rig.judge(&verifier, &stolen).await.is_ok(), "the profile cannot tell the thief from the node");
}

/// Its twin: without the key the quote is worth nothing.
#[tokio::test]
async fn relay_without_the_tls_key_is_refused() {
    let rig = Rig::new();
    let quote = rig.read(&rig.certificate().await).quote_extension.unwrap();
    let thief = [4; 32];
    let claims = SigningKey::from_bytes(&thief).verifying_key().to_bytes();
    let forged = certificate::issue(&thief, NOW, Some(CocoonV1 { quote: &quote, claims })).unwrap();
    Rig::refused(rig.judge(&rig.willing(), &forged).await, Check::ReportData);
}

#[tokio::test]
async fn debug_td_is_refused() {
    let rig = Rig::new();
    rig.platform.faults().set(|faults| faults.debug_guest = true);
    Rig::refused(rig.judge(&rig.willing(), &rig.certificate().await).await, Check::Attributes);
}

#[tokio::test]
async fn another_image_is_refused() {
    let rig = Rig::new();
    let images = format!("original_image_hashes = [\"{}\"]", "0".repeat(64));
    let verifier = rig.verifier(&images, "insecure_cocoon_v1 = true");
    Rig::refused(rig.judge(&verifier, &rig.certificate().await).await, Check::Image);
}

#[tokio::test]
async fn claims_of_another_key_are_refused() {
    let rig = Rig::new();
    let quote = rig.read(&rig.certificate().await).quote_extension.unwrap();
    let der = certificate::issue(&SEED, NOW, Some(CocoonV1 { quote: &quote, claims: [9; 32] })).unwrap();
    Rig::refused(rig.judge(&rig.willing(), &der).await, Check::ReportData);
}

#[tokio::test]
async fn missing_quote_is_refused() {
    let rig = Rig::new();
    let der = certificate::issue(&SEED, NOW, None).unwrap();
    Rig::refused(rig.judge(&rig.willing(), &der).await, Check::Profile);
    let mut lacking = rig.read(&rig.certificate().await);
    lacking.claims_extension = None;
    Rig::refused(accept(&rig.willing(), &lacking, &Expected::default()).await, Check::Profile);
}

/// A certificate whose quote is not critical does not get past the form.
#[tokio::test]
async fn non_critical_quote_is_refused() {
    let rig = Rig::new();
    let mut der = rig.certificate().await.to_vec();
    // OID 1.3.6.1.4.1.12345.1, then the critical flag: BOOLEAN TRUE.
    let oid = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xe0, 0x39, 0x01, 0x01, 0x01, 0xff];
    let at = der.windows(oid.len()).position(|bytes| bytes == oid).expect("the quote is critical");
    *der.get_mut(at.saturating_add(oid.len() - 1)).unwrap() = 0;
    assert!(matches!(
        certificate::parse(&der, NOW),
        Err(CertificateError::NotCritical | CertificateError::Malformed | CertificateError::NotSelfSigned)
    ));
}

#[tokio::test]
async fn expectations_that_the_profile_cannot_prove_are_refused() {
    let rig = Rig::new();
    let expected = Expected { payment_key: Some([1; 32]), ..Expected::default() };
    let certificate = rig.read(&rig.certificate().await);
    Rig::refused(accept(&rig.willing(), &certificate, &expected).await, Check::Identity);
}

/// The original keeps a verdict for ever; here revocation arrives when the cache ends.
#[tokio::test]
async fn cached_verdict_ends_and_a_revoked_platform_is_refused() {
    let rig = Rig::new();
    let verifier = rig.willing();
    let der = rig.certificate().await;
    assert!(rig.judge(&verifier, &der).await.is_ok());
    rig.platform.faults().set(|faults| faults.pck_revoked = true);
    rig.clock.0.fetch_add(3601, Ordering::SeqCst);
    Rig::refused(rig.judge(&verifier, &der).await, Check::Revocation);
}

/// Counts quotes, and fails when told to.
#[derive(Debug)]
struct Counting {
    inner: cocoon_simtee::SimTd,
    quotes: AtomicU64,
    broken_after: u64,
}

#[async_trait]
impl Attester for Counting {
    fn format(&self) -> Format {
        self.inner.format()
    }

    async fn gpu_evidence(&self, nonce: [u8; 32]) -> Result<Vec<GpuEvidence>, EvidenceError> {
        self.inner.gpu_evidence(nonce).await
    }

    async fn evidence(&self, report_data: [u8; 64]) -> Result<Evidence, EvidenceError> {
        if self.quotes.fetch_add(1, Ordering::SeqCst) >= self.broken_after {
            return Err(EvidenceError::Platform("broken".to_owned()));
        }
        self.inner.evidence(report_data).await
    }
}

#[tokio::test]
async fn certificates_are_quoted_again_every_hour_and_outlive_a_broken_platform_for_a_day() {
    let rig = Rig::new();
    let inner = rig.platform.td(SimImage::for_role(Role::Proxy));
    let attester = Arc::new(Counting { inner, quotes: AtomicU64::new(0), broken_after: 2 });
    let node = QuotedCertificates::new(&SEED, Arc::clone(&attester) as _);
    let first = node.shown_at(NOW).await.unwrap();
    assert_eq!(node.shown_at(NOW + 3600).await.unwrap(), first);
    assert_eq!(attester.quotes.load(Ordering::SeqCst), 1);
    let second = node.shown_at(NOW + 3601).await.unwrap();
    assert_ne!(second, first);
    assert_eq!(node.shown_at(NOW + 2 * 3601).await.unwrap(), second, "the platform broke");
    let day = NOW + 3601 + 24 * 60 * 60;
    assert_eq!(node.shown_at(day - 1).await.unwrap(), second);
    assert!(matches!(node.shown_at(day).await, Err(ShowError::Evidence(_))));
}
