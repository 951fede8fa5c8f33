//! Everything secret about a platform, from one random seed: processes that share the seed share the platform.

use hkdf::Hkdf;
use rsa::rand_core::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::pki::Key;

/// The secret that a platform is made of.
#[derive(Clone)]
pub(crate) struct Seed(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Seed {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut seed = Self::from_bytes([0; 32]);
        getrandom::fill(seed.0.as_mut_slice())?;
        Ok(seed)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Bytes for one purpose.
    pub(crate) fn derive<const N: usize>(&self, label: &str) -> Zeroizing<[u8; N]> {
        let mut out = Zeroizing::new([0; N]);
        Hkdf::<Sha256>::new(Some(b"cocoon simtee"), self.0.as_slice())
            .expand(label.as_bytes(), out.as_mut_slice())
            .expect("no purpose takes more than 255 blocks");
        out
    }

    pub(crate) fn p256(&self, label: &str) -> Key {
        let valid = |try_number| {
            p256::ecdsa::SigningKey::from_slice(self.derive::<32>(&format!("p256 {label} {try_number}")).as_slice())
                .ok()
        };
        Key::P256((0..u8::MAX).find_map(valid).expect("all but 2^-32 of the strings are keys of P-256"))
    }

    pub(crate) fn p384(&self, label: &str) -> Key {
        let valid = |try_number| {
            p384::ecdsa::SigningKey::from_slice(self.derive::<48>(&format!("p384 {label} {try_number}")).as_slice())
                .ok()
        };
        Key::P384((0..u8::MAX).find_map(valid).expect("all but 2^-190 of the strings are keys of P-384"))
    }

    pub(crate) fn rng(&self, label: &str) -> SeededRng {
        SeededRng::new(&[label.as_bytes(), self.0.as_slice()])
    }
}

/// SHA-256 in counter mode: random numbers that are the same for the same secret.
pub(crate) struct SeededRng {
    key: Zeroizing<[u8; 32]>,
    counter: u64,
}

impl SeededRng {
    pub(crate) fn new(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self { key: Zeroizing::new(hash.finalize().into()), counter: 0 }
    }
}

impl RngCore for SeededRng {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let block =
                Sha256::new().chain_update(self.key.as_slice()).chain_update(self.counter.to_le_bytes()).finalize();
            self.counter = self.counter.wrapping_add(1);
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for SeededRng {}
