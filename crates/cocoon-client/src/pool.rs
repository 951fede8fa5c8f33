//! The proxies of this client, and the choice of one for a request.
//!
//! Of those that serve the model, [`choice`] takes one by price, measured quality and load; [`breaker`] keeps requests from
//! one that keeps failing; [`setback`] says what a failure means. What is known of models may be old, so before a model is
//! called unknown the proxies are asked again.

mod breaker;
mod choice;
mod dice;
mod quality;
mod setback;
mod slot;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use cocoon_units::Coefficient;
use futures_util::future::join_all;
use tokio::time::Instant;

use self::dice::Dice;
pub use self::{breaker::BreakerState, slot::ProxyStatus};
pub(crate) use self::{
    breaker::Fault,
    quality::Kind,
    setback::Setback,
    slot::{ProxySlot, ProxyState},
};
use crate::{
    attestations::Record,
    error::RequestError,
    models::{ModelLoad, Served},
    session::link::Link,
};

/// All proxies of the moment.
#[derive(Debug)]
pub(crate) struct Pool {
    /// In the order of their numbers; replaced as a whole, so that a request looks at one list.
    proxies: RwLock<Arc<[Arc<ProxySlot>]>>,
    dice: Dice,
}

/// What one request asks of a proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) kind: &'a Kind,
    /// The dearest worker that it accepts.
    pub(crate) cap: Coefficient,
    /// Sessions that had their chance.
    pub(crate) tried: &'a [Arc<Link>],
}

impl Wish<'_> {
    pub(crate) fn model(&self) -> &str {
        &self.kind.model
    }

    fn was_tried(&self, link: &Arc<Link>) -> bool {
        self.tried.iter().any(|tried| Arc::ptr_eq(tried, link))
    }
}

/// A proxy that was chosen, and its session.
#[derive(Clone, Debug)]
pub(crate) struct Picked {
    pub(crate) proxy: Arc<ProxySlot>,
    pub(crate) link: Arc<Link>,
}

/// Where a request can go.
enum Choice {
    Proxy(Picked),
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
    /// The proxies of these numbers; equal choices follow from the seed.
    pub(crate) fn new(numbers: &[u32], seed: u64) -> Self {
        let dice = Dice::new(seed);
        let proxies = numbers.iter().map(|number| Arc::new(ProxySlot::new(*number, dice.roll()))).collect();
        Self { proxies: RwLock::new(proxies), dice }
    }

    fn proxies(&self) -> Arc<[Arc<ProxySlot>]> {
        // The list is replaced in one assignment, so it is whole even after a panic.
        Arc::clone(&self.proxies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The place of a proxy, which is made if there is none.
    pub(crate) fn open(&self, number: u32) -> Arc<ProxySlot> {
        let mut proxies = self.proxies.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = proxies.iter().find(|proxy| proxy.number() == number) {
            return Arc::clone(known);
        }
        let new = Arc::new(ProxySlot::new(number, self.dice.roll()));
        let mut all: Vec<_> = proxies.iter().chain([&new]).map(Arc::clone).collect();
        all.sort_unstable_by_key(|proxy| proxy.number());
        *proxies = all.into();
        new
    }

    /// Takes no more requests to a proxy; those it has run on.
    pub(crate) fn remove(&self, number: u32) {
        let mut proxies = self.proxies.write().unwrap_or_else(PoisonError::into_inner);
        *proxies = proxies.iter().filter(|proxy| proxy.number() != number).map(Arc::clone).collect();
    }

    /// The proxy for a request.
    pub(crate) async fn pick(&self, wish: &Wish<'_>) -> Result<Picked, RequestError> {
        if let Choice::Unserved(links) = self.choose(wish, Untold::Asked) {
            join_all(links.iter().map(|link| link.refresh_models())).await;
        }
        match self.choose(wish, Untold::Trusted) {
            Choice::Proxy(picked) => {
                picked.proxy.chosen(Instant::now());
                Ok(picked)
            }
            Choice::Unserved(links) => Err(self.unserved(wish.model(), &links)),
            Choice::NoneReady => Err(self.none_ready()),
        }
    }

    /// Whether a request could go to another proxy, one that nothing speaks against.
    pub(crate) fn has_other(&self, wish: &Wish<'_>) -> bool {
        let now = Instant::now();
        let candidates = self.serving(wish, Untold::Asked).0;
        candidates.iter().any(|picked| picked.proxy.candidate(&picked.link, wish, now).is_fit())
    }

    /// Whether there is no more than one proxy, so that a request that fails there has nowhere to go.
    pub(crate) fn is_alone(&self) -> bool {
        self.proxies().len() <= 1
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
        self.sessions().map(|picked| picked.link)
    }

    /// The proxies that take requests.
    fn sessions(&self) -> impl Iterator<Item = Picked> + use<> {
        let proxies = self.proxies();
        (0..proxies.len()).filter_map(move |place| {
            let proxy = proxies.get(place)?;
            proxy.link().map(|link| Picked { proxy: Arc::clone(proxy), link })
        })
    }

    /// Those that serve a model, and the others.
    fn serving(&self, wish: &Wish<'_>, untold: Untold) -> (Vec<Picked>, Vec<Arc<Link>>) {
        let (mut serving, mut others) = (Vec::new(), Vec::new());
        for picked in self.sessions().filter(|picked| !wish.was_tried(&picked.link)) {
            let serves = match &*picked.link.models() {
                Some(models) => models.served(wish.model()) == Served::Now,
                None => untold == Untold::Trusted,
            };
            if serves {
                serving.push(picked);
            } else {
                others.push(picked.link);
            }
        }
        (serving, others)
    }

    fn choose(&self, wish: &Wish<'_>, untold: Untold) -> Choice {
        let (mut serving, others) = self.serving(wish, untold);
        let now = Instant::now();
        let candidates: Vec<_> = serving.iter().map(|picked| picked.proxy.candidate(&picked.link, wish, now)).collect();
        match choice::choose(&candidates, self.dice.roll()) {
            Some(place) => Choice::Proxy(serving.swap_remove(place)),
            None if others.is_empty() => Choice::NoneReady,
            None => Choice::Unserved(others),
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
            [proxy] => format!("the proxy is not ready: {}", proxy.words()).into(),
            proxies => {
                let first = proxies.iter().find(|proxy| proxy.has_failed()).unwrap_or(&proxies[0]);
                format!("none of {} proxies is ready; of one, {}", proxies.len(), first.words()).into()
            }
        };
        RequestError::NoProxy(words)
    }
}
