//! The money of `cocoon up`: an answer is paid for and proved, and the rest comes home.

use cocoon_sim::Behaviour;
use serde_json::Value;

use crate::cocoon::{Engine, Reply, Running, http, run, told, up};

fn json(reply: &Reply) -> Value {
    assert!(reply.head.contains(" 200 "), "{reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}

/// Runs a command that must succeed.
#[track_caller]
fn said(arguments: &[&str]) -> String {
    let (out, error, is_ok) = told(&run(arguments));
    assert!(is_ok, "{arguments:?}: {error}");
    out
}

/// Verifies a receipt in a file.
fn verify(folder: &std::path::Path, text: &str) -> (String, String, bool) {
    let file = folder.join("receipt.json");
    std::fs::write(&file, text).unwrap();
    told(&run(&["receipt", "verify", file.to_str().unwrap()]))
}

fn receipt(network: &Running, id: &str) -> String {
    loop {
        let reply = http(&network.url(), &format!("GET /v1/receipts/{id}"), "");
        if reply.head.contains(" 202 ") {
            continue;
        }
        assert!(reply.head.contains(" 200 "), "{reply:?}");
        return reply.body;
    }
}

#[test]
fn an_answer_is_paid_for_and_proved_and_the_rest_comes_home() {
    let engine = Engine::start();
    engine.script.set_default(Behaviour::tokens(5));
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--engine", &engine.url()]);
    let answer = network.chat("scripted", "hello");
    let cost = answer.header("x-cocoon-cost-nano").unwrap().parse::<u64>().unwrap();
    assert!(cost > 0);
    assert_eq!(json(&answer)["usage"]["total_cost"], cost);

    // What it cost is signed by the worker, and nobody else's word is needed for that.
    let id = answer.header("x-cocoon-receipt").unwrap();
    let file = receipt(&network, id);
    let (out, error, is_ok) = verify(folder.path(), &file);
    assert!(is_ok && out.contains("accepted") && out.contains(&format!("{cost} nanoTON")), "{out}\n{error}");
    let dearer = file.replacen("\\\"completion\\\":5", "\\\"completion\\\":6", 1);
    assert_ne!(dearer, file);
    let (_, error, is_ok) = verify(folder.path(), &dearer);
    assert!(!is_ok && error.contains("signature"), "{error}");
    assert_eq!(json(&network.get("/v1/usage"))["data"][0]["cost_nano"], cost);

    // Home: the proxy signs, once its books are on chain, and the contract pays out at once.
    let config = folder.path().join("client.toml");
    let config = config.to_str().unwrap();
    let status: Value = serde_json::from_str(&said(&["client", "status", "--config", config, "--json"])).unwrap();
    let contract = status["contracts"][0]["contract"].as_str().unwrap_or_else(|| panic!("{status}")).to_owned();
    said(&["client", "close", "--config", config, "--wait"]);
    let data = folder.path().to_str().unwrap();
    let shown = said(&["contract", "show", &contract, "--data-dir", data]);
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("state closed"), "{shown}");
    assert!(shown.contains(&format!("tokens charged {}", cost / 2)), "{shown}");
    assert!(network.stop().success());
}
