//! Sessions: one task a connection, which decodes, keeps the order of the protocol, and passes on.
//!
//! - [`client`], [`worker`]: the handshakes as typestates.
//! - [`client_loop`], [`worker_loop`]: the tasks that drive a connection through its handshake
//!   ([`worker_handshake`]) and serve it until it ends.
//! - [`proof`]: what a worker's receipt must say to be paid.
//! - [`handover`]: receipts of requests that a crash lost.
//! - [`standing`]: what the link established about the peer.

pub(crate) mod client;
pub(crate) mod client_loop;
pub(crate) mod handover;
pub(crate) mod proof;
pub(crate) mod standing;
pub(crate) mod worker;
mod worker_handshake;
pub(crate) mod worker_loop;

use std::sync::Arc;

use cocoon_net::ConnectionError;
use cocoon_ton::Address;
use cocoon_wire::http::HttpError;
use cocoon_wire::message::{ProxyParams, offered};
use cocoon_wire::{DecodeError, Version, VersionRange};
use thiserror::Error;
use tokio::time::error::Elapsed;

use self::standing::Standing;
use crate::config::ProxyConfig;
use crate::terms::{Contracts, ProxyTerms};

/// What this proxy offers to a peer: its owner's configuration, and what the network says at this moment.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) network: Arc<ProxyTerms>,
}

impl Terms {
    /// The version for a peer, if mode and versions fit.
    pub(crate) fn agree(
        &self,
        standing: &Standing,
        is_test: bool,
        versions: Option<VersionRange>,
    ) -> Result<Version, Refusal> {
        if is_test != self.config.is_test {
            return Err(Refusal::TestModeDiffers);
        }
        Version::negotiate(offered(versions), standing.versions).ok_or(Refusal::NoCommonVersion)
    }

    pub(crate) fn params(&self, version: Version) -> ProxyParams {
        let (public_key, owner_address, sc_address) = match &self.network.contracts {
            Some(contracts) => (contracts.payment_key(), contracts.owner().raw(), contracts.proxy().raw()),
            None => {
                let ProxyConfig { public_key, owner_address, contract_address, .. } = &*self.config;
                (public_key.0, owner_address.clone(), contract_address.clone())
            }
        };
        ProxyParams {
            public_key,
            owner_address,
            sc_address,
            is_test: self.config.is_test,
            proto_version: Some(version.number()),
        }
    }

    /// How a receipt may name this proxy: by its contract; without a chain, by whatever it was introduced with.
    pub(crate) fn names(&self, version: Version) -> Vec<String> {
        let ProxyParams { sc_address, owner_address, .. } = self.params(version);
        match &self.network.contracts {
            Some(_) => vec![sc_address],
            None => vec![sc_address, owner_address],
        }
    }

    /// The address of a peer's contract: none without a chain. A wallet that is no address could never be paid or
    /// charged.
    pub(crate) fn peer_contract(
        &self,
        derive: impl FnOnce(&Contracts) -> Option<Address>,
    ) -> Result<Option<Address>, Refusal> {
        match &self.network.contracts {
            None => Ok(None),
            Some(contracts) => derive(contracts).map(Some).ok_or(Refusal::NoWallet),
        }
    }
}

/// Why a handshake is refused, in words that the peer may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// One side is in test mode, the other is not.
    #[error("test mode differs")]
    TestModeDiffers,
    /// No version is spoken by both.
    #[error("no protocol version in common")]
    NoCommonVersion,
    /// The client insists on a newer root configuration.
    #[error("this proxy's configuration is older than you ask for")]
    ConfigTooOld,
    /// The peer names no wallet.
    #[error("your owner address is no TON address, so there can be no contract with you")]
    NoWallet,
    /// No secret is known for this client.
    #[error("this proxy knows no secret for this client; its owner must configure one")]
    NoSecret,
    /// The worker serves nothing.
    #[error("no model is named")]
    NoModel,
    /// The worker showed no evidence.
    #[error("this proxy takes attested workers only, and you showed no evidence")]
    NotAttested,
    /// The worker offers another model than its evidence names.
    #[error("the model that you offer is not the one that your evidence names")]
    WrongModel,
    /// The worker's evidence is so long that no client could ask for it.
    #[error("your evidence is too long to be shown to clients, so nothing could be charged for your answers")]
    EvidenceTooLong,
    /// The worker was attested again, with another receipt key.
    #[error("your evidence names another receipt key than it did on this connection")]
    OtherReceiptKey,
    /// The worker was told of commitments that this proxy does not have.
    #[error("this proxy knows less than you were told, and must not serve")]
    RolledBack,
    /// Nothing can be paid into the worker's contract any more.
    #[error("your contract with this proxy is closed")]
    ContractClosed,
    /// The worker's contract is not one of this proxy's, so nothing can be paid into it.
    #[error("your contract cannot be used here; make it anew with this proxy's parameters")]
    ContractUnusable,
    /// The chain's fault, or the books'.
    #[error("this proxy cannot look at your contract now; try again in a moment")]
    NotNow,
    /// Too much is handed over.
    #[error("a handover has at most so many receipts; the rest is lost")]
    HandoverTooLong,
    /// Something else was due.
    #[error("not now: the handshake has an order")]
    WrongOrder,
}

/// Why a session ended, grouped by whose fault it was.
#[derive(Debug, Error)]
pub(crate) enum SessionEnd {
    /// The peer broke the protocol above the packet layer.
    #[error("peer violated the protocol: {0}")]
    PeerViolation(#[from] Violation),
    /// The peer's handshake was refused.
    #[error("handshake refused: {0}")]
    PeerRefused(#[from] Refusal),
    /// The peer's secret was wrong, or it asked for an authorization that is not offered.
    #[error("peer was not authorized")]
    PeerNotAuthorized,
    /// The handshake took too long.
    #[error("peer did not finish its handshake in time")]
    PeerTooSlow(#[from] Elapsed),
    /// The connection ended, or broke the packet layer's rules.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The proxy is shutting down.
    #[error("the proxy is shutting down")]
    Shutdown,
}

/// A rule that a peer broke. It costs the peer its connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    /// Bytes that are not a message of this direction and version.
    #[error("undecodable message: {0}")]
    Undecodable(#[from] DecodeError),
    /// A message where a query was due, or the other way around.
    #[error("a message before the handshake is over")]
    MessageInHandshake,
    /// A handshake query after the handshake.
    #[error("a handshake query after the handshake")]
    HandshakeRepeated,
    /// Something that the codec knows and this session does not.
    #[error("a message that has no meaning here")]
    Unknown,
    /// An answer to a request that this worker does not have.
    #[error("an answer to an unknown request")]
    UnknownRequest,
    /// A part before its head.
    #[error("a part of an answer before its head")]
    PartBeforeHead,
    /// A second head.
    #[error("a second head of an answer")]
    SecondHead,
    /// A head that holds no HTTP response.
    #[error("a head that holds no HTTP response: {0}")]
    BadHead(HttpError),
    /// More bytes than credit was given for.
    #[error("more bytes of an answer than credit was given for")]
    CreditExceeded,
}
