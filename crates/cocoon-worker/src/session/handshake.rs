//! The worker's side of the session handshake (wire.md, section 4).
//!
//! 1. `worker.connectToProxy`: who we are, what we serve, which versions we speak. The proxy answers with
//!    its own identity and the version it chose.
//! 2. `worker.compareBalanceWithProxy`: what we were told before. A proxy that knows less about committed
//!    tokens was rolled back: if it asks (code 1) it gets the handover, else it must not serve us.
//! 3. `worker.proxyHandshakeComplete`.

use std::pin::pin;

use bytes::Bytes;
use cocoon_net::{Connection, Event, Outbox, Peer};
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{CompareBalance, ProxyParams, RequestPayment, WorkerAnswer, WorkerParams, WorkerQuery};
use cocoon_wire::{Version, VersionRange};

use crate::error::SessionError;
use crate::limits::{EARLY_EVENTS_MAX, HANDSHAKE_STEP_TIMEOUT};
use crate::worker::{Offer, Shared};

/// The link profile of this project, as verdicts name it.
const ATTESTED_V2: &str = "attested-v2";

/// What both sides agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) version: Version,
    /// What the proxy was told of price and readiness.
    pub(crate) told: Offer,
}

/// The most that one proxy ever told about balances, kept over reconnections.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    /// The proxy's contract; another one begins anew.
    sc_address: String,
    db_tokens: AdjustedTokens,
    max_tokens: AdjustedTokens,
}

impl Watermark {
    pub(crate) fn handle_payment(&mut self, payment: &RequestPayment) {
        self.raise(payment.db_tokens, payment.max_tokens);
    }

    fn begin(&mut self, sc_address: String) {
        if self.sc_address != sc_address {
            *self = Self { sc_address, ..Self::default() };
        }
    }

    fn raise(&mut self, db_tokens: AdjustedTokens, max_tokens: AdjustedTokens) {
        self.db_tokens = self.db_tokens.max(db_tokens);
        self.max_tokens = self.max_tokens.max(max_tokens);
    }
}

/// Shakes hands over a fresh connection. Requests may follow the last answer at once; they are given back.
pub(crate) async fn shake_hands(
    shared: &Shared,
    connection: &mut Connection,
    watermark: &mut Watermark,
    model: &str,
    proxy_count: u32,
) -> Result<(Agreed, Vec<Event>), SessionError> {
    let handshake = Handshake {
        shared,
        outbox: connection.outbox(),
        peer: connection.peer().clone(),
        versions: versions(connection.peer(), shared.config.versions()),
        model,
        proxy_count,
    };
    let mut steps = pin!(handshake.run(watermark));
    let mut early = Vec::new();
    loop {
        tokio::select! {
            biased;
            agreed = &mut steps => return Ok((agreed?, early)),
            event = connection.next() => early.push(event?),
        }
        if early.len() > EARLY_EVENTS_MAX {
            return Err(SessionError::PeerTooEarly);
        }
    }
}

/// The extended profile is for links that this node protects itself. Behind the original's router, and at the other end
/// of its link profile, there are original nodes.
fn versions(peer: &Peer, configured: VersionRange) -> VersionRange {
    let is_ours = match peer {
        Peer::LoopbackPlain { .. } | Peer::InMemory { .. } => true,
        Peer::Attested(peer) => peer.profile() == ATTESTED_V2,
        // A proxy without evidence is none that a worker talks to; the link refuses it before.
        Peer::BehindRouter { .. } | Peer::Unattested { .. } | _ => false,
    };
    if is_ours {
        configured
    } else {
        VersionRange { max: configured.max.min(VersionRange::ORIGINAL.max), ..configured }
    }
}

struct Handshake<'a> {
    shared: &'a Shared,
    outbox: Outbox,
    peer: Peer,
    versions: VersionRange,
    model: &'a str,
    proxy_count: u32,
}

impl Handshake<'_> {
    async fn run(self, watermark: &mut Watermark) -> Result<Agreed, SessionError> {
        let offer = self.shared.offer.borrow().clone();
        let (params, sc_address) = self.connect(&offer).await?;
        let version = self.check(&params)?;
        if let Some(terms) = &self.shared.terms {
            terms.check(&self.peer, &params, &sc_address)?;
        }
        watermark.begin(params.sc_address);
        self.compare_balance(watermark).await?;
        let complete = WorkerQuery::HandshakeComplete { is_disabled: !offer.is_open() };
        let WorkerAnswer::HandshakeCompleted = self.ask(&complete).await? else {
            return Err(SessionError::PeerAnswer("proxyHandshakeComplete"));
        };
        Ok(Agreed { version, told: offer })
    }

    async fn connect(&self, offer: &Offer) -> Result<(ProxyParams, String), SessionError> {
        let config = &self.shared.config;
        let connect = WorkerQuery::Connect(WorkerParams {
            owner_address: config.owner_address.clone(),
            model: self.model.to_owned(),
            coefficient: offer.coefficient,
            is_test: config.is_test,
            proxy_count: self.proxy_count,
            max_active_requests: config.max_active_requests,
            versions: Some(self.versions),
        });
        let WorkerAnswer::Connected { params, worker_sc_address } = self.ask(&connect).await? else {
            return Err(SessionError::PeerAnswer("connectToProxy"));
        };
        Ok((params, worker_sc_address))
    }

    fn check(&self, params: &ProxyParams) -> Result<Version, SessionError> {
        let worker = self.shared.config.is_test;
        if params.is_test != worker {
            return Err(SessionError::PeerTestMode { proxy: params.is_test, worker });
        }
        let number = params.proto_version.unwrap_or(0);
        let offered = (self.versions.min..=self.versions.max).contains(&number);
        Version::from_number(number).filter(|_| offered).ok_or(SessionError::PeerVersion(number))
    }

    async fn compare_balance(&self, watermark: &mut Watermark) -> Result<(), SessionError> {
        let compare = WorkerQuery::CompareBalance {
            // Nothing reads the chain yet.
            tokens_committed_to_blockchain: AdjustedTokens::ZERO,
            tokens_committed_to_db: watermark.db_tokens,
            max_tokens: watermark.max_tokens,
        };
        let WorkerAnswer::CompareBalance(answer) = self.ask(&compare).await? else {
            return Err(SessionError::PeerAnswer("compareBalanceWithProxy"));
        };
        match answer.error_code {
            0 => agree(watermark, &answer),
            1 => self.hand_over(watermark).await,
            code => Err(SessionError::PeerRefused(code)),
        }
    }

    async fn hand_over(&self, watermark: &Watermark) -> Result<(), SessionError> {
        let handover =
            WorkerQuery::ExtendedCompareBalance { tokens_committed_to_db: watermark.db_tokens, other: Bytes::new() };
        let WorkerAnswer::ExtendedCompareBalance { error_code } = self.ask(&handover).await? else {
            return Err(SessionError::PeerAnswer("extendedCompareBalanceWithProxy"));
        };
        if error_code == 0 { Ok(()) } else { Err(SessionError::PeerRefused(error_code)) }
    }

    async fn ask(&self, query: &WorkerQuery) -> Result<WorkerAnswer, SessionError> {
        let answer = self.outbox.query(query.encode(), HANDSHAKE_STEP_TIMEOUT).await?;
        Ok(WorkerAnswer::decode(answer)?)
    }
}

fn agree(watermark: &mut Watermark, answer: &CompareBalance) -> Result<(), SessionError> {
    if answer.tokens_committed_to_db < watermark.db_tokens {
        return Err(SessionError::PeerRolledBack { told: watermark.db_tokens, known: answer.tokens_committed_to_db });
    }
    watermark.raise(answer.tokens_committed_to_db, answer.max_tokens);
    Ok(())
}
