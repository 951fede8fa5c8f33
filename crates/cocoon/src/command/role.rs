//! `cocoon client | proxy | worker`: one role in a process of its own, from a configuration file.

#[cfg(feature = "client")]
pub(crate) mod client;
#[cfg(feature = "proxy")]
pub(crate) mod proxy;
#[cfg(feature = "worker")]
pub(crate) mod worker;

use std::future::Future;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Read};
use crate::{runtime, terminal};

/// Arguments that every role has.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE", required_unless_present = "print_default_config")]
    config: Option<PathBuf>,

    /// Print a documented configuration with every default, and stop
    #[arg(long, conflicts_with = "config")]
    print_default_config: bool,
}

impl ConfigArgs {
    /// The configuration; none when only the sample was asked for, which is printed.
    fn read<T: DeserializeOwned>(&self, sample: &str) -> Result<Option<Read<T>>> {
        if self.print_default_config {
            terminal::line(sample.trim_end());
            return Ok(None);
        }
        let path = self.config.as_deref().context("name a configuration with --config")?;
        config::read(path).map(Some)
    }
}

/// Runs a role until a signal asks it to stop, then until it has drained.
fn run_role<Role>(threads: usize, role: impl FnOnce(CancellationToken) -> Role) -> Result<()>
where
    Role: Future<Output = Result<()>>,
{
    let runtime = runtime::build(threads)?;
    let stop = CancellationToken::new();
    runtime.block_on(async {
        let signals = runtime::stop_on_signal(stop.clone());
        tokio::select! {
            outcome = role(stop.clone()) => outcome,
            () = signals => Ok(()),
        }
    })
}
