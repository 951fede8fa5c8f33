//! `cargo xtask ci`: what CI runs, in the order that finds a mistake soonest.
//!
//! Clippy, tests and SDK tests all use the dev profile, so that nothing is compiled twice for its own sake.

use anyhow::{Result, ensure};

use crate::shell::{self, Steps, cargo, command};
use crate::{codegen, contracts, fuzz, storm, test, tidy, tools};

/// Runs every step; the first failure ends it. The times are shown either way.
pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    let result = all(&mut steps);
    steps.show();
    result
}

fn all(steps: &mut Steps) -> Result<()> {
    steps.step("host", || {
        tools::check_host()?;
        let vectors = tools::vectors();
        ensure!(vectors.join("wire").is_dir(), "no recorded vectors at {}: set COCOON_VECTORS", vectors.display());
        Ok(())
    })?;
    steps.step("format", || shell::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    steps.step("tidy", tidy::run)?;
    steps.step("codegen", || codegen::run(true))?;
    steps.step("contracts", || contracts::run(&contracts::Args::check()))?;
    steps.step("licences and bans", || {
        let deny = tools::cargo_tool("deny")?;
        shell::run(&mut command(deny, &["--all-features", "check", "bans", "licenses", "sources"]))
    })?;
    steps.step("clippy", || {
        shell::run(&mut cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    steps.step("single-role builds", single_roles)?;
    steps.step("docs", || {
        let arguments = ["doc", "--locked", "--workspace", "--no-deps"];
        shell::run(cargo(&arguments).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    test::steps(&test::Args::default(), steps)?;
    steps.step("storm", || storm::run(&storm::Args::smoke()))?;
    steps.step("failover", || storm::run(&storm::Args::failover_smoke()))?;
    steps.step("fuzz smoke", || fuzz::run(&fuzz::Args::smoke()))
}

/// What no measured image may hold.
const DEVELOPMENT_ONLY: [(&str, &str); 2] =
    [("cocoon-simtee", "issues simulated evidence"), ("tycho-executor", "runs a chain of its own: the devnet")];

/// What the measured images build: one role, and nothing of development.
fn single_roles() -> Result<()> {
    for role in ["client", "proxy", "worker"] {
        let features = ["--locked", "-p", "cocoon", "--no-default-features", "--features", role];
        shell::run(cargo(&["check"]).args(features))?;
        let tree = shell::output(cargo(&["tree", "-e", "normal", "--prefix", "none"]).args(features))?;
        for (name, why) in DEVELOPMENT_ONLY {
            ensure!(!tree.contains(name), "the {role} alone links {name}, which {why}");
        }
    }
    Ok(())
}
