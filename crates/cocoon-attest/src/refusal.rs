//! Why evidence is refused, in words for the operator on either side.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{REFUSAL_CHARS_MAX, SHOWN_CHARS_MAX};

/// The check that refused. Its name is what logs, documents and the command line show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Check {
    /// Sizes, before anything is parsed.
    Size,
    /// The bytes are not the format they claim to be.
    Format,
    /// A signature or a certificate chain.
    Signature,
    /// The root of trust is none that the policy accepts.
    Root,
    /// A certificate or key was revoked.
    Revocation,
    /// Collateral is missing, too old, or from the future.
    Collateral,
    /// DEBUG and the other attributes of the VM, its CPU features, its firmware module.
    Attributes,
    /// The report data does not belong to this connection.
    ReportData,
    /// Measurements, event log, image manifest.
    Image,
    /// The platform's patch level and advisories.
    Tcb,
    /// Which machine it is.
    Platform,
    /// The time of the claims, or the age of the attestation.
    Freshness,
    /// The role.
    Role,
    /// The model.
    Model,
    /// Payment key and contract.
    Identity,
    /// GPU evidence.
    Gpu,
    /// The link profile (`attested-v2`, `cocoon-v1`) or the mode within it.
    Profile,
    /// A saved document is not what it was when it was saved.
    Document,
}

impl Check {
    /// The name, as in serialised form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Format => "format",
            Self::Signature => "signature",
            Self::Root => "root",
            Self::Revocation => "revocation",
            Self::Collateral => "collateral",
            Self::Attributes => "attributes",
            Self::ReportData => "report-data",
            Self::Image => "image",
            Self::Tcb => "tcb",
            Self::Platform => "platform",
            Self::Freshness => "freshness",
            Self::Role => "role",
            Self::Model => "model",
            Self::Identity => "identity",
            Self::Gpu => "gpu",
            Self::Profile => "profile",
            Self::Document => "document",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal: which check, what it expected, what it found, and what the operator can do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{check} check: expected {expected}, found {found}; {remedy}")]
pub struct Refusal {
    /// The check.
    pub check: Check,
    /// What would have passed.
    pub expected: String,
    /// What was there.
    pub found: String,
    /// What the operator can do.
    pub remedy: String,
}

impl Refusal {
    /// A refusal in words. Whatever a peer had a hand in is made plain here, once for all checks: names in certificates,
    /// errors of parsers that quote their input. It can neither forge a line of a log nor fill one.
    #[must_use]
    pub fn new(check: Check, expected: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, expected: plain(expected.into()), found: plain(found.into()), remedy: plain(remedy.into()) }
    }
}

/// One line, of bounded length; what does not print is escaped. Quotes and backslashes stay as they are.
fn plain(text: String) -> String {
    let prints = |c: char| matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1;
    if text.chars().all(prints) && text.len() <= REFUSAL_CHARS_MAX {
        return text;
    }
    let mut plain = String::new();
    for c in text.chars().take(REFUSAL_CHARS_MAX) {
        if prints(c) { plain.push(c) } else { plain.extend(c.escape_debug()) }
    }
    if text.chars().nth(REFUSAL_CHARS_MAX).is_some() {
        plain.push('…');
    }
    plain
}

/// A peer's text as a refusal shows it: short, and without characters that could forge a line of a log.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
