//! The PCCS client against services that are honest, broken and hostile.

use std::time::Duration;

use cocoon_attest::{Collateral, CollateralError, CollateralSource as _};
use cocoon_tee::Pccs;

use crate::server::{PCK_CRL, QE, ROOT_CRL, Replies, Reply, Server, TCB, pccs};
use crate::vectors::{NOW, need, tdx, tdx_need};

async fn fetch(replies: Replies, timeout: Duration) -> (Result<Collateral, CollateralError>, Vec<String>) {
    let server = Server::start(replies);
    let client = Pccs::with_timeout(&server.base, timeout).unwrap();
    let fetched = client.collateral(&tdx_need(), NOW).await;
    (fetched.map(|collateral| Collateral::clone(&collateral)), server.asked())
}

/// The error of a service which differs from an honest one at this path.
async fn refused(path: &str, reply: Reply) -> String {
    let mut replies = pccs(&tdx());
    assert!(replies.insert(path.into(), reply).is_some());
    fetch(replies, Duration::from_secs(10)).await.0.unwrap_err().to_string()
}

#[tokio::test]
async fn an_honest_service_gives_what_it_has_to_the_byte() {
    let (fetched, asked) = fetch(pccs(&tdx()), Duration::from_secs(10)).await;
    assert_eq!(fetched.unwrap(), Collateral::Intel(tdx()));
    assert_eq!(asked, [TCB, QE, PCK_CRL, ROOT_CRL]);
}

#[tokio::test]
async fn the_root_list_may_be_der_or_hex_and_the_chain_may_have_its_old_name() {
    let mut replies = pccs(&tdx());
    replies.insert(ROOT_CRL.into(), Reply::ok(tdx().root_ca_crl));
    let Some(Reply::Full(status, headers, body)) = replies.remove(TCB) else { panic!() };
    let renamed = headers.into_iter().map(|(name, value)| (format!("SGX-{name}"), value)).collect();
    replies.insert(TCB.into(), Reply::Full(status, renamed, body));
    assert_eq!(fetch(replies, Duration::from_secs(10)).await.0.unwrap(), Collateral::Intel(tdx()));
}

#[tokio::test]
async fn an_address_with_the_path_of_the_protocol_is_understood() {
    let server = Server::start(pccs(&tdx()));
    let client = Pccs::new(&format!("{}/sgx/certification/v4/", server.base)).unwrap();
    assert!(client.collateral(&tdx_need(), NOW).await.is_ok());
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    for path in [TCB, QE, PCK_CRL, ROOT_CRL] {
        let error = refused(path, Reply::Endless).await;
        assert!(error.contains("limit"), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_trickles_ends_at_the_deadline() {
    let mut replies = pccs(&tdx());
    replies.insert(QE.into(), Reply::Slow);
    let (fetched, _) = fetch(replies, Duration::from_millis(300)).await;
    assert!(fetched.unwrap_err().to_string().contains("timeout"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let honest = Server::start(pccs(&tdx()));
    let location = ("location".to_owned(), format!("{}{TCB}", honest.base));
    let error = refused(TCB, Reply::Full(302, vec![location], Vec::new())).await;
    assert!(error.contains("302"), "{error}");
    assert_eq!(honest.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_missing_or_foreign_header_is_refused() {
    let strip = |reply: Option<Reply>| match reply {
        Some(Reply::Full(status, _, body)) => Reply::Full(status, Vec::new(), body),
        other => other.unwrap(),
    };
    for (path, header) in [
        (TCB, "TCB-Info-Issuer-Chain"),
        (QE, "SGX-Enclave-Identity-Issuer-Chain"),
        (PCK_CRL, "SGX-PCK-CRL-Issuer-Chain"),
    ] {
        let bare = strip(pccs(&tdx()).remove(path));
        let error = refused(path, bare.clone()).await;
        assert!(error.contains(header) && error.contains("missing"), "{error}");
        let error = refused(path, bare.with(header, "not a certificate")).await;
        assert!(error.contains("PEM"), "{error}");
    }
}

#[tokio::test]
async fn failures_and_other_content_are_refused() {
    for status in [204, 404, 500] {
        assert!(refused(TCB, Reply::Full(status, Vec::new(), Vec::new())).await.contains(&status.to_string()));
    }
    assert!(refused(TCB, Reply::HangsUp).await.contains("failed"));
    for odd in ["", "<html>", "{}", r#"{"tcbInfo":{},"signature":""}"#, "\u{0}"] {
        assert!(refused(TCB, Reply::ok(odd)).await.contains("TCB info"), "{odd}");
        assert!(refused(QE, Reply::ok(odd)).await.contains("QE identity"), "{odd}");
    }
    assert!(refused(ROOT_CRL, Reply::ok("<html>")).await.contains("root revocation list"));
    let chained = Reply::ok("<html>").with("SGX-PCK-CRL-Issuer-Chain", &tdx().pck_crl_issuer_chain);
    assert!(refused(PCK_CRL, chained).await.contains("PCK revocation list"));
}

#[tokio::test]
async fn collateral_of_another_platform_is_refused() {
    let mut other = tdx();
    other.tcb_info = other.tcb_info.replace("B0C06F000000", "00806F050000").replace("b0c06f000000", "00806f050000");
    let error = fetch(pccs(&other), Duration::from_secs(10)).await.0.unwrap_err();
    assert!(matches!(error, CollateralError::Malformed { .. }), "{error}");
    let mut sgx = tdx();
    sgx.qe_identity = sgx.qe_identity.replace("TD_QE", "QE");
    let error = fetch(pccs(&sgx), Duration::from_secs(10)).await.0.unwrap_err();
    assert!(error.to_string().contains("QE identity"), "{error}");
}

#[tokio::test]
async fn an_unknown_platform_or_nobody_there_is_the_service_failing() {
    let server = Server::start(pccs(&tdx()));
    let client = Pccs::new(&server.base).unwrap();
    let error = client.collateral(&need(1), NOW).await.unwrap_err();
    assert!(matches!(error, CollateralError::Service { .. }), "{error}");
    let base = server.base.clone();
    drop(server);
    let error = Pccs::new(&base).unwrap().collateral(&tdx_need(), NOW).await.unwrap_err();
    assert!(matches!(error, CollateralError::Service { .. }), "{error}");
}

#[tokio::test]
async fn a_service_that_strangers_made_us_ask_too_often_is_busy_and_not_failing() {
    let mut replies = pccs(&tdx());
    replies.insert(TCB.into(), Reply::Full(429, Vec::new(), Vec::new()));
    let error = fetch(replies, Duration::from_secs(10)).await.0.unwrap_err();
    assert!(matches!(error, CollateralError::Busy), "{error}");
}
