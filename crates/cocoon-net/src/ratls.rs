//! Attested links: TLS between two strangers, then evidence that is bound to that very TLS session.
//!
//! The link profile `attested-v2` (attestation.md, section 4.4). It runs between the proof of work and the packets:
//!
//! 1. `tls.rs`: TLS 1.3, mutual, self-signed Ed25519 certificates, no tickets, no early data. It proves that the other
//!    end has a key, and nothing about whose it is.
//! 2. `handshake.rs`: each side says its role and draws a nonce; each shows evidence over the other's nonce and a value
//!    exported from this session; each says whether it accepts. The states are types, and only the last one,
//!    `AttestedStream`, becomes a [`Connection`](crate::Connection): no byte of an application moves before it.
//! 3. `reattest.rs`: an open connection is attested again from time to time, with a fresh nonce.
//!
//! Where a policy says `insecure_cocoon_v1`, a peer that asks for no profile in TLS is taken for an original node
//! (`cocoon_v1.rs`): there is one step instead of three, and it withstands neither relay nor replay.
//!
//! The two sides of an appraisal are [`Prover`] and [`Verifier`]; the verifier is the door that every stranger's
//! evidence comes through. What evidence means is decided in `cocoon-attest`, by a policy.
//!
//! It fails closed: whatever is missing, late, unreadable or unexpected ends the link, with a reason for the operator
//! and, where that is safe, for the peer. It does not hide who talks to whom.

pub mod certificate;
mod cocoon_v1;
mod collateral;
mod failure;
mod frames;
mod handshake;
mod identity;
mod look;
mod peer;
mod prover;
mod quote_queue;
mod reattest;
mod sessions;
mod tls;
mod verdicts;
mod verifier;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_attest::{Expected, Role};
use cocoon_units::Clock;
use tokio::time::timeout;

use crate::limits::ATTEST_TIMEOUT;
use crate::stream::Stream;

use self::tls::Shaken;

pub(crate) use self::failure::LinkError;
pub(crate) use self::handshake::AttestedStream;
pub use self::identity::{Identity, IdentityError};
pub use self::look::Unverified;
pub(crate) use self::look::look;
pub use self::peer::AttestedPeer;
pub use self::prover::Prover;
pub(crate) use self::reattest::Attestation;
pub(crate) use self::tls::Side;
pub use self::verifier::Verifier;

/// Everything that one end of an attested link needs. Links of one node share its identity, prover and verifier.
pub struct Link {
    /// What this node is on the link.
    pub role: Role,
    /// Its TLS key.
    pub identity: Arc<Identity>,
    /// Shows evidence; a client has none.
    pub prover: Option<Arc<Prover>>,
    /// Appraises the peer's evidence. Only a link that expects clients may do without.
    pub verifier: Option<Arc<Verifier>>,
    /// What the peer must be; its role above all.
    pub expected: Expected,
}

impl Link {
    /// The clock that everything on this link is judged by.
    fn clock(&self) -> Option<&dyn Clock> {
        let verifier = self.verifier.as_deref().map(Verifier::clock);
        verifier.or_else(|| self.prover.as_deref().map(Prover::clock))
    }

    /// Whether the policy lets a peer be an original node.
    fn allows_cocoon_v1(&self) -> bool {
        self.verifier.as_ref().is_some_and(|verifier| verifier.policy().link().insecure_cocoon_v1)
    }

    /// Whether this link may go without evidence of the peer. A peer without evidence can only be a client.
    fn check(&self) -> Result<(), LinkError> {
        match (&self.verifier, self.expected.role) {
            (Some(_), Some(_)) | (None, Some(Role::Client)) => Ok(()),
            (Some(_), None) => Err(LinkError::Misuse("the link does not say which role the peer must have")),
            (None, _) => Err(LinkError::Misuse("the link has no verifier, and its peer is no client")),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("role", &self.role)
            .field("identity", &self.identity)
            .field("proves", &self.prover.is_some())
            .field("verifies", &self.verifier.is_some())
            .field("expected", &self.expected)
            .finish()
    }
}

/// Runs everything between the proof of work and the packets. `addr` is for the peer's name, and for its share of our
/// quotes.
pub(crate) async fn establish(
    stream: Stream,
    side: Side,
    link: Arc<Link>,
    addr: SocketAddr,
) -> Result<AttestedStream, LinkError> {
    link.check()?;
    let all = async {
        match tls::handshake(stream, side, link, addr).await? {
            Shaken::AttestedV2(tls) => tls.challenge().await?.attest().await,
            Shaken::CocoonV1(quoted) => quoted.accept().await,
        }
    };
    let late = || LinkError::PeerTimeout { step: "the attested handshake", limit: ATTEST_TIMEOUT };
    timeout(ATTEST_TIMEOUT, all).await.unwrap_or_else(|_| Err(late()))
}

fn random<const N: usize>() -> Result<[u8; N], LinkError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| LinkError::Random)?;
    Ok(bytes)
}
