//! A receipt under a signature, as it travels and as it is kept.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::body;
use crate::error::ReceiptError;
use crate::limits::RECEIPT_BYTES_MAX;
use crate::receipt::Receipt;

/// Goes before the body under the signature, so that a signature made for anything else fits no receipt.
const DOMAIN: &[u8] = b"cocoon receipt v1\0";
const KEY_LEN: usize = 32;
const SIGNATURE_LEN: usize = 64;

/// A key, its Ed25519 signature over `"cocoon receipt v1\0" ‖ body`, and the body's exact bytes.
///
/// Nothing of it is believed before [`SignedReceipt::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    key: [u8; KEY_LEN],
    signature: [u8; SIGNATURE_LEN],
    body: String,
}

impl SignedReceipt {
    pub(crate) fn new(body: String, key: &SigningKey) -> Self {
        let signature = key.sign(&signed_bytes(&body)).to_bytes();
        Self { key: key.verifying_key().to_bytes(), signature, body }
    }

    pub(crate) const fn from_parts(key: [u8; KEY_LEN], signature: [u8; SIGNATURE_LEN], body: String) -> Self {
        Self { key, signature, body }
    }

    /// `key ‖ signature ‖ body`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.key.as_slice(), self.signature.as_slice(), self.body.as_bytes()].concat()
    }

    /// Splits what [`Self::to_bytes`] joined. Nothing is checked but the length.
    ///
    /// # Errors
    /// When there are too few or too many bytes, or the body is no text.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let length = || ReceiptError::Length { len: bytes.len() };
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(length());
        }
        let (key, rest) = bytes.split_first_chunk::<KEY_LEN>().ok_or_else(length)?;
        let (signature, body) = rest.split_first_chunk::<SIGNATURE_LEN>().ok_or_else(length)?;
        if body.is_empty() {
            return Err(length());
        }
        let body = std::str::from_utf8(body).map_err(|_| ReceiptError::NotText)?;
        Ok(Self { key: *key, signature: *signature, body: body.to_owned() })
    }

    /// The key that claims to have signed.
    #[must_use]
    pub const fn key(&self) -> [u8; KEY_LEN] {
        self.key
    }

    /// The signature.
    #[must_use]
    pub const fn signature(&self) -> &[u8; SIGNATURE_LEN] {
        &self.signature
    }

    /// The signed text. **Not verified.**
    #[must_use]
    pub fn unverified_body(&self) -> &str {
        &self.body
    }

    /// Checks the signature, the one form of the body, and that the adjusted counts follow from the raw ones.
    ///
    /// Without `expected_key` this says only that the holder of [`Self::key`] signed: whose key that is, evidence has to
    /// say.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify(&self, expected_key: Option<&[u8; KEY_LEN]>) -> Result<Receipt, ReceiptError> {
        if let Some(expected) = expected_key.filter(|&expected| *expected != self.key) {
            return Err(ReceiptError::Key { expected: hex::encode(expected), found: hex::encode(self.key) });
        }
        let len = KEY_LEN.saturating_add(SIGNATURE_LEN).saturating_add(self.body.len());
        if len > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::Length { len });
        }
        // Strict: of all the encodings of a signature and all the keys of small order, none but the usual one passes.
        VerifyingKey::from_bytes(&self.key)
            .and_then(|key| key.verify_strict(&signed_bytes(&self.body), &Signature::from_bytes(&self.signature)))
            .map_err(|_| ReceiptError::Signature)?;
        body::decode(&self.body)
    }
}

fn signed_bytes(body: &str) -> Vec<u8> {
    [DOMAIN, body.as_bytes()].concat()
}
