//! The appraisal policy: what a verifier accepts, read from one TOML file. One check a file, so that an auditor can
//! count them with `ls`.
//!
//! What it is not: cryptography. The checks judge [facts](crate::facts) that a signature under one of the policy's
//! roots has already proved, and never look at raw evidence.
//!
//! Rules that hold for every section (attestation.md, sections 4.1(7) and 4.4):
//!
//! 1. A list is a list with something in it, or the word `"any"`. An empty list is an error, never "any".
//! 2. What is not written is refused: every switch that widens a policy is off by default.
//! 3. Unknown fields, versions and words are errors; nothing is read past.
//! 4. What weakens a policy has `insecure` in its name, and [`Policy::explain`] says it loudly.
//! 5. The word `"root"` stands for what the root contract lists, and for nothing until it was read ([`from_root`]).
//! 6. Where evidence may be simulated, the policy names the simulated root. A production policy cannot.

pub mod attributes;
mod explain;
mod file;
pub mod freshness;
pub mod from_root;
pub mod gpu;
pub mod identity;
pub mod image;
pub mod link;
pub mod model;
pub mod platform;
pub mod role;
pub mod root;
pub mod tcb;
pub mod template;

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use self::file::{Environment, Hex, List, PolicyError};
pub use self::from_root::RootValues;
pub use self::link::{LinkRules, Mode};

use self::file::Rules;
use crate::evidence::Format;
use crate::refusal::Refusal;
use crate::verdict::Verdict;

/// A policy. Cheap to clone; immutable.
#[derive(Clone)]
pub struct Policy {
    inner: Arc<Inner>,
}

struct Inner {
    text: String,
    sha256: [u8; 32],
    formats: Vec<Format>,
    link: LinkRules,
    rules: Rules,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// When the text is no policy of version 1, or one that contradicts itself; the error says where and what to write.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let rules = file::read(text)?;
        let inner = Inner {
            text: text.to_owned(),
            sha256: Sha256::digest(text).into(),
            formats: rules.roots.formats(),
            link: link::rules(&rules),
            rules,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether a list of it is the root contract's to keep, so that somebody has to read that and say
    /// [`Policy::with_root`].
    #[must_use]
    pub fn follows_root(&self) -> bool {
        self.rules().follows_root()
    }

    /// The same policy with what the root contract lists, in the place of what it listed before. One that does not
    /// follow the root stays as it is.
    ///
    /// # Errors
    /// When the root lists more than a policy may hold.
    pub fn with_root(&self, values: &RootValues) -> Result<Self, PolicyError> {
        if !self.follows_root() {
            return Ok(self.clone());
        }
        Self::from_toml(&from_root::fill(self.text(), values))
    }

    /// Whether a verdict of an earlier policy still stands, as far as lists can tell: the image, and a worker's model.
    /// It takes no evidence and so proves nothing anew; it is what can be known before the peer has answered.
    ///
    /// # Errors
    /// When this policy lists the image or the model no longer.
    pub fn still_lists(&self, verdict: &Verdict) -> Result<(), Refusal> {
        let rules = self.rules();
        if let Some(sha256) = verdict.image_sha256 {
            rules.image.check_manifest(sha256, verdict.role, rules.root.as_ref())?;
        }
        match &verdict.claims {
            Some(claims) => rules.model.check(claims, None, rules.root.as_ref()),
            None => Ok(()),
        }
    }

    /// Whether it is for real prompts and money.
    #[must_use]
    pub fn is_for_production(&self) -> bool {
        self.rules().environment == Environment::Production
    }

    /// Whether it holds values of the root already, which no author of a policy writes.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.rules().root.is_some()
    }

    /// The text it was read from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// SHA-256 of the text it was read from.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.inner.sha256
    }

    /// The name that its author gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.rules.name
    }

    /// Production or development.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.inner.rules.environment
    }

    /// The formats of CPU evidence that it has a root for.
    #[must_use]
    pub fn formats(&self) -> &[Format] {
        &self.inner.formats
    }

    /// What it says about links.
    #[must_use]
    pub fn link(&self) -> &LinkRules {
        &self.inner.link
    }

    /// What it accepts, in plain sentences.
    #[must_use]
    pub fn explain(&self) -> Vec<String> {
        explain::sentences(self.rules())
    }

    /// A policy for real hardware, as TOML with comments. Its images and models are those that the root contract
    /// lists: it accepts nothing until that has been read.
    #[must_use]
    pub fn production_template() -> String {
        template::production()
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.inner.rules
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("name", &self.name()).field("sha256", &hex::encode(self.sha256())).finish()
    }
}

impl PartialEq for Policy {
    /// Two policies are the same when their texts are.
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Policy {}
