//! What an operator does with the binary alone, against a devnet in another process.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cocoon::{Running, run, told};

/// A devnet, and the data folder of an operator.
struct Place {
    devnet: Running,
    chain: String,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let network = folder.path().join("devnet");
        let arguments = ["devnet", "--data-dir", network.to_str().unwrap(), "--port", "0", "--block-ms", "10"];
        let devnet = Running::start(&arguments, "newest block");
        let chain = devnet.url().replace("/api/v2/jsonRPC", "");
        Self { devnet, chain, folder }
    }

    /// Runs a command and gives what it told, how it failed, and whether it did not.
    fn told(&self, line: &[&str]) -> (String, String, bool) {
        let folder = self.folder.path().to_str().unwrap();
        told(&run(&[line, &["--data-dir", folder, "--chain", &self.chain]].concat()))
    }

    /// Runs a command for its JSON.
    fn json(&self, line: &[&str]) -> Value {
        let (out, error, is_ok) = self.told(&[line, &["--json"]].concat());
        assert!(is_ok, "{line:?}:\n{error}");
        serde_json::from_str(&out).unwrap()
    }
}

#[test]
fn an_operator_makes_a_wallet_and_a_network() {
    let place = Place::new();
    let wallet = place.json(&["wallet", "new"]);
    assert!(wallet["friendly"].as_str().unwrap().starts_with("0Q"), "an address for play money: {wallet}");
    assert_eq!(place.json(&["wallet", "faucet", "50"])["balance_nano"], json!("50000000000"));

    let root = place.json(&["root", "deploy", "--lock-delay", "1h"]);
    place.json(&["root", "models", "add", "some-model"]);
    assert_eq!(place.json(&["root", "prices", "set", "--price", "7"])["waiting"], json!([0]));
    let (_, error, is_ok) = place.told(&["root", "apply", "0"]);
    assert!(!is_ok && error.contains("cannot be applied yet: in "), "{error}");
    place.devnet.post("/dev/advance", r#"{"seconds": 3600}"#);
    place.json(&["root", "apply", "0"]);

    let (out, _, is_ok) = place.told(&["root", "show"]);
    assert!(is_ok);
    let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["version 3", "price 7 nano per adjusted token", "time lock 1 hour", "not proved"] {
        assert!(out.contains(part), "{part:?} is missing in:\n{out}");
    }
    let steward = root["steward"].as_str().unwrap();
    let (out, _, is_ok) = place.told(&["contract", "show", steward, "--history", "3"]);
    assert!(is_ok && out.contains("steward") && out.contains("execute a pending change"), "{out}");
    let (out, _, is_ok) = place.told(&["wallet", "history", "--limit", "2"]);
    assert!(is_ok && out.contains("(steward)"), "{out}");
}

#[test]
fn what_is_no_contract_is_called_so() {
    let place = Place::new();
    let nobody = format!("0:{}", "7".repeat(64));
    let (out, _, is_ok) = place.told(&["contract", "show", &nobody]);
    assert!(is_ok && out.contains("there is nothing at this address on a devnet"), "{out}");
    let (_, error, is_ok) = place.told(&["contract", "show", "UQnonsense"]);
    assert!(!is_ok && error.contains("is no TON address"), "{error}");
}

#[test]
fn a_chain_that_is_down_is_told_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let (_, error, is_ok) = told(&run(&["root", "show", "--data-dir", data]));
    assert!(!is_ok && error.contains("which chain?"), "{error}");
    let (_, error, is_ok) = told(&run(&["wallet", "new", "--data-dir", data]));
    assert!(is_ok, "{error}");
    let down = ["wallet", "faucet", "--data-dir", data, "--chain", "http://127.0.0.1:9"];
    let (_, error, is_ok) = told(&run(&down));
    assert!(!is_ok && error.contains("no devnet answers at http://127.0.0.1:9/dev/faucet"), "{error}");
}
