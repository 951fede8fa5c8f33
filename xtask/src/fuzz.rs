//! `cargo xtask fuzz`: every target of `fuzz/`, for a stated time each.
//!
//! The fuzzer needs unstable compiler flags; `RUSTC_BOOTSTRAP` lets the stable toolchain take them,
//! for this build only.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::shell::{self, command, root};
use crate::tools;

/// How long and what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Minutes for each target
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
}

impl Args {
    /// What CI runs: 20 seconds a target.
    pub(crate) fn smoke() -> Self {
        Self { minutes: 20.0 / 60.0, target: None }
    }
}

/// Runs the targets one after the other; the first crash ends it and names the input.
pub(crate) fn run(args: &Args) -> Result<()> {
    let cargo_fuzz = tools::cargo_tool("fuzz")?;
    let targets = match &args.target {
        Some(target) => vec![target.clone()],
        None => targets()?,
    };
    for target in targets {
        let seconds = format!("-max_total_time={:.0}", args.minutes * 60.0);
        let found = root().join("fuzz/corpus").join(&target);
        std::fs::create_dir_all(&found)?;
        // Only the first corpus is written to.
        let corpora = std::iter::once(found).chain(vectors_of(&target));
        // An input that takes more than a second or half a GiB has found a bug.
        shell::run(
            command(&cargo_fuzz, &["fuzz", "run", &target])
                .args(corpora)
                .args(["--", &seconds, "-timeout=1", "-rss_limit_mb=512"])
                .env("RUSTC_BOOTSTRAP", "1"),
        )?;
    }
    Ok(())
}

/// Recorded evidence that a target begins from, where there is any.
fn vectors_of(target: &str) -> Option<PathBuf> {
    let folder = match target {
        "quote" => "tdx",
        "snp_report" => "snp",
        "ccel" => "eventlog",
        _ => return None,
    };
    Some(tools::vectors().join(folder)).filter(|folder| folder.is_dir())
}

fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("no fuzz targets in {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    ensure!(!names.is_empty(), "no fuzz targets in {}", folder.display());
    names.sort();
    Ok(names)
}
