//! From an open connection to one that takes requests, as typestates (wire.md, section 4).
//!
//! 1. [`Dialed::greet`]: `client.connectToProxy` → `client.connectedToProxy`: test mode must match,
//!    and the proxy chooses a version among those offered.
//! 2. With money, the desk lets the session in once the contract between both can pay ([`Desk::admit`]); a proxy whose
//!    contract must be made or filled first is left, and dialled again after.
//! 3. [`Greeted::authorize`]: `client.authorizeWithProxyShort` with the secret behind the hash in the client's contract, or,
//!    where the contract has none, `client.authorizeWithProxyLong` and a registration on chain →
//!    `client.authorizationWithProxySuccess`.
//! 4. What the proxy says it is owed must be signed by its key for our contract, and must be what we counted.
//!
//! The connection has no task of its own yet, so each question drives it until the answer is here;
//! a proxy may say nothing else meanwhile.

use cocoon_net::{Connection, ConnectionError, Event, Peer, QueryError};
use cocoon_units::Pricing;
use cocoon_wire::{
    Sealed, Version, VersionRange,
    message::{AuthChallenge, ClientAnswer, ClientParams, ClientQuery, PaymentStatus},
};
use sha2::{Digest, Sha256};

use super::violation::Violation;
use crate::{
    Shared,
    budget::{
        DemandDiffers,
        desk::{Admitted, Desk, NotReady},
    },
    limits,
    terms::{ContractError, Parties, PaymentError},
};

/// The link profile of this project, as verdicts name it.
const ATTESTED_V2: &str = "attested-v2";

/// Why a connection did not become ready, or did not stay so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SessionError {
    /// The proxy broke the protocol.
    #[error(transparent)]
    PeerViolation(#[from] Violation),
    /// The proxy belongs to the other network.
    #[error("the proxy is for the {} network; set `is_test` to use it", network(*.proxy_is_test))]
    PeerOtherNetwork {
        /// What it said.
        proxy_is_test: bool,
    },
    /// The proxy names contracts that the root does not give.
    #[error(transparent)]
    PeerContract(#[from] ContractError),
    /// The proxy wants a registration on chain, and there is no chain, or the contract has a secret: each registration
    /// costs fees.
    #[error(
        "the proxy asks for long authorization (an on-chain registration), and this client can be known by its secret"
    )]
    PeerWantsLongAuthorization,
    /// The secret is not the one whose hash the proxy knows. It was not sent.
    #[error("the proxy expects another secret than this client has for it")]
    PeerKnowsOtherSecret,
    /// The proxy takes an empty secret for this client, which everybody knows. It was not sent.
    #[error("the proxy expects an empty secret: anybody could spend this client's money there")]
    PeerTakesEmptySecret,
    /// The proxy signed what is not between us, or more than it says to have.
    #[error(transparent)]
    PeerPayment(#[from] PaymentError),
    /// The proxy demands more than was used.
    #[error(transparent)]
    PeerDemands(#[from] DemandDiffers),
    /// Our contract with it cannot pay yet.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The proxy refused the secret. Its text is not kept: it may quote the secret, and errors are logged.
    #[error("the proxy refused authorization with code {code}")]
    PeerRefused {
        /// The proxy's number.
        code: i32,
    },
    /// The proxy refused a question that holds nothing secret.
    #[error("the proxy refused {question} with code {code}: {text:?}")]
    PeerRefusedQuestion {
        /// The question's constructor.
        question: &'static str,
        /// The proxy's number.
        code: i32,
        /// The beginning of what it said, for the owner's log.
        text: String,
    },
    /// A question got no answer.
    #[error("the proxy did not answer {question}")]
    Query {
        /// The question's constructor.
        question: &'static str,
        /// Why.
        source: QueryError,
    },
    /// The connection ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// A connection on which nothing was said yet.
#[derive(Debug)]
pub(super) struct Dialed(pub(super) Connection);

/// The proxy has introduced itself.
#[derive(Debug)]
pub(super) struct Greeted {
    connection: Connection,
    version: Version,
    config_version: i32,
    parties: Option<Parties>,
    proxy_owner: String,
    pricing: Pricing,
    challenge: AuthChallenge,
}

/// The proxy takes requests of this client.
#[derive(Debug)]
pub(super) struct Authorized {
    pub(super) connection: Connection,
    pub(super) version: Version,
    /// The version of the root that the proxy works by at least: requests ask for no more, since a proxy may hear of a
    /// change a moment after us.
    pub(super) config_version: i32,
    /// Between whom money passes; none without a chain.
    pub(super) parties: Option<Parties>,
    /// Who runs the proxy, in its own words.
    pub(super) proxy_owner: String,
    /// What the proxy charges by on this contract, whatever the root says later.
    pub(super) pricing: Pricing,
}

impl Dialed {
    pub(super) async fn greet(self, shared: &Shared) -> Result<Greeted, SessionError> {
        let config = &shared.config;
        let Self(mut connection) = self;
        let offered = offered(connection.peer());
        let config_version = shared.min_config_version();
        let query = ClientQuery::Connect {
            params: ClientParams {
                owner_address: config.owner_address.clone(),
                is_test: config.is_test,
                versions: Some(offered),
            },
            min_config_version: config_version,
        };
        let answer = ask(&mut connection, "client.connectToProxy", &query).await?;
        let ClientAnswer::Connected { params, client_sc_address, auth, signed_payment } = answer else {
            return Err(Violation::WrongAnswer { question: "client.connectToProxy" }.into());
        };
        if params.is_test != config.is_test {
            return Err(SessionError::PeerOtherNetwork { proxy_is_test: params.is_test });
        }
        let pricing = shared.pricing();
        let parties = match &shared.terms {
            Some(terms) => Some(terms.check(connection.peer(), &params, &client_sc_address)?),
            None => None,
        };
        if let (Some(_), Some(parties)) = (&shared.desk, &parties) {
            parties.charged(&signed_payment)?;
        }
        let version = chosen(params.proto_version, offered)?;
        if version == Version::Extended {
            connection.outbox().enable_extended();
        }
        let proxy_owner = params.owner_address;
        Ok(Greeted { connection, version, config_version, parties, proxy_owner, pricing, challenge: auth })
    }
}

impl Greeted {
    pub(super) async fn authorize(self, shared: &Shared, number: u32) -> Result<Authorized, SessionError> {
        let Self { mut connection, version, config_version, parties, proxy_owner, pricing, challenge } = self;
        let paid = match (&shared.desk, &parties) {
            (Some(desk), Some(parties)) => Some((desk, parties)),
            (None, _) | (_, None) => None,
        };
        let admitted = match paid {
            Some((desk, parties)) => Some(driving(&mut connection, desk.admit(number, parties)).await??),
            None => None,
        };
        let query = match (&challenge, &admitted) {
            (AuthChallenge::Short { secret_hash, .. }, Some(Admitted::Secret(secret))) => {
                Some(with_secret(secret.as_ref(), secret_hash)?)
            }
            (AuthChallenge::Short { secret_hash, .. }, None) => {
                Some(with_secret(shared.config.auth_secret.expose().as_bytes(), secret_hash)?)
            }
            (AuthChallenge::Short { secret_hash, .. }, Some(Admitted::Registration)) => {
                return Err(unknown_secret(secret_hash));
            }
            (AuthChallenge::Long { .. }, Some(Admitted::Registration)) => None,
            (AuthChallenge::Long { .. }, Some(Admitted::Secret(_)) | None) => {
                return Err(SessionError::PeerWantsLongAuthorization);
            }
        };
        let answer = match (query, challenge, paid) {
            (Some(query), ..) => ask(&mut connection, "client.authorizeWithProxyShort", &query).await,
            (None, AuthChallenge::Long { nonce }, Some((desk, parties))) => {
                registered(&mut connection, desk, parties, nonce.cast_unsigned()).await
            }
            (None, ..) => return Err(SessionError::PeerWantsLongAuthorization),
        };
        let status = welcome(answer.map_err(without_text)?)?;
        if let Some((_, parties)) = paid {
            parties.check_status(&status)?;
            shared.budget.heard(parties.contract, &status)?;
        }
        Ok(Authorized { connection, version, config_version, parties, proxy_owner, pricing })
    }
}

/// The question that carries a secret, if the proxy knows its hash.
fn with_secret(secret: &[u8], hash: &[u8; 32]) -> Result<ClientQuery, SessionError> {
    if <[u8; 32]>::from(Sha256::digest(secret)) != *hash {
        return Err(unknown_secret(hash));
    }
    Ok(ClientQuery::AuthorizeShort { secret: Sealed::from(secret.to_vec()) })
}

fn unknown_secret(hash: &[u8; 32]) -> SessionError {
    if <[u8; 32]>::from(Sha256::digest(b"")) == *hash {
        return SessionError::PeerTakesEmptySecret;
    }
    SessionError::PeerKnowsOtherSecret
}

/// Asks to be known by a registration on chain, and makes it meanwhile.
async fn registered(
    connection: &mut Connection,
    desk: &Desk,
    parties: &Parties,
    nonce: u64,
) -> Result<ClientAnswer, SessionError> {
    let outbox = connection.outbox();
    let question = "client.authorizeWithProxyLong";
    let query = ClientQuery::AuthorizeLong.encode();
    let both =
        async { tokio::join!(outbox.query(query, limits::REGISTER_WAIT), desk.register(parties.contract, nonce)) };
    let (answer, registered) = driving(connection, both).await?;
    registered?;
    let answer = answer.map_err(|error| unanswered(question, error))?;
    Ok(ClientAnswer::decode(answer).map_err(Violation::from)?)
}

/// What a proxy that lets us in says it is owed.
fn welcome(answer: ClientAnswer) -> Result<PaymentStatus, SessionError> {
    match answer {
        ClientAnswer::Authorized { signed_payment, tokens_committed_to_db: db_tokens, max_tokens } => {
            Ok(PaymentStatus { signed_payment, db_tokens, max_tokens })
        }
        ClientAnswer::AuthorizationFailed { code, .. } => Err(SessionError::PeerRefused { code }),
        ClientAnswer::Connected { .. }
        | ClientAnswer::Refund { .. }
        | ClientAnswer::RefundRejected { .. }
        | ClientAnswer::PaymentStatus(_)
        | ClientAnswer::WorkerTypes(_)
        | ClientAnswer::WorkerTypesV2(_)
        | ClientAnswer::SettledRequests(_)
        | ClientAnswer::Evidence(_) => {
            Err(Violation::WrongAnswer { question: "client.authorizeWithProxyShort or Long" }.into())
        }
    }
}

/// Waits for something else while the connection is driven; the proxy may say nothing meanwhile.
async fn driving<T>(connection: &mut Connection, work: impl Future<Output = T>) -> Result<T, SessionError> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        event = connection.next() => Err(if matches!(event?, Event::Query(_)) {
            Violation::Query.into()
        } else {
            Violation::UnknownMessage.into()
        }),
    }
}

/// Asks one question and drives the connection until its answer is here.
async fn ask(
    connection: &mut Connection,
    question: &'static str,
    query: &ClientQuery,
) -> Result<ClientAnswer, SessionError> {
    let outbox = connection.outbox();
    let answer = driving(connection, outbox.query(query.encode(), limits::HANDSHAKE_TIMEOUT)).await?;
    let answer = answer.map_err(|error| unanswered(question, error))?;
    Ok(ClientAnswer::decode(answer).map_err(Violation::from)?)
}

fn unanswered(question: &'static str, error: QueryError) -> SessionError {
    match error {
        QueryError::PeerRefused { code, message } => {
            let text = message.chars().take(limits::PEER_TEXT_CHARS).collect();
            SessionError::PeerRefusedQuestion { question, code, text }
        }
        source @ (QueryError::PeerTimeout(_) | QueryError::TooManyInFlight | QueryError::Send(_)) => {
            SessionError::Query { question, source }
        }
    }
}

/// A refused authorization, of which only the number is kept.
fn without_text(error: SessionError) -> SessionError {
    if let SessionError::PeerRefusedQuestion { code, .. } = error { SessionError::PeerRefused { code } } else { error }
}

/// The extended profile is for links that this node protects itself. Behind the original's router,
/// and at the other end of its link profile, there are original nodes.
fn offered(peer: &Peer) -> VersionRange {
    let is_ours = match peer {
        Peer::LoopbackPlain { .. } | Peer::InMemory { .. } => true,
        Peer::Attested(peer) => peer.profile() == ATTESTED_V2,
        // A proxy without evidence is none that a client talks to; the link refuses it before.
        Peer::BehindRouter { .. } | Peer::Unattested { .. } | _ => false,
    };
    if is_ours { VersionRange::ALL } else { VersionRange { min: 0, max: Version::V2.number() } }
}

fn chosen(number: Option<i32>, offered: VersionRange) -> Result<Version, Violation> {
    let number = number.unwrap_or(Version::V0.number());
    Version::from_number(number)
        .filter(|version| (offered.min..=offered.max).contains(&version.number()))
        .ok_or(Violation::VersionNotOffered(number))
}

const fn network(is_test: bool) -> &'static str {
    if is_test { "test" } else { "main" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offered_versions_are_taken() {
        let original = VersionRange { min: 0, max: 2 };
        assert_eq!(chosen(Some(2), original).unwrap(), Version::V2);
        assert_eq!(chosen(None, original).unwrap(), Version::V0);
        assert_eq!(chosen(Some(100), VersionRange::ALL).unwrap(), Version::Extended);
        for number in [100, 3, -1] {
            assert!(chosen(Some(number), original).is_err(), "{number}");
        }
    }
}
