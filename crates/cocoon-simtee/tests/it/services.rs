//! The vendors' services over HTTP, asked by the client that nodes use.

use std::sync::Arc;

use cocoon_attest::provider::CollateralSource as _;
use cocoon_attest::verify::{self, IntelRules};
use cocoon_attest::{Check, Collateral, Role};
use cocoon_simtee::{Platform, SimImage};
use cocoon_tee::{Kds, Pccs};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Accepted, NOW, collateral, evidence, kept_platform, refused};

struct Service {
    url: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Service {
    async fn start(platform: &Platform) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let platform = platform.clone();
        #[expect(clippy::disallowed_methods, reason = "joined by `stop`")]
        let task = tokio::spawn(async move {
            platform
                .serve_pccs(listener, async {
                    let _ = stopped.await;
                })
                .await
        });
        Self { url, stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_pccs_client_fetches_what_the_platform_issues() {
    let platform = Platform::generate(NOW);
    let service = Service::start(&platform).await;
    let evidence = evidence(&platform.td(SimImage::for_role(Role::Worker))).await;
    let need = verify::collateral_need(&evidence.platform).unwrap();
    let pccs = Pccs::new(&service.url).unwrap();
    let fetched = pccs.collateral(&need, NOW).await.unwrap();
    let issued = collateral(&platform, &evidence).await;
    let (Collateral::Intel(fetched_parts), Collateral::Intel(issued_parts)) = (fetched.as_ref(), issued.as_ref())
    else {
        panic!("another vendor's collateral")
    };
    assert_eq!(fetched_parts.tcb_info, issued_parts.tcb_info);
    let accepted = Accepted::intel(&platform.root_pem());
    accepted.verify(&evidence, &fetched, &IntelRules::up_to_date()).unwrap();

    platform.faults().set(|faults| faults.pck_revoked = true);
    let fetched = pccs.collateral(&need, NOW).await.unwrap();
    refused(accepted.verify(&evidence, &fetched, &IntelRules::up_to_date()), Check::Revocation);
    service.stop().await;
}

#[tokio::test]
async fn a_kds_client_fetches_what_the_platform_issues() {
    let platform = kept_platform("one");
    let evidence = evidence(&platform.snp_guest(SimImage::for_role(Role::Worker))).await;
    let service = Service::start(&platform).await;
    let need = verify::collateral_need(&evidence.platform).unwrap();
    let fetched = Kds::at(&service.url).unwrap().collateral(&need, NOW).await.unwrap();
    assert_eq!(fetched, collateral(&platform, &evidence).await);
    let accepted = Accepted::amd(&platform.amd_root_pem());
    accepted.verify(&evidence, &fetched, &IntelRules::up_to_date()).unwrap();
    service.stop().await;
}

#[tokio::test]
async fn a_platform_knows_only_itself() {
    let (platform, other) = (kept_platform("one"), kept_platform("other"));
    let evidence = evidence(&other.snp_guest(SimImage::for_role(Role::Worker))).await;
    let need = verify::collateral_need(&evidence.platform).unwrap();
    assert!(platform.collateral_source().collateral(&need, NOW).await.is_err());
    let service = Service::start(&platform).await;
    assert!(Kds::at(&service.url).unwrap().collateral(&need, NOW).await.is_err());
    service.stop().await;
}

#[tokio::test]
async fn made_up_endorsements_are_not_served_to_other_machines() {
    let listener = TcpListener::bind(("0.0.0.0", 0)).await.unwrap();
    let platform = Platform::generate(NOW);
    assert!(platform.serve_pccs(listener, std::future::pending()).await.is_err());
    let _: Arc<dyn cocoon_attest::CollateralSource> = Arc::new(platform.collateral_source());
}
