//! Keys from the AMD secure processor (`MSG_KEY_REQ` of the SNP ABI specification).
//!
//! The secret is bound to the chip, the image (launch measurement) and the guest policy, which holds the DEBUG bit. So
//! neither another image, nor the same one launched for debugging, nor another machine gets these keys.
//! It is **not** bound to the firmware's version: an update would lose everything sealed before it. The price is that
//! older firmware, should it break, derives the same secret; the verifier's policy refuses such a machine, but its
//! operator could read what was sealed. Two VMs of one image on one chip derive the same keys.
//!
//! Untested here: there is no such processor where the tests run. What they cover is the request and the answer's parser.

use std::fmt;

use zeroize::Zeroizing;

use super::{KeyError, KeyOrigin, KeyProvider, Protection, expand};
use crate::attester::SevGuest;

/// A provider whose secret the secure processor derives.
pub struct SnpDerivedKeys {
    secret: Zeroizing<[u8; 32]>,
}

impl SnpDerivedKeys {
    /// Asks the processor once; the secret stays in this VM's encrypted memory.
    ///
    /// # Errors
    /// When there is no such device, or it fails.
    pub fn open(device: &SevGuest) -> Result<Self, KeyError> {
        Ok(Self { secret: device.derived_key()? })
    }
}

impl KeyProvider for SnpDerivedKeys {
    fn derive(&self, name: &str, version: u32) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        expand(&self.secret, name, version)
    }

    fn describe(&self) -> KeyOrigin {
        KeyOrigin {
            protection: Protection::Tee,
            text: "the AMD secure processor: bound to this chip, this image and its guest policy".into(),
        }
    }
}

impl fmt::Debug for SnpDerivedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnpDerivedKeys").finish_non_exhaustive()
    }
}
