//! The roles as three processes, from configuration files.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use cocoon_sim::Behaviour;
use sha2::{Digest as _, Sha256};

use crate::cocoon::{Engine, Running, run, told};

fn free_addr() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn start(role: &str, folder: &Path, config: &str) -> Running {
    let file = folder.join(format!("{role}.toml"));
    fs::write(&file, config).unwrap();
    Running::start(&[role, "--config", file.to_str().unwrap()], &format!("{role}: "))
}

/// Waits until the client lists a model.
fn wait_for_model(url: &str) {
    for _ in 0..600 {
        if told(&run(&["chat", "--url", url, "are you there?"])).2 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("no worker within 30 s");
}

#[test]
fn three_processes_make_a_network() {
    let engine = Engine::start();
    engine.script.set_default(Behaviour::tokens(3));
    let folder = tempfile::tempdir().unwrap();
    let (clients, workers) = (free_addr(), free_addr());
    let hash: String = Sha256::digest(b"between us").iter().map(|byte| format!("{byte:02x}")).collect();
    let proxy = start(
        "proxy",
        folder.path(),
        &format!(
            "[listen]\nclients = \"{clients}\"\nworkers = \"{workers}\"\n[proxy]\nclient_secret_hash = \"{hash}\"\n"
        ),
    );
    let worker =
        start("worker", folder.path(), &format!("proxies = [\"{workers}\"]\n[engine]\nurl = \"{}\"\n", engine.url()));
    let client = start(
        "client",
        folder.path(),
        &format!(
            "proxies = [\"{clients}\"]\n[client]\nlisten = \"127.0.0.1:0\"\nauth_secret = \"between us\"\nis_test = true\n"
        ),
    );
    wait_for_model(&client.url());
    let (out, error, is_ok) = told(&run(&["chat", "--url", &client.url(), "three"]));
    assert!(is_ok, "{error}");
    assert_eq!(out, " t0 t1 t2\n");
    for role in [client, worker, proxy] {
        assert!(role.stop().success());
    }
}

#[test]
fn a_mistyped_key_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("worker.toml");
    fs::write(&file, "[worker]\ncoeficient = 1\n").unwrap();
    let (_, error, is_ok) = told(&run(&["worker", "--config", file.to_str().unwrap()]));
    assert!(!is_ok);
    assert!(error.contains("coeficient") && error.contains("worker.toml"), "{error}");
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    fs::write(&file, "[listen]\nclients = \"0.0.0.0:0\"\nworkers = \"127.0.0.1:0\"\n").unwrap();
    let (_, error, is_ok) = told(&run(&["proxy", "--config", file.to_str().unwrap()]));
    assert!(!is_ok);
    assert!(error.contains("0.0.0.0:0") && error.contains("loopback"), "{error}");
}

#[test]
fn the_printed_configuration_is_accepted_back() {
    for role in ["client", "proxy", "worker"] {
        let (sample, error, is_ok) = told(&run(&[role, "--print-default-config"]));
        assert!(is_ok && sample.starts_with("# Configuration of"), "{error}");
    }
}
