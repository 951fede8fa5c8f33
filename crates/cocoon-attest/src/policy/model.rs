//! Model: what a worker serves. Other roles have none.

use serde::Deserialize;

use super::file::{List, Word};
use super::from_root::{Listed, RootSection};
use crate::claims::{Claims, Role};
use crate::refusal::{Check, Refusal, shown};

/// The accepted models.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelRules {
    names: Listed<Word>,
}

impl ModelRules {
    /// Whether the root contract keeps the list.
    pub(super) fn follows_root(&self) -> bool {
        self.names == Listed::ByRoot
    }

    /// A worker's model is accepted, and the expected one where the caller expects one.
    pub(crate) fn check(
        &self,
        claims: &Claims,
        expected: Option<&str>,
        root: Option<&RootSection>,
    ) -> Result<(), Refusal> {
        let found = || claims.model.as_deref().map_or_else(|| "no model".to_owned(), shown);
        if let Some(expected) = expected
            && claims.model.as_deref() != Some(expected)
        {
            return Err(Refusal::new(Check::Model, expected, found(), "reach a worker that serves this model"));
        }
        if claims.role != Role::Worker {
            return Ok(());
        }
        let model = claims.model.as_deref();
        let (accepted, wanted, remedy) = match &self.names {
            Listed::Here(names) => (
                names.is_any() || names.items().iter().any(|name| Some(name.0.as_str()) == model),
                "a model that the policy lists",
                "if that model is to be trusted, add it to [model] names, commit and root hash included",
            ),
            Listed::ByRoot => (
                root.zip(model).is_some_and(|(root, model)| root.lists_model(model)),
                "a model that the root contract lists",
                "the network does not trust that model, or no longer: the worker has to serve one that the root lists",
            ),
        };
        if accepted { Ok(()) } else { Err(Refusal::new(Check::Model, wanted, found(), remedy)) }
    }

    pub(super) fn explain(&self, root: Option<&RootSection>, say: &mut Vec<String>) {
        match &self.names {
            Listed::ByRoot => {
                say.push("Accepts workers with the models that the root contract lists.".to_owned());
                match root {
                    Some(root) => root.explain_models(say),
                    None => say.push("Until the root contract has been read, accepts NO model.".to_owned()),
                }
            }
            Listed::Here(List::Any) => say.push("Accepts workers with ANY model.".to_owned()),
            Listed::Here(List::Of(names)) => {
                for name in names {
                    say.push(format!("Accepts workers with the model {}.", name.0));
                }
            }
        }
    }
}
