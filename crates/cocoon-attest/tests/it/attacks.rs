//! Attacks that were found by looking for them: each got through once, or came close.

use cocoon_attest::appraise::appraise_unbound;
use cocoon_attest::claims::gpu_digest;
use cocoon_attest::evidence::PlatformEvidence;
use cocoon_attest::facts::TcbStatus;
use cocoon_attest::provider::Attester as _;
use cocoon_attest::{
    Binding, Check, Collateral, Document, Evidence, Exhibit, Expected, Policy, Provenance, Refusal, Role, SnpCollateral,
};
use cocoon_simtee::{Platform, SimImage, TdOptions};

use crate::case::{Case, NOW, now, refused};
use crate::vectors::{intel_collateral, read, read_hex};

/// The document that whoever holds this evidence can write: every hash and the verdict in order.
fn written(
    policy: &Policy,
    evidence: &Evidence,
    claims: &str,
    binding: &Binding,
    collateral: &Collateral,
) -> Result<Document, Refusal> {
    let expected = Expected::default();
    let verdict = if matches!(binding, Binding::Unbound) {
        appraise_unbound(policy, evidence, collateral, NOW)?
    } else {
        let exhibit = Exhibit { evidence, claims: b"", binding, collateral };
        cocoon_attest::appraise(policy, exhibit, &expected, NOW)?
    };
    let exhibit = Exhibit { evidence, claims: claims.as_bytes(), binding, collateral };
    Ok(Document::record(policy, exhibit, &expected, &verdict).unwrap())
}

/// A genuine quote, made a document that is bound to nothing, with claims that nobody attested.
#[test]
fn claims_forged_in_a_document_that_is_bound_to_nothing() {
    let case = Case::honest(Role::Proxy);
    let (policy, evidence, collateral) = (case.policy(), case.evidence(), case.collateral());
    let mut forged = case.claims.clone();
    forged.keys.payment = [0xee; 32];
    let write = |claims: &str| written(&policy, &evidence, claims, &Binding::Unbound, &collateral).unwrap();

    let verified = write("").verify(None, None).unwrap();
    assert!(verified.trust.warnings().iter().any(|warning| warning.contains("bound to nothing")));
    refused(write(&forged.encode()).verify(None, None), Check::Document);
}

/// And with an identity that the recorder pretends to have asked for.
#[test]
fn expectations_forged_in_a_document_that_is_bound_to_nothing() {
    let case = Case::honest(Role::Proxy);
    let (policy, evidence, collateral) = (case.policy(), case.evidence(), case.collateral());
    let verdict = appraise_unbound(&policy, &evidence, &collateral, NOW).unwrap();
    let exhibit = Exhibit { evidence: &evidence, claims: b"", binding: &Binding::Unbound, collateral: &collateral };
    let expected = Expected { payment_key: Some([0xee; 32]), ..Expected::default() };
    let document = Document::record(&policy, exhibit, &expected, &verdict).unwrap();
    refused(document.verify(None, None), Check::Document);
}

/// Evidence of the original's profile covers a key. What else comes along, nothing vouches for.
#[test]
fn extras_beside_a_cocoon_v1_quote() {
    let mut case = Case::honest(Role::Proxy);
    case.change_policy("[link]\n", "[link]\ninsecure_cocoon_v1 = true\n");
    case.change_policy("[image]\n", "[image]\noriginal_image_hashes = \"any\"\n");
    let binding = Binding::CocoonV1 { public_key: [0x11; 32] };
    let quoted = now(case.td.evidence(binding.report_data(b"").unwrap())).unwrap();
    let bare = Evidence { event_log: None, manifest: None, ..quoted.clone() };
    case.appraise_bound(&bare, b"", &binding).unwrap();

    refused(case.appraise_bound(&bare, case.claims.encode().as_bytes(), &binding), Check::Profile);
    let mut another = case.evidence();
    another.platform = bare.platform.clone();
    another.manifest = Some(SimImage::for_role(Role::Worker).manifest().encode().into_bytes());
    refused(case.appraise_bound(&another, b"", &binding), Check::Profile);
    let log_only = Evidence { manifest: None, ..quoted };
    refused(case.appraise_bound(&log_only, b"", &binding), Check::Profile);
}

/// Real chips, whose versions are older than any template accepts.
fn milan_policy() -> Policy {
    let text = Policy::production_template()
        .replace("manifests = \"root\"", "manifests = \"any\"")
        .replace("host_data = \"zero\"", "host_data = \"any\"")
        .replace("abi_min = \"1.0\"", "abi_min = \"0.0\"")
        .replace("require_crl = true", "require_crl = false")
        .replace(
            "boot_loader = 4\ntee = 0\nsnp = 24\nmicrocode = 219",
            "boot_loader = 0\ntee = 0\nsnp = 0\nmicrocode = 0",
        );
    Policy::from_toml(&text).unwrap()
}

/// SNP measures no event log, so nobody can say that one is true.
#[test]
fn event_log_beside_an_snp_report() {
    let collateral = Collateral::Amd(SnpCollateral {
        leaf: Some(read("snp/virtee-sev/vcek_milan.der")),
        chain: String::new(),
        crl: None,
    });
    let platform =
        PlatformEvidence::SevSnp { report: read_hex("snp/virtee-sev/report_milan.hex"), certificates: Vec::new() };
    let mut evidence = Evidence { platform, event_log: None, manifest: None, gpus: Vec::new() };
    let appraise = |evidence: &Evidence| appraise_unbound(&milan_policy(), evidence, &collateral, 1_750_000_000);
    appraise(&evidence).unwrap();
    evidence.event_log = Case::honest(Role::Proxy).evidence().event_log;
    refused(appraise(&evidence), Check::Image);
}

/// A report that the host asked for states VMPL 0xffffffff: no policy takes it.
#[test]
fn policy_that_takes_reports_which_the_host_asked_for() {
    let text = Policy::production_template();
    for (vmpl, parses) in [("0", true), ("3", true), ("4", false), ("4294967295", false), ("-1", false)] {
        let text = text.replace("vmpl_max = 0", &format!("vmpl_max = {vmpl}"));
        assert_eq!(Policy::from_toml(&text).is_ok(), parses, "{vmpl}");
    }
}

/// A status that is accepted for listed advisories only, and names none.
#[test]
fn status_by_advisory_that_names_no_advisory() {
    let mut case = Case::honest(Role::Proxy);
    case.platform.faults().set(|faults| faults.tcb_status = TcbStatus::ConfigurationNeeded);
    case.change_policy(
        "statuses = [\"UpToDate\", \"OutOfDate\"]",
        "statuses = [\"UpToDate\", \"OutOfDate\", \"ConfigurationNeeded\"]\naccepted_advisories = [\"INTEL-SA-00001\"]",
    );
    case.refused(Check::Tcb);
    case.change_policy("[\"INTEL-SA-00001\"]", "\"any\"");
    case.accepted();
}

/// An honest worker with so many GPUs.
fn with_gpus(count: usize) -> (Case, Evidence) {
    let mut case = Case::honest(Role::Worker);
    case.td = case.platform.td(TdOptions::new(SimImage::for_role(Role::Worker)).gpus(count));
    let root = case.platform.nvidia_root_pem();
    case.change_policy("[roots]\n", &format!("[roots]\ngpu = [{{ simulated = \"\"\"\n{}\n\"\"\" }}]\n", root.trim()));
    let gpus = now(case.td.gpu_evidence(case.channel.gpu_nonce())).unwrap();
    let evidence = Evidence { gpus, ..case.evidence() };
    (case, evidence)
}

/// Evidence whose claims name these GPUs: what a worker says whose host shows it GPUs that are not its own.
fn attested(case: &mut Case, evidence: Evidence) -> Evidence {
    case.claims.gpu_sha256 = gpu_digest(&evidence.gpus);
    Evidence { gpus: evidence.gpus, ..case.evidence() }
}

#[test]
fn one_gpu_shown_as_two() {
    let (mut case, evidence) = with_gpus(2);
    let two = attested(&mut case, evidence.clone());
    assert_eq!(case.appraise_evidence(&two).unwrap().gpus.len(), 2);

    let mut twice = evidence;
    twice.gpus[1] = twice.gpus[0].clone();
    // Another spelling of the same chain.
    twice.gpus[1].certificate_chain.insert(0, '\n');
    let twice = attested(&mut case, twice);
    refused(case.appraise_evidence(&twice), Check::Gpu);
}

/// GPUs in another order than the claims have them, and one exchanged for another of the same machine.
#[test]
fn gpu_evidence_swapped() {
    let (mut case, evidence) = with_gpus(2);
    let mut swapped = attested(&mut case, evidence);
    swapped.gpus.swap(0, 1);
    refused(case.appraise_evidence(&swapped), Check::Gpu);
    swapped.gpus.swap(0, 1);
    let chain = swapped.gpus[1].certificate_chain.clone();
    swapped.gpus[0].certificate_chain = chain;
    let swapped = attested(&mut case, swapped);
    refused(case.appraise_evidence(&swapped), Check::Signature);
}

/// A genuine CPU lends its name to a GPU that somebody simulates.
#[test]
fn simulated_gpu_beside_a_vendors_cpu() {
    const AT: u64 = 1_792_713_448;

    let platform = Platform::from_seed([1; 32], AT);
    let gpus =
        now(platform.td(TdOptions::new(SimImage::for_role(Role::Worker)).gpus(1)).gpu_evidence([4; 32])).unwrap();
    let quote = PlatformEvidence::Tdx { quote: read("tdx/dcap-qvl/tdx_quote_td15ex") };
    let evidence = Evidence { platform: quote, event_log: None, manifest: None, gpus };
    let collateral = Collateral::Intel(intel_collateral("tdx/dcap-qvl/tdx_quote_td15ex_collateral.json"));
    let simulated = format!("gpu = [{{ simulated = \"\"\"\n{}\n\"\"\" }}]", platform.nvidia_root_pem().trim());
    let text = Policy::production_template()
        .replace("gpu = [\"nvidia\"]", &simulated)
        .replace("environment = \"production\"", "environment = \"development\"")
        .replace("manifests = \"root\"", "manifests = \"any\"")
        .replace("host_registers = \"zero\"", "host_registers = \"any\"");
    let policy = Policy::from_toml(&text).unwrap();
    let verdict = appraise_unbound(&policy, &evidence, &collateral, AT).unwrap();
    assert_eq!(verdict.gpus[0].provenance, Provenance::Simulated);
    assert_eq!(verdict.provenance, Provenance::Simulated, "a verdict is worth what its weakest root is");
}

const ESCAPE: &str = "\u{1b}[2J\n\u{202e}";

#[track_caller]
fn plain(refusal: &Refusal) {
    for text in [&refusal.expected, &refusal.found, &refusal.remedy, &refusal.to_string()] {
        let strange = text.chars().find(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c));
        assert_eq!(strange, None, "{text:?}");
        assert!(text.len() < 8192, "{} bytes", text.len());
    }
}

/// Texts of a peer end up in logs and on terminals: in certificates, in collateral, in manifests.
#[test]
fn log_lines_forged_through_a_refusal() {
    let mut case = Case::honest(Role::Proxy);
    let evidence = case.evidence();
    let Collateral::Intel(honest) = (*case.collateral()).clone() else { panic!() };
    let appraise = |case: &Case, collateral, evidence: &Evidence| {
        let claims = case.claims.encode();
        let (collateral, binding) = (Collateral::Intel(collateral), case.binding());
        let exhibit = Exhibit { evidence, claims: claims.as_bytes(), binding: &binding, collateral: &collateral };
        cocoon_attest::appraise(&case.policy(), exhibit, &case.expected, NOW).expect_err("refused")
    };

    let mut named = honest.clone();
    named.tcb_info_issuer_chain = renamed_issuer(&honest.tcb_info_issuer_chain);
    plain(&appraise(&case, named, &evidence));

    let mut status = honest.clone();
    status.tcb_info = honest.tcb_info.replacen("UpToDate", "\\u001b[2J\\n\\u202e", 1);
    plain(&appraise(&case, status, &evidence));

    let mut dates = honest.clone();
    dates.qe_identity = format!("{{\"issueDate\":\"\\u001b[2J\\n\\u202e\",\"nextUpdate\":\"{}\"}}", "x".repeat(99));
    plain(&appraise(&case, dates, &evidence));

    case.policy = case
        .policy
        .replace(case.policy.lines().find(|line| line.starts_with("manifests")).unwrap(), "manifests = \"any\"");
    let manifest =
        format!("{{\"{}{}\":1}}", ESCAPE.replace('\n', "\\n").replace('\u{1b}', "\\u001b"), "x".repeat(60_000));
    let mut lying = evidence;
    lying.manifest = Some(manifest.into_bytes());
    plain(&appraise(&case, honest, &lying));
}

/// The first certificate of a chain alone, with an issuer whose name moves the cursor.
fn renamed_issuer(chain: &str) -> String {
    use base64::Engine as _;

    let first = x509_parser::pem::Pem::iter_from_buffer(chain.as_bytes()).next().unwrap().unwrap();
    let mut der = first.contents.clone();
    let issuer = first.parse_x509().unwrap().issuer().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
    let at = der.windows(issuer.len()).position(|window| window == issuer.as_bytes()).unwrap();
    der[at..at + ESCAPE.len()].copy_from_slice(ESCAPE.as_bytes());
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// Documents carry a policy and are themselves JSON of a stranger's.
#[test]
fn nesting_bombs() {
    let deep = 50_000;
    for toml in [
        format!("version = 1\nname = {}", "[".repeat(deep)),
        format!("version = 1\nname = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("version = 1\nname = {}", "{a=".repeat(deep)),
        format!("version = 1\n{}b = 1", "a.".repeat(deep)),
        format!("version = 1\n[{}b]", "a.".repeat(deep)),
        format!("version = {}1{}", "[".repeat(deep), "]".repeat(deep)),
        format!("version = 1\n{}", "[[a]]\n".repeat(deep / 2)),
    ] {
        assert!(Policy::from_toml(&toml).is_err());
    }
    for json in ["[".repeat(deep), "{\"version\":".repeat(deep), format!("{{\"version\":{}", "[".repeat(deep))] {
        assert!(Document::decode(json.as_bytes()).is_err());
        assert!(cocoon_attest::Claims::decode(json.get(..8192).unwrap().as_bytes()).is_err());
        assert!(cocoon_attest::ImageManifest::parse(json.get(..8192).unwrap().as_bytes()).is_err());
    }
}

/// No time makes the verifier panic, and none before or after the collateral is accepted.
#[test]
fn times_at_the_ends_of_their_range() {
    let mut case = Case::honest(Role::Proxy);
    for at in [0, 1, u64::from(u32::MAX), i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX] {
        case.now_unix_s = at;
        case.claims.time_unix_s = at;
        assert!(case.appraise().is_err(), "{at}");
    }
    // The same through a document, whose times its author writes.
    let case = Case::honest(Role::Proxy);
    let (evidence, collateral, claims) = (case.evidence(), case.collateral(), case.claims.encode());
    let binding = case.binding();
    let exhibit =
        Exhibit { evidence: &evidence, claims: claims.as_bytes(), binding: &binding, collateral: &collateral };
    let verdict = cocoon_attest::appraise(&case.policy(), exhibit, &case.expected, NOW).unwrap();
    let text = Document::record(&case.policy(), exhibit, &case.expected, &verdict).unwrap().encode();
    for at in ["0", "18446744073709551615", "9223372036854775808"] {
        let moved = text.replace(&format!("\"recorded_unix_s\":{NOW}"), &format!("\"recorded_unix_s\":{at}"));
        assert_ne!(moved, text);
        assert!(Document::decode(moved.as_bytes()).unwrap().verify(None, None).is_err());
    }
}

/// Two values for one claim: which one counts must not depend on the reader.
#[test]
fn claims_that_say_something_twice() {
    let case = Case::honest(Role::Proxy);
    for twice in [
        case.claims.encode().replacen("\"version\":1", "\"version\":1,\"version\":1", 1),
        case.claims.encode().replacen("\"role\":\"proxy\"", "\"role\":\"worker\",\"role\":\"proxy\"", 1),
        case.claims.encode().replacen("\"role\":\"proxy\"", "\"role\":\"proxy\",\"Role\":\"worker\"", 1),
        case.claims.encode().replacen("\"role\":\"proxy\"", "\"role\":\"worker\",\"r\\u006fle\":\"proxy\"", 1),
    ] {
        let evidence = now(case.td.evidence(case.channel.report_data(twice.as_bytes()))).unwrap();
        refused(case.appraise_bound(&evidence, twice.as_bytes(), &case.binding()), Check::Format);
    }
}
