//! Image manifests: one image in one form, and nothing but that image matches.

use cocoon_attest::evidence::event_log::{self, EventLog};
use cocoon_attest::facts::{Measurements, SgxMeasurements, SnpMeasurements, TdxMeasurements};
use cocoon_attest::manifest::{
    Digest48, ImageManifest, ManifestError, RequiredEvent, SnpImage, TdxImage, original_image_hash, runtime_event_data,
};
use cocoon_attest::{Check, Refusal};
use expect_test::expect;

fn event(name: &str, value: Option<&str>) -> RequiredEvent {
    RequiredEvent { name: name.to_owned(), value: value.map(str::to_owned) }
}

/// The log of a boot whose RTMR3 has these events.
fn boot(events: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut log = event_log::header();
    for (register, data) in [(0, "machine"), (1, "loader"), (2, "kernel")] {
        log.extend(event_log::event(register, 0xd, data.as_bytes()).unwrap());
    }
    for (name, value) in events {
        log.extend(event_log::runtime_event(runtime_event_data(name, *value).as_bytes()).unwrap());
    }
    log
}

const CONFIG: (&str, Option<&str>) = ("config", Some("00ff"));
const MODEL: (&str, Option<&str>) = ("model", Some("tiny@1:aa"));
const INITED: (&str, Option<&str>) = ("inited", None);

fn tdx(log: &[u8]) -> TdxMeasurements {
    TdxMeasurements {
        mr_td: [1; 48],
        mr_config_id: [2; 48],
        mr_owner: [3; 48],
        mr_owner_config: [4; 48],
        rtmr: EventLog::parse(log).unwrap().replay(),
        mr_seam: [0; 48],
        mr_signer_seam: [0; 48],
        mr_service_td: [0; 48],
    }
}

fn snp(measurement: u8) -> Measurements {
    Measurements::SevSnp(Box::new(SnpMeasurements {
        measurement: [measurement; 48],
        host_data: [0; 32],
        id_key_digest: [0; 48],
        author_key_digest: [0; 48],
        family_id: [0; 16],
        image_id: [0; 16],
        guest_svn: 0,
    }))
}

/// The manifest of the image that [`boot`] boots, on two shapes of machine.
fn manifest() -> ImageManifest {
    let measured = tdx(&boot(&[CONFIG, MODEL, INITED]));
    let image = TdxImage {
        mr_td: Digest48(measured.mr_td),
        rtmr0: vec![Digest48([0xff; 48]), Digest48(measured.rtmr[0])],
        rtmr1: Digest48(measured.rtmr[1]),
        rtmr2: Digest48(measured.rtmr[2]),
        rtmr3: vec![event("config", None), event("model", MODEL.1), event("inited", None)],
    };
    let snp = SnpImage { launch: vec![Digest48([9; 48]), Digest48([8; 48])] };
    ImageManifest::new("worker 1", Some(image), Some(snp)).unwrap()
}

#[track_caller]
fn refused(measured: TdxMeasurements, log: Option<&[u8]>) -> Refusal {
    let log = log.map(|log| EventLog::parse(log).unwrap());
    let refusal = manifest().matches(&Measurements::Tdx(Box::new(measured)), log.as_ref()).unwrap_err();
    assert_eq!(refusal.check, Check::Image);
    refusal
}

/// A boot of the same image with other events in RTMR3.
#[track_caller]
fn refused_events(events: &[(&str, Option<&str>)]) -> Refusal {
    let log = boot(events);
    refused(tdx(&log), Some(&log))
}

#[test]
fn the_honest_image_matches_on_both_platforms() {
    let log = boot(&[CONFIG, MODEL, INITED]);
    let measured = Measurements::Tdx(Box::new(tdx(&log)));
    manifest().matches(&measured, Some(&EventLog::parse(&log).unwrap())).unwrap();
    // Another node of the same image has another configuration.
    let log = boot(&[("config", Some("11")), MODEL, INITED]);
    manifest().matches(&Measurements::Tdx(Box::new(tdx(&log))), Some(&EventLog::parse(&log).unwrap())).unwrap();
    manifest().matches(&snp(8), None).unwrap();
    manifest().matches(&snp(9), None).unwrap();
}

#[test]
fn a_flipped_bit_in_any_register_is_refused() {
    let log = boot(&[CONFIG, MODEL, INITED]);
    let flip = |alter: fn(&mut TdxMeasurements)| {
        let mut measured = tdx(&log);
        alter(&mut measured);
        refused(measured, Some(&log)).expected
    };
    assert!(flip(|measured| measured.mr_td[0] ^= 1).starts_with("MRTD"));
    assert!(flip(|measured| measured.rtmr[0][0] ^= 1).starts_with("RTMR0"));
    assert!(flip(|measured| measured.rtmr[1][0] ^= 1).starts_with("RTMR1"));
    assert!(flip(|measured| measured.rtmr[2][0] ^= 1).starts_with("RTMR2"));
    assert!(flip(|measured| measured.rtmr[3][0] ^= 1).contains("replay to RTMR3"));
    assert_eq!(manifest().matches(&snp(7), None).unwrap_err().check, Check::Image);
}

#[test]
fn an_image_without_its_event_log_is_refused() {
    assert_eq!(refused(tdx(&boot(&[CONFIG, MODEL, INITED])), None).found, "none");
}

#[test]
fn a_log_of_another_boot_is_refused() {
    let measured = tdx(&boot(&[("config", Some("evil")), MODEL, INITED]));
    refused(measured, Some(&boot(&[CONFIG, MODEL, INITED])));
}

#[test]
fn a_second_configuration_is_refused() {
    refused_events(&[CONFIG, ("config", Some("evil")), MODEL, INITED]);
    refused_events(&[CONFIG, MODEL, INITED, ("config", Some("evil"))]);
}

#[test]
fn events_missing_reordered_or_after_the_boot_are_refused() {
    expect![[r#"image check: expected event `inited` in RTMR3, found the end of the event log; run an image that the policy names, on a machine shape that its manifest lists, or add its manifest"#]]
        .assert_eq(&refused_events(&[CONFIG, MODEL]).to_string());
    refused_events(&[]);
    refused_events(&[MODEL, CONFIG, INITED]);
    refused_events(&[CONFIG, ("model", Some("other")), INITED]);
    refused_events(&[CONFIG, INITED]);
    let refusal = refused_events(&[CONFIG, MODEL, INITED, ("debug-shell", None)]);
    assert_eq!(refusal.expected, "no event in RTMR3 after `inited`");
    assert_eq!(refusal.found, "`debug-shell`");
}

#[test]
fn an_event_whose_text_is_not_what_was_measured_is_refused() {
    let evil = boot(&[("config", Some("evil")), MODEL, INITED]);
    let measured = tdx(&evil);
    // The digest stays, the text that explains it is replaced: same length, so the log stays well-formed.
    let mut log = evil;
    let position = log.windows(4).position(|window| window == b"evil").unwrap();
    log[position..position + 4].copy_from_slice(b"good");
    assert_eq!(refused(measured, Some(&log)).expected, "RTMR3 events with the data that they measure");
}

#[test]
fn events_of_another_form_are_refused() {
    for data in [&b"config=1"[..], b"\xff\xfe", b""] {
        let mut log = boot(&[]);
        log.extend(event_log::runtime_event(data).unwrap());
        refused(tdx(&log), Some(&log));
    }
}

#[test]
fn a_platform_that_the_manifest_does_not_name_is_refused() {
    let both = manifest();
    let log = boot(&[CONFIG, MODEL, INITED]);
    let only_snp = ImageManifest::new("snp", None, both.snp.clone()).unwrap();
    let measured = Measurements::Tdx(Box::new(tdx(&log)));
    only_snp.matches(&measured, Some(&EventLog::parse(&log).unwrap())).unwrap_err();
    ImageManifest::new("tdx", both.tdx.clone(), None).unwrap().matches(&snp(8), None).unwrap_err();
    let enclave = SgxMeasurements { mr_enclave: [0; 32], mr_signer: [0; 32], isv_prod_id: 0, isv_svn: 0 };
    both.matches(&Measurements::Sgx(enclave), None).unwrap_err();
}

#[test]
fn the_canonical_form_is_this_and_is_read_back() {
    let snp = SnpImage { launch: vec![Digest48([0xab; 48])] };
    let small = ImageManifest::new("demo", None, Some(snp)).unwrap();
    let text = small.encode();
    expect![[r#"{"name":"demo","snp":{"launch":["abababababababababababababababababababababababababababababababababababababababababababababababab"]},"version":1}"#]]
        .assert_eq(&text);
    assert_eq!(ImageManifest::parse(text.as_bytes()).unwrap(), small);
    expect!["5bfc9c2d6a8631e2d620f47675a14bad23a3a6cfa7fee74677ca055fae453881"].assert_eq(&hex::encode(small.sha256()));

    let both = manifest();
    assert_eq!(ImageManifest::parse(both.encode().as_bytes()).unwrap(), both);
    let sorted = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap().to_string();
    assert_eq!(sorted(&both.encode()), both.encode(), "keys are in ascending order");
}

#[test]
fn bytes_that_are_not_canonical_are_refused() {
    let text = manifest().encode();
    let not_canonical = [
        text.replacen(':', ": ", 1),
        format!("{text}\n"),
        text.to_uppercase().to_lowercase().replacen("ff", "FF", 1),
        text.replacen("{\"name\":\"worker 1\",", "{", 1).replacen(
            "\"version\":1",
            "\"name\":\"worker 1\",\"version\":1",
            1,
        ),
        text.replacen("worker 1", "w\\u006frker 1", 1),
        text.replacen("{\"name\":\"config\"}", "{\"name\":\"config\",\"value\":null}", 1),
    ];
    for text in not_canonical {
        let error = ImageManifest::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::NotCanonical), "{error}: {text}");
    }
    let unreadable = [
        text.replacen("\"version\":1", "\"version\":1,\"version\":1", 1),
        text.replacen("\"version\":1", "\"version\":1,\"xtra\":1", 1),
        text.replacen("\"rtmr1\"", "\"rtmr4\"", 1),
        String::new(),
    ];
    for text in unreadable {
        let error = ImageManifest::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::Json(_)), "{error}: {text}");
    }
    let later = ImageManifest::parse(text.replacen("\"version\":1", "\"version\":2", 1).as_bytes()).unwrap_err();
    assert!(matches!(later, ManifestError::Version(2)));
    let bomb = format!("{{\"name\":\"{}\"}}", "a".repeat(64 << 10));
    assert!(matches!(ImageManifest::parse(bomb.as_bytes()).unwrap_err(), ManifestError::TooLong { .. }));
}

#[test]
fn a_manifest_that_leaves_something_open_is_refused() {
    let both = manifest();
    let with = |alter: &dyn Fn(&mut TdxImage)| {
        let mut image = both.tdx.clone().unwrap();
        alter(&mut image);
        let text = ImageManifest { tdx: Some(image), ..both.clone() }.encode();
        let error = ImageManifest::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::Incomplete(_)), "{error}");
        error.to_string()
    };
    with(&|image| image.rtmr0.clear());
    with(&|image| image.rtmr0.reverse());
    with(&|image| image.rtmr0 = vec![Digest48([1; 48]); 2]);
    with(&|image| image.rtmr3.clear());
    with(&|image| image.rtmr3.reverse());
    with(&|image| drop(image.rtmr3.remove(0)));
    with(&|image| image.rtmr3.insert(0, event("config", None)));
    with(&|image| image.rtmr3.insert(0, event("inited", None)));
    with(&|image| image.rtmr3.insert(0, event("a=b", None)));
    with(&|image| image.rtmr3.insert(0, event("", None)));
    with(&|image| image.rtmr3.insert(0, event("a", Some("b\n"))));
    ImageManifest::new("none", None, None).unwrap_err();
    ImageManifest::new("", both.tdx.clone(), None).unwrap_err();
    ImageManifest::new("quo\"te", both.tdx.clone(), None).unwrap_err();
    ImageManifest::new("empty", None, Some(SnpImage { launch: vec![] })).unwrap_err();
}

#[test]
fn the_originals_image_hash_covers_these_registers_and_no_others() {
    use sha2::{Digest as _, Sha256};

    let measured = tdx(&boot(&[CONFIG]));
    let bytes: Vec<u8> = [&[1; 48], &[2; 48], &[3; 48], &[4; 48]]
        .into_iter()
        .chain(&measured.rtmr)
        .flatten()
        .copied()
        .chain([0; 64])
        .collect();
    assert_eq!(original_image_hash(&measured), <[u8; 32]>::from(Sha256::digest(bytes)));
    let other_module = TdxMeasurements { mr_seam: [5; 48], ..measured.clone() };
    assert_eq!(original_image_hash(&other_module), original_image_hash(&measured));
    let other_owner = TdxMeasurements { mr_owner: [5; 48], ..measured.clone() };
    assert_ne!(original_image_hash(&other_owner), original_image_hash(&measured));
}
