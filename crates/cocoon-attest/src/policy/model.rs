//! Model: what a worker serves. Other roles have none.

use serde::Deserialize;

use super::file::{List, Word};
use crate::claims::{Claims, Role};
use crate::refusal::{Check, Refusal, shown};

/// The accepted models.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelRules {
    names: List<Word>,
}

impl ModelRules {
    /// A worker's model is accepted, and the expected one where the caller expects one.
    pub(crate) fn check(&self, claims: &Claims, expected: Option<&str>) -> Result<(), Refusal> {
        let found = || claims.model.as_deref().map_or_else(|| "no model".to_owned(), shown);
        if let Some(expected) = expected
            && claims.model.as_deref() != Some(expected)
        {
            return Err(Refusal::new(Check::Model, expected, found(), "reach a worker that serves this model"));
        }
        if claims.role != Role::Worker {
            return Ok(());
        }
        let accepted = match (&self.names, &claims.model) {
            (List::Any, _) => true,
            (List::Of(names), Some(model)) => names.iter().any(|name| name.0 == *model),
            (List::Of(_), None) => false,
        };
        if accepted {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Model,
            "a model that the policy lists",
            found(),
            "if that model is to be trusted, add it to [model] names, commit and root hash included",
        ))
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        match &self.names {
            List::Any => say.push("Accepts workers with ANY model.".to_owned()),
            List::Of(names) => {
                for name in names {
                    say.push(format!("Accepts workers with the model {}.", name.0));
                }
            }
        }
    }
}
