//! A peer whose evidence this node appraised and accepted.

use std::sync::Arc;

use cocoon_attest::policy::Mode;
use cocoon_attest::{Claims, Document, Verdict};

use super::verifier::Accepted;

/// A peer whose evidence was accepted on this connection. Only an appraisal makes one.
#[derive(Debug)]
pub struct AttestedPeer {
    accepted: Accepted,
    mode: Mode,
}

impl AttestedPeer {
    pub(super) fn new(accepted: Accepted, mode: Mode) -> Self {
        Self { accepted, mode }
    }

    /// What the appraisal proved, and what it did not: see [`Verdict`].
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.accepted.verdict
    }

    /// What the peer claims; absent in `cocoon-v1`.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.accepted.verdict.claims.as_ref()
    }

    /// The link profile: `attested-v2` or `cocoon-v1`.
    #[must_use]
    pub fn profile(&self) -> &str {
        &self.accepted.verdict.profile
    }

    /// Whether evidence was shown on this connection, or a session key that was attested on one before.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The appraisal in full, to be checked again by anyone.
    #[must_use]
    pub fn document(&self) -> &Arc<Document> {
        &self.accepted.document
    }

    /// Names the appraisal: the id of its document.
    #[must_use]
    pub fn id(&self) -> &str {
        self.accepted.document.id()
    }
}
