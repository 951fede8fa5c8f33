//! One request as it is paid for: from before it is sent until its end is heard.
//!
//! 1. [`Bill::open`] takes the hold for the most that the request can cost, and draws the receipt's id and salt.
//! 2. The bill travels with the request: the session keeps it beside the request's id, the app's side beside the answer.
//! 3. Whoever hears the end says so: the app's side of a request that it sees to its end ([`Bill::completed`],
//!    [`Bill::heard`]), else the session, when the end comes after all ([`Bill::heard`]). The first word counts.
//! 4. A bill that is dropped unheard leaves its hold open: it counts in full until the proxy was asked.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use cocoon_units::{AdjustedTokens, NanoPerToken, Pricing};
use cocoon_wire::{
    Version,
    message::{FinalInfo, ReceiptAsk, TokensUsed},
    usage::Cost,
};
use tokio::task::spawn_blocking;

use super::{
    Receipts,
    check::{Asked, request_hmac},
};
use crate::{
    Shared,
    budget::{Hold, Order},
    error::RequestError,
    limits,
    request::InferenceRequest,
    session::link::Link,
};

/// A request that is paid for.
pub(crate) struct Bill {
    pub(super) receipts: Arc<Receipts>,
    /// None where no receipt is asked for: the proxy is an original one, or the owner does not want any.
    pub(super) asked: Option<Arc<Asked>>,
    pub(super) key: Option<Arc<str>>,
    pricing: Pricing,
    /// Whether a price is known: without one nothing is said about cost.
    is_priced: bool,
    /// To ask for the worker's evidence. Weak: the session keeps the bill.
    pub(super) link: Weak<Link>,
    /// Whether workers on the other side must have evidence, since the proxy has.
    pub(super) is_attested: bool,
    hold: Mutex<Option<Hold>>,
}

impl Bill {
    /// Holds what the request can cost at most.
    ///
    /// # Errors
    ///
    /// When a limit of the owner or of the API key is reached, or the books cannot be written.
    pub(crate) async fn open(
        shared: &Shared,
        link: &Arc<Link>,
        request: &InferenceRequest,
        key: Option<Arc<str>>,
    ) -> Result<Arc<Self>, RequestError> {
        let pricing = link.pricing();
        let ask = draw()?;
        let wants_receipt = link.version() == Version::Extended && shared.config.budget.receipts;
        let most = request.most_tokens(&pricing).ok_or(RequestError::TooDear)?;
        let asked = if wants_receipt { Some(asked(shared, link, request, ask, (pricing, most)).await) } else { None };
        // From here on nothing waits: a hold that is taken is sent with, or given back.
        let hold = shared.budget.hold(&Order {
            contract: link.client_contract(),
            key: key.as_deref(),
            model: &request.model,
            id: ask.id,
            is_by_word: !wants_receipt,
            most,
            pricing,
            coefficient: request.max_coefficient,
        })?;
        if let Some(asked) = &asked {
            shared.receipts.note(Arc::clone(asked), key.clone());
        }
        Ok(Arc::new(Self {
            receipts: Arc::clone(&shared.receipts),
            asked,
            key,
            pricing,
            is_priced: shared.terms.is_some() || pricing.price > NanoPerToken::default(),
            link: Arc::downgrade(link),
            is_attested: link.attestation().is_some(),
            hold: Mutex::new(Some(hold)),
        }))
    }

    /// What the request carries.
    pub(crate) fn ask(&self) -> Option<ReceiptAsk> {
        self.asked.as_ref().map(|asked| asked.ask)
    }

    /// The request never left.
    pub(crate) fn never_sent(&self) {
        if let Some(hold) = self.take() {
            hold.nothing();
            self.forget();
        }
    }

    /// The end of a request of which a part of the answer may not have come.
    pub(crate) fn heard(&self, info: &FinalInfo) {
        self.end(info, None);
    }

    /// The end of a request whose whole answer came, with its digest.
    pub(crate) fn completed(&self, info: &FinalInfo, answer_hmac: Option<[u8; 32]>) {
        self.end(info, answer_hmac);
    }

    /// What a token costs, where that is known.
    pub(crate) fn price(&self) -> Option<NanoPerToken> {
        self.is_priced.then_some(self.pricing.price)
    }

    /// What the answer costs, where a price is known.
    pub(crate) fn cost(&self, tokens: &TokensUsed) -> Option<Cost> {
        Cost::of(tokens, self.price()?)
    }

    fn end(&self, info: &FinalInfo, answer_hmac: Option<[u8; 32]>) {
        if let Some(hold) = self.take() {
            self.receipts.end(self, hold, info, answer_hmac);
        }
    }

    fn forget(&self) {
        if let Some(asked) = &self.asked {
            self.receipts.forget(&asked.ask.id);
        }
    }

    fn take(&self) -> Option<Hold> {
        // Taken in one step, so it is whole even after a panic.
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bill").field("asked", &self.asked.is_some()).finish_non_exhaustive()
    }
}

async fn asked(
    shared: &Shared,
    link: &Link,
    request: &InferenceRequest,
    ask: ReceiptAsk,
    (pricing, most): (Pricing, AdjustedTokens),
) -> Arc<Asked> {
    Arc::new(Asked {
        ask,
        proxy: link.proxy_name().to_owned(),
        model: Arc::clone(&request.model),
        max_coefficient: request.max_coefficient,
        pricing,
        most,
        request_hmac: digest(ask.salt, request.body()).await,
        at_unix_ms: shared.clock.unix_now().as_millis(),
    })
}

/// Of a small body at once; of a large one beside the event loop, where it would keep tokens of others waiting.
async fn digest(salt: [u8; 32], body: &Bytes) -> [u8; 32] {
    if body.len() <= limits::DIGEST_INLINE_BYTES {
        return request_hmac(&salt, body);
    }
    let copy = body.clone();
    match spawn_blocking(move || request_hmac(&salt, &copy)).await {
        Ok(digest) => digest,
        Err(_) => request_hmac(&salt, body), // The runtime shuts down; the request will not get far.
    }
}

/// An id and a salt from the operating system: an id that repeats pays for one request twice, and a salt that can be
/// guessed lets others try prompts against the receipt.
fn draw() -> Result<ReceiptAsk, RequestError> {
    let (mut id, mut salt) = ([0; 32], [0; 32]);
    getrandom::fill(&mut id).and_then(|()| getrandom::fill(&mut salt)).map_err(|_| RequestError::NoRandomness)?;
    Ok(ReceiptAsk { id, salt })
}
