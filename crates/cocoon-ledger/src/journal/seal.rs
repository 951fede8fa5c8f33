//! Sealing: AES-256-GCM under a key that is used once.
//!
//! `key = HKDF-SHA256(salt, machine key, purpose ‖ place)` with 32 random bytes of salt in front of the ciphertext, so the
//! nonce can be zero: two things are never sealed under the same key, not even when an old copy of the disk is put back
//! and the same place is written again. The place is authenticated with what is sealed there.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use ring::digest;
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use super::table::Header;
use super::{JournalError, Salts};
use crate::codec::{Reader, Writer};
use crate::commit::sha256;

/// What the header says, and the entries and snapshots after it look like.
const VERSION: u32 = 2;

const SALT_BYTES: usize = 32;

/// Seals and opens what the journal keeps.
pub(super) struct Sealer {
    key: Zeroizing<[u8; 32]>,
    salts: Salts,
}

#[derive(Clone, Copy)]
enum Purpose {
    Header,
    Part,
    Batch,
}

impl Sealer {
    pub(super) fn new(key: Zeroizing<[u8; 32]>, salts: Salts) -> Self {
        Self { key, salts }
    }

    pub(super) fn seal_header(&mut self, header: &Header) -> Option<Vec<u8>> {
        let mut plain = Writer::default();
        plain.u32(VERSION).u64(header.seq).array(&header.head).u32(header.parts);
        self.seal(Purpose::Header, &[], plain.into_bytes())
    }

    /// `None` if it does not open.
    pub(super) fn open_header(&self, sealed: &[u8]) -> Option<Result<Header, JournalError>> {
        let plain = self.open(Purpose::Header, &[], sealed)?;
        let mut from = Reader::new(&plain);
        let found = from.u32()?;
        if found != VERSION {
            return Some(Err(JournalError::Version { found, known: VERSION }));
        }
        Some(Ok(Header { seq: from.u64()?, head: from.array()?, parts: from.u32()? }))
    }

    pub(super) fn seal_part(&mut self, header: &Header, part: u32, plain: Vec<u8>) -> Option<Vec<u8>> {
        self.seal(Purpose::Part, &place_of_part(header, part), plain)
    }

    pub(super) fn open_part(&self, header: &Header, part: u32, sealed: &[u8]) -> Option<Vec<u8>> {
        self.open(Purpose::Part, &place_of_part(header, part), sealed)
    }

    pub(super) fn seal_batch(&mut self, seq: u64, head: &[u8; 32], plain: Vec<u8>) -> Option<Vec<u8>> {
        self.seal(Purpose::Batch, &place_of_batch(seq, head), plain)
    }

    pub(super) fn open_batch(&self, seq: u64, head: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
        self.open(Purpose::Batch, &place_of_batch(seq, head), sealed)
    }

    fn seal(&mut self, purpose: Purpose, place: &[u8], mut plain: Vec<u8>) -> Option<Vec<u8>> {
        let salt = (self.salts)();
        let key = self.key(purpose, place, &salt)?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(place), &mut plain).ok()?;
        Some([&salt, plain.as_slice(), tag.as_ref()].concat())
    }

    fn open(&self, purpose: Purpose, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (salt, sealed) = sealed.split_first_chunk::<SALT_BYTES>()?;
        let key = self.key(purpose, place, salt)?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let mut plain = sealed.to_vec();
        let length = key.open_in_place(nonce, Aad::from(place), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    fn key(&self, purpose: Purpose, place: &[u8], salt: &[u8; SALT_BYTES]) -> Option<LessSafeKey> {
        let algorithm: &'static Algorithm = &AES_256_GCM;
        let extracted = Salt::new(HKDF_SHA256, salt).extract(&*self.key);
        let info = [purpose.info(), place];
        Some(LessSafeKey::new(UnboundKey::from(extracted.expand(&info, algorithm).ok()?)))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Purpose {
    fn info(self) -> &'static [u8] {
        match self {
            Self::Header => b"cocoon ledger header",
            Self::Part => b"cocoon ledger snapshot",
            Self::Batch => b"cocoon ledger batch",
        }
    }
}

/// The head after a batch.
pub(super) fn next_head(head: &[u8; 32], seq: u64, sealed: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(head);
    context.update(&seq.to_le_bytes());
    context.update(sealed);
    sha256(context)
}

fn place_of_batch(seq: u64, head: &[u8; 32]) -> Vec<u8> {
    [seq.to_le_bytes().as_slice(), head].concat()
}

fn place_of_part(header: &Header, part: u32) -> Vec<u8> {
    let Header { seq, head, parts } = header;
    [seq.to_le_bytes().as_slice(), head, &part.to_le_bytes(), &parts.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_depends_on_all_before_it() {
        let head = next_head(&[0; 32], 7, b"sealed");
        assert_eq!(head, next_head(&[0; 32], 7, b"sealed"));
        assert_ne!(head, next_head(&[1; 32], 7, b"sealed"));
        assert_ne!(head, next_head(&[0; 32], 8, b"sealed"));
        assert_ne!(head, next_head(&[0; 32], 7, b"sealee"));
    }

    #[test]
    fn what_is_sealed_opens_only_at_its_place_and_for_its_purpose() {
        let mut sealer = Sealer::new(Zeroizing::new([7; 32]), Box::new(|| [9; 32]));
        let sealed = sealer.seal_batch(1, &[2; 32], b"plain".to_vec()).unwrap();
        assert_eq!(sealer.open_batch(1, &[2; 32], &sealed).as_deref(), Some(b"plain".as_slice()));
        assert_eq!(sealer.open_batch(2, &[2; 32], &sealed), None);
        assert_eq!(sealer.open_batch(1, &[3; 32], &sealed), None);
        assert_eq!(sealer.open(Purpose::Part, &place_of_batch(1, &[2; 32]), &sealed), None);
        // Even a salt that comes again does not give the same key at another place.
        let elsewhere = sealer.seal_batch(2, &[2; 32], b"plain".to_vec()).unwrap();
        assert_ne!(sealed, elsewhere);
    }
}
