//! What a receipt says of a body without showing it: an HMAC under a salt that only the client and the worker have.
//!
//! A plain hash would let anyone who sees a receipt try likely prompts against it.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// HMAC-SHA256 under the salt, over `request` or `answer` and then the body's bytes, as they come.
#[derive(Clone)]
pub struct BodyDigest(Hmac<Sha256>);

impl BodyDigest {
    /// Of the JSON body that the client sends: the payload of `http.request`.
    #[must_use]
    pub fn request(salt: &[u8; 32]) -> Self {
        Self::new(salt, b"request")
    }

    /// Of the bytes of the answer's body as they travel.
    #[must_use]
    pub fn answer(salt: &[u8; 32]) -> Self {
        Self::new(salt, b"answer")
    }

    fn new(salt: &[u8; 32], what: &[u8]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes keys of every length");
        mac.update(what);
        Self(mac)
    }

    /// Takes the next bytes; where they are cut does not matter.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

/// Its state is as good as a hash of the prompt, so it shows nothing.
impl fmt::Debug for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyDigest").finish_non_exhaustive()
    }
}
