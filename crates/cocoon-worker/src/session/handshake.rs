//! The worker's side of the session handshake (wire.md, section 4).
//!
//! 1. `worker.connectToProxy`: who we are, what we serve, which versions we speak. The proxy answers with
//!    its own identity and the version it chose.
//! 2. `worker.compareBalanceWithProxy`: what we were told and what was signed for us. A proxy whose disk knows less was
//!    rolled back, and is left. One that only lost its latest asks (code 1) for `worker.extendedCompareBalanceWithProxy`:
//!    the receipts that no payment covers yet, in parts, then an empty one.
//! 3. `worker.proxyHandshakeComplete`.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_net::{Connection, Event, Outbox, Peer};
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{
    CompareBalance, HandedReceipt, ProxyParams, RequestPayment, SignedPayment, WorkerAnswer, WorkerParams, WorkerQuery,
    encode_handover,
};
use cocoon_wire::{Version, VersionRange};

use crate::earnings::PaymentError;
use crate::earnings::account::{Forgot, Told, Trouble};
use crate::earnings::books::Ours;
use crate::error::SessionError;
use crate::limits::{EARLY_EVENTS_MAX, HANDOVER_BYTES_MAX, HANDOVER_STEP_TIMEOUT, HANDSHAKE_STEP_TIMEOUT};
use crate::worker::{Offer, Shared};

/// The link profile of this project, as verdicts name it.
const ATTESTED_V2: &str = "attested-v2";

/// What both sides agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) version: Version,
    /// What the proxy was told of price and readiness.
    pub(crate) told: Offer,
    /// Whether it was told that requests are taken.
    pub(crate) told_open: bool,
    /// Who it is, as receipts name it: its contract, or its owner where there is no chain.
    pub(crate) proxy: Arc<str>,
}

/// The most that one proxy ever told about balances, kept over reconnections; with a chain in the account that it pays
/// into, and over restarts.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    /// The proxy's contract; another one begins anew.
    sc_address: String,
    told: Told,
    ours: Option<Ours>,
}

impl Watermark {
    /// The account that the proxy pays into.
    pub(crate) fn ours(&self) -> Option<&Ours> {
        self.ours.as_ref()
    }

    pub(crate) fn handle_payment(&mut self, payment: &RequestPayment) -> Result<(), PaymentError> {
        match &self.ours {
            Some(ours) => ours.handle_payment(payment).inspect_err(|error| show(ours, error)),
            None => {
                self.raise(Told { db: payment.db_tokens, max: payment.max_tokens });
                Ok(())
            }
        }
    }

    /// Takes a payment that came with something else.
    pub(crate) fn pay(&self, payment: &SignedPayment) -> Result<(), PaymentError> {
        let Some(ours) = &self.ours else { return Ok(()) };
        ours.pay(payment).inspect_err(|error| show(ours, error))
    }

    fn begin(&mut self, sc_address: String, ours: Option<Ours>) {
        if self.sc_address != sc_address {
            *self = Self { sc_address, ..Self::default() };
        }
        self.ours = ours;
    }

    /// What the proxy is asked to know: on chain, and what it told.
    fn claims(&self) -> (AdjustedTokens, Told) {
        // Without a chain nothing is committed there.
        self.ours.as_ref().map_or((AdjustedTokens::ZERO, self.told), Ours::claims)
    }

    /// What the proxy says that it knows must be no less than what it said and signed before.
    fn compare(&self, answer: &CompareBalance) -> Result<(), SessionError> {
        let known = answer.tokens_committed_to_db;
        let forgot = match &self.ours {
            Some(ours) => ours.compare(answer),
            // One that asks for the handover says itself that it lost something.
            None if answer.error_code == 0 && known < self.told.db => Err(Forgot::Told(self.told.db)),
            None => Ok(()),
        };
        let error = match forgot {
            Ok(()) => return Ok(()),
            Err(Forgot::Told(told)) => SessionError::PeerRolledBack { told, known },
            Err(Forgot::Signed(signed)) => SessionError::PeerForgotPayment { signed, known },
        };
        if let Some(ours) = &self.ours {
            show(ours, &error);
        }
        Err(error)
    }

    fn agree(&mut self, answer: &CompareBalance) {
        match &self.ours {
            Some(ours) => ours.agreed(answer),
            None => self.raise(Told { db: answer.tokens_committed_to_db, max: answer.max_tokens }),
        }
    }

    fn raise(&mut self, told: Told) {
        self.told = Told { db: self.told.db.max(told.db), max: self.told.max.max(told.max) };
    }
}

/// Whose fault it is that nothing comes from this proxy.
fn show(ours: &Ours, error: &dyn std::error::Error) {
    ours.trouble(Trouble::Proxy, error.to_string());
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
        let (proxy, ours) = match &self.shared.terms {
            Some(terms) => {
                let init = terms.check(&self.peer, &params, &sc_address)?;
                let books = self.shared.books.get();
                (params.sc_address.as_str(), books.map(|books| books.account(init)).transpose()?)
            }
            None => (params.owner_address.as_str(), None),
        };
        let proxy = Arc::from(proxy);
        watermark.begin(params.sc_address, ours);
        self.compare_balance(watermark).await?;
        let told_open = offer.is_open() && !watermark.ours().is_some_and(Ours::is_exposed);
        let complete = WorkerQuery::HandshakeComplete { is_disabled: !told_open };
        let WorkerAnswer::HandshakeCompleted = self.ask(&complete).await? else {
            return Err(SessionError::PeerAnswer("proxyHandshakeComplete"));
        };
        Ok(Agreed { version, told: offer, told_open, proxy })
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
        let (on_chain, told) = watermark.claims();
        let compare = WorkerQuery::CompareBalance {
            tokens_committed_to_blockchain: on_chain,
            tokens_committed_to_db: told.db,
            max_tokens: told.max,
        };
        let WorkerAnswer::CompareBalance(answer) = self.ask(&compare).await? else {
            return Err(SessionError::PeerAnswer("compareBalanceWithProxy"));
        };
        if !matches!(answer.error_code, 0 | 1) {
            return Err(SessionError::PeerRefused(answer.error_code));
        }
        watermark.pay(&answer.signed_payment)?;
        watermark.compare(&answer)?;
        if answer.error_code == 1 {
            return self.hand_over(watermark, &answer).await;
        }
        watermark.agree(&answer);
        Ok(())
    }

    /// Gives the proxy what it may have lost, until it has had enough or there is no more, which an empty body says.
    async fn hand_over(&self, watermark: &Watermark, answer: &CompareBalance) -> Result<(), SessionError> {
        let handed = watermark.ours().map(Ours::handover).unwrap_or_default();
        let mut parts = chunks(&handed).map(|chunk| encode_handover(chunk).to_bytes());
        loop {
            let part = parts.next();
            let is_end = part.is_none();
            match self.hand(watermark, part.unwrap_or_default()).await? {
                0 => break,
                1 if !is_end => {}
                code => return Err(SessionError::PeerRefused(code)),
            }
        }
        if let Some(ours) = watermark.ours() {
            tracing::info!(receipts = handed.len(), "receipts were handed to a proxy that had lost its latest");
            ours.handed_over(answer.max_tokens);
        }
        Ok(())
    }

    async fn hand(&self, watermark: &Watermark, other: Bytes) -> Result<i32, SessionError> {
        let (_, told) = watermark.claims();
        let handover = WorkerQuery::ExtendedCompareBalance { tokens_committed_to_db: told.db, other };
        // It verifies each, and may have to look for who pays on the chain.
        let answer = self.outbox.query(handover.encode(), HANDOVER_STEP_TIMEOUT).await?;
        let WorkerAnswer::ExtendedCompareBalance { error_code } = WorkerAnswer::decode(answer)? else {
            return Err(SessionError::PeerAnswer("extendedCompareBalanceWithProxy"));
        };
        Ok(error_code)
    }

    async fn ask(&self, query: &WorkerQuery) -> Result<WorkerAnswer, SessionError> {
        let answer = self.outbox.query(query.encode(), HANDSHAKE_STEP_TIMEOUT).await?;
        Ok(WorkerAnswer::decode(answer)?)
    }
}

/// Cuts a handover into messages.
fn chunks(handed: &[HandedReceipt]) -> impl Iterator<Item = &[HandedReceipt]> {
    let mut rest = handed;
    std::iter::from_fn(move || {
        let mut bytes = 0_usize;
        let fits = rest.iter().take_while(|one| {
            bytes = bytes.saturating_add(one.receipt.len()).saturating_add(one.account_tag.len());
            bytes <= HANDOVER_BYTES_MAX
        });
        // One alone always fits: both its parts are bounded.
        let (chunk, after) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}
