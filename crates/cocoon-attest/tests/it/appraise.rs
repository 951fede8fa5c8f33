//! Attacks on an appraisal, by name, each after its honest twin; and evidence of real machines from files.

use cocoon_attest::appraise::appraise_unbound;
use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::facts::TcbStatus;
use cocoon_attest::policy::RootValues;
use cocoon_attest::policy::from_root::model_sha256;
use cocoon_attest::{Binding, Check, Collateral, Evidence, Policy, Provenance, Role, Verdict};
use cocoon_simtee::{SimImage, TdOptions};
use proptest::prelude::*;

use crate::case::{Case, DAY_S, NOW, claims, now, refused, spki};
use crate::vectors::{PRESENT, intel_collateral, read};

#[test]
fn honest_peers_are_accepted_and_said_to_be_simulated() {
    for role in [Role::Proxy, Role::Worker] {
        let case = Case::honest(role);
        let verdict = case.accepted();
        assert_eq!(verdict.provenance, Provenance::Simulated);
        assert_eq!(verdict.role, Some(role));
        assert_eq!(verdict.profile, "attested-v2");
        assert_eq!(verdict.image_sha256, Some(SimImage::for_role(role).manifest().sha256()));
        assert_eq!(verdict.tcb_status, Some(TcbStatus::UpToDate));
        assert_eq!(verdict.claims, Some(claims(role)));
        assert_eq!(verdict.policy_sha256, case.policy().sha256());
        assert_eq!((verdict.appraised_unix_s, verdict.valid_until_unix_s), (NOW, NOW + 600));
    }
}

#[test]
fn debug_td() {
    let case = Case::honest(Role::Proxy);
    case.accepted();
    case.platform.faults().set(|faults| faults.debug_guest = true);
    case.refused(Check::Attributes);
}

#[test]
fn td_that_can_be_moved() {
    let case = Case::honest(Role::Proxy);
    case.platform.faults().set(|faults| faults.migratable_guest = true);
    case.refused(Check::Attributes);
}

#[test]
fn td_without_sept_ve_disable() {
    let case = Case::honest(Role::Proxy);
    case.platform.faults().set(|faults| faults.sept_ve_disable_off = true);
    case.refused(Check::Attributes);
}

#[test]
fn cpu_features_beyond_the_policy() {
    let mut case = Case::honest(Role::Proxy);
    case.change_policy("0x65ae7", "0x3");
    case.refused(Check::Attributes);
}

#[test]
fn wrong_role() {
    let mut case = Case::honest(Role::Worker);
    case.accepted();
    // A genuine worker where a proxy was expected, whether or not it says so in its hello.
    case.expected.role = Some(Role::Proxy);
    case.refused(Check::Role);
    case.channel.role = Role::Proxy;
    case.refused(Check::Role);
    // What the connection says must be what is attested, even where the caller does not care.
    case.expected.role = None;
    case.refused(Check::Role);
}

#[test]
fn role_that_the_policy_does_not_accept() {
    let mut case = Case::honest(Role::Worker);
    case.change_policy("[\"proxy\", \"worker\"]", "[\"proxy\"]");
    case.refused(Check::Role);
}

#[test]
fn wrong_model() {
    let mut case = Case::honest(Role::Worker);
    case.expected.model.clone_from(&case.claims.model);
    case.accepted();
    case.claims.model = Some("acme/smaller@1a2b:3c4d".to_owned());
    case.refused(Check::Model);
    case.expected.model = None;
    case.accepted();
    case.change_policy("names = \"any\"", "names = [\"acme/small@1a2b:3c4d\"]");
    case.refused(Check::Model);
    case.claims.model = None;
    case.refused(Check::Model);
}

#[test]
fn replayed_evidence() {
    let mut case = Case::honest(Role::Proxy);
    let recorded = case.evidence();
    case.appraise_evidence(&recorded).unwrap();
    case.channel.nonce = [0x44; 32];
    refused(case.appraise_evidence(&recorded), Check::ReportData);
    case.accepted();
}

#[test]
fn evidence_relayed_into_another_session() {
    let mut case = Case::honest(Role::Proxy);
    let relayed = case.evidence();
    case.channel.exporter = [0x55; 32];
    refused(case.appraise_evidence(&relayed), Check::ReportData);
}

#[test]
fn diversion_to_another_genuine_tee() {
    let mut case = Case::honest(Role::Proxy);
    case.expected.payment_key = Some(case.claims.keys.payment);
    case.expected.contract.clone_from(&case.claims.contract);
    case.accepted();

    let mut other = Case::honest(Role::Proxy);
    other.expected = case.expected.clone();
    other.claims.keys.payment = [0xee; 32];
    other.refused(Check::Identity);

    let mut other = Case::honest(Role::Proxy);
    other.expected = case.expected.clone();
    other.claims.contract = Some(format!("0:{}", "cd".repeat(32)));
    other.refused(Check::Identity);
    other.claims.contract = None;
    other.refused(Check::Identity);
}

#[test]
fn identities_that_the_policy_does_not_list() {
    let mut case = Case::honest(Role::Proxy);
    case.change_policy("payment_keys = \"any\"", &format!("payment_keys = [\"{}\"]", "14".repeat(32)));
    case.change_policy("contracts = \"any\"", &format!("contracts = [\"0:{}\"]", "AB".repeat(32)));
    case.accepted();
    case.claims.contract = None;
    case.refused(Check::Identity);
    case.claims = claims(Role::Proxy);
    case.claims.keys.payment = [0xee; 32];
    case.refused(Check::Identity);
}

#[test]
fn evidence_of_another_tls_key() {
    let mut case = Case::honest(Role::Proxy);
    case.channel.attester_spki = spki([0x99; 32]);
    case.refused(Check::Identity);
}

#[test]
fn revoked_pck() {
    let case = Case::honest(Role::Proxy);
    case.accepted();
    case.platform.faults().set(|faults| faults.pck_revoked = true);
    case.refused(Check::Revocation);
}

#[test]
fn expired_collateral() {
    let case = Case::honest(Role::Proxy);
    case.platform.faults().set(|faults| faults.collateral_expired = true);
    case.refused(Check::Collateral);
}

#[test]
fn verifiers_clock_set_back_a_year() {
    let mut case = Case::honest(Role::Proxy);
    case.accepted();
    case.now_unix_s -= 365 * DAY_S;
    case.refused(Check::Collateral);
}

#[test]
fn attesters_clock_beyond_the_skew() {
    let mut case = Case::honest(Role::Proxy);
    for skew in [-300, 300] {
        case.claims.time_unix_s = NOW.saturating_add_signed(skew);
        case.accepted();
    }
    for skew in [-301, 301] {
        case.claims.time_unix_s = NOW.saturating_add_signed(skew);
        case.refused(Check::Freshness);
    }
    case.claims.time_unix_s = u64::MAX;
    case.refused(Check::Freshness);
}

#[test]
fn out_of_date_beyond_grace() {
    let case = Case::honest(Role::Proxy);
    let out_of_date_since = |days: u64| {
        case.platform.faults().set(|faults| {
            faults.tcb_status = TcbStatus::OutOfDate;
            faults.tcb_level_date_unix_s = Some(NOW - days * DAY_S);
        });
    };
    out_of_date_since(20);
    assert_eq!(case.accepted().tcb_status, Some(TcbStatus::OutOfDate));
    out_of_date_since(40);
    case.refused(Check::Tcb);
}

#[test]
fn revoked_platform() {
    let case = Case::honest(Role::Proxy);
    case.platform.faults().set(|faults| faults.tcb_status = TcbStatus::Revoked);
    let refusal = case.appraise().expect_err("refused");
    assert!(matches!(refusal.check, Check::Tcb | Check::Revocation), "{refusal}");
}

#[test]
fn advisory_that_nobody_accepted() {
    let mut case = Case::honest(Role::Proxy);
    case.platform.faults().set(|faults| {
        faults.tcb_status = TcbStatus::SWHardeningNeeded;
        faults.advisories = vec!["INTEL-SA-00001".to_owned()];
    });
    case.refused(Check::Tcb);
    let statuses = "statuses = [\"UpToDate\", \"OutOfDate\"]";
    case.change_policy(
        statuses,
        "statuses = [\"UpToDate\", \"OutOfDate\", \"SWHardeningNeeded\"]\naccepted_advisories = [\"INTEL-SA-00002\"]",
    );
    case.refused(Check::Tcb);
    case.change_policy("[\"INTEL-SA-00002\"]", "[\"INTEL-SA-00001\"]");
    assert_eq!(case.accepted().advisories, ["INTEL-SA-00001"]);
    case.change_policy("evaluation_number_min", "rejected_advisories = [\"INTEL-SA-00001\"]\nevaluation_number_min");
    case.refused(Check::Tcb);
}

#[test]
fn older_evaluation_number_is_a_roll_back() {
    let mut case = Case::honest(Role::Proxy);
    let seen = case.accepted().tcb_evaluation_number.unwrap();
    case.expected.tcb_evaluation_number_min = seen;
    case.accepted();
    case.platform.faults().set(|faults| faults.tcb_evaluation_number = seen - 1);
    case.refused(Check::Tcb);
}

#[test]
fn simulated_evidence_to_a_production_policy() {
    let mut case = Case::honest(Role::Proxy);
    let manifest = hex::encode(SimImage::for_role(Role::Proxy).manifest().sha256());
    case.accepted();
    case.policy =
        Policy::production_template().replace("manifests = \"root\"", &format!("manifests = [\"{manifest}\"]"));
    case.refused(Check::Root);
}

/// The policy of a case, with images and models left to the root contract.
fn by_root(case: &mut Case, values: Option<&RootValues>) {
    let images = case.policy.lines().find(|line| line.starts_with("manifests = ")).unwrap().to_owned();
    let text = case.policy.replace(&images, "manifests = \"root\"").replace("names = \"any\"", "names = \"root\"");
    let policy = Policy::from_toml(&text).unwrap();
    case.policy = values.map_or_else(|| policy.clone(), |values| policy.with_root(values).unwrap()).text().to_owned();
}

fn manifest_of(role: Role) -> [u8; 32] {
    SimImage::for_role(role).manifest().sha256()
}

#[test]
fn a_policy_that_waits_for_the_root_accepts_nothing() {
    for role in [Role::Proxy, Role::Worker] {
        let mut case = Case::honest(role);
        case.accepted();
        by_root(&mut case, None);
        case.refused(Check::Image);
        // A root that was read and lists nothing accepts nothing either.
        by_root(&mut case, Some(&RootValues::default()));
        case.refused(Check::Image);
    }
}

#[test]
fn an_image_that_the_root_never_listed() {
    let values = RootValues { proxy_manifests: [manifest_of(Role::Proxy)].into(), ..RootValues::default() };
    let mut case = Case::honest(Role::Proxy);
    by_root(&mut case, Some(&values));
    case.accepted();
    let other = RootValues { proxy_manifests: [[7; 32]].into(), ..values };
    by_root(&mut case, Some(&other));
    case.refused(Check::Image);
}

#[test]
fn an_image_that_the_root_lists_for_the_other_role() {
    let values = RootValues { worker_manifests: [manifest_of(Role::Proxy)].into(), ..RootValues::default() };
    let mut case = Case::honest(Role::Proxy);
    by_root(&mut case, Some(&values));
    case.refused(Check::Image);
}

#[test]
fn a_model_that_the_root_never_listed() {
    let mut case = Case::honest(Role::Worker);
    let model = case.claims.model.clone().unwrap();
    let values = RootValues {
        worker_manifests: [manifest_of(Role::Worker)].into(),
        models: [model_sha256(&model)].into(),
        ..RootValues::default()
    };
    by_root(&mut case, Some(&values));
    case.accepted();
    // The part that clients do not see counts: it is the weights.
    case.claims.model = Some(format!("{model}0"));
    case.refused(Check::Model);
}

#[test]
fn evidence_of_another_simulated_platform() {
    let mut case = Case::honest(Role::Proxy);
    let other = cocoon_simtee::Platform::from_seed([9; 32], NOW).root_pem();
    case.policy = case.policy.replace(case.platform.root_pem().trim(), other.trim());
    case.refused(Check::Root);
}

#[test]
fn claims_altered() {
    let case = Case::honest(Role::Proxy);
    let evidence = case.evidence();
    let text = case.claims.encode();
    case.appraise_bound(&evidence, text.as_bytes(), &case.binding()).unwrap();
    for altered in [text.replace("proxy", "worker"), format!("{text} "), String::new()] {
        refused(case.appraise_bound(&evidence, altered.as_bytes(), &case.binding()), Check::ReportData);
    }
}

#[test]
fn claims_of_another_format() {
    let case = Case::honest(Role::Proxy);
    for claims in [&b"{}"[..], b"", b"\xff", &[b' '; 8 << 10]] {
        let evidence = now_evidence(&case, case.channel.report_data(claims));
        refused(case.appraise_bound(&evidence, claims, &case.binding()), Check::Format);
    }
}

fn now_evidence(case: &Case, report_data: [u8; 64]) -> Evidence {
    use cocoon_attest::provider::Attester as _;

    now(case.td.evidence(report_data)).unwrap()
}

#[test]
fn image_that_the_policy_does_not_list() {
    let mut case = Case::honest(Role::Proxy);
    case.td = case.platform.td(TdOptions::new(SimImage::new("cocoon-proxy-with-a-backdoor", b"")));
    case.refused(Check::Image);
}

#[test]
fn manifest_of_another_image() {
    let mut case = Case::honest(Role::Proxy);
    case.td = case.platform.td(TdOptions::new(SimImage::new("cocoon-proxy-with-a-backdoor", b"")));
    let mut evidence = case.evidence();
    evidence.manifest = Some(SimImage::for_role(Role::Proxy).manifest().encode().into_bytes());
    refused(case.appraise_evidence(&evidence), Check::Image);
    evidence.manifest = None;
    refused(case.appraise_evidence(&evidence), Check::Image);
}

#[test]
fn event_log_altered() {
    let case = Case::honest(Role::Proxy);
    let mut evidence = case.evidence();
    if let Some(byte) = evidence.event_log.as_mut().and_then(|log| log.last_mut()) {
        *byte ^= 1;
    }
    refused(case.appraise_evidence(&evidence), Check::Image);
    evidence.event_log = None;
    refused(case.appraise_evidence(&evidence), Check::Image);
}

#[test]
fn machine_that_the_policy_denies() {
    let mut case = Case::honest(Role::Proxy);
    let ppid = hex::encode(case.platform.ppid());
    case.change_policy("allow = \"any\"", &format!("allow = [\"{ppid}\"]"));
    case.accepted();
    case.change_policy(&format!("allow = [\"{ppid}\"]"), &format!("allow = \"any\"\ndeny = [\"{ppid}\"]"));
    case.refused(Check::Platform);
    case.change_policy(&format!("allow = \"any\"\ndeny = [\"{ppid}\"]"), &format!("allow = [\"{}\"]", "12".repeat(16)));
    case.refused(Check::Platform);
}

#[test]
fn gpu_evidence_stripped() {
    let mut case = Case::honest(Role::Worker);
    case.claims.gpu_sha256 = Some([9; 32]);
    case.refused(Check::Gpu);
}

#[test]
fn evidence_from_a_file_is_no_peer() {
    let case = Case::honest(Role::Proxy);
    let evidence = case.evidence();
    refused(case.appraise_bound(&evidence, b"", &Binding::Unbound), Check::Profile);
    let verdict = appraise_unbound(&case.policy(), &evidence, &case.collateral(), NOW).unwrap();
    assert_eq!((verdict.profile.as_str(), verdict.role, verdict.claims), ("unbound", None, None));
}

#[test]
fn downgrade_to_cocoon_v1() {
    let mut case = Case::honest(Role::Proxy);
    let binding = Binding::CocoonV1 { public_key: [0x11; 32] };
    // The profile covers a quote and nothing beside it.
    let quote_alone = |case: &Case| {
        let shown = now_evidence(case, binding.report_data(b"").unwrap());
        Evidence { event_log: None, manifest: None, ..shown }
    };
    let evidence = quote_alone(&case);
    let appraise = |case: &Case| case.appraise_bound(&evidence, b"", &binding);
    refused(appraise(&case), Check::Profile);
    case.change_policy("[link]\n", "[link]\ninsecure_cocoon_v1 = true\n");
    case.change_policy("[image]\n", &format!("[image]\noriginal_image_hashes = [\"{}\"]\n", "77".repeat(32)));
    let hash = refused(appraise(&case), Check::Image).found;
    case.change_policy(&"77".repeat(32), &hash);
    let verdict = appraise(&case).unwrap();
    assert_eq!((verdict.profile.as_str(), verdict.role), ("cocoon-v1", None));
    // Attributes count here too, and what the profile cannot prove is not assumed.
    case.expected.payment_key = Some([0x14; 32]);
    refused(appraise(&case), Check::Identity);
    case.expected.payment_key = None;
    case.platform.faults().set(|faults| faults.debug_guest = true);
    let debug = quote_alone(&case);
    refused(case.appraise_bound(&debug, b"", &binding), Check::Attributes);
}

#[test]
fn sixteen_mebibytes_of_evidence() {
    let case = Case::honest(Role::Proxy);
    let huge = vec![0; 16 << 20];
    let mut evidence = case.evidence();
    evidence.event_log = Some(huge.clone());
    refused(case.appraise_evidence(&evidence), Check::Size);
    let mut evidence = case.evidence();
    evidence.manifest = Some(huge.clone());
    refused(case.appraise_evidence(&evidence), Check::Size);
    let mut evidence = case.evidence();
    evidence.platform = PlatformEvidence::Tdx { quote: huge.clone() };
    refused(case.appraise_evidence(&evidence), Check::Size);
    refused(case.appraise_bound(&case.evidence(), &huge, &case.binding()), Check::Size);
}

/// The production template, with what it cannot know: any image, and registers that clouds set.
fn for_files(text: &str) -> Policy {
    let text = text
        .replace("manifests = \"root\"", "manifests = \"any\"")
        .replace("host_registers = \"zero\"", "host_registers = \"any\"")
        .replace("host_data = \"zero\"", "host_data = \"any\"");
    Policy::from_toml(&text).unwrap()
}

fn tdx_file(quote: &str, collateral: &str, at: u64) -> Result<Verdict, cocoon_attest::Refusal> {
    let platform = PlatformEvidence::Tdx { quote: read(quote) };
    let evidence = Evidence { platform, event_log: None, manifest: None, gpus: Vec::new() };
    let collateral = Collateral::Intel(intel_collateral(collateral));
    appraise_unbound(&for_files(&Policy::production_template()), &evidence, &collateral, at)
}

const REAL: [(&str, &str, u64); 4] = [
    ("tdx/dcap-qvl/tdx_quote", "tdx/dcap-qvl/tdx_quote_collateral.json", 1_751_624_655),
    ("tdx/dcap-qvl/tdx_quote_td15ex", "tdx/dcap-qvl/tdx_quote_td15ex_collateral.json", 1_792_713_448),
    ("tdx/flashbots/dcap-tdx-1766059550570652607", "tdx/flashbots/dcap-quote-collateral-00.json", 1_769_507_399),
    (
        "tdx/flashbots/gcp-tdx-1782809233226668671",
        "tdx/flashbots/gcp-tdx-collateral-1782809233226668671.json",
        1_782_809_233,
    ),
];

#[test]
fn real_quotes_pass_the_production_template() {
    for (quote, collateral, at) in REAL {
        let verdict = tdx_file(quote, collateral, at).unwrap_or_else(|refusal| panic!("{quote}: {refusal}"));
        assert_eq!(verdict.provenance, Provenance::Vendor, "{quote}");
        assert_eq!(verdict.tcb_status, Some(TcbStatus::UpToDate), "{quote}");
        assert_eq!(verdict.profile, "unbound");
        refused(tdx_file(quote, collateral, PRESENT), Check::Collateral);
    }
}

#[test]
fn real_debug_td() {
    let (_, collateral, at) = REAL[0];
    refused(tdx_file("tdx/trustee/tdx_quote_4.dat", collateral, at), Check::Attributes);
}

#[test]
fn real_sealing_enclave() {
    let policy = Policy::production_template()
        .replace("tdx = [\"intel\"]", "tdx = [\"intel\"]\nsgx = [\"intel\"]")
        .replace("[image]", "[image]\nenclaves = \"any\"")
        .replace(
            "statuses = [\"UpToDate\", \"OutOfDate\"]",
            "statuses = [\"UpToDate\", \"OutOfDate\", \"ConfigurationAndSWHardeningNeeded\"]\naccepted_advisories = \"any\"",
        );
    let policy = for_files(&policy);
    let platform = PlatformEvidence::Sgx { quote: read("tdx/dcap-qvl/sgx_quote") };
    let evidence = Evidence { platform, event_log: None, manifest: None, gpus: Vec::new() };
    let collateral = Collateral::Intel(intel_collateral("tdx/dcap-qvl/sgx_quote_collateral.json"));
    let verdict = appraise_unbound(&policy, &evidence, &collateral, 1_751_624_924).unwrap();
    assert_eq!(verdict.tcb_status, Some(TcbStatus::ConfigurationAndSWHardeningNeeded));

    // An enclave is never a peer, and no evidence at all for a policy without a root for it.
    let case = Case::honest(Role::Proxy);
    let exhibit =
        cocoon_attest::Exhibit { evidence: &evidence, claims: b"", binding: &case.binding(), collateral: &collateral };
    refused(cocoon_attest::appraise(&policy, exhibit, &case.expected, 1_751_624_924), Check::Format);
    let without = for_files(&Policy::production_template());
    refused(appraise_unbound(&without, &evidence, &collateral, 1_751_624_924), Check::Root);
}

/// Header and body of a quote of version 4.
const SIGNED_BYTES: usize = 48 + 584;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    /// Whatever bit of the quoted header and body a peer flips, it is refused.
    #[test]
    fn any_flipped_bit_of_a_quote_is_refused(at in 0..SIGNED_BYTES, bit in 0_u8..8) {
        let case = Case::honest(Role::Proxy);
        let mut evidence = case.evidence();
        if let PlatformEvidence::Tdx { quote } = &mut evidence.platform {
            quote[at] ^= 1 << bit;
        }
        prop_assert!(case.appraise_evidence(&evidence).is_err());
    }
}
