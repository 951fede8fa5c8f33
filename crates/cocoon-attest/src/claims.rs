//! What an attester says about itself and its evidence covers: role, keys, model, time.
//!
//! Claims travel as JSON text, and the hash of exactly those bytes is in the report data; nothing has to be put into a
//! canonical form. Claims are true only in so far as the image that wrote them is: the image is what is attested.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::CLAIMS_BYTES_MAX;

/// A role on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// On its owner's host; shows no evidence.
    Client,
    /// Routes, meters, settles.
    Proxy,
    /// Runs the model.
    Worker,
}

impl Role {
    /// The name: `client`, `proxy`, `worker`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Worker => "worker",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Client, Self::Proxy, Self::Worker].into_iter().find(|role| role.name() == name)
    }
}

/// The claims, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// 1.
    pub version: u32,
    /// What the attester does.
    pub role: Role,
    /// Random, drawn when the node's identity was made; the same over restarts where keys are.
    #[serde(with = "hex::serde")]
    pub instance: [u8; 16],
    /// Random, drawn at each start.
    #[serde(with = "hex::serde")]
    pub boot: [u8; 16],
    /// The attester's clock, in seconds since the Unix epoch.
    pub time_unix_s: u64,
    /// SHA-256 of the node's configuration file as it was read.
    #[serde(with = "hex::serde")]
    pub config_sha256: [u8; 32],
    /// A worker's model, as in its handshake; absent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The contract of a proxy on chain, as the raw address `workchain:hex`; absent before it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// The public keys.
    pub keys: PublicKeys,
    /// [`gpu_digest`] of the GPU evidence that came along; absent without GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::claims::hex_option")]
    pub gpu_sha256: Option<[u8; 32]>,
}

/// Public halves of a node's keys, one for each purpose, raw Ed25519.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeys {
    /// Of the TLS certificate.
    #[serde(with = "hex::serde")]
    pub tls: [u8; 32],
    /// Signs exporters of later connections in session-key mode.
    #[serde(with = "hex::serde")]
    pub session: [u8; 32],
    /// Signs receipts.
    #[serde(with = "hex::serde")]
    pub receipt: [u8; 32],
    /// Signs payments; a proxy's key in its contract.
    #[serde(with = "hex::serde")]
    pub payment: [u8; 32],
    /// Of the wallet that pays for messages on chain.
    #[serde(with = "hex::serde")]
    pub wallet: [u8; 32],
}

/// Why bytes are no claims.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// More than [`CLAIMS_BYTES_MAX`].
    #[error("claims of {len} bytes; at most {CLAIMS_BYTES_MAX} are read")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// Not the JSON of claims.
    #[error("unreadable claims: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a later program.
    #[error("claims of version {0}; this program reads version 1")]
    Version(u32),
}

impl Claims {
    /// Reads claims.
    ///
    /// # Errors
    /// When the bytes are too long, are not such JSON, or have another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, ClaimsError> {
        if bytes.len() > CLAIMS_BYTES_MAX {
            return Err(ClaimsError::TooLong { len: bytes.len() });
        }
        let claims: Self = serde_json::from_slice(bytes)?;
        if claims.version != 1 {
            return Err(ClaimsError::Version(claims.version));
        }
        Ok(claims)
    }

    /// The text to hash and to send.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("claims hold no map, float or foreign type, so they always serialise")
    }
}

/// What claims say about GPU evidence: SHA-256 over each report and chain with its length.
#[must_use]
pub fn gpu_digest(gpus: &[crate::GpuEvidence]) -> Option<[u8; 32]> {
    use sha2::{Digest, Sha256};

    if gpus.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    for gpu in gpus {
        for bytes in [gpu.report.as_slice(), gpu.certificate_chain.as_bytes()] {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
    }
    Some(hash.finalize().into())
}

/// An optional digest as hex.
pub(crate) mod hex_option {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(digest: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => serializer.serialize_some(&hex::encode(digest)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).map_err(D::Error::custom)?;
        Ok(Some(digest))
    }
}
