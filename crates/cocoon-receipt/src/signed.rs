//! A receipt under a signature, as it travels and as it is kept.
//!
//! One signature stands for a batch of receipts, since a signature costs more than all else about a receipt: what is
//! signed is the root of a [`tree`](crate::tree) over their bodies. A receipt that is signed alone is a tree of one leaf.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::body;
use crate::error::ReceiptError;
use crate::limits::{BATCH_MAX, RECEIPT_BYTES_MAX, ROOTS_KEPT_MAX};
use crate::receipt::Receipt;
use crate::tree::{self, Node, Path};

/// Goes before the root under the signature, so that a signature made for anything else fits no receipt.
const DOMAIN: &[u8] = b"cocoon receipt v2\0";
const KEY_LEN: usize = 32;
const SIGNATURE_LEN: usize = 64;
/// The place in the batch, and how many there are.
const PLACE_LEN: usize = 2;

/// A key, its Ed25519 signature over `"cocoon receipt v2\0" ‖ root`, the way from the body to that root, and the body's
/// exact bytes.
///
/// Nothing of it is believed before [`SignedReceipt::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    key: [u8; KEY_LEN],
    signature: [u8; SIGNATURE_LEN],
    path: Path,
    body: String,
}

/// Signs receipts together, [`BATCH_MAX`] under each signature; they come out in the order that they went in.
#[must_use]
pub fn sign_all(receipts: &[Receipt], key: &SigningKey) -> Vec<SignedReceipt> {
    receipts.chunks(BATCH_MAX).flat_map(|batch| sign_batch(batch, key)).collect()
}

fn sign_batch(receipts: &[Receipt], key: &SigningKey) -> Vec<SignedReceipt> {
    let bodies: Vec<_> = receipts.iter().map(body::encode).collect();
    let leaves: Vec<_> = bodies.iter().map(|body| tree::leaf(body)).collect();
    let (root, paths) = tree::grow(&leaves).expect("chunks of a slice are neither empty nor larger than asked for");
    let (signature, key) = sign_root(&root, key);
    bodies.into_iter().zip(paths).map(|(body, path)| SignedReceipt { key, signature, path, body }).collect()
}

fn sign_root(root: &Node, key: &SigningKey) -> ([u8; SIGNATURE_LEN], [u8; KEY_LEN]) {
    (key.sign(&signed_bytes(root)).to_bytes(), key.verifying_key().to_bytes())
}

impl SignedReceipt {
    pub(crate) fn alone(receipt: &Receipt, key: &SigningKey) -> Self {
        let body = body::encode(receipt);
        let (signature, key) = sign_root(&tree::leaf(&body), key);
        Self { key, signature, path: Path::alone(), body }
    }

    pub(crate) const fn from_parts(
        key: [u8; KEY_LEN],
        signature: [u8; SIGNATURE_LEN],
        path: Path,
        body: String,
    ) -> Self {
        Self { key, signature, path, body }
    }

    /// `key ‖ signature ‖ place in the batch ‖ receipts in the batch ‖ neighbours ‖ body`; the two counts are bytes, and
    /// they say how many neighbours of 32 bytes there are.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let place = [self.path.index(), self.path.size()];
        let neighbours = self.path.neighbours().as_flattened();
        [self.key.as_slice(), &self.signature, &place, neighbours, self.body.as_bytes()].concat()
    }

    /// Splits what [`Self::to_bytes`] joined. Nothing is checked but the lengths.
    ///
    /// # Errors
    /// When there are too few or too many bytes, the place is in no batch, or the body is no text.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let length = || ReceiptError::Length { len: bytes.len() };
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(length());
        }
        let (key, rest) = bytes.split_first_chunk::<KEY_LEN>().ok_or_else(length)?;
        let (signature, rest) = rest.split_first_chunk::<SIGNATURE_LEN>().ok_or_else(length)?;
        let (&[index, size], rest) = rest.split_first_chunk::<PLACE_LEN>().ok_or_else(length)?;
        let place = || ReceiptError::Place { index, size };
        let count = Path::neighbours_of(index, size).ok_or_else(place)?;
        let (neighbours, _) = rest.as_chunks::<{ size_of::<Node>() }>();
        let neighbours = neighbours.get(..count).ok_or_else(length)?;
        let body = rest.get(neighbours.as_flattened().len()..).filter(|body| !body.is_empty()).ok_or_else(length)?;
        let path = Path::new(index, size, neighbours.to_vec()).ok_or_else(place)?;
        let body = std::str::from_utf8(body).map_err(|_| ReceiptError::NotText)?;
        Ok(Self { key: *key, signature: *signature, path, body: body.to_owned() })
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

    pub(crate) const fn path(&self) -> &Path {
        &self.path
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
        self.verify_with(expected_key, &VerifiedRoots::default())
    }

    /// The same for whoever reads many receipts: the signature of a batch is checked for the first of them only.
    ///
    /// # Errors
    /// As for [`Self::verify`].
    pub fn verify_with(
        &self,
        expected_key: Option<&[u8; KEY_LEN]>,
        roots: &VerifiedRoots,
    ) -> Result<Receipt, ReceiptError> {
        if let Some(expected) = expected_key.filter(|&expected| *expected != self.key) {
            return Err(ReceiptError::Key { expected: hex::encode(expected), found: hex::encode(self.key) });
        }
        // A file can hold more than ever travelled.
        let len = self.to_bytes_len();
        if len > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::Length { len });
        }
        let root =
            SignedRoot { key: self.key, signature: self.signature, root: self.path.root(tree::leaf(&self.body)) };
        if !roots.contains(&root) {
            root.verify()?;
            roots.insert(root);
        }
        body::decode(&self.body)
    }

    fn to_bytes_len(&self) -> usize {
        let path = self.path.neighbours().as_flattened().len();
        [KEY_LEN, SIGNATURE_LEN, PLACE_LEN, path, self.body.len()].into_iter().fold(0, usize::saturating_add)
    }
}

/// What one signature says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SignedRoot {
    key: [u8; KEY_LEN],
    /// Part of what is remembered: a receipt with another signature would not verify for whoever gets it next.
    signature: [u8; SIGNATURE_LEN],
    root: Node,
}

impl SignedRoot {
    fn verify(&self) -> Result<(), ReceiptError> {
        // Strict: of all the encodings of a signature and all the keys of small order, none but the usual one passes.
        VerifyingKey::from_bytes(&self.key)
            .and_then(|key| key.verify_strict(&signed_bytes(&self.root), &Signature::from_bytes(&self.signature)))
            .map_err(|_| ReceiptError::Signature)
    }
}

/// Signatures that were verified, the latest [`ROOTS_KEPT_MAX`]: the receipts of a batch come close together.
#[derive(Debug, Default)]
pub struct VerifiedRoots(Mutex<VecDeque<SignedRoot>>);

impl VerifiedRoots {
    fn contains(&self, root: &SignedRoot) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(root)
    }

    fn insert(&self, root: SignedRoot) {
        let mut roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        roots.truncate(ROOTS_KEPT_MAX.saturating_sub(1));
        roots.push_front(root);
    }
}

fn signed_bytes(root: &Node) -> Vec<u8> {
    [DOMAIN, root].concat()
}
