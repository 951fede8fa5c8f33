//! Collateral from a folder.

use cocoon_attest::{Collateral, CollateralSource as _};
use cocoon_tee::OfflineCollateral;

use crate::vectors::{NOW, edition, folder, need, tdx, tdx_need};

#[tokio::test]
async fn recorded_collateral_of_other_tools_is_found_by_what_it_is_about() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["tdx_quote_collateral.json", "sgx_quote_collateral.json", "tdx_quote_td15ex_collateral.json"] {
        std::fs::copy(folder().join("tdx/dcap-qvl").join(file), dir.path().join(file)).unwrap();
    }
    std::fs::write(dir.path().join("README"), "not read").unwrap();
    let offline = OfflineCollateral::open(dir.path()).unwrap();
    assert_eq!(*offline.collateral(&tdx_need(), NOW).await.unwrap(), Collateral::Intel(tdx()));
    let missing = offline.collateral(&need(1), NOW).await.unwrap_err().to_string();
    assert!(missing.contains("no file for intel tdx 000000000001"), "{missing}");
    let expired = offline.collateral(&tdx_need(), NOW + 90 * 24 * 3600).await.unwrap_err().to_string();
    assert!(expired.contains("holds at this time"), "{expired}");
}

#[tokio::test]
async fn of_several_editions_the_newest_that_holds() {
    let dir = tempfile::tempdir().unwrap();
    let newer = edition(99, "2025-07-03T00:00:00Z", "2025-08-02T00:00:00Z");
    std::fs::write(dir.path().join("a.json"), serde_json::to_vec(&newer).unwrap()).unwrap();
    std::fs::write(dir.path().join("b.json"), serde_json::to_vec(&tdx()).unwrap()).unwrap();
    let offline = OfflineCollateral::open(dir.path()).unwrap();
    assert_eq!(*offline.collateral(&tdx_need(), NOW).await.unwrap(), Collateral::Intel(newer));
}

#[test]
fn a_file_that_cannot_be_read_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.json"), "{}").unwrap();
    let error = OfflineCollateral::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("a.json"), "{error}");
    assert!(OfflineCollateral::open(dir.path().join("missing")).is_err());
}
