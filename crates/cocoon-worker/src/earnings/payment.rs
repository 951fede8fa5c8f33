//! Which of a proxy's signed payments are taken.
//!
//! A payment is the body of a message to this worker's contract. What is taken here, the contract takes too: its kind, the
//! one contract that it names, and the signature by the key that the contract's address commits to. Counts of tokens only
//! grow, so an older payment is no fault (messages overtake each other), and never replaces a newer one.

use cocoon_ton::Address;
use cocoon_ton::contract::StateError;
use cocoon_ton::contract::signed::{BadSignature, Envelope, Kind};
use cocoon_units::AdjustedTokens;

/// Why a signed payment is not taken. The proxy is to blame for each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaymentError {
    /// It is no signed message.
    #[error("the proxy's payment cannot be read")]
    PeerMalformed(#[from] StateError),
    /// It pays nobody: a message of another kind.
    #[error("the proxy sent another signed message than a payout")]
    PeerKind,
    /// It is for another contract.
    #[error("the proxy's payment is for {named}, and this worker is paid through {ours}")]
    PeerForeignContract {
        /// What it names.
        named: Address,
        /// This worker's.
        ours: Address,
    },
    /// The contract would refuse it.
    #[error(transparent)]
    PeerForged(#[from] BadSignature),
    /// More tokens than the protocol can count.
    #[error("the proxy's payment is for {0} tokens, more than can be counted")]
    PeerAmount(u64),
}

/// A payment that the contract takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payout {
    pub(crate) envelope: Envelope,
    pub(crate) tokens: AdjustedTokens,
    /// Whether it is the last: it closes the contract.
    pub(crate) is_last: bool,
}

impl Payout {
    /// Reads and verifies a payment for `contract` by `key`.
    pub(crate) fn verify(bytes: &[u8], contract: Address, key: &[u8; 32]) -> Result<Self, PaymentError> {
        let envelope = Envelope::from_boc(bytes)?;
        let payment = envelope.signed.payment;
        let is_last = match payment.kind() {
            Kind::Payout => false,
            Kind::LastPayout => true,
            Kind::Charge | Kind::GrantRefund | Kind::CloseRequest | Kind::CloseComplete => {
                return Err(PaymentError::PeerKind);
            }
        };
        if payment.contract() != contract {
            return Err(PaymentError::PeerForeignContract { named: payment.contract(), ours: contract });
        }
        let tokens = payment.tokens().ok_or(PaymentError::PeerKind)?;
        if i64::try_from(tokens).is_err() {
            return Err(PaymentError::PeerAmount(tokens));
        }
        envelope.signed.verify(key)?;
        Ok(Self { envelope, tokens: AdjustedTokens::new(tokens), is_last })
    }

    /// Whether it says more than the one before.
    pub(crate) fn supersedes(&self, before: Option<&Self>) -> bool {
        let Some(before) = before else { return true };
        self.tokens > before.tokens || (self.is_last && !before.is_last && self.tokens == before.tokens)
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ton::contract::signed::{self, Payment};
    use ed25519_dalek::SigningKey;

    use super::*;

    const OURS: Address = Address::basechain([1; 32]);
    const OTHER: Address = Address::basechain([2; 32]);

    fn key(number: u8) -> SigningKey {
        SigningKey::from_bytes(&[number; 32])
    }

    fn bytes(payment: Payment, by: u8) -> Vec<u8> {
        Envelope { signed: payment.sign(&key(by)), excesses_to: OTHER }.to_boc()
    }

    fn verify(payment: Payment, by: u8) -> Result<Payout, PaymentError> {
        Payout::verify(&bytes(payment, by), OURS, key(7).verifying_key().as_bytes())
    }

    #[test]
    fn a_payout_by_the_proxy_is_taken() {
        let payout = verify(signed::payout(OURS, 0, 5), 7).unwrap();
        assert_eq!((payout.tokens, payout.is_last), (AdjustedTokens::new(5), false));
        assert!(verify(signed::last_payout(OURS, 0, 5), 7).unwrap().is_last);
    }

    #[test]
    fn forged_payment() {
        assert!(matches!(verify(signed::payout(OURS, 0, 5), 8), Err(PaymentError::PeerForged(_))));
        let good = bytes(signed::payout(OURS, 0, 5), 7);
        for place in 0..good.len() {
            let mut changed = good.clone();
            changed[place] ^= 1;
            let key = key(7).verifying_key();
            if let Ok(payout) = Payout::verify(&changed, OURS, key.as_bytes()) {
                // Who gets the change is outside the signature; nothing else is.
                assert_eq!(payout.tokens, AdjustedTokens::new(5), "byte {place}");
            }
        }
        assert!(matches!(Payout::verify(b"", OURS, &[0; 32]), Err(PaymentError::PeerMalformed(_))));
    }

    #[test]
    fn foreign_contract_payment() {
        let refused = verify(signed::payout(OTHER, 0, 5), 7);
        assert!(matches!(refused, Err(PaymentError::PeerForeignContract { named: OTHER, ours: OURS })));
        for kind in [signed::charge(OURS, 0, 5), signed::grant_refund(OURS, 0, 5), signed::close_request(OURS, 0)] {
            assert!(matches!(verify(kind, 7), Err(PaymentError::PeerKind)));
        }
    }

    #[test]
    fn a_payment_beyond_what_can_be_counted() {
        let refused = verify(signed::payout(OURS, 0, 1 << 63), 7);
        assert!(matches!(refused, Err(PaymentError::PeerAmount(_))));
    }

    #[test]
    fn replayed_payment() {
        let five = verify(signed::payout(OURS, 0, 5), 7).unwrap();
        let six = verify(signed::payout(OURS, 0, 6), 7).unwrap();
        let last = verify(signed::last_payout(OURS, 0, 6), 7).unwrap();
        assert!(five.supersedes(None) && six.supersedes(Some(&five)) && last.supersedes(Some(&six)));
        assert!(!five.supersedes(Some(&six)) && !six.supersedes(Some(&six)) && !six.supersedes(Some(&last)));
    }
}
