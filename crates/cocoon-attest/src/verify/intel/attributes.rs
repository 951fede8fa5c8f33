//! Attributes under which a TD or enclave keeps no secret from its host. No policy can allow them.
//!
//! The library checks the same after the signatures. Here it is done before: nothing has to be fetched to refuse a
//! debug TD, and what is read can only be used to refuse.
//!
//! Specification: Intel TDX Module ABI, ATTRIBUTES; Intel SGX, ATTRIBUTES.FLAGS.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::evidence::tdx::TdReport;
use crate::refusal::{Check, Refusal};

/// Set: the name says why the TD is not confidential.
const TD_FORBIDDEN: [(u64, &str); 5] = [
    (0x01, "DEBUG: the host reads and writes its memory"),
    (0x70, "profiling: the host observes its execution"),
    (1 << 29, "MIGRATABLE: a migration TD can move it"),
    (1 << 17, "SERVTD_EXT: service TDs can be bound to it"),
    (TD_RESERVED, "reserved bits"),
];

/// Bits 3:1, 15:7, 26:23 and 61:32 must be zero.
const TD_RESERVED: u64 = 0x3fff_ffff_0780_ff8e;

/// Without it the host can make pages vanish under the TD and see what it does.
const TD_SEPT_VE_DISABLE: u64 = 1 << 28;

const ENCLAVE_DEBUG: u64 = 1 << 1;

pub(super) fn check_td(report: &TdReport) -> Result<(), Refusal> {
    let attributes = report.td_attributes;
    for (bits, why) in TD_FORBIDDEN {
        if attributes & bits != 0 {
            return Err(refusal("a TD without it", &format!("{why} (ATTRIBUTES {attributes:#018x})")));
        }
    }
    if attributes & TD_SEPT_VE_DISABLE == 0 {
        return Err(refusal("a TD with SEPT_VE_DISABLE", &format!("ATTRIBUTES {attributes:#018x}")));
    }
    if report.measurements.mr_service_td != [0; 48] {
        return Err(refusal("a TD without service TDs", "a measurement of service TDs"));
    }
    Ok(())
}

pub(super) fn check_enclave(flags: u64) -> Result<(), Refusal> {
    if flags & ENCLAVE_DEBUG == 0 {
        return Ok(());
    }
    Err(refusal("an enclave without DEBUG", &format!("DEBUG (ATTRIBUTES {flags:#018x})")))
}

fn refusal(expected: &str, found: &str) -> Refusal {
    Refusal::new(Check::Attributes, expected, found, "start it in its production configuration")
}

#[cfg(test)]
mod tests {
    use dcap_qvl::quote::TDAttributes;

    use super::*;

    #[test]
    fn reserved_bits_are_those_of_the_library() {
        for bit in 0..64 {
            let attributes = 1_u64 << bit;
            let library = TDAttributes::parse(attributes.to_le_bytes()).unwrap();
            assert_eq!(library.reserved != 0, attributes & TD_RESERVED != 0, "bit {bit}");
        }
    }
}
