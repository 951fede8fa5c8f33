//! `cocoon attest`, and what a client lets others check.

use std::fs;
use std::path::Path;

use cocoon_sim::Behaviour;

use crate::cocoon::{Engine, Running, run, told, up};

/// The address after a role's name in the table that `up` prints.
fn proxy_of(network: &Running) -> String {
    let row = network.told.lines().find(|line| line.starts_with("  proxy ")).unwrap();
    row.split_whitespace().nth(1).unwrap().to_owned()
}

fn attest(arguments: &[&str]) -> (String, String, bool) {
    told(&run(&[&["attest"], arguments].concat()))
}

/// A network, and the proof of an answer that it gave, saved in a file.
fn proven(folder: &Path) -> (Engine, Running, String) {
    let engine = Engine::start();
    engine.script.set_default(Behaviour::tokens(3));
    let network = up(folder, &["--engine", &engine.url()]);
    let answer = network.chat("scripted", "are you what you say?");
    assert!(answer.head.contains(" 200 "), "{answer:?}");
    let id = answer.header("x-cocoon-attestation").expect("the answer names what was verified").to_owned();
    let document = network.get(&format!("/v1/attestation/{id}"));
    assert!(document.head.contains(" 200 "), "{document:?}");
    let file = folder.join("proof.json");
    fs::write(&file, &document.body).unwrap();
    (engine, network, file.to_str().unwrap().to_owned())
}

#[test]
fn an_answer_leads_to_its_proof_and_anyone_can_check_it_offline() {
    let folder = tempfile::tempdir().unwrap();
    let (_engine, network, proof) = proven(folder.path());
    let id = network.chat("scripted", "again").header("x-cocoon-attestation").unwrap().to_owned();

    let list = network.get("/v1/attestation").body;
    for word in [&id, "attested-v2", "\"simulated\"", "\"tdx\"", "\"UpToDate\"", "\"proxy\""] {
        assert!(list.contains(word), "{word} is missing in:\n{list}");
    }
    let unknown = network.get("/v1/attestation/00000000000000000000000000000000");
    assert!(unknown.head.contains(" 404 ") && unknown.body.contains("attestation_not_found"), "{unknown:?}");
    let refused = network.chat("no-such-model", "are you there?");
    assert!(refused.head.contains(" 404 ") && refused.header("x-cocoon-attestation").is_none(), "no proxy served it");
    assert!(network.stop().success());

    let (out, error, is_ok) = attest(&["verify", &proof]);
    assert!(is_ok, "{error}");
    for word in ["accepted", "SIMULATED", "unpinned: policy", "unpinned: the time"] {
        assert!(out.contains(word), "{word} is missing in:\n{out}");
    }
    let policy = folder.path().join("simulated-tee/client-policy.toml");
    let (out, error, is_ok) = attest(&["verify", &proof, "--policy", policy.to_str().unwrap(), "--at", "now"]);
    assert!(is_ok && !out.contains("unpinned"), "{out}{error}");
}

#[test]
fn a_proof_with_one_digit_changed_is_refused_and_the_check_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_engine, _network, proof) = proven(folder.path());
    let text = fs::read_to_string(&proof).unwrap();
    let changed = folder.path().join("changed.json");
    let with_digit_after = |mark: &str, skip: usize| {
        let at = text.find(mark).unwrap() + mark.len() + skip;
        let digit = if &text[at..=at] == "7" { "8" } else { "7" };
        format!("{}{digit}{}", &text[..at], &text[at + 1..])
    };
    for (mark, skip, check) in [
        ("\"id\":\"", 3, "document"),
        ("\"quote\":\"", 400, "signature"),
        ("\"claims\":\"", 200, "report-data"),
        ("\"tcb_info\":\"", 40, "signature"),
    ] {
        fs::write(&changed, with_digit_after(mark, skip)).unwrap();
        let (out, error, is_ok) = attest(&["verify", changed.to_str().unwrap()]);
        assert!(!is_ok && !out.contains("accepted"), "{mark}: {out}");
        assert!(error.contains("refused by the") || error.contains("document"), "{mark}: {error}");
        assert!(error.contains(check) || error.contains("collateral"), "{mark} should name {check}: {error}");
    }
}

#[test]
fn a_running_proxy_is_appraised_from_another_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start();
    let network = up(folder.path(), &["--engine", &engine.url()]);
    let proxy = proxy_of(&network);
    let policy = folder.path().join("simulated-tee/client-policy.toml");
    let saved = folder.path().join("peer.json");
    let (policy, saved) = (policy.to_str().unwrap(), saved.to_str().unwrap());

    let (out, error, is_ok) = attest(&["peer", &proxy, "--policy", policy, "--json", saved]);
    assert!(is_ok, "{out}{error}");
    for word in ["accepted", "SIMULATED", "role", "proxy"] {
        assert!(out.contains(word), "{word} is missing in:\n{out}");
    }
    let (_, error, is_ok) = attest(&["verify", saved, "--policy", policy]);
    assert!(is_ok, "{error}");
    let (out, error, is_ok) = attest(&["show", saved]);
    assert!(is_ok && out.contains("MRTD") && out.contains("RTMR3"), "{out}{error}");
}

#[test]
fn simulated_evidence_is_refused_by_a_production_policy() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start();
    let network = up(folder.path(), &["--engine", &engine.url()]);
    let (example, _, is_ok) = attest(&["policy", "example"]);
    assert!(is_ok);
    let production = folder.path().join("production.toml");
    fs::write(&production, example).unwrap();
    let arguments = ["peer", &proxy_of(&network), "--policy", production.to_str().unwrap()];
    let (out, error, is_ok) = attest(&arguments);
    assert!(!is_ok && !out.contains("accepted:"), "{out}");
    for word in ["refused by the root check", "expected", "found", "what to do"] {
        assert!(error.contains(word), "{word} is missing in:\n{error}");
    }
}

#[test]
fn a_quote_of_the_simulated_platform_is_shown_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let simulated = folder.path().join("sim");
    let quote = folder.path().join("quote.bin");
    let (simulated, quote) = (simulated.to_str().unwrap(), quote.to_str().unwrap());
    let arguments = ["quote", "--insecure-simulated-tee", simulated, "--report-data", "c0c0", "--out", quote];
    let (_, error, is_ok) = attest(&arguments);
    assert!(!is_ok && error.contains("no simulated platform") && error.contains("`cocoon up`"), "{error}");
    assert!(!Path::new(simulated).exists(), "a question makes no platform");
    drop(cocoon_simtee::Platform::open(simulated, cocoon_simtee::SimClock::from(0)));
    let (out, error, is_ok) = attest(&arguments);
    assert!(is_ok, "{error}");
    assert!(out.contains("an Intel TDX quote") && error.contains("proves nothing about this machine"), "{out}{error}");
    let (out, error, is_ok) = attest(&["show", quote]);
    assert!(is_ok && out.contains("c0c0000000"), "{out}{error}");
    // The same as digits, and what is neither.
    let digits: String = fs::read(quote).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let text = folder.path().join("quote.hex");
    fs::write(&text, digits).unwrap();
    assert!(attest(&["show", text.to_str().unwrap()]).2);
    fs::write(&text, b"\x00\x01\x02\xff").unwrap();
    let (_, error, is_ok) = attest(&["show", text.to_str().unwrap()]);
    assert!(!is_ok && error.contains("000102ff"), "{error}");
}

#[test]
fn policies_are_explained_and_their_mistakes_located() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    let (example, _, _) = attest(&["policy", "example"]);
    fs::write(&file, &example).unwrap();
    let (out, error, is_ok) = attest(&["policy", "check", file.to_str().unwrap()]);
    assert!(is_ok && out.contains("Until the root contract has been read, accepts NO image."), "{out}{error}");
    fs::write(&file, example.replace("[link]", "[link]\nmodus = 1")).unwrap();
    let (_, error, is_ok) = attest(&["policy", "check", file.to_str().unwrap()]);
    assert!(!is_ok && error.contains("modus"), "{error}");
}

#[test]
fn a_raw_quote_passes_an_image_policy_once_its_manifest_and_log_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_engine, _network, proof) = proven(folder.path());
    let document: serde_json::Value = serde_json::from_str(&fs::read_to_string(proof).unwrap()).unwrap();
    let evidence = &document["evidence"];
    let save = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let raw = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
    let quote = save("quote.bin", &raw(&evidence["platform"]["quote"]));
    let manifest = save("manifest.json", &raw(&evidence["manifest"]));
    let log = save("ccel.bin", &raw(&evidence["event_log"]));
    let collateral = save("collateral.json", document["collateral"].to_string().as_bytes());
    let policy = folder.path().join("simulated-tee/client-policy.toml");
    let verify = |more: &[&str]| {
        let arguments = ["verify", &quote, "--collateral", &collateral, "--policy", policy.to_str().unwrap()];
        attest(&[&arguments, more].concat())
    };
    let (_, error, is_ok) = verify(&[]);
    assert!(!is_ok && error.contains("image check") && error.contains("--manifest"), "{error}");
    let (_, error, is_ok) = verify(&["--manifest", &manifest]);
    assert!(!is_ok && error.contains("image check") && error.contains("--event-log"), "{error}");
    let (out, error, is_ok) = verify(&["--manifest", &manifest, "--event-log", &log]);
    assert!(is_ok && out.contains("accepted"), "{out}{error}");
}

#[test]
fn a_machine_without_a_tee_is_told_of_the_simulated_one() {
    let (_, error, is_ok) = attest(&["quote"]);
    // On a machine with a TEE there is nothing to tell.
    assert!(is_ok || error.contains("--insecure-simulated-tee DIR"), "{error}");
    assert!(!error.contains("under [attestation]"), "that is for roles: {error}");
}
