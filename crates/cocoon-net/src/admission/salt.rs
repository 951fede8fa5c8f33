//! Salts of proof-of-work challenges: computed when asked, computed again when answered, stored nowhere.
//!
//! A salt is an HMAC over the peer's address and port, the time in steps of [`SALT_BUCKET`], and the number of the
//! handshake. So an answer is good for one address, for at most two steps of time, and for one handshake:
//!
//! - an answer found by one machine is worth nothing to another, and answers cannot be worked out ahead;
//! - a replay, even from the same address and port within the same minute, meets another salt. The number costs no
//!   memory either: the handshake that waits for the answer has it anyway.
//!
//! The key is drawn when the listener opens and never leaves it, so a restart makes every old answer worthless.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use cocoon_wire::pow::{Answer, Challenge, verify};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::admission::HandshakeId;
use crate::limits::SALT_BUCKET;

const DOMAIN: &[u8] = b"cocoon proof-of-work salt 1";

/// What one handshake was asked: all that it takes to compute its salt again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// The peer.
    pub(crate) addr: SocketAddr,
    /// Its handshake.
    pub(crate) id: HandshakeId,
    /// The work.
    pub(crate) difficulty_bits: i32,
    bucket: u64,
}

/// The secret behind the salts of one listener.
pub(crate) struct Salts {
    key: [u8; 32],
    epoch: Instant,
}

impl Salts {
    /// Salts under this key.
    pub(crate) fn new(key: [u8; 32], now: Instant) -> Self {
        Self { key, epoch: now }
    }

    /// A question for this handshake now.
    pub(crate) fn question(&self, now: Instant, addr: SocketAddr, id: HandshakeId, difficulty_bits: i32) -> Question {
        Question { addr, id, difficulty_bits, bucket: self.bucket(now) }
    }

    /// The question as the peer sees it.
    pub(crate) fn challenge(&self, question: &Question) -> Challenge {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(DOMAIN);
        let ip = match question.addr.ip().to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        mac.update(&ip.octets());
        mac.update(&question.addr.port().to_be_bytes());
        mac.update(&question.bucket.to_be_bytes());
        mac.update(&question.id.0.to_be_bytes());
        let mac: [u8; 32] = mac.finalize().into_bytes().into();
        let (salt, _) = mac.split_first_chunk().expect("a salt is half an HMAC");
        Challenge { difficulty_bits: question.difficulty_bits, salt: *salt }
    }

    /// Whether the answer is right and not too late.
    pub(crate) fn accepts(&self, now: Instant, question: &Question, answer: &Answer) -> bool {
        let age = self.bucket(now).checked_sub(question.bucket);
        age.is_some_and(|age| age <= 1) && verify(&self.challenge(question), answer)
    }

    fn bucket(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch).as_secs();
        since.checked_div(SALT_BUCKET.as_secs()).unwrap_or(0)
    }
}

impl fmt::Debug for Salts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salts")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cocoon_wire::pow::solve_range;

    use super::*;

    const BITS: i32 = 12;

    fn setting() -> (Salts, Instant, SocketAddr) {
        let now = Instant::now();
        (Salts::new([9; 32], now), now, "192.0.2.1:5000".parse().unwrap())
    }

    fn solve(challenge: &Challenge) -> Answer {
        Answer { nonce: solve_range(challenge, 0, 1 << 24).unwrap() }
    }

    #[test]
    fn right_answer_in_time_is_accepted() {
        let (salts, now, addr) = setting();
        let question = salts.question(now, addr, HandshakeId(1), BITS);
        let answer = solve(&salts.challenge(&question));
        assert!(salts.accepts(now, &question, &answer));
        // Even when the step of time changed while the peer worked.
        assert!(salts.accepts(now + SALT_BUCKET, &question, &answer));
        assert!(!salts.accepts(now, &question, &Answer { nonce: answer.nonce - 1 }));
    }

    #[test]
    fn stale_answer_is_refused() {
        let (salts, now, addr) = setting();
        let question = salts.question(now, addr, HandshakeId(1), BITS);
        let answer = solve(&salts.challenge(&question));
        assert!(!salts.accepts(now + 2 * SALT_BUCKET, &question, &answer));
        // Asked again later, the same handshake would have another salt.
        let later = salts.question(now + SALT_BUCKET, addr, HandshakeId(1), BITS);
        assert!(!salts.accepts(now + SALT_BUCKET, &later, &answer));
    }

    #[test]
    fn answer_of_another_address_is_refused() {
        let (salts, now, addr) = setting();
        let answer = solve(&salts.challenge(&salts.question(now, addr, HandshakeId(1), BITS)));
        for other in ["192.0.2.2:5000", "192.0.2.1:5001", "[2001:db8::1]:5000"] {
            let question = salts.question(now, other.parse().unwrap(), HandshakeId(1), BITS);
            assert!(!salts.accepts(now, &question, &answer), "{other}");
        }
        let mapped = salts.question(now, "[::ffff:192.0.2.1]:5000".parse().unwrap(), HandshakeId(1), BITS);
        assert!(salts.accepts(now, &mapped, &answer), "the same address in an IPv6 socket");
    }

    #[test]
    fn replayed_answer_is_refused() {
        let (salts, now, addr) = setting();
        let answer = solve(&salts.challenge(&salts.question(now, addr, HandshakeId(1), BITS)));
        let again = salts.question(now, addr, HandshakeId(2), BITS);
        assert!(!salts.accepts(now, &again, &answer));
    }

    #[test]
    fn answer_from_before_a_restart_is_refused() {
        let (salts, now, addr) = setting();
        let question = salts.question(now, addr, HandshakeId(1), BITS);
        let answer = solve(&salts.challenge(&question));
        let restarted = Salts::new([10; 32], now);
        let asked = restarted.question(now + Duration::from_secs(1), addr, HandshakeId(1), BITS);
        assert!(!restarted.accepts(now + Duration::from_secs(1), &asked, &answer));
    }
}
