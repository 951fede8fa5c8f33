//! Link: which profile and mode a connection may use. Read by `cocoon-net`, which has the connection.

use serde::Deserialize;

use super::file::{Rules, bounded};
use crate::limits::SESSION_AGE_S_MAX;
use crate::refusal::{Check, Refusal};

/// What a policy says about links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkRules {
    /// A session key may stand for evidence that this same verifier accepted a short time ago.
    pub session_key: bool,
    /// For how long, on this verifier's clock; at most [`SESSION_AGE_S_MAX`].
    pub session_max_age_s: u64,
    /// The profile `cocoon-v1` is accepted: **withstands neither relay nor replay**.
    pub insecure_cocoon_v1: bool,
    /// After which time an open connection has to be attested again.
    pub reattest_after_s: u64,
    /// How long a verdict may be kept.
    pub verdict_cache_s: u64,
    /// GPU evidence is asked for.
    pub gpu_required: bool,
}

/// How a connection is attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Fresh evidence for each connection.
    Strict,
    /// Fresh evidence at first contact; then a key that it attested, for a short time.
    SessionKey,
}

impl Mode {
    /// The word of policies and status pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::SessionKey => "session-key",
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkSection {
    mode: Mode,
    #[serde(default = "session_max_age_s", deserialize_with = "bounded::<'_, 1, SESSION_AGE_S_MAX, _>")]
    session_max_age_s: u64,
    #[serde(default)]
    pub(super) insecure_cocoon_v1: bool,
}

const fn session_max_age_s() -> u64 {
    SESSION_AGE_S_MAX
}

pub(super) fn rules(rules: &Rules) -> LinkRules {
    LinkRules {
        session_key: rules.link.mode == Mode::SessionKey,
        session_max_age_s: rules.link.session_max_age_s,
        insecure_cocoon_v1: rules.link.insecure_cocoon_v1,
        reattest_after_s: rules.freshness.reattest_after_s,
        verdict_cache_s: rules.freshness.verdict_cache_s,
        gpu_required: rules.gpu.required,
    }
}

impl LinkSection {
    /// `cocoon-v1` is asked for in so many words.
    pub(crate) fn check_cocoon_v1(&self) -> Result<(), Refusal> {
        if self.insecure_cocoon_v1 {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Profile,
            "the link profile attested-v2",
            "cocoon-v1, whose evidence can be relayed and replayed",
            "upgrade the peer; to accept it all the same, set insecure_cocoon_v1 in [link]",
        ))
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        say.push(match self.mode {
            Mode::Strict => "Asks for fresh evidence on each connection.".to_owned(),
            Mode::SessionKey => format!(
                "Asks for fresh evidence at first contact; for {} s after it, a session key that it attested stands \
                 for it. Does not withstand the theft of that key.",
                self.session_max_age_s
            ),
        });
        if self.insecure_cocoon_v1 {
            say.push(
                "INSECURE: accepts the link profile cocoon-v1, whose evidence can be relayed by whoever steals a TLS \
                 key, and is never fresh."
                    .to_owned(),
            );
        }
    }
}
