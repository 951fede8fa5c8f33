//! The roles of `up` as tasks: started, watched, drained in order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use cocoon_attest::{self as attest, CollateralSource};
use cocoon_client::{ApiKey, AuthSecret, Client, ClientConfig, ClientHandle};
use cocoon_proxy::{Hex32, Proxy, ProxyConfig};
use cocoon_worker::{Worker, WorkerConfig, WorkerHandle};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::engine::Chosen;
use crate::attestation::simulated::Simulated;
use crate::attestation::{self, Attestation, Links};
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
    /// Where the client found the proxy.
    pub(super) proxy: SocketAddr,
    /// What the client accepts of it.
    pub(super) client_policy: PathBuf,
    /// The workers.
    pub(super) workers: Vec<WorkerHandle>,
    client: ClientHandle,
}

/// The roles, in the order in which they drain.
#[derive(Debug)]
pub(super) struct Tasks {
    client: Role,
    workers: Role,
    proxy: Role,
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

/// A free port of loopback.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Both ends of the network's sessions are this process; wallets and money come with the contracts.
const IS_TEST: bool = true;

impl Network {
    /// Starts proxy, workers and client, attested by the simulated platform.
    pub(super) async fn start(
        listener: TcpListener,
        engine: &Chosen,
        workers: u16,
        simulated: &Simulated,
    ) -> Result<Self> {
        let api = listener.local_addr()?;
        let (pccs_task, pccs) = serve_pccs(simulated).await?;
        let links = |role, instance: &str| links(simulated, role, instance, Arc::clone(&pccs));
        // Client and proxy prove themselves to each other as strangers would; the secret lives as long as they do.
        let secret = ApiKey::generate().context("cannot make a secret")?;

        let proxy_links = links(attest::Role::Proxy, "proxy")?;
        let listen = async |peers| wiring::bind_sessions(proxy_links.listen(ANY_PORT, peers), 0, "nothing").await;
        let (for_clients, proxy_addr) = listen(attest::Role::Client).await?;
        let (for_workers, workers_addr) = listen(attest::Role::Worker).await?;
        let config = ProxyConfig {
            is_test: IS_TEST,
            client_secret_hash: Some(Hex32::sha256(secret.expose().as_bytes())),
            ..ProxyConfig::default()
        };
        let mut proxy_task = Role::new("proxy");
        let proxy = Proxy::new(config, wiring::clock(), for_clients, for_workers);
        let stop = proxy_task.stop.clone();
        proxy_task.tasks.spawn(async move {
            proxy.run(stop).await;
            Ok(())
        });

        let mut worker_tasks = Role::new("worker");
        let mut handles = Vec::new();
        for number in 0..workers {
            let mut config = WorkerConfig { is_test: IS_TEST, ..WorkerConfig::default() };
            wiring::fit_slots(&mut config, engine.engine.as_ref(), workers);
            let links = links(attest::Role::Worker, &format!("worker {number}"))?;
            let dialers = wiring::dialers(&[workers_addr], &links);
            let mut worker = Worker::new(config, wiring::clock(), Arc::clone(&engine.engine), dialers)?;
            if let Some(prover) = links.prover() {
                worker = worker.with_prover(prover);
            }
            handles.push(worker.handle());
            let stop = worker_tasks.stop.clone();
            worker_tasks.tasks.spawn(async move {
                worker.run(stop).await;
                Ok(())
            });
        }

        let config = ClientConfig {
            listen: api,
            is_test: IS_TEST,
            auth_secret: AuthSecret::new(secret.expose()),
            ..ClientConfig::default()
        };
        let mut client_task = Role::new("client");
        let dialers = wiring::dialers(&[proxy_addr], &links(attest::Role::Client, "client")?);
        let client = Client::new(config, wiring::clock(), dialers)?;
        let handle = client.handle();
        let stop = client_task.stop.clone();
        client_task.tasks.spawn(async move { Ok(client.serve(listener, stop).await?) });

        let client_policy = simulated.policy_path(attest::Role::Client);
        let view = View { api, proxy: proxy_addr, client_policy, workers: handles, client: handle };
        let tasks = Tasks { client: client_task, workers: worker_tasks, proxy: proxy_task, pccs: pccs_task };
        Ok(Self { view, tasks })
    }
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
) -> Result<Links> {
    let node = match role {
        attest::Role::Client => None,
        attest::Role::Proxy | attest::Role::Worker | _ => Some(simulated.node(role, instance, [0; 32])?),
    };
    let policy = simulated.policy(role)?;
    Ok(Links::Attested(Attestation::assemble(role, node, policy, collateral)?))
}

impl View {
    /// The address of the OpenAI endpoint.
    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.api)
    }

    /// Whether an app would get an answer now.
    pub(super) fn is_ready(&self) -> bool {
        self.client.status().ready
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
            error = self.proxy.ended() => error,
            error = self.pccs.ended() => error,
        }
    }

    /// Stops the roles, those nearest the app first, so that what runs can finish.
    pub(super) async fn drain(&mut self) -> Result<()> {
        for role in [&mut self.client, &mut self.workers, &mut self.proxy, &mut self.pccs] {
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
