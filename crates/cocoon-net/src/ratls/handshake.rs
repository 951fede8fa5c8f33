//! The attested handshake: from a TLS session with somebody to a stream with a peer.
//!
//! ```text
//! TlsStream --challenge()--> Challenged --attest()--> AttestedStream --> Connection
//!            hello <-> hello             evidence <-> evidence
//!                                        accepted <-> accepted
//! ```
//!
//! Each state is a type, and a step is a method of the state that it is legal in. `AttestedStream` is made after this
//! side accepted the peer **and** heard that the peer accepted it; and, where a policy allows `cocoon-v1`, after this
//! side accepted the quote in the peer's certificate. Each step has a deadline, and all of them
//! together have one.
//!
//! Both sides do the same; who dialled makes no difference here (attestation.md, section 4.4).

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::policy::Mode;
use cocoon_attest::{ChannelBinding, Check, EvidenceError, Expected, Refusal, Role};
use cocoon_wire::attestation::{AttestHello, AttestMessage};
use cocoon_wire::limits::{ATTEST_EVIDENCE_MAX, ATTEST_HELLO_MAX, ATTEST_VERDICT_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::failure::LinkError;
use super::frames::{exchange, send};
use super::peer::AttestedPeer;
use super::prover::Wanted;
use super::reattest::{Attestation, Profile};
use super::sessions::Remembered;
use super::tls::{QuotedStream, TlsStream, export};
use super::verifier::{Terms, Verifier};
use super::{Link, cocoon_v1, random};
use crate::admission::source::Source;
use crate::limits::{
    ATTEST_EVIDENCE_TIMEOUT, ATTEST_HELLO_TIMEOUT, ATTEST_READ_BYTES, ATTEST_REFUSAL_TIMEOUT, ATTEST_VERDICT_TIMEOUT,
};
use crate::peer::Peer;
use crate::stream::Stream;

/// Both sides said who they are and what they ask. The second state of a link.
pub(super) struct Challenged {
    tls: TlsStream,
    asking: Option<Asking>,
    /// Ours.
    nonce: [u8; 32],
    /// The peer's.
    hello: AttestHello,
}

/// What this side asks, and by which policy it will judge.
struct Asking {
    verifier: Arc<Verifier>,
    terms: Terms,
    remembered: Option<Remembered>,
}

/// Both sides accepted. The last state of a link, and the only one that packets run over.
pub(crate) struct AttestedStream {
    tls: TlsStream,
    peer: Peer,
    /// Which policy accepted the peer.
    generation: Option<u64>,
    profile: Profile,
}

impl TlsStream {
    /// Exchanges hellos.
    pub(super) async fn challenge(mut self) -> Result<Challenged, LinkError> {
        let nonce = random()?;
        let verifier = self.link.verifier.clone();
        let asking = verifier.map(|verifier| Asking::new(verifier, &self.link, &self.channel.peer.public_key));
        let ours = ready(Ok(AttestMessage::Hello(hello(self.link.role, nonce, asking.as_ref()))));
        let theirs = exchange(&mut *self.session, ours, ATTEST_HELLO_MAX);
        let message = step("attest.hello", ATTEST_HELLO_TIMEOUT, theirs).await?;
        let name = message.name();
        let AttestMessage::Hello(hello) = message else {
            return Err(unexpected(name, "where attest.hello was due"));
        };
        Ok(Challenged { tls: self, asking, nonce, hello })
    }
}

impl Asking {
    fn new(verifier: Arc<Verifier>, link: &Link, tls_key: &[u8; 32]) -> Self {
        let terms = verifier.terms();
        // Whatever the policy says, proxies and workers meet seldom and stay long: between them it is fresh evidence.
        let remembered =
            (link.role == Role::Client).then(|| verifier.remembered(&terms, tls_key, &link.expected)).flatten();
        Self { verifier, terms, remembered }
    }
}

fn hello(role: Role, nonce: [u8; 32], asking: Option<&Asking>) -> AttestHello {
    let mut hello = AttestHello {
        role: role.name().to_owned(),
        nonce,
        asks: asking.is_some(),
        formats: Vec::new(),
        policy_sha256: [0; 32],
        gpu: false,
        staple: false,
        session_key: None,
    };
    if let Some(Asking { verifier, terms, remembered }) = asking {
        hello.formats = terms.policy.formats().iter().map(|format| format.name().to_owned()).collect();
        hello.policy_sha256 = terms.policy.sha256();
        hello.gpu = terms.policy.link().gpu_required;
        hello.staple = verifier.wants_staple();
        hello.session_key = remembered.as_ref().map(|remembered| remembered.session_key);
    }
    hello
}

impl Challenged {
    /// Shows evidence, appraises the peer's, and waits until both sides have accepted.
    ///
    /// A refusal is told to the other side before the stream ends, so that its operator reads the reason too.
    pub(super) async fn attest(mut self) -> Result<AttestedStream, LinkError> {
        match self.run().await {
            Ok(peer) => {
                let generation = self.asking.map(|asking| asking.terms.generation);
                Ok(AttestedStream { tls: self.tls, peer, generation, profile: Profile::AttestedV2 })
            }
            Err(error) => {
                tell(&mut self.tls, &error).await;
                Err(error)
            }
        }
    }

    async fn run(&mut self) -> Result<Peer, LinkError> {
        let role = self.peer_role()?;
        let evidence = self.exchange_evidence().await?;
        let peer = self.appraise(role, evidence).await?;
        let accepted = ready(Ok(AttestMessage::Accepted));
        let verdict = exchange(&mut *self.tls.session, accepted, ATTEST_VERDICT_MAX);
        let verdict = step("its verdict on our evidence", ATTEST_VERDICT_TIMEOUT, verdict).await?;
        if verdict != AttestMessage::Accepted {
            return Err(unexpected(verdict.name(), "where a verdict was due"));
        }
        Ok(peer)
    }

    /// The peer's role, when it is the one that belongs here.
    fn peer_role(&self) -> Result<Role, Refusal> {
        let expected = self.tls.link.expected.role;
        let said = Role::from_name(&self.hello.role);
        said.filter(|_| said == expected).ok_or_else(|| {
            let expected = expected.map_or("none", Role::name);
            let found = format!("a peer that says it is {:?}", self.hello.role);
            let remedy = "check the address: each role has a port of its own";
            Refusal::new(Check::Role, format!("a {expected}"), found, remedy)
        })
    }

    async fn exchange_evidence(&mut self) -> Result<AttestMessage, LinkError> {
        let TlsStream { session, channel, link, .. } = &mut self.tls;
        let exporter = export(session, &self.hello.nonce)?;
        let binding = channel.of_us(link.role, self.hello.nonce, exporter);
        let ours = show(link, &self.hello, &binding, channel.asker);
        // Whoever was asked for nothing has nothing to say but that, or a refusal.
        let max = if self.asking.is_some() { ATTEST_EVIDENCE_MAX } else { ATTEST_VERDICT_MAX };
        let both = exchange(&mut **session, ours, max);
        step("attest.evidence", ATTEST_EVIDENCE_TIMEOUT, both).await
    }

    async fn appraise(&self, role: Role, shown: AttestMessage) -> Result<Peer, LinkError> {
        let TlsStream { session, channel, link, addr } = &self.tls;
        let tls_key = channel.peer.public_key;
        let Some(Asking { verifier, terms, remembered }) = &self.asking else {
            if shown != AttestMessage::None {
                return Err(unexpected(shown.name(), "although nothing was asked for"));
            }
            return Ok(Peer::Unattested { addr: *addr, tls_key });
        };
        let binding = channel.of_peer(role, self.nonce, export(session, &self.nonce)?);
        let (accepted, mode) = match shown {
            AttestMessage::Session { signature } if remembered.is_some() => {
                let accepted = verifier.accept_session(terms, &tls_key, &binding, &link.expected, &signature)?;
                (accepted, Mode::SessionKey)
            }
            AttestMessage::Evidence(evidence) => {
                let accepted = verifier.accept_evidence(terms, tls_key, binding, &link.expected, *evidence).await?;
                (accepted, Mode::Strict)
            }
            AttestMessage::None => return Err(no_evidence(role).into()),
            other @ (AttestMessage::Hello(_)
            | AttestMessage::Session { .. }
            | AttestMessage::Accepted
            | AttestMessage::Refused(_)) => return Err(unexpected(other.name(), "where attest.evidence was due")),
        };
        Ok(Peer::Attested(Arc::new(AttestedPeer::new(accepted, mode))))
    }
}

/// What this node shows for a hello: nothing, a signature, or evidence.
async fn show(
    link: &Link,
    hello: &AttestHello,
    binding: &ChannelBinding,
    asker: Option<Source>,
) -> Result<AttestMessage, LinkError> {
    let Some(prover) = link.prover.as_ref().filter(|_| hello.asks) else {
        return Ok(AttestMessage::None);
    };
    let remembered = hello.session_key.as_ref();
    if let Some(signature) = remembered.and_then(|key| prover.session_signature(key, binding)) {
        return Ok(AttestMessage::Session { signature });
    }
    let format = prover.format().name();
    if !hello.formats.iter().any(|known| known == format) {
        let why = format!("the peer reads no evidence of the format {format}");
        return Err(LinkError::NoEvidence(EvidenceError::NotATee(why)));
    }
    let wanted = Wanted { gpu: hello.gpu, staple: hello.staple };
    let evidence = prover.evidence(binding, wanted, asker).await.map_err(LinkError::NoEvidence)?;
    Ok(AttestMessage::Evidence(Box::new(evidence)))
}

/// Tells the peer why this side does not go on, as far as it takes that in.
async fn tell(tls: &mut TlsStream, error: &LinkError) {
    let Some(refusal) = error.telling() else { return };
    let last_words = async {
        send(&mut *tls.session, &AttestMessage::Refused(refusal)).await;
        tls.session.shutdown().await?;
        // Closing a socket over unread bytes would take our reason back from the peer's buffers.
        let mut ignored = vec![0; ATTEST_READ_BYTES];
        while tls.session.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The link ends in any case; whether the reason arrived changes nothing.
    let _ = timeout(ATTEST_REFUSAL_TIMEOUT, last_words).await;
}

fn no_evidence(role: Role) -> Refusal {
    let expected = format!("evidence of a {}", role.name());
    Refusal::new(Check::Profile, expected, "none", "the peer runs outside of a TEE: start it inside one")
}

fn unexpected(frame: &'static str, step: &'static str) -> LinkError {
    LinkError::PeerUnexpectedFrame { frame, step }
}

async fn step<T>(
    step: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(limit, work).await.unwrap_or(Err(LinkError::PeerTimeout { step, limit }))
}

impl QuotedStream {
    /// The weak profile's only step: the quote in the peer's certificate is judged, and nothing is said about it.
    pub(super) async fn accept(self) -> Result<AttestedStream, LinkError> {
        let Self(tls) = self;
        let verifier = tls.link.verifier.as_ref().ok_or(LinkError::PeerNoProfile)?;
        let generation = Some(verifier.terms().generation);
        let peer = cocoon_v1::accept(verifier, &tls.channel.peer, &unclaimed(&tls.link.expected)).await?;
        Ok(AttestedStream { tls, peer: Peer::Attested(Arc::new(peer)), generation, profile: Profile::CocoonV1 })
    }
}

/// What can be expected of an original node. Its role is the listener's or the dialled address's word alone; whoever
/// expects more than a role, such as a payment key, is refused by the appraisal.
pub(super) fn unclaimed(expected: &Expected) -> Expected {
    Expected { role: None, ..expected.clone() }
}

impl AttestedStream {
    /// The stream for packets, who is at its other end, and what keeps that true.
    pub(crate) fn into_parts(self) -> (Stream, Peer, Attestation) {
        let TlsStream { session, channel, link, .. } = self.tls;
        let role = link.expected.role;
        let held = match &self.peer {
            Peer::Attested(peer) => Some(Arc::clone(peer)),
            Peer::Unattested { .. }
            | Peer::LoopbackPlain { .. }
            | Peer::InMemory { .. }
            | Peer::BehindRouter { .. } => None,
        };
        let accepted = held.zip(role.zip(self.generation)).map(|(held, (role, generation))| (held, role, generation));
        let attestation = Attestation::new(link, channel, self.profile, accepted);
        (Stream::Tls(session), self.peer, attestation)
    }
}
