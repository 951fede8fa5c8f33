//! Role: what the peer does. A worker's key must not pass for a proxy's, and the other way round.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::file::List;
use crate::claims::Role;
use crate::refusal::{Check, Refusal};

/// The accepted roles.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleRules {
    accept: List<AttestedRole>,
}

/// A role that shows evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AttestedRole(Role);

impl<'de> Deserialize<'de> for AttestedRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Role::from_name(&String::deserialize(deserializer)?) {
            Some(Role::Client) => Err(D::Error::custom("a client shows no evidence: write \"proxy\" or \"worker\"")),
            Some(role) => Ok(Self(role)),
            None => Err(D::Error::custom("no such role: write \"proxy\" or \"worker\"")),
        }
    }
}

impl RoleRules {
    /// The role that is attested, the one on the connection and the one that was expected are the same, and accepted.
    pub(crate) fn check(&self, claimed: Role, connection: Role, expected: Option<Role>) -> Result<(), Refusal> {
        let wanted = expected.unwrap_or(connection);
        if claimed != wanted || connection != wanted {
            let found = if claimed == wanted { connection } else { claimed };
            return Err(Refusal::new(
                Check::Role,
                wanted.name(),
                found.name(),
                "check the address: another kind of node answers there",
            ));
        }
        if self.accept.accepts(&AttestedRole(claimed)) {
            return Ok(());
        }
        let names: Vec<_> = self.accept.items().iter().map(|role| role.0.name()).collect();
        Err(Refusal::new(
            Check::Role,
            format!("one of the roles that the policy accepts: {}", names.join(", ")),
            claimed.name(),
            "add the role to [role] accept",
        ))
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        say.push(match &self.accept {
            List::Any => "Accepts ANY role that shows evidence: proxies and workers.".to_owned(),
            List::Of(roles) => {
                let names: Vec<_> = roles.iter().map(|role| role.0.name()).collect();
                format!("Accepts these roles: {}.", names.join(", "))
            }
        });
    }
}
