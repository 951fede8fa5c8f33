//! What the link established about a peer, as far as a session's handshake depends on it.
//!
//! A link of this project speaks every version. A peer that came through the original's router, or by its profile
//! `cocoon-v1`, is an original node, and gets the original's versions only.
//! Clients run on their owners' hosts and show no evidence. A worker off this host must have shown some, and must offer
//! the model that its evidence names: the model in a claim is one that an attested program stands for.

use cocoon_net::Peer;
use cocoon_wire::{Version, VersionRange};

use super::Refusal;

/// The link profile of this project, as verdicts name it.
const ATTESTED_V2: &str = "attested-v2";

/// What original nodes speak.
const ORIGINAL: VersionRange = VersionRange { min: 0, max: Version::V2.number() };

/// What a peer may speak and must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The versions that this proxy speaks with it.
    pub(crate) versions: VersionRange,
    /// What is known of a worker's model.
    pub(crate) evidence: Evidence,
}

/// What a peer has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// Nothing, and nothing was asked: a link within this host, or one that the owner declared insecure.
    NotAsked,
    /// Nothing, over a network.
    None,
    /// Claims that its evidence covers, with this model.
    Claims(Option<String>),
    /// Evidence in the original's form, which claims nothing.
    WithoutClaims,
}

impl Standing {
    /// What a link's peer is.
    pub(crate) fn of(peer: &Peer) -> Self {
        match peer {
            Peer::LoopbackPlain { .. } | Peer::InMemory { .. } => {
                Self { versions: VersionRange::ALL, evidence: Evidence::NotAsked }
            }
            Peer::BehindRouter { .. } => Self { versions: ORIGINAL, evidence: Evidence::NotAsked },
            Peer::Attested(peer) => {
                let versions = if peer.profile() == ATTESTED_V2 { VersionRange::ALL } else { ORIGINAL };
                let evidence =
                    peer.claims().map_or(Evidence::WithoutClaims, |claims| Evidence::Claims(claims.model.clone()));
                Self { versions, evidence }
            }
            Peer::Unattested { .. } => Self { versions: VersionRange::ALL, evidence: Evidence::None },
            _ => Self { versions: ORIGINAL, evidence: Evidence::None },
        }
    }

    /// Refuses a worker that shows no evidence where some is due, or whose evidence names another model than it offers.
    pub(crate) fn admit_model(&self, offered: &str) -> Result<(), Refusal> {
        match &self.evidence {
            Evidence::NotAsked | Evidence::WithoutClaims => Ok(()),
            Evidence::None => Err(Refusal::NotAttested),
            Evidence::Claims(claimed) if claimed.as_deref() == Some(offered) => Ok(()),
            Evidence::Claims(_) => Err(Refusal::WrongModel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(evidence: Evidence, expected: Result<(), Refusal>) {
        let standing = Standing { versions: VersionRange::ALL, evidence };
        assert_eq!(standing.admit_model("Qwen/Qwen3-8B@abc:00"), expected);
    }

    #[test]
    fn wrong_model_is_refused() {
        check(Evidence::Claims(Some("Qwen/Qwen3-8B@abc:00".into())), Ok(()));
        for other in ["Qwen/Qwen3-8B@abc:01", "Qwen/Qwen3-8B", ""] {
            check(Evidence::Claims(Some(other.into())), Err(Refusal::WrongModel));
        }
        check(Evidence::Claims(None), Err(Refusal::WrongModel));
    }

    #[test]
    fn a_worker_without_evidence_is_refused_off_this_host() {
        check(Evidence::NotAsked, Ok(()));
        check(Evidence::WithoutClaims, Ok(()));
        check(Evidence::None, Err(Refusal::NotAttested));
    }
}
