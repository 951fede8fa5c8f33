//! `cocoon up` on its devnet: what the root contract says counts, and a change of it counts at once.

use std::time::{Duration, Instant};

use cocoon_sim::Behaviour;

use crate::cocoon::{Engine, Running, http, run, told, up};

/// A network, its data folder, and an engine behind it.
struct Net {
    running: Running,
    folder: tempfile::TempDir,
    _engine: Engine,
}

impl Net {
    fn start() -> Self {
        let engine = Engine::start();
        engine.script.set_default(Behaviour::tokens(2));
        let folder = tempfile::tempdir().unwrap();
        let running = up(folder.path(), &["--engine", &engine.url()]);
        Self { running, folder, _engine: engine }
    }

    /// `cocoon root …` as the operator.
    fn root(&self, arguments: &[&str]) -> String {
        let data = self.folder.path().to_str().unwrap();
        let arguments = [&["root"], arguments, &["--data-dir", data]].concat();
        let (out, error, is_ok) = told(&run(&arguments));
        assert!(is_ok, "{arguments:?}: {error}");
        out
    }

    /// The manifest hash that the root lists first for a role.
    fn image(&self, role: &str) -> String {
        let said = self.root(&["images", "--json"]);
        let list = said.split(&format!("\"{role}_images\"")).nth(1).unwrap();
        list.split('"').find(|word| word.len() == 64).unwrap_or_else(|| panic!("no image in\n{said}")).to_owned()
    }

    fn devnet(&self) -> &str {
        let place = self.running.told.split("on a devnet at ").nth(1).unwrap();
        place.split_whitespace().next().unwrap()
    }

    fn advance(&self, seconds: u64) {
        let reply = http(self.devnet(), "POST /dev/advance", &format!("{{\"seconds\": {seconds}}}"));
        assert!(reply.head.contains(" 200 "), "{reply:?}");
    }

    /// The status of a request of an app, and what it is told.
    fn ask(&self) -> (u16, String) {
        let reply = self.running.chat("scripted", "hello");
        (reply.head.split_whitespace().nth(1).unwrap().parse().unwrap(), reply.body)
    }

    /// Asks until the status is that, and gives what was said then.
    #[track_caller]
    fn ask_until(&self, status: u16) -> String {
        let began = Instant::now();
        loop {
            let (found, body) = self.ask();
            if found == status {
                return body;
            }
            assert!(began.elapsed() < PATIENCE, "{found} {body}");
            std::thread::yield_now();
        }
    }
}

/// Far more than any of it takes on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_image_that_the_root_removes_drops_its_peers_and_comes_back_when_it_is_listed_again() {
    let net = Net::start();
    net.ask_until(200);
    for role in ["proxy", "worker"] {
        let image = net.image(role);
        net.root(&["images", "remove", &image, "--role", role]);
        let words = net.ask_until(503);
        let why = if role == "proxy" { "image check" } else { "worker" };
        // The first refusal may still tell of the connection that was just lost.
        let began = Instant::now();
        let mut told = words;
        while !told.contains(why) {
            assert!(began.elapsed() < PATIENCE, "{told}");
            told = net.ask_until(503);
        }
        net.root(&["images", "add", &image, "--role", role]);
        net.ask_until(200);
    }
}

#[test]
fn a_change_of_price_through_the_steward_moves_to_new_contracts() {
    let net = Net::start();
    net.ask_until(200);
    let contracts = || net.root(&["proxies"]);
    let before = contracts();
    net.root(&["prices", "set", "--price", "20", "--worker-fee", "18"]);
    assert!(
        net.running.get("/v1/models").body.contains("\"prompt\":2000000"),
        "nothing counts before the delay is over"
    );
    net.advance(61);
    net.root(&["apply", "0"]);
    let began = Instant::now();
    while !net.running.get("/v1/models").body.contains("\"prompt\":20000000") {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    // The proxy's record names its new contract, and sessions are made with that.
    while contracts() == before {
        assert!(began.elapsed() < PATIENCE, "{before}");
    }
    net.ask_until(200);
}

#[test]
fn a_restart_finds_its_network_again() {
    let engine = Engine::start();
    engine.script.set_default(Behaviour::tokens(2));
    let folder = tempfile::tempdir().unwrap();
    let root = |running: &Running| {
        let place = running.told.split("root: ").nth(1).unwrap();
        place.split_whitespace().next().unwrap().to_owned()
    };
    let first = up(folder.path(), &["--engine", &engine.url()]);
    let address = root(&first);
    assert!(first.told.contains("what it costs") && first.told.contains("least to start"), "{}", first.told);
    assert!(first.stop().success());
    let second = up(folder.path(), &["--engine", &engine.url()]);
    assert_eq!(root(&second), address);
    assert!(second.chat("scripted", "hello").head.contains(" 200 "));
}

#[test]
fn a_role_refuses_the_root_of_another_kind_of_network() {
    let net = Net::start();
    let root = net.root(&["show", "--json"]);
    let address = root.split('"').find(|word| word.starts_with("0:") && word.len() == 66).unwrap().to_owned();
    let config = net.folder.path().join("client.toml");
    let text = format!(
        "data_dir = {:?}\n\n[attestation]\ninsecure_plain_loopback = true\n\n[chain]\nroot = \"{address}\"\ndevnet = \"{}\"\n\
         insecure_reported = true\n\n[client]\nlisten = \"127.0.0.1:0\"\nis_test = false\nowner_address = \"{address}\"\n",
        net.folder.path().join("another"),
        net.devnet()
    );
    std::fs::write(&config, text).unwrap();
    let (_, error, is_ok) = told(&run(&["client", "--config", config.to_str().unwrap()]));
    assert!(!is_ok && error.contains("test network") && error.contains("production"), "{error}");
}
