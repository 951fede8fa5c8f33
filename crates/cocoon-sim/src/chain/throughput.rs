//! Charges as fast as they go.

use std::time::{Duration, Instant};

use cocoon_ton::Cell;
use cocoon_ton::chain::Chain as _;
use cocoon_ton::devnet::{Devnet, Engine, Genesis, Options};
use cocoon_units::Nano;

use super::stage::{NOW, Stage};
use super::{Failure, Throughput};

/// Clients that are charged in turn.
const CLIENTS: u32 = 100;
/// Messages that are on their way to the devnet at once.
const AT_ONCE: usize = 256;
/// Tokens of each charge: 20 nano each.
const TOKENS: u64 = 10;

pub(super) async fn measure(charges: u32) -> Result<Vec<Throughput>, Failure> {
    let stage = Stage::new()?;
    let folder = std::env::temp_dir().join(format!("cocoon-sim-chain-{}", std::process::id()));
    let options = Options { genesis: genesis(), ..Options::default() };
    let measured = [
        bare(&stage, charges)?,
        devnet("devnet in memory", Devnet::memory(&options)?, &stage, charges).await?,
        devnet("devnet on disk", Devnet::open(&folder, &options)?, &stage, charges).await?,
    ];
    std::fs::remove_dir_all(&folder)?;
    Ok(measured.into())
}

pub(super) fn genesis() -> Genesis {
    Genesis { unix_s: NOW, puppets: 1, puppet: Nano::new(1_000_000_000_000_000_000), ..Genesis::default() }
}

fn bare(stage: &Stage, charges: u32) -> Result<Throughput, Failure> {
    let mut engine = Engine::new(&genesis());
    for message in deployment(stage)? {
        engine.submit(&message)?;
    }
    engine.settle(NOW);
    let messages = messages(stage, charges)?;
    let start = Instant::now();
    let (mut transactions, mut blocks) = (0, Duration::ZERO);
    for batch in messages.chunks(AT_ONCE) {
        for message in batch {
            engine.submit(message)?;
        }
        let before = Instant::now();
        transactions += engine.settle(NOW).iter().map(|block| block.transactions.len() as u64).sum::<u64>();
        blocks += before.elapsed();
    }
    Ok(report("engine alone", transactions, start.elapsed(), blocks))
}

async fn devnet(name: &'static str, devnet: Devnet, stage: &Stage, charges: u32) -> Result<Throughput, Failure> {
    for message in deployment(stage)? {
        devnet.send(&message).await?;
    }
    settle(&devnet).await?;
    let messages = messages(stage, charges)?;
    let start = Instant::now();
    let (mut transactions, mut blocks) = (0, Duration::ZERO);
    for batch in messages.chunks(AT_ONCE) {
        send(&devnet, batch).await?;
        let before = Instant::now();
        transactions += settle(&devnet).await?;
        blocks += before.elapsed();
    }
    Ok(report(name, transactions, start.elapsed(), blocks))
}

pub(super) async fn send(devnet: &Devnet, batch: &[Cell]) -> Result<(), Failure> {
    let mut senders = tokio::task::JoinSet::new();
    for message in batch {
        let (devnet, message) = (devnet.clone(), message.clone());
        senders.spawn(async move { devnet.send(&message).await });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    Ok(())
}

pub(super) async fn settle(devnet: &Devnet) -> Result<u64, Failure> {
    let mut transactions = 0;
    while devnet.queue_len() > 0 {
        transactions += devnet.tick().await?.transactions.len() as u64;
    }
    Ok(transactions)
}

fn deployment(stage: &Stage) -> Result<Vec<Cell>, Failure> {
    std::iter::once(stage.proxy()).chain((0..CLIENTS).map(|index| stage.client(index))).collect()
}

fn messages(stage: &Stage, charges: u32) -> Result<Vec<Cell>, Failure> {
    (0..charges).map(|n| stage.charge(n % CLIENTS, u64::from(n / CLIENTS + 1) * TOKENS)).collect()
}

fn report(network: &'static str, transactions: u64, all: Duration, blocks: Duration) -> Throughput {
    Throughput { network, transactions, seconds: all.as_secs_f64(), block_seconds: blocks.as_secs_f64() }
}
