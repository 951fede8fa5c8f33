//! From an open connection to one that takes requests, as typestates (wire.md, section 4).
//!
//! 1. [`Dialed::greet`]: `client.connectToProxy` → `client.connectedToProxy`: test mode must match,
//!    and the proxy chooses a version among those offered.
//! 2. [`Greeted::authorize`]: `client.authorizeWithProxyShort` with the secret behind the hash in
//!    the client's contract → `client.authorizationWithProxySuccess`.
//!
//! The connection has no task of its own yet, so each question drives it until the answer is here;
//! a proxy may say nothing else meanwhile.

use cocoon_net::{Connection, ConnectionError, Event, Peer, QueryError};
use cocoon_wire::{
    Sealed, Version, VersionRange,
    message::{AuthChallenge, ClientAnswer, ClientParams, ClientQuery},
};
use sha2::{Digest, Sha256};

use super::violation::Violation;
use crate::{Shared, config::ClientConfig, limits, terms::ContractError};

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
    /// The proxy wants a registration on chain.
    #[error(
        "the proxy asks for long authorization (an on-chain registration), which this client does not do yet; configure the secret of short authorization at the proxy's contract"
    )]
    PeerWantsLongAuthorization,
    /// The configured secret is not the one whose hash the proxy knows. It was not sent.
    #[error("`auth_secret` is not the secret that the proxy expects of this wallet")]
    PeerKnowsOtherSecret,
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
        let ClientAnswer::Connected { params, client_sc_address, auth, .. } = answer else {
            return Err(Violation::WrongAnswer { question: "client.connectToProxy" }.into());
        };
        if params.is_test != config.is_test {
            return Err(SessionError::PeerOtherNetwork { proxy_is_test: params.is_test });
        }
        if let Some(terms) = &shared.terms {
            terms.check(connection.peer(), &params, &client_sc_address)?;
        }
        let version = chosen(params.proto_version, offered)?;
        if version == Version::Extended {
            connection.outbox().enable_extended();
        }
        Ok(Greeted { connection, version, config_version, challenge: auth })
    }
}

impl Greeted {
    pub(super) async fn authorize(self, config: &ClientConfig) -> Result<Authorized, SessionError> {
        let Self { mut connection, version, config_version, challenge } = self;
        let secret = config.auth_secret.expose();
        let hash = match challenge {
            AuthChallenge::Short { secret_hash, .. } => secret_hash,
            AuthChallenge::Long { .. } => return Err(SessionError::PeerWantsLongAuthorization),
        };
        if <[u8; 32]>::from(Sha256::digest(secret.as_bytes())) != hash {
            return Err(SessionError::PeerKnowsOtherSecret);
        }
        let query = ClientQuery::AuthorizeShort { secret: Sealed::from(secret.as_bytes().to_vec()) };
        let answer = ask(&mut connection, "client.authorizeWithProxyShort", &query).await.map_err(without_text)?;
        if let ClientAnswer::AuthorizationFailed { code, .. } = answer {
            return Err(SessionError::PeerRefused { code });
        }
        if !matches!(answer, ClientAnswer::Authorized { .. }) {
            return Err(Violation::WrongAnswer { question: "client.authorizeWithProxyShort" }.into());
        }
        Ok(Authorized { connection, version, config_version })
    }
}

/// Asks one question and drives the connection until its answer is here.
async fn ask(
    connection: &mut Connection,
    question: &'static str,
    query: &ClientQuery,
) -> Result<ClientAnswer, SessionError> {
    let outbox = connection.outbox();
    let answer = tokio::select! {
        biased;
        answer = outbox.query(query.encode(), limits::HANDSHAKE_TIMEOUT) => answer,
        event = connection.next() => return Err(if matches!(event?, Event::Query(_)) {
            Violation::Query.into()
        } else {
            Violation::UnknownMessage.into()
        }),
    };
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
