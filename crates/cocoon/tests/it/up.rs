//! `cocoon up`: it starts, says what is true, answers, drains.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use cocoon_sim::Behaviour;

use crate::cocoon::{Engine, Running, run, told, up};

#[test]
fn an_answer_travels_through_all_three_roles() {
    let engine = Engine::start();
    engine.script.set_default(Behaviour::tokens(5));
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--engine", &engine.url(), "--workers", "2"]);
    assert_eq!(network.told.matches("\n  worker ").count(), 2, "{}", network.told);

    let (out, error, is_ok) = told(&run(&["chat", "--url", &network.url(), "count", "to", "five"]));
    assert!(is_ok, "{error}");
    assert_eq!(out, " t0 t1 t2 t3 t4\n");
    assert!(error.contains("usage: ") && error.contains(" + 5 completion tokens"), "{error}");

    let requests = engine.script.requests();
    let chat = requests.iter().find(|request| request.path == "/v1/chat/completions").unwrap();
    assert!(String::from_utf8_lossy(&chat.body).contains("count to five"));
    assert!(network.stop().success());
}

#[test]
fn two_proxies_are_registered_funded_and_let_go_again() {
    let engine = Engine::start();
    engine.script.set_default(Behaviour::tokens(5));
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--engine", &engine.url(), "--proxies", "2", "--workers", "4"]);
    assert_eq!(network.told.matches("\n  proxy ").count(), 2, "{}", network.told);
    assert_eq!(network.told.matches("\n  worker ").count(), 4, "{}", network.told);
    let config = folder.path().join("client.toml");
    let status = || {
        let (out, error, is_ok) = told(&run(&["client", "status", "--json", "--config", config.to_str().unwrap()]));
        assert!(is_ok, "{error}");
        serde_json::from_str::<serde_json::Value>(&out).unwrap()
    };
    let told_now = status();
    let contracts = told_now["contracts"].as_array().unwrap();
    assert_eq!(contracts.len(), 2, "a contract with each: {told_now}");
    assert!(contracts.iter().all(|contract| contract["state"] == "open"), "{told_now}");
    assert_eq!(told_now["proxies_in_doubt"], serde_json::json!([]));
    let (_, error, is_ok) = told(&run(&["chat", "--url", &network.url(), "count"]));
    assert!(is_ok, "{error}");
    assert!(network.stop().success());

    // Nobody is left behind the second proxy, so the root must not send anybody there.
    let network = up(folder.path(), &["--engine", &engine.url()]);
    assert_eq!(network.told.matches("\n  proxy ").count(), 1, "{}", network.told);
    assert_eq!(status()["proxies_in_doubt"], serde_json::json!([]));
    assert!(network.stop().success());
}

#[test]
fn what_is_protected_and_what_is_not_is_said() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--engine", &engine.url()]);
    for promise in [
        "simulated TEE: proves nothing about this machine",
        "client-policy.toml",
        "money: play money of the devnet, with real contracts",
        "cocoon client status --config ",
        "role",
        "curl http://127.0.0.1:",
    ] {
        assert!(network.told.contains(promise), "{promise} is missing in:\n{}", network.told);
    }
}

#[test]
fn a_taken_port_is_named_with_the_flag() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let (_, error, is_ok) = told(&run(&["up", "--port", &port, "--data-dir", data, "--engine", "http://127.0.0.1:9"]));
    assert!(!is_ok);
    assert!(error.contains(&format!("port {port}")) && error.contains("--port"), "{error}");
}

#[test]
fn an_engine_that_is_not_there_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let arguments = ["up", "--port", "0", "--data-dir", data, "--engine", "http://127.0.0.1:9"];
    let network = Running::start_noting(&arguments, "waiting for the engine at http://127.0.0.1:9: ");
    assert!(network.told.contains("cannot be reached"), "{}", network.told);
    assert_eq!(network.kill_and_read(), "", "nothing is up, so nothing can be tried");
}

#[test]
fn a_running_answer_is_finished_before_the_end() {
    let engine = Engine::start();
    // A second of answer: the stop comes in the middle of it.
    engine.script.set_default(Behaviour::Tokens {
        count: 20,
        delay_ms: 50,
        force_usage: false,
        ending: cocoon_sim::Ending::Finish,
    });
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--engine", &engine.url()]);
    let url = network.url();
    let chat = std::thread::spawn(move || told(&run(&["chat", "--url", &url, "go on"])));
    while !engine.script.requests().iter().any(|request| request.method == "POST") {
        std::thread::yield_now();
    }
    assert!(network.stop().success());
    let (out, error, is_ok) = chat.join().unwrap();
    assert!(is_ok && out.ends_with(" t19\n"), "{out}\n{error}");
}

#[test]
fn the_real_model_knows_paris() {
    let Some(model) = std::env::var_os("COCOON_TEST_MODEL") else {
        eprintln!("skipped: COCOON_TEST_MODEL is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--model-file", Path::new(&model).to_str().unwrap()]);
    let arguments = ["chat", "--url", &network.url(), "What is the capital of France?"];
    let (out, error, is_ok) = told(&run(&arguments));
    assert!(is_ok, "{error}");
    assert!(out.contains("Paris"), "{out}");
    assert!(error.contains("completion tokens"), "{error}");
}
