//! Following the root: a registry of the size that a network may grow to.

use std::hint::black_box;
use std::time::Instant;

use cocoon_ton::chain::{Chain as _, ChainPolicy};
use cocoon_ton::contract::{Pin, ProxyRecord, RootState, StateInit, codes};
use cocoon_ton::devnet::{Devnet, Options, Order, puppet};
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;

use super::stage::params;
use super::throughput::genesis;
use super::{Failure, Refresh};

const PROXIES: u32 = 200;
/// Images of proxies and of workers, and models, together.
const HASHES: u32 = 500;

pub(super) async fn measure(refreshes: u32) -> Result<Refresh, Failure> {
    let devnet = Devnet::memory(&Options { genesis: genesis(), ..Options::default() })?;
    let root = root()?;
    let init = StateInit { code: codes().root.clone(), data: root.to_cell() };
    let address = init.address();
    let order = Order::transfer(address, Nano::new(10_000_000_000)).deploying(init.into());
    devnet.send(&puppet::command(puppet::address(1), &order, 0)?).await?;
    devnet.tick().await?;
    let account = devnet.account(&address).await?.for_money(ChainPolicy::Proved)?;
    let data = account.data.ok_or("the root was not deployed")?;
    let bytes = tycho_types::boc::Boc::encode(&data);
    Ok(Refresh {
        proxies: PROXIES,
        hashes: HASHES,
        cells: data.compute_unique_stats(usize::MAX).map_or(0, |stats| stats.cell_count),
        local_us: local(&devnet, &address, refreshes).await?,
        decoded_us: decoded(&bytes, refreshes)?,
    })
}

async fn local(devnet: &Devnet, address: &Address, refreshes: u32) -> Result<f64, Failure> {
    let mut times = Vec::new();
    for _ in 0..refreshes {
        let start = Instant::now();
        let account = devnet.account(address).await?.for_money(ChainPolicy::Proved)?;
        black_box(RootState::parse(&account.data.ok_or("the root is gone")?)?);
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}

fn decoded(bytes: &[u8], refreshes: u32) -> Result<f64, Failure> {
    let mut times = Vec::new();
    for _ in 0..refreshes {
        let start = Instant::now();
        let data: Cell = tycho_types::boc::Boc::decode(bytes)?;
        black_box(RootState::parse(&data)?);
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn root() -> Result<RootState, Failure> {
    let mut root = RootState::initial(puppet::address(1), params());
    let hash = |kind: u8, n: u32| {
        let mut hash = [kind; 32];
        hash[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
        hash
    };
    for n in 0..PROXIES {
        let pin = Pin { contract: Address::basechain(hash(1, n)), payment_key: hash(2, n) };
        let [_, _, c, d] = n.to_be_bytes();
        let endpoint = |port: u16| format!("192.0.{c}.{d}:{port}");
        let record = ProxyRecord::new(&endpoint(8443), &endpoint(8444), Some(pin))?;
        root.registered_proxies.insert(n, record);
    }
    root.last_proxy_seqno = PROXIES;
    root.proxy_hashes = (0..HASHES / 5).map(|n| hash(3, n)).collect();
    root.worker_hashes = (0..HASHES * 2 / 5).map(|n| hash(4, n)).collect();
    root.model_hashes = (0..HASHES * 2 / 5).map(|n| hash(5, n)).collect();
    Ok(root)
}
