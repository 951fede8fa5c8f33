//! A saved appraisal: everything that went in and what came out, as one JSON that anyone can check again offline.
//!
//! [`Document::verify`] believes nothing that is written in it:
//!
//! 1. it appraises the evidence again, under the document's own policy at the recorded time: this names the check that a
//!    change of evidence, claims, binding, collateral or policy runs into;
//! 2. the recomputed verdict must equal the recorded one;
//! 3. the id must be that of the whole document, so that no digit can change unseen;
//! 4. where the reader brings a policy or a time of their own, it appraises once more, with those.
//!
//! What it does not prove: that the recorded policy, roots and time are good ones. A document that is checked under its
//! own policy says only that it is consistent; [`Trust`] says what was pinned. Nor does it prove that the recorder had
//! the connection that it names: whoever holds evidence and its binding can save a document.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::appraise::{Exhibit, Expected, appraise_unbound, appraise_with};
use crate::binding::Binding;
use crate::collateral::Collateral;
use crate::evidence::Evidence;
use crate::limits::DOCUMENT_BYTES_MAX;
use crate::policy::Policy;
use crate::refusal::{Check, Refusal, shown};
use crate::rim::{NoRims, RimStore};
use crate::verdict::Verdict;

const VERSION: u32 = 1;

/// A saved appraisal. It can be read and shown as it is; it proves something once [`Document::verify`] accepts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    version: u32,
    id: String,
    profile: String,
    recorded_unix_s: u64,
    evidence: Evidence,
    claims: String,
    binding: Binding,
    collateral: Collateral,
    policy: String,
    expected: Expected,
    verdict: Verdict,
}

/// Why bytes are no document.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// More than [`DOCUMENT_BYTES_MAX`].
    #[error("a document of {len} bytes; at most {DOCUMENT_BYTES_MAX} are read")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// Not such JSON.
    #[error("unreadable document: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a later program.
    #[error("a document of version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// It says something twice, or something that this program does not read.
    #[error("the document does not read back as it was written: a field is unknown, or a value not in its usual form")]
    NotCanonical,
    /// Claims are JSON, so text.
    #[error("the claims are no text")]
    ClaimsNotText,
}

/// The outcome of [`Document::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The verdict: under the reader's policy and time where they brought any, else the recorded one.
    pub verdict: Verdict,
    /// What it rests on.
    pub trust: Trust,
}

/// Whose policy and whose time a document was checked under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// The reader brought the policy, and with it the roots. Otherwise both are whatever the document says.
    pub policy_pinned: bool,
    /// The reader brought the time. Otherwise it is whatever the document says.
    pub time_pinned: bool,
    /// The evidence covers a connection or a key. Otherwise anyone who ever saw it can write such a document.
    pub bound: bool,
}

impl Trust {
    /// What the reader has to know about what was not pinned; empty where all was.
    #[must_use]
    pub fn warnings(self) -> Vec<&'static str> {
        let policy = "policy and roots are the document's own, not pinned: it may name any root (use --policy)";
        let time = "the time is the recorded one, not pinned: what it rests on may have expired or been revoked since";
        let bound = "the evidence is bound to nothing: it says that such a machine was somewhere at some time";
        [(self.policy_pinned, policy), (self.time_pinned, time), (self.bound, bound)]
            .into_iter()
            .filter(|(pinned, _)| !pinned)
            .map(|(_, warning)| warning)
            .collect()
    }
}

impl Document {
    /// Saves an accepted appraisal.
    ///
    /// # Errors
    /// When the claims are no text; accepted ones always are.
    pub fn record(
        policy: &Policy,
        exhibit: Exhibit<'_>,
        expected: &Expected,
        verdict: &Verdict,
    ) -> Result<Self, DocumentError> {
        let claims = std::str::from_utf8(exhibit.claims).map_err(|_| DocumentError::ClaimsNotText)?;
        let mut document = Self {
            version: VERSION,
            id: String::new(),
            profile: verdict.profile.clone(),
            recorded_unix_s: verdict.appraised_unix_s,
            evidence: exhibit.evidence.clone(),
            claims: claims.to_owned(),
            binding: exhibit.binding.clone(),
            collateral: exhibit.collateral.clone(),
            policy: policy.text().to_owned(),
            expected: expected.clone(),
            verdict: verdict.clone(),
        };
        document.id = document.computed_id();
        Ok(document)
    }

    /// Reads a document. Nothing in it is believed yet.
    ///
    /// # Errors
    /// When the bytes are too long, are no such JSON, say something twice, or are of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(DocumentError::TooLong { len: bytes.len() });
        }
        let document: Self = serde_json::from_slice(bytes)?;
        if document.version != VERSION {
            return Err(DocumentError::Version(document.version));
        }
        // White space is free; every value has to stand exactly as it would be written.
        let read: serde_json::Value = serde_json::from_slice(bytes)?;
        if read != serde_json::to_value(&document)? {
            return Err(DocumentError::NotCanonical);
        }
        Ok(document)
    }

    /// The JSON.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("documents have string keys and no floats, so they always serialise")
    }

    /// The id that it says it has: 32 hex digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The link profile.
    #[must_use]
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// When it was recorded, in seconds since the Unix epoch.
    #[must_use]
    pub const fn recorded_unix_s(&self) -> u64 {
        self.recorded_unix_s
    }

    /// The evidence.
    #[must_use]
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The exact text of the claims; empty where there are none.
    #[must_use]
    pub fn claims(&self) -> &str {
        &self.claims
    }

    /// What the evidence was bound to: the preimage of its report data.
    #[must_use]
    pub const fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The vendor's endorsements.
    #[must_use]
    pub const fn collateral(&self) -> &Collateral {
        &self.collateral
    }

    /// The policy, as TOML.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// What the recorder expected of this very peer.
    #[must_use]
    pub const fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The recorded verdict. **Believe it only after [`Self::verify`].**
    #[must_use]
    pub const fn unverified_verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Checks everything again. Without `policy`, under the document's own; without `now_unix_s`, at its own time.
    ///
    /// # Errors
    /// The first check that refuses.
    pub fn verify(&self, policy: Option<&Policy>, now_unix_s: Option<u64>) -> Result<Verified, Refusal> {
        self.verify_with(policy, now_unix_s, &NoRims)
    }

    /// [`Self::verify`], with the reference values for GPUs that the recorder had.
    ///
    /// # Errors
    /// The first check that refuses.
    pub fn verify_with(
        &self,
        policy: Option<&Policy>,
        now_unix_s: Option<u64>,
        rims: &dyn RimStore,
    ) -> Result<Verified, Refusal> {
        let own = Policy::from_toml(&self.policy)
            .map_err(|error| altered("the policy that was recorded", shown(&error.to_string())))?;
        let bound = self.binding != Binding::Unbound;
        if !bound {
            self.check_claims_nothing()?;
        }
        let recomputed = self.appraise(&own, rims, self.recorded_unix_s)?;
        self.check_records(&recomputed)?;
        let trust = Trust { policy_pinned: policy.is_some(), time_pinned: now_unix_s.is_some(), bound };
        let verdict = if policy.is_some() || now_unix_s.is_some() {
            self.appraise(policy.unwrap_or(&own), rims, now_unix_s.unwrap_or(self.recorded_unix_s))?
        } else {
            recomputed
        };
        Ok(Verified { verdict, trust })
    }

    fn appraise(&self, policy: &Policy, rims: &dyn RimStore, now_unix_s: u64) -> Result<Verdict, Refusal> {
        let claims = self.claims.as_bytes();
        match &self.binding {
            Binding::AttestedV2(_) | Binding::CocoonV1 { .. } => {
                let exhibit =
                    Exhibit { evidence: &self.evidence, claims, binding: &self.binding, collateral: &self.collateral };
                appraise_with(policy, exhibit, &self.expected, rims, now_unix_s)
            }
            Binding::Unbound => appraise_unbound(policy, &self.evidence, &self.collateral, now_unix_s),
        }
    }

    /// Evidence that is bound to nothing covers no claims, and nobody was expected behind it: both would be the writer's
    /// own words beside a genuine quote.
    fn check_claims_nothing(&self) -> Result<(), Refusal> {
        if !self.claims.is_empty() {
            return Err(altered("no claims, since the evidence is bound to nothing", "claims that nothing covers"));
        }
        if self.expected != Expected::default() {
            return Err(altered(
                "no expectations, since the evidence is bound to nothing",
                "some that nothing checked",
            ));
        }
        Ok(())
    }

    /// Steps 2 and 3: what the document says about itself.
    fn check_records(&self, recomputed: &Verdict) -> Result<(), Refusal> {
        if *recomputed != self.verdict {
            let (expected, found) = first_difference(recomputed, &self.verdict);
            return Err(altered(expected, found));
        }
        if self.profile != recomputed.profile {
            return Err(altered(format!("profile {}", recomputed.profile), shown(&self.profile)));
        }
        let id = self.computed_id();
        if self.id != id {
            return Err(altered(format!("id {id}, the hash of its contents"), shown(&self.id)));
        }
        Ok(())
    }

    /// First 32 hex digits of SHA-256 over the document with an empty id.
    fn computed_id(&self) -> String {
        let blank = Self { id: String::new(), ..self.clone() };
        let digest: [u8; 32] = Sha256::digest(blank.encode()).into();
        let mut id = hex::encode(digest);
        id.truncate(32);
        id
    }
}

/// The first field in which two verdicts differ, as each has it.
fn first_difference(recomputed: &Verdict, recorded: &Verdict) -> (String, String) {
    let fields = |verdict: &Verdict| match serde_json::to_value(verdict) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let recorded = fields(recorded);
    for (name, value) in fields(recomputed) {
        let other = recorded.get(&name).unwrap_or(&serde_json::Value::Null);
        if value != *other {
            return (format!("verdict with {name} = {}", shown(&value.to_string())), shown(&other.to_string()));
        }
    }
    ("the recomputed verdict".to_owned(), "another one".to_owned())
}

fn altered(expected: impl Into<String>, found: impl Into<String>) -> Refusal {
    Refusal::new(
        Check::Document,
        expected,
        found,
        "the document was changed after it was recorded, or recorded by a broken program; get it anew",
    )
}
