//! The client of AMD's service.

use cocoon_attest::collateral::CollateralNeed;
use cocoon_attest::{Collateral, CollateralError, CollateralSource as _};
use cocoon_tee::{Kds, Vendors};

use crate::server::{Replies, Reply, Server};
use crate::vectors::{NOW, folder, tdx, tdx_need};

const LEVELS: &str = "blSPL=02&teeSPL=00&snpSPL=06&ucodeSPL=55";

fn need(vlek: bool) -> CollateralNeed {
    CollateralNeed::Amd { product: "Milan".into(), chip_id: [7; 64], reported_tcb: 0x3706_0000_0000_0002, vlek }
}

fn vcek() -> Vec<u8> {
    std::fs::read(folder().join("snp/virtee-sev/vcek_milan.der")).unwrap()
}

fn replies() -> Replies {
    let chain = std::fs::read(folder().join("snp/virtee-sev/cert_chain_milan")).unwrap();
    let crl = tdx().root_ca_crl;
    let leaf = format!("/vcek/v1/Milan/{}?{LEVELS}", "07".repeat(64));
    let mut replies = Replies::from([(leaf, Reply::ok(vcek()))]);
    for key in ["vcek", "vlek"] {
        replies.insert(format!("/{key}/v1/Milan/cert_chain"), Reply::ok(chain.clone()));
        replies.insert(format!("/{key}/v1/Milan/crl"), Reply::ok(crl.clone()));
    }
    replies
}

async fn fetch(replies: Replies, need: &CollateralNeed) -> Result<Collateral, CollateralError> {
    let server = Server::start(replies);
    let fetched = Kds::at(&server.base).unwrap().collateral(need, NOW).await;
    fetched.map(|collateral| Collateral::clone(&collateral))
}

#[tokio::test]
async fn a_vcek_is_fetched_and_a_vlek_is_its_hosts_to_give() {
    let Collateral::Amd(vcek_collateral) = fetch(replies(), &need(false)).await.unwrap() else { panic!() };
    assert_eq!(vcek_collateral.leaf, Some(vcek()));
    assert!(vcek_collateral.crl.is_some());
    let Collateral::Amd(vlek_collateral) = fetch(replies(), &need(true)).await.unwrap() else { panic!() };
    assert_eq!(vlek_collateral.leaf, None);
    assert_eq!(vlek_collateral.chain, vcek_collateral.chain);
}

#[tokio::test]
async fn other_content_is_refused() {
    for path in replies().keys().filter(|path| path.starts_with("/vcek") && !path.ends_with("crl")) {
        let mut hostile = replies();
        hostile.insert(path.clone(), Reply::ok("<html>"));
        let error = fetch(hostile, &need(false)).await.unwrap_err();
        assert!(matches!(error, CollateralError::Malformed { .. }), "{path}: {error}");
    }
    for path in replies().keys().filter(|path| path.starts_with("/vcek")) {
        let mut broken = replies();
        broken.remove(path);
        let error = fetch(broken, &need(false)).await.unwrap_err();
        assert!(matches!(error, CollateralError::Service { .. }), "{path}: {error}");
    }
}

#[tokio::test]
async fn each_vendor_is_asked_for_its_own() {
    let server = Server::start(replies());
    let vendors = Vendors { intel: None, amd: Some(std::sync::Arc::new(Kds::at(&server.base).unwrap())) };
    assert!(vendors.collateral(&need(false), NOW).await.is_ok());
    assert!(matches!(vendors.collateral(&tdx_need(), NOW).await, Err(CollateralError::NoSource)));
}
