//! The attestation result.

use serde::{Deserialize, Serialize};

use crate::claims::{Claims, Role};
use crate::evidence::Format;
use crate::facts::{CcMode, RootId, TcbStatus};

/// What an accepted appraisal proved.
///
/// It proves that a key under the named root signed a statement about a VM with these measurements and attributes, for
/// this connection, and that the policy of the verifier accepts it all.
///
/// It does **not** prove that nobody opened the machine: who extracts a platform's key by physical means (TEE.fail,
/// WireTap) can state anything about it. It does not prove where the machine stands or who runs it. It says nothing
/// about the model's weights beyond what the image measures, nor that a GPU is attached to this very VM (no vendor binds
/// the two). With [`Provenance::Simulated`] it proves nothing at all about any machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The format of the CPU evidence.
    pub format: Format,
    /// Whose roots it rests on: simulated where any of them is, a GPU's included.
    pub provenance: Provenance,
    /// The root of the CPU evidence.
    pub root: RootId,
    /// The link profile: `attested-v2`, `cocoon-v1`, or `unbound` for evidence from a file.
    pub profile: String,
    /// The role on the connection; absent in `cocoon-v1`, which does not say.
    pub role: Option<Role>,
    /// Hash of the image manifest that was matched; absent where policy accepts any image.
    #[serde(default, with = "crate::claims::hex_option")]
    pub image_sha256: Option<[u8; 32]>,
    /// Intel's patch level; absent for AMD, where versions were compared.
    pub tcb_status: Option<TcbStatus>,
    /// Advisories that apply and the policy accepts.
    pub advisories: Vec<String>,
    /// Intel's TCB evaluation number.
    pub tcb_evaluation_number: Option<u32>,
    /// PPID or chip id, in hex.
    pub platform: String,
    /// What the attester claims; absent where there are none.
    pub claims: Option<Claims>,
    /// GPUs.
    pub gpus: Vec<GpuVerdict>,
    /// SHA-256 of the policy text.
    #[serde(with = "hex::serde")]
    pub policy_sha256: [u8; 32],
    /// When it was appraised, in seconds since the Unix epoch.
    pub appraised_unix_s: u64,
    /// Until when it may be relied on, in seconds since the Unix epoch.
    pub valid_until_unix_s: u64,
}

/// Whose word a verdict rests on. Shown wherever a verdict is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// A vendor's pinned root.
    Vendor,
    /// A root that the policy names as simulated: proves nothing about any machine.
    Simulated,
}

/// What was proved of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuVerdict {
    /// Whose root it is.
    pub provenance: Provenance,
    /// `GH100`, …
    pub architecture: String,
    /// The driver's version.
    pub driver_version: String,
    /// The VBIOS version.
    pub vbios_version: String,
    /// The mode, where the report says.
    pub cc_mode: Option<CcMode>,
    /// Whether its measurements were compared with the vendor's reference values.
    pub reference_values: bool,
}
