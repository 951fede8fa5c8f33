//! The proxies of this client, and the choice of one for a request.
//!
//! A proxy that serves the model and has the fewest of our requests in flight is taken. What is
//! known of models may be old, so before a model is called unknown the proxies are asked again.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::join_all;
use serde::Serialize;

use crate::{
    attestations::Record,
    error::RequestError,
    models::{ModelLoad, Models, Served},
    session::{ConnectFailure, link::Link},
};

/// All proxies of the moment.
#[derive(Debug)]
pub(crate) struct Pool {
    /// In the order of their numbers; replaced as a whole, so that a request looks at one list.
    proxies: RwLock<Arc<[Arc<ProxySlot>]>>,
}

/// One proxy.
#[derive(Debug)]
pub(crate) struct ProxySlot {
    number: u32,
    state: Mutex<ProxyState>,
    /// What it served when its last session ended: that comes back, most likely.
    served: Mutex<Option<Arc<Models>>>,
    violations: AtomicU64,
}

/// How the session with a proxy stands.
#[derive(Clone, Debug)]
pub(crate) enum ProxyState {
    /// Being dialled, or shaking hands.
    Connecting,
    /// Takes requests.
    Ready(Arc<Link>),
    /// There was a session; the next one is on its way.
    Lost,
    /// The last attempt failed, and the next one waits for its time.
    Failed(Cow<'static, str>),
}

/// One proxy in the status; its address is the owner's to know, and stays out.
#[derive(Clone, Debug, Serialize)]
pub struct ProxyStatus {
    /// Whether it takes requests.
    pub ready: bool,
    /// How the session stands, in a few words.
    pub state: String,
    /// The protocol version of the session.
    pub version: Option<i32>,
    /// Requests that wait for the rest of their answer.
    pub requests_in_flight: usize,
    /// Connections closed because it broke the protocol.
    pub violations: u64,
    /// The id of what was verified of it, as in `/v1/attestation`; none on a link without attestation.
    pub attestation: Option<String>,
    /// Whose word that rests on: `vendor`, or `simulated`, which proves nothing about any machine.
    pub provenance: Option<String>,
}

/// Where a request can go.
enum Choice {
    Proxy(Arc<Link>),
    /// These proxies are ready, and none serves the model.
    Unserved(Vec<Arc<Link>>),
    NoneReady,
}

/// What a proxy that has not told its models yet is taken for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Untold {
    /// It is asked first: one that has just started, with its workers still on their way to it, would call every
    /// model unknown, for good.
    Asked,
    /// It did not answer that, and may well serve the model; it will say.
    Trusted,
}

impl Pool {
    pub(crate) fn new(numbers: &[u32]) -> Self {
        Self { proxies: RwLock::new(numbers.iter().map(|number| Arc::new(ProxySlot::new(*number))).collect()) }
    }

    fn proxies(&self) -> Arc<[Arc<ProxySlot>]> {
        // The list is replaced in one assignment, so it is whole even after a panic.
        Arc::clone(&self.proxies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The place of a proxy, which is made if there is none.
    pub(crate) fn open(&self, number: u32) -> Arc<ProxySlot> {
        let mut proxies = self.proxies.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = proxies.iter().find(|proxy| proxy.number == number) {
            return Arc::clone(known);
        }
        let new = Arc::new(ProxySlot::new(number));
        let mut all: Vec<_> = proxies.iter().chain([&new]).map(Arc::clone).collect();
        all.sort_unstable_by_key(|proxy| proxy.number);
        *proxies = all.into();
        new
    }

    /// Takes no more requests to a proxy; those it has run on.
    pub(crate) fn remove(&self, number: u32) {
        let mut proxies = self.proxies.write().unwrap_or_else(PoisonError::into_inner);
        *proxies = proxies.iter().filter(|proxy| proxy.number != number).map(Arc::clone).collect();
    }

    /// The proxy for a request.
    pub(crate) async fn pick(&self, model: &str) -> Result<Arc<Link>, RequestError> {
        if let Choice::Unserved(links) = self.choose(model, Untold::Asked)? {
            join_all(links.iter().map(|link| link.refresh_models())).await;
        }
        match self.choose(model, Untold::Trusted)? {
            Choice::Proxy(link) => Ok(link),
            Choice::Unserved(links) => Err(self.unserved(model, &links)),
            Choice::NoneReady => Err(self.none_ready()),
        }
    }

    /// Everything that can be asked for, with the workers of all proxies.
    pub(crate) fn models(&self) -> BTreeMap<String, ModelLoad> {
        let mut all: BTreeMap<String, ModelLoad> = BTreeMap::new();
        for link in self.ready() {
            let models = link.models().clone();
            for (name, load) in models.iter().flat_map(|models| models.iter()) {
                all.entry(name.clone()).and_modify(|sum| *sum = sum.and(*load)).or_insert(*load);
            }
        }
        all
    }

    /// The same, unless there is no proxy to say so.
    pub(crate) fn offered_models(&self) -> Result<BTreeMap<String, ModelLoad>, RequestError> {
        if self.ready().next().is_none() {
            return Err(self.none_ready());
        }
        Ok(self.models())
    }

    /// Asks the proxies again, those aside that were asked a moment ago.
    pub(crate) async fn refresh(&self) {
        let links: Vec<_> = self.ready().collect();
        join_all(links.iter().map(|link| link.refresh_models())).await;
    }

    pub(crate) fn status(&self) -> Vec<ProxyStatus> {
        self.proxies().iter().map(|proxy| proxy.status()).collect()
    }

    /// What was verified of each proxy with a session, in the order of the configuration.
    pub(crate) fn attestations(&self) -> Vec<Arc<Record>> {
        self.ready().filter_map(|link| link.attestation()).collect()
    }

    fn ready(&self) -> impl Iterator<Item = Arc<Link>> + use<> {
        let proxies = self.proxies();
        (0..proxies.len()).filter_map(move |place| proxies.get(place).and_then(|proxy| proxy.link()))
    }

    /// Fails only when there is no proxy to ask.
    fn choose(&self, model: &str, untold: Untold) -> Result<Choice, RequestError> {
        let mut best: Option<Arc<Link>> = None;
        let mut ready = Vec::new();
        for link in self.ready() {
            let serves = match &*link.models() {
                Some(models) => models.served(model) == Served::Now,
                None => untold == Untold::Trusted,
            };
            if !serves {
                ready.push(link);
            } else if best.as_ref().is_none_or(|best| link.in_flight() < best.in_flight()) {
                best = Some(link);
            }
        }
        match best {
            Some(link) => Ok(Choice::Proxy(link)),
            None if ready.is_empty() => Ok(Choice::NoneReady),
            None => Ok(Choice::Unserved(ready)),
        }
    }

    /// Whether a model that nobody serves is unknown, or only without a worker or proxy for now.
    fn unserved(&self, model: &str, links: &[Arc<Link>]) -> RequestError {
        let lists = || links.iter().filter_map(|link| link.models().clone());
        let was_served = lists().any(|models| models.served(model) == Served::Before)
            || self.proxies().iter().any(|proxy| proxy.has_served(model));
        // Without any worker nobody can say which models there are.
        if was_served || lists().all(|models| models.is_empty()) {
            return RequestError::NoWorker;
        }
        RequestError::UnknownModel { model: model.to_owned() }
    }

    fn none_ready(&self) -> RequestError {
        let proxies = self.proxies();
        let words = match &*proxies {
            [] => Cow::Borrowed("no proxy is configured, or registered in the root contract"),
            [proxy] => format!("the proxy is not ready: {}", proxy.lock().words()).into(),
            proxies => {
                let first =
                    proxies.iter().find(|proxy| matches!(*proxy.lock(), ProxyState::Failed(_))).unwrap_or(&proxies[0]);
                format!("none of {} proxies is ready; of one, {}", proxies.len(), first.lock().words()).into()
            }
        };
        RequestError::NoProxy(words)
    }
}

impl ProxySlot {
    fn new(number: u32) -> Self {
        Self {
            number,
            state: Mutex::new(ProxyState::Connecting),
            served: Mutex::default(),
            violations: AtomicU64::new(0),
        }
    }

    /// Its place in the configuration, or its number in the root's registry: its name in logs.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn set(&self, state: ProxyState) {
        *self.lock() = state;
    }

    /// The session is over; what it served is remembered.
    pub(crate) fn set_lost(&self, link: &Link) {
        let models = link.models().clone();
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = models;
        self.set(ProxyState::Lost);
    }

    fn has_served(&self, model: &str) -> bool {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.as_ref().is_some_and(|models| models.served(model) != Served::Never)
    }

    pub(crate) fn set_failed(&self, failure: &ConnectFailure) {
        if failure.is_violation {
            self.count_violation();
        }
        self.set(ProxyState::Failed(failure.summary.clone()));
    }

    pub(crate) fn count_violation(&self) {
        self.violations.fetch_add(1, Ordering::Relaxed);
    }

    fn link(&self) -> Option<Arc<Link>> {
        match &*self.lock() {
            ProxyState::Ready(link) => (!link.is_leaving()).then(|| Arc::clone(link)),
            ProxyState::Connecting | ProxyState::Lost | ProxyState::Failed(_) => None,
        }
    }

    fn status(&self) -> ProxyStatus {
        let link = self.link();
        let attestation = link.as_ref().and_then(|link| link.attestation());
        ProxyStatus {
            ready: link.is_some(),
            state: self.lock().words().to_owned(),
            version: link.as_ref().map(|link| link.version().number()),
            requests_in_flight: link.as_ref().map_or(0, |link| link.in_flight()),
            violations: self.violations.load(Ordering::Relaxed),
            attestation: attestation.as_ref().map(|record| record.id().to_owned()),
            provenance: attestation.as_ref().map(|record| record.provenance()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProxyState> {
        // The state is replaced in one assignment, so it is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProxyState {
    fn words(&self) -> &str {
        match self {
            Self::Connecting => "it is being connected to",
            Self::Ready(link) if link.is_leaving() => "this client's contract with it is being closed",
            Self::Ready(_) => "it is ready",
            Self::Lost => "the connection was lost and is being made again",
            Self::Failed(why) => why,
        }
    }
}
