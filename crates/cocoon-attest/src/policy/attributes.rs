//! Attributes: how the VM is configured. A debug VM runs the same image with the same measurements and lets its host
//! read all of its memory; the original does not look at this (attestation.md, section 4.1(3)).
//!
//! Refused whatever the policy says: debugging, profiling, migration, service TDs, reserved bits, a debug TDX module, a
//! module that is not Intel's. No switch can allow them, not even in development: simulated machines need none of it.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::file::{Contradiction, Hex, List, bounded};
use super::root::RootRules;
use crate::facts::{Attributes, Measurements, PlatformFacts};
use crate::limits::VMPL_MAX;
use crate::refusal::{Check, Refusal};

/// Bits of TDX ATTRIBUTES (Intel TDX module specification, `TD_PARAMS`).
mod td {
    pub(super) const DEBUG: u64 = 1;
    /// HGS+, performance and telemetry profiling.
    pub(super) const PROFILING: u64 = 0b111 << 4;
    /// Linear address space separation: a protection.
    pub(super) const LASS: u64 = 1 << 27;
    pub(super) const SEPT_VE_DISABLE: u64 = 1 << 28;
    pub(super) const MIGRATABLE: u64 = 1 << 29;
    pub(super) const PKS: u64 = 1 << 30;
    pub(super) const KEY_LOCKER: u64 = 1 << 31;
    pub(super) const PERFMON: u64 = 1 << 63;
    pub(super) const KNOWN: u64 = DEBUG | PROFILING | LASS | SEPT_VE_DISABLE | MIGRATABLE | PKS | KEY_LOCKER | PERFMON;
}

/// Bits of the SNP guest policy (AMD SEV-SNP firmware ABI, section 4.3).
mod snp {
    pub(super) const ABI: u64 = 0xffff;
    pub(super) const SMT: u64 = 1 << 16;
    pub(super) const MUST_BE_ONE: u64 = 1 << 17;
    pub(super) const MIGRATION_AGENT: u64 = 1 << 18;
    pub(super) const DEBUG: u64 = 1 << 19;
    /// Single socket, and bits that only ask for more protection: CXL, AES-256-XTS, RAPL, ciphertext hiding, page swap.
    pub(super) const OTHER_KNOWN: u64 = 0b11_1111 << 20;
    pub(super) const KNOWN: u64 = ABI | SMT | MUST_BE_ONE | MIGRATION_AGENT | DEBUG | OTHER_KNOWN;
}

/// Bits of SGX ATTRIBUTES.FLAGS.
mod sgx {
    pub(super) const DEBUG: u64 = 1 << 1;
}

/// The accepted configurations, by format.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct AttributeRules {
    tdx: Option<TdxRules>,
    sev_snp: Option<SnpRules>,
}

/// Of TDs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TdxRules {
    /// Performance counters inside the TD.
    #[serde(default)]
    allow_perfmon: bool,
    /// Supervisor protection keys.
    #[serde(default)]
    allow_pks: bool,
    /// Key Locker.
    #[serde(default)]
    allow_key_locker: bool,
    /// CPU features that the TD may use.
    xfam: Mask,
    /// Accepted TDX modules.
    mr_seam: List<Hex<48>>,
    /// MRCONFIGID, MROWNER and MROWNERCONFIG, which the host chooses.
    #[serde(default)]
    host_registers: HostValues,
}

/// Of SNP guests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnpRules {
    /// The guest may share cores with others.
    #[serde(default)]
    allow_smt: bool,
    /// The lowest privilege (highest number) that may ask for a report.
    #[serde(deserialize_with = "bounded::<'_, 0, VMPL_MAX, _>")]
    vmpl_max: u64,
    /// The least ABI version that the guest asked for, as `major.minor`.
    abi_min: Abi,
    /// HOST_DATA, which the host chooses.
    #[serde(default)]
    host_data: HostValues,
}

/// Accepted bits of XFAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mask {
    Any,
    Bits(u64),
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "any" {
            return Ok(Self::Any);
        }
        text.strip_prefix("0x")
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Self::Bits)
            .ok_or_else(|| D::Error::custom("a mask of bits as \"0x…\", or the word \"any\", is needed here"))
    }
}

/// Values that the host chooses and the measurements do not cover.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HostValues {
    /// They must be zero.
    #[default]
    Zero,
    /// They may be anything.
    Any,
}

/// A version of AMD's ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Abi {
    major: u8,
    minor: u8,
}

impl<'de> Deserialize<'de> for Abi {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) =
            parts.ok_or_else(|| D::Error::custom("a version as \"major.minor\" is needed here, such as \"1.51\""))?;
        Ok(Self { major, minor })
    }
}

impl AttributeRules {
    pub(super) fn consistent(&self, roots: &RootRules) -> Result<(), Contradiction> {
        let sections = [
            ("attributes.tdx", self.tdx.is_some(), !roots.tdx.is_empty(), "xfam"),
            ("attributes.sev-snp", self.sev_snp.is_some(), !roots.sev_snp.is_empty(), "vmpl_max"),
        ];
        for (section, present, needed, field) in sections {
            if present != needed {
                let (problem, remedy) = if needed {
                    ("missing, while [roots] has this format", "add the section")
                } else {
                    ("has no effect, because [roots] has not this format", "remove the section, or add a root")
                };
                return Err(Contradiction::new(section, field, problem, remedy));
            }
        }
        Ok(())
    }

    /// The configuration is accepted.
    pub(crate) fn check(&self, facts: &PlatformFacts) -> Result<(), Refusal> {
        match (&facts.attributes, &facts.measurements) {
            (Attributes::Tdx { td_attributes, xfam, seam_attributes }, Measurements::Tdx(registers)) => {
                let rules = self.tdx.as_ref().ok_or_else(no_rules)?;
                rules.check_bits(*td_attributes)?;
                rules.check_xfam(*xfam)?;
                rules.check_module(*seam_attributes, &registers.mr_seam, &registers.mr_signer_seam)?;
                check_service_td(&registers.mr_service_td)?;
                let chosen = [registers.mr_config_id, registers.mr_owner, registers.mr_owner_config];
                check_host_values(rules.host_registers, "MRCONFIGID, MROWNER, MROWNERCONFIG", &chosen.concat())
            }
            (Attributes::Sgx { flags, .. }, Measurements::Sgx(_)) => {
                forbid(*flags, sgx::DEBUG, false, "a debug enclave, whose memory its host can read")
            }
            (Attributes::SevSnp { policy, vmpl, .. }, Measurements::SevSnp(guest)) => {
                let rules = self.sev_snp.as_ref().ok_or_else(no_rules)?;
                rules.check_policy(*policy)?;
                rules.check_vmpl(*vmpl)?;
                check_host_values(rules.host_data, "HOST_DATA", &guest.host_data)
            }
            (Attributes::Tdx { .. } | Attributes::Sgx { .. } | Attributes::SevSnp { .. }, _) => Err(no_rules()),
        }
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        if let Some(tdx) = &self.tdx {
            tdx.explain(say);
        }
        if let Some(snp) = &self.sev_snp {
            snp.explain(say);
        }
    }
}

impl TdxRules {
    fn check_bits(&self, bits: u64) -> Result<(), Refusal> {
        forbid(bits, td::DEBUG, false, "a debug TD, whose memory its host can read")?;
        forbid(bits, td::PROFILING, false, "a TD that its host can profile")?;
        forbid(bits, td::MIGRATABLE, false, "a TD that can be moved to another machine")?;
        forbid(bits, td::PERFMON, self.allow_perfmon, "a TD with performance counters (PERFMON)")?;
        forbid(bits, td::PKS, self.allow_pks, "a TD with supervisor protection keys (PKS)")?;
        forbid(bits, td::KEY_LOCKER, self.allow_key_locker, "a TD with Key Locker")?;
        forbid(bits, !td::KNOWN, false, "a TD with reserved attributes")?;
        if bits & td::SEPT_VE_DISABLE == 0 {
            return Err(refused(
                "a TD with SEPT_VE_DISABLE",
                "a TD whose host can inject exceptions on any of its pages",
                bits,
            ));
        }
        Ok(())
    }

    fn check_xfam(&self, xfam: u64) -> Result<(), Refusal> {
        match self.xfam {
            Mask::Any => Ok(()),
            Mask::Bits(mask) if xfam & !mask == 0 => Ok(()),
            Mask::Bits(mask) => Err(Refusal::new(
                Check::Attributes,
                format!("CPU features (XFAM) within {mask:#x}"),
                format!("{xfam:#x}"),
                "start the VM with fewer CPU features, or add the bits to xfam in [attributes.tdx]",
            )),
        }
    }

    fn check_module(&self, seam_attributes: u64, mr_seam: &[u8; 48], mr_signer_seam: &[u8; 48]) -> Result<(), Refusal> {
        if seam_attributes != 0 || mr_signer_seam != &[0; 48] {
            return Err(refused(
                "a production TDX module of Intel's",
                "a debug or foreign TDX module",
                seam_attributes,
            ));
        }
        if self.mr_seam.accepts(&Hex(*mr_seam)) {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Attributes,
            "a TDX module (MRSEAM) that the policy lists",
            hex::encode(mr_seam),
            "if that module is to be trusted, add it to mr_seam in [attributes.tdx]",
        ))
    }

    fn explain(&self, say: &mut Vec<String>) {
        say.push(
            "Refuses TDs that can be debugged, profiled or moved, have service TDs or reserved attributes, or lack \
             SEPT_VE_DISABLE."
                .to_owned(),
        );
        let features = [
            (self.allow_perfmon, "performance counters"),
            (self.allow_pks, "PKS"),
            (self.allow_key_locker, "Key Locker"),
        ];
        for (allowed, what) in features {
            say.push(format!("{} TDs with {what}.", if allowed { "Accepts" } else { "Refuses" }));
        }
        say.push(match self.xfam {
            Mask::Any => "Accepts TDs with ANY CPU features (XFAM).".to_owned(),
            Mask::Bits(mask) => format!("Accepts TDs with CPU features (XFAM) within {mask:#x}."),
        });
        match &self.mr_seam {
            List::Any => say.push("Accepts ANY TDX module that Intel signed; [tcb] judges its version.".to_owned()),
            List::Of(modules) => say.push(format!("Accepts {} TDX modules by hash.", modules.len())),
        }
        if self.host_registers == HostValues::Any {
            say.push("Accepts ANY MRCONFIGID, MROWNER and MROWNERCONFIG, which the host chooses.".to_owned());
        }
    }
}

impl SnpRules {
    fn check_policy(&self, policy: u64) -> Result<(), Refusal> {
        forbid(policy, snp::DEBUG, false, "a debug guest, whose memory its host can read")?;
        forbid(policy, snp::MIGRATION_AGENT, false, "a guest that a migration agent can move")?;
        forbid(policy, snp::SMT, self.allow_smt, "a guest that may share cores (SMT)")?;
        forbid(policy, !snp::KNOWN, false, "a guest policy with reserved bits")?;
        if policy & snp::MUST_BE_ONE == 0 {
            return Err(refused("a guest policy with bit 17", "one without", policy));
        }
        let [minor, major, ..] = policy.to_le_bytes();
        let abi = Abi { major, minor };
        if abi < self.abi_min {
            return Err(Refusal::new(
                Check::Attributes,
                format!("a guest that asks for ABI {}.{} or later", self.abi_min.major, self.abi_min.minor),
                format!("{major}.{minor}"),
                "start the VM with a later ABI in its guest policy, or lower abi_min in [attributes.sev-snp]",
            ));
        }
        Ok(())
    }

    fn check_vmpl(&self, vmpl: u32) -> Result<(), Refusal> {
        if u64::from(vmpl) <= self.vmpl_max {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Attributes,
            format!("a report asked for at VMPL {} or more privileged", self.vmpl_max),
            format!("VMPL {vmpl}"),
            "the image has to ask for its report at its highest privilege",
        ))
    }

    fn explain(&self, say: &mut Vec<String>) {
        say.push("Refuses SNP guests that can be debugged or moved, or have reserved policy bits.".to_owned());
        say.push(format!(
            "{} SNP guests that may share cores (SMT).",
            if self.allow_smt { "Accepts" } else { "Refuses" }
        ));
        say.push(format!(
            "Accepts SNP reports asked for at VMPL 0 to {} by guests that ask for ABI {}.{} or later.",
            self.vmpl_max, self.abi_min.major, self.abi_min.minor
        ));
        if self.host_data == HostValues::Any {
            say.push("Accepts ANY HOST_DATA, which the host chooses.".to_owned());
        }
    }
}

fn check_service_td(mr_service_td: &[u8; 48]) -> Result<(), Refusal> {
    if mr_service_td == &[0; 48] {
        return Ok(());
    }
    Err(Refusal::new(
        Check::Attributes,
        "a TD without service TDs",
        hex::encode(mr_service_td),
        "start the VM without a migration service",
    ))
}

fn check_host_values(rule: HostValues, what: &str, bytes: &[u8]) -> Result<(), Refusal> {
    if rule == HostValues::Any || bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    Err(Refusal::new(
        Check::Attributes,
        format!("{what} of zeros"),
        hex::encode(bytes),
        "start the VM without values that its measurements do not cover",
    ))
}

fn forbid(bits: u64, mask: u64, allowed: bool, what: &str) -> Result<(), Refusal> {
    if bits & mask == 0 || allowed {
        return Ok(());
    }
    Err(refused(&format!("none of the bits {mask:#x}"), what, bits))
}

fn refused(expected: &str, found: &str, bits: u64) -> Refusal {
    Refusal::new(
        Check::Attributes,
        expected,
        format!("{found} ({bits:#x})"),
        "the peer's operator has to start the VM with production settings",
    )
}

fn no_rules() -> Refusal {
    Refusal::new(
        Check::Attributes,
        "a format that the policy has attribute rules for",
        "another one",
        "add the format to [roots] and [attributes]",
    )
}
