//! The roles of `up` as tasks: started, watched, drained in order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use cocoon_attest::{self as attest, CollateralSource};
use cocoon_client::{BudgetConfig, ClientConfig, ClientHandle};
use cocoon_net::Acceptor;
use cocoon_proxy::{ProxyConfig, SettlementConfig};
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::contract::{client_state_init, proxy_address};
use cocoon_ton::wallet::{Wallet, WalletKind};
use cocoon_ton::{Address, Chain, devnet};
use cocoon_units::{Clock, Nano};
use cocoon_worker::{WorkerConfig, WorkerHandle};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::engine::Chosen;
use super::ground::caretaker::Caretaker;
use super::ground::{Costs, Funded, Ground, IS_TEST, Measured, Wanted, WantedProxy, measure};
use crate::attestation::simulated::Simulated;
use crate::attestation::{self, Attestation, Links};
use crate::chain::Followed;
use crate::command::role;
use crate::{limits, wiring};

/// A running network.
#[derive(Debug)]
pub(super) struct Network {
    /// What can be seen of it.
    pub(super) view: View,
    /// What keeps it running.
    pub(super) tasks: Tasks,
}

/// Addresses and handles.
#[derive(Debug)]
pub(super) struct View {
    /// Where apps connect.
    pub(super) api: SocketAddr,
    /// Where the client found the proxies.
    pub(super) proxies: Vec<SocketAddr>,
    /// What the client accepts of it.
    pub(super) client_policy: PathBuf,
    /// What other commands read about the client.
    pub(super) client_config: PathBuf,
    /// What `cocoon worker earnings` and its like read.
    pub(super) worker_config: PathBuf,
    /// The workers of the model that was asked for.
    pub(super) workers: Vec<WorkerHandle>,
    /// The worker beside them, whose model may still be on its way.
    pub(super) embeddings: Option<WorkerHandle>,
    client: ClientHandle,
    /// The chain under it.
    pub(super) chain: OnChain,
}

/// The roles, in the order in which they drain.
#[derive(Debug)]
pub(super) struct Tasks {
    client: Role,
    workers: Role,
    proxies: Role,
    caretaker: Role,
    devnet: Role,
    /// The simulated vendor's collateral service.
    pccs: Role,
}

/// Tasks of one kind and the token that stops them.
#[derive(Debug)]
struct Role {
    name: &'static str,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

/// What is on the chain.
#[derive(Debug)]
pub(super) struct OnChain {
    /// Where the devnet answers.
    pub(super) url: String,
    /// The root contract.
    pub(super) root: Address,
    chain: Arc<dyn Chain>,
    terms: watch::Receiver<Arc<RootConfig>>,
    operator: Address,
    pub(super) payer: Address,
    /// Of the first proxy, which stands for all where one is shown.
    proxy_wallet: Address,
    payment_key: [u8; 32],
}

/// How many of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) proxies: u16,
    pub(super) workers: u16,
}

/// A proxy that listens already, and is not served yet.
struct Listening {
    links: Links,
    for_clients: Arc<dyn Acceptor>,
    for_workers: Arc<dyn Acceptor>,
}

/// A free port of loopback.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What every role stands on.
struct Base<'a> {
    clock: Arc<dyn Clock>,
    followed: Followed,
    ground: &'a Ground,
}

impl Network {
    /// Establishes what is missing on the chain, and starts proxies, workers and client, attested by the simulated platform.
    pub(super) async fn start(
        listener: TcpListener,
        engine: &Chosen,
        size: Size,
        simulated: &Simulated,
        mut ground: Ground,
    ) -> Result<Self> {
        let api = listener.local_addr()?;
        let (pccs_task, pccs) = serve_pccs(simulated).await?;
        let (devnet_task, url) = serve_devnet(&ground).await?;
        let clock = ground.clock();
        let links = |role, instance: &str| links(simulated, role, instance, Arc::clone(&pccs), Arc::clone(&clock));
        let client_links = links(attest::Role::Client, "client")?;
        let beside = engine.embeddings.iter().map(|_| EMBEDDINGS_WORKER.to_owned());
        let names = (0..size.workers).map(|number| format!("worker {number}")).chain(beside);
        let worker_links = names.map(|name| links(attest::Role::Worker, &name)).collect::<Result<Vec<_>>>()?;
        // The proxies' sockets first: the root says where they are.
        let (mut listening, mut wanted_proxies) = (Vec::new(), Vec::new());
        for number in 0..size.proxies {
            let (proxy, wanted) = listen(links(attest::Role::Proxy, &proxy_instance(number))?).await?;
            listening.push(proxy);
            wanted_proxies.push(wanted);
        }
        let retired = (size.proxies..limits::UP_PROXIES_MAX).map(|number| {
            let links = links(attest::Role::Proxy, &proxy_instance(number))?;
            Ok(links.lasting_keys()?.public().payment)
        });
        let retired = retired.collect::<Result<Vec<_>>>()?;
        let models = models(engine).await;
        let wallets = wallets(&ground, &listening, &worker_links)?;
        let proxy_wallet = wallets.first().context("a proxy without a wallet")?.wallet.address();
        let payment_key = wanted_proxies.first().context("a network without a proxy")?.payment_key;
        let proxies: Vec<_> = wanted_proxies.iter().map(|proxy| proxy.clients).collect();
        let wanted = Wanted { wallets, proxies: wanted_proxies, retired, models };
        let root = ground.establish(&wanted, &url).await?;
        let followed = ground.follow(root).await?;
        let (operator, payer) = (ground.operator(), ground.client().address());
        let terms = followed.root();
        let base = Base { clock, followed, ground: &ground };
        let proxy_tasks = base.proxies(listening)?;
        let (worker_tasks, mut handles) = base.workers(engine, &worker_links)?;
        let (client_task, client) = base.client(&client_links, listener, proxies.len())?;
        let mut caretaker_task = Role::new("caretaker of the contracts");
        let chain = ground.chain();
        let client_config = ground.leave_client_config(root, &url, api, funded(proxies.len()))?;
        let worker_config = ground.leave_worker_config(root, &url)?;
        let caretaker = Caretaker::new(ground, root, wanted, handles.clone());
        let embeddings = engine.embeddings.as_ref().and_then(|_| handles.pop());
        let (stop, heard) = (caretaker_task.stop.clone(), terms.clone());
        caretaker_task.tasks.spawn(async move {
            stop.run_until_cancelled(caretaker.run(heard)).await;
            Ok(())
        });
        let client_policy = simulated.policy_path(attest::Role::Client);
        let chain = OnChain { url, root, chain, terms, operator, payer, proxy_wallet, payment_key };
        let view = View {
            api,
            proxies,
            client_policy,
            client_config,
            worker_config,
            workers: handles,
            embeddings,
            client,
            chain,
        };
        let tasks = Tasks {
            client: client_task,
            workers: worker_tasks,
            proxies: proxy_tasks,
            caretaker: caretaker_task,
            devnet: devnet_task,
            pccs: pccs_task,
        };
        Ok(Self { view, tasks })
    }
}

impl Base<'_> {
    fn proxies(&self, listening: Vec<Listening>) -> Result<Role> {
        let mut task = Role::new("proxy");
        for (number, Listening { links, for_clients, for_workers }) in (0..).zip(listening) {
            let config = ProxyConfig {
                is_test: IS_TEST,
                owner_address: self.ground.operator().raw(),
                // Play money: whoever looks on should not wait a minute for something to happen.
                settlement: SettlementConfig { commit_min_s: 3, commit_max_s: 6, ..SettlementConfig::default() },
                ..ProxyConfig::default()
            };
            let (clock, followed) = (Arc::clone(&self.clock), self.followed.clone());
            let folder = self.ground.role_folder(&proxy_instance(number).replace(' ', "-"));
            let (proxy, beside) =
                role::proxy::by_root(config, clock, for_clients, for_workers, &links, followed, &folder)?;
            let stop = task.stop.child_token();
            task.tasks.spawn(async move {
                let served = async {
                    let served = proxy.run(stop.clone()).await;
                    stop.cancel();
                    served
                };
                Ok(tokio::join!(served, stop.run_until_cancelled(beside)).0?)
            });
        }
        Ok(task)
    }

    fn workers(&self, engine: &Chosen, links: &[Links]) -> Result<(Role, Vec<WorkerHandle>)> {
        let mut task = Role::new("worker");
        let mut handles = Vec::new();
        let chosen = links.len().saturating_sub(usize::from(engine.embeddings.is_some()));
        let count = u16::try_from(chosen)?;
        for (number, links) in links.iter().enumerate() {
            let (folder, engine, hashes, sharers) = match &engine.embeddings {
                Some(beside) if number >= chosen => {
                    (EMBEDDINGS_WORKER.replace(' ', "-"), &beside.engine, beside.hashes, 1)
                }
                _ => (format!("worker-{number}"), &engine.engine, engine.hashes, count),
            };
            let owner_address = self.ground.operator().raw();
            let mut config = WorkerConfig { is_test: IS_TEST, owner_address, ..WorkerConfig::default() };
            wiring::fit_slots(&mut config, engine.as_ref(), sharers);
            let (engine, clock) = (Arc::clone(engine), Arc::clone(&self.clock));
            let folder = self.ground.role_folder(&folder);
            let (worker, beside) =
                role::worker::by_root(config, clock, engine, None, links, self.followed.untold(), &folder)?;
            let worker = role::worker::proven(worker, links, hashes);
            handles.push(worker.handle());
            let stop = task.stop.clone();
            task.tasks.spawn(async move {
                tokio::join!(worker.run(stop.clone()), stop.run_until_cancelled(beside));
                Ok(())
            });
        }
        Ok((task, handles))
    }

    fn client(&self, links: &Links, listener: TcpListener, proxies: usize) -> Result<(Role, ClientHandle)> {
        let budget = BudgetConfig { max_funded_proxies: funded(proxies), ..BudgetConfig::default() };
        let listen = listener.local_addr()?;
        let config = ClientConfig { listen, is_test: IS_TEST, budget, ..ClientConfig::default() };
        let followed = self.followed.untold();
        let purse = self.ground.client_purse(&followed)?;
        let (client, beside) = role::client::by_root(config, Arc::clone(&self.clock), None, links, followed, purse)?;
        let handle = client.handle();
        let mut task = Role::new("client");
        let stop = task.stop.clone();
        task.tasks.spawn(async move {
            let (served, _) = tokio::join!(client.serve(listener, stop.clone()), stop.run_until_cancelled(beside));
            Ok(served?)
        });
        Ok((task, handle))
    }
}

/// The name of the worker beside the others: of its keys and its folder.
const EMBEDDINGS_WORKER: &str = "embeddings worker";

/// A proxy's name among those of its kind: of its keys and its folder. The first one's is older than the others.
fn proxy_instance(number: u16) -> String {
    if number == 0 { "proxy".to_owned() } else { format!("proxy {number}") }
}

/// Binds a proxy's sockets.
async fn listen(links: Links) -> Result<(Listening, WantedProxy)> {
    let bind = async |peers| wiring::bind_sessions(links.listen(ANY_PORT, peers), 0, "nothing").await;
    let (for_clients, clients) = bind(attest::Role::Client).await?;
    let (for_workers, workers) = bind(attest::Role::Worker).await?;
    let payment_key = links.lasting_keys()?.public().payment;
    Ok((Listening { links, for_clients, for_workers }, WantedProxy { payment_key, clients, workers }))
}

/// How many proxies the client puts money with: all that there are.
fn funded(proxies: usize) -> usize {
    proxies.max(BudgetConfig::default().max_funded_proxies)
}

/// The wallets of the roles, and what each begins with: what its contracts and their gas take, above the floor below
/// which a node's wallet sends nothing.
fn wallets(ground: &Ground, proxies: &[Listening], workers: &[Links]) -> Result<Vec<Funded>> {
    let owner = ground.operator();
    let node = |links: &Links, amount| {
        let wallet = Wallet::new(links.lasting_keys()?.wallet().clone(), WalletKind::Cocoon { owner });
        anyhow::Ok(Funded { wallet, amount })
    };
    let mut wallets = Vec::new();
    for proxy in proxies {
        wallets.push(node(&proxy.links, PROXY_WALLET)?);
    }
    for links in workers {
        wallets.push(node(links, WORKER_WALLET)?);
    }
    wallets.push(Funded { wallet: ground.client(), amount: CLIENT_WALLET });
    Ok(wallets)
}

const PROXY_WALLET: Nano = Nano::new(20_000_000_000);
const WORKER_WALLET: Nano = Nano::new(5_000_000_000);
const CLIENT_WALLET: Nano = Nano::new(50_000_000_000);

/// What the engine serves, if it says so at once.
async fn models(engine: &Chosen) -> Vec<String> {
    // An engine over HTTP lists its models when it is asked how it is; a slow one is registered later.
    let _ = timeout(limits::PATIENCE, engine.engine.health()).await;
    let chosen = engine.engine.models().into_iter().take(1).map(|model| model.id);
    chosen.chain(engine.embeddings.iter().map(|beside| beside.model.to_owned())).collect()
}

/// Serves the devnet to every other program of this machine.
async fn serve_devnet(ground: &Ground) -> Result<(Role, String)> {
    let listener = TcpListener::bind(ANY_PORT).await.context("cannot listen for the devnet")?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut task = Role::new("devnet");
    let (devnet, stop) = (ground.devnet().clone(), task.stop.clone());
    task.tasks.spawn(async move { Ok(devnet::http::serve(listener, devnet, stop).await?) });
    Ok((task, url))
}

/// Serves the simulated vendor's collateral over HTTP, as a vendor would; every role fetches it from there.
async fn serve_pccs(simulated: &Simulated) -> Result<(Role, Arc<dyn CollateralSource>)> {
    let listener = TcpListener::bind(ANY_PORT).await.context("cannot listen for the collateral service")?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut task = Role::new("collateral service");
    let (platform, stop) = (simulated.platform().clone(), task.stop.clone());
    task.tasks.spawn(async move { Ok(platform.serve_pccs(listener, stop.cancelled_owned()).await?) });
    Ok((task, attestation::collateral(Some(&url), None)?))
}

/// The links of one role on the simulated platform. There is no configuration file whose digest could be claimed.
fn links(
    simulated: &Simulated,
    role: attest::Role,
    instance: &str,
    collateral: Arc<dyn CollateralSource>,
    clock: Arc<dyn Clock>,
) -> Result<Links> {
    let node = match role {
        attest::Role::Client => None,
        attest::Role::Proxy | attest::Role::Worker | _ => Some(simulated.node(role, instance, [0; 32])?),
    };
    let policy = simulated.policy_by_root(role)?;
    let attestation = Attestation::assemble(role, node, policy, collateral, clock)?;
    let workers = simulated.policy_by_root(attest::Role::Proxy)?;
    Ok(Links::Attested(attestation.with_worker_policy(Some(workers))))
}

impl OnChain {
    /// The proxy's contract of the moment.
    pub(super) fn contract(&self) -> Address {
        let root = Arc::clone(&*self.terms.borrow());
        // The roles work by these parameters, so that there is an address; the root stands in for one.
        proxy_address(self.operator, &self.payment_key, root.address, &root.state.params).unwrap_or(root.address)
    }

    /// The client's contract of the moment.
    pub(super) fn client_contract(&self) -> Address {
        let root = Arc::clone(&*self.terms.borrow());
        let init = client_state_init(self.payer, self.contract(), &self.payment_key, &root.state.params);
        init.map_or(root.address, |init| init.address())
    }

    /// What it cost to be here, once the contracts are there.
    pub(super) async fn costs(&self) -> Result<Costs> {
        let root = Arc::clone(&*self.terms.borrow());
        let measured =
            Measured { proxy: (self.contract(), self.proxy_wallet), client: (self.client_contract(), self.payer) };
        measure(self.chain.as_ref(), measured, &root.state.params).await
    }
}

impl View {
    /// The address of the OpenAI endpoint.
    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.api)
    }

    /// Whether an app would get an answer now, and each proxy takes requests.
    pub(super) fn is_ready(&self) -> bool {
        let status = self.client.status();
        status.ready && self.proxies_ready() >= self.proxies.len()
    }

    /// How many proxies take the client's requests.
    pub(super) fn proxies_ready(&self) -> usize {
        self.client.status().proxies.iter().filter(|proxy| proxy.ready).count()
    }

    /// The model that apps can ask for, once a worker has said so.
    pub(super) fn model(&self) -> Option<String> {
        self.workers.iter().find_map(|worker| worker.status().model)
    }

    /// Waits until the client sees a worker: an engine may take minutes to load.
    pub(super) async fn ready(&self) {
        while !self.is_ready() {
            sleep(limits::UP_READY_POLL).await;
        }
    }
}

impl Tasks {
    /// Completes when a role ends though nobody asked it to.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.client.ended() => error,
            error = self.workers.ended() => error,
            error = self.proxies.ended() => error,
            error = self.caretaker.ended() => error,
            error = self.devnet.ended() => error,
            error = self.pccs.ended() => error,
        }
    }

    /// Stops the roles, those nearest the app first, so that what runs can finish.
    pub(super) async fn drain(&mut self) -> Result<()> {
        let Self { client, workers, proxies, caretaker, devnet, pccs } = self;
        for role in [client, workers, proxies, caretaker, devnet, pccs] {
            role.stop.cancel();
            if timeout(limits::DRAIN_TIMEOUT, role.join()).await.is_err() {
                return Err(anyhow!("the {} did not finish within {:?}", role.name, limits::DRAIN_TIMEOUT));
            }
        }
        Ok(())
    }
}

impl Role {
    fn new(name: &'static str) -> Self {
        Self { name, stop: CancellationToken::new(), tasks: JoinSet::new() }
    }

    async fn ended(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error.context(format!("the {} failed", self.name)),
            Some(Err(error)) => anyhow!(error).context(format!("the {} crashed", self.name)),
            Some(Ok(Ok(()))) | None => anyhow!("the {} stopped by itself", self.name),
        }
    }

    async fn join(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
