//! `cocoon proxy`: routes requests of clients to workers, and meters them.

use std::net::SocketAddr;

use anyhow::Result;
use cocoon_proxy::{Proxy, ProxyConfig};
use serde::Deserialize;

use super::ConfigArgs;
use crate::{terminal, wiring};

/// Run a proxy: routing and metering between clients and workers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

const SAMPLE: &str = include_str!("../../../config/proxy.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    threads: usize,
    listen: Listen,
    proxy: ProxyConfig,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Listen {
    clients: SocketAddr,
    workers: SocketAddr,
    pow_difficulty_bits: i32,
}

impl Default for File {
    fn default() -> Self {
        Self { threads: 1, listen: Listen::default(), proxy: ProxyConfig::default() }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { clients: wiring::PROXY_FOR_CLIENTS, workers: wiring::PROXY_FOR_WORKERS, pow_difficulty_bits: 0 }
    }
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(File { threads, listen, proxy }) = args.config.read(SAMPLE)? else { return Ok(()) };
    super::run_role(threads, |stop| async move {
        let bits = listen.pow_difficulty_bits;
        let (clients, for_clients) = wiring::bind_sessions(listen.clients, bits, "`clients` under [listen]").await?;
        let (workers, for_workers) = wiring::bind_sessions(listen.workers, bits, "`workers` under [listen]").await?;
        let proxy = Proxy::new(proxy, wiring::clock(), clients, workers);
        terminal::line(&format!("proxy: {for_clients} for clients, {for_workers} for workers"));
        proxy.run(stop).await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use cocoon_units::{Multipliers, Pricing};

    use super::*;
    use crate::config::samples::shows_every_key;

    #[test]
    fn the_sample_shows_the_defaults() {
        let sample: File = crate::config::parse(SAMPLE).unwrap();
        assert_eq!(format!("{sample:?}"), format!("{:?}", File::default()));
    }

    #[test]
    fn the_sample_shows_every_key() {
        shows_every_key::<File>(SAMPLE, &[], &[]);
        shows_every_key::<Listen>(SAMPLE, &["listen"], &[]);
        shows_every_key::<ProxyConfig>(SAMPLE, &["proxy"], &["client_secret_hash"]);
        shows_every_key::<Pricing>(SAMPLE, &["proxy", "pricing"], &[]);
        shows_every_key::<Multipliers>(SAMPLE, &["proxy", "pricing", "multipliers"], &[]);
    }
}
