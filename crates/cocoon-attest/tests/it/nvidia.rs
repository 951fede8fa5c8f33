//! GPU evidence: real Hopper reports are accepted, everything that is not exactly what the GPU signed is refused.

use std::collections::BTreeMap;

use base64::Engine as _;
use cocoon_attest::evidence::spdm::{SpdmError, SpdmReport, opaque};
use cocoon_attest::facts::GpuFacts;
use cocoon_attest::limits::GPU_REPORT_BYTES_MAX;
use cocoon_attest::rim::{self, NoRims, ReferenceValues, RimStore};
use cocoon_attest::roots::{self, TrustAnchor};
use cocoon_attest::verify::nvidia::gpu;
use cocoon_attest::{Check, GpuEvidence, Provenance, Refusal};

use crate::vectors;

/// October 2026. The dates of these chains end in the year 9999.
const NOW: u64 = 1_791_000_000;
/// Before the provisioner of these chains was certified.
const YEAR_2021: u64 = 1_620_000_000;

/// Where the response begins, and fields of the real reports behind it: 64 blocks of 55 bytes.
const RESPONSE: usize = 37;
const RECORD: usize = RESPONSE + 8;
const OPAQUE_LEN: usize = RECORD + 64 * 55 + 32;

fn hex_report(name: &str) -> Vec<u8> {
    let text = String::from_utf8(vectors::read(name)).unwrap();
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

fn chain(name: &str) -> String {
    String::from_utf8(vectors::read(name)).unwrap()
}

/// An H100 with driver 580.159.03.
fn sdk() -> GpuEvidence {
    GpuEvidence {
        report: hex_report("nvidia/attestation-sdk/hopperAttestationReport.txt"),
        certificate_chain: chain("nvidia/attestation-sdk/hopperCertChain.txt"),
    }
}

/// An H100 with driver 550.90.07.
fn nvtrust() -> GpuEvidence {
    GpuEvidence {
        report: hex_report("nvidia/nvtrust/hopperAttestationReport.txt"),
        certificate_chain: chain("nvidia/nvtrust/hopperCertChain.txt"),
    }
}

/// An H100 of a machine with eight, as NVIDIA's tools save evidence: also gives the nonce that was asked.
fn saved() -> (GpuEvidence, String) {
    let list: serde_json::Value =
        serde_json::from_slice(&vectors::read("nvidia/attestation-sdk/hopper_evidence.json")).unwrap();
    let bytes = |key: &str| base64::engine::general_purpose::STANDARD.decode(list[0][key].as_str().unwrap()).unwrap();
    let evidence =
        GpuEvidence { report: bytes("evidence"), certificate_chain: String::from_utf8(bytes("certificate")).unwrap() };
    (evidence, list[0]["nonce"].as_str().unwrap().to_owned())
}

fn appraise(evidence: &GpuEvidence) -> Result<(GpuFacts, Provenance), Refusal> {
    gpu(evidence, &[roots::nvidia()], NOW)
}

#[track_caller]
fn refused(evidence: &GpuEvidence, check: Check) -> Refusal {
    let refusal = appraise(evidence).expect_err("the evidence must be refused");
    assert_eq!(refusal.check, check, "{refusal}");
    refusal
}

#[test]
fn real_hopper_reports_are_accepted() {
    let (facts, provenance) = appraise(&sdk()).unwrap();
    assert_eq!(provenance, Provenance::Vendor);
    assert_eq!(facts.root, roots::nvidia().id);
    assert_eq!(facts.architecture, "GH100");
    assert_eq!(facts.driver_version, "580.159.03");
    assert_eq!(facts.vbios_version, "9600740020");
    assert_eq!(facts.rim_ids.0, "NV_GPU_DRIVER_GH100_580.159.03");
    assert_eq!(facts.rim_ids.1, "NV_GPU_VBIOS_1010_0205_862_9600740020");
    assert_eq!(facts.cc_mode, None);
    assert!(facts.nvdec0_disabled);
    assert_eq!(facts.measurements.len(), 64);

    let (facts, _) = appraise(&nvtrust()).unwrap();
    assert_eq!(facts.rim_ids.0, "NV_GPU_DRIVER_GH100_550.90.07");
    assert_eq!(facts.rim_ids.1, "NV_GPU_VBIOS_1010_0200_882_96009F0001");
    assert_eq!(hex::encode(facts.nonce), "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb");

    let (evidence, nonce) = saved();
    let (facts, _) = appraise(&evidence).unwrap();
    assert_eq!(hex::encode(facts.nonce), nonce);
    assert_eq!(facts.rim_ids.1, "NV_GPU_VBIOS_G520_0200_885_9600A50001");
}

#[test]
fn the_parse_equals_the_recorded_one() {
    let evidence = sdk();
    let report = SpdmReport::parse(&evidence.report).unwrap();
    let recorded: serde_json::Value =
        serde_json::from_slice(&vectors::read("nvidia/attestation-sdk/spdm_parsed_output.json")).unwrap();
    let text = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
    assert_eq!(recorded["Nonce"], text(&report.response_nonce));
    assert_eq!(recorded["Signature"], text(&report.signature));
    assert_eq!(recorded["NumberOfBlocks"], report.measurements.len());
    for measurement in &report.measurements {
        let block = &recorded["MeasurementRecord"]["MeasurementBlocks"][measurement.index.to_string()];
        assert_eq!(block["DMTFSpecMeasurementValue"], text(measurement.value));
        assert_eq!(block["DMTFSpecMeasurementValueType"], measurement.kind);
    }
}

#[test]
fn a_report_with_an_invalid_signature_is_refused() {
    let name = "nvidia/attestation-sdk/sample_attestation_data_gpu_hopperAttestationReportInvalidSignature.txt";
    let report = hex_report(name);
    for certificate_chain in [sdk().certificate_chain, nvtrust().certificate_chain, saved().0.certificate_chain] {
        refused(&GpuEvidence { report: report.clone(), certificate_chain }, Check::Signature);
    }
}

#[test]
fn a_flipped_byte_anywhere_in_the_signed_part_or_the_signature_is_refused() {
    let honest = sdk();
    let len = honest.report.len();
    for position in (0..len).step_by(61).chain(len - 96..len) {
        let mut evidence = honest.clone();
        evidence.report[position] ^= 0x10;
        appraise(&evidence).expect_err(&format!("byte {position} was flipped"));
    }
}

#[test]
fn a_replaced_nonce_is_refused() {
    let mut evidence = sdk();
    evidence.report[4..36].copy_from_slice(&[7; 32]);
    refused(&evidence, Check::Signature);
}

#[test]
fn a_chain_to_another_root_is_refused() {
    let pem = vectors::read("nvidia/attestation-sdk/trusted_certs_rim_root.crt");
    let other = TrustAnchor::simulated_pem(&String::from_utf8(pem).unwrap()).unwrap();
    for anchors in [&[other][..], &[]] {
        assert_eq!(gpu(&sdk(), anchors, NOW).unwrap_err().check, Check::Root);
    }
}

#[test]
fn the_provenance_is_that_of_the_root() {
    let anchor = TrustAnchor::from_der(roots::nvidia().certificate_der, Provenance::Simulated).unwrap();
    assert_eq!(gpu(&sdk(), &[anchor], NOW).unwrap().1, Provenance::Simulated);
}

#[test]
fn the_leaf_of_another_gpu_is_refused() {
    let mut evidence = sdk();
    evidence.certificate_chain = nvtrust().certificate_chain;
    refused(&evidence, Check::Signature);

    // Another GPU's leaf above this GPU's boot ROM.
    let mut certificates = split(&sdk().certificate_chain);
    certificates[0].clone_from(&split(&nvtrust().certificate_chain)[0]);
    evidence.certificate_chain = certificates.concat();
    refused(&evidence, Check::Signature);
}

#[test]
fn a_chain_of_other_length_or_order_is_refused() {
    let certificates = split(&sdk().certificate_chain);
    let with = |certificates: Vec<&String>| GpuEvidence {
        certificate_chain: certificates.into_iter().cloned().collect(),
        ..sdk()
    };
    let all: Vec<&String> = certificates.iter().collect();
    refused(&with(vec![]), Check::Format);
    refused(&with(all[..4].to_vec()), Check::Format);
    refused(&with(all.iter().copied().chain([all[4]]).collect()), Check::Format);
    refused(&with(all.iter().rev().copied().collect()), Check::Root);
    refused(&with(vec![all[0], all[2], all[1], all[3], all[4]]), Check::Signature);
    // A self-signed root of an attacker's own would have to be pinned; a pinned root as a leaf signs nothing.
    refused(&with(vec![all[4]; 5]), Check::Signature);
}

#[test]
fn a_chain_before_its_dates_is_refused() {
    let refusal = gpu(&sdk(), &[roots::nvidia()], YEAR_2021).unwrap_err();
    assert_eq!(refusal.check, Check::Signature);
    assert!(refusal.expected.contains("dates"), "{refusal}");
}

#[test]
fn a_flipped_byte_anywhere_in_a_certificate_is_refused() {
    let honest = split(&sdk().certificate_chain);
    for (nth, pem) in honest.iter().enumerate() {
        let der = decode(pem);
        for position in (0..der.len()).step_by(41) {
            let mut altered = der.clone();
            altered[position] ^= 0x01;
            let mut chain = honest.clone();
            chain[nth] = encode(&altered);
            let evidence = GpuEvidence { certificate_chain: chain.concat(), ..sdk() };
            appraise(&evidence).expect_err(&format!("byte {position} of certificate {nth} was flipped"));
        }
    }
}

#[test]
fn evidence_cut_anywhere_is_refused_without_panic() {
    let honest = sdk();
    for len in 0..honest.report.len() {
        assert!(SpdmReport::parse(&honest.report[..len]).is_err(), "a report of {len} bytes");
    }
    for len in (0..honest.certificate_chain.len() - 26).step_by(7) {
        let mut evidence = honest.clone();
        evidence.certificate_chain.truncate(len);
        refused(&evidence, Check::Format);
    }
}

#[test]
fn one_byte_after_the_signature_is_ignored_and_two_are_not() {
    let mut evidence = sdk();
    evidence.report.push(0x0a);
    appraise(&evidence).unwrap();
    evidence.report.push(0x0a);
    assert!(refused(&evidence, Check::Format).found.contains("2 bytes after the signature"));
}

#[test]
fn a_length_bomb_in_a_report_is_refused() {
    let honest = sdk().report;
    let altered = |position: usize, bytes: &[u8]| {
        let mut report = honest.clone();
        report[position..position + bytes.len()].copy_from_slice(bytes);
        SpdmReport::parse(&report).unwrap_err()
    };
    let record_of_16_mib = altered(RESPONSE + 5, &[0xff; 3]);
    assert!(matches!(record_of_16_mib, SpdmError::Truncated(_)), "{record_of_16_mib}");
    let opaque_of_64_kib = altered(OPAQUE_LEN, &[0xff; 2]);
    assert!(matches!(opaque_of_64_kib, SpdmError::Truncated(_)), "{opaque_of_64_kib}");
    let field_of_64_kib = altered(OPAQUE_LEN + 4, &[0xff; 2]);
    assert!(matches!(field_of_64_kib, SpdmError::Truncated(_)), "{field_of_64_kib}");
    let block_of_64_kib = altered(RECORD + 2, &[0xff; 2]);
    assert!(matches!(block_of_64_kib, SpdmError::Truncated(_)), "{block_of_64_kib}");

    let mut evidence = sdk();
    evidence.report.resize(GPU_REPORT_BYTES_MAX + 1, 0);
    refused(&evidence, Check::Size);
    let mut evidence = sdk();
    evidence.certificate_chain = "-".repeat(1 << 20);
    refused(&evidence, Check::Size);
}

#[test]
fn ambiguous_reports_are_refused() {
    let honest = sdk().report;
    let altered = |position: usize, byte: u8| {
        let mut report = honest.clone();
        report[position] = byte;
        SpdmReport::parse(&report).unwrap_err()
    };
    assert_eq!(altered(RECORD + 55, 1), SpdmError::Twice { what: "measurement", id: 1 });
    assert_eq!(altered(RESPONSE + 4, 63), SpdmError::MeasurementCount { announced: 63, found: 64 });
    assert_eq!(altered(RECORD + 1, 2), SpdmError::Measurement { index: 1 });
    assert_eq!(altered(2, 0), SpdmError::Request);
    assert_eq!(altered(RESPONSE + 1, 0x7f), SpdmError::Response);
    // The second field, the board, becomes a second VBIOS version.
    assert_eq!(altered(OPAQUE_LEN + 2 + 12, 6), SpdmError::Twice { what: "opaque field", id: opaque::VBIOS_VERSION });
}

const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a chain, each as PEM.
fn split(chain: &str) -> Vec<String> {
    chain.split_inclusive(END).filter(|pem| pem.ends_with(END)).map(|pem| format!("{}\n", pem.trim())).collect()
}

fn decode(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}

fn encode(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n{END}\n", base64::engine::general_purpose::STANDARD.encode(der))
}

#[derive(Debug, Default)]
struct Rims(BTreeMap<String, ReferenceValues>);

impl RimStore for Rims {
    fn reference_values(&self, rim_id: &str) -> Option<ReferenceValues> {
        self.0.get(rim_id).cloned()
    }
}

/// Reference values by index, as a RIM counts: the GPU's own, each beside an alternative.
fn values_of(facts: &GpuFacts, indices: impl IntoIterator<Item = u8>) -> ReferenceValues {
    let value = |index: u8| facts.measurements.iter().find(|(spdm, _)| *spdm == index + 1).unwrap().1.clone();
    ReferenceValues { active: indices.into_iter().map(|index| (index, vec![vec![0xee; 48], value(index)])).collect() }
}

fn matching(facts: &GpuFacts) -> Rims {
    Rims(BTreeMap::from([
        (facts.rim_ids.0.clone(), values_of(facts, 21..41)),
        (facts.rim_ids.1.clone(), values_of(facts, 0..13)),
    ]))
}

#[track_caller]
fn compare(facts: &GpuFacts, alter: impl FnOnce(&mut Rims)) -> Result<(), Refusal> {
    let mut rims = matching(facts);
    alter(&mut rims);
    rim::compare(facts, &rims)
}

#[test]
fn measurements_equal_to_reference_values_are_accepted_and_others_refused() {
    let facts = appraise(&nvtrust()).unwrap().0;
    let (driver, vbios) = facts.rim_ids.clone();
    compare(&facts, |_| {}).unwrap();

    let other = |index: u8| BTreeMap::from([(index, vec![vec![0xee; 48]])]);
    let refusal = compare(&facts, |rims| rims.0.get_mut(&driver).unwrap().active.extend(other(22))).unwrap_err();
    assert!(refusal.expected.starts_with("measurement 22 "), "{refusal}");
    compare(&facts, |rims| rims.0.get_mut(&vbios).unwrap().active.extend(other(3))).unwrap_err();
    // Both RIMs have a value for 22, though the same.
    compare(&facts, |rims| rims.0.get_mut(&vbios).unwrap().active.extend(values_of(&facts, [22]).active)).unwrap_err();
    // There is no 65th measurement, nor a 256th.
    compare(&facts, |rims| rims.0.get_mut(&vbios).unwrap().active.extend(other(64))).unwrap_err();
    compare(&facts, |rims| rims.0.get_mut(&vbios).unwrap().active.extend(other(255))).unwrap_err();
    compare(&facts, |rims| rims.0.get_mut(&vbios).unwrap().active.clear()).unwrap_err();
    compare(&facts, |rims| assert!(rims.0.remove(&driver).is_some())).unwrap_err();
    rim::compare(&facts, &NoRims).unwrap_err();
}

#[test]
fn the_video_decoders_measurement_is_skipped_only_where_it_is_fused_off() {
    let mut facts = appraise(&nvtrust()).unwrap().0;
    let driver = facts.rim_ids.0.clone();
    let other = |rims: &mut Rims| {
        rims.0.get_mut(&driver).unwrap().active.insert(35, vec![vec![0xee; 48]]);
    };
    compare(&facts, other).unwrap();
    facts.nvdec0_disabled = false;
    compare(&facts, other).unwrap_err();
}

#[test]
fn a_real_rim_counts_from_zero_where_the_report_counts_from_one() {
    let facts = appraise(&nvtrust()).unwrap().0;
    let xml = String::from_utf8(vectors::read("nvidia/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml")).unwrap();
    let active = active_values(&xml);
    assert_eq!(active.len(), 21);
    // It is of another driver than the report's, so not all are equal; as measured for the specification.
    let matches = |shift: u8| {
        let equal = |(index, values): &(&u8, &Vec<Vec<u8>>)| {
            facts.measurements.iter().any(|(spdm, value)| *spdm == **index + shift && values.contains(value))
        };
        active.iter().filter(equal).count()
    };
    assert_eq!((matches(1), matches(0)), (16, 1));
    let only_matching = |index: &u8| ![7, 22, 31, 39, 40].contains(index);
    let rims = Rims(BTreeMap::from([
        (
            facts.rim_ids.0.clone(),
            ReferenceValues { active: active.clone().into_iter().filter(|(index, _)| only_matching(index)).collect() },
        ),
        (facts.rim_ids.1.clone(), values_of(&facts, 0..7)),
    ]));
    rim::compare(&facts, &rims).unwrap();
}

/// The active measurements of a RIM, without any check of its signature.
fn active_values(xml: &str) -> BTreeMap<u8, Vec<Vec<u8>>> {
    let attribute = |element: &str, name: &str| {
        let start = element.find(&format!("{name}=\""))? + name.len() + 2;
        Some(element[start..].split('"').next().unwrap().to_owned())
    };
    xml.split("Resource type=\"Measurement\"")
        .skip(1)
        .filter_map(|rest| rest.split_once('>'))
        .filter(|(element, _)| attribute(element, "active").unwrap() == "True")
        .map(|(element, _)| {
            let values = (0..8).map_while(|n| attribute(element, &format!(":Hash{n}")));
            (
                attribute(element, "index").unwrap().parse().unwrap(),
                values.map(|value| hex::decode(value).unwrap()).collect(),
            )
        })
        .collect()
}
