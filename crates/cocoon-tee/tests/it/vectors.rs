//! Real collateral from the shared vectors, and variants of it. Nothing here verifies signatures, so variants do.

use std::path::PathBuf;

use cocoon_attest::collateral::{CollateralNeed, IntelTee, PckCa, TdxCollateral};

/// While the recorded collateral holds.
pub(crate) const NOW: u64 = 1_751_624_655;

/// The shared vectors.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("COCOON_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"), PathBuf::from)
}

/// Recorded collateral of a TDX platform.
pub(crate) fn tdx() -> TdxCollateral {
    let text = std::fs::read(folder().join("tdx/dcap-qvl/tdx_quote_collateral.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// What it is for.
pub(crate) fn tdx_need() -> CollateralNeed {
    need(0xb0c0_6f00_0000)
}

/// The need of another platform of the same kind.
pub(crate) fn need(fmspc: u64) -> CollateralNeed {
    let [_, _, fmspc @ ..] = fmspc.to_be_bytes();
    CollateralNeed::Intel { fmspc, ca: PckCa::Platform, tee: IntelTee::Tdx }
}

/// The same collateral with other dates and numbers.
pub(crate) fn edition(evaluation: u32, issued: &str, expires: &str) -> TdxCollateral {
    let mut collateral = tdx();
    for text in [&mut collateral.tcb_info, &mut collateral.qe_identity] {
        let mut json: serde_json::Value = serde_json::from_str(text).unwrap();
        json["tcbEvaluationDataNumber"] = evaluation.into();
        json["issueDate"] = issued.into();
        json["nextUpdate"] = expires.into();
        *text = json.to_string();
    }
    collateral
}
