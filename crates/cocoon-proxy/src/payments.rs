//! Signed payments: all that an account came to, up to what a commit on the chain covers, and never a token more.
//!
//! Counts only grow, so the latest payment supersedes all before it, and signing one twice gives the same bytes.
//! Whoever presents a payment names who gets the change; here it is the peer's wallet, where that is known.
//! The join of two worlds: amounts of `cocoon-ledger`, messages of `cocoon-ton`. Spec: `ton.md` 1.5.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use cocoon_ledger::Marks;
use cocoon_ton::Address;
use cocoon_ton::contract::signed::{Envelope, Payment, charge, grant_refund, payout};
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{PaymentStatus, SignedPayment};
use ed25519_dalek::SigningKey;

use crate::books::Side;

/// Signs payments, and remembers the latest of each account.
pub(crate) struct Payments {
    key: SigningKey,
    latest: HashMap<Address, Latest>,
}

/// The latest payment of an account.
#[derive(Debug)]
struct Latest {
    tokens: u64,
    excesses_to: Address,
    signed: SignedPayment,
}

impl Payments {
    pub(crate) fn new(key: SigningKey) -> Self {
        Self { key, latest: HashMap::new() }
    }

    /// What the peer of this account is told.
    pub(crate) fn status(&mut self, side: Side, account: &str, owner: Option<&str>, marks: Marks) -> PaymentStatus {
        PaymentStatus {
            signed_payment: self.signed(side, account, owner, marks.committed),
            db_tokens: marks.durable,
            max_tokens: marks.known,
        }
    }

    /// The payment for all that is committed; none for nothing, or for an account that is no contract.
    pub(crate) fn signed(
        &mut self,
        side: Side,
        account: &str,
        owner: Option<&str>,
        committed: AdjustedTokens,
    ) -> SignedPayment {
        let Ok(contract) = account.parse::<Address>() else { return SignedPayment::Empty };
        let tokens = committed.get();
        if tokens == 0 {
            return SignedPayment::Empty;
        }
        let excesses_to = owner.and_then(|owner| owner.parse().ok()).unwrap_or(contract);
        if let Some(latest) = self.latest.get(&contract)
            && latest.tokens == tokens
            && latest.excesses_to == excesses_to
        {
            return latest.signed.clone();
        }
        let signed = self.sign(payment(side, contract, tokens), excesses_to);
        self.latest.insert(contract, Latest { tokens, excesses_to, signed: signed.clone() });
        signed
    }

    /// The last charge of a client that leaves, as a refund of the rest; none for an account that is no contract.
    pub(crate) fn refund(&self, account: &str, owner: Option<&str>, committed: AdjustedTokens) -> Option<Bytes> {
        let contract = account.parse::<Address>().ok()?;
        let tokens = committed.get();
        let excesses_to = owner.and_then(|owner| owner.parse().ok()).unwrap_or(contract);
        let signed = grant_refund(contract, tokens, tokens).sign(&self.key);
        Some(Envelope { signed, excesses_to }.to_boc().into())
    }

    /// Forgets an account that is closed.
    pub(crate) fn forget(&mut self, contract: &Address) {
        self.latest.remove(contract);
    }

    fn sign(&self, payment: Payment, excesses_to: Address) -> SignedPayment {
        let envelope = Envelope { signed: payment.sign(&self.key), excesses_to };
        // An envelope has 200 bytes; were it ever longer than a message may carry, nothing would be paid with it.
        SignedPayment::signed(envelope.to_boc().into()).unwrap_or_default()
    }
}

/// The count stands for the query too: the same count is the same message.
const fn payment(side: Side, contract: Address, tokens: u64) -> Payment {
    match side {
        Side::Client => charge(contract, tokens, tokens),
        Side::Worker => payout(contract, tokens, tokens),
    }
}

impl fmt::Debug for Payments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payments").field("accounts", &self.latest.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ton::contract::signed::Kind;

    use super::*;

    fn marks(known: u64, durable: u64, committed: u64) -> Marks {
        let [known, durable, committed] = [known, durable, committed].map(AdjustedTokens::new);
        Marks { known, durable, committed }
    }

    fn opened(signed: &SignedPayment) -> Envelope {
        let SignedPayment::Signed(boc) = signed else { panic!("nothing is signed") };
        Envelope::from_boc(boc).unwrap()
    }

    #[test]
    fn nothing_is_signed_above_what_is_committed() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut payments = Payments::new(key.clone());
        let (contract, owner) = (Address::basechain([1; 32]), Address::basechain([2; 32]));
        let (account, wallet) = (contract.raw(), owner.raw());
        let status = payments.status(Side::Client, &account, Some(&wallet), marks(9, 8, 0));
        assert_eq!(status.signed_payment, SignedPayment::Empty);
        let status = payments.status(Side::Client, &account, Some(&wallet), marks(9, 8, 7));
        assert_eq!((status.db_tokens.get(), status.max_tokens.get()), (8, 9));
        let Envelope { signed, excesses_to } = opened(&status.signed_payment);
        signed.verify(key.verifying_key().as_bytes()).unwrap();
        let payment = signed.payment;
        assert_eq!((payment.kind(), payment.tokens(), payment.contract()), (Kind::Charge, Some(7), contract));
        assert_eq!(excesses_to, owner);
    }

    #[test]
    fn a_payment_is_for_one_side_and_one_contract() {
        let mut payments = Payments::new(SigningKey::from_bytes(&[7; 32]));
        let account = Address::basechain([1; 32]).raw();
        let payout = opened(&payments.signed(Side::Worker, &account, None, AdjustedTokens::new(5)));
        assert_eq!(payout.signed.payment.kind(), Kind::Payout);
        assert_eq!(payout.excesses_to, Address::basechain([1; 32]));
        assert_eq!(payments.signed(Side::Worker, "wallet", None, AdjustedTokens::new(5)), SignedPayment::Empty);
    }

    #[test]
    fn the_same_count_gives_the_same_bytes() {
        let mut payments = Payments::new(SigningKey::from_bytes(&[7; 32]));
        let account = Address::basechain([1; 32]).raw();
        let first = payments.signed(Side::Worker, &account, None, AdjustedTokens::new(5));
        let again = Payments::new(SigningKey::from_bytes(&[7; 32])).signed(
            Side::Worker,
            &account,
            None,
            AdjustedTokens::new(5),
        );
        assert_eq!(first, again);
        assert_ne!(first, payments.signed(Side::Worker, &account, None, AdjustedTokens::new(6)));
    }
}
