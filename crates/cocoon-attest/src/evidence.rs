//! Evidence as it travels: bytes that a platform produced, sorted by format, nothing parsed or believed yet.
//!
//! The modules below parse each format. They read every byte, refuse what they do not know, and judge nothing: what a
//! parser returns is untrusted until [`crate::verify`] has checked the signatures.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::refusal::{Check, Refusal};

pub mod event_log;
mod quote;
mod reader;
pub mod sgx;
pub mod snp;
pub mod spdm;
pub mod tdx;

pub use quote::{Certification, CertificationKind, QuoteSignature};
pub(crate) use reader::Reader;

/// Why bytes are not the format they claim to be. Always the attester's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// They end too early.
    #[error("{field} needs {needed} bytes, {left} are left")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// How many bytes it has.
        needed: usize,
        /// How many there were.
        left: usize,
    },
    /// A field has a value that no such evidence has.
    #[error("{field} is {found}, not {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Bytes follow that are neither part of it nor padding.
    #[error("{field} is followed by {left} bytes that belong to nothing")]
    Trailing {
        /// What should have been last.
        field: &'static str,
        /// How many bytes follow.
        left: usize,
    },
}

impl FormatError {
    /// The refusal of evidence that should have been of this format.
    #[must_use]
    pub fn refusal(&self, format: Format) -> Refusal {
        Refusal::new(
            Check::Format,
            format!("well-formed {} evidence", format.name()),
            self.to_string(),
            "have the attester ask its platform for new evidence; if it stays so, compare versions",
        )
    }
}

/// A format of CPU evidence, and its name in challenges, policies and documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// An Intel TDX quote, version 4 or 5.
    Tdx,
    /// An Intel SGX quote, version 3: the sealing enclave of the original, never a peer of ours.
    Sgx,
    /// An AMD SEV-SNP attestation report, version 2 and later.
    SevSnp,
}

impl Format {
    /// The name: `tdx`, `sgx`, `sev-snp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tdx => "tdx",
            Self::Sgx => "sgx",
            Self::SevSnp => "sev-snp",
        }
    }

    /// The format of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tdx, Self::Sgx, Self::SevSnp].into_iter().find(|format| format.name() == name)
    }
}

/// What an attester shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Of the CPU; its report data binds everything else.
    pub platform: PlatformEvidence,
    /// The CCEL event log of the boot, cut after its last event.
    #[serde(default, with = "hex_option", skip_serializing_if = "Option::is_none")]
    pub event_log: Option<Vec<u8>>,
    /// The image manifest that the attester claims to run. Untrusted: the policy knows its hash.
    #[serde(default, with = "hex_option", skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Vec<u8>>,
    /// One for each GPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuEvidence>,
}

/// CPU evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum PlatformEvidence {
    /// A TDX quote.
    Tdx {
        /// The quote, certification data included.
        #[serde(with = "hex::serde")]
        quote: Vec<u8>,
    },
    /// An SGX quote.
    Sgx {
        /// The quote, certification data included.
        #[serde(with = "hex::serde")]
        quote: Vec<u8>,
    },
    /// A SEV-SNP report.
    SevSnp {
        /// The report's 1184 bytes.
        #[serde(with = "hex::serde")]
        report: Vec<u8>,
        /// DER certificates that came with it, the VCEK or VLEK first; may be empty.
        #[serde(with = "hex_list")]
        certificates: Vec<Vec<u8>>,
    },
}

impl PlatformEvidence {
    /// Its format.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self {
            Self::Tdx { .. } => Format::Tdx,
            Self::Sgx { .. } => Format::Sgx,
            Self::SevSnp { .. } => Format::SevSnp,
        }
    }
}

/// Evidence of one NVIDIA GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuEvidence {
    /// The SPDM request and the signed response with the measurements.
    #[serde(with = "hex::serde")]
    pub report: Vec<u8>,
    /// The PEM certificates of the device, leaf first.
    pub certificate_chain: String,
}

/// An optional byte string as hex.
pub(crate) mod hex_option {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(&hex::encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| hex::decode(text).map_err(D::Error::custom)).transpose()
    }
}

/// A list of byte strings, each as hex.
mod hex_list {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(hex::encode))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = Vec::<String>::deserialize(deserializer)?;
        list.iter().map(|text| hex::decode(text).map_err(D::Error::custom)).collect()
    }
}
