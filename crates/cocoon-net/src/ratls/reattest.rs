//! Attests an open connection again, and answers a peer that does.
//!
//! A verdict is about a moment: patch levels are revoked, policies change. So the verifying side asks again, with a
//! fresh nonce and an exporter of the same TLS session, after the time that its policy names and at once when it gets
//! another policy. The challenge is a query, `attest.challenge`, its answer evidence; neither reaches a role, and data
//! flows on meanwhile. Whoever does not convince in time loses the connection.
//!
//! Whom another policy lists no longer is not asked: the verdict that is held says which image it was, and a peer that
//! knows what is coming would not answer. It loses the connection before anything else is sent.
//!
//! A peer of `cocoon-v1` cannot be asked; its quote is judged again, by what is known by then.
//!
//! Everything here is polled by the connection that owns it; there is no task.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cocoon_attest::policy::Mode;
use cocoon_attest::{ChannelBinding, Check, EvidenceError, Refusal, Role};
use cocoon_wire::Encoded;
use cocoon_wire::attestation::{AttestChallenge, AttestEvidence, AttestMessage, AttestRefusal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::failure::LinkError;
use super::handshake::unclaimed;
use super::peer::AttestedPeer;
use super::prover::{Prover, Wanted};
use super::tls::{Channel, export};
use super::verifier::Verifier;
use super::{Link, cocoon_v1, random};
use crate::admission::source::Source;
use crate::error::{ConnectionError, QueryError, SendError};
use crate::limits::{REATTEST_ANSWER_TIMEOUT, REATTEST_RETRY, REATTEST_SPACING, REATTEST_TIMEOUT};
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::session::IncomingQuery;
use crate::stream::Stream;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How the peer proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// By evidence over a nonce.
    AttestedV2,
    /// By the quote in its certificate.
    CocoonV1,
}

/// The attestation of one open connection, in both directions.
pub(crate) struct Attestation {
    link: Arc<Link>,
    channel: Channel,
    profile: Profile,
    asking: Option<Asking>,
    answering: Option<Work<()>>,
    answered_at: Option<Instant>,
}

/// Our side of it, when the peer had to show evidence.
struct Asking {
    verifier: Arc<Verifier>,
    /// The role that the peer has.
    role: Role,
    /// As it was last accepted.
    held: Arc<AttestedPeer>,
    generations: watch::Receiver<u64>,
    /// Until the policy changes, whether or not the peer is being asked.
    news: Work<u64>,
    state: State,
}

enum State {
    /// Until the time has come, or the policy changed.
    Resting(Work<()>),
    /// Until the answer was appraised, by the policy of that generation.
    Asked(Work<Result<AttestedPeer, Refusal>>, u64),
}

impl Attestation {
    /// `accepted`: the peer, its role and the generation of the policy that accepted it, when one did.
    pub(super) fn new(
        link: Arc<Link>,
        channel: Channel,
        profile: Profile,
        accepted: Option<(Arc<AttestedPeer>, Role, u64)>,
    ) -> Self {
        let asking = link.verifier.clone().zip(accepted).map(|(verifier, (held, role, generation))| {
            let generations = verifier.generations();
            let state = State::rest(&verifier, generations.clone(), generation);
            let news = news(generations.clone(), generation);
            Asking { verifier, role, held, generations, news, state }
        });
        Self { link, channel, profile, asking, answering: None, answered_at: None }
    }

    /// Moves both directions on. Returns the peer when it was attested again.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        outbox: &Outbox,
    ) -> Result<Option<Peer>, ConnectionError> {
        if let Some(answering) = &mut self.answering
            && answering.as_mut().poll(cx).is_ready()
        {
            self.answering = None;
            self.answered_at = Some(Instant::now());
        }
        let Some(asking) = &mut self.asking else { return Ok(None) };
        while let Poll::Ready(generation) = asking.news.as_mut().poll(cx) {
            let policy = asking.verifier.policy();
            policy.still_lists(asking.held.verdict()).map_err(ConnectionError::PeerAttestation)?;
            asking.news = news(asking.generations.clone(), generation);
        }
        let mut attested = None;
        loop {
            match &mut asking.state {
                State::Resting(rest) => {
                    if rest.as_mut().poll(cx).is_pending() {
                        return Ok(attested);
                    }
                    asking.state = match self.profile {
                        Profile::AttestedV2 => ask(asking, &self.link, &self.channel, stream, outbox.clone())?,
                        Profile::CocoonV1 => judge_again(asking, &self.link, &self.channel),
                    };
                }
                State::Asked(answer, generation) => match answer.as_mut().poll(cx) {
                    Poll::Pending => return Ok(attested),
                    Poll::Ready(Err(refusal)) => return Err(ConnectionError::PeerAttestation(refusal)),
                    Poll::Ready(Ok(peer)) => {
                        asking.held = Arc::new(peer);
                        attested = Some(Peer::Attested(Arc::clone(&asking.held)));
                        asking.state = State::rest(&asking.verifier, asking.generations.clone(), *generation);
                    }
                },
            }
        }
    }

    /// Takes a query that is a challenge; gives any other back.
    pub(crate) fn handle_query(
        &mut self,
        query: IncomingQuery,
        stream: &Stream,
        outbox: &Outbox,
    ) -> Result<Option<IncomingQuery>, ConnectionError> {
        if self.profile == Profile::CocoonV1 || !AttestChallenge::is_one(&query.data) {
            return Ok(Some(query));
        }
        let refuse = |why| {
            // An outbox that takes no refusal belongs to a connection that ends.
            let _ = outbox.refuse(query.id, 0, why);
            Ok(None)
        };
        let Ok(challenge) = AttestChallenge::decode(query.data.clone()) else {
            return refuse("an unreadable attest.challenge");
        };
        let Some(prover) = self.link.prover.clone() else {
            return refuse("this node has no evidence");
        };
        if self.answering.is_some() {
            return refuse("one attest.challenge at a time");
        }
        let binding = self.channel.of_us(self.link.role, challenge.nonce, exported(stream, &challenge.nonce)?);
        let not_before = self.answered_at.and_then(|at| at.checked_add(REATTEST_SPACING));
        let wanted = Wanted { gpu: challenge.gpu, staple: challenge.staple };
        let evidence = evidence(prover, binding, wanted, self.channel.asker, not_before);
        self.answering = Some(Box::pin(answer(evidence, query.id, outbox.clone())));
        Ok(None)
    }
}

impl fmt::Debug for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attestation").field("link", &self.link).finish_non_exhaustive()
    }
}

impl State {
    fn rest(verifier: &Verifier, mut generations: watch::Receiver<u64>, generation: u64) -> Self {
        let after = Duration::from_secs(verifier.policy().link().reattest_after_s);
        Self::Resting(Box::pin(async move {
            let changed = generations.wait_for(|current| *current != generation);
            // Either way it is time: the policy changed, or the old one asks again.
            let _ = timeout(after, changed).await;
        }))
    }
}

/// The next generation of the policy after this one.
fn news(mut generations: watch::Receiver<u64>, seen: u64) -> Work<u64> {
    Box::pin(async move {
        let next = generations.wait_for(|current| *current != seen).await.map(|generation| *generation);
        match next {
            Ok(generation) => generation,
            // The verifier is gone, and with it whoever could change its policy.
            Err(_) => pending().await,
        }
    })
}

/// Draws a nonce and begins to ask.
fn ask(
    asking: &Asking,
    link: &Arc<Link>,
    channel: &Channel,
    stream: &Stream,
    outbox: Outbox,
) -> Result<State, ConnectionError> {
    let nonce = random().map_err(|_| internal("cannot draw random bytes"))?;
    let binding = channel.of_peer(asking.role, nonce, exported(stream, &nonce)?);
    let (verifier, link) = (Arc::clone(&asking.verifier), Arc::clone(link));
    let terms = verifier.terms();
    let generation = terms.generation;
    let tls_key = channel.peer.public_key;
    let challenge =
        AttestChallenge { nonce, gpu: terms.policy.link().gpu_required, staple: verifier.wants_staple() }.encode();
    let work = async move {
        let evidence = match AttestMessage::decode(query(&outbox, challenge).await?) {
            Ok(AttestMessage::Evidence(evidence)) => *evidence,
            Ok(AttestMessage::Refused(AttestRefusal { check, text })) => {
                return Err(unconvinced(format!("a refusal of the peer, {check:?}: {text:?}")));
            }
            Ok(other) => return Err(unconvinced(other.name())),
            Err(error) => return Err(unconvinced(format!("an unreadable answer: {error}"))),
        };
        let accepted = verifier.accept_evidence(&terms, tls_key, binding, &link.expected, evidence).await?;
        Ok(AttestedPeer::new(accepted, Mode::Strict))
    };
    Ok(State::Asked(Box::pin(work), generation))
}

/// Begins to judge the quote of the peer's certificate once more.
fn judge_again(asking: &Asking, link: &Arc<Link>, channel: &Channel) -> State {
    let (verifier, expected, certificate) =
        (Arc::clone(&asking.verifier), unclaimed(&link.expected), channel.peer.clone());
    let generation = verifier.terms().generation;
    let work = async move { cocoon_v1::accept(&verifier, &certificate, &expected).await };
    State::Asked(Box::pin(work), generation)
}

/// Asks, and asks again while our own queue is too full; all of it has one deadline.
async fn query(outbox: &Outbox, challenge: Bytes) -> Result<Bytes, Refusal> {
    let asking = async {
        loop {
            match outbox.query(Encoded::from(challenge.clone()), REATTEST_TIMEOUT).await {
                Ok(answer) => return Ok(answer),
                Err(QueryError::TooManyInFlight | QueryError::Send(SendError::Full)) => sleep(REATTEST_RETRY).await,
                Err(QueryError::PeerRefused { message, .. }) => {
                    return Err(unconvinced(format!("a refusal of the peer: {message:?}")));
                }
                Err(
                    error @ (QueryError::PeerTimeout(_)
                    | QueryError::Send(SendError::TooLarge | SendError::UnknownQuery)),
                ) => {
                    return Err(unconvinced(error.to_string()));
                }
                // The connection is closing and says why itself.
                Err(QueryError::Send(SendError::Closed)) => pending().await,
            }
        }
    };
    let late = |_| Err(unconvinced(format!("no answer within {REATTEST_TIMEOUT:?}")));
    timeout(REATTEST_TIMEOUT, asking).await.unwrap_or_else(late)
}

fn unconvinced(found: impl Into<String>) -> Refusal {
    Refusal::new(Check::Freshness, "fresh evidence on the open connection", found, "the peer has to connect again")
}

/// Evidence, asked for again while the platform is busy: strangers can fill its line, and must not end a connection that
/// stands.
async fn evidence(
    prover: Arc<Prover>,
    binding: ChannelBinding,
    wanted: Wanted,
    asker: Option<Source>,
    not_before: Option<Instant>,
) -> Result<AttestEvidence, EvidenceError> {
    if let Some(not_before) = not_before {
        sleep_until(not_before).await;
    }
    let asked = Instant::now();
    loop {
        match prover.evidence(&binding, wanted, asker).await {
            Err(error) if asked.elapsed() < REATTEST_ANSWER_TIMEOUT => {
                tracing::debug!(%error, "no evidence for a peer that asks for it again; asking the platform once more");
                sleep(REATTEST_RETRY).await;
            }
            result => return result,
        }
    }
}

async fn answer(evidence: impl Future<Output = Result<AttestEvidence, EvidenceError>>, query_id: i64, outbox: Outbox) {
    let message = match evidence.await {
        Ok(evidence) => AttestMessage::Evidence(Box::new(evidence)),
        Err(error) => {
            tracing::warn!(%error, "cannot answer a peer that asks for fresh evidence");
            let refusal = LinkError::NoEvidence(error).telling();
            AttestMessage::Refused(refusal.unwrap_or_else(|| AttestRefusal::new("evidence", "")))
        }
    };
    // A connection that takes no answer ends, and says why itself.
    let _ = outbox.answer(query_id, Encoded::from(message.encode()));
}

fn exported(stream: &Stream, nonce: &[u8; 32]) -> Result<[u8; 32], ConnectionError> {
    let session = stream.tls().ok_or_else(|| internal("no TLS under an attested connection"))?;
    export(session, nonce).map_err(|_| internal("TLS exports nothing"))
}

fn internal(why: &'static str) -> ConnectionError {
    ConnectionError::Transport(std::io::Error::other(why))
}
