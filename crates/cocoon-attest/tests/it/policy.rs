//! Policies: what parses, what does not and what the error says, and what is said of those that do.

use cocoon_attest::policy::template::{self, Images, Simulated};
use cocoon_attest::policy::{Environment, Mode, PolicyError, RootValues};
use cocoon_attest::{Format, Policy, Role, roots};
use expect_test::{Expect, expect};
use proptest::prelude::*;

/// The root of a simulated platform whose key was thrown away.
const SIMULATED_ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBzTCCAXOgAwIBAgIUNuZ0G3bGrfrZHbrXv+42H7uBiJswCgYIKoZIzj0EAwIw
OzEWMBQGA1UECgwNU0lNVUxBVEVEIFRFRTEhMB8GA1UEAwwYU2ltdWxhdGVkIHJv
b3Qgb2Ygbm9ib2R5MCAXDTI2MTEyMzA0MDQ1MloYDzIxMjYxMDMwMDQwNDUyWjA7
MRYwFAYDVQQKDA1TSU1VTEFURUQgVEVFMSEwHwYDVQQDDBhTaW11bGF0ZWQgcm9v
dCBvZiBub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARpCS4idgm/utLB
r1ZIhmg9m90eFEBVt0sxFYUWEz1qLF/w1hWHaxCQNZTTPaZBdX7Vhv0vcbKTJVXl
Qxdvey6Co1MwUTAdBgNVHQ4EFgQUPLXf/goIirS6uhF6PkSX4Q3u5o0wHwYDVR0j
BBgwFoAUPLXf/goIirS6uhF6PkSX4Q3u5o0wDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNIADBFAiEA+8opTpzeD8l3PSG6ypdEVrSCGd0wDPVJwsAGyG+yzU4C
IBOdLtq5QO0+u+P8PXi6dA45bmkoY6yZJw7t4AzXDuuO
-----END CERTIFICATE-----
";

fn development() -> String {
    template::simulated(&Simulated {
        name: "test",
        tdx_root_pem: Some(SIMULATED_ROOT),
        sev_snp_root_pem: None,
        gpu_root_pem: None,
        images: Images::Of(&[[0xaa; 32]]),
        roles: &[Role::Proxy],
        mode: Mode::SessionKey,
    })
}

/// Replaces one thing that is there once.
#[track_caller]
fn with(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} once in\n{text}");
    text.replace(from, to)
}

#[track_caller]
fn refused(text: &str, expected: Expect) {
    let error = Policy::from_toml(text).expect_err("no policy");
    expected.assert_eq(&format!("{}\n", error.to_string().trim_end()));
}

#[test]
fn templates_parse() {
    let production = Policy::from_toml(&Policy::production_template()).unwrap();
    assert_eq!(production.environment(), Environment::Production);
    assert_eq!(production.formats(), [Format::Tdx, Format::SevSnp]);
    assert!(!production.link().session_key && !production.link().insecure_cocoon_v1);

    let development = Policy::from_toml(&development()).unwrap();
    assert_eq!(development.environment(), Environment::Development);
    assert_eq!(development.formats(), [Format::Tdx]);
    assert!(development.link().session_key);
    assert_eq!(development.link().session_max_age_s, 300);
    assert_ne!(development.sha256(), production.sha256());
    assert_ne!(development, production);
}

#[test]
fn production_says_what_it_accepts() {
    let policy = Policy::from_toml(&Policy::production_template()).unwrap();
    expect![[r#"
        production: a production policy.
        Accepts Intel TDX evidence under the built-in root of intel.
        Refuses all Intel SGX evidence (from files only: an enclave is never a peer): it has no root for it.
        Accepts AMD SEV-SNP evidence under the built-in root of amd.
        Accepts NVIDIA GPU evidence under the built-in root of nvidia.
        Asks for fresh evidence on each connection.
        Accepts the images that the root contract lists, each in the role it is listed for.
        Until the root contract has been read, accepts NO image.
        Refuses TDs that can be debugged, profiled or moved, have service TDs or reserved attributes, or lack SEPT_VE_DISABLE.
        Refuses TDs with performance counters.
        Accepts TDs with PKS.
        Refuses TDs with Key Locker.
        Accepts TDs with CPU features (XFAM) within 0x65ae7.
        Accepts ANY TDX module that Intel signed; [tcb] judges its version.
        Refuses SNP guests that can be debugged or moved, or have reserved policy bits.
        Accepts SNP guests that may share cores (SMT).
        Accepts SNP reports asked for at VMPL 0 to 0 by guests that ask for ABI 1.0 or later.
        Accepts Intel platforms with status UpToDate, OutOfDate.
        Accepts an out-of-date platform for 30 days after its last good level, an out-of-date quoting enclave for 30.
        Refuses collateral with a TCB evaluation number below 0, or below the highest seen.
        Accepts AMD genoa with security versions of at least boot loader 9, tee 0, snp 23, microcode 72.
        Accepts AMD milan with security versions of at least boot loader 4, tee 0, snp 24, microcode 219.
        Accepts AMD turin with security versions of at least boot loader 1, tee 1, snp 1, microcode 71.
        Accepts ANY machine of an accepted vendor, wherever it stands and whoever can open it.
        Accepts dynamic platforms.
        Accepts platforms with cached keys.
        Accepts platforms with simultaneous multithreading.
        Refuses reports signed by a cloud provider's key (VLEK).
        Refuses a peer whose clock is more than 300 s from ours; keeps a verdict for 600 s at most; asks an open connection for new evidence after 3600 s.
        Accepts these roles: proxy, worker.
        Accepts workers with the models that the root contract lists.
        Until the root contract has been read, accepts NO model.
        Accepts ANY payment key: whose node it is depends on what the caller expects of the connection.
        Accepts proxies with ANY contract.
        Does not ask for GPU evidence: a peer may compute on an unprotected GPU.
        Accepts GPUs in confidential computing mode; where a report does not state the mode, its existence counts as such.
        Compares GPU measurements with the vendor's reference values only where it has them.
    "#]].assert_eq(&(policy.explain().join("\n") + "\n"));
}

#[test]
fn simulation_is_loud() {
    let said = Policy::from_toml(&development()).unwrap().explain();
    assert!(said.iter().any(|sentence| sentence.contains("DEVELOPMENT")), "{said:#?}");
    assert!(said.iter().filter(|sentence| sentence.starts_with("SIMULATED")).count() == 2, "{said:#?}");
}

#[test]
fn any_and_insecure_are_loud() {
    let text = with(&development(), &format!("[\"{}\"]", "aa".repeat(32)), "\"any\"\noriginal_image_hashes = \"any\"");
    let text = with(&text, "[link]\n", "[link]\ninsecure_cocoon_v1 = true\n");
    let said = Policy::from_toml(&text).unwrap().explain();
    for loud in ["ANY image: ", "ANY image in cocoon-v1", "INSECURE: accepts the link profile cocoon-v1", "ANY machine"]
    {
        assert!(said.iter().any(|sentence| sentence.contains(loud)), "{loud} in {said:#?}");
    }
}

#[test]
fn empty_list_is_not_any() {
    let text = with(&Policy::production_template(), "manifests = \"root\"", "manifests = []");
    refused(
        &text,
        expect![[r#"
        TOML parse error at line 17, column 13
           |
        17 | manifests = []
           |             ^^
        an empty list accepts nothing and never means "any": name what is accepted, or write "any"
    "#]],
    );
    let text = with(&Policy::production_template(), "[platform]\n", "[platform]\ndeny = []\n");
    refused(
        &text,
        expect![[r#"
        TOML parse error at line 72, column 8
           |
        72 | deny = []
           |        ^^
        an empty list names nothing: name something, or leave the field out
    "#]],
    );
}

#[test]
fn word_other_than_any_is_no_list() {
    let text = with(&Policy::production_template(), "payment_keys = \"any\"", "payment_keys = \"all\"");
    refused(
        &text,
        expect![[r#"
        TOML parse error at line 94, column 16
           |
        94 | payment_keys = "all"
           |                ^^^^^
        "all": write a list in brackets, or the word "any"
    "#]],
    );
}

#[test]
fn simulated_root_in_production() {
    let root = format!("tdx = [\"intel\", {{ simulated = \"\"\"\n{SIMULATED_ROOT}\"\"\" }}]");
    let text = with(&Policy::production_template(), "tdx = [\"intel\"]", &root);
    refused(
        &text,
        expect![[r#"
        line 11, [roots] tdx: a simulated root in a production policy; write "intel", or `environment = "development"` if this is a test
    "#]],
    );
}

#[test]
fn vendors_root_under_the_name_of_a_simulated_one() {
    use base64_pem::pem;

    let text = with(&development(), SIMULATED_ROOT.trim(), pem(&roots::intel().certificate_der).trim());
    refused(
        &text,
        expect![[r#"
        line 9, [roots] tdx: a vendor's own root under the name of a simulated one; write "intel"
    "#]],
    );
}

#[test]
fn root_of_another_vendor() {
    let text = with(&Policy::production_template(), "tdx = [\"intel\"]", "tdx = [\"amd\"]");
    refused(
        &text,
        expect![[r#"
        line 11, [roots] tdx: amd does not make this kind of evidence; write "intel"
    "#]],
    );
}

#[test]
fn no_roots() {
    let text = with(&Policy::production_template(), "tdx = [\"intel\"]\nsev-snp = [\"amd\"]\n", "");
    refused(
        &text,
        expect![[r#"
        line 10, [roots] tdx: no root for any CPU evidence, so nothing can be accepted; write `tdx = ["intel"]`, `sev-snp = ["amd"]` or both
    "#]],
    );
}

#[test]
fn later_version() {
    let text = with(&Policy::production_template(), "version = 1", "version = 2\nfuture = true");
    refused(
        &text,
        expect![[r#"
        policy version 2; this program reads version 1: write `version = 1`
    "#]],
    );
    assert!(matches!(Policy::from_toml(""), Err(PolicyError::Version { .. })));
}

#[test]
fn unknown_field() {
    let text = with(&Policy::production_template(), "allow_smt = true\nallow_cached", "allow_SMT = true\nallow_cached");
    refused(
        &text,
        expect![[r#"
        TOML parse error at line 76, column 1
           |
        76 | allow_SMT = true
           | ^^^^^^^^^
        unknown field `allow_SMT`, expected one of `allow`, `deny`, `allow_dynamic_platform`, `allow_cached_keys`, `allow_smt`, `allow_vlek`
    "#]],
    );
}

#[test]
fn debug_cannot_be_allowed() {
    for section in ["[attributes.tdx]\n", "[attributes.sev-snp]\n"] {
        let text = with(&development_of_all(), section, &format!("{section}insecure_allow_debug = true\n"));
        assert!(Policy::from_toml(&text).unwrap_err().to_string().contains("unknown field"));
    }
}

fn development_of_all() -> String {
    template::simulated(&Simulated {
        name: "all",
        tdx_root_pem: Some(SIMULATED_ROOT),
        sev_snp_root_pem: Some(SIMULATED_ROOT),
        gpu_root_pem: Some(SIMULATED_ROOT),
        images: Images::Any,
        roles: &[],
        mode: Mode::Strict,
    })
}

#[test]
fn every_kind_of_evidence_can_be_simulated() {
    let policy = Policy::from_toml(&development_of_all()).unwrap();
    assert_eq!(policy.formats(), [Format::Tdx, Format::SevSnp]);
    assert!(policy.link().gpu_required && !policy.link().session_key);
}

#[test]
fn revoked_is_never_accepted() {
    let text = with(&Policy::production_template(), "[\"UpToDate\", \"OutOfDate\"]", "[\"UpToDate\", \"Revoked\"]");
    refused(
        &text,
        expect![[r#"
        TOML parse error at line 42, column 12
           |
        42 | statuses = ["UpToDate", "Revoked"]
           |            ^^^^^^^^^^^^^^^^^^^^^^^
        a revoked platform is never accepted: remove "Revoked"
    "#]],
    );
}

#[test]
fn grace_and_status_belong_together() {
    let production = Policy::production_template();
    let text = with(&production, "platform_grace_days = 30\nqe_grace_days = 30\n", "");
    refused(
        &text,
        expect![[r#"
        line 40, [tcb.intel] platform_grace_days: missing, while statuses has OutOfDate: nothing out of date would be accepted; write for how many days after a recovery an unpatched platform is accepted
    "#]],
    );
    refused(
        &with(&production, "[\"UpToDate\", \"OutOfDate\"]", "[\"UpToDate\"]"),
        expect![[r#"
        line 43, [tcb.intel] platform_grace_days: grace without OutOfDate in statuses has no effect; remove the grace days, or add "OutOfDate"
    "#]],
    );
    let text = with(&production, "\"OutOfDate\"]", "\"OutOfDate\", \"SWHardeningNeeded\"]");
    refused(
        &text,
        expect![[r#"
        line 40, [tcb.intel] accepted_advisories: missing, while statuses has one that is accepted only for listed advisories; list the advisories that may be open, or write "any"
    "#]],
    );
}

#[test]
fn times_are_bounded() {
    let production = Policy::production_template();
    for (from, to) in [
        ("claims_skew_max_s = 300", "claims_skew_max_s = 301"),
        ("verdict_cache_s = 600", "verdict_cache_s = 59"),
        ("verdict_cache_s = 600", "verdict_cache_s = 3601"),
        ("mode = \"strict\"", "mode = \"session-key\"\nsession_max_age_s = 301"),
        ("mode = \"strict\"", "mode = \"session-key\"\nsession_max_age_s = 0"),
        ("reattest_after_s = 3600", "reattest_after_s = 0"),
        ("platform_grace_days = 30", "platform_grace_days = 366"),
    ] {
        let error = Policy::from_toml(&with(&production, from, to)).unwrap_err().to_string();
        assert!(error.contains("is needed here") && error.contains("line"), "{to}: {error}");
    }
}

#[test]
fn cocoon_v1_wants_its_own_image_list() {
    let text = with(&Policy::production_template(), "insecure_cocoon_v1 = false", "insecure_cocoon_v1 = true");
    refused(
        &text,
        expect![[r#"
        line 16, [image] original_image_hashes: missing, while [link] insecure_cocoon_v1 is true; list the image hashes that the root contract holds, or write "any"
    "#]],
    );
}

#[test]
fn gpu_without_a_root() {
    let text = with(&Policy::production_template(), "gpu = [\"nvidia\"]\n", "");
    Policy::from_toml(&text).expect("GPUs are not required");
    refused(
        &with(&text, "required = false", "required = true"),
        expect![[r#"
        line 98, [gpu] required: GPU evidence is required, but [roots] has no gpu; add `gpu = ["nvidia"]` to [roots]
    "#]],
    );
}

#[test]
fn masked_chip_ids_name_no_machine() {
    let masked = format!("allow = [\"{}\"]", "0".repeat(128));
    refused(
        &with(&Policy::production_template(), "allow = \"any\"", &masked),
        expect![[r#"
        TOML parse error at line 73, column 9
           |
        73 | allow = ["00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"]
           |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        an id of zeros is a masked one: it names no machine
    "#]],
    );
}

#[test]
fn names_do_not_forge_lines() {
    let text = with(&Policy::production_template(), "name = \"production\"", "name = \"a\\nRefuses nothing.\"");
    refused(
        &text,
        expect![[r#"
        TOML parse error at line 6, column 8
          |
        6 | name = "a\nRefuses nothing."
          |        ^^^^^^^^^^^^^^^^^^^^^
        a text of 1 to 256 bytes on one line is needed here
    "#]],
    );
}

#[test]
fn sixteen_mebibytes() {
    assert!(matches!(Policy::from_toml(&" ".repeat(16 << 20)), Err(PolicyError::TooLong { .. })));
}

/// PEM, for one test.
mod base64_pem {
    pub(super) fn pem(der: &[u8]) -> String {
        use base64::Engine as _;

        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,400}") {
        let _ = Policy::from_toml(&text);
    }

    /// A good policy with any text put anywhere.
    #[test]
    fn any_change_is_read_or_refused(at in 0.0..1.0_f64, length in 0_usize..40, with in ".{0,40}") {
        let text = Policy::production_template();
        let floor = |mut at: usize| { while !text.is_char_boundary(at) { at -= 1; } at };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a position within a short text")]
        let start = floor((at * text.len() as f64) as usize);
        let end = floor((start + length).min(text.len()));
        let changed = format!("{}{with}{}", &text[..start], &text[end..]);
        if let Ok(policy) = Policy::from_toml(&changed) {
            prop_assert!(!policy.explain().is_empty());
        }
    }
}

/// A policy that leaves images and models to the root contract.
fn by_root() -> Policy {
    let text = development();
    let text = with(&text, &format!("[\"{}\"]", "aa".repeat(32)), "\"root\"");
    let text = with(&text, "names = \"any\"", "names = \"root\"");
    Policy::from_toml(&text).unwrap()
}

#[test]
fn the_root_fills_a_policy_again_and_again() {
    let empty = by_root();
    assert!(empty.follows_root() && !Policy::from_toml(&development()).unwrap().follows_root());
    let said = empty.explain();
    for words in ["Until the root contract has been read, accepts NO image.", "accepts NO model"] {
        assert!(said.iter().any(|sentence| sentence.contains(words)), "{words} in {said:#?}");
    }

    let one = RootValues { proxy_manifests: [[1; 32]].into(), ..RootValues::default() };
    let filled = empty.with_root(&one).unwrap();
    let said = filled.explain().join("\n");
    assert!(said.contains(&format!("as a proxy the image whose manifest has SHA-256 {}", "01".repeat(32))), "{said}");
    assert!(said.contains("Accepts NO image as a worker"), "{said}");
    assert_ne!(filled, empty);
    assert_eq!(filled.with_root(&one).unwrap(), filled, "the same values are the same policy");
    assert_eq!(Policy::from_toml(filled.text()).unwrap().explain(), filled.explain(), "a document can hold it");

    let other = RootValues { worker_manifests: [[2; 32]].into(), models: [[3; 32]].into(), ..RootValues::default() };
    let refilled = filled.with_root(&other).unwrap();
    assert_eq!(refilled, empty.with_root(&other).unwrap(), "nothing is left of what was listed before");
    assert!(!refilled.text().contains(&"01".repeat(32)));

    let fixed = Policy::from_toml(&development()).unwrap();
    assert_eq!(fixed.with_root(&one).unwrap(), fixed, "a policy with lists of its own keeps them");
}

#[test]
fn values_of_a_root_that_no_list_asks_for() {
    let text = development() + "\n[root]\nproxy_manifests = []\nworker_manifests = []\nmodels = []\n";
    refused(
        &text,
        expect![[r#"
            line 84, [root] proxy_manifests: has no effect, because no list says "root"; remove the section
        "#]],
    );
}

#[test]
fn the_word_root_is_for_lists_that_the_root_keeps() {
    for (from, to) in [
        ("payment_keys = \"any\"", "payment_keys = \"root\""),
        ("allow = \"any\"", "allow = \"root\""),
        ("mr_seam = \"any\"", "mr_seam = \"root\""),
    ] {
        let error = Policy::from_toml(&with(&development(), from, to)).unwrap_err().to_string();
        assert!(error.contains("or the word \"any\""), "{error}");
    }
}
