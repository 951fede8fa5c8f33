//! Which models one proxy serves, as it last said.

use std::collections::BTreeMap;

use cocoon_units::Coefficient;
use cocoon_wire::message::{WorkerInstance, WorkerType, WorkerTypeSummary};
use tokio::time::Instant;

use crate::limits;

/// One proxy's list.
#[derive(Clone, Debug)]
pub(crate) struct Models {
    /// When the proxy said so.
    pub(crate) told_at: Instant,
    served: BTreeMap<String, ModelLoad>,
    /// Models that were served before on this connection: their workers may come back.
    gone: Vec<String>,
}

/// The workers of one model, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModelLoad {
    pub(crate) workers: u32,
    pub(crate) coefficient_min: Coefficient,
    pub(crate) coefficient_max: Coefficient,
    pub(crate) active: u64,
    pub(crate) slots: u64,
}

/// What a proxy's list says about one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Served {
    /// It never was on the list.
    Never,
    /// It was, but has no worker now.
    Before,
    /// Workers serve it.
    Now,
}

impl Models {
    pub(crate) fn new(told_at: Instant, types: Vec<WorkerType>, before: Option<&Self>) -> Self {
        let served = types
            .into_iter()
            .take(limits::MODELS_PER_PROXY)
            .filter_map(|kind| Some((kind.name, ModelLoad::sum(&kind.workers)?)))
            .collect();
        Self::following(told_at, served, before)
    }

    /// From the older query, which knows no load.
    pub(crate) fn from_summaries(told_at: Instant, types: Vec<WorkerTypeSummary>, before: Option<&Self>) -> Self {
        let served = types
            .into_iter()
            .take(limits::MODELS_PER_PROXY)
            .filter(|kind| kind.active_workers > 0)
            .map(|kind| (kind.name.clone(), ModelLoad::from_summary(&kind)))
            .collect();
        Self::following(told_at, served, before)
    }

    fn following(told_at: Instant, served: BTreeMap<String, ModelLoad>, before: Option<&Self>) -> Self {
        let mut gone: Vec<String> = Vec::new();
        if let Some(before) = before {
            let names = before.served.keys().chain(&before.gone);
            gone.extend(names.filter(|name| !served.contains_key(*name)).take(limits::MODELS_PER_PROXY).cloned());
        }
        Self { told_at, served, gone }
    }

    /// The same list after word that a model has no worker, which a list is too slow to say.
    pub(crate) fn without(&self, model: &str) -> Self {
        let mut served = self.served.clone();
        served.remove(model);
        Self::following(self.told_at, served, Some(self))
    }

    pub(crate) fn served(&self, model: &str) -> Served {
        if self.served.contains_key(model) {
            Served::Now
        } else if self.gone.iter().any(|gone| gone == model) {
            Served::Before
        } else {
            Served::Never
        }
    }

    /// The workers of a model, as they were told.
    pub(crate) fn load(&self, model: &str) -> Option<ModelLoad> {
        self.served.get(model).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.served.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &ModelLoad)> {
        self.served.iter()
    }
}

impl ModelLoad {
    fn sum(workers: &[WorkerInstance]) -> Option<Self> {
        workers.iter().map(Self::from_worker).reduce(Self::and)
    }

    fn from_worker(worker: &WorkerInstance) -> Self {
        Self {
            workers: 1,
            coefficient_min: worker.coefficient,
            coefficient_max: worker.coefficient,
            active: worker.active_requests.into(),
            slots: worker.max_active_requests.into(),
        }
    }

    fn from_summary(summary: &WorkerTypeSummary) -> Self {
        Self {
            workers: summary.active_workers,
            coefficient_min: summary.coefficient_min,
            coefficient_max: summary.coefficient_max,
            active: 0,
            slots: 0,
        }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            workers: self.workers.saturating_add(other.workers),
            coefficient_min: self.coefficient_min.min(other.coefficient_min),
            coefficient_max: self.coefficient_max.max(other.coefficient_max),
            active: self.active.saturating_add(other.active),
            slots: self.slots.saturating_add(other.slots),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str], before: Option<&Models>) -> Models {
        let worker = WorkerInstance { coefficient: Coefficient::ONE, active_requests: 1, max_active_requests: 4 };
        let types =
            names.iter().map(|name| WorkerType { name: (*name).to_owned(), workers: vec![worker; 2] }).collect();
        Models::new(Instant::now(), types, before)
    }

    #[tokio::test]
    async fn a_model_whose_workers_left_is_remembered() {
        let first = list(&["a", "b"], None);
        let second = list(&["b"], Some(&first));
        let third = list(&["b", "c"], Some(&second));
        assert_eq!(first.served("a"), Served::Now);
        assert_eq!(third.served("a"), Served::Before);
        assert_eq!(third.served("x"), Served::Never);
        assert_eq!(list(&["a"], Some(&third)).served("a"), Served::Now);
        assert_eq!(second.without("b").served("b"), Served::Before);
        let load = third.iter().next().unwrap().1;
        assert_eq!((load.workers, load.active, load.slots), (2, 2, 8));
    }
}
