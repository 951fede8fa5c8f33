//! Reference values of NVIDIA's firmware and driver, and their comparison with a GPU's measurements.
//!
//! NVIDIA publishes them as signed XML (RIMs), one for a driver and one for a VBIOS, under the ids that
//! [`GpuFacts::rim_ids`] names. Not here: fetching them and checking their signatures, which whoever fills a
//! [`RimStore`] has done before; a store must hold nothing that was not verified.
//!
//! 1. A RIM counts measurements from 0, the GPU's report from 1.
//! 2. A measurement equals any one of the alternatives of its active reference value; inactive ones are not compared.
//! 3. Driver and VBIOS RIM never both have an active value for one index: that is refused, not resolved.
//! 4. Index 35 is skipped where the first video decoder is fused off.
//! 5. It fails closed: a RIM without any active value, and a measurement that is not there, are refused.
//!
//! attestation.md, section 6.3.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::fmt;

use crate::facts::GpuFacts;
use crate::refusal::{Check, Refusal};

/// The measurement of the first video decoder, as RIMs count.
const NVDEC0_INDEX: u8 = 35;

/// Where verified reference values come from.
pub trait RimStore: fmt::Debug + Send + Sync {
    /// The values of a RIM, whose signature was verified; `None` where the store has no such RIM.
    fn reference_values(&self, rim_id: &str) -> Option<ReferenceValues>;
}

/// A store without RIMs.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRims;

impl RimStore for NoRims {
    fn reference_values(&self, _rim_id: &str) -> Option<ReferenceValues> {
        None
    }
}

/// The active values of one RIM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferenceValues {
    /// By index as the RIM counts, from 0: any one of these.
    pub active: BTreeMap<u8, Vec<Vec<u8>>>,
}

/// Compares a GPU's measurements with the reference values of its driver and VBIOS.
///
/// # Errors
/// When a RIM is missing, the two contradict each other, or a measurement has another value.
pub fn compare(facts: &GpuFacts, store: &dyn RimStore) -> Result<(), Refusal> {
    let (driver_id, vbios_id) = &facts.rim_ids;
    let driver = lookup(store, driver_id)?;
    let vbios = lookup(store, vbios_id)?;
    for (index, alternatives) in &driver.active {
        if vbios.active.contains_key(index) {
            return Err(refused(format!("index {index} in one RIM"), format!("in {driver_id} and in {vbios_id}")));
        }
        measured(facts, *index, alternatives, driver_id)?;
    }
    for (index, alternatives) in &vbios.active {
        measured(facts, *index, alternatives, vbios_id)?;
    }
    Ok(())
}

fn lookup(store: &dyn RimStore, id: &str) -> Result<ReferenceValues, Refusal> {
    let values =
        store.reference_values(id).ok_or_else(|| refused(format!("reference values {id}"), "none in the store"))?;
    if values.active.is_empty() {
        return Err(refused(format!("reference values {id} with an active value"), "none active"));
    }
    Ok(values)
}

fn measured(facts: &GpuFacts, index: u8, alternatives: &[Vec<u8>], rim: &str) -> Result<(), Refusal> {
    if index == NVDEC0_INDEX && facts.nvdec0_disabled {
        return Ok(());
    }
    let found = index
        .checked_add(1)
        .and_then(|spdm_index| facts.measurements.iter().find(|(measured, _)| *measured == spdm_index));
    match found {
        Some((_, value)) if alternatives.contains(value) => Ok(()),
        Some((_, value)) => {
            let value = hex::encode(value.get(..48).unwrap_or(value));
            Err(refused(format!("measurement {index} as {rim} has it"), value))
        }
        None => Err(refused(format!("measurement {index}, which {rim} has"), "none in the report")),
    }
}

fn refused(expected: impl Into<String>, found: impl Into<String>) -> Refusal {
    Refusal::new(
        Check::Gpu,
        expected,
        found,
        "install a driver and VBIOS that NVIDIA publishes reference values for, or load those of this version",
    )
}
