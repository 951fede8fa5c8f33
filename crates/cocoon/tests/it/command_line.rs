//! Help, keys and models.

use sha2::{Digest as _, Sha256};

use crate::cocoon::{run, told};

#[test]
fn help_names_every_command() {
    let (out, _, is_ok) = told(&run(&["--help"]));
    assert!(is_ok);
    for command in ["up", "chat", "model", "client", "proxy", "worker", "attest", "key", "wallet", "root", "contract"] {
        assert!(out.contains(&format!("\n  {command}  ")), "{command} is missing in:\n{out}");
    }
}

#[test]
fn a_new_key_is_shown_once_with_its_hash() {
    let (key, advice, is_ok) = told(&run(&["key", "new"]));
    assert!(is_ok);
    let key = key.trim_end();
    let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(key.len() >= 64 && advice.contains(&hash) && !advice.contains(key), "{advice}");
}

#[test]
fn a_new_secret_is_shown_once_with_its_hash() {
    let (secret, advice, is_ok) = told(&run(&["key", "secret"]));
    assert!(is_ok);
    let secret = secret.trim_end();
    let hash: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(secret.len(), 64, "256 bits in hexadecimal");
    assert!(advice.contains(&format!("client_secret_hash = \"{hash}\"")) && !advice.contains(secret), "{advice}");
}

#[test]
fn a_file_that_is_not_the_pinned_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("fake.gguf");
    std::fs::write(&fake, b"not a model").unwrap();
    let data = folder.path().to_str().unwrap();
    let (_, error, is_ok) = told(&run(&["model", "pull", "--data-dir", data, "--from", fake.to_str().unwrap()]));
    assert!(!is_ok && error.contains("11 bytes"), "{error}");
}

#[test]
fn a_hub_that_is_down_is_one_line_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let (_, error, is_ok) =
        told(&run(&["model", "pull", "--data-dir", data, "--source", "hub", "--hub", "http://127.0.0.1:9"]));
    assert!(!is_ok);
    assert_eq!(error.lines().filter(|line| line.starts_with("  hub: ")).count(), 1, "{error}");
    assert!(error.contains("could not be fetched from any source"), "{error}");
}
