//! The proof of work that a listener asks of a dialer before anything else.
//!
//! The listener sends 24 bytes: magic, difficulty in bits, salt.
//! The dialer answers 12 bytes: magic and a nonce such that SHA-256(salt ‖ nonce), read as a
//! little-endian number from its first 8 bytes, has at least that many leading zero bits.
//! See wire.md, section 1.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::limits::POW_DIFFICULTY_BITS_MAX;

const CHALLENGE_MAGIC: u32 = 0x418e_1291;
const ANSWER_MAGIC: u32 = 0x0182_7319;

/// What a listener asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Leading zero bits; 0 asks for nothing.
    pub difficulty_bits: i32,
    /// Random bytes, fresh for each connection.
    pub salt: [u8; 16],
}

/// What a dialer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number it found.
    pub nonce: i64,
}

/// Bytes that are no proof of work; the peer is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PowError {
    /// The first four bytes are not those of a proof of work.
    #[error("not a proof-of-work message")]
    BadMagic,
    /// The difficulty is negative or more than a dialer solves.
    #[error("proof of work of {difficulty_bits} bits is refused")]
    BadDifficulty {
        /// What the listener asked for.
        difficulty_bits: i32,
    },
}

impl Challenge {
    /// Bytes of a challenge.
    pub const LEN: usize = 24;

    /// Reads a challenge.
    ///
    /// # Errors
    ///
    /// When it is none, or asks for more than [`POW_DIFFICULTY_BITS_MAX`].
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, PowError> {
        let [m0, m1, m2, m3, d0, d1, d2, d3, salt @ ..] = *bytes;
        if u32::from_le_bytes([m0, m1, m2, m3]) != CHALLENGE_MAGIC {
            return Err(PowError::BadMagic);
        }
        let difficulty_bits = i32::from_le_bytes([d0, d1, d2, d3]);
        if !(0..=POW_DIFFICULTY_BITS_MAX).contains(&difficulty_bits) {
            return Err(PowError::BadDifficulty { difficulty_bits });
        }
        Ok(Self { difficulty_bits, salt })
    }

    /// Writes the challenge.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (magic, rest) = bytes.split_at_mut(4);
        let (difficulty, salt) = rest.split_at_mut(4);
        magic.copy_from_slice(&CHALLENGE_MAGIC.to_le_bytes());
        difficulty.copy_from_slice(&self.difficulty_bits.to_le_bytes());
        salt.copy_from_slice(&self.salt);
        bytes
    }
}

impl Answer {
    /// Bytes of an answer.
    pub const LEN: usize = 12;

    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, PowError> {
        let [m0, m1, m2, m3, nonce @ ..] = *bytes;
        if u32::from_le_bytes([m0, m1, m2, m3]) != ANSWER_MAGIC {
            return Err(PowError::BadMagic);
        }
        Ok(Self { nonce: i64::from_le_bytes(nonce) })
    }

    /// Writes the answer.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (magic, nonce) = bytes.split_at_mut(4);
        magic.copy_from_slice(&ANSWER_MAGIC.to_le_bytes());
        nonce.copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }
}

/// Whether the answer meets the challenge.
#[must_use]
pub fn verify(challenge: &Challenge, answer: &Answer) -> bool {
    let zeros = leading_zero_bits(&salted(challenge), answer.nonce);
    i64::from(zeros) >= i64::from(challenge.difficulty_bits)
}

/// Tries `count` nonces from `from` on; the caller chooses slices small enough to be interrupted.
#[must_use]
pub fn solve_range(challenge: &Challenge, from: i64, count: u64) -> Option<i64> {
    let salted = salted(challenge);
    let wanted = i64::from(challenge.difficulty_bits);
    (0..count)
        .map(|step| from.wrapping_add_unsigned(step))
        .find(|&nonce| i64::from(leading_zero_bits(&salted, nonce)) >= wanted)
}

fn salted(challenge: &Challenge) -> Sha256 {
    Sha256::new_with_prefix(challenge.salt)
}

fn leading_zero_bits(salted: &Sha256, nonce: i64) -> u32 {
    let digest: [u8; 32] = salted.clone().chain_update(nonce.to_le_bytes()).finalize().into();
    let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = digest;
    u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: Challenge = Challenge { difficulty_bits: 10, salt: [7; 16] };

    #[test]
    fn round_trips() {
        assert_eq!(Challenge::decode(&CHALLENGE.encode()), Ok(CHALLENGE));
        assert_eq!(Answer::decode(&Answer { nonce: -5 }.encode()), Ok(Answer { nonce: -5 }));
        assert_eq!(CHALLENGE.encode()[..4], [0x91, 0x12, 0x8e, 0x41]);
    }

    #[test]
    fn a_solution_verifies_and_another_nonce_does_not() {
        let nonce = solve_range(&CHALLENGE, 0, 1 << 20).unwrap();
        assert!(verify(&CHALLENGE, &Answer { nonce }));
        assert!((0..nonce).all(|wrong| !verify(&CHALLENGE, &Answer { nonce: wrong })));
        assert_eq!(solve_range(&CHALLENGE, 0, 0), None);
    }

    #[test]
    fn impossible_difficulty_is_refused() {
        for difficulty_bits in [-1, 29, i32::MAX, i32::MIN] {
            let challenge = Challenge { difficulty_bits, salt: [0; 16] };
            let refused = Err(PowError::BadDifficulty { difficulty_bits });
            assert_eq!(Challenge::decode(&challenge.encode()), refused);
        }
        assert_eq!(Challenge::decode(&[0; 24]), Err(PowError::BadMagic));
        assert_eq!(Answer::decode(&[0; 12]), Err(PowError::BadMagic));
    }
}
