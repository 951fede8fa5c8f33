//! Platform: which machine it is. The only defence against a platform whose keys were extracted by physical means
//! (attestation.md, section 4.2) is to name the machines whose owners and places one knows, or at least the broken ones.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::file::{List, named};
use crate::facts::PlatformIdentity;
use crate::refusal::{Check, Refusal};

/// The accepted machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlatformRules {
    /// PPIDs and chip ids.
    allow: List<PlatformId>,
    /// PPIDs and chip ids, stronger than `allow`.
    #[serde(default, deserialize_with = "named")]
    deny: Vec<PlatformId>,
    /// Intel: packages may be added to the platform after its keys were made. All known servers are such.
    #[serde(default)]
    pub(super) allow_dynamic_platform: bool,
    /// Intel: the platform's root keys are kept at Intel as well. Bare-metal servers are often such.
    #[serde(default)]
    pub(super) allow_cached_keys: bool,
    /// Intel: two threads share a core. All known servers are such.
    #[serde(default)]
    pub(super) allow_smt: bool,
    /// AMD: a key of the cloud provider signs instead of the chip's own, and hides which chip it is.
    #[serde(default)]
    allow_vlek: bool,
}

/// A PPID (16 bytes) or a chip id (64 bytes), as lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PlatformId(String);

impl<'de> Deserialize<'de> for PlatformId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let length_fits = matches!(text.len(), 32 | 128);
        if !length_fits || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(D::Error::custom("a PPID of 32 hex digits or a chip id of 128 is needed here"));
        }
        if text.bytes().all(|byte| byte == b'0') {
            return Err(D::Error::custom("an id of zeros is a masked one: it names no machine"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl PlatformRules {
    /// The machine is accepted.
    pub(crate) fn check(&self, identity: &PlatformIdentity) -> Result<(), Refusal> {
        if let PlatformIdentity::Amd { vlek: true, .. } = identity
            && !self.allow_vlek
        {
            return Err(Refusal::new(
                Check::Platform,
                "a report signed by the chip's own key (VCEK)",
                "one signed by a key of the cloud provider (VLEK)",
                "set allow_vlek in [platform] if the provider is trusted not to move it",
            ));
        }
        let id = PlatformId(identity.id());
        if self.deny.contains(&id) {
            return Err(Refusal::new(
                Check::Platform,
                "a machine that the policy does not deny",
                id.0,
                "the policy names this machine as broken or unwanted; reach another one",
            ));
        }
        if !self.allow.accepts(&id) {
            return Err(Refusal::new(
                Check::Platform,
                "a machine that the policy lists",
                id.0,
                "if that machine is to be trusted, add its id to [platform] allow",
            ));
        }
        Ok(())
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        match &self.allow {
            List::Any => say.push(
                "Accepts ANY machine of an accepted vendor, wherever it stands and whoever can open it.".to_owned(),
            ),
            List::Of(ids) => say.push(format!("Accepts {} machines by name.", ids.len())),
        }
        if !self.deny.is_empty() {
            say.push(format!("Refuses {} machines by name.", self.deny.len()));
        }
        let flags = [
            (self.allow_dynamic_platform, "dynamic platforms"),
            (self.allow_cached_keys, "platforms with cached keys"),
            (self.allow_smt, "platforms with simultaneous multithreading"),
            (self.allow_vlek, "reports signed by a cloud provider's key (VLEK)"),
        ];
        for (allowed, what) in flags {
            say.push(format!("{} {what}.", if allowed { "Accepts" } else { "Refuses" }));
        }
    }
}
