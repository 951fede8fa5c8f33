//! What signatures under an accepted root proved, before any judgement. Policy checks read these and nothing else.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::evidence::Format;

/// A root of trust by its key: SHA-384 of the raw public key, as in the original's `allowed_collateral_root_hashes`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootId(#[serde(with = "hex::serde")] pub [u8; 48]);

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Facts about a CPU platform and the VM or enclave on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformFacts {
    /// The format they were read from.
    pub format: Format,
    /// The root that vouches for them.
    pub root: RootId,
    /// 64 bytes of the attester's choice.
    pub report_data: [u8; 64],
    /// What was measured.
    pub measurements: Measurements,
    /// How the VM or enclave is configured.
    pub attributes: Attributes,
    /// How well the platform is patched.
    pub tcb: Tcb,
    /// Which machine.
    pub identity: PlatformIdentity,
    /// From when to when the collateral holds, in seconds since the Unix epoch: latest issue, earliest expiry.
    pub collateral_window: (u64, u64),
}

/// Measurements by format.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Measurements {
    /// Of a TD.
    Tdx(Box<TdxMeasurements>),
    /// Of an enclave.
    Sgx(SgxMeasurements),
    /// Of an SNP guest.
    SevSnp(Box<SnpMeasurements>),
}

/// Registers of a TD.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of Intel's TDX module specification")]
pub struct TdxMeasurements {
    pub mr_td: [u8; 48],
    pub mr_config_id: [u8; 48],
    pub mr_owner: [u8; 48],
    pub mr_owner_config: [u8; 48],
    pub rtmr: [[u8; 48]; 4],
    pub mr_seam: [u8; 48],
    pub mr_signer_seam: [u8; 48],
    /// Zero before TD 1.5.
    pub mr_service_td: [u8; 48],
}

/// Identity of an enclave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of Intel's SGX specification")]
pub struct SgxMeasurements {
    pub mr_enclave: [u8; 32],
    pub mr_signer: [u8; 32],
    pub isv_prod_id: u16,
    pub isv_svn: u16,
}

/// Identity of an SNP guest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of AMD's SNP ABI specification")]
pub struct SnpMeasurements {
    pub measurement: [u8; 48],
    pub host_data: [u8; 32],
    pub id_key_digest: [u8; 48],
    pub author_key_digest: [u8; 48],
    pub family_id: [u8; 16],
    pub image_id: [u8; 16],
    pub guest_svn: u32,
}

/// Configuration by format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attributes {
    /// Of a TD.
    Tdx {
        /// ATTRIBUTES, little-endian.
        td_attributes: u64,
        /// XFAM, little-endian.
        xfam: u64,
        /// SEAMATTRIBUTES, little-endian.
        seam_attributes: u64,
    },
    /// Of an enclave.
    Sgx {
        /// ATTRIBUTES.FLAGS, little-endian.
        flags: u64,
        /// ATTRIBUTES.XFRM, little-endian.
        xfrm: u64,
    },
    /// Of an SNP guest.
    SevSnp {
        /// The guest policy.
        policy: u64,
        /// PLATFORM_INFO.
        platform_info: u64,
        /// The privilege level that asked for the report; 0 is the highest.
        vmpl: u32,
    },
}

/// Patch level.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tcb {
    /// As Intel's TCB info and QE identity say, converged.
    Intel {
        /// The worse of platform, module and quoting enclave.
        status: TcbStatus,
        /// Advisories that apply.
        advisories: Vec<String>,
        /// Grows with each TCB recovery; the lower of TCB info and QE identity.
        evaluation_number: u32,
        /// When the matched TCB level was current, in seconds since the Unix epoch.
        level_date_unix_s: u64,
    },
    /// As AMD's report says: security versions.
    Amd {
        /// What the host reports, and the certificate names.
        reported: SnpTcb,
        /// The least that the firmware can be brought back to.
        committed: SnpTcb,
        /// At launch.
        launch: SnpTcb,
    },
}

/// Intel's words for patch levels, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of Intel's provisioning certification service")]
pub enum TcbStatus {
    UpToDate,
    SWHardeningNeeded,
    ConfigurationNeeded,
    ConfigurationAndSWHardeningNeeded,
    /// Launched on a module that is out of date, which was updated since.
    TDRelaunchAdvised,
    TDRelaunchAdvisedConfigurationNeeded,
    OutOfDate,
    OutOfDateConfigurationNeeded,
    Revoked,
}

/// AMD's security versions, one for each component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of AMD's SNP ABI specification")]
pub struct SnpTcb {
    pub fmc: Option<u8>,
    pub boot_loader: u8,
    pub tee: u8,
    pub snp: u8,
    pub microcode: u8,
}

/// Which machine it is, as the vendor knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlatformIdentity {
    /// An Intel platform.
    Intel {
        /// 16 bytes of the PCK certificate.
        ppid: Vec<u8>,
        /// Of multi-package platforms.
        platform_instance_id: Option<[u8; 16]>,
        /// Family, model, stepping, platform and custom SKU.
        fmspc: [u8; 6],
    },
    /// An AMD chip.
    Amd {
        /// 64 bytes, those of the certificate when the host masks them in the report; zero with a VLEK.
        chip_id: [u8; 64],
        /// `Milan`, `Genoa`, `Turin`.
        product: String,
        /// Whether a VLEK of a cloud provider signed instead of a VCEK.
        vlek: bool,
    },
}

impl PlatformIdentity {
    /// What allow and deny lists name: the PPID or chip id, in hex.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Intel { ppid, .. } => hex::encode(ppid),
            Self::Amd { chip_id, .. } => hex::encode(chip_id),
        }
    }
}

/// Facts about one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuFacts {
    /// The root that vouches for them.
    pub root: RootId,
    /// Which GPU: SHA-256 of the key that NVIDIA certified for its boot ROM.
    pub device: [u8; 32],
    /// `GH100`, `GB100`, …
    pub architecture: String,
    /// The nonce it answered.
    pub nonce: [u8; 32],
    /// The driver's version, as text.
    pub driver_version: String,
    /// The VBIOS version, as in RIM names.
    pub vbios_version: String,
    /// The RIM ids that reference values would be found under: driver, VBIOS.
    pub rim_ids: (String, String),
    /// Whether confidential computing is on, and not its development mode; `None` where the report does not say.
    pub cc_mode: Option<CcMode>,
    /// Whether the first video decoder is fused off: then its measurement has no reference value to equal.
    pub nvdec0_disabled: bool,
    /// Measurement blocks by SPDM index.
    pub measurements: Vec<(u8, Vec<u8>)>,
}

/// What a GPU says of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CcMode {
    /// On.
    On,
    /// On, with debugging open: protects nothing.
    DevTools,
    /// Off.
    Off,
}
