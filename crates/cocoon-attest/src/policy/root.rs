//! Root of trust: whose word counts.
//!
//! Simulated evidence is told apart by nothing but its root. So the roots of a policy are its most important part: a
//! production policy takes the vendors' built-in roots only, and a root that a policy calls simulated marks every
//! verdict that rests on it.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::file::{Contradiction, Environment, named};
use crate::evidence::Format;
use crate::refusal::{Check, Refusal};
use crate::roots::{self, TrustAnchor};

/// The accepted roots, by kind of evidence. A kind without roots is not accepted at all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RootRules {
    #[serde(default, deserialize_with = "named")]
    pub(crate) tdx: Vec<Root>,
    #[serde(default, deserialize_with = "named")]
    pub(crate) sgx: Vec<Root>,
    #[serde(default, deserialize_with = "named")]
    pub(crate) sev_snp: Vec<Root>,
    #[serde(default, deserialize_with = "named")]
    pub(crate) gpu: Vec<Root>,
}

/// One root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    /// A vendor's, as built into this program.
    Vendor(Vendor),
    /// A certificate that the policy itself calls simulated.
    Simulated(TrustAnchor),
}

/// Vendors with built-in roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vendor {
    Intel,
    Amd,
    Nvidia,
}

impl Vendor {
    const fn name(self) -> &'static str {
        match self {
            Self::Intel => "intel",
            Self::Amd => "amd",
            Self::Nvidia => "nvidia",
        }
    }

    fn anchors(self) -> Vec<TrustAnchor> {
        match self {
            Self::Intel => vec![roots::intel()],
            Self::Amd => roots::amd_all(),
            Self::Nvidia => vec![roots::nvidia()],
        }
    }
}

impl RootRules {
    /// The formats of CPU evidence that have a root.
    pub(super) fn formats(&self) -> Vec<Format> {
        let all = [(Format::Tdx, &self.tdx), (Format::SevSnp, &self.sev_snp), (Format::Sgx, &self.sgx)];
        all.into_iter().filter(|(_, roots)| !roots.is_empty()).map(|(format, _)| format).collect()
    }

    fn sections(&self) -> [(&'static str, Vendor, &[Root]); 4] {
        [
            ("tdx", Vendor::Intel, &self.tdx),
            ("sgx", Vendor::Intel, &self.sgx),
            ("sev-snp", Vendor::Amd, &self.sev_snp),
            ("gpu", Vendor::Nvidia, &self.gpu),
        ]
    }

    pub(super) fn consistent(&self, environment: Environment) -> Result<(), Contradiction> {
        if self.formats().is_empty() {
            return Err(Contradiction::new(
                "roots",
                "tdx",
                "no root for any CPU evidence, so nothing can be accepted",
                "write `tdx = [\"intel\"]`, `sev-snp = [\"amd\"]` or both",
            ));
        }
        for (field, vendor, roots) in self.sections() {
            for root in roots {
                root.consistent(field, vendor, environment)?;
            }
        }
        Ok(())
    }

    /// Where nothing but simulated roots could vouch for a verdict, or some could.
    pub(super) fn any_simulated(&self) -> bool {
        self.sections().into_iter().any(|(_, _, roots)| roots.iter().any(|root| matches!(root, Root::Simulated(_))))
    }

    /// The roots for CPU evidence of a format.
    pub(crate) fn anchors(&self, format: Format) -> Vec<TrustAnchor> {
        anchors(match format {
            Format::Tdx => &self.tdx,
            Format::Sgx => &self.sgx,
            Format::SevSnp => &self.sev_snp,
        })
    }

    /// The roots for GPU evidence.
    pub(crate) fn gpu_anchors(&self) -> Vec<TrustAnchor> {
        anchors(&self.gpu)
    }

    /// Refuses a format that has no root here.
    pub(crate) fn check_format(&self, format: Format) -> Result<(), Refusal> {
        let formats = self.formats();
        if formats.contains(&format) {
            return Ok(());
        }
        let names: Vec<_> = formats.iter().map(|format| format.name()).collect();
        Err(Refusal::new(
            Check::Root,
            format!("evidence of a format that the policy has a root for: {}", names.join(", ")),
            format.name(),
            format!("add `{}` to [roots] of the policy, or reach a peer on another platform", format.name()),
        ))
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        for (field, _, roots) in self.sections() {
            let kind = match field {
                "tdx" => "Intel TDX evidence",
                "sgx" => "Intel SGX evidence (from files only: an enclave is never a peer)",
                "sev-snp" => "AMD SEV-SNP evidence",
                _ => "NVIDIA GPU evidence",
            };
            if roots.is_empty() {
                say.push(format!("Refuses all {kind}: it has no root for it."));
            }
            for root in roots {
                say.push(match root {
                    Root::Vendor(vendor) => format!("Accepts {kind} under the built-in root of {}.", vendor.name()),
                    Root::Simulated(anchor) => format!(
                        "SIMULATED: accepts {kind} under the simulated root {}, which proves nothing about any machine.",
                        anchor.id
                    ),
                });
            }
        }
    }
}

impl Root {
    fn consistent(&self, field: &'static str, vendor: Vendor, environment: Environment) -> Result<(), Contradiction> {
        match self {
            Self::Vendor(named) if *named == vendor => Ok(()),
            Self::Vendor(named) => Err(Contradiction::new(
                "roots",
                field,
                format!("{} does not make this kind of evidence", named.name()),
                format!("write \"{}\"", vendor.name()),
            )),
            Self::Simulated(_) if environment == Environment::Production => Err(Contradiction::new(
                "roots",
                field,
                "a simulated root in a production policy",
                format!("write \"{}\", or `environment = \"development\"` if this is a test", vendor.name()),
            )),
            Self::Simulated(anchor) if is_vendor_key(anchor) => Err(Contradiction::new(
                "roots",
                field,
                "a vendor's own root under the name of a simulated one",
                format!("write \"{}\"", vendor.name()),
            )),
            Self::Simulated(_) => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Word(String),
            Table(Simulated),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Simulated {
            simulated: String,
        }

        let form = Form::deserialize(deserializer).map_err(|_| {
            D::Error::custom("a root is \"intel\", \"amd\", \"nvidia\" or { simulated = \"<PEM certificate>\" }")
        })?;
        match form {
            Form::Word(word) => [Vendor::Intel, Vendor::Amd, Vendor::Nvidia]
                .into_iter()
                .find(|vendor| vendor.name() == word)
                .map(Self::Vendor)
                .ok_or_else(|| D::Error::custom("no such vendor: write \"intel\", \"amd\" or \"nvidia\"")),
            Form::Table(table) => {
                TrustAnchor::simulated_pem(&table.simulated).map(Self::Simulated).map_err(D::Error::custom)
            }
        }
    }
}

/// The name "simulated" on a vendor's own key would make genuine evidence look simulated, and the mistake hard to see.
fn is_vendor_key(root: &TrustAnchor) -> bool {
    [Vendor::Intel, Vendor::Amd, Vendor::Nvidia]
        .into_iter()
        .flat_map(Vendor::anchors)
        .any(|anchor| anchor.id == root.id)
}

fn anchors(roots: &[Root]) -> Vec<TrustAnchor> {
    roots
        .iter()
        .flat_map(|root| match root {
            Root::Vendor(vendor) => vendor.anchors(),
            Root::Simulated(anchor) => vec![anchor.clone()],
        })
        .collect()
}
