//! Thousands of workers connected to one proxy, all of them in this process: `cocoon-sim workers`.
//!
//! Each has an attested connection and a finished handshake of its own, and then does nothing but answer pings, as a worker
//! without work does. They share one identity; the proxy appraises the evidence of each, and they the proxy's.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cocoon_attest::Role;
use cocoon_attest::policy::Mode;
use cocoon_net::{Connection, Link};
use cocoon_units::{AdjustedTokens, Coefficient};
use cocoon_wire::message::{WorkerParams, WorkerQuery};
use cocoon_wire::{Encoded, VersionRange};
use serde::Serialize;
use tokio::task::{JoinSet, LocalSet};

use crate::attested::{Failure, MODEL, Stage, connect};

/// Handshakes at once: the proxy has room for as many of one address.
const AT_ONCE: usize = 8;

/// How long one step of a handshake may take while all others are under way.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who connects where.
#[derive(Debug, Clone)]
pub struct WorkersConfig {
    /// Where the proxy listens for workers.
    pub proxy: SocketAddr,
    /// The folder of the simulated platform that it accepts.
    pub platform: PathBuf,
    /// How many.
    pub count: usize,
}

/// That all are connected.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct WorkersReport {
    /// Workers with a session.
    pub connected: usize,
    /// From the first dial, in seconds.
    pub seconds: f64,
}

/// Connects all of them, tells so, and keeps them connected until `end` completes.
///
/// # Errors
/// When one cannot connect; the others are let go then.
pub async fn workers(
    config: &WorkersConfig,
    up: impl FnOnce(WorkersReport),
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    LocalSet::new().run_until(keep(config, up, end)).await.map_err(io::Error::other)
}

async fn keep(
    config: &WorkersConfig,
    up: impl FnOnce(WorkersReport),
    end: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let start = Instant::now();
    let link = Stage::of_folder(&config.platform)?.link(Role::Worker, Role::Proxy, Mode::Strict)?;
    let (mut joining, mut idle) = (JoinSet::new(), JoinSet::new());
    for number in 0..config.count {
        if joining.len() == AT_ONCE {
            idle_from(joining.join_next().await, &mut idle)?;
        }
        joining.spawn(join(config.proxy, Arc::clone(&link), number));
    }
    while let joined @ Some(_) = joining.join_next().await {
        idle_from(joined, &mut idle)?;
    }
    up(WorkersReport { connected: idle.len(), seconds: start.elapsed().as_secs_f64() });
    tokio::select! {
        () = end => Ok(()),
        Some(_) = idle.join_next() => Err("the proxy closed a worker's connection".into()),
    }
}

type Joined = Option<Result<Result<Connection, Failure>, tokio::task::JoinError>>;

/// A worker with nothing to do.
fn idle_from(joined: Joined, idle: &mut JoinSet<()>) -> Result<(), Failure> {
    let Some(joined) = joined else { return Ok(()) };
    let mut connection = joined??;
    idle.spawn(async move { while connection.next().await.is_ok() {} });
    Ok(())
}

/// One worker's way to its session.
async fn join(proxy: SocketAddr, link: Arc<Link>, number: usize) -> Result<Connection, Failure> {
    let mut connection = connect(proxy, Some(&link)).await?;
    let params = WorkerParams {
        owner_address: format!("worker {number}"),
        model: MODEL.to_owned(),
        coefficient: Coefficient::ONE,
        is_test: true,
        proxy_count: 1,
        max_active_requests: 8,
        versions: Some(VersionRange::ALL),
    };
    let zero = AdjustedTokens::ZERO;
    let compare = WorkerQuery::CompareBalance {
        tokens_committed_to_blockchain: zero,
        tokens_committed_to_db: zero,
        max_tokens: zero,
    };
    for query in [WorkerQuery::Connect(params), compare, WorkerQuery::HandshakeComplete { is_disabled: false }] {
        ask(&mut connection, query.encode()).await?;
    }
    Ok(connection)
}

async fn ask(connection: &mut Connection, query: Encoded) -> Result<Bytes, Failure> {
    let outbox = connection.outbox();
    let answer = outbox.query(query, PATIENCE);
    tokio::select! {
        answer = answer => Ok(answer?),
        event = connection.next() => Err(format!("the proxy said {:?} in a handshake", event.map(|_| "something")).into()),
    }
}
