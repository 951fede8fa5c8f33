//! Boots: event logs replay to registers, images match their manifests, local reports and keys.

use cocoon_attest::evidence::event_log::EventLog;
use cocoon_attest::facts::{Measurements, TdxMeasurements};
use cocoon_attest::{Check, ImageManifest, Refusal, Role};
use cocoon_simtee::{EventKind, LogFull, Platform, Rtmr, SimImage, SimTd, TdOptions};
use cocoon_tee::keys::{KeyProvider as _, NodeKeys, Protection, purpose};

use crate::{NOW, REPORT_DATA, evidence, refused};

fn measurements(td: &SimTd) -> Measurements {
    Measurements::Tdx(Box::new(TdxMeasurements {
        mr_td: td.image().mr_td(),
        mr_config_id: [0; 48],
        mr_owner: [0; 48],
        mr_owner_config: [0; 48],
        rtmr: td.rtmr(),
        mr_seam: [0; 48],
        mr_signer_seam: [0; 48],
        mr_service_td: [0; 48],
    }))
}

async fn log(td: &SimTd) -> EventLog {
    EventLog::parse(&evidence(td).await.event_log.unwrap()).unwrap()
}

async fn matches(td: &SimTd, manifest: &ImageManifest) -> Result<(), Refusal> {
    manifest.matches(&measurements(td), Some(&log(td).await))
}

#[tokio::test]
async fn event_logs_replay_to_the_registers() {
    let platform = Platform::generate(NOW);
    for gpus in [0, 8] {
        let td = platform.td(TdOptions::new(SimImage::for_role(Role::Proxy)).gpus(gpus));
        assert_eq!(log(&td).await.replay(), td.rtmr());
        td.extend(Rtmr::Application, EventKind::EventTag, b"cocoon:later=1").unwrap();
        assert_eq!(log(&td).await.replay(), td.rtmr());
    }
}

#[tokio::test]
async fn images_match_their_own_manifest_on_every_machine_and_no_other() {
    let platform = Platform::generate(NOW);
    let worker = SimImage::for_role(Role::Worker);
    let shown = evidence(&platform.td(worker.clone())).await.manifest.unwrap();
    assert_eq!(ImageManifest::parse(&shown).unwrap(), worker.manifest());
    for gpus in 0..=8 {
        let td = platform.td(TdOptions::new(worker.clone()).gpus(gpus));
        matches(&td, &worker.manifest()).await.unwrap();
        refused(matches(&td, &SimImage::for_role(Role::Proxy).manifest()).await, Check::Image);
    }
    // Only RTMR3 depends on the configuration, and a manifest takes any.
    let configured = SimImage::new(worker.name(), b"another configuration");
    matches(&platform.td(configured), &worker.manifest()).await.unwrap();
}

#[tokio::test]
async fn an_image_that_extends_after_inited_is_refused() {
    let td = Platform::generate(NOW).td(SimImage::for_role(Role::Worker));
    td.extend(Rtmr::Application, EventKind::EventTag, b"cocoon:config=0").unwrap();
    refused(matches(&td, &td.image().manifest()).await, Check::Image);
}

#[test]
fn the_event_log_has_a_bound() {
    let td = Platform::generate(NOW).td(SimImage::for_role(Role::Worker));
    let extended = (0..2_000).map(|_| td.extend(Rtmr::System, EventKind::Ipl, b"again")).find(Result::is_err);
    assert_eq!(extended, Some(Err(LogFull)));
}

#[test]
fn local_reports_hold_on_their_machine_only() {
    let (platform, other) = (Platform::generate(NOW), Platform::generate(NOW));
    let report = platform.td(SimImage::for_role(Role::Proxy)).td_report(REPORT_DATA);
    assert!(platform.verify_td_report(&report));
    assert!(!other.verify_td_report(&report));
    for at in [0, 130, 224, 300, 512, 1000] {
        let mut bad = report;
        bad[at] ^= 1;
        assert!(!platform.verify_td_report(&bad), "byte {at}");
    }
}

#[test]
fn keys_survive_a_restart_and_belong_to_image_and_instance() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Platform::open(directory.path(), NOW).unwrap();
    let key = |platform: &Platform, image: SimImage, instance: &str| {
        platform.td(image).sealing_keys(instance).derive(purpose::TLS, 1).unwrap()
    };
    let proxy = || SimImage::for_role(Role::Proxy);
    let first = key(&open(), proxy(), "a");
    assert_eq!(first, key(&open(), proxy(), "a"));
    assert_eq!(first, key(&open(), SimImage::new(proxy().name(), b"another configuration"), "a"));
    assert_ne!(first, key(&open(), proxy(), "b"));
    assert_ne!(first, key(&open(), SimImage::for_role(Role::Worker), "a"));
    assert_ne!(first, key(&Platform::generate(NOW), proxy(), "a"));
    let debugged = open();
    debugged.faults().set(|faults| faults.debug_guest = true);
    assert_ne!(first, key(&debugged, proxy(), "a"));

    let keys = open().td(proxy()).sealing_keys("a");
    assert_eq!(keys.describe().protection, Protection::Simulated);
    NodeKeys::derive(&keys).unwrap();
}
