//! The session with one proxy: dial, shake hands, serve requests, and again when it is lost.
//!
//! Each proxy has one task, which owns the connection and hands every message to the request it
//! belongs to. A proxy that breaks the protocol loses the connection and its requests fail; the
//! next attempt follows the backoff, and other proxies are not concerned.

pub(crate) mod answer;
pub(crate) mod handshake;
pub(crate) mod link;
pub(crate) mod violation;

use std::{borrow::Cow, pin::pin, sync::Arc};

use cocoon_attest::Check;
use cocoon_net::{Backoff, Connection, DialError, Dialer, Directory, Event, Peer};
use cocoon_wire::message::{ClientAnswer, ClientQuery, ProxyToClient};
use serde::{
    Deserialize as _,
    de::{
        IntoDeserializer as _,
        value::{self, StrDeserializer},
    },
};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Shared, limits,
    models::Models,
    pool::{ProxySlot, ProxyState},
    terms::News,
};
pub(crate) use answer::AnswerStream;
use handshake::{Authorized, Dialed, SessionError};
use link::Link;
use violation::Violation;

/// Keeps a session with one proxy.
pub(crate) struct Keeper {
    pub(crate) directory: Directory,
    pub(crate) proxy: Arc<ProxySlot>,
    pub(crate) shared: Arc<Shared>,
}

impl Keeper {
    /// Keeps it until shutdown, or until the proxy is none of ours any more; then what it has running may finish.
    pub(crate) async fn keep(self, retired: CancellationToken, shutdown: CancellationToken) {
        let Self { directory, proxy, shared } = self;
        let mut backoff = Backoff::new(rand::random());
        let over = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = retired.cancelled() => {}
            }
        };
        let mut over = pin!(over);
        let mut news = News::of(&directory, shared.terms.as_ref());
        loop {
            let pause = backoff.delay(Instant::now().into_std());
            tokio::select! {
                () = &mut over => return,
                () = news.pause(pause) => {}
            }
            let Some(dialer) = directory.dialer(proxy.number()) else { return };
            proxy.set(ProxyState::Connecting);
            let attempt = tokio::select! {
                () = &mut over => return,
                attempt = connect(&*dialer, &shared) => attempt,
            };
            match attempt {
                Ok(authorized) => {
                    backoff.handle_connected(Instant::now().into_std());
                    tracing::info!(proxy = proxy.number(), version = ?authorized.version, "session with proxy is ready");
                    serve(authorized, &proxy, &shared, &retired, &shutdown).await;
                }
                Err(failure) => {
                    tracing::warn!(proxy = proxy.number(), error = %failure.detail, "no session with proxy");
                    proxy.set_failed(&failure);
                }
            }
            if retired.is_cancelled() || shutdown.is_cancelled() {
                return;
            }
        }
    }
}

/// Why an attempt failed: for apps, and for the owner's log.
pub(crate) struct ConnectFailure {
    /// Without addresses or a peer's words.
    pub(crate) summary: Cow<'static, str>,
    pub(crate) is_violation: bool,
    detail: String,
}

async fn connect(dialer: &dyn Dialer, shared: &Shared) -> Result<Authorized, ConnectFailure> {
    let connection = dialer.dial().await.map_err(|error| ConnectFailure {
        summary: dial_summary(&error),
        is_violation: false,
        detail: with_sources(&error),
    })?;
    let shake_hands = async { Dialed(connection).greet(shared).await?.authorize(&shared.config).await };
    shake_hands.await.map_err(|error| ConnectFailure {
        summary: error.summary().into(),
        is_violation: matches!(error, SessionError::PeerViolation(_)),
        detail: with_sources(&error),
    })
}

/// Serves requests until the connection ends, by whoever's doing.
async fn serve(
    authorized: Authorized,
    proxy: &ProxySlot,
    shared: &Shared,
    retired: &CancellationToken,
    shutdown: &CancellationToken,
) {
    let attestations = &shared.attestations;
    let Authorized { mut connection, version, config_version } = authorized;
    let link = Arc::new(Link::new(connection.outbox(), version, config_version));
    link.set_attestation(attestations.note(proxy.number(), connection.peer()));
    proxy.set(ProxyState::Ready(Arc::clone(&link)));
    let note = |peer: &Peer| link.set_attestation(attestations.note(proxy.number(), peer));
    let end = drive(&mut connection, &link, note, retired, shutdown).await;
    proxy.set_lost(&link);
    link.close();
    match end {
        Ok(()) => {}
        Err(SessionError::PeerViolation(violation)) => {
            proxy.count_violation();
            tracing::warn!(proxy = proxy.number(), error = %violation, "connection closed: the proxy is to blame");
        }
        Err(error) => tracing::warn!(proxy = proxy.number(), error = %error, "session with proxy lost"),
    }
}

async fn drive(
    connection: &mut Connection,
    link: &Arc<Link>,
    note: impl Fn(&Peer),
    retired: &CancellationToken,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    let mut look = interval(limits::ATTESTATION_LOOK);
    let mut poller = pin!(poll_models(link));
    let mut stop = pin!(shutdown.cancelled());
    let mut finished = pin!(finished(link, retired));
    loop {
        tokio::select! {
            biased;
            event = connection.next() => handle_event(link, event?)?,
            violation = &mut poller => return Err(violation.into()),
            () = &mut stop => break,
            () = &mut finished => break,
            // The connection attests its peer again by itself, and tells nobody.
            _ = look.tick() => {
                if link.attestation().is_some_and(|record| !record.is_of(connection.peer())) {
                    note(connection.peer());
                }
            }
        }
    }
    // What is queued still leaves: the last cancellations, mostly. The connection bounds the time.
    link.outbox().close();
    while connection.next().await.is_ok() {}
    Ok(())
}

/// Waits until a proxy that is none of ours any more has answered what it was asked, or has had its time.
async fn finished(link: &Link, retired: &CancellationToken) {
    retired.cancelled().await;
    let until = Instant::now() + limits::RETIRED_TIMEOUT;
    while link.in_flight() > 0 && Instant::now() < until {
        sleep(limits::RETIRED_LOOK).await;
    }
}

fn handle_event(link: &Link, event: Event) -> Result<(), Violation> {
    let data = match event {
        Event::Message(data) => data,
        Event::Query(_) => return Err(Violation::Query),
        _ => return Err(Violation::UnknownMessage),
    };
    match ProxyToClient::decode(link.version(), data)? {
        ProxyToClient::Answer(answer) => link.handle_answer(answer),
        // Payments are checked and kept once there is money; until then they are told, not used.
        ProxyToClient::Payment(_) | ProxyToClient::PaymentStatus(_) | ProxyToClient::Settled { .. } => Ok(()),
    }
}

/// Asks for models and load, now and then and when somebody wants to know. Ends only when the proxy
/// answers with nonsense; a question that gets no answer is asked again later.
async fn poll_models(link: &Link) -> Violation {
    let mut is_old_proxy = false;
    loop {
        match ask_models(link, is_old_proxy).await {
            Ok(Some(models)) => {
                link.models.send_replace(Some(Arc::new(models)));
            }
            // A proxy from before that query; ask by the older one from now on.
            Ok(None) => is_old_proxy = true,
            Err(violation) => return violation,
        }
        let interval = match &*link.models() {
            Some(models) if !models.is_empty() => limits::MODELS_POLL_INTERVAL,
            _ => limits::MODELS_POLL_EMPTY,
        };
        sleep(limits::MODELS_STALE).await;
        tokio::select! {
            () = sleep(interval.saturating_sub(limits::MODELS_STALE)) => {}
            () = link.models_wanted.notified() => {}
        }
    }
}

/// One question for models; `None` when the proxy refused or did not answer it.
async fn ask_models(link: &Link, is_old_proxy: bool) -> Result<Option<Models>, Violation> {
    let query = if is_old_proxy { ClientQuery::GetWorkerTypes } else { ClientQuery::GetWorkerTypesV2 };
    let Ok(answer) = link.outbox().query(query.encode(), limits::POLL_TIMEOUT).await else {
        return Ok(None);
    };
    let before = link.models().clone();
    let now = Instant::now();
    let answer = ClientAnswer::decode(answer)?;
    if let ClientAnswer::WorkerTypesV2(types) = answer {
        return Ok(Some(Models::new(now, types, before.as_deref())));
    }
    if let ClientAnswer::WorkerTypes(types) = answer {
        return Ok(Some(Models::from_summaries(now, types, before.as_deref())));
    }
    Err(Violation::WrongAnswer { question: "client.getWorkerTypesV2" })
}

impl SessionError {
    /// What apps may know.
    fn summary(&self) -> &'static str {
        match self {
            Self::PeerViolation(_) => "it broke the protocol",
            Self::PeerOtherNetwork { .. } => "it belongs to the other network (see `is_test`)",
            Self::PeerContract(_) => "its contracts are not those that the root contract gives",
            Self::PeerWantsLongAuthorization => "it asks for an on-chain registration, which is not supported yet",
            Self::PeerKnowsOtherSecret | Self::PeerRefused { .. } => "it does not accept this client's secret",
            Self::PeerRefusedQuestion { .. } => "it refused this client",
            Self::Query { .. } => "it does not answer",
            Self::Connection(_) => "the connection was lost",
        }
    }
}

/// What apps may know of a dial that failed: who refuses whom, and by which check. The whole refusal is in the log.
fn dial_summary(error: &DialError) -> Cow<'static, str> {
    match error {
        DialError::PeerAttestation(refusal) => format!("your policy refuses it: {} check", refusal.check).into(),
        DialError::PeerRefusedUs { check, .. } if check == "evidence" => "it has no evidence to show now".into(),
        DialError::PeerRefusedUs { check, .. } => match known_check(check) {
            Some(check) => format!("it refuses this client: {check} check").into(),
            None => "it refuses this client".into(),
        },
        DialError::PeerNoProfile | DialError::PeerNoChallenge => {
            "it speaks another protocol: is this the proxy's address for clients?".into()
        }
        DialError::PeerTooMuchWork { .. }
        | DialError::PeerTimeout { .. }
        | DialError::PeerTls(_)
        | DialError::PeerLinkFrame(_)
        | DialError::NoEvidence(_)
        | DialError::Identity(_)
        | DialError::LinkMisuse(_)
        | DialError::Connection(_)
        | DialError::Io(_)
        | DialError::NotLoopback { .. }
        | DialError::WorkTimeout { .. }
        | DialError::Random
        | _ => "it cannot be reached".into(),
    }
}

/// The check of a name that a peer sent, so that nothing but our own names is repeated.
fn known_check(name: &str) -> Option<Check> {
    let name: StrDeserializer<'_, value::Error> = name.into_deserializer();
    Check::deserialize(name).ok()
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cocoon_attest::Refusal;
    use cocoon_net::QueryError;

    use super::*;

    #[test]
    fn every_cause_is_logged_once() {
        let source = QueryError::PeerTimeout(Duration::from_secs(9));
        let error = SessionError::Query { question: "client.connectToProxy", source };
        let expected = "the proxy did not answer client.connectToProxy: peer did not answer within 9s";
        assert_eq!(with_sources(&error), expected);
        let text = "no\nsuch owner".to_owned();
        let error = SessionError::PeerRefusedQuestion { question: "client.connectToProxy", code: 400, text };
        let expected = r#"the proxy refused client.connectToProxy with code 400: "no\nsuch owner""#;
        assert_eq!(with_sources(&error), expected);
    }
    #[test]
    fn a_failed_dial_says_who_refuses_whom() {
        let refusal = Refusal::new(Check::Image, "one image", "another", "add it");
        assert_eq!(dial_summary(&DialError::PeerAttestation(refusal)), "your policy refuses it: image check");
        let refused =
            |check: &str| DialError::PeerRefusedUs { check: check.to_owned(), text: "in its words".to_owned() };
        assert_eq!(dial_summary(&refused("role")), "it refuses this client: role check");
        assert_eq!(dial_summary(&refused("call 555-0100")), "it refuses this client", "a peer's words stay out");
        assert_eq!(dial_summary(&refused("evidence")), "it has no evidence to show now");
        assert!(dial_summary(&DialError::PeerNoProfile).contains("another protocol"));
        assert_eq!(dial_summary(&DialError::Random), "it cannot be reached");
    }
}
