//! The network that a storm goes over: its folders, configuration files, contracts and processes.
//!
//! Each role is the real binary with a configuration file, and they find each other through the root contract. The
//! owners' wallets are used through the binary's own commands, as owners would.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_attest::Role;
use cocoon_simtee::SimImage;
use cocoon_ton::Address;
use cocoon_ton::contract::{Params, RootState};
use tokio::runtime::Runtime;

use super::books::{Books, Counted, Owners};
use super::keys::{Keys, earner_key, operator_key, payer_key};
use super::node::{Name, Node, WORKERS};
use super::{Failure, http};
use crate::ScriptedEngine;

/// What a network is to be.
pub(super) struct Plan<'a> {
    /// The binary under test.
    pub(super) binary: &'a Path,
    /// Where everything goes.
    pub(super) folder: &'a Path,
    /// The engine behind the workers; a scripted one of our own if none is named.
    pub(super) engine: Option<SocketAddr>,
    /// The model that it serves.
    pub(super) model: &'a str,
    /// What a token costs, and what of that is the worker's, in nanoTON.
    pub(super) price: u64,
    pub(super) worker_fee: u64,
    /// What a client puts down with each proxy, in TON.
    pub(super) stake: u64,
    /// How many proxies there are: at most [`PROXIES`](super::node::PROXIES).
    pub(super) proxies: usize,
    /// How many workers there are: at most [`WORKERS`].
    pub(super) workers: usize,
    /// How many clients there are: at most [`super::node::CLIENTS`].
    pub(super) clients: usize,
    /// Requests that an app may have open at once.
    pub(super) requests: usize,
}

/// What each wallet begins with, in TON.
const PURSE: u64 = 100;

/// How long anything may take that only needs the network to come to rest.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(100);
/// How often a worker is asked to cash: payments are signed a little at a time.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What the workers ask, in thousandths of the base price, and the protocol that they speak: the second is an original.
const COEFFICIENTS: [u32; WORKERS] = [1000, 1130, 1370];
const PROTOCOLS: [u32; WORKERS] = [100, 2, 100];

/// The running network.
pub(super) struct Stage {
    binary: PathBuf,
    folder: PathBuf,
    apis: Vec<SocketAddr>,
    chain_url: String,
    nodes: Vec<(Name, Node)>,
    owners: Owners,
    workers: usize,
    runtime: Runtime,
    model: String,
    _engine: Option<ScriptedEngine>,
}

/// Ports that were free a moment ago.
struct Ports {
    devnet: u16,
    proxies: Vec<ProxyPorts>,
    apis: Vec<u16>,
}

/// Where a proxy listens.
#[derive(Clone, Copy)]
struct ProxyPorts {
    clients: u16,
    workers: u16,
}

impl Stage {
    /// Brings everything up, in the order in which a network is born.
    pub(super) fn build(plan: &Plan<'_>) -> Result<Self, Failure> {
        let Plan { binary, folder, model, .. } = *plan;
        fs::create_dir_all(folder)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (engine, engine_addr) = match plan.engine {
            Some(addr) => (None, addr),
            None => {
                let engine = runtime.block_on(ScriptedEngine::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
                engine.set_models(&[model]);
                let addr = engine.addr().ok_or("the engine has no address")?;
                (Some(engine), addr)
            }
        };
        let apis = (0..plan.clients).map(|_| free()).collect::<Result<Vec<_>, _>>()?;
        let proxies = (0..plan.proxies).map(|_| Ok(ProxyPorts { clients: free()?, workers: free()? }));
        let ports = Ports { devnet: free()?, proxies: proxies.collect::<Result<_, Failure>>()?, apis };
        let chain_url = format!("http://127.0.0.1:{}", ports.devnet);
        let keys = Keys::make(folder)?;
        let mut stage = Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            apis: ports.apis.iter().map(|&port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect(),
            chain_url: chain_url.clone(),
            nodes: Vec::new(),
            owners: keys.owners(plan.proxies),
            workers: plan.workers,
            runtime,
            model: model.to_owned(),
            _engine: engine,
        };
        let devnet = stage.path("devnet");
        stage.node(
            Name::Devnet,
            &["devnet", "--data-dir", &devnet, "--port", &ports.devnet.to_string(), "--block-ms", "100"],
        )?;
        stage.start(Name::Devnet)?;
        stage.patiently("the devnet to answer", |stage| stage.devnet("GET /dev/status", "").is_ok())?;
        let root = stage.found(&keys, &ports, plan)?;
        stage.write_configs(&keys, &ports, root, engine_addr, plan)?;
        let workers = (0..plan.workers).map(|number| (Name::Worker(number), "worker"));
        let clients = (0..plan.clients).map(|number| (Name::Client(number), "client"));
        let proxies = (0..plan.proxies).map(|number| (Name::Proxy(number), "proxy"));
        for (name, command) in proxies.chain(workers).chain(clients) {
            let config = stage.path(&format!("{name}.toml"));
            stage.node(name, &[command, "--config", &config])?;
            stage.start(name)?;
        }
        Ok(stage)
    }

    /// Where apps connect.
    pub(super) fn apis(&self) -> &[SocketAddr] {
        &self.apis
    }

    /// Waits until an app of each client gets an answer.
    pub(super) fn wait_until_served(&mut self) -> Result<(), Failure> {
        let model = &self.model;
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello"}}]}}"#);
        for api in self.apis.clone() {
            self.patiently("an answer through the whole network", |_| {
                http::ask(api, "POST /v1/chat/completions", &body).is_ok_and(|reply| reply.status == 200)
            })?;
        }
        Ok(())
    }

    /// Waits until the first client has a session with each proxy, and each proxy all workers.
    pub(super) fn wait_until_whole(&mut self) -> Result<(), Failure> {
        let &api = self.apis.first().ok_or("a network without clients")?;
        let request = format!("GET /v1/models/{}", self.model);
        let workers = (self.workers * self.owners.operators.len()) as u64;
        self.patiently("each proxy to have all workers", |_| {
            let told = http::ask(api, &request, "").map(|reply| serde_json::from_str(&reply.body));
            let told: serde_json::Value = told.ok().and_then(Result::ok).unwrap_or_default();
            told["workers"]["count"].as_u64() == Some(workers)
        })
    }

    /// What the first client says of its own requests.
    pub(super) fn metrics(&self) -> Result<String, Failure> {
        let &api = self.apis.first().ok_or("a network without clients")?;
        Ok(http::ask(api, "GET /metrics", "")?.body)
    }

    /// The processes that a request passes through.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.nodes.iter().filter(|(name, _)| *name != Name::Devnet).filter_map(|(_, node)| node.id()).collect()
    }

    /// Kills a process without warning.
    pub(super) fn kill(&mut self, name: Name) -> Result<(), Failure> {
        self.get(name)?.kill()
    }

    /// Lets a process stand still, or go on.
    pub(super) fn set_still(&mut self, name: Name, is_still: bool) -> Result<(), Failure> {
        self.get(name)?.set_still(is_still)
    }

    /// Starts it again.
    pub(super) fn restart(&mut self, name: Name) -> Result<(), Failure> {
        self.start(name)
    }

    /// What each client counted. The first one's receipts prove every request in the end, however it was lost; the others
    /// hold what a crash left for an hour.
    pub(super) fn counted(&mut self) -> Result<Vec<Counted>, Failure> {
        let mut counted = Vec::new();
        for (number, api) in self.apis.clone().into_iter().enumerate() {
            let mut last = Err("nothing was asked".into());
            self.patiently("a client to know what each request cost", |_| {
                last = counts(api);
                last.as_ref().is_ok_and(|told| told.held == 0 || number > 0)
            })
            .map_err(|error| format!("{error}; {last:?}"))?;
            counted.push(last?);
        }
        Ok(counted)
    }

    /// The clients leave with their money, the workers cash what they earned, everybody closes.
    pub(super) fn close(&mut self) -> Result<(), Failure> {
        for number in 0..self.apis.len() {
            let client = self.path(&format!("{}.toml", Name::Client(number)));
            self.cocoon(&["client", "close", "--config", &client, "--wait"])?;
        }
        // The last payment is signed once the proxy's books are committed; cashing is what owners do by command.
        let workers = self.numbers().map(|number| self.path(&format!("{}.toml", Name::Worker(number))));
        let workers: Vec<_> = workers.collect();
        let (mut asked, mut said) = (Instant::now(), String::new());
        let paid = self.patiently("the workers to be paid for everything", |stage| {
            if asked.elapsed() > ASK_AGAIN {
                asked = Instant::now();
                let cash = |config: &String| stage.cocoon(&["worker", "cash", "--config", config]);
                said = workers.iter().map(cash).map(|told| told.unwrap_or_else(|error| error.to_string())).collect();
            }
            stage.books().is_ok_and(|books| books.is_paid())
        });
        if let Err(error) = paid {
            return Err(format!("{error}\n{:#?}\nthe last word of the workers: {said}", self.books()?).into());
        }
        self.close_contracts()?;
        // Whoever waits for a delay of a day need not wait here.
        self.devnet("POST /dev/advance", r#"{"seconds": 90000}"#)?;
        self.close_contracts()?;
        self.patiently("the contracts to be closed", |stage| stage.books().is_ok_and(|books| books.is_closed()))
    }

    /// Every owner's own way out.
    fn close_contracts(&self) -> Result<(), Failure> {
        for (number, operator) in self.owners.operators.iter().enumerate() {
            let workers = self.numbers().zip(operator.worker_contracts);
            let workers = workers.map(|(number, contract)| (contract, earner_key(number)));
            for (contract, key) in workers.chain([(operator.contract, operator_key(number))]) {
                let key = self.path(&key);
                self.cocoon(&["contract", "close", &contract.raw(), "--wallet", &key])?;
            }
        }
        Ok(())
    }

    /// What the chain says now.
    pub(super) fn books(&self) -> Result<Books, Failure> {
        let chain = self.chain()?;
        self.runtime.block_on(Books::read(chain.as_ref(), &self.owners))
    }

    /// Every account's balance, explained line by line by the command that an owner would use; the number of lines.
    pub(super) fn statements(&self) -> Result<usize, Failure> {
        let chain = self.chain()?;
        let mut lines = 0;
        for (name, address) in self.owners.accounts() {
            let told = self.cocoon(&["contract", "show", &address.raw(), "--statement", "--json"])?;
            let told: serde_json::Value = serde_json::from_str(&told)?;
            let movements = told["statement"]["movements"].as_array().ok_or("a statement without movements")?;
            let changes = movements.iter().map(|line| line["change_nano"].as_str().unwrap_or_default().parse::<i64>());
            let sum = changes.sum::<Result<i64, _>>()?;
            let balance = self.runtime.block_on(chain.account(&address))?.for_display().balance.get();
            if u64::try_from(sum) != Ok(balance) || told["statement"]["is_explained"] != true {
                return Err(format!("{name} has {balance}, and the lines of its statement make {sum}").into());
            }
            lines += movements.len();
        }
        Ok(lines)
    }

    /// A root with everything that this network is made of, and money for everybody.
    fn found(&mut self, keys: &Keys, ports: &Ports, plan: &Plan<'_>) -> Result<Address, Failure> {
        let owner = self.path("owner.key");
        for address in keys.wallets() {
            let gift = format!(r#"{{"address": "{address}", "amount": "{PURSE}"}}"#);
            self.devnet("POST /dev/faucet", &gift)?;
        }
        let (price, fee) = (plan.price.to_string(), plan.worker_fee.to_string());
        // Kinds of tokens differ in price, and none evenly: whoever rounds another way is found out.
        let terms =
            ["--price", &price, "--worker-fee", &fee, "--cached", "0.3", "--completion", "2.7", "--reasoning", "1.9"];
        let stakes = ["--min-proxy-stake", "1", "--min-client-stake", "1", "--no-steward"];
        self.cocoon(&[&["root", "deploy", "--wallet", &owner], &terms[..], &stakes[..]].concat())?;
        for (role, image) in [(Role::Proxy, "proxy"), (Role::Worker, "worker")] {
            let hash = hex::encode(SimImage::for_role(role).manifest().sha256());
            self.cocoon(&["root", "images", "add", &hash, "--role", image, "--wallet", &owner])?;
        }
        self.cocoon(&["root", "models", "add", plan.model, "--wallet", &owner])?;
        let record = fs::read_to_string(self.folder.join("data/network.json"))?;
        let record: serde_json::Value = serde_json::from_str(&record)?;
        let root: Address = record["root"].as_str().ok_or("no root was noted")?.parse()?;
        let params = self.params(root)?;
        self.owners.derive(keys, root, &params)?;
        let payment = hex::encode(keys.proxy.public().payment);
        for (operator, ports) in self.owners.operators.iter().zip(&ports.proxies) {
            let contract = operator.contract.raw();
            let [clients, workers] = [ports.clients, ports.workers].map(|port| format!("127.0.0.1:{port}"));
            let places = ["--clients", &clients, "--workers", &workers];
            let pin = ["--contract", &contract, "--payment-key", &payment, "--wallet", &owner];
            self.cocoon(&[&["root", "proxies", "add"], &places[..], &pin[..]].concat())?;
        }
        Ok(root)
    }

    fn params(&self, root: Address) -> Result<Params, Failure> {
        let chain = self.chain()?;
        let account = self.runtime.block_on(chain.account(&root))?.for_display();
        Ok(RootState::parse(&account.data.ok_or("the root has no data")?)?.params)
    }

    fn write_configs(
        &self,
        keys: &Keys,
        ports: &Ports,
        root: Address,
        engine: SocketAddr,
        plan: &Plan<'_>,
    ) -> Result<(), Failure> {
        let Plan { stake, workers, requests, .. } = *plan;
        let (simulated, chain) = (self.path("simulated-tee"), &self.chain_url);
        let common = format!(
            "[attestation]\ninsecure_simulated_tee = {simulated:?}\n\n[chain]\nroot = \"{}\"\ndevnet = {chain:?}\n\
             insecure_reported = true\npoll_s = 1\n",
            root.raw()
        );
        let (Ports { apis, proxies, .. }, model) = (ports, &self.model);
        for (number, (ports, operator)) in proxies.iter().zip(&keys.operators).enumerate() {
            let name = Name::Proxy(number);
            let (folder, owner) = (self.path(&name.to_string()), operator.address().raw());
            let ProxyPorts { clients, workers } = ports;
            fs::write(
                self.folder.join(format!("{name}.toml")),
                format!(
                    "data_dir = {folder:?}\n\n[listen]\nclients = \"127.0.0.1:{clients}\"\nworkers = \"127.0.0.1:{workers}\"\n\n\
                     {common}\n[proxy]\nowner_address = \"{owner}\"\nclient_in_flight_max = {requests}\n\n[proxy.settlement]\ncommit_min_s = 1\ncommit_max_s = 2\nrecovery_s = 1\n\
                     exposure = \"2\"\ncharge_at = \"1\"\npayout_at = \"1\"\nwithdraw_at = \"5\"\n"
                ),
            )?;
        }
        for (number, earner) in keys.earners.iter().enumerate().take(workers) {
            let name = Name::Worker(number);
            let (folder, owner) = (self.path(&name.to_string()), earner.address().raw());
            let (coefficient, protocol) = (COEFFICIENTS[number], PROTOCOLS[number]);
            // The cheapest is full at times, so that all earn.
            let slots = if number + 1 < workers { 3 } else { requests };
            fs::write(
                self.folder.join(format!("{name}.toml")),
                format!(
                    "data_dir = {folder:?}\n\n{common}\n[engine]\nurl = \"http://{engine}\"\n\n[worker]\n\
                     owner_address = \"{owner}\"\ncoefficient = {coefficient}\nmax_active_requests = {slots}\n\
                     proto_version_max = {protocol}\nmodel = \"{model}\"\n\n[worker.earnings]\nexposure = \"4\"\n"
                ),
            )?;
        }
        for (number, api) in apis.iter().enumerate() {
            let name = Name::Client(number);
            let (folder, key) = (self.path(&name.to_string()), self.path(&payer_key(number)));
            // Only who goes without receipts is served by an original worker.
            let receipts = number == 0;
            fs::write(
                self.folder.join(format!("{name}.toml")),
                format!(
                    "data_dir = {folder:?}\n\n{common}\n[wallet]\nkey_file = {key:?}\n\n[client]\n\
                     listen = \"127.0.0.1:{api}\"\n\n[client.budget]\nper_request = \"5\"\nper_day = \"100\"\n\
                     stake = \"{stake}\"\nreceipts = {receipts}\n\n\
                     [client.limits]\nconnections = {requests}\nrequests = {requests}\n"
                ),
            )?;
        }
        Ok(())
    }

    /// Runs a command of an owner to its end.
    fn cocoon(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(&self.binary);
        let role = arguments.first().is_some_and(|word| matches!(*word, "client" | "worker"));
        command.args(arguments).env_remove("COCOON_DATA_DIR").env_remove("COCOON_WALLET");
        if !role {
            command.args(["--data-dir", &self.path("data"), "--chain", &self.chain_url]);
        }
        let output = command.output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("`cocoon {}` failed: {said}", arguments.join(" ")).into())
    }

    fn devnet(&self, request: &str, body: &str) -> Result<(), Failure> {
        let addr = self.chain_url.trim_start_matches("http://").parse()?;
        let reply = http::ask(addr, request, body)?;
        if reply.status == 200 { Ok(()) } else { Err(format!("{request}: {} {}", reply.status, reply.body).into()) }
    }

    fn chain(&self) -> Result<Arc<dyn cocoon_ton::Chain>, Failure> {
        use cocoon_ton::chain::toncenter::{Config, Toncenter};
        let config = Config { url: format!("{}/api/v2", self.chain_url), api_key: None, requests_per_second: 1_000 };
        Ok(Arc::new(Toncenter::new(config)?))
    }

    fn node(&mut self, name: Name, arguments: &[&str]) -> Result<(), Failure> {
        let node = Node::new(name, &self.binary, arguments, &self.folder)?;
        self.nodes.push((name, node));
        Ok(())
    }

    fn start(&mut self, name: Name) -> Result<(), Failure> {
        self.get(name)?.start()
    }

    fn get(&mut self, name: Name) -> Result<&mut Node, Failure> {
        let found = self.nodes.iter_mut().find(|(known, _)| *known == name);
        found.map(|(_, node)| node).ok_or_else(|| format!("there is no {name}").into())
    }

    /// The workers that there are.
    fn numbers(&self) -> std::ops::Range<usize> {
        0..self.workers
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Waits for something that comes about by itself, unless a process ends meanwhile.
    fn patiently(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<(), Failure> {
        let began = Instant::now();
        while !done(self) {
            for (_, node) in &mut self.nodes {
                node.check()?;
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("waited {} s for {what}", PATIENCE.as_secs()).into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// What a client counted of its use of all proxies, and what it still holds for requests whose end it does not know.
fn counts(api: SocketAddr) -> Result<Counted, Failure> {
    let reply = http::ask(api, "GET /v1/budget", "")?;
    let told: serde_json::Value = serde_json::from_str(&reply.body)?;
    let contracts = told["contracts"].as_array().ok_or("a budget without contracts")?;
    let sum = |what: &str| contracts.iter().map(|row| row[what].as_u64().ok_or("a contract without counts")).sum();
    let (counted, held): (Result<u64, _>, Result<u64, _>) = (sum("tokens_counted"), sum("tokens_held"));
    Ok(Counted { counted: counted?, held: held? })
}

/// A port that nobody has.
fn free() -> Result<u16, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
