//! Keys that live as long as this process: for a client, which nobody has to recognise, and for a TEE that derives none.

use anyhow::{Result, anyhow};
use cocoon_tee::keys::expand;
use cocoon_tee::{KeyError, KeyOrigin, KeyProvider, Protection};
use zeroize::Zeroizing;

/// Derives keys from a secret drawn at this start. It stays in memory, so it is kept as well as memory is.
pub(super) struct RunKeys {
    secret: Zeroizing<[u8; 32]>,
    protection: Protection,
}

impl RunKeys {
    /// New keys.
    pub(super) fn draw(protection: Protection) -> Result<Self> {
        Ok(Self { secret: random()?, protection })
    }
}

impl KeyProvider for RunKeys {
    fn derive(&self, name: &str, version: u32) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        expand(&self.secret, name, version)
    }

    fn describe(&self) -> KeyOrigin {
        KeyOrigin { protection: self.protection, text: "drawn at this start, gone after it".to_owned() }
    }
}

impl std::fmt::Debug for RunKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunKeys")
    }
}

/// Random bytes that are wiped.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut()).map_err(|error| anyhow!("the system has no randomness: {error}"))?;
    Ok(bytes)
}
