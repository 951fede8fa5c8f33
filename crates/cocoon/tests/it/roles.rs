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
    let until = if role == "worker" { "connected to the proxy" } else { role };
    Running::start(&[role, "--config", file.to_str().unwrap()], until)
}

/// The configuration that a role prints, with each of some texts replaced where it stands once.
fn printed(role: &str, changes: &[(&str, &str)]) -> String {
    let (mut sample, error, is_ok) = told(&run(&[role, "--print-default-config"]));
    assert!(is_ok, "{error}");
    for (old, new) in changes {
        assert_eq!(sample.matches(old).count(), 1, "{old} in:\n{sample}");
        sample = sample.replace(old, new);
    }
    sample
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

/// The same, in a printed configuration.
const PLAIN_SWITCH: (&str, &str) = ("\ninsecure_plain_loopback = false", "\ninsecure_plain_loopback = true");

/// What lets roles of this machine speak in plain.
const PLAIN: &str = "[attestation]\ninsecure_plain_loopback = true\n";

#[test]
fn three_processes_make_an_attested_network() {
    let engine = Engine::start();
    engine.script.set_default(Behaviour::tokens(3));
    let folder = tempfile::tempdir().unwrap();
    let (clients, workers) = (free_addr(), free_addr());
    let hash: String = Sha256::digest(b"between us").iter().map(|byte| format!("{byte:02x}")).collect();
    let simulated = folder.path().join("simulated-tee");
    let attestation = format!("[attestation]\ninsecure_simulated_tee = \"{}\"\n", simulated.display());
    let proxy = start(
        "proxy",
        folder.path(),
        &format!(
            "{attestation}[listen]\nclients = \"{clients}\"\nworkers = \"{workers}\"\n[proxy]\nclient_secret_hash = \"{hash}\"\n"
        ),
    );
    let worker = start(
        "worker",
        folder.path(),
        &format!("proxies = [\"{workers}\"]\n{attestation}[engine]\nurl = \"{}\"\n", engine.url()),
    );
    let client = start(
        "client",
        folder.path(),
        &format!(
            "proxies = [\"{clients}\"]\n{attestation}[client]\nlisten = \"127.0.0.1:0\"\nauth_secret = \"between us\"\nis_test = true\n"
        ),
    );
    wait_for_model(&client.url());
    let (out, error, is_ok) = told(&run(&["chat", "--url", &client.url(), "three"]));
    assert!(is_ok, "{error}");
    assert_eq!(out, " t0 t1 t2\n");
    let list = client.get("/v1/attestation").body;
    assert!(list.contains("attested-v2") && list.contains("\"simulated\""), "{list}");
    for role in [client, worker, proxy] {
        assert!(role.stop().success());
    }
}

#[test]
fn the_printed_configurations_make_a_plain_network_with_one_secret() {
    let engine = Engine::start();
    engine.script.set_default(Behaviour::tokens(2));
    let folder = tempfile::tempdir().unwrap();
    let (clients, workers) = (free_addr().to_string(), free_addr().to_string());
    let (secret, advice, _) = told(&run(&["key", "secret"]));
    let hash_line = advice.lines().find(|line| line.contains("client_secret_hash")).unwrap().trim();
    let secret_line = format!("auth_secret = \"{}\"", secret.trim_end());

    let proxy = printed(
        "proxy",
        &[
            ("127.0.0.1:10001", &clients),
            ("127.0.0.1:10002", &workers),
            PLAIN_SWITCH,
            ("# client_secret_hash = \"64 hexadecimal digits\"", hash_line),
        ],
    );
    let worker = printed(
        "worker",
        &[
            ("# proxies = [\"127.0.0.1:10002\"]", &format!("proxies = [\"{workers}\"]")),
            PLAIN_SWITCH,
            ("http://127.0.0.1:8000", &engine.url()),
        ],
    );
    let client = printed(
        "client",
        &[
            ("127.0.0.1:10000", "127.0.0.1:0"),
            ("# proxies = [\"127.0.0.1:10001\"]", &format!("proxies = [\"{clients}\"]")),
            PLAIN_SWITCH,
            ("auth_secret = \"\"", &secret_line),
        ],
    );
    let _proxy = start("proxy", folder.path(), &proxy);
    let worker = start("worker", folder.path(), &worker);
    assert!(worker.told.contains("the engine is ready: scripted"), "{}", worker.told);
    let client = start("client", folder.path(), &client);
    wait_for_model(&client.url());
    let (out, error, is_ok) = told(&run(&["chat", "--url", &client.url(), "two"]));
    assert!(is_ok && out == " t0 t1\n", "{out}\n{error}");
}

#[test]
fn who_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (clients, workers) = (free_addr().to_string(), free_addr().to_string());
    let hash: String = Sha256::digest(b"between us").iter().map(|byte| format!("{byte:02x}")).collect();
    let client = printed(
        "client",
        &[
            ("127.0.0.1:10000", "127.0.0.1:0"),
            ("# proxies = [\"127.0.0.1:10001\"]", &format!("proxies = [\"{clients}\"]")),
            PLAIN_SWITCH,
            ("auth_secret = \"\"", "auth_secret = \"between us\""),
        ],
    );
    let client = start("client", folder.path(), &client);
    let chat = || told(&run(&["chat", "--url", &client.url(), "hello"]));
    let (_, error, is_ok) = chat();
    assert!(!is_ok && error.contains("has no proxy"), "{error}");

    let proxy = format!(
        "{PLAIN}[listen]\nclients = \"{clients}\"\nworkers = \"{workers}\"\n[proxy]\nclient_secret_hash = \"{hash}\"\n"
    );
    let _proxy = start("proxy", folder.path(), &proxy);
    // The client needs a moment to find it.
    let mut error = String::new();
    for _ in 0..200 {
        error = chat().1;
        if !error.contains("has no proxy") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(error.contains("has no worker"), "{error}");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.toml");
    let config = "[client]\nlisten = \"127.0.0.1:0\"\ntimeout_ms = 0\n";
    for (config, word) in [
        (format!("proxies = [\"127.0.0.1:1\"]\n{PLAIN}{config}"), "timeout_ms"),
        ("threads = 0\n".to_owned(), "`threads`"),
        (format!("proxies = [\"192.0.2.1:10001\"]\n{PLAIN}"), "192.0.2.1:10001"),
    ] {
        fs::write(&file, config).unwrap();
        let (out, error, is_ok) = told(&run(&["client", "--config", file.to_str().unwrap()]));
        assert!(!is_ok && out.is_empty() && error.contains(word), "{out}{error}");
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
fn a_role_that_cannot_attest_refuses_to_start_and_names_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    for role in ["client", "proxy", "worker"] {
        let file = folder.path().join(format!("{role}.toml"));
        fs::write(&file, "").unwrap();
        let (out, error, is_ok) = told(&run(&[role, "--config", file.to_str().unwrap()]));
        assert!(!is_ok && out.is_empty(), "{out}");
        for key in ["`policy`", "`insecure_simulated_tee`", "insecure_plain_loopback"] {
            assert!(error.contains(key), "{key} is missing in:\n{error}");
        }
    }
    let file = folder.path().join("proxy.toml");
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, told(&run(&["attest", "policy", "example"])).0).unwrap();
    fs::write(&file, format!("[attestation]\npolicy = \"{}\"\n", policy.display())).unwrap();
    let (_, error, is_ok) = told(&run(&["proxy", "--config", file.to_str().unwrap()]));
    assert!(!is_ok && error.contains("`insecure_simulated_tee`"), "{error}");
}

#[test]
fn a_plain_address_that_others_can_reach_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    fs::write(&file, format!("{PLAIN}[listen]\nclients = \"0.0.0.0:0\"\nworkers = \"127.0.0.1:0\"\n")).unwrap();
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

#[test]
fn a_start_that_proves_nothing_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let simulated = format!("[attestation]\ninsecure_simulated_tee = \"{}\"\n", folder.path().join("sim").display());
    let listen = "[listen]\nclients = \"127.0.0.1:0\"\nworkers = \"127.0.0.1:0\"\n";
    for (attestation, said) in [(&*simulated, "proves nothing about this machine"), (PLAIN, "plain links")] {
        let (client, proxy) = (folder.path().join("client.toml"), folder.path().join("proxy.toml"));
        fs::write(&client, format!("{attestation}[client]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
        fs::write(&proxy, format!("{attestation}{listen}")).unwrap();
        for (role, file) in [("client", client), ("proxy", proxy)] {
            Running::start_noting(&[role, "--config", file.to_str().unwrap()], said);
        }
    }
}
