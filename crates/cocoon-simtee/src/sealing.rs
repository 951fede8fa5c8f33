//! Keys that a simulated platform keeps for its guests.
//!
//! The secret is an HMAC under a key of the platform, over what identifies the guest: its image, whether it runs under
//! debugging, and a name that tells instances of one image apart. So it is the same after a restart, where the
//! platform's directory was kept, and another for another image. What is measured while the guest runs (RTMR3) and the
//! machine's shape (RTMR0) are left out, or a change of configuration would lose every key.
//!
//! On a real machine the platform's part is played by a sealing enclave (attestation.md, section 5). Here the seed lies
//! in a file: **this protects from nobody.**

use std::fmt;
use std::sync::Arc;

use cocoon_tee::keys::{KeyError, KeyOrigin, KeyProvider, Protection, expand};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::amd::SimSnp;
use crate::platform::Inner;
use crate::td::SimTd;

/// Keys of one instance of an image on a simulated platform.
pub struct SealingKeys {
    secret: Zeroizing<[u8; 32]>,
    text: String,
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKeys").field("of", &self.text).finish_non_exhaustive()
    }
}

impl SimTd {
    /// This TD's keys. Instances of the same image on the same platform have different keys if they have different names.
    #[must_use]
    pub fn sealing_keys(&self, instance: &str) -> SealingKeys {
        let report = self.report([0; 64]);
        let [_, rtmr1, rtmr2, _] = report.rtmr;
        let attributes = report.attributes.to_le_bytes();
        let parts: [&[u8]; 5] = [b"tdx", &report.mr_td, &rtmr1, &rtmr2, &attributes];
        SealingKeys::new(self.platform(), &parts, self.image().name(), instance)
    }
}

impl SimSnp {
    /// This guest's keys. Instances of the same image on the same platform have different keys if they have different
    /// names.
    #[must_use]
    pub fn sealing_keys(&self, instance: &str) -> SealingKeys {
        let parts: [&[u8]; 3] = [b"sev-snp", &self.image().launch_measurement(), &self.policy().to_le_bytes()];
        SealingKeys::new(self.platform(), &parts, self.image().name(), instance)
    }
}

impl SealingKeys {
    fn new(platform: &Arc<Inner>, guest: &[&[u8]], image: &str, instance: &str) -> Self {
        let key = platform.seed.derive::<32>("sealing");
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
        for part in guest.iter().copied().chain([instance.as_bytes()]) {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let secret = Zeroizing::new(mac.finalize().into_bytes().into());
        Self { secret, text: format!("a simulated platform, image {image}, instance {instance}") }
    }
}

impl KeyProvider for SealingKeys {
    fn derive(&self, name: &str, version: u32) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        expand(&self.secret, name, version)
    }

    fn describe(&self) -> KeyOrigin {
        KeyOrigin { protection: Protection::Simulated, text: self.text.clone() }
    }
}
