//! The session with one proxy: dial, shake hands, serve requests, and again when it is lost.
//!
//! Each proxy has one task, which owns the connection and hands every message to the request it
//! belongs to. A proxy that breaks the protocol loses the connection and its requests fail; the
//! next attempt follows the backoff, and other proxies are not concerned.
//!
//! While requests wait, it looks whether the proxy is there at all (`liveness`).
//!
//! With money, a proxy that demands what was not used loses the session too, and gets no request until it demands less;
//! and of requests whose end was not heard the proxy is asked, in each session, until none is left (`accounts`).

mod accounts;
pub(crate) mod answer;
pub(crate) mod handshake;
pub(crate) mod link;
mod liveness;
pub(crate) mod violation;

use std::{borrow::Cow, pin::pin, sync::Arc};

use cocoon_attest::Check;
use cocoon_net::{Backoff, Connection, DialError, Dialer, Directory, Event, Peer};
use cocoon_wire::message::{ClientAnswer, ClientQuery, PaymentStatus, ProxyToClient, RequestPayment};
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
    Shared,
    budget::desk::NotReady,
    limits,
    models::Models,
    pool::{Fault, ProxySlot, ProxyState},
    terms::News,
};
pub(crate) use answer::AnswerStream;
use handshake::{Authorized, Dialed, SessionError};
use link::Link;
use liveness::{Liveness, Step};
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
        let mut waits_for_money = false;
        loop {
            let pause = backoff.delay(Instant::now().into_std());
            tokio::select! {
                () = &mut over => return,
                () = news.pause(pause) => {}
                () = funded(&shared), if waits_for_money => {}
            }
            let Some(dialer) = directory.dialer(proxy.number()) else { return };
            if !waits_for_money {
                proxy.set(ProxyState::Connecting);
            }
            let attempt = tokio::select! {
                () = &mut over => return,
                attempt = connect(&*dialer, proxy.number(), &shared) => attempt,
            };
            waits_for_money = matches!(&attempt, Err(failure) if failure.waits_for_money);
            match attempt {
                Ok(authorized) => {
                    backoff.handle_connected(Instant::now().into_std());
                    tracing::info!(proxy = proxy.number(), version = ?authorized.version, "session with proxy is ready");
                    serve(authorized, &proxy, &shared, &retired, &shutdown).await;
                }
                Err(failure) => {
                    if failure.waits_for_money {
                        tracing::info!(proxy = proxy.number(), reason = %failure.detail, "no session with proxy yet");
                    } else {
                        tracing::warn!(proxy = proxy.number(), error = %failure.detail, "no session with proxy");
                    }
                    proxy.set_failed(&failure);
                }
            }
            if retired.is_cancelled() || shutdown.is_cancelled() {
                return;
            }
        }
    }
}

/// Waits until something changed about our contracts.
async fn funded(shared: &Shared) {
    match &shared.desk {
        Some(desk) => desk.changed().await,
        None => std::future::pending().await,
    }
}

/// Why an attempt failed: for apps, and for the owner's log.
pub(crate) struct ConnectFailure {
    /// Without addresses or a peer's words.
    pub(crate) summary: Cow<'static, str>,
    pub(crate) is_violation: bool,
    /// Nobody failed: our contract with the proxy cannot pay yet.
    waits_for_money: bool,
    detail: String,
}

impl ConnectFailure {
    fn of(error: &SessionError) -> Self {
        Self {
            summary: error.summary(),
            is_violation: matches!(error, SessionError::PeerViolation(_) | SessionError::PeerPayment(_)),
            waits_for_money: matches!(error, SessionError::NotReady(_)),
            detail: with_sources(error),
        }
    }
}

async fn connect(dialer: &dyn Dialer, number: u32, shared: &Shared) -> Result<Authorized, ConnectFailure> {
    // A proxy that the root pins is funded before it is dialled; of any other, only the session tells who it is.
    if let (Some(desk), Some(terms)) = (&shared.desk, &shared.terms)
        && let Some(parties) = terms.pinned(number)
    {
        let admitted = desk.admit(number, &parties).await;
        admitted.map_err(|not_ready| ConnectFailure::of(&not_ready.into()))?;
    }
    let connection = dialer.dial().await.map_err(|error| ConnectFailure {
        summary: dial_summary(&error),
        is_violation: false,
        waits_for_money: false,
        detail: with_sources(&error),
    })?;
    let shake_hands = async { Dialed(connection).greet(shared).await?.authorize(shared, number).await };
    shake_hands.await.map_err(|error| ConnectFailure::of(&error))
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
    let Authorized { mut connection, version, config_version, parties, proxy_owner, pricing } = authorized;
    let link = Arc::new(Link::new(connection.outbox(), version, config_version, parties, proxy_owner, pricing));
    link.set_attestation(attestations.note(proxy.number(), connection.peer()));
    proxy.set(ProxyState::Ready(Arc::clone(&link)));
    let note = |peer: &Peer| link.set_attestation(attestations.note(proxy.number(), peer));
    if let (Some(desk), Some(contract)) = (&shared.desk, link.client_contract()) {
        desk.session_began(&contract, &link);
    }
    let end = drive(&mut connection, &link, proxy, shared, note, retired, shutdown).await;
    let in_flight = link.in_flight();
    proxy.set_lost(&link);
    link.close();
    if let Some(fault) = end.as_ref().err().and_then(|error| error.fault(in_flight)) {
        proxy.blame(fault);
    }
    match end {
        Ok(()) => {}
        Err(error @ (SessionError::PeerDemands(_) | SessionError::PeerPayment(_))) => {
            proxy.count_violation();
            proxy.set_failed(&ConnectFailure::of(&error));
            tracing::warn!(proxy = proxy.number(), error = %error, "connection closed: the proxy demands what is not owed");
        }
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
    proxy: &ProxySlot,
    shared: &Shared,
    note: impl Fn(&Peer),
    retired: &CancellationToken,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    let mut look = interval(limits::ATTESTATION_LOOK);
    let mut liveness = Liveness::new(connection.heard_at());
    let mut liveness_look = pin!(link.look());
    let mut poller = pin!(poll_models(link));
    let mut stop = pin!(shutdown.cancelled());
    let mut finished = pin!(finished(link, retired));
    let mut unheard = pin!(accounts::ask_for_unheard(link, shared));
    let mut left = pin!(accounts::left(link, shared));
    loop {
        tokio::select! {
            biased;
            event = connection.next() => handle_event(link, shared, event?)?,
            violation = &mut poller => return Err(violation.into()),
            error = &mut unheard => return Err(error),
            () = &mut stop => break,
            () = &mut finished => break,
            () = &mut left => break,
            () = &mut liveness_look => {
                liveness_look.set(link.look());
                match liveness.look(connection.heard_at(), link.round_trip(), link.sent()) {
                    Step::Wait => {}
                    Step::Ask => connection.ping()?,
                    Step::Silent => {
                        link.set_silent(true);
                        proxy.blame(Fault::Silent);
                    }
                    Step::Alive => link.set_silent(false),
                }
            }
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

fn handle_event(link: &Link, shared: &Shared, event: Event) -> Result<(), SessionError> {
    let data = match event {
        Event::Message(data) => data,
        Event::Query(_) => return Err(Violation::Query.into()),
        _ => return Err(Violation::UnknownMessage.into()),
    };
    match ProxyToClient::decode(link.version(), data).map_err(Violation::from)? {
        ProxyToClient::Answer(answer) => Ok(link.handle_answer(answer)?),
        ProxyToClient::Settled { request_id, info } => {
            link.handle_settled(request_id, &info);
            Ok(())
        }
        ProxyToClient::PaymentStatus(status) => accounts::heard(link, shared, &status),
        ProxyToClient::Payment(payment) => {
            let RequestPayment { signed_payment, db_tokens, max_tokens, .. } = payment;
            accounts::heard(link, shared, &PaymentStatus { signed_payment, db_tokens, max_tokens })
        }
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
    let asked_at = Instant::now();
    let Ok(answer) = link.outbox().query(query.encode(), limits::POLL_TIMEOUT).await else {
        return Ok(None);
    };
    let before = link.models().clone();
    let now = Instant::now();
    link.note_round_trip(now.saturating_duration_since(asked_at));
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
    /// What a proxy's breaker is told of the end of its session with so many requests in flight.
    fn fault(&self, in_flight: usize) -> Option<Fault> {
        match self {
            Self::PeerViolation(_) | Self::PeerPayment(_) => Some(Fault::Violation),
            // A proxy that restarts while nobody waits for it harms nobody.
            Self::Connection(_) => (in_flight > 0).then_some(Fault::Lost),
            // These keep it from being chosen by themselves: there is no session until they have passed.
            Self::PeerOtherNetwork { .. }
            | Self::PeerContract(_)
            | Self::PeerWantsLongAuthorization
            | Self::PeerKnowsOtherSecret
            | Self::PeerTakesEmptySecret
            | Self::PeerDemands(_)
            | Self::NotReady(_)
            | Self::PeerRefused { .. }
            | Self::PeerRefusedQuestion { .. }
            | Self::Query { .. } => None,
        }
    }

    /// What apps may know.
    fn summary(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::PeerViolation(_) => "it broke the protocol",
            Self::PeerOtherNetwork { .. } => "it belongs to the other network (see `is_test`)",
            Self::PeerContract(_) => "its contracts are not those that the root contract gives",
            Self::PeerWantsLongAuthorization => "it asks for an on-chain registration that is not needed",
            Self::PeerKnowsOtherSecret | Self::PeerTakesEmptySecret | Self::PeerRefused { code: 401 } => {
                "it does not accept this client's secret"
            }
            Self::PeerRefused { .. } | Self::PeerRefusedQuestion { .. } => "it refused this client",
            Self::PeerPayment(_) => "it signed a payment that is not right",
            Self::PeerDemands(_) => "it demands more than was used",
            Self::NotReady(NotReady(words)) => return Cow::Owned(words.clone()),
            Self::Query { .. } => "it does not answer",
            Self::Connection(_) => "the connection was lost",
        })
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
