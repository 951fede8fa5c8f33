//! `cargo xtask storm`: a network of real processes under load, killed at random moments; then the money must add up. With
//! `--failover`, only one of two proxies dies at a time, and no request may be lost that had not begun. See `cocoon-sim`'s
//! source for what is compared.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::shell::{cargo, command, output, print, run as run_command, target};

/// How hard it blows.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Processes to kill, one after the other
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// Of the random choices [default: another each time; printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Apps that ask at the same time
    #[arg(long, default_value_t = 8)]
    apps: usize,
    /// Proxies that there are
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    proxies: u8,
    /// Kill one of two proxies at a time, and count what apps lose by it
    #[arg(long)]
    failover: bool,
}

impl Args {
    /// What CI runs.
    pub(crate) const fn smoke() -> Self {
        Self { kills: 20, seed: None, apps: 8, proxies: 1, failover: false }
    }

    /// The same of failover.
    pub(crate) const fn failover_smoke() -> Self {
        Self { kills: 4, seed: None, apps: 16, proxies: 2, failover: true }
    }
}

/// Builds what it needs with the profile of the tests, and runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    run_command(&mut cargo(&["build", "--locked", "-p", "cocoon", "-p", "cocoon-sim"]))?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => {
            #[expect(clippy::disallowed_methods, reason = "another storm each time")]
            let now = SystemTime::now();
            now.duration_since(UNIX_EPOCH)?.as_secs()
        }
    };
    let folder = target().join("storm").join(seed.to_string());
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let binary = |name| target().join("debug").join(name);
    let (cocoon, place) = (binary("cocoon"), folder.display().to_string());
    let cocoon = cocoon.to_str().context("the checkout's path is not text")?;
    let [kills, seed, apps] = [args.kills.to_string(), seed.to_string(), args.apps.to_string()];
    let (what, proxies) = (if args.failover { "failover" } else { "storm" }, args.proxies.to_string());
    print(&format!("{what} with seed {seed}"));
    let arguments = [
        [what, "--cocoon", cocoon, "--folder", &place, "--kills", &kills].as_slice(),
        &["--seed", &seed, "--apps", &apps, "--proxies", &proxies],
    ]
    .concat();
    let report: serde_json::Value = serde_json::from_str(&output(&mut command(binary("cocoon-sim"), &arguments))?)?;
    print(&serde_json::to_string_pretty(&report)?);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
