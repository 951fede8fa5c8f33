//! A policy in plain sentences, for the operator who has to sign it off. What is loud in them is what to look at first.

use super::file::{Environment, Rules};

pub(super) fn sentences(rules: &Rules) -> Vec<String> {
    let mut say = vec![match rules.environment {
        Environment::Production => format!("{}: a production policy.", rules.name),
        Environment::Development => format!("{}: a DEVELOPMENT policy, not for real prompts or money.", rules.name),
    }];
    if rules.roots.any_simulated() {
        say.push("SIMULATED: what this policy accepts may prove nothing about any machine.".to_owned());
    }
    rules.roots.explain(&mut say);
    rules.link.explain(&mut say);
    rules.image.explain(rules.root.as_ref(), &mut say);
    rules.attributes.explain(&mut say);
    rules.tcb.explain(&mut say);
    rules.platform.explain(&mut say);
    rules.freshness.explain(&mut say);
    rules.role.explain(&mut say);
    rules.model.explain(rules.root.as_ref(), &mut say);
    rules.identity.explain(&mut say);
    rules.gpu.explain(&mut say);
    say
}
