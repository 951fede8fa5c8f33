//! GPU: evidence of the graphics processors, fresh for this connection.
//!
//! No vendor binds a GPU to a VM: what is proved is that a genuine GPU answered this connection's nonce, and that the
//! image, which is attested, says that it asked its own (attestation.md, section 6.3).

use serde::Deserialize;

use super::file::Contradiction;
use super::root::RootRules;
use crate::facts::{CcMode, GpuFacts};
use crate::refusal::{Check, Refusal};

/// What is asked of GPUs.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GpuRules {
    /// A peer without GPU evidence is refused.
    pub(crate) required: bool,
    cc_mode: CcModeRule,
    reference_values: ReferenceRule,
}

/// Which modes are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CcModeRule {
    /// The report must say that confidential computing is on.
    On,
    /// Where the report says anything, it must say so. Hopper reports are silent; a GPU makes them only in that mode.
    OnIfStated,
    /// Not looked at.
    Any,
}

/// Whether measurements are compared with the vendor's reference values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReferenceRule {
    /// There must be some, and they must match.
    Required,
    /// They must match where there are some.
    Optional,
}

impl GpuRules {
    pub(super) fn consistent(&self, roots: &RootRules) -> Result<(), Contradiction> {
        if self.required && roots.gpu.is_empty() {
            return Err(Contradiction::new(
                "gpu",
                "required",
                "GPU evidence is required, but [roots] has no gpu",
                "add `gpu = [\"nvidia\"]` to [roots]",
            ));
        }
        Ok(())
    }

    /// There is GPU evidence where it is required.
    pub(crate) fn check_present(&self, count: usize) -> Result<(), Refusal> {
        if count > 0 || !self.required {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Gpu,
            "evidence of at least one GPU",
            "none",
            "the peer needs a GPU in confidential computing mode, and its driver",
        ))
    }

    /// The report answers this connection's nonce.
    pub(crate) fn check_nonce(&self, facts: &GpuFacts, nonce: &[u8; 32]) -> Result<(), Refusal> {
        if facts.nonce == *nonce {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Gpu,
            format!("a report for the nonce {}", hex::encode(nonce)),
            hex::encode(facts.nonce),
            "the report was made for another connection: the peer has to ask its GPU anew",
        ))
    }

    /// The mode is accepted.
    pub(crate) fn check_mode(&self, facts: &GpuFacts) -> Result<(), Refusal> {
        let accepted = match (self.cc_mode, facts.cc_mode) {
            (CcModeRule::Any, _)
            | (CcModeRule::On | CcModeRule::OnIfStated, Some(CcMode::On))
            | (CcModeRule::OnIfStated, None) => true,
            (CcModeRule::On | CcModeRule::OnIfStated, Some(CcMode::DevTools | CcMode::Off))
            | (CcModeRule::On, None) => false,
        };
        if accepted {
            return Ok(());
        }
        let found = match facts.cc_mode {
            Some(CcMode::On) => "on",
            Some(CcMode::DevTools) => "development mode, in which the host can debug the GPU",
            Some(CcMode::Off) => "off",
            None => "not stated in the report",
        };
        Err(Refusal::new(
            Check::Gpu,
            "a GPU in confidential computing mode",
            found,
            "set the GPU's mode to on; where its reports do not state it, write cc_mode = \"on-if-stated\" in [gpu]",
        ))
    }

    /// Reference values were compared, where the policy insists.
    pub(crate) fn check_reference_values(&self, compared: bool, facts: &GpuFacts) -> Result<(), Refusal> {
        if compared || self.reference_values == ReferenceRule::Optional {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Gpu,
            "reference values for the GPU's driver and VBIOS",
            format!("none for {} and {}", facts.rim_ids.0, facts.rim_ids.1),
            "load the vendor's reference values, or write reference_values = \"optional\" in [gpu]",
        ))
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        say.push(if self.required {
            "Requires GPU evidence, fresh for the connection.".to_owned()
        } else {
            "Does not ask for GPU evidence: a peer may compute on an unprotected GPU.".to_owned()
        });
        say.push(match self.cc_mode {
            CcModeRule::On => "Accepts GPUs whose report says that confidential computing is on.".to_owned(),
            CcModeRule::OnIfStated => {
                "Accepts GPUs in confidential computing mode; where a report does not state the mode, its existence \
                 counts as such."
                    .to_owned()
            }
            CcModeRule::Any => "Accepts GPUs in ANY mode, development mode included.".to_owned(),
        });
        say.push(match self.reference_values {
            ReferenceRule::Required => "Requires the vendor's reference values to match.".to_owned(),
            ReferenceRule::Optional => {
                "Compares GPU measurements with the vendor's reference values only where it has them.".to_owned()
            }
        });
    }
}
