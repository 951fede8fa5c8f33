//! Lists that the network keeps, not the operator: the word `"root"` in `[image] manifests` and `[model] names` stands
//! for what the root contract lists.
//!
//! The word never means "any". A policy with it accepts nothing until [`Policy::with_root`](super::Policy::with_root)
//! has filled it, and what fills it becomes part of its text, as the section `[root]`: a saved appraisal says by which
//! values it was made, and two policies are the same only with the same values.
//!
//! Reading the contract is not done here; whoever reads it decides whether the answer is proved.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::Deserializer;
use sha2::{Digest, Sha256};

use super::file::{Contradiction, Hex, List, ListVisitor, plain};
use crate::claims::Role;

/// What a root contract lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootValues {
    /// SHA-256 of the manifests of images that may be proxies.
    pub proxy_manifests: BTreeSet<[u8; 32]>,
    /// SHA-256 of the manifests of images that may be workers.
    pub worker_manifests: BTreeSet<[u8; 32]>,
    /// SHA-256 of full model names, commit and root hash included.
    pub models: BTreeSet<[u8; 32]>,
}

/// A list that may be kept by the root contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listed<T> {
    /// As the policy says itself.
    Here(List<T>),
    /// As the root contract lists; written as `"root"`.
    ByRoot,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ListVisitor { words: &["any", "root"], item: PhantomData };
        let (list, word) = deserializer.deserialize_any(visitor)?;
        Ok(if word == Some("root") { Self::ByRoot } else { Self::Here(list) })
    }
}

/// The section `[root]`, which programs write and no person needs to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RootSection {
    #[serde(deserialize_with = "plain")]
    proxy_manifests: Vec<Hex<32>>,
    #[serde(deserialize_with = "plain")]
    worker_manifests: Vec<Hex<32>>,
    #[serde(deserialize_with = "plain")]
    models: Vec<Hex<32>>,
}

impl RootSection {
    /// Whether a peer of this role may run the image; without a role, whether any may.
    pub(super) fn lists_image(&self, role: Option<Role>, sha256: &[u8; 32]) -> bool {
        let listed = |list: &[Hex<32>]| list.contains(&Hex(*sha256));
        match role {
            Some(Role::Proxy) => listed(&self.proxy_manifests),
            Some(Role::Worker) => listed(&self.worker_manifests),
            Some(Role::Client) => false,
            None => listed(&self.proxy_manifests) || listed(&self.worker_manifests),
        }
    }

    /// Whether a worker may serve the model of this full name.
    pub(super) fn lists_model(&self, name: &str) -> bool {
        self.models.contains(&Hex(model_sha256(name)))
    }

    pub(super) fn consistent(&self, is_used: bool) -> Result<(), Contradiction> {
        if is_used {
            return Ok(());
        }
        let (problem, remedy) = ("has no effect, because no list says \"root\"", "remove the section");
        Err(Contradiction::new("root", "proxy_manifests", problem, remedy))
    }

    pub(super) fn explain_images(&self, say: &mut Vec<String>) {
        let lists = [("a proxy", &self.proxy_manifests), ("a worker", &self.worker_manifests)];
        for (role, hashes) in lists {
            if hashes.is_empty() {
                say.push(format!("Accepts NO image as {role}: the root contract listed none."));
            }
            for hash in hashes {
                say.push(format!(
                    "Accepts as {role} the image whose manifest has SHA-256 {hash}, as the root listed it."
                ));
            }
        }
    }

    pub(super) fn explain_models(&self, say: &mut Vec<String>) {
        if self.models.is_empty() {
            say.push("Accepts workers with NO model: the root contract listed none.".to_owned());
        }
        for hash in &self.models {
            say.push(format!("Accepts workers with the model whose name has SHA-256 {hash}, as the root listed it."));
        }
    }
}

/// The hash under which the root contract lists a model: of its full name, `name@commit:root_hash`.
#[must_use]
pub fn model_sha256(name: &str) -> [u8; 32] {
    Sha256::digest(name).into()
}

/// The text of a policy with these values in its section `[root]`, in the place of whatever was there.
pub(super) fn fill(text: &str, values: &RootValues) -> String {
    let mut filled = without_section(text);
    filled.push_str(&format!("\n{REMARK}\n[root]\n"));
    let lists = [
        ("proxy_manifests", &values.proxy_manifests),
        ("worker_manifests", &values.worker_manifests),
        ("models", &values.models),
    ];
    for (field, hashes) in lists {
        let words: Vec<_> = hashes.iter().map(|hash| format!("\"{}\"", hex::encode(hash))).collect();
        writeln!(filled, "{field} = [{}]", words.join(", ")).expect("writing to a string cannot fail");
    }
    filled
}

/// What stands above the section.
const REMARK: &str = "# What the root contract listed when this was filled in.";

/// The text without its section `[root]`.
fn without_section(text: &str) -> String {
    let mut inside = false;
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines() {
        let header = line.trim_start();
        if header.starts_with('[') {
            inside = header.starts_with("[root]");
        }
        if !inside && line != REMARK {
            kept.push(line);
        }
    }
    kept.join("\n").trim_end().to_owned() + "\n"
}
