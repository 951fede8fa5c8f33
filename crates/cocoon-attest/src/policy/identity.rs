//! Identity: which peer it is, among all that run the same image. Without it, a client can be diverted to another
//! operator's genuine TEE (attestation.md, section 4.2).

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::file::{Hex, List};
use crate::claims::{Claims, Role};
use crate::refusal::{Check, Refusal, shown};

/// The accepted identities.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityRules {
    /// Payment keys.
    payment_keys: List<Hex<32>>,
    /// Contracts of proxies.
    contracts: List<Address>,
}

/// A raw address, `workchain:hex`, as claims have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address(String);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let well_formed = text.split_once(':').is_some_and(|(workchain, hash)| {
            workchain.parse::<i32>().is_ok() && hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        if well_formed {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(D::Error::custom("a contract is written as its raw address, `0:` and 64 hex digits"))
        }
    }
}

impl IdentityRules {
    /// The peer is one that the policy lists, and the very one that the caller meant to reach.
    pub(crate) fn check(
        &self,
        claims: &Claims,
        payment_key: Option<&[u8; 32]>,
        contract: Option<&str>,
    ) -> Result<(), Refusal> {
        self.check_payment_key(claims, payment_key)?;
        self.check_contract(claims, contract)
    }

    fn check_payment_key(&self, claims: &Claims, expected: Option<&[u8; 32]>) -> Result<(), Refusal> {
        let found = claims.keys.payment;
        let refuse = |expected: String, remedy: &str| {
            Err(Refusal::new(Check::Identity, expected, format!("payment key {}", hex::encode(found)), remedy))
        };
        if let Some(expected) = expected
            && *expected != found
        {
            return refuse(
                format!("payment key {}", hex::encode(expected)),
                "another operator's node answers at this address: check the address, and the record in the root contract",
            );
        }
        if !self.payment_keys.accepts(&Hex(found)) {
            return refuse(
                "a payment key that the policy lists".to_owned(),
                "if that peer is to be trusted, add its key to [identity] payment_keys",
            );
        }
        Ok(())
    }

    fn check_contract(&self, claims: &Claims, expected: Option<&str>) -> Result<(), Refusal> {
        let claimed = claims.contract.as_ref().map(|contract| contract.to_ascii_lowercase());
        let found = || claims.contract.as_deref().map_or_else(|| "no contract".to_owned(), shown);
        if let Some(expected) = expected
            && claimed != Some(expected.to_ascii_lowercase())
        {
            return Err(Refusal::new(
                Check::Identity,
                format!("contract {expected}"),
                found(),
                "another proxy answers at this address: check the address, and the record in the root contract",
            ));
        }
        let accepted = match (&self.contracts, claimed) {
            (List::Any, _) => true,
            (List::Of(list), Some(contract)) => list.contains(&Address(contract)),
            // Only proxies have contracts.
            (List::Of(_), None) => claims.role != Role::Proxy,
        };
        if accepted {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Identity,
            "a contract that the policy lists",
            found(),
            "if that proxy is to be trusted, add its contract to [identity] contracts",
        ))
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        match &self.payment_keys {
            List::Any => say.push(
                "Accepts ANY payment key: whose node it is depends on what the caller expects of the connection."
                    .to_owned(),
            ),
            List::Of(keys) => {
                for key in keys {
                    say.push(format!("Accepts the node with payment key {key}."));
                }
            }
        }
        match &self.contracts {
            List::Any => say.push("Accepts proxies with ANY contract.".to_owned()),
            List::Of(contracts) => {
                for contract in contracts {
                    say.push(format!("Accepts the proxy with contract {}.", contract.0));
                }
            }
        }
    }
}
