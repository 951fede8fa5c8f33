//! What a user keeps of a request: everything that it takes to check the receipt again, years later and offline.

use cocoon_units::NanoPerToken;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::FILE_BYTES_MAX;
use crate::signed::SignedReceipt;
use crate::tree::{Node, Path};

const VERSION: u32 = 2;

/// A receipt, the salt of its digests, and what vouches for the key that signed it.
///
/// The salt makes the file private: with it, a guess at a prompt can be tried against the receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptFile {
    /// The receipt. **Not verified.**
    pub receipt: SignedReceipt,
    /// Under which the request's and the answer's digests were made.
    pub salt: [u8; 32],
    /// The exact text of the document that vouches for the key (`cocoon_attest::Document`), where the client got one.
    pub evidence: Option<String>,
    /// What the client paid for an adjusted token, where it paid.
    pub price: Option<NanoPerToken>,
    /// [`BodyDigest::request`](crate::BodyDigest::request) over what the client itself sent.
    pub request_hmac: Option<[u8; 32]>,
    /// [`BodyDigest::answer`](crate::BodyDigest::answer) over what the client itself received.
    pub answer_hmac: Option<[u8; 32]>,
}

/// Why bytes are no receipt file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReceiptFileError {
    /// More than [`FILE_BYTES_MAX`].
    #[error("a receipt file of {len} bytes; at most {FILE_BYTES_MAX} are read")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// Not such JSON.
    #[error("not a receipt file: {0}")]
    Json(#[from] serde_json::Error),
    /// A place that no batch has.
    #[error("the receipt's place in its batch does not fit the batch")]
    Batch,
    /// Written by another program.
    #[error("a receipt file of version {0}; this program reads version {VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileJson {
    version: u32,
    /// The exact signed text, so that the signature can be checked over its very bytes.
    receipt: String,
    #[serde(with = "cocoon_units::hex_text")]
    key: [u8; 32],
    #[serde(with = "cocoon_units::hex_text")]
    signature: [u8; 64],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<BatchJson>,
    #[serde(with = "cocoon_units::hex_text")]
    salt: [u8; 32],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price_nano_per_token: Option<NanoPerToken>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hex_option")]
    request_hmac: Option<[u8; 32]>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hex_option")]
    answer_hmac: Option<[u8; 32]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
}

/// The way to what was signed, where the signature stands for more than this receipt.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchJson {
    index: u8,
    size: u8,
    neighbours: Vec<HexNode>,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct HexNode(#[serde(with = "cocoon_units::hex_text")] Node);

impl BatchJson {
    fn of(path: &Path) -> Option<Self> {
        let neighbours = path.neighbours().iter().copied().map(HexNode).collect();
        (path.size() > 1).then(|| Self { index: path.index(), size: path.size(), neighbours })
    }

    fn into_path(self) -> Option<Path> {
        Path::new(self.index, self.size, self.neighbours.into_iter().map(|node| node.0).collect())
    }
}

impl ReceiptFile {
    /// Reads a file. The receipt in it is not verified yet.
    ///
    /// # Errors
    /// When the bytes are too long, are no such JSON, or are of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptFileError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(ReceiptFileError::TooLong { len: bytes.len() });
        }
        let file: FileJson = serde_json::from_slice(bytes)?;
        if file.version != VERSION {
            return Err(ReceiptFileError::Version(file.version));
        }
        let path = file.batch.map_or(Some(Path::alone()), BatchJson::into_path).ok_or(ReceiptFileError::Batch)?;
        Ok(Self {
            receipt: SignedReceipt::from_parts(file.key, file.signature, path, file.receipt),
            salt: file.salt,
            evidence: file.evidence,
            price: file.price_nano_per_token,
            request_hmac: file.request_hmac,
            answer_hmac: file.answer_hmac,
        })
    }

    /// The JSON, on several lines.
    #[must_use]
    pub fn encode(&self) -> String {
        let file = FileJson {
            version: VERSION,
            receipt: self.receipt.unverified_body().to_owned(),
            key: self.receipt.key(),
            signature: *self.receipt.signature(),
            batch: BatchJson::of(self.receipt.path()),
            salt: self.salt,
            price_nano_per_token: self.price,
            request_hmac: self.request_hmac,
            answer_hmac: self.answer_hmac,
            evidence: self.evidence.clone(),
        };
        let mut text = serde_json::to_string_pretty(&file)
            .expect("a file holds no map, float or foreign type, so it always serialises");
        text.push('\n');
        text
    }
}

/// An optional hash as hex of full length.
mod hex_option {
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(hash: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
        match hash {
            Some(hash) => cocoon_units::hex_text::serialize(hash, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Called only where the field is there.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
        cocoon_units::hex_text::deserialize(deserializer).map(Some)
    }
}
