//! The AMD side of a platform: ARK, ASK and the chip's VCEK, SEV-SNP reports, and what AMD's key service says.
//!
//! ```text
//! ARK-Genoa (RSA-PSS) ── SEV-Genoa (RSA-PSS) ── VCEK (P-384, with product, TCB and chip id) ── reports
//! ```
//!
//! Layouts: AMD SEV-SNP Firmware ABI Specification (56860), table 23; VCEK certificate specification (57230).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_attest::collateral::{Collateral, SnpCollateral};
use cocoon_attest::evidence::{Evidence, Format, GpuEvidence, PlatformEvidence};
use cocoon_attest::provider::{Attester, EvidenceError};
use rsa::RsaPrivateKey;

use crate::faults::Faults;
use crate::gpu::SimGpus;
use crate::image::SimImage;
use crate::issuing::Window;
use crate::limits::RSA_BITS;
use crate::pki::{Certificate, Holder, Key, Kind, Profile};
use crate::platform::Inner;
use crate::seed::Seed;

/// The product that simulated AMD platforms are, as AMD's key service names it.
pub(crate) const PRODUCT: &str = "Genoa";

const PRODUCT_STEPPING: &str = "Genoa-B1";
/// Family 19h, model 11h, stepping 1: Genoa.
const CPUID: [u8; 3] = [0x19, 0x11, 0x01];
/// Boot loader, TEE, four reserved, SNP firmware, microcode.
const TCB: [u8; 8] = [9, 0, 0, 0, 0, 0, 23, 72];
/// Firmware 1.55.21.
const FIRMWARE_VERSION: [u8; 4] = [21, 55, 1, 0];

const KDS: &[u64] = &[1, 3, 6, 1, 4, 1, 3704, 1];
/// The components of [`TCB`], in its order, in VCEK certificates.
const SPL_ARCS: [u64; 8] = [1, 2, 4, 5, 6, 7, 3, 8];

const CRL_URL: &str = "https://simulated.invalid/vcek/v1/Genoa/crl";

/// POLICY: ABI 1.0 at least; simultaneous multithreading is allowed; bit 17 is always one.
const POLICY: u64 = (1 << 17) | (1 << 16) | (1 << 8);
const POLICY_MIGRATE_MA: u64 = 1 << 18;
const POLICY_DEBUG: u64 = 1 << 19;
const PLATFORM_SMT: u64 = 1;
const ECDSA_P384_SHA384: u32 = 1;
const SIGNED_BYTES: usize = 0x2a0;
const REPORT_BYTES: usize = 1184;

/// Which report an SNP guest shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReportVersion {
    /// Version 2, which does not say what processor it is from.
    V2,
    /// Version 3, with the processor's family and model.
    #[default]
    V3,
}

/// All keys of the AMD side.
#[derive(Debug)]
pub(crate) struct Amd {
    pub(crate) ark: Holder,
    pub(crate) ask: Holder,
    pub(crate) vcek: Holder,
    pub(crate) chip_id: [u8; 64],
}

/// The two RSA keys, which take a while to make.
pub(crate) struct AmdRootKeys {
    pub(crate) ark: RsaPrivateKey,
    pub(crate) ask: RsaPrivateKey,
}

impl AmdRootKeys {
    pub(crate) fn new(seed: &Seed) -> Self {
        let key = |label| {
            RsaPrivateKey::new(&mut seed.rng(label), RSA_BITS)
                .expect("a key of this size can be made from any randomness")
        };
        Self { ark: key("amd ark"), ask: key("amd ask") }
    }
}

impl Amd {
    pub(crate) fn new(seed: &Seed, roots: AmdRootKeys, created_unix_s: u64) -> Self {
        let profile = |common_name, kind, extensions| Profile {
            common_name,
            kind,
            crl_url: Some(CRL_URL),
            extensions,
            created_unix_s,
        };
        let chip_id = chip_id(seed);
        let ark = Holder::root(
            Key::RsaPss(Box::new(roots.ark)),
            &profile("ARK-Genoa", Kind::Authority { path_len: None }, Vec::new()),
        );
        let ask = ark.issue(
            Key::RsaPss(Box::new(roots.ask)),
            &profile("SEV-Genoa", Kind::Authority { path_len: Some(0) }, Vec::new()),
        );
        let extensions = vcek_extensions(&chip_id);
        let extensions = extensions.iter().map(|(arcs, value)| (arcs.as_slice(), value.clone())).collect();
        let vcek = ask.issue(seed.p384("amd vcek"), &profile("SEV-VCEK", Kind::Leaf, extensions));
        Self { ark, ask, vcek, chip_id }
    }

    /// ASK, then ARK, as AMD's key service sends them.
    pub(crate) fn chain(&self) -> String {
        [&self.ask.certificate, &self.ark.certificate].into_iter().map(Certificate::pem).collect()
    }

    pub(crate) fn crl(&self, faults: &Faults, window: Window) -> Vec<u8> {
        let revoked = faults.ask_revoked.then_some(self.ask.certificate.serial);
        self.ark.revocation_list(revoked.as_slice(), window.issued_unix_s, window.ends_unix_s)
    }

    pub(crate) fn collateral(&self, faults: &Faults, window: Window) -> Collateral {
        Collateral::Amd(SnpCollateral {
            leaf: Some(self.vcek.certificate.der.clone()),
            chain: self.chain(),
            crl: Some(self.crl(faults, window)),
        })
    }

    /// Security versions as the query for a VCEK names them.
    pub(crate) fn levels() -> [(&'static str, u8); 4] {
        let [boot_loader, tee, _, _, _, _, snp, microcode] = TCB;
        [("blSPL", boot_loader), ("teeSPL", tee), ("snpSPL", snp), ("ucodeSPL", microcode)]
    }
}

/// CHIP_ID of a platform.
pub(crate) fn chip_id(seed: &Seed) -> [u8; 64] {
    *seed.derive("amd chip id")
}

/// Security versions as in a report.
pub(crate) fn reported_tcb() -> u64 {
    u64::from_le_bytes(TCB)
}

/// A running SNP guest. Clones are the same guest.
#[derive(Clone)]
pub struct SimSnp {
    platform: Arc<Inner>,
    image: SimImage,
    version: ReportVersion,
    gpus: SimGpus,
    manifest: Arc<[u8]>,
}

impl fmt::Debug for SimSnp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSnp")
            .field("image", &self.image.name())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl SimSnp {
    pub(crate) fn boot(platform: Arc<Inner>, image: SimImage) -> Self {
        platform.amd(); // The keys take a while: here rather than at the first connection.
        let gpus = SimGpus::new(Arc::clone(&platform), 0);
        let manifest = image.manifest().encode().into_bytes().into();
        Self { platform, image, version: ReportVersion::default(), gpus, manifest }
    }

    /// Shows reports of this version.
    #[must_use]
    pub fn report_version(mut self, version: ReportVersion) -> Self {
        self.version = version;
        self
    }

    /// Has so many GPUs, at most [`crate::limits::GPUS_MAX`].
    #[must_use]
    pub fn gpus(mut self, count: usize) -> Self {
        self.gpus = SimGpus::new(Arc::clone(&self.platform), count);
        self
    }

    /// The image that was launched.
    #[must_use]
    pub fn image(&self) -> &SimImage {
        &self.image
    }

    /// A report, without waiting.
    #[must_use]
    pub fn report(&self, report_data: [u8; 64]) -> Vec<u8> {
        let amd = self.platform.amd();
        let mut report = self.unsigned_report(&amd.chip_id, report_data);
        let signature = amd.vcek.key.sign_raw(&report);
        for number in signature.chunks(48) {
            report.extend(number.iter().rev()); // Little-endian, in 72 bytes.
            report.extend_from_slice(&[0; 24]);
        }
        report.resize(REPORT_BYTES, 0);
        report
    }

    pub(crate) fn platform(&self) -> &Arc<Inner> {
        &self.platform
    }

    /// POLICY, as the platform's switches have it.
    pub(crate) fn policy(&self) -> u64 {
        policy(&self.platform.faults.snapshot())
    }

    fn unsigned_report(&self, chip_id: &[u8; 64], report_data: [u8; 64]) -> Vec<u8> {
        let (version, cpuid): (u32, _) = match self.version {
            ReportVersion::V2 => (2, [0; 3]),
            ReportVersion::V3 => (3, CPUID),
        };
        let mut report = Vec::with_capacity(REPORT_BYTES);
        report.extend_from_slice(&version.to_le_bytes());
        report.extend_from_slice(&[0; 4]); // GUEST_SVN
        report.extend_from_slice(&self.policy().to_le_bytes());
        report.extend_from_slice(&[0; 32]); // FAMILY_ID, IMAGE_ID
        report.extend_from_slice(&[0; 4]); // VMPL
        report.extend_from_slice(&ECDSA_P384_SHA384.to_le_bytes());
        report.extend_from_slice(&TCB); // CURRENT_TCB
        report.extend_from_slice(&PLATFORM_SMT.to_le_bytes());
        report.extend_from_slice(&[0; 8]); // KEY_INFO: a VCEK signs; reserved.
        report.extend_from_slice(&report_data);
        report.extend_from_slice(&self.image.launch_measurement());
        report.extend_from_slice(&[0; 32 + 48 + 48]); // HOST_DATA, ID_KEY_DIGEST, AUTHOR_KEY_DIGEST
        report.extend_from_slice(&[0; 32]); // REPORT_ID
        report.extend_from_slice(&[0xff; 32]); // REPORT_ID_MA: no migration agent.
        report.extend_from_slice(&TCB); // REPORTED_TCB
        report.extend_from_slice(&cpuid);
        report.extend_from_slice(&[0; 21]);
        report.extend_from_slice(chip_id);
        report.extend_from_slice(&TCB); // COMMITTED_TCB
        report.extend_from_slice(&FIRMWARE_VERSION); // Current.
        report.extend_from_slice(&FIRMWARE_VERSION); // Committed.
        report.extend_from_slice(&TCB); // LAUNCH_TCB
        report.resize(SIGNED_BYTES, 0);
        report
    }
}

#[async_trait]
impl Attester for SimSnp {
    fn format(&self) -> Format {
        Format::SevSnp
    }

    async fn gpu_evidence(&self, nonce: [u8; 32]) -> Result<Vec<GpuEvidence>, EvidenceError> {
        Ok(self.gpus.evidence(nonce))
    }

    async fn evidence(&self, report_data: [u8; 64]) -> Result<Evidence, EvidenceError> {
        let vcek = self.platform.amd().vcek.certificate.der.clone();
        Ok(Evidence {
            platform: PlatformEvidence::SevSnp { report: self.report(report_data), certificates: vec![vcek] },
            event_log: None,
            manifest: Some(self.manifest.to_vec()),
            gpus: Vec::new(),
        })
    }
}

fn policy(faults: &Faults) -> u64 {
    let bit = |set: bool, bit: u64| if set { bit } else { 0 };
    POLICY | bit(faults.debug_guest, POLICY_DEBUG) | bit(faults.migratable_guest, POLICY_MIGRATE_MA)
}

fn vcek_extensions(chip_id: &[u8; 64]) -> Vec<(Vec<u64>, Vec<u8>)> {
    let number = |value: u8| yasna::construct_der(|w| w.write_u8(value));
    let arcs = |arcs: &[u64]| [KDS, arcs].concat();
    let mut extensions =
        vec![(arcs(&[1]), number(0)), (arcs(&[2]), yasna::construct_der(|w| w.write_ia5_string(PRODUCT_STEPPING)))];
    extensions.extend(SPL_ARCS.iter().zip(TCB).map(|(arc, spl)| (arcs(&[3, *arc]), number(spl))));
    extensions.push((arcs(&[4]), chip_id.to_vec())); // The bare bytes, as AMD has it.
    extensions
}
