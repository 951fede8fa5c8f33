//! Why an attested link did not come about, or ended: one type for both ends, sorted into theirs at the edge.

use std::io;
use std::time::Duration;

use cocoon_attest::{Check, EvidenceError, Refusal};
use cocoon_wire::DecodeError;
use cocoon_wire::attestation::AttestRefusal;

use super::identity::IdentityError;

/// What went wrong between the proof of work and the packets.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// TLS failed: another version, no certificate, a certificate or signature that is refused, an alert.
    PeerTls(rustls::Error),
    /// TLS worked, and the peer did not ask for a link profile that is allowed here.
    PeerNoProfile,
    /// A frame that cannot be read.
    PeerFrame(DecodeError),
    /// A frame longer than its step allows.
    PeerFrameTooLong { len: usize, max: usize },
    /// A frame that does not belong to this step.
    PeerUnexpectedFrame { frame: &'static str, step: &'static str },
    /// A step, or all of them, took too long.
    PeerTimeout { step: &'static str, limit: Duration },
    /// This node refuses the peer's evidence.
    PeerAttestation(Refusal),
    /// The peer refuses ours.
    PeerRefusedUs { check: String, text: String },
    /// The peer closed the stream.
    PeerClosed,
    /// The transport failed.
    Transport(io::Error),
    /// This node has no evidence to show.
    NoEvidence(EvidenceError),
    /// This node has no certificate to show.
    Identity(IdentityError),
    /// The link was put together wrongly.
    Misuse(&'static str),
    /// No random bytes.
    Random,
}

impl LinkError {
    /// What the peer may know about it; `None` when there is nothing that it could do with the answer.
    pub(super) fn telling(&self) -> Option<AttestRefusal> {
        match self {
            // Where our collateral comes from, and how that failed, is no business of a stranger.
            Self::PeerAttestation(Refusal { check: check @ Check::Collateral, .. }) => {
                Some(AttestRefusal::new(check.name(), "there is no collateral for the platform that holds now"))
            }
            Self::PeerAttestation(refusal) => {
                let text = format!("expected {}, found {}; {}", refusal.expected, refusal.found, refusal.remedy);
                Some(AttestRefusal::new(refusal.check.name(), &text))
            }
            // Why is this node's business; a peer only has to know that another attempt may help.
            Self::NoEvidence(_) => Some(AttestRefusal::new("evidence", "this node has no evidence at the moment")),
            Self::PeerTls(_)
            | Self::PeerNoProfile
            | Self::PeerFrame(_)
            | Self::PeerFrameTooLong { .. }
            | Self::PeerUnexpectedFrame { .. }
            | Self::PeerTimeout { .. }
            | Self::PeerRefusedUs { .. }
            | Self::PeerClosed
            | Self::Transport(_)
            | Self::Identity(_)
            | Self::Misuse(_)
            | Self::Random => None,
        }
    }
}

impl From<Refusal> for LinkError {
    fn from(refusal: Refusal) -> Self {
        Self::PeerAttestation(refusal)
    }
}

/// A failed read or write. TLS reports its own errors, an alert of the peer among them, as errors of the stream.
impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::PeerTls(tls.clone());
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::PeerClosed;
        }
        Self::Transport(error)
    }
}
