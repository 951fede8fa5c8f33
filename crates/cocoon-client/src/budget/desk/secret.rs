//! The secret by which this client is known to one proxy, without its wallet's key.
//!
//! HKDF-SHA256 (RFC 5869) of a seed that only this client has, under the proxy contract's address: each proxy gets its
//! own, and what one learns opens nothing at another. It has 32 bytes, so it is never empty; the original takes one
//! secret for all proxies, and an empty one too.

use cocoon_ton::Address;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Tells this use of the seed from every other.
const CONTEXT: &[u8] = b"cocoon client secret v1";

/// The secret for one proxy contract.
pub(super) fn secret(seed: &[u8; 32], proxy: Address) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    let expanded = Hkdf::<Sha256>::new(Some(CONTEXT), seed).expand(proxy.raw().as_bytes(), secret.as_mut());
    expanded.expect("32 bytes are within what one HKDF gives");
    secret
}

/// What the contract holds of it.
pub(crate) fn hash(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_proxy_has_its_own_and_none_is_empty() {
        let at = |proxy: u8| *secret(&[7; 32], Address::basechain([proxy; 32]));
        assert_eq!(at(1), at(1));
        assert_ne!(at(1), at(2));
        assert_ne!(*secret(&[8; 32], Address::basechain([1; 32])), at(1), "another seed, another secret");
        assert_ne!(hash(&at(1)), <[u8; 32]>::from(Sha256::digest(b"")));
    }
}
