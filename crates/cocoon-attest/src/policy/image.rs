//! Image: what runs inside, by the hash of a manifest that names every accepted measurement (ton.md, section 1.13).

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::file::{Contradiction, Hex, List};
use super::from_root::{Listed, RootSection};
use super::root::RootRules;
use crate::claims::Role;
use crate::evidence::Evidence;
use crate::evidence::event_log::EventLog;
use crate::facts::{Measurements, PlatformFacts};
use crate::manifest::{ImageManifest, original_image_hash};
use crate::refusal::{Check, Refusal};

/// The accepted images.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageRules {
    /// SHA-256 of accepted manifests.
    manifests: Listed<Hex<32>>,
    /// The original's `image_hash`, for the profile `cocoon-v1` alone.
    #[serde(default)]
    original_image_hashes: Option<List<Hex<32>>>,
    /// MRENCLAVE of accepted SGX enclaves.
    #[serde(default)]
    enclaves: Option<List<Hex<32>>>,
}

impl ImageRules {
    pub(super) fn consistent(&self, roots: &RootRules, cocoon_v1: bool) -> Result<(), Contradiction> {
        match (&self.original_image_hashes, cocoon_v1) {
            (None, true) => Err(Contradiction::new(
                "image",
                "original_image_hashes",
                "missing, while [link] insecure_cocoon_v1 is true",
                "list the image hashes that the root contract holds, or write \"any\"",
            )),
            (Some(_), false) => Err(Contradiction::new(
                "image",
                "original_image_hashes",
                "has no effect, because [link] insecure_cocoon_v1 is not true",
                "remove it",
            )),
            (None, false) | (Some(_), true) => Ok(()),
        }?;
        match (&self.enclaves, roots.sgx.is_empty()) {
            (None, false) => Err(Contradiction::new(
                "image",
                "enclaves",
                "missing, while [roots] has sgx",
                "list the MRENCLAVE values that are accepted, or write \"any\"",
            )),
            (Some(_), true) => {
                Err(Contradiction::new("image", "enclaves", "has no effect, because [roots] has no sgx", "remove it"))
            }
            (None, true) | (Some(_), false) => Ok(()),
        }
    }

    /// Whether the root contract keeps the list.
    pub(super) fn follows_root(&self) -> bool {
        self.manifests == Listed::ByRoot
    }

    /// The image of an `attested-v2` peer or of a file. Gives the manifest's hash where one was matched. `role` is what
    /// the peer claims, where it claims something: the root contract lists images by what they may be.
    pub(crate) fn check(
        &self,
        facts: &PlatformFacts,
        evidence: &Evidence,
        role: Option<Role>,
        root: Option<&RootSection>,
    ) -> Result<Option<[u8; 32]>, Refusal> {
        if let Measurements::Sgx(sgx) = &facts.measurements {
            return self.check_enclave(sgx.mr_enclave).map(|()| None);
        }
        let log = event_log(facts, evidence)?;
        let Some(bytes) = &evidence.manifest else {
            return match &self.manifests {
                Listed::Here(List::Any) => Ok(None),
                Listed::Here(List::Of(_)) | Listed::ByRoot => Err(Refusal::new(
                    Check::Image,
                    "an image manifest whose hash is listed",
                    "no manifest",
                    "the peer has to run a published image, which carries its manifest",
                )),
            };
        };
        let sha256: [u8; 32] = Sha256::digest(bytes).into();
        self.check_manifest(sha256, role, root)?;
        let manifest = ImageManifest::parse(bytes).map_err(|error| {
            Refusal::new(Check::Image, "a readable image manifest", error.to_string(), "the peer has to send its own")
        })?;
        manifest.matches(&facts.measurements, log.as_ref())?;
        Ok(Some(sha256))
    }

    /// The hash of a manifest, whatever it says.
    pub(super) fn check_manifest(
        &self,
        sha256: [u8; 32],
        role: Option<Role>,
        root: Option<&RootSection>,
    ) -> Result<(), Refusal> {
        let (is_listed, expected, remedy) = match (&self.manifests, root) {
            (Listed::Here(list), _) => (
                list.accepts(&Hex(sha256)),
                "an image manifest whose hash the policy lists",
                "if that image is to be trusted, add its hash to [image] manifests",
            ),
            (Listed::ByRoot, Some(root)) => (
                root.lists_image(role, &sha256),
                "an image manifest that the root contract lists for this role",
                "the network does not trust that image, or no longer: the peer has to run one that the root lists",
            ),
            (Listed::ByRoot, None) => (
                false,
                "an image manifest that the root contract lists, which has not been read yet",
                "nothing is accepted until the root contract is read: set [chain], or list images in the policy",
            ),
        };
        if is_listed {
            return Ok(());
        }
        Err(Refusal::new(Check::Image, expected, format!("a manifest with SHA-256 {}", hex::encode(sha256)), remedy))
    }

    /// The image of a `cocoon-v1` peer.
    pub(crate) fn check_original(&self, facts: &PlatformFacts) -> Result<(), Refusal> {
        let Measurements::Tdx(registers) = &facts.measurements else {
            return Err(Refusal::new(
                Check::Image,
                "a TDX quote, the only evidence of cocoon-v1",
                facts.format.name(),
                "reach this peer with attested-v2",
            ));
        };
        let hash = original_image_hash(registers);
        match &self.original_image_hashes {
            Some(list) if list.accepts(&Hex(hash)) => Ok(()),
            Some(_) | None => Err(Refusal::new(
                Check::Image,
                "an image hash that the policy lists in original_image_hashes",
                hex::encode(hash),
                "if that image is to be trusted, add its hash to [image] original_image_hashes",
            )),
        }
    }

    fn check_enclave(&self, mr_enclave: [u8; 32]) -> Result<(), Refusal> {
        match &self.enclaves {
            Some(list) if list.accepts(&Hex(mr_enclave)) => Ok(()),
            Some(_) | None => Err(Refusal::new(
                Check::Image,
                "an MRENCLAVE that the policy lists",
                hex::encode(mr_enclave),
                "if that enclave is to be trusted, add it to [image] enclaves",
            )),
        }
    }

    pub(super) fn explain(&self, root: Option<&RootSection>, say: &mut Vec<String>) {
        match &self.manifests {
            Listed::ByRoot => {
                say.push(
                    "Accepts the images that the root contract lists, each in the role it is listed for.".to_owned(),
                );
                match root {
                    Some(root) => root.explain_images(say),
                    None => say.push("Until the root contract has been read, accepts NO image.".to_owned()),
                }
            }
            Listed::Here(List::Any) => {
                say.push("ANY image: what runs inside the TEE is not checked at all.".to_owned())
            }
            Listed::Here(List::Of(hashes)) => {
                for hash in hashes {
                    say.push(if hash.0 == [0; 32] {
                        "PLACEHOLDER image hash of zeros, which no image has: write the hash that the root contract \
                         holds."
                            .to_owned()
                    } else {
                        format!("Accepts the image whose manifest has SHA-256 {hash}.")
                    });
                }
            }
        }
        match &self.original_image_hashes {
            Some(List::Any) => say.push("ANY image in cocoon-v1.".to_owned()),
            Some(List::Of(hashes)) => {
                for hash in hashes {
                    say.push(format!("Accepts in cocoon-v1 the original image hash {hash}."));
                }
            }
            None => {}
        }
        match &self.enclaves {
            Some(List::Any) => say.push("ANY SGX enclave.".to_owned()),
            Some(List::Of(list)) => {
                for enclave in list {
                    say.push(format!("Accepts the SGX enclave with MRENCLAVE {enclave}."));
                }
            }
            None => {}
        }
    }
}

/// The event log, once it is known to give the quoted registers; a log that does not is refused even where any image
/// is accepted.
fn event_log(facts: &PlatformFacts, evidence: &Evidence) -> Result<Option<EventLog>, Refusal> {
    let Some(bytes) = &evidence.event_log else {
        return Ok(None);
    };
    let Measurements::Tdx(registers) = &facts.measurements else {
        return Err(Refusal::new(
            Check::Image,
            format!("no event log, since {} measures none", facts.format.name()),
            "one that nothing vouches for",
            "the peer has to send its report without a log",
        ));
    };
    let log = EventLog::parse(bytes).map_err(|error| {
        Refusal::new(Check::Image, "a CCEL event log", error.to_string(), "the peer has to send the log of its boot")
    })?;
    for (index, (replayed, quoted)) in log.replay().iter().zip(&registers.rtmr).enumerate() {
        if replayed != quoted {
            return Err(Refusal::new(
                Check::Image,
                format!("an event log that gives the quoted RTMR{index}, {}", hex::encode(quoted)),
                hex::encode(replayed),
                "the peer has to send the unchanged log of its boot",
            ));
        }
    }
    Ok(Some(log))
}
